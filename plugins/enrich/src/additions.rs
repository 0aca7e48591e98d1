//! What is added to a record. Invariant: names are as many as values, each value is JSON.

/// Names and their values as JSON, in order.
#[derive(Debug, Default)]
pub struct Additions<'n> {
    names: Vec<(&'n str, usize)>,
    json: Vec<u8>,
}

impl<'n> Additions<'n> {
    /// Adds a value.
    pub fn add(&mut self, name: &'n str, json: &[u8]) {
        self.json.extend_from_slice(json);
        self.names.push((name, self.json.len()));
    }

    /// Adds a value if `write` says that it has written one; gives back what it said.
    pub fn add_with(&mut self, name: &'n str, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let written = write(&mut self.json);
        if written {
            self.names.push((name, self.json.len()));
        }
        written
    }

    /// The names in order.
    pub fn names(&self) -> impl Iterator<Item = &'n str> {
        self.names.iter().map(|(name, _)| *name)
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'n str, &[u8])> {
        let starts = std::iter::once(0).chain(self.names.iter().map(|(_, end)| *end));
        self.names.iter().zip(starts).map(|((name, end), start)| (*name, &self.json[start..*end]))
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(other, _)| *other == name).map(|(_, json)| json)
    }
}
