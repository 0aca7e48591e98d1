//! The coordinator of a run: opens everything at the last commit, lets the workers run, and commits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;
use wasmill_core::keys::Keys;
use wasmill_core::limits::Limits;
use wasmill_core::maps::MapStore;
use wasmill_core::operator::Operator;
use wasmill_core::stateless::{Base, FailurePolicy, Stage as StatelessStage};
use wasmill_core::store::{Cold, Nothing};
use wasmill_core::task::{Stage, Task};
use wasmill_log::{Log, Partition, Position, Retention, TopicOptions};
use wasmill_pipeline::plan::{InputFrom, TopicKind};
use wasmill_pipeline::{OnFailure, SourceKind, Start};

use super::apply::{self, Committed, Follower};
use super::prepare::{Prepared, read_resources};
use super::report::{Report, StageReport};
use super::task::{Feed, Input, Out, Place, Run, Saved};
use super::topology::{Sub, Topology};
use super::worker::{self, Shared, lock};
use super::{Error, Options};
use crate::runtime::Kind;
use crate::sink;
use crate::store::State;

/// How often the coordinator looks whether all is done.
const LOOK: Duration = Duration::from_millis(2);
/// How soon after a checkpoint the next one may come when memory is short.
const PRESSED: Duration = Duration::from_millis(100);
/// How often files of resources are looked at.
const RESOURCES: Duration = Duration::from_millis(500);
/// The size at which a segment of a topic is closed.
const SEGMENT_BYTES: u64 = 64 << 20;

/// What a commit holds besides the log.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Payload {
    shape: serde_json::Value,
    tasks: BTreeMap<String, Saved>,
    /// The length of each file of a sink, by its name.
    outputs: BTreeMap<String, u64>,
}

/// Runs a pipeline until its inputs end, it is told to stop, or it fails.
///
/// # Errors
/// [`Error`]; what was committed before stays.
pub fn run(prepared: &Prepared, options: &Options) -> Result<Report, Error> {
    let started = Instant::now();
    let log = open_log(options)?;
    let topology = Topology::of(&prepared.pipeline, &prepared.plan);
    let payload = recovered(&log, &topology, prepared)?;
    let mut opened = open(prepared, options, &log, &topology, &payload)?;
    let was_complete = !payload.tasks.is_empty() && payload.tasks.values().all(Saved::is_ended);
    let shared = Arc::new(Shared::default());
    let (commits, applier) = apply::start(opened.followers.clone(), shared.clone());
    let workers = spread(std::mem::take(&mut opened.tasks), workers(prepared, options));
    let count = workers.len();
    let mut threads = Vec::new();
    for (i, tasks) in workers.into_iter().enumerate() {
        let shared = shared.clone();
        let thread = std::thread::Builder::new().name(format!("wasmill-worker-{i}"));
        let thread = thread.spawn(move || worker::work(tasks, &shared));
        threads.push(thread.map_err(|e| Error::Panic(format!("no thread for a worker: {e}")))?);
    }
    let mut coordinator = Coordinator {
        prepared,
        options,
        log: &log,
        opened: &opened,
        shared: &shared,
        shape: topology.shape(&prepared.pipeline),
        workers: count,
        commits: 0,
        apply: &commits,
        seen: 0,
        resources: Watched::new(prepared),
    };
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

fn open_log(options: &Options) -> Result<Log, Error> {
    Ok(Log::open(options.data_dir.join("log"), wasmill_log::Options::default())?)
}

/// What the last commit holds; checks that it is of this pipeline.
fn recovered(log: &Log, topology: &Topology, prepared: &Prepared) -> Result<Payload, Error> {
    let value = log.payload();
    if value.is_null() || value.get("shape").is_none() {
        return Ok(Payload::default());
    }
    let payload: Payload = serde_json::from_value(value.clone()).map_err(|e| {
        Error::Shape(format!(
            "{}: the last commit was written by another version of Wasmill: {e}; use that version, \
             or another --data-dir",
            log.dir().display()
        ))
    })?;
    let shape = topology.shape(&prepared.pipeline);
    if payload.shape != shape {
        return Err(Error::Shape(format!(
            "{}: the data directory belongs to another pipeline, or its stages, inputs or \
             partitions have changed since; use another --data-dir.\n  then: {}\n  now:  {shape}",
            log.dir().display(),
            payload.shape
        )));
    }
    Ok(payload)
}

fn workers(prepared: &Prepared, options: &Options) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let asked = prepared.pipeline.engine.workers.map(|w| w as usize);
    options.workers.or(asked).unwrap_or_else(cores).max(1)
}

