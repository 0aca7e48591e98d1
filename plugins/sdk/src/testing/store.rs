//! The state store of a harness: what its checkpoints have written, in memory.
//!
//! Invariant: it shows what the last checkpoint left, in the orders that the engine's store keeps.

use std::collections::BTreeMap;
use std::sync::{RwLock, RwLockReadGuard};

use wasmill_abi::TimeDomain;
use wasmill_core::change::Changes;
use wasmill_core::row::{self, Name, Row, UNDATED};
use wasmill_core::store::{Cold, Error, Index, Pairs};

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// A store in memory.
#[derive(Debug, Default)]
pub(super) struct Memory(RwLock<Entries>);

impl Memory {
    pub(super) fn entries(&self) -> RwLockReadGuard<'_, Entries> {
        self.0.read().expect("nothing panics while it holds the lock")
    }

    pub(super) fn apply(&self, changes: &Changes) {
        let mut entries = self.0.write().expect("nothing panics while it holds the lock");
        for (key, value) in changes.iter() {
            match value {
                Some(value) => entries.insert(key.to_vec(), value.to_vec()),
                None => entries.remove(key),
            };
        }
    }

    /// The row of a key.
    pub(super) fn row(&self, key: &[u8]) -> Option<Row> {
        let mut name = Vec::new();
        row::row_key(0, key, &mut name);
        self.entries().get(&name).map(|bytes| read(bytes))
    }
}

/// Reads a row that a checkpoint wrote.
pub(super) fn read(bytes: &[u8]) -> Row {
    Row::decode(bytes).expect("what the engine wrote it can read")
}

fn place(row: &Row, index: Index) -> i64 {
    match index {
        Index::EventTime => row.next(TimeDomain::EventTime),
        Index::ProcessingTime => row.next(TimeDomain::ProcessingTime),
        Index::Touched if row.touched == UNDATED => i64::MAX,
        Index::Touched => row.touched,
    }
}

impl Cold for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.entries().get(key).cloned())
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
        let entries = self.entries();
        let range = entries.range(start.to_vec()..end.to_vec());
        let own = |(k, v): (&Vec<u8>, &Vec<u8>)| (k.clone(), v.clone());
        Ok(match descending {
            false => range.take(limit).map(own).collect(),
            true => range.rev().take(limit).map(own).collect(),
        })
    }

    fn due(
        &self,
        index: Index,
        stage: u16,
        after: Option<&(i64, Vec<u8>)>,
        until: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        let mut due = Vec::new();
        for (name, bytes) in self.entries().iter() {
            let Name::Row { stage: of, key } = row::name(name)? else { continue };
            let time = place(&Row::decode(bytes)?, index);
            // An empty key stands for the place before all keys.
            let passed = after.is_some_and(|(t, k)| {
                (time, key) < (*t, k) || (!k.is_empty() && (time, key) == (*t, k))
            });
            if of == stage && time <= until && time != i64::MAX && !passed {
                due.push((time, key.to_vec()));
            }
        }
        due.sort();
        due.truncate(limit);
        Ok(due)
    }

    fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }
}
