//! Keeping changelogs short: state that does not change is written again, bit by bit along with the
//! commits, until nothing before the beginning of that walk is needed any more.
//!
//! Invariant: a changelog from any start that it was ever given holds the whole state.

use std::sync::OnceLock;

use wasmill_core::change::Changes;
use wasmill_core::store::{self, Cold};
use wasmill_core::task::Task;

use super::apply::StateFile;
use crate::engine::Error;
use crate::engine::feed::Feed;
use crate::engine::task::{Outlet, Run};

/// How long a changelog gets at least before its beginning is dropped, in bytes.
const LEAST_LOG_BYTES: u64 = 64 << 20;
/// How many times as long as the state file it gets.
const TIMES_STATE: u64 = 2;
/// How many bytes are written again in a commit at least.
const LEAST_SLICE_BYTES: usize = 256 << 10;

/// What a test sets to how long a changelog gets, in bytes, whatever the state has.
const MOST_LOG_BYTES: &str = "WASMILL_CHANGELOG_BYTES";

/// How long the changelog of a task has become, and the walk that goes on.
pub(super) struct Trim {
    /// How long the changelog gets, where a test says so.
    most: Option<u64>,
    /// How many bytes are written again in a commit at least.
    slice: usize,
    /// How many bytes were written since what is needed of the changelog begins; during a walk since
    /// that began, and before it.
    logged: u64,
    before: u64,
    walk: Option<Walk>,
}

impl Default for Trim {
    fn default() -> Self {
        static MOST: OnceLock<Option<u64>> = OnceLock::new();
        let most = *MOST.get_or_init(|| std::env::var(MOST_LOG_BYTES).ok()?.parse().ok());
        Self { most, slice: LEAST_SLICE_BYTES, logged: 0, before: 0, walk: None }
    }
}

/// The store behind a task, as it is by now.
struct Behind<'a> {
    cold: &'a dyn Cold,
    /// The last epoch that it has applied, which the task may not know yet.
    applied: u64,
    bytes: u64,
}

struct Walk {
    /// The record of the changelog before which all goes when the walk has ended; none until the
    /// commit that it began with is done.
    start: Option<i64>,
    /// What the state file must have applied before the walk sets out.
    epoch: u64,
    /// Where it goes on.
    from: Vec<u8>,
    ended: bool,
}

impl Trim {
    /// Of a changelog that has so many bytes already.
    pub(super) fn new(logged: u64) -> Self {
        Self { logged, ..Self::default() }
    }

    /// How many bytes the changelog has, as far as is known. A walk that does not come to its end
    /// is begun again by whoever has the task next.
    pub(super) fn logged(&self) -> u64 {
        self.before + self.logged
    }

    /// Adds what the walk of this epoch writes again to its changes, which were frozen just now.
    pub(super) fn write<F: Feed, O: Outlet>(
        &mut self,
        run: &mut Run<F, O>,
        file: &StateFile,
        epoch: u64,
        changes: &mut Changes,
    ) -> Result<(), Error> {
        let (cold, applied, bytes) = (&file.state, file.applied(), file.state.file_bytes());
        let behind = Behind { cold, applied, bytes };
        self.walk(&mut run.task, &behind, epoch, changes).map_err(|e| run.store_error(e))
    }

    fn walk(
        &mut self,
        task: &mut Task,
        behind: &Behind<'_>,
        epoch: u64,
        changes: &mut Changes,
    ) -> Result<(), store::Error> {
        match &mut self.walk {
            None => {
                let most = LEAST_LOG_BYTES.max(TIMES_STATE * behind.bytes);
                if self.logged >= self.most.unwrap_or(most) {
                    let from = Vec::new();
                    self.walk = Some(Walk { start: None, epoch, from, ended: false });
                }
            }
            Some(walk) if walk.start.is_some() && behind.applied >= walk.epoch && !walk.ended => {
                // What the task takes for unapplied is left out: it must not be from before the walk.
                task.applied(behind.applied);
                let bytes = self.slice.max(2 * changes.bytes());
                match task.rewrite(behind.cold, &walk.from, bytes, changes)? {
                    Some(from) => walk.from = from,
                    None => walk.ended = true,
                }
                changes.sort();
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// A commit with so many bytes of changes is done; its last record has this offset. Returns the
    /// record before which all may go.
    pub(super) fn committed(&mut self, offset: i64, bytes: usize) -> Option<i64> {
        self.logged += bytes as u64;
        let walk = self.walk.as_mut()?;
        if walk.start.is_none() {
            walk.start = Some(offset);
            // What is written from here on stays.
            self.before = std::mem::take(&mut self.logged);
            return None;
        }
        if !walk.ended {
            return None;
        }
        self.before = 0;
        self.walk.take().and_then(|walk| walk.start)
    }
}

#[cfg(test)]
mod tests;
