//! A run of a pipeline from beginning to end: its threads, and what is left to tell of it.
//!
//! Invariant: when a run returns, all its threads have ended, and what it has committed stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wasmill_log::Log;

use super::checkpoint::Coordinator;
use super::embedded::LogTask;
use super::open::{Payload, open};
use super::prepare::Prepared;
use super::report::{Report, StageReport};
use super::task::Saved;
use super::topology::Topology;
use super::worker::{self, Shared, lock};
use super::{Error, Options, apply, shown};

/// Runs a pipeline until its inputs end, it is told to stop, or it fails.
///
/// # Errors
/// [`Error`]; what was committed before stays.
pub fn run(prepared: &Prepared, options: &Options) -> Result<Report, Error> {
    if let Some(kafka) = &prepared.pipeline.kafka {
        return super::kafka::run(prepared, kafka, options);
    }
    let started = Instant::now();
    options.figures.begin(&prepared.pipeline.name, None, options.progress.clone());
    let log = Log::open(options.data_dir.join("log"), wasmill_log::Options::default())?;
    let topology = Topology::of(&prepared.pipeline, &prepared.plan);
    let payload = Payload::recovered(&log, &topology, prepared)?;
    let mut opened = open(prepared, options, &log, &topology, &payload)?;
    let was_complete = !payload.tasks.is_empty() && payload.tasks.values().all(Saved::is_ended);
    let shared = Arc::new(Shared::default());
    let (commits, applier) = apply::start(opened.followers.clone(), shared.clone());
    let workers = spread(std::mem::take(&mut opened.tasks), workers(prepared, options));
    let count = workers.len();
    let mut threads = Vec::new();
    for (i, tasks) in workers.into_iter().enumerate() {
        let shared = shared.clone();
        let shown = tasks.iter().map(|task| {
            let topic = |_, topic: usize| topology.topics[topic].name.clone();
            shown::list(&options.figures, prepared, &topology, &task.run, &i.to_string(), topic)
        });
        let shown: Vec<_> = shown.collect();
        let thread = std::thread::Builder::new().name(format!("wasmill-worker-{i}"));
        let thread = thread.spawn(move || worker::work(tasks, &shown, &shared));
        threads.push(thread.map_err(|e| Error::Panic(format!("no thread for a worker: {e}")))?);
    }
    let mut coordinator =
        Coordinator::new(prepared, options, &log, &topology, &opened, &shared, count, &commits);
    let result = coordinator.run(started);
    shared.stop.store(true, Ordering::Relaxed);
    shared.cut.end();
    for thread in threads {
        // A panic is reported through `Shared::error`.
        let _ = thread.join();
    }
    let made = coordinator.commits;
    drop(commits);
    let _ = applier.join();
    let (elapsed, first) = result?;
    if let Some(error) = lock(&shared.error).take() {
        return Err(error);
    }
    let ran = Ran { elapsed, first, commits: made, was_complete, workers: count };
    Ok(report(prepared, options, &log, &shared, &ran))
}

pub(super) fn workers(prepared: &Prepared, options: &Options) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let asked = prepared.pipeline.engine.workers.map(|w| w as usize);
    options.workers.or(asked).unwrap_or_else(cores).max(1)
}

/// Deals tasks out to workers: those of one sub-topology to different ones.
fn spread(tasks: Vec<LogTask>, workers: usize) -> Vec<Vec<LogTask>> {
    let mut dealt: Vec<Vec<LogTask>> = Vec::new();
    dealt.resize_with(workers.min(tasks.len()).max(1), Vec::new);
    let count = dealt.len();
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    for task in tasks {
        let place = seen.entry(task.run.sub).or_insert(task.run.sub);
        dealt[*place % count].push(task);
        *place += 1;
    }
    dealt
}

/// What the coordinator knows of a run that is over.
struct Ran {
    elapsed: Duration,
    first: Option<Duration>,
    commits: u64,
    was_complete: bool,
    workers: usize,
}

fn report(prepared: &Prepared, options: &Options, log: &Log, shared: &Shared, ran: &Ran) -> Report {
    let stages = lock(&shared.stages);
    let stage = |(i, stage): (usize, &wasmill_pipeline::Stage)| {
        let mut report =
            StageReport { name: stage.name.clone(), counts: Default::default(), watermark: None };
        for (_, (counts, watermark)) in stages.iter().filter(|((_, s), _)| *s == i) {
            report.counts += *counts;
            report.watermark = Some(report.watermark.map_or(*watermark, |w| w.min(*watermark)));
        }
        report
    };
    Report {
        stages: prepared.pipeline.stages.iter().enumerate().map(stage).collect(),
        records: options.progress.records.load(Ordering::Relaxed),
        elapsed: ran.elapsed,
        until_first_record: ran.first,
        commits: ran.commits,
        epoch: log.epoch(),
        complete: shared.done.load(Ordering::Relaxed) == ran.workers,
        was_complete: ran.was_complete,
        again: "use --fresh or another --data-dir",
    }
}
