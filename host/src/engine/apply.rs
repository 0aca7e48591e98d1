//! Applying the changelog to the state files, behind the stream.
//!
//! Invariant: only what a commit holds is applied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use wasmill_core::task::Task;
use wasmill_log::{Frame, Partition, Position};

use super::Error;
use super::worker::{Shared, lock};
use crate::store::State;

/// How long changes wait at most before they are applied, and how many bytes of them in all tasks: the
/// longer, the more rows are changed again or removed before a state file sees them; but a restart
/// has to read them.
const INTERVAL: Duration = Duration::from_secs(60);
const MOST_BYTES: u64 = 1 << 30;
/// How many bytes of changes are in memory at a time for one task while they are applied, and of one
/// commit.
const GROUP_BYTES: usize = 64 << 20;
const RUN_BYTES: usize = 512 << 10;

/// How many state files are written at a time at most: each is bound by the memory it takes.
const MOST_THREADS: usize = 4;

/// The changelog and the state file of a task.
#[derive(Clone)]
pub(super) struct Follower {
    pub(super) task: String,
    pub(super) changelog: Partition,
    pub(super) state: State,
}

impl Follower {
    /// The offset up to which the changelog is applied.
    ///
    /// # Errors
    /// When what comes next is not there any more.
    pub(super) fn applied(&self) -> Result<u64, Error> {
        let from = self.state.applied()?;
        let start = self.changelog.start_offset();
        if from < start {
            return Err(Error::Shape(format!(
                "the state of task {} is at {from} of its changelog, which begins at {start}: its \
                 file in the folder state is missing or too old; restore the data directory from a \
                 copy, or run from the beginning with another --data-dir",
                self.task
            )));
        }
        Ok(from)
    }

    /// Takes what is not applied yet into the memory of the task, where there is room for it; else
    /// applies it. Before the first step of the task. Returns how many bytes it took.
    pub(super) fn replay(&self, task: &mut Task) -> Result<u64, Error> {
        let (from, mut bytes) = (self.applied()?, 0);
        if from == self.changelog.end_offset() {
            return Ok(bytes);
        }
        let mut reader = self.changelog.reader(self.changelog.position_of(from)?);
        let mut replay = task.replay();
        while let Some((frame, _)) = reader.next()? {
            let packs = frame.records().into_iter().flat_map(|r| r.values.iter().flatten());
            for pack in packs {
                if !matches!(replay.take(pack), Ok(true)) {
                    // Where the pack is damaged, this says so.
                    self.catch_up(self.changelog.end_offset())?;
                    // Only now: whether the file has rows decides what memory takes for all there are.
                    replay.give_up();
                    return Ok(0);
                }
                bytes += pack.len() as u64;
            }
        }
        replay.end();
        Ok(bytes)
    }

    /// Applies the changelog up to an offset, at which a commit ends.
    pub(super) fn catch_up(&self, until: u64) -> Result<(), Error> {
        let mut from = self.applied()?;
        while from < until {
            let (runs, end) = self.group(from, until)?;
            if runs.is_empty() {
                break;
            }
            self.state.apply_runs(runs.into_iter().map(|run| run.packs(&self.changelog)), end)?;
            from = end;
        }
        self.changelog.delete_before(from);
        Ok(())
    }

    /// The runs from an offset on that are applied together, and where they end. The more of them there
    /// are, the more changes of a key become one.
    fn group(&self, from: u64, until: u64) -> Result<(Vec<Run>, u64), Error> {
        let mut reader = self.changelog.reader(self.changelog.position_of(from)?);
        let (mut runs, mut end, mut held) = (Vec::<Run>::new(), from, 0);
        while end < until {
            let Some((frame, _)) = reader.next()? else { break };
            if frame.records().is_none() {
                continue;
            }
            if runs.last().is_none_or(|run| run.epoch != frame.epoch) {
                held += runs.last().map_or(0, |run| run.bytes.min(RUN_BYTES));
                if held >= GROUP_BYTES {
                    break;
                }
                runs.push(Run::begin(frame.epoch, reader.frame_position()));
            }
            end = frame.end_offset();
            runs.last_mut().expect("one has begun").add(frame);
        }
        Ok((runs, end))
    }
}

/// What a task changed in one commit: packs in the order of their keys.
struct Run {
    epoch: u64,
    start: Position,
    /// Behind its last record.
    end: u64,
    bytes: usize,
    /// All of it, as long as it is small.
    frames: Vec<Arc<Frame>>,
}

