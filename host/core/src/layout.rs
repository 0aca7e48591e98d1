//! What a task looks like: where its records come from, which stages they pass, where they go.

use crate::clock::Policy;

/// A task's inputs, stages and ways out, by index.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// The inputs.
    pub inputs: Vec<Input>,
    /// The stages, each after those that feed it.
    pub nodes: Vec<Node>,
    /// The ways out into topics.
    pub edges: Vec<Edge>,
}

/// An input: one partition of a topic or source.
#[derive(Debug, Clone)]
pub struct Input {
    /// The topic's or source's name, for provenance.
    pub name: String,
    /// The partition, from 0.
    pub partition: u32,
    /// Where its watermarks come from.
    pub clock: InputClock,
    /// Where its records go.
    pub targets: Vec<Target>,
    /// The way out of what can't be read as a record.
    pub unreadable: Option<usize>,
}

/// Where an input's watermarks come from.
#[derive(Debug, Clone)]
pub enum InputClock {
    /// They are generated here from the timestamps.
    Generated(Policy),
    /// Records and marks carry them; these are the producers that must be heard.
    Carried(Vec<u32>),
}

/// Where records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To a stage of the same task.
    Node {
        /// Its index.
        node: usize,
        /// The input port.
        port: u8,
    },
    /// Into a topic, by a way out.
    Edge(usize),
    /// To a sink of the pipeline, by its number.
    Sink(usize),
}

/// A stage's place.
#[derive(Debug, Clone)]
pub struct Node {
    /// What becomes of each output port.
    pub outputs: Vec<Output>,
    /// The ways out of rejected records, in the order of `RejectionKind::ALL`.
    pub rejects: [usize; 4],
    /// Records older than the watermark less this are expired, in ms.
    pub max_age_ms: Option<i64>,
}

/// What becomes of an output port.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Where its records go.
    pub targets: Vec<Target>,
    /// How watermarks are generated behind it, where it gives records their event time.
    pub assigns: Option<Policy>,
}

/// A way out into a topic.
#[derive(Debug, Clone)]
pub struct Edge {
    /// The topic's number in the pipeline.
    pub topic: usize,
    /// How many partitions the topic has.
    pub partitions: u32,
    /// How records are keyed on the way.
    pub key_by: Option<KeyBy>,
    /// Where records go that can't be keyed: another way out, and the stage they were meant for.
    pub unkeyed: Option<(usize, String)>,
    /// Whether watermarks are written, because the pipeline reads the topic.
    pub marks: bool,
}

impl Edge {
    /// A way out that keeps keys.
    pub fn to(topic: usize, partitions: u32, marks: bool) -> Self {
        Self { topic, partitions, key_by: None, unkeyed: None, marks }
    }
}

/// How records are keyed anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyBy {
    /// By a field of their JSON.
    Field(Vec<String>),
    /// All alike.
    Constant(String),
}
