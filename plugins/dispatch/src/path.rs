//! How a field is named. Invariant: a [`Path`] to a field of the JSON has at least one step.

/// A field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// `$key`: the record's key.
    Key,
    /// `$timestamp`: the record's event time.
    Timestamp,
    /// A field of the JSON: names of members, or indexes of elements, from the outside in.
    Json(Vec<String>),
}

impl Path {
    /// Reads `user.tier`, `/user/tier` (RFC 6901), `$key` or `$timestamp`; says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "$key" => return Ok(Self::Key),
            "$timestamp" => return Ok(Self::Timestamp),
            _ => {}
        }
        if text.starts_with('$') {
            return Err(format!(
                "{text:?} is none of $key and $timestamp; for a member of that name write \"/{text}\""
            ));
        }
        if let Some(pointer) = text.strip_prefix('/') {
            let step = |step: &str| step.replace("~1", "/").replace("~0", "~");
            return Ok(Self::Json(pointer.split('/').map(step).collect()));
        }
        let steps: Vec<String> = text.split('.').map(str::to_owned).collect();
        if steps.iter().any(String::is_empty) {
            return Err(format!(
                "{text:?} is no path; write \"user.tier\", or a JSON pointer such as \"/user/tier\""
            ));
        }
        Ok(Self::Json(steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_dotted_or_pointers() {
        let json = |steps: &[&str]| Ok(Path::Json(steps.iter().map(|s| (*s).into()).collect()));
        assert_eq!(Path::parse("user.tier"), json(&["user", "tier"]));
        assert_eq!(Path::parse("items.0"), json(&["items", "0"]));
        assert_eq!(Path::parse("/a.b/~1~01"), json(&["a.b", "/~1"]));
        assert_eq!(Path::parse("/$key"), json(&["$key"]));
        assert_eq!(Path::parse("$key"), Ok(Path::Key));
        for bad in ["", ".", "a..b", "a.", "$keys"] {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
    }
}
