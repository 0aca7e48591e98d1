//! Opening the tasks of a unit: their state, from the local file and the changelog, and where their
//! inputs stand.
//!
//! Invariant: what an opened task has is what its changelog holds up to the end that it had when
//! opening began, transactions that were pending then included.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use wasmill_core::layout::InputClock;
use wasmill_core::store::{Cold, Nothing};
use wasmill_core::task::Task;
use wasmill_kafka::{Admin, Fetcher, Leaders, Progress, Source, read_to_end};
use wasmill_pipeline::plan::{InputFrom, TopicKind};
use wasmill_pipeline::{Pipeline, SourceKind, Start};

use super::apply::StateFile;
use super::changelog::{self, Kind, NoChangelog, Packs, Read, Reader, foreign};
use super::feed::{KafkaFeed, KafkaTopic, Shared};
use super::outbox::Outbox;
use super::savepoint;
use super::setup::Setup;
use super::state_file;
use super::units::Unit;
use crate::engine::feed::{Lines, Place};
use crate::engine::open::{is_keyed, open_stage};
use crate::engine::task::{Input, Run, Saved};
use crate::engine::worker::{lock, now_ms};
use crate::engine::{Error, Until};
use crate::store::State;

/// How many bytes of the changelog are applied in one transaction when a task is restored, about.
const GROUP_BYTES: usize = 64 << 20;
/// How long to wait for a state file that another worker of this process still has open.
const CLOSING: Duration = Duration::from_secs(60);
/// How long a reader waits at least when nothing comes.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// How long Kafka may take to abort a transaction whose time is over.
const ABORTING: Duration = Duration::from_secs(60);

/// How long it is waited for who leads a topic.
const LEADERS: Duration = Duration::from_secs(2);

/// How many of the last records of a changelog are looked through for where a task stands.
pub(super) const LAST_RECORDS: i64 = 1_000;

/// How long a reader of a changelog waits when nothing comes: longer than a transaction of the
/// pipeline may stay open.
pub(super) fn patience(pipeline: &Pipeline) -> Duration {
    let interval_ms = pipeline.engine.checkpoint_interval_ms;
    let longest = pipeline.kafka.as_ref().map(|kafka| kafka.longest_transaction_ms(interval_ms));
    PATIENCE.max(Duration::from_millis(longest.unwrap_or(0)) + ABORTING)
}

/// A task that is ready to run but for its topics, which its worker assigns.
pub(super) struct OpenTask {
    pub(super) run: Run<KafkaFeed, Outbox>,
    pub(super) file: Option<Arc<StateFile>>,
    pub(super) partition: u32,
    /// Where it stood in its last commit; none when it has made none.
    pub(super) saved: Option<Saved>,
    /// The inputs, in the order of the layout.
    pub(super) inputs: Vec<Begin>,
    /// Where those from topics begin.
    pub(super) begun: Vec<Option<i64>>,
    /// Whether an input begins where its topic ended just now: that must be committed before anything
    /// is read, or what comes in between is lost when the task is opened again and finds another end.
    pub(super) held: bool,
    /// What its records in the changelog bear; none in transactions.
    pub(super) stamp: Option<u64>,
}

/// How an input begins.
pub(super) enum Begin {
    Lines(Box<Lines>, Option<Duration>),
    Topic {
        name: String,
        offset: i64,
        /// Whether it was chosen by where the topic ended just now.
        at_end: bool,
        frames: bool,
        until: Option<i64>,
        idle_after: Option<Duration>,
    },
    Ended,
}

/// The state files that are open in this process.
#[derive(Default)]
pub(super) struct OpenFiles {
    open: Mutex<HashMap<String, Weak<()>>>,
    /// The tasks whose files workers wait for.
    awaited: Mutex<Vec<String>>,
}

/// A worker waits for the file of a task until this is dropped.
struct Awaits<'a> {
    task: &'a str,
    files: &'a OpenFiles,
}

impl Drop for Awaits<'_> {
    fn drop(&mut self) {
        let mut awaited = lock(&self.files.awaited);
        if let Some(at) = awaited.iter().position(|task| task == self.task) {
            awaited.swap_remove(at);
        }
    }
}

