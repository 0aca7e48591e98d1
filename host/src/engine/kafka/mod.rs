//! Running a pipeline on Kafka: the group assigns units of tasks to workers, of this process and of
//! others; each worker commits what its tasks do in transactions; changelogs carry state to whoever
//! has a task next.
//!
//! Invariant: what a task reads, gives and changes between two commits becomes visible as a whole or
//! not at all, and only while the group says that the task is this worker's (KIP-98, KIP-447).

mod apply;
mod changelog;
mod control;
mod failpoint;
mod feed;
mod group;
mod home;
mod janitor;
mod kept;
mod lag;
mod open;
mod outbox;
mod restores;
pub mod savepoint;
mod setup;
mod shown;
mod standby;
mod state_file;
mod topics;
mod trim;
mod units;
mod worker;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wasmill_kafka::{Admin, Settings, Waker};

use self::control::Control;
use self::group::{Group, Seat};
pub use self::home::clear;
pub use self::lag::{PartitionLag, lag};
use self::setup::Setup;
use self::worker::Worker;
use super::open::is_keyed;
use super::prepare::Prepared;
use super::report::{Report, StageReport};
use super::topology::Topology;
use super::worker::lock;
use super::{Error, Options, Replay};

/// How long requests about topics may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is asked whether other instances have ended.
const ASK: Duration = Duration::from_millis(100);
/// How often it is looked whether all is done.
const LOOK: Duration = Duration::from_millis(5);

/// The settings of the clients.
pub fn settings(kafka: &wasmill_pipeline::Kafka) -> Settings {
    let mut settings = Settings {
        brokers: kafka.brokers.clone(),
        properties: kafka.properties.clone(),
        consumer: kafka.consumer.clone(),
        producer: kafka.producer.clone(),
    };
    // Only the client that is the member has it.
    settings.properties.remove(STATIC_MEMBER);
    settings.consumer.remove(STATIC_MEMBER);
    settings
}

/// The setting that makes the process a static member of the group.
const STATIC_MEMBER: &str = "group.instance.id";

/// What the process is called as a static member (KIP-345).
fn static_member(kafka: &wasmill_pipeline::Kafka) -> Option<String> {
    kafka.consumer.get(STATIC_MEMBER).or(kafka.properties.get(STATIC_MEMBER)).cloned()
}

/// Runs a pipeline on Kafka until its inputs end, it is told to stop, or it fails.
///
/// # Errors
/// [`Error`]; what was committed before stays.
pub(super) fn run(
    prepared: &Prepared,
    kafka: &wasmill_pipeline::Kafka,
    options: &Options,
) -> Result<Report, Error> {
    options.figures.begin(&prepared.pipeline.name, Some(&kafka.group), options.progress.clone());
    if let Some(sink) = prepared.pipeline.sinks.first() {
        return Err(Error::Shape(format!(
            "sink.{}: on Kafka a pipeline gives its records to topics: tasks move between machines, and \
             files don't; name a topic instead, or run without [kafka]",
            sink.name
        )));
    }
    let mut settings = settings(kafka);
    let interval_ms = prepared.pipeline.engine.checkpoint_interval_ms;
    if let Some((name, ms)) = kafka.transaction_timeout(interval_ms) {
        settings.producer.insert(name.to_owned(), ms.to_string());
    }
    let admin = Admin::connect(&settings, TIMEOUT)?;
    let home = home::Home::open(&options.data_dir, &admin.cluster_id()?, &kafka.group)?;
    let plan = topics::with_rejects(&prepared.plan, &prepared.pipeline, &admin)?;
    let topology = Topology::of(&prepared.pipeline, &plan);
    let components = units::components(&topology, &kafka.group);
    let suffix = options.replay.as_ref().map_or("", |r| r.suffix.as_str());
    let ways = topics::ways(&topology, &prepared.pipeline.name, &kafka.group, suffix);
    let specs = topics::specs(prepared, &topology, &components, &ways, &kafka.group);
    let control = Control { admin: &admin, settings: &settings, group: &kafka.group };
    let shape = topology.shape(&prepared.pipeline);
    // Before anything is made or read.
    let has_shape = control.check(&shape)?;
    admin.ensure_topics(&specs)?;
    if !has_shape {
        control.claim(&shape)?;
    }
    let keyed = topology.subs.iter().map(|s| {
        s.stages.iter().filter(|i| is_keyed(prepared, **i)).count() * s.partitions as usize
    });
    let budget = prepared.pipeline.engine.cache_bytes as usize / keyed.sum::<usize>().max(1);
    let units: u32 = components.iter().map(|c| c.partitions).sum();
    let count = super::run::workers(prepared, options).min(units as usize).max(1);
    let setup = Setup::new(
        prepared,
        options,
        settings,
        kafka.group.clone(),
        home.instance.clone(),
        topology,
        components,
        ways,
        budget,
        admin,
    );
    let (elapsed, first) = work(&setup, count)?;
    if let Some(error) = lock(&setup.error).take() {
        return Err(error);
    }
    let complete = setup.complete.load(Ordering::Relaxed);
    Ok(report(&setup, elapsed, first, complete))
}

