//! The figures of a run, which its workers keep up to date.
//!
//! Invariant: a task is listed as long as the handle that its worker has lives, and never under a
//! handle that is older than the latest.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::status::{self, Status};
use crate::engine::report::Progress;

/// The figures of a run.
#[derive(Debug)]
pub struct Figures {
    started: Instant,
    run: Mutex<Run>,
    numbers: AtomicU64,
    /// Each with the number of its handle.
    tasks: Mutex<BTreeMap<String, (u64, status::Task)>>,
    assignments: Mutex<BTreeMap<String, u64>>,
    workers: Mutex<BTreeMap<String, status::Worker>>,
    restores: Mutex<BTreeMap<u64, status::Restore>>,
    /// Each with the number of its handle.
    standbys: Mutex<BTreeMap<String, (u64, status::Standby)>>,
}

/// What runs.
#[derive(Debug, Default)]
struct Run {
    pipeline: String,
    group: Option<String>,
    progress: Arc<Progress>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            run: Mutex::default(),
            numbers: AtomicU64::new(0),
            tasks: Mutex::default(),
            assignments: Mutex::default(),
            workers: Mutex::default(),
            restores: Mutex::default(),
            standbys: Mutex::default(),
        }
    }
}

impl Figures {
    /// Says what runs; `progress` counts what is read.
    pub fn begin(&self, pipeline: &str, group: Option<&str>, progress: Arc<Progress>) {
        let (pipeline, group) = (pipeline.to_owned(), group.map(str::to_owned));
        *lock(&self.run) = Run { pipeline, group, progress };
    }

    /// Lists a task until the result is dropped.
    #[must_use = "the task is listed as long as this lives"]
    pub fn task(self: &Arc<Self>, name: &str, task: status::Task) -> Task {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        lock(&self.tasks).insert(name.to_owned(), (number, task));
        Task { figures: self.clone(), name: name.to_owned(), number }
    }

    /// Counts that a task was assigned to a worker of this process.
    pub fn assigned(&self, task: String) {
        *lock(&self.assignments).entry(task).or_default() += 1;
    }

    /// Lists a worker, for good.
    pub fn worker(self: &Arc<Self>, name: String) -> Worker {
        lock(&self.workers).insert(name.clone(), status::Worker::default());
        Worker { figures: self.clone(), name }
    }

    /// Lists a restore until the result is dropped.
    #[must_use = "the restore is listed as long as this lives"]
    pub fn restore(self: &Arc<Self>, restore: status::Restore) -> Restore {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        lock(&self.restores).insert(number, restore);
        Restore { figures: self.clone(), number }
    }

    /// Lists the copy of a task's state until the result is dropped.
    #[must_use = "the copy is listed as long as this lives"]
    pub fn standby(self: &Arc<Self>, task: &str, standby: status::Standby) -> Standby {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        lock(&self.standbys).insert(task.to_owned(), (number, standby));
        Standby { figures: self.clone(), task: task.to_owned(), number }
    }

    /// A copy of everything, as it is now.
    pub fn status(&self) -> Status {
        let (pipeline, group, records, bytes) = {
            let run = lock(&self.run);
            let records = run.progress.records.load(Ordering::Relaxed);
            let bytes = run.progress.bytes.load(Ordering::Relaxed);
            (run.pipeline.clone(), run.group.clone(), records, bytes)
        };
        let tasks = lock(&self.tasks);
        let tasks = tasks.iter().map(|(name, (_, task))| (name.clone(), task.clone())).collect();
        // One of which everything is there already is none.
        let restores = lock(&self.restores);
        let standbys = lock(&self.standbys);
        Status {
            pipeline,
            group,
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            records,
            bytes,
            tasks,
            assignments: lock(&self.assignments).clone(),
            workers: lock(&self.workers).clone(),
            restores: restores.values().filter(|r| r.end > r.from).cloned().collect(),
            standbys: standbys.iter().map(|(task, (_, of))| (task.clone(), of.clone())).collect(),
        }
    }
}

/// What a worker tells of one of its tasks. Dropping it takes the task off the list.
#[derive(Debug)]
pub struct Task {
    figures: Arc<Figures>,
    name: String,
    number: u64,
}

