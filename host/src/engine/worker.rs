//! A worker thread: works on its tasks in turn, and stands still for every cut.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wasmill_core::change::Changes;
use wasmill_core::metrics;
use wasmill_core::operator::Operator;

use super::cut::Cut;
use super::embedded::LogTask;
use super::task::Saved;
use super::{Error, shown};
use crate::admin::figures;

/// How long a worker sleeps when there is nothing to do.
const NAP: Duration = Duration::from_micros(500);
/// How many pieces of work a task gets before it is the next one's turn.
const TURNS: usize = 8;

/// What workers and the coordinator share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) cut: Cut,
    pub(super) stop: AtomicBool,
    pub(super) error: Mutex<Option<Error>>,
    /// What each task has left at the cut.
    pub(super) saved: Mutex<BTreeMap<String, Saved>>,
    /// Operators that are to be replaced at the next cut, by task and stage.
    pub(super) swaps: Mutex<Vec<(String, usize, Operator)>>,
    /// Epochs that the state files have applied, by task.
    pub(super) applied: Mutex<BTreeMap<String, u64>>,
    /// How many bytes of changes the changelogs have had, of those that the state files had not applied
    /// when the run began, and since.
    pub(super) logged: AtomicU64,
    /// How often the state files have applied something.
    pub(super) applications: AtomicU64,
    /// Pieces of work done, to see whether anything has changed since the last cut.
    pub(super) work: AtomicU64,
    /// Workers whose tasks have all ended.
    pub(super) done: AtomicUsize,
    /// Whether a task is short of memory and wants its state applied.
    pub(super) pressed: AtomicBool,
    /// Counts and watermark of each stage, by worker.
    pub(super) stages: Mutex<BTreeMap<(String, usize), (metrics::Stage, i64)>>,
}

/// Locks a mutex; what a panicking thread left behind is still looked at, to report it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// Tells the coordinator when a worker ends, however it ends.
struct Leave(Arc<Shared>);

impl Drop for Leave {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let panic = Error::Panic("see the message above".into());
            lock(&self.0.error).get_or_insert(panic);
        }
        self.0.cut.leave();
    }
}

/// The life of a worker.
pub(super) fn work(mut tasks: Vec<LogTask>, shown: &[figures::Task], shared: &Arc<Shared>) {
    let _leave = Leave(shared.clone());
    let mut told = Instant::now();
    let mut changes = Changes::default();
    let mut cuts = 0;
    let mut done = false;
    for task in &mut tasks {
        match task.replay() {
            Ok(bytes) => _ = shared.logged.fetch_add(bytes, Ordering::Relaxed),
            Err(error) => return fail(shared, error),
        }
    }
    while !shared.stop.load(Ordering::Relaxed) {
        let mut worked = false;
        take_note(&mut tasks, shared);
        if told.elapsed() >= shown::INTERVAL {
            told = Instant::now();
            tasks.iter().zip(shown).for_each(|(task, shown)| shown::update(&task.run, shown));
        }
        for task in &mut tasks {
            for _ in 0..TURNS {
                match task.run.work(now_ms()) {
                    Ok(true) => worked = true,
                    Ok(false) => break,
                    Err(error) => return fail(shared, error),
                }
                if shared.cut.wanted(cuts) {
                    break;
                }
            }
        }
        if worked {
            shared.work.fetch_add(1, Ordering::Relaxed);
        }
        if !done && tasks.iter().all(|t| t.run.ended) {
            done = true;
            shared.work.fetch_add(1, Ordering::Relaxed);
            shared.done.fetch_add(1, Ordering::Relaxed);
        }
        if shared.cut.wanted(cuts) {
            if let Err(error) = freeze(&mut tasks, &mut changes, shared) {
                return fail(shared, error);
            }
            cuts = shared.cut.arrive();
        } else if !worked {
            std::thread::sleep(NAP);
        }
    }
}

/// Tells tasks what the state files have applied meanwhile, and asks for more where memory is short.
fn take_note(tasks: &mut [LogTask], shared: &Shared) {
    if tasks.iter().any(|t| t.run.task.is_pressed()) {
        shared.pressed.store(true, Ordering::Relaxed);
    }
    let news = shared.applications.load(Ordering::Acquire);
    for task in tasks.iter_mut().filter(|t| t.applications != news) {
        task.applications = news;
        if let Some(epoch) = lock(&shared.applied).get(&task.run.name) {
            task.run.task.applied(*epoch);
        }
    }
}

fn fail(shared: &Shared, error: Error) {
    lock(&shared.error).get_or_insert(error);
}

fn freeze(tasks: &mut [LogTask], changes: &mut Changes, shared: &Shared) -> Result<(), Error> {
    for task in tasks.iter_mut() {
        let (saved, bytes) = task.freeze(changes)?;
        shared.logged.fetch_add(bytes, Ordering::Relaxed);
        let task = &task.run;
        lock(&shared.saved).insert(task.name.clone(), saved);
        let mut stages = lock(&shared.stages);
        for (node, counts) in task.task.metrics().into_iter().enumerate() {
            let watermark = task.task.output_watermark();
            stages.insert((task.name.clone(), task.stages[node]), (counts, watermark));
        }
    }
    let mut swaps = lock(&shared.swaps);
    for task in tasks.iter_mut().map(|t| &mut t.run) {
        let mut i = 0;
        while i < swaps.len() {
            if swaps[i].0 == task.name {
                let (_, stage, operator) = swaps.swap_remove(i);
                task.replace(stage, operator);
            } else {
                i += 1;
            }
        }
    }
    Ok(())
}
