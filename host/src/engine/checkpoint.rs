//! The coordinator of a run: lets the workers run, cuts through all tasks, and commits the cuts.
//!
//! Invariant: what a commit holds is of one cut: every task stands still while it is taken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use serde_json::json;
use wasmill_log::Log;
use wasmill_pipeline::{SourceKind, Start};

use super::apply::Committed;
use super::open::Opened;
use super::prepare::Prepared;
use super::resources::Watched;
use super::topology::Topology;
use super::worker::{Shared, lock};
use super::{Error, Options};
use crate::admin::figures;
use crate::sink;

/// How often the coordinator looks whether all is done.
const LOOK: Duration = Duration::from_millis(2);
/// How soon after a checkpoint the next one may come when memory is short.
const PRESSED: Duration = Duration::from_millis(100);

/// Makes the commits of a run.
pub(super) struct Coordinator<'a> {
    prepared: &'a Prepared,
    options: &'a Options,
    log: &'a Log,
    opened: &'a Opened,
    shared: &'a Arc<Shared>,
    shape: serde_json::Value,
    workers: usize,
    /// How many were made.
    pub(super) commits: u64,
    apply: &'a Sender<Committed>,
    /// Work done by the last cut.
    seen: u64,
    resources: Watched,
    shown: figures::Worker,
}

impl<'a> Coordinator<'a> {
    /// For `workers` threads, which share `shared`; commits are told to `apply`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        prepared: &'a Prepared,
        options: &'a Options,
        log: &'a Log,
        topology: &Topology,
        opened: &'a Opened,
        shared: &'a Arc<Shared>,
        workers: usize,
        apply: &'a Sender<Committed>,
    ) -> Self {
        let shown = options.figures.worker("all".to_owned());
        let tasks = topology.subs.iter().map(|sub| u64::from(sub.partitions)).sum();
        shown.update(|worker| worker.units = tasks);
        Self {
            prepared,
            options,
            log,
            opened,
            shared,
            shape: topology.shape(&prepared.pipeline),
            workers,
            commits: 0,
            apply,
            seen: 0,
            resources: Watched::new(prepared),
            shown,
        }
    }

    /// Runs until everything has ended, it is to stop, or something fails. Returns how long the run
    /// took from the first record, and how long until that.
    pub(super) fn run(&mut self, started: Instant) -> Result<(Duration, Option<Duration>), Error> {
        let interval = Duration::from_millis(self.prepared.pipeline.engine.checkpoint_interval_ms);
        let mut last = Instant::now();
        let mut first = None;
        if self.begins_at_an_end() {
            // From now on it is known where: not at what is the end by the next start.
            self.seen = u64::MAX;
            self.commit(false, false)?;
        }
        loop {
            std::thread::sleep(LOOK.min(interval));
            if let Some(error) = lock(&self.shared.error).take() {
                return Err(error);
            }
            if first.is_none() && self.options.progress.records.load(Ordering::Relaxed) > 0 {
                first = Some(started.elapsed());
            }
            let done = self.shared.done.load(Ordering::Relaxed) == self.workers;
            let stop = self.options.stop.load(Ordering::Relaxed);
            let pressed = last.elapsed() >= PRESSED.min(interval)
                && self.shared.pressed.swap(false, Ordering::Relaxed);
            if last.elapsed() >= interval || done || stop || pressed {
                last = Instant::now();
                self.resources.look(self.prepared, self.shared);
                self.commit(pressed, done || stop)?;
            }
            if done || stop {
                let ran = started.elapsed().saturating_sub(first.unwrap_or_default());
                return Ok((ran, first));
            }
        }
    }

    /// Whether this is the first run, and some source begins at the end of its topic.
    fn begins_at_an_end(&self) -> bool {
        let at_end =
            |kind: &SourceKind| matches!(kind, SourceKind::Topic { start: Start::Latest, .. });
        let mut sources = self.prepared.pipeline.sources.iter();
        self.log.payload().is_null() && sources.any(|source| at_end(&source.kind))
    }

    /// Cuts through all tasks and commits the cut.
    fn commit(&mut self, urgent: bool, last: bool) -> Result<(), Error> {
        let work = self.shared.work.load(Ordering::Relaxed);
        let swaps = !lock(&self.shared.swaps).is_empty();
        if work == self.seen && !last && !swaps && !urgent {
            return Ok(());
        }
        self.seen = work;
        let began = Instant::now();
        if !self.shared.cut.begin(self.workers) {
            self.shared.stop.store(true, Ordering::Relaxed);
            self.shared.cut.end();
            return Err(lock(&self.shared.error)
                .take()
                .unwrap_or_else(|| Error::Panic("a worker has left without a word".into())));
        }
        let snapshot = self.log.freeze();
        let lengths: Result<BTreeMap<String, u64>, sink::Error> =
            self.opened.outputs.iter().map(|o| Ok((o.id().to_owned(), o.flush()?))).collect();
        let tasks = lock(&self.shared.saved).clone();
        let logged = self.shared.logged.load(Ordering::Relaxed);
        self.shared.cut.end();
        let (snapshot, outputs) = (snapshot?, lengths?);
        for output in &self.opened.outputs {
            output.sync()?;
        }
        let ends = self
            .opened
            .followers
            .iter()
            .filter_map(|f| {
                let end = snapshot.end_offset(f.changelog.topic(), f.changelog.index())?;
                Some((f.task.clone(), end))
            })
            .collect();
        let epoch = self.log.epoch() + 1;
        let payload = json!({ "shape": self.shape, "tasks": tasks, "outputs": outputs });
        self.log.commit(snapshot, epoch, payload)?;
        self.commits += 1;
        self.shown.committed(began.elapsed());
        for readers in &self.opened.readers {
            readers.release(&tasks);
        }
        // The applier has ended only if it has failed, which is reported through `Shared::error`.
        let _ = self.apply.send(Committed { epoch, ends, logged, urgent });
        Ok(())
    }
}
