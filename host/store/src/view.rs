//! Reading the state as of the last applied epoch.

use std::sync::{Arc, PoisonError};

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTableMetadata};
use wasmill_core::store::{Cold, Error, Index, Pairs};

use super::directory::{Bucket, Directory, Name, postings};
use super::list::List;
use super::{BUCKETS, Damage, POSTINGS, STATE, State};

/// A snapshot of the tables.
pub(super) struct View {
    pub(super) state: ReadOnlyTable<&'static [u8], &'static [u8]>,
    pub(super) runs: ReadOnlyTable<(u64, u32), &'static [u8]>,
    pub(super) directory: Directory,
    empty: bool,
}

/// A bucket as it was read: its number and its number of runs say what was in it.
#[derive(Clone)]
pub(super) struct Opened {
    id: u64,
    runs: u32,
    postings: Arc<List>,
}

impl View {
    /// What was committed last; `directory` is the one of that.
    pub(super) fn new(db: &Database, directory: Directory) -> Result<Self, String> {
        let read = db.begin_read().map_err(|e| e.to_string())?;
        let state = read.open_table(STATE).map_err(|e| e.to_string())?;
        let runs = read.open_table(POSTINGS).map_err(|e| e.to_string())?;
        let empty = state.is_empty().map_err(|e| e.to_string())?;
        Ok(Self { state, runs, directory, empty })
    }

    /// What was committed last, of which nothing is known yet.
    pub(super) fn of(db: &Database) -> Result<Self, String> {
        let read = db.begin_read().map_err(|e| e.to_string())?;
        let buckets = read.open_table(BUCKETS).map_err(|e| e.to_string())?;
        Self::new(db, Directory::read(&buckets).map_err(|e| e.to_string())?)
    }
}

impl State {
    /// The postings of a bucket, in order: read, or at hand from before.
    fn open_bucket(&self, name: Name, view: &View, bucket: &Bucket) -> Result<Arc<List>, Damage> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = opened.get(&name)
            && (opened.id, opened.runs) == (bucket.id, bucket.runs)
        {
            return Ok(opened.postings.clone());
        }
        let postings = Arc::new(postings(bucket, &view.runs)?);
        let (id, runs) = (bucket.id, bucket.runs);
        opened.insert(name, Opened { id, runs, postings: postings.clone() });
        Ok(postings)
    }

    fn failed(&self, e: impl Into<Damage>) -> Error {
        Error(self.at(e.into()).to_string())
    }
}

impl Cold for State {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let found = self.view().state.get(key).map_err(|e| self.failed(e))?;
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
        let mut range = view.state.range(start..end).map_err(|e| self.failed(e))?;
        let mut found = Vec::new();
        while found.len() < limit {
            let next = if descending { range.next_back() } else { range.next() };
            let Some(entry) = next else { break };
            let (key, value) = entry.map_err(|e| self.failed(e))?;
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
        let (time, key) = after.map_or((i64::MIN, &[][..]), |(time, key)| (*time, key));
        // An empty key stands for the place before all keys.
        let is_before =
            |t: i64, k: &[u8]| (t, k) < (time, key) || (t, k) == (time, key) && !key.is_empty();
        let view = self.view();
        let buckets = view.directory.of(stage, index);
        let first = buckets.partition_point(|bucket| bucket.starts_by(time, key)).saturating_sub(1);
        let mut found = Vec::new();
        for bucket in &buckets[first..] {
            if found.len() >= limit || bucket.time > until {
                break;
            }
            let postings = self
                .open_bucket((stage, index as u8), &view, bucket)
                .map_err(|e| self.failed(e))?;
            for i in postings.partition_point(is_before)..postings.len() {
                let (time, key) = postings.get(i);
                if found.len() >= limit || time > until {
                    break;
                }
                found.push((time, key.to_vec()));
            }
        }
        Ok(found)
    }

    fn is_empty(&self) -> bool {
        self.view().empty
    }
}