impl Task {
    /// Changes what is told.
    pub fn update(&self, change: impl FnOnce(&mut status::Task)) {
        // Another worker may have the task by now.
        if let Some((number, task)) = lock(&self.figures.tasks).get_mut(&self.name)
            && *number == self.number
        {
            change(task);
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let mut tasks = lock(&self.figures.tasks);
        if tasks.get(&self.name).is_some_and(|(number, _)| *number == self.number) {
            tasks.remove(&self.name);
        }
    }
}

/// What a worker tells of itself.
#[derive(Debug)]
pub struct Worker {
    figures: Arc<Figures>,
    name: String,
}

impl Worker {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts a commit that took so long.
    pub fn committed(&self, took: Duration) {
        self.update(|worker| worker.commits.observe(took));
    }

    /// Counts that what was not committed was dropped, to be done again.
    pub fn rolled_back(&self) {
        self.update(|worker| worker.rollbacks += 1);
    }

    /// Changes what is told.
    pub fn update(&self, change: impl FnOnce(&mut status::Worker)) {
        change(lock(&self.figures.workers).entry(self.name.clone()).or_default());
    }
}

/// What is told of a restore. Dropping it takes the restore off the list.
#[derive(Debug)]
pub struct Restore {
    figures: Arc<Figures>,
    number: u64,
}

impl Restore {
    /// It has come so far.
    pub fn at(&self, position: i64) {
        if let Some(restore) = lock(&self.figures.restores).get_mut(&self.number) {
            restore.position = position;
        }
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        lock(&self.figures.restores).remove(&self.number);
    }
}

/// What is told of the copy of a task's state. Dropping it takes the copy off the list.
#[derive(Debug)]
pub struct Standby {
    figures: Arc<Figures>,
    task: String,
    number: u64,
}

impl Standby {
    /// It has come so far.
    pub fn at(&self, position: i64, lag: Option<u64>) {
        // Another copy of the task may have begun by now.
        if let Some((number, standby)) = lock(&self.figures.standbys).get_mut(&self.task)
            && *number == self.number
        {
            (standby.position, standby.lag) = (position, lag);
        }
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        let mut standbys = lock(&self.figures.standbys);
        if standbys.get(&self.task).is_some_and(|(number, _)| *number == self.number) {
            standbys.remove(&self.task);
        }
    }
}

/// Figures of a thread that has panicked are still figures.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(worker: &str) -> status::Task {
        status::Task { worker: worker.to_owned(), ..status::Task::default() }
    }

    #[test]
    fn a_task_that_another_worker_has_by_now_is_not_taken_off_the_list_by_the_one_before() {
        let figures = Arc::new(Figures::default());
        let before = figures.task("1-0", of("0"));
        let after = figures.task("1-0", of("1"));
        before.update(|task| task.state_bytes = 7);
        drop(before);
        after.update(|task| task.partition = 3);
        let task = figures.status().tasks["1-0"].clone();
        assert_eq!((task.worker.as_str(), task.partition, task.state_bytes), ("1", 3, 0));
        drop(after);
        assert!(figures.status().tasks.is_empty());
    }

    #[test]
    fn two_restores_of_one_changelog_are_told_apart() {
        let figures = Arc::new(Figures::default());
        let restore = || status::Restore { topic: "c".into(), end: 100, ..Default::default() };
        let (first, second) = (figures.restore(restore()), figures.restore(restore()));
        second.at(25);
        drop(first);
        let left = figures.status().restores;
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].ratio(), 0.25);
        drop(second);
        assert!(figures.status().restores.is_empty());
    }

    #[test]
    fn a_copy_is_listed_with_where_it_stands_until_it_is_given_up() {
        let figures = Arc::new(Figures::default());
        let copy = |position| status::Standby { topic: "c".into(), position, ..Default::default() };
        let before = figures.standby("1-0", copy(4));
        let after = figures.standby("1-0", copy(5));
        before.at(90, Some(1));
        drop(before);
        assert_eq!(figures.status().standbys["1-0"], copy(5));
        after.at(6, Some(7));
        let now = figures.status().standbys["1-0"].clone();
        assert_eq!((now.position, now.lag), (6, Some(7)));
        drop(after);
        assert!(figures.status().standbys.is_empty());
    }

    #[test]
    fn a_status_is_read_back_as_it_was_written_and_more_fields_do_no_harm() {
        let figures = Arc::new(Figures::default());
        figures.begin("weblog", Some("g"), Arc::default());
        let _task = figures.task("1-0", of("0"));
        figures.worker("0".into()).committed(Duration::from_millis(3));
        let mut json = serde_json::to_value(figures.status()).unwrap();
        json["news"] = "of a later version".into();
        json.as_object_mut().unwrap().remove("standbys").expect("an earlier version has none");
        let read: Status = serde_json::from_value(json).unwrap();
        assert_eq!(read.workers, figures.status().workers);
        assert_eq!(read.tasks, figures.status().tasks);
    }
}