impl OpenFiles {
    /// Whether a worker waits for the file of a task: whoever else has it is to let go.
    pub(super) fn is_awaited(&self, task: &str) -> bool {
        lock(&self.awaited).iter().any(|awaited| awaited == task)
    }

    /// Takes the file of a task, for others than workers, when nobody has it open or waits for it.
    pub(super) fn try_take(&self, task: &str) -> Option<Arc<()>> {
        if self.is_awaited(task) { None } else { self.take_now(task) }
    }

    fn take_now(&self, task: &str) -> Option<Arc<()>> {
        let mut open = lock(&self.open);
        if open.get(task).is_some_and(|token| token.strong_count() > 0) {
            return None;
        }
        let token = Arc::new(());
        open.insert(task.to_owned(), Arc::downgrade(&token));
        Some(token)
    }

    /// Waits until nobody has the file of a task open, and takes it.
    fn take(&self, task: &str, stop: &AtomicBool) -> Result<Arc<()>, Error> {
        let start = Instant::now();
        lock(&self.awaited).push(task.to_owned());
        let _awaits = Awaits { task, files: self };
        loop {
            if let Some(token) = self.take_now(task) {
                return Ok(token);
            }
            if stop.load(Ordering::Relaxed) || start.elapsed() > CLOSING {
                return Err(Error::Shape(format!(
                    "task {task}: another worker of this process, or a standby, has not closed its state"
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Opens all tasks of a unit. May take long: it reads changelogs.
pub(super) fn unit(
    setup: &Setup<'_>,
    unit: Unit,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<OpenTask>, Error> {
    let admin = &setup.admin;
    let mut tasks = Vec::new();
    for sub in &setup.components[unit.component].subs {
        if unit.partition < setup.topology.subs[*sub].partitions {
            tasks.push(task(setup, admin, *sub, unit.partition, stop)?);
        }
    }
    Ok(tasks)
}

fn task(
    setup: &Setup<'_>,
    admin: &Admin,
    sub: usize,
    partition: u32,
    stop: &Arc<AtomicBool>,
) -> Result<OpenTask, Error> {
    let prepared = setup.prepared;
    let of = &setup.topology.subs[sub];
    let name = format!("{}-{partition}", of.id);
    let keyed = of.stages.iter().filter(|i| is_keyed(prepared, **i)).count();
    let token = setup.open_files.take(&name, stop)?;
    let budget = setup.budget;
    let topic = setup.changelog(sub);
    let (file, Stood { saved, reader }) = if keyed > 0 {
        let path = setup.data_dir.join(format!("state/{name}.redb"));
        let (state, stood) = restore(setup, admin, &topic, partition, path, budget, stop)?;
        (Some(Arc::new(StateFile::new(state, token))), stood)
    } else {
        (None, last_saved(setup, &topic, partition, None, stop)?)
    };
    let cold: Arc<dyn Cold> = match &file {
        Some(file) => Arc::new(file.state.clone()),
        None => Nothing::shared(),
    };
    let mut stages = Vec::new();
    for (node, index) in of.stages.iter().enumerate() {
        stages.push(open_stage(prepared, *index, node as u16, keys_of(budget), &cold, 1)?);
    }
    let layout = of.tasks[partition as usize].clone();
    let edges = layout.edges.iter().enumerate();
    let edges = edges.map(|(e, edge)| (edge.topic, of.producer(e, partition))).collect();
    let mut run = Run::new(
        name,
        sub,
        of.stages.clone(),
        Task::new(layout, stages),
        Outbox::new(edges),
        prepared.pipeline.engine.batch_records as usize,
        setup.progress.clone(),
    );
    let mut inputs = Vec::new();
    for (i, from) in of.inputs.iter().enumerate() {
        let carried = matches!(run.task.layout().inputs[i].clock, InputClock::Carried(_));
        let place = saved.as_ref().and_then(|s| s.place(i));
        inputs.push(begin(setup, admin, from, partition, carried, place)?);
    }
    if let Some(saved) = &saved {
        run.restore(saved);
    }
    let begun = |begin: &Begin| match begin {
        Begin::Topic { offset, .. } => Some(*offset),
        Begin::Lines(..) | Begin::Ended => None,
    };
    let begun = inputs.iter().map(begun).collect();
    let held = inputs.iter().any(|begin| matches!(begin, Begin::Topic { at_end: true, .. }));
    let stamp = (!setup.exactly_once).then(|| changelog::stamp(&reader, now_ms()));
    Ok(OpenTask { run, file, partition, saved, inputs, begun, held, stamp })
}

/// What of a stage's memory is for its keys: the rest is for the cache of the state file.
pub(super) fn keys_of(budget: usize) -> usize {
    budget - budget / 8
}

fn interrupted(what: &str) -> Error {
    Error::Kafka(wasmill_kafka::Error::Interrupted { what: what.to_owned() })
}

pub(super) fn saved_of(
    changelog: &str,
    partition: u32,
    offset: i64,
    bytes: &[u8],
) -> Result<Saved, Error> {
    serde_json::from_slice(bytes).map_err(|e| {
        Error::Shape(format!(
            "topic {changelog} partition {partition} offset {offset}: written by another version of \
             Wasmill: {e}; use that version, or another group"
        ))
    })
}

/// No restore of a savepoint was left undone.
pub(super) fn whole(changelog: &str, partition: u32, pending: Option<String>) -> Result<(), Error> {
    let Some(name) = pending else { return Ok(()) };
    Err(Error::Shape(format!(
        "topic {changelog} partition {partition}: restoring savepoint {name} was begun and not finished; \
         do it again: wasmill savepoint restore PIPELINE {name} --replace"
    )))
}

/// Brings a state file up to the end of its changelog, and returns where the task stands there.
fn restore(
    setup: &Setup<'_>,
    admin: &Admin,
    changelog: &str,
    partition: u32,
    path: PathBuf,
    budget: usize,
    stop: &Arc<AtomicBool>,
) -> Result<(State, Stood), Error> {
    let _place = setup.restores.begin(stop).ok_or_else(|| interrupted("restoring state"))?;
    let offsets = admin.offsets(changelog, partition)?;
    let (mut state, mut from) = state_file::open(&path, budget / 8)?;
    if from > 0 && (from < offsets.start || from > offsets.end) {
        tracing::warn!(
            file = %path.display(),
            "the state is at {from} of its changelog, which goes from {} to {}: it is of another \
             topic or too old, and is restored from the beginning",
            offsets.start, offsets.end
        );
        state = state_file::anew(state, &path, budget / 8)?;
        from = 0;
    }
    let from = from.max(offsets.start);
    let (packs, stood) = (Packs::default(), Stood::default());
    let mut restoring = Restoring { state, from, packs, stood, task: None, mark: None };
    let source = Source {
        topic: changelog,
        partition,
        from: Some(from),
        group: &setup.group,
        patience: setup.patience,
    };
    let shown = setup.restore(changelog, partition, from, offsets.end);
    read_to_end(
        &setup.admin,
        &source,
        stop,
        |progress: Progress| shown.at(progress.position),
        |offset, key, value| restoring.take(changelog, partition, offset, key, value),
    )?;
    whole(changelog, partition, restoring.mark.take())?;
    restoring.flush()?;
    drop(shown);
    if offsets.end > 0 {
        let (from, to) = (from.min(offsets.end), offsets.end);
        tracing::info!(changelog, partition, from, to, "state is restored");
    }
    if stop.load(Ordering::Relaxed) {
        return Err(interrupted("restoring state"));
    }
    Ok((restoring.state, restoring.stood))
}

/// Where a task stands by its changelog, and what else was read of that.
#[derive(Default)]
struct Stood {
    saved: Option<Saved>,
    reader: Reader,
}

struct Restoring {
    state: State,
    /// Where reading went on.
    from: i64,
    packs: Packs,
    stood: Stood,
    /// The offset of the last record that says where the task stands.
    task: Option<i64>,
    /// The savepoint whose restore is not done yet by what was read.
    mark: Option<String>,
}

impl Restoring {
    fn take(
        &mut self,
        changelog: &str,
        partition: u32,
        offset: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<(), Error> {
        let read = self.stood.reader.take(key, value);
        let read = read.map_err(|NoChangelog| foreign(changelog, partition, offset))?;
        let Some(read) = read else { return Ok(()) };
        self.packs.take(&read);
        match read.kind {
            Kind::Pack => return Ok(()),
            Kind::Task => {
                self.stood.saved = Some(saved_of(changelog, partition, offset, read.value)?);
                self.mark = None;
            }
            // Reading goes on with the last of them, so that it is seen as long as it counts.
            Kind::Restore => self.mark = savepoint::pending(read.value),
        }
        self.task = Some(offset);
        // A commit ends here: only whole ones are applied.
        if self.packs.bytes() >= GROUP_BYTES { self.flush() } else { Ok(()) }
    }

    /// Applies what was read. Reading goes on with the record that says where the task stands.
    fn flush(&mut self) -> Result<(), Error> {
        let Some(task) = self.task else { return Ok(()) };
        let packs = self.packs.whole();
        if task > self.from || !packs.is_empty() {
            self.state.apply(packs.iter().map(Vec::as_slice), task.unsigned_abs())?;
        }
        Ok(())
    }
}

/// Whether all tasks of a unit, which may be another instance's, have ended in their last commit.
pub(super) fn has_ended(
    setup: &Setup<'_>,
    unit: Unit,
    stop: &Arc<AtomicBool>,
) -> Result<bool, Error> {
    for sub in &setup.components[unit.component].subs {
        if unit.partition >= setup.topology.subs[*sub].partitions {
            continue;
        }
        let changelog = setup.changelog(*sub);
        let offsets = setup.admin.offsets(&changelog, unit.partition)?;
        // Behind the last commit there are at most aborted ones.
        let from = offsets.start.max(offsets.end - LAST_RECORDS);
        let stood = last_saved(setup, &changelog, unit.partition, Some(from), stop)?;
        if !stood.saved.is_some_and(|saved| saved.is_ended()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where a task without state stands.
fn last_saved(
    setup: &Setup<'_>,
    changelog: &str,
    partition: u32,
    from: Option<i64>,
    stop: &Arc<AtomicBool>,
) -> Result<Stood, Error> {
    let (mut stood, mut mark) = (Stood::default(), None);
    let (group, patience) = (setup.group.as_str(), setup.patience);
    let source = Source { topic: changelog, partition, from, group, patience };
    read_to_end(
        &setup.admin,
        &source,
        stop,
        |_: Progress| {},
        |offset, key, value| {
            let read = stood.reader.take(key, value);
            let read = read.map_err(|NoChangelog| foreign(changelog, partition, offset))?;
            match read {
                Some(Read { kind: Kind::Task, value, .. }) => {
                    stood.saved = Some(saved_of(changelog, partition, offset, value)?);
                    mark = None;
                }
                Some(Read { kind: Kind::Restore, value, .. }) => mark = savepoint::pending(value),
                Some(Read { kind: Kind::Pack, .. }) | None => {}
            }
            Ok::<(), Error>(())
        },
    )?;
    whole(changelog, partition, mark)?;
    if stop.load(Ordering::Relaxed) {
        return Err(interrupted("reading where a task stands"));
    }
    Ok(stood)
}

fn begin(
    setup: &Setup<'_>,
    admin: &Admin,
    from: &InputFrom,
    partition: u32,
    carried: bool,
    place: Option<&Place>,
) -> Result<Begin, Error> {
    let prepared = setup.prepared;
    let idle = |ms: Option<i64>| ms.map(|ms| Duration::from_millis(ms.unsigned_abs()));
    let index = match from {
        InputFrom::Source(_) if matches!(place, Some(Place::Ended)) => return Ok(Begin::Ended),
        InputFrom::Source(index) => {
            let source = &prepared.pipeline.sources[*index];
            let Some(part) = prepared.sources[*index].get(partition as usize) else {
                return Ok(Begin::Ended);
            };
            let position = match place {
                Some(Place::Source(position)) => Some(position.clone()),
                _ => None,
            };
            let lines = Lines(part.open(position)?);
            return Ok(Begin::Lines(Box::new(lines), idle(source.policy.idle_timeout_ms)));
        }
        InputFrom::Topic(index) => *index,
    };
    let topic = &setup.topology.topics[index];
    if partition >= topic.partitions {
        return Ok(Begin::Ended);
    }
    let ways = &setup.ways[index];
    let (name, frames) = match (&ways.frames, &ways.plain) {
        (Some(name), _) if carried => (name.clone(), true),
        (_, Some(name)) => (name.clone(), false),
        (Some(name), None) => (name.clone(), true),
        (None, None) => unreachable!("a topic has a way"),
    };
    let source = match prepared.plan.topics.get(index).map(|t| t.kind) {
        Some(TopicKind::External { source: Some(source) }) => {
            Some(&prepared.pipeline.sources[source])
        }
        _ => None,
    };
    let offsets = admin.offsets(&name, partition)?;
    if matches!(place, Some(Place::Ended)) {
        // For the group's offsets: it is not asked for again.
        setup.end_of(&name, partition, offsets.end);
        return Ok(Begin::Ended);
    }
    let first = match (place, source.map(|s| &s.kind)) {
        (Some(Place::Offset(offset)), _) => *offset,
        (_, Some(SourceKind::Topic { start, .. })) => match start {
            Start::Earliest => offsets.start,
            Start::Latest => offsets.end,
            Start::Timestamp(ms) => admin.offset_at(&name, partition, *ms)?,
            Start::Offsets(all) => all.get(&partition).map_or(offsets.start, |o| *o),
        },
        _ => offsets.start,
    };
    let offset = setup.in_range(source, &name, partition, first, (offsets.start, offsets.end))?;
    let latest = matches!(
        (place, source.map(|s| &s.kind)),
        (None, Some(SourceKind::Topic { start: Start::Latest, .. }))
    );
    let at_end = latest || (offset != first && offset == offsets.end);
    let until = match source {
        Some(source) if source.bounded => {
            let end = replay_end(setup, &name, partition, offsets.end)?;
            Some(setup.end_of(&name, partition, end))
        }
        _ => None,
    };
    let idle_after = idle(source.and_then(|s| s.policy.idle_timeout_ms));
    Ok(Begin::Topic { name, offset, at_end, frames, until, idle_after })
}

/// Where a bounded input ends.
fn replay_end(setup: &Setup<'_>, topic: &str, partition: u32, end: i64) -> Result<i64, Error> {
    let until = setup.replay.as_ref().and_then(|r| r.until.as_ref());
    Ok(match until {
        None => end,
        Some(Until::Timestamp(ms)) => setup.admin.offset_at(topic, partition, *ms)?.min(end),
        Some(Until::Offsets(all)) => all.get(&partition).map_or(end, |offset| *offset.min(&end)),
    })
}

/// Finds out who leads what tasks read, so that reading it begins at once.
pub(super) fn find_leaders(tasks: &[OpenTask], leaders: &Leaders) {
    let topics = tasks.iter().flat_map(|task| &task.inputs).filter_map(|begin| match begin {
        Begin::Topic { name, .. } => Some(name.as_str()),
        Begin::Lines(..) | Begin::Ended => None,
    });
    topics.collect::<BTreeSet<_>>().into_iter().for_each(|topic| leaders.find(topic, LEADERS));
}

/// Begins to read the inputs of a unit's tasks. A partition that several of them read is read once.
pub(super) fn attach(tasks: &mut [OpenTask], fetcher: &Fetcher) -> Result<(), Error> {
    let mut begins: BTreeMap<(String, u32), i64> = BTreeMap::new();
    for task in tasks.iter() {
        for begin in &task.inputs {
            if let Begin::Topic { name, offset, .. } = begin {
                let least = begins.entry((name.clone(), task.partition)).or_insert(*offset);
                *least = (*least).min(*offset);
            }
        }
    }
    let mut shared = BTreeMap::new();
    for ((name, partition), offset) in begins {
        let assigned = Shared::new(fetcher.assign(&name, partition, offset)?);
        shared.insert((name, partition), assigned);
    }
    for task in tasks {
        for begin in std::mem::take(&mut task.inputs) {
            task.run.inputs.push(match begin {
                Begin::Ended => Input::ended(),
                Begin::Lines(lines, idle_after) => Input::new(KafkaFeed::Lines(lines), idle_after),
                Begin::Topic { name, offset, frames, until, idle_after, at_end: _ } => {
                    let shared = shared[&(name, task.partition)].clone();
                    let topic = KafkaTopic::new(shared, offset, frames, until);
                    Input::new(KafkaFeed::Topic(Box::new(topic)), idle_after)
                }
            });
        }
    }
    Ok(())
}