/// Removes the topics of an earlier replay: those that it wrote, and those that it made for itself.
///
/// # Errors
/// When Kafka can't be reached or refuses it.
pub fn remove(prepared: &Prepared, replay: &Replay) -> Result<(), Error> {
    let Some(kafka) = &prepared.pipeline.kafka else { return Ok(()) };
    let admin = Admin::connect(&settings(kafka), TIMEOUT)?;
    let topology = Topology::of(&prepared.pipeline, &prepared.plan);
    let components = units::components(&topology, &kafka.group);
    let ways = topics::ways(&topology, &prepared.pipeline.name, &kafka.group, &replay.suffix);
    let specs = topics::specs(prepared, &topology, &components, &ways, &kafka.group);
    let external: Vec<_> = topology.topics.iter().filter(|t| t.external).map(|t| &t.name).collect();
    let mut own = Vec::new();
    for spec in specs.iter().filter(|spec| !external.contains(&&spec.name)) {
        if admin.partitions(&spec.name)?.is_some() {
            own.push(spec.name.as_str());
        }
    }
    Ok(admin.delete_topics(&own)?)
}

/// Runs the workers until all is done, or they are told to stop.
fn work<'env>(
    setup: &'env Setup<'env>,
    count: usize,
) -> Result<(Duration, Option<Duration>), Error> {
    let mut first = None;
    let bounded = setup.prepared.pipeline.sources.iter().all(|source| source.bounded);
    let mut asked = Instant::now();
    let group = Group::join(setup)?;
    std::thread::scope(|scope| {
        let (failed, failures) = std::sync::mpsc::channel();
        let (apply, applier) = apply::start(move |error| {
            // Whoever would hear it has ended already otherwise.
            let _ = failed.send(error);
        })
        .map_err(|e| Error::Panic(format!("no thread for the state: {e}")))?;
        let (needless, requests) = std::sync::mpsc::channel();
        scope.spawn(move || janitor::work(setup, &requests));
        standby::start(setup, scope)
            .map_err(|e| Error::Panic(format!("no thread for the standbys: {e}")))?;
        let (mut threads, mut seats) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (apply, needless, group) = (apply.clone(), needless.clone(), group.clone());
            let waker = Waker::default();
            let (seat, orders) = Seat::new(waker.clone());
            seats.push(seat);
            let thread = std::thread::Builder::new().name(format!("wasmill-worker-{number}"));
            let work = move || {
                let orders = (orders, waker);
                let worker = Worker::start(setup, scope, number, group, orders, apply, needless);
                if let Err(error) = worker.and_then(Worker::work) {
                    setup.fail(error);
                }
            };
            let thread = thread.spawn_scoped(scope, work);
            threads.push(thread.map_err(|e| Error::Panic(format!("no thread: {e}")))?);
        }
        drop((apply, needless));
        let member = group.clone();
        let serve = move || {
            if let Err(error) = member.serve(setup, seats) {
                setup.fail(error);
            }
        };
        let thread = std::thread::Builder::new().name("wasmill-group".into());
        let serving = thread.spawn_scoped(scope, serve);
        let serving = serving.map_err(|e| Error::Panic(format!("no thread: {e}")))?;
        loop {
            std::thread::sleep(LOOK);
            first = setup.first.get().copied();
            if let Ok(error) = failures.try_recv() {
                setup.fail(error);
            }
            let (done, bare) =
                (setup.done.load(Ordering::Relaxed), setup.bare.load(Ordering::Relaxed));
            // Nothing to do here: the run is over when there is nothing to do anywhere.
            if done + bare == count && bounded && asked.elapsed() >= ASK && group.has_joined() {
                asked = Instant::now();
                match setup.has_ended(&setup.stop) {
                    Ok(ended) => setup.complete.store(ended, Ordering::Relaxed),
                    Err(e) => tracing::debug!("whether all has ended is not known: {e}"),
                }
            }
            let ended = setup.complete.load(Ordering::Relaxed);
            if ended || setup.stop.load(Ordering::Relaxed) || lock(&setup.error).is_some() {
                break;
            }
        }
        let elapsed = setup.began.elapsed().saturating_sub(first.unwrap_or_default());
        setup.ending.store(true, Ordering::Relaxed);
        for thread in threads {
            if thread.join().is_err() {
                setup.fail(Error::Panic("see the message above".into()));
            }
        }
        if serving.join().is_err() {
            setup.fail(Error::Panic("see the message above".into()));
        }
        let _ = applier.join();
        Ok((elapsed, first))
    })
}

fn report(setup: &Setup<'_>, elapsed: Duration, first: Option<Duration>, complete: bool) -> Report {
    let stages = lock(&setup.stages);
    let stage = |(i, stage): (usize, &wasmill_pipeline::Stage)| {
        let mut report =
            StageReport { name: stage.name.clone(), counts: Default::default(), watermark: None };
        for (_, (counts, watermark)) in stages.iter().filter(|((_, s), _)| *s == i) {
            report.counts += *counts;
            report.watermark = Some(report.watermark.map_or(*watermark, |w| w.min(*watermark)));
        }
        report
    };
    let commits = setup.commits.load(Ordering::Relaxed);
    let records = setup.progress.records.load(Ordering::Relaxed);
    Report {
        stages: setup.prepared.pipeline.stages.iter().enumerate().map(stage).collect(),
        records,
        elapsed,
        until_first_record: first,
        commits,
        epoch: commits,
        complete,
        was_complete: complete && records == 0 && commits == 0,
        again: "run it in another group: --set kafka.group=NAME",
    }
}
