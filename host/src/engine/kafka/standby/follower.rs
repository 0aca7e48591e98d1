//! One copy of a task's state that follows its changelog. Invariant: its file holds whole commits
//! only, and says in the same transaction which record of the changelog to go on with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmill_kafka::{Batch, Fetcher, Limit, Partition};

use crate::admin::{figures, status};
use crate::engine::Error;
use crate::engine::kafka::changelog::{Kind, NoChangelog, Packs, Reader, foreign};
use crate::engine::kafka::setup::Setup;
use crate::engine::kafka::state_file;
use crate::store::State;

/// How long commits wait at most before they are applied.
const INTERVAL: Duration = Duration::from_secs(10);
/// How many records of the changelog a copy that has caught up is behind at most: the last is never
/// long reached while its owner commits.
const NEAR: u64 = 100;
/// How much is read at once.
const LIMIT: Limit = Limit { records: 10_000, bytes: 4 << 20 };

/// A task of a keyed sub-topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Task {
    pub(super) sub: usize,
    pub(super) partition: u32,
}

impl Task {
    /// Its name, as its state file has it.
    pub(super) fn name(self, setup: &Setup<'_>) -> String {
        format!("{}-{}", setup.topology.subs[self.sub].id, self.partition)
    }
}

/// A copy that follows.
pub(super) struct Follower {
    pub(super) name: String,
    changelog: String,
    reading: Partition,
    state: State,
    batch: Batch,
    pending: Pending,
    /// What the file has applied.
    applied: i64,
    caught_up: bool,
    shown: figures::Standby,
    /// Held while the file is open.
    _token: Arc<()>,
}

/// What came of a look at the changelog.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It goes on.
    Follows,
    /// What is to be read next was dropped before: it must begin anew at this offset.
    Anew(i64),
}

impl Follower {
    /// Opens the file of a task and goes on where it stands, or with an empty one at `anew`. None
    /// when somebody else in this process has the file.
    pub(super) fn begin(
        setup: &Setup<'_>,
        fetcher: &Fetcher,
        task: Task,
        anew: Option<i64>,
    ) -> Result<Option<Self>, Error> {
        let name = task.name(setup);
        let Some(token) = setup.open_files.try_take(&name) else { return Ok(None) };
        let path = setup.data_dir.join(format!("state/{name}.redb"));
        if anew.is_some() {
            state_file::remove(&path)?;
        }
        let (state, applied) = state_file::open(&path, setup.budget / 8)?;
        let from = anew.unwrap_or(applied);
        let changelog = setup.changelog(task.sub);
        let reading = fetcher.assign(&changelog, task.partition, from)?;
        tracing::info!(task = name, changelog, from, "a standby follows");
        let (batch, pending) = (Batch::new(false), Pending::default());
        let caught_up = false;
        let (topic, partition) = (changelog.clone(), task.partition);
        let standby = status::Standby { topic, partition, position: from, lag: None };
        let shown = setup.figures.standby(&name, standby);
        let follower = Self {
            name,
            changelog,
            reading,
            state,
            batch,
            pending,
            applied,
            caught_up,
            shown,
            _token: token,
        };
        Ok(Some(follower))
    }

    /// Takes what is there, and applies it when it waits for long or has more than so many bytes.
    pub(super) fn step(&mut self, most_bytes: usize) -> Result<Step, Error> {
        self.batch.clear();
        match self.reading.read(&mut self.batch, LIMIT) {
            Ok(_) => {}
            Err(wasmill_kafka::Error::OffsetGone { range: Some((start, _)), .. }) => {
                return Ok(Step::Anew(start));
            }
            Err(error) if error.is_retriable() => {
                tracing::debug!(task = self.name, %error, "a standby waits");
            }
            Err(error) => return Err(error.into()),
        }
        let Batch { offsets, keys, values, .. } = &self.batch;
        for (i, offset) in offsets.iter().enumerate() {
            self.pending.take(*offset, keys.get(i), values.get(i)).map_err(|NoChangelog| {
                foreign(&self.changelog, self.reading.partition(), *offset)
            })?;
        }
        if self.pending.is_due(most_bytes) {
            self.apply()?;
        }
        self.shown.at(self.reading.position(), self.reading.lag());
        if !self.caught_up && self.reading.lag().is_some_and(|lag| lag <= NEAR) {
            self.caught_up = true;
            let offset = self.reading.position();
            tracing::info!(task = self.name, offset, "a standby has caught up");
        }
        Ok(Step::Follows)
    }

