//! Opening everything that a run needs, as the last commit has it: topics, output files, tasks.
//!
//! Invariant: nothing is opened for a pipeline of another shape than the commit's, and nothing is
//! written before it is known how what a crash leaves is cut off.

mod extent;
mod task;

pub(super) use task::open_stage;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use wasmill_core::layout::InputClock;
use wasmill_log::{Log, Partition, Retention, TopicOptions};

use super::apply::Follower;
use super::embedded::LogTask;
use super::prepare::Prepared;
use super::retention::Readers;
use super::task::Saved;
use super::topology::{Sub, Topic, Topology};
use super::{Error, Options};
use crate::runtime::Kind;
use crate::sink;

/// The size at which a segment of a topic is closed.
const SEGMENT_BYTES: u64 = 64 << 20;
/// The smallest size at which one is closed, of a topic of which little is kept.
const LEAST_SEGMENT_BYTES: u64 = 256 << 10;

/// What a commit holds besides the log.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Payload {
    shape: serde_json::Value,
    pub(super) tasks: BTreeMap<String, Saved>,
    /// The length of each file of a sink, by its name.
    outputs: BTreeMap<String, u64>,
}

impl Payload {
    /// What the last commit holds; checks that it is of this pipeline.
    pub(super) fn recovered(
        log: &Log,
        topology: &Topology,
        prepared: &Prepared,
    ) -> Result<Self, Error> {
        let value = log.payload();
        if value.is_null() || value.get("shape").is_none() {
            return Ok(Self::default());
        }
        let payload: Self = serde_json::from_value(value.clone()).map_err(|e| {
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
}

/// Everything a run has open.
pub(super) struct Opened {
    pub(super) tasks: Vec<LogTask>,
    pub(super) followers: Vec<Follower>,
    pub(super) outputs: Vec<sink::Output>,
    /// Who reads each partition of the topics.
    pub(super) readers: Vec<Readers>,
}

pub(super) fn open(
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
        readers: Readers::of(topology, &topics),
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
    if let Some(extent) = extent::of(prepared, topology, payload, &topics) {
        // A run has one progress.
        let _ = options.progress.extent.set(extent);
    }
    let budget = prepared.pipeline.engine.cache_bytes as usize / keyed.sum::<usize>().max(1);
    for sub in &topology.subs {
        for partition in 0..sub.partitions {
            let name = format!("{}-{partition}", sub.id);
            let saved = payload.tasks.get(&name);
            let mut task =
                task::open(prepared, options, log, sub, partition, budget, &topics, &mut opened)?;
            let run = &mut task.run;
            run.sinks = sinks.remove(&(sub.id, partition)).unwrap_or_default();
            for (i, from) in sub.inputs.iter().enumerate() {
                let place = saved.and_then(|s| s.place(i));
                let clock = &run.task.layout().inputs[i].clock;
                let carried = matches!(clock, InputClock::Carried(_));
                let input = task::open_input(prepared, from, partition, carried, place, &topics)?;
                run.inputs.push(input);
            }
            if let Some(saved) = saved {
                run.restore(saved);
            }
            opened.tasks.push(task);
        }
    }
    for readers in &opened.readers {
        readers.release(&payload.tasks);
    }
    Ok(opened)
}

pub(super) fn is_keyed(prepared: &Prepared, stage: usize) -> bool {
    prepared.plugins[stage].component.kind == Kind::Keyed
}

/// The partitions of each topic.
pub(super) type Topics = Vec<Arc<Vec<Partition>>>;

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
        log.create_topic(&topic.name, partitions, options_of(topic))?;
        let all: Result<Vec<_>, _> =
            (0..partitions).map(|p| log.partition(&topic.name, p)).collect();
        topics.push(Arc::new(all?));
        debug_assert!(topics.len() == i + 1);
    }
    Ok(topics)
}

/// How a topic is kept. What is kept of it at least, its retention, is not passed by much more than a
/// quarter.
fn options_of(topic: &Topic) -> TopicOptions {
    let (retention, segment_bytes) = match topic.retention_bytes {
        // Nothing but this pipeline needs what it has read.
        _ if topic.internal => (Retention::Bytes(0), SEGMENT_BYTES),
        None => (Retention::Forever, SEGMENT_BYTES),
        Some(bytes) => {
            (Retention::Bytes(bytes), (bytes / 4).clamp(LEAST_SEGMENT_BYTES, SEGMENT_BYTES))
        }
    };
    TopicOptions { segment_bytes, retention }
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
