//! What a task asks of the store behind its memory.

use std::sync::Arc;

/// The store can't answer. The task stops: going on could lose state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("state store: {0}")]
pub struct Error(pub String);

impl From<crate::row::Corrupt> for Error {
    fn from(e: crate::row::Corrupt) -> Self {
        Self(e.to_string())
    }
}

/// An index over rows by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Index {
    /// By the earliest event-time timer.
    EventTime = 0,
    /// By the earliest processing-time timer.
    ProcessingTime = 1,
    /// By the time that a record last touched the key.
    Touched = 2,
}

impl Index {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::EventTime, Self::ProcessingTime, Self::Touched];
}

/// State as of the last applied epoch. Keys are those of [`crate::row`].
pub trait Cold: Send + Sync {
    /// The value under a store key.
    ///
    /// # Errors
    /// When the store can't be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// At most `limit` entries of `[start, end)`, from its start, or from its end when `descending`.
    ///
    /// # Errors
    /// When the store can't be read.
    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        limit: usize,
        descending: bool,
    ) -> Result<Pairs, Error>;

    /// At most `limit` keys of a stage in the order of what they are posted under in an index, after
    /// the given posting, and not beyond the time `until`; an empty key stands for the place before
    /// all keys of its time. Every row that is posted there is among them. There may be others:
    /// keys that are gone, and keys that are posted elsewhere.
    ///
    /// # Errors
    /// When the store can't be read.
    fn due(
        &self,
        index: Index,
        stage: u16,
        after: Option<&(i64, Vec<u8>)>,
        until: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Vec<u8>)>, Error>;

    /// Whether nothing is stored at all.
    fn is_empty(&self) -> bool;
}

/// Keys and values.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// A store that never holds anything: for tasks that keep all their state in memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nothing;

impl Nothing {
    /// The store behind a pointer.
    pub fn shared() -> Arc<dyn Cold> {
        Arc::new(Self)
    }
}

impl Cold for Nothing {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(None)
    }

    fn scan(&self, _: &[u8], _: &[u8], _: usize, _: bool) -> Result<Pairs, Error> {
        Ok(Vec::new())
    }

    fn due(
        &self,
        _: Index,
        _: u16,
        _: Option<&(i64, Vec<u8>)>,
        _: i64,
        _: usize,
    ) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        Ok(Vec::new())
    }

    fn is_empty(&self) -> bool {
        true
    }
}