/// Deals tasks out to workers: those of one sub-topology to different ones.
fn spread(tasks: Vec<Run>, workers: usize) -> Vec<Vec<Run>> {
    let mut dealt: Vec<Vec<Run>> = Vec::new();
    dealt.resize_with(workers.min(tasks.len()).max(1), Vec::new);
    let count = dealt.len();
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    for task in tasks {
        let place = seen.entry(task.sub).or_insert(task.sub);
        dealt[*place % count].push(task);
        *place += 1;
    }
    dealt
}

/// Everything a run has open.
struct Opened {
    tasks: Vec<Run>,
    followers: Vec<Follower>,
    outputs: Vec<sink::Output>,
    /// Partitions whose old records may go, with the task inputs that read them.
    consumed: Vec<(Partition, Vec<(String, usize)>)>,
}

fn open(
    prepared: &Prepared,
    options: &Options,
    log: &Log,
    topology: &Topology,
    payload: &Payload,
) -> Result<Opened, Error> {
    let topics = open_topics(prepared, log, topology)?;
    let mut opened = Opened {
        tasks: Vec::new(),
        followers: Vec::new(),
        outputs: Vec::new(),
        consumed: Vec::new(),
    };
    let mut sinks = open_sinks(prepared, topology, payload, &mut opened)?;
    if payload.shape.is_null() {
        // Output files begin empty: said before a byte is written, so that what a crash leaves in
        // them is known to be cut off.
        let outputs: BTreeMap<_, _> = opened.outputs.iter().map(|o| (o.id(), 0)).collect();
        let shape = topology.shape(&prepared.pipeline);
        let nothing = json!({ "shape": shape, "tasks": {}, "outputs": outputs });
        log.commit(log.freeze()?, log.epoch() + 1, nothing)?;
    }
    let keyed = topology.subs.iter().map(|s| {
        let keyed = s.stages.iter().filter(|i| is_keyed(prepared, **i)).count();
        keyed * s.partitions as usize
    });
    let budget = prepared.pipeline.engine.cache_bytes as usize / keyed.sum::<usize>().max(1);
    for sub in &topology.subs {
        for partition in 0..sub.partitions {
            let name = format!("{}-{partition}", sub.id);
            let saved = payload.tasks.get(&name);
            let mut run =
                open_task(prepared, options, log, sub, partition, budget, &topics, &mut opened)?;
            run.sinks = sinks.remove(&(sub.id, partition)).unwrap_or_default();
            for (i, from) in sub.inputs.iter().enumerate() {
                let place = saved.and_then(|s| s.place(i));
                let input = open_input(prepared, from, partition, place, &topics)?;
                run.inputs.push(input);
            }
            if let Some(saved) = saved {
                run.restore(saved);
            }
            opened.tasks.push(run);
        }
    }
    for (index, topic) in topology.topics.iter().enumerate().filter(|(_, t)| t.internal) {
        for p in 0..topic.partitions {
            let readers = topology.subs.iter().flat_map(|s| {
                let reads = s.inputs.iter().enumerate();
                let reads = reads.filter(|(_, from)| **from == InputFrom::Topic(index));
                reads.map(|(i, _)| (format!("{}-{p}", s.id), i)).collect::<Vec<_>>()
            });
            opened.consumed.push((topics[index][p as usize].clone(), readers.collect()));
        }
    }
    Ok(opened)
}

fn is_keyed(prepared: &Prepared, stage: usize) -> bool {
    prepared.plugins[stage].component.kind == Kind::Keyed
}

type Topics = Vec<Arc<Vec<Partition>>>;

