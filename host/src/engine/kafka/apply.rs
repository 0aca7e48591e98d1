//! Applying committed changes to the state files, behind the stream.
//!
//! Invariant: a state file never holds a change that its changelog does not hold, and says in the
//! same transaction which record of the changelog to go on with.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::engine::Error;
use crate::store::State;

/// How long changes wait at most before they are applied.
const INTERVAL: Duration = Duration::from_secs(10);
/// How many bytes of changes wait at most, about.
const GROUP_BYTES: usize = 64 << 20;

/// The state file of an open task. Dropping the last one closes it.
pub(super) struct StateFile {
    pub(super) state: State,
    /// The last epoch that is applied.
    applied: AtomicU64,
    /// Held while the file is open.
    _token: Arc<()>,
}

impl StateFile {
    pub(super) fn new(state: State, token: Arc<()>) -> Self {
        Self { state, applied: AtomicU64::new(0), _token: token }
    }

    /// The last epoch that is applied.
    pub(super) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }
}

/// What a commit has changed in a task.
pub(super) struct Job {
    pub(super) task: String,
    /// A task that was closed meanwhile needs nothing applied: its changelog has it.
    pub(super) file: Weak<StateFile>,
    pub(super) packs: Vec<Vec<u8>>,
    /// The record of the changelog to go on with after them.
    pub(super) offset: i64,
    pub(super) epoch: u64,
    /// Whether the task waits for it.
    pub(super) urgent: bool,
}

/// What the thread that applies is told.
pub(super) enum Message {
    /// A commit.
    Commit(Job),
    /// Everything is to be applied that was committed; the other end waits until this is dropped.
    Finish(Sender<()>),
}

/// Starts the thread that applies; it ends when all senders are gone. An error ends it too, and is
/// told to `failed`.
pub(super) fn start(
    failed: impl Fn(Error) + Send + 'static,
) -> std::io::Result<(Sender<Message>, std::thread::JoinHandle<()>)> {
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().name("wasmill-state".into()).spawn(move || {
        if let Err(error) = follow(&receiver) {
            failed(error);
        }
    })?;
    Ok((sender, thread))
}

#[derive(Default)]
struct Waiting {
    jobs: BTreeMap<String, Vec<Job>>,
    bytes: usize,
    urgent: bool,
    since: Option<Instant>,
    /// Who waits for all of it.
    told: Vec<Sender<()>>,
}

impl Waiting {
    fn take(&mut self, message: Message) {
        match message {
            Message::Commit(job) => self.add(job),
            Message::Finish(done) => {
                self.urgent = true;
                self.told.push(done);
            }
        }
    }

    fn add(&mut self, job: Job) {
        self.bytes += job.packs.iter().map(Vec::len).sum::<usize>();
        self.urgent |= job.urgent;
        self.since.get_or_insert_with(Instant::now);
        self.jobs.entry(job.task.clone()).or_default().push(job);
    }

    fn is_due(&self) -> bool {
        let old = self.since.is_some_and(|since| since.elapsed() >= INTERVAL);
        self.urgent || self.bytes >= GROUP_BYTES || old
    }
}

fn follow(messages: &Receiver<Message>) -> Result<(), Error> {
    let mut waiting = Waiting::default();
    loop {
        match messages.recv_timeout(Duration::from_millis(200)) {
            Ok(message) => waiting.take(message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        while let Ok(message) = messages.try_recv() {
            waiting.take(message);
        }
        if waiting.is_due() {
            let due = std::mem::take(&mut waiting);
            for jobs in due.jobs.into_values() {
                apply(&jobs)?;
            }
            drop(due.told);
        }
    }
}

/// Applies what commits have changed in one task, in one transaction.
fn apply(jobs: &[Job]) -> Result<(), Error> {
    let Some(last) = jobs.last() else { return Ok(()) };
    let Some(file) = last.file.upgrade() else { return Ok(()) };
    // Those of a task that was closed and opened again meanwhile: the file has read them itself.
    let own = jobs.iter().filter(|job| job.file.ptr_eq(&last.file));
    let packs = own.flat_map(|job| &job.packs).map(Vec::as_slice);
    file.state.apply(packs, last.offset.unsigned_abs())?;
    file.applied.store(last.epoch, Ordering::Release);
    Ok(())
}
