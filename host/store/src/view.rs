//! Reading the state as of the last applied epoch.

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTableMetadata};
use wasmill_core::store::{Cold, Error, Index, Pairs};

use super::{DUE, STATE, State, due_key};

/// A snapshot of the tables.
pub(super) struct View {
    state: ReadOnlyTable<&'static [u8], &'static [u8]>,
    due: ReadOnlyTable<&'static [u8], ()>,
    empty: bool,
}

impl View {
    pub(super) fn of(db: &Database) -> Result<Self, String> {
        let read = db.begin_read().map_err(|e| e.to_string())?;
        let state = read.open_table(STATE).map_err(|e| e.to_string())?;
        let due = read.open_table(DUE).map_err(|e| e.to_string())?;
        let empty = state.is_empty().map_err(|e| e.to_string())?;
        Ok(Self { state, due, empty })
    }
}

fn failed(e: redb::StorageError) -> Error {
    Error(e.to_string())
}

impl Cold for State {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let found = self.view().state.get(key).map_err(failed)?;
        Ok(found.map(|guard| guard.value().to_vec()))
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        limit: usize,
        descending: bool,
    ) -> Result<Pairs, Error> {
        if start >= end {
            return Ok(Vec::new());
        }
        let view = self.view();
        let mut range = view.state.range(start..end).map_err(failed)?;
        let mut found = Vec::new();
        while found.len() < limit {
            let next = if descending { range.next_back() } else { range.next() };
            let Some(entry) = next else { break };
            let (key, value) = entry.map_err(failed)?;
            found.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(found)
    }

    fn due(
        &self,
        index: Index,
        stage: u16,
        after: Option<&(i64, Vec<u8>)>,
        until: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        let start = match after {
            None => due_key(stage, index, i64::MIN, b""),
            // The least key after this one; an empty key stands for the place before all keys.
            Some((time, key)) if key.is_empty() => due_key(stage, index, *time, b""),
            Some((time, key)) => {
                let mut start = due_key(stage, index, *time, key);
                start.push(0);
                start
            }
        };
        let end = due_key(stage, index, until.saturating_add(1), b"");
        let view = self.view();
        if start >= end {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in view.due.range(start.as_slice()..end.as_slice()).map_err(failed)?.take(limit) {
            let (key, ()) = entry.map(|(k, _)| (k, ())).map_err(failed)?;
            let key = key.value();
            let (time, key) = key[3..].split_at(8);
            let time = u64::from_be_bytes(time.try_into().expect("split at 8"));
            found.push(((time ^ (1 << 63)) as i64, key.to_vec()));
        }
        Ok(found)
    }

    fn is_empty(&self) -> bool {
        self.view().empty
    }
}