fn open_topics(prepared: &Prepared, log: &Log, topology: &Topology) -> Result<Topics, Error> {
    let mut topics = Vec::new();
    for (i, topic) in topology.topics.iter().enumerate() {
        let declared = prepared.pipeline.topics.iter().find(|t| t.name == topic.name);
        let fixed = declared.is_none_or(|t| t.partitions.is_some());
        let mut partitions = topic.partitions;
        if topic.external {
            match log.partitions(&topic.name) {
                Ok(found) if !fixed => partitions = found,
                Ok(_) => {}
                Err(_) => tracing::info!(topic = topic.name, "the topic is empty so far"),
            }
        }
        let retention = topic.retention_bytes.map_or(Retention::Forever, Retention::Bytes);
        let segment_bytes = SEGMENT_BYTES;
        log.create_topic(&topic.name, partitions, TopicOptions { segment_bytes, retention })?;
        let all: Result<Vec<_>, _> =
            (0..partitions).map(|p| log.partition(&topic.name, p)).collect();
        topics.push(Arc::new(all?));
        debug_assert!(topics.len() == i + 1);
    }
    Ok(topics)
}

type Sinks = BTreeMap<(usize, u32), BTreeMap<usize, sink::Writer>>;

/// Opens the sinks: one writer for each task that writes to one.
fn open_sinks(
    prepared: &Prepared,
    topology: &Topology,
    payload: &Payload,
    opened: &mut Opened,
) -> Result<Sinks, Error> {
    let mut sinks: Sinks = BTreeMap::new();
    for (index, sink) in prepared.pipeline.sinks.iter().enumerate() {
        let target = wasmill_core::layout::Target::Sink(index);
        let writes = |s: &&Sub| {
            let layout = &s.tasks[0];
            let inputs = layout.inputs.iter().flat_map(|i| &i.targets);
            let nodes = layout.nodes.iter().flat_map(|n| &n.outputs).flat_map(|o| &o.targets);
            inputs.chain(nodes).any(|t| *t == target)
        };
        let tasks: Vec<(usize, u32)> = topology
            .subs
            .iter()
            .filter(writes)
            .flat_map(|s| (0..s.partitions).map(|p| (s.id, p)))
            .collect();
        let partitions: Vec<u32> = tasks.iter().map(|(_, p)| *p).collect();
        let open = sink::open(sink, &partitions, &payload.outputs)?;
        opened.outputs.extend(open.outputs);
        for (task, writer) in tasks.into_iter().zip(open.writers) {
            sinks.entry(task).or_default().insert(index, writer);
        }
    }
    Ok(sinks)
}

#[allow(clippy::too_many_arguments)]
fn open_task(
    prepared: &Prepared,
    options: &Options,
    log: &Log,
    sub: &Sub,
    partition: u32,
    budget: usize,
    topics: &Topics,
    opened: &mut Opened,
) -> Result<Run, Error> {
    let name = format!("{}-{partition}", sub.id);
    let epoch = log.epoch() + 1;
    let keyed = sub.stages.iter().any(|i| is_keyed(prepared, *i));
    // Of the memory for state an eighth is for pages of the file, the rest for rows.
    let pages = budget / 8 * sub.stages.iter().filter(|i| is_keyed(prepared, **i)).count();
    let budget = budget - budget / 8;
    let mut cold: Arc<dyn Cold> = Nothing::shared();
    let (mut changelog, mut state) = (None, None);
    if keyed {
        let topic = format!("{}-{}-changelog", prepared.pipeline.name, sub.id);
        let options_ = TopicOptions { segment_bytes: SEGMENT_BYTES, retention: Retention::Forever };
        log.create_topic(&topic, sub.partitions, options_)?;
        let follower = Follower {
            task: name.clone(),
            changelog: log.partition(&topic, partition)?,
            state: State::open(&options.data_dir.join(format!("state/{name}.redb")), pages)?,
        };
        follower.catch_up(follower.changelog.end_offset())?;
        cold = Arc::new(follower.state.clone());
        changelog = Some(follower.changelog.clone());
        state = Some(follower.state.clone());
        opened.followers.push(follower);
    }
    let mut stages = Vec::new();
    for (node, index) in sub.stages.iter().enumerate() {
        stages.push(open_stage(prepared, *index, node as u16, budget, &cold, epoch)?);
    }
    let layout = sub.tasks[partition as usize].clone();
    let outs = layout
        .edges
        .iter()
        .enumerate()
        .map(|(e, edge)| Out {
            partitions: topics[edge.topic].clone(),
            producer: sub.producer(e, partition),
        })
        .collect();
    let mut run = Run::new(
        name,
        sub.id,
        sub.stages.clone(),
        Task::new(layout, stages),
        outs,
        epoch,
        prepared.pipeline.engine.batch_records as usize,
        options.progress.clone(),
    );
    run.changelog = changelog;
    run.state = state;
    Ok(run)
}