impl Run {
    fn begin(epoch: u64, start: Position) -> Self {
        Self { epoch, start, end: start.offset, bytes: 0, frames: Vec::new() }
    }

    fn add(&mut self, frame: Arc<Frame>) {
        self.end = frame.end_offset();
        self.bytes += frame.records().map_or(0, |records| records.values.data.len());
        if self.bytes <= RUN_BYTES {
            self.frames.push(frame);
        } else {
            // It is read again, pack by pack.
            self.frames = Vec::new();
        }
    }

    /// Its packs; a large run is read as they are asked for.
    fn packs(self, changelog: &Partition) -> Box<dyn Iterator<Item = Result<Pack, String>>> {
        if self.bytes <= RUN_BYTES {
            return Box::new(self.frames.into_iter().flat_map(packs).map(Ok));
        }
        let mut reader = changelog.reader(self.start);
        let frames = std::iter::from_fn(move || {
            if reader.position().offset >= self.end {
                return None;
            }
            match reader.next() {
                Ok(Some((frame, _))) => Some(Ok(frame)),
                Ok(None) => Some(Err(format!("it has nothing before offset {}", self.end))),
                Err(error) => Some(Err(error.to_string())),
            }
        });
        let of_frame = |frame: Result<Arc<Frame>, String>| match frame {
            Ok(frame) => packs(frame).map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        };
        Box::new(frames.flat_map(of_frame))
    }
}

/// A pack in a frame of the changelog, by its row.
struct Pack(Arc<Frame>, usize);

impl AsRef<[u8]> for Pack {
    fn as_ref(&self) -> &[u8] {
        self.0.records().map_or(&[], |records| records.values.bytes(self.1))
    }
}

fn packs(frame: Arc<Frame>) -> impl Iterator<Item = Pack> {
    let rows = frame.records().map_or(0, wasmill_log::Records::len);
    (0..rows).map(move |row| Pack(frame.clone(), row))
}

/// A commit: its epoch, and where the changelog of each task ended in it.
pub(super) struct Committed {
    pub(super) epoch: u64,
    pub(super) ends: BTreeMap<String, u64>,
    /// How many bytes of changes all changelogs have had by then, see [`Shared::logged`].
    pub(super) logged: u64,
    /// Whether to apply at once.
    pub(super) urgent: bool,
}

/// Starts the thread that applies; it ends when the sender is dropped.
pub(super) fn start(
    followers: Vec<Follower>,
    shared: Arc<Shared>,
) -> (Sender<Committed>, std::thread::JoinHandle<()>) {
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new()
        .name("wasmill-state".into())
        .spawn(move || {
            if let Err(error) = follow(&followers, &receiver, &shared) {
                lock(&shared.error).get_or_insert(error);
                shared.cut.leave();
            }
        })
        .expect("the system has a thread left for the state");
    (sender, thread)
}

fn follow(
    followers: &[Follower],
    commits: &Receiver<Committed>,
    shared: &Shared,
) -> Result<(), Error> {
    let (mut last, mut applied) = (Instant::now(), 0);
    while let Ok(mut commit) = commits.recv() {
        // Only the latest commit counts.
        while let Ok(later) = commits.try_recv() {
            let urgent = commit.urgent | later.urgent;
            commit = Committed { urgent, ..later };
        }
        let few = commit.logged - applied < MOST_BYTES;
        if last.elapsed() < INTERVAL && few && !commit.urgent {
            continue;
        }
        apply_all(followers, &commit, shared)?;
        (last, applied) = (Instant::now(), commit.logged);
    }
    Ok(())
}

/// Applies a commit to the state files of all tasks, a few of them at a time.
fn apply_all(followers: &[Follower], commit: &Committed, shared: &Shared) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let some = || {
        while let Some(follower) = followers.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(until) = commit.ends.get(&follower.task) else { continue };
            follower.catch_up(*until)?;
            lock(&shared.applied).insert(follower.task.clone(), commit.epoch);
            shared.applications.fetch_add(1, Ordering::Release);
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(MOST_THREADS).min(followers.len());
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(some)).collect();
        let own = some();
        let results = others.into_iter().map(|t| {
            t.join().unwrap_or_else(|_| Err(Error::Panic("applying state panicked".into())))
        });
        results.fold(own, |all, one| all.and(one))
    })
}