    /// Applies what it has, and closes the file.
    pub(super) fn let_go(mut self) -> Result<(), Error> {
        self.apply()?;
        tracing::info!(task = self.name, applied = self.applied, "a standby lets go");
        Ok(())
    }

    fn apply(&mut self) -> Result<(), Error> {
        let Some((packs, offset)) = self.pending.commits() else { return Ok(()) };
        // The record that it went on with comes again.
        if offset > self.applied {
            self.state.apply(packs.iter().map(Vec::as_slice), offset.unsigned_abs())?;
            self.applied = offset;
        }
        Ok(())
    }
}

/// What was read and is not applied.
#[derive(Debug, Default)]
struct Pending {
    reader: Reader,
    packs: Packs,
    /// The record that ends the last whole commit.
    last: Option<i64>,
    /// Since when the first whole commit waits.
    since: Option<Instant>,
}

impl Pending {
    fn take(
        &mut self,
        offset: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<(), NoChangelog> {
        let Some(read) = self.reader.take(key, value)? else { return Ok(()) };
        self.packs.take(&read);
        if read.kind != Kind::Pack {
            // A commit ends here.
            self.last = Some(offset);
            self.since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn is_due(&self, most_bytes: usize) -> bool {
        let old = self.since.is_some_and(|since| since.elapsed() >= INTERVAL);
        self.last.is_some() && (old || self.packs.bytes() >= most_bytes)
    }

    /// Takes out the whole commits: their changes, and the record that ends the last.
    fn commits(&mut self) -> Option<(Vec<Vec<u8>>, i64)> {
        let last = self.last.take()?;
        self.since = None;
        Some((self.packs.whole(), last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACK: &[u8] = b"pack";
    const TASK: &[u8] = b"task";

    fn pending(records: &[(i64, &[u8], &[u8])]) -> Pending {
        let mut pending = Pending::default();
        for (offset, key, value) in records {
            pending.take(*offset, Some(key), Some(value)).unwrap();
        }
        pending
    }

    #[test]
    fn only_whole_commits_are_applied() {
        let mut pending = pending(&[(4, PACK, b"a"), (5, PACK, b"bb"), (6, TASK, b"{}")]);
        pending.take(8, Some(PACK), Some(b"ccc")).unwrap();
        assert_eq!(pending.commits(), Some((vec![b"a".to_vec(), b"bb".to_vec()], 6)));
        assert_eq!(pending.packs.bytes(), 3);
        assert_eq!(pending.commits(), None);
        pending.take(9, Some(TASK), Some(b"{}")).unwrap();
        assert_eq!(pending.commits(), Some((vec![b"ccc".to_vec()], 9)));
    }

    #[test]
    fn a_commit_without_changes_moves_the_offset() {
        assert_eq!(pending(&[(3, TASK, b"{}"), (5, TASK, b"{}")]).commits(), Some((vec![], 5)));
    }

    #[test]
    fn a_commit_is_not_due_before_its_end_however_large() {
        let mut pending = pending(&[(4, PACK, b"aaaa")]);
        assert!(!pending.is_due(2));
        pending.take(5, Some(TASK), Some(b"{}")).unwrap();
        assert!(pending.is_due(2) && !pending.is_due(100));
    }

    #[test]
    fn what_a_former_owner_writes_late_is_no_commit() {
        let mut pending = pending(&[(4, b"pack@9", b"new"), (5, b"task@9", b"{}")]);
        pending.take(6, Some(b"pack@5"), Some(b"old")).unwrap();
        pending.take(7, Some(b"task@5"), Some(b"{}")).unwrap();
        assert_eq!(pending.commits(), Some((vec![b"new".to_vec()], 5)));
        assert_eq!(pending.commits(), None);
    }
}