fn open_stage(
    prepared: &Prepared,
    index: usize,
    node: u16,
    budget: usize,
    cold: &Arc<dyn Cold>,
    epoch: u64,
) -> Result<Stage, Error> {
    let (stage, plugin) = (&prepared.pipeline.stages[index], &prepared.plugins[index]);
    let (operator, ports) = prepared.runtime.operator(&plugin.component, &plugin.settings)?;
    let limits = Limits {
        output_bytes: stage.limits.output_bytes as usize,
        state_bytes: stage.limits.state_bytes as usize,
        timers: stage.limits.timers as usize,
        map_write_bytes: stage.limits.map_write_bytes as usize,
        batch_records: prepared.pipeline.engine.batch_records as usize,
        ..Limits::default()
    };
    let policy = FailurePolicy {
        halt: stage.on_failure == OnFailure::Halt,
        most_in_a_row: stage.max_failures,
    };
    let base = Base::new(&stage.name, ports, limits, policy);
    Ok(match operator {
        Operator::Stateless(operator) => Stage::Stateless(StatelessStage { base, operator }),
        Operator::Keyed(operator) => {
            let maps = operator.maps();
            let mut keys = Keys::new(node, cold.clone(), budget, stage.state_ttl_ms, maps > 0);
            keys.start_epoch(epoch);
            let maps = MapStore::new(node, maps, cold.clone());
            let stage = wasmill_core::keyed::Stage::new(base, operator, keys, maps);
            Stage::Keyed(Box::new(stage))
        }
    })
}

fn open_input(
    prepared: &Prepared,
    from: &InputFrom,
    partition: u32,
    place: Option<&Place>,
    topics: &Topics,
) -> Result<Input, Error> {
    if matches!(place, Some(Place::Ended)) {
        return Ok(Input::new(Feed::Ended, None));
    }
    let idle = |ms: Option<i64>| ms.map(|ms| Duration::from_millis(ms.unsigned_abs()));
    match from {
        InputFrom::Source(index) => {
            let source = &prepared.pipeline.sources[*index];
            let Some(part) = prepared.sources[*index].get(partition as usize) else {
                return Ok(Input::new(Feed::Ended, None));
            };
            let position = match place {
                Some(Place::Source(position)) => Some(position.clone()),
                _ => None,
            };
            let reader = part.open(position)?;
            Ok(Input::new(Feed::Source(Box::new(reader)), idle(source.policy.idle_timeout_ms)))
        }
        InputFrom::Topic(index) => {
            let Some(part) = topics[*index].get(partition as usize) else {
                return Ok(Input::new(Feed::Ended, None));
            };
            let source = match prepared.plan.topics.get(*index).map(|t| t.kind) {
                Some(TopicKind::External { source: Some(source) }) => {
                    Some(&prepared.pipeline.sources[source])
                }
                _ => None,
            };
            let latest = source
                .is_some_and(|s| matches!(s.kind, SourceKind::Topic { start: Start::Latest, .. }));
            let place = match place {
                Some(Place::Topic(position)) => *position,
                _ if latest => part.position_of(part.end_offset())?,
                _ => Position::start(),
            };
            let until = source.filter(|s| s.bounded).map(|_| part.end_offset());
            let reader = part.reader(place);
            let idle_after = idle(source.and_then(|s| s.policy.idle_timeout_ms));
            Ok(Input::new(Feed::Topic { reader, until, place }, idle_after))
        }
    }
}

/// When a file was changed last, and its length.
type Stamp = (std::time::SystemTime, u64);

/// The files of resources, as they were when they were last read.
struct Watched {
    files: Vec<(usize, Vec<Option<Stamp>>)>,
    looked: Instant,
}

impl Watched {
    fn new(prepared: &Prepared) -> Self {
        let files = (0..prepared.plugins.len())
            .filter(|i| !prepared.plugins[*i].resources.is_empty())
            .map(|i| (i, stamps(prepared, i)))
            .collect();
        Self { files, looked: Instant::now() }
    }
}

fn stamps(prepared: &Prepared, stage: usize) -> Vec<Option<Stamp>> {
    let stamp = |path: &std::path::PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    prepared.plugins[stage].resources.iter().map(|(_, path)| stamp(path)).collect()
}

struct Coordinator<'a> {
    prepared: &'a Prepared,
    options: &'a Options,
    log: &'a Log,
    opened: &'a Opened,
    shared: &'a Arc<Shared>,
    shape: serde_json::Value,
    workers: usize,
    commits: u64,
    apply: &'a std::sync::mpsc::Sender<Committed>,
    /// Work done by the last cut.
    seen: u64,
    resources: Watched,
}

impl Coordinator<'_> {
    /// Returns how long the run took from the first record, and how long until that.
    fn run(&mut self, started: Instant) -> Result<(Duration, Option<Duration>), Error> {
        let interval = Duration::from_millis(self.prepared.pipeline.engine.checkpoint_interval_ms);
        let mut last = Instant::now();
        let mut first = None;
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
                self.look_at_resources();
                self.commit(pressed, done || stop)?;
            }
            if done || stop {
                let ran = started.elapsed().saturating_sub(first.unwrap_or_default());
                return Ok((ran, first));
            }
        }
    }

    /// Cuts through all tasks and commits the cut.
    fn commit(&mut self, urgent: bool, last: bool) -> Result<(), Error> {
        let work = self.shared.work.load(Ordering::Relaxed);
        let swaps = !lock(&self.shared.swaps).is_empty();
        if work == self.seen && !last && !swaps && !urgent {
            return Ok(());
        }
        self.seen = work;
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
        for (partition, readers) in &self.opened.consumed {
            let offset = |(task, input): &(String, usize)| match tasks.get(task)?.place(*input)? {
                Place::Topic(position) => Some(position.offset),
                _ => None,
            };
            if let Some(least) = readers.iter().map(|r| offset(r).unwrap_or(0)).min() {
                partition.delete_before(least);
            }
        }
        // The applier has ended only if it has failed, which is reported through `Shared::error`.
        let _ = self.apply.send(Committed { epoch, ends, urgent });
        Ok(())
    }

    /// Makes new instances of plugins whose reference files have changed.
    fn look_at_resources(&mut self) {
        // Before the first cut it is not known yet where the stages run.
        if self.resources.looked.elapsed() < RESOURCES || lock(&self.shared.stages).is_empty() {
            return;
        }
        self.resources.looked = Instant::now();
        for i in 0..self.resources.files.len() {
            let (stage, known) = &self.resources.files[i];
            let stage = *stage;
            let now = stamps(self.prepared, stage);
            if now == *known {
                continue;
            }
            self.resources.files[i].1 = now;
            let name = &self.prepared.pipeline.stages[stage].name;
            match self.renew(stage) {
                Ok(()) => tracing::info!(stage = name, "reference files were read again"),
                Err(e) => tracing::error!(
                    stage = name,
                    "reference files have changed but can't be used, the old ones stay: {e}"
                ),
            }
        }
    }

    fn renew(&self, stage: usize) -> Result<(), String> {
        let plugin = &self.prepared.plugins[stage];
        let mut settings = plugin.settings.clone();
        settings.resources = read_resources(&plugin.resources).map_err(|(_, message)| message)?;
        let mut swaps = Vec::new();
        for (task, index) in lock(&self.shared.stages).keys() {
            if *index != stage {
                continue;
            }
            let made = self.prepared.runtime.operator(&plugin.component, &settings);
            let (operator, ports) = made.map_err(|e| e.to_string())?;
            if ports != plugin.ports {
                return Err("the plugin would have other ports".into());
            }
            swaps.push((task.clone(), stage, operator));
        }
        lock(&self.shared.swaps).extend(swaps);
        Ok(())
    }
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
    }
}
