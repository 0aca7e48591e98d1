//! What goes into a task and what comes out.

use wasmill_abi::{Column, Headers};

use crate::flow::Flow;

/// What a task is told.
// Made on the stack and used up at once: a box for each batch would cost more.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub enum Fact {
    /// Records of an input, in order.
    Records {
        /// The input's index.
        input: usize,
        /// Who wrote them, for inputs whose watermarks are carried.
        producer: u32,
        /// The records.
        records: Records,
    },
    /// A watermark of a producer. One for an input whose watermarks are generated moves it on beyond
    /// what its records say.
    Watermark {
        /// The input's index.
        input: usize,
        /// Who says so; ignored for inputs whose watermarks are generated.
        producer: u32,
        /// The watermark; [`WATERMARK_END`](wasmill_abi::WATERMARK_END) when nothing more comes.
        watermark: i64,
        /// Whether the producer has stepped aside until it has more.
        idle: bool,
    },
    /// Time has passed.
    Tick,
    /// Event time is to go on behind an output that is held, see [`Task::is_held`](super::Task::is_held).
    Release,
}

/// Records of one input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// Event times, in ms.
    pub timestamps: Vec<i64>,
    /// The watermark of the producer before each record; empty where watermarks are generated.
    pub clocks: Vec<i64>,
    /// Keys.
    pub keys: Column,
    /// Values.
    pub values: Column,
    /// Headers.
    pub headers: Option<Headers>,
    /// The offset of each record in its partition.
    pub offsets: Vec<i64>,
}

/// What a step brings about.
#[derive(Debug, Default)]
pub struct Effects {
    /// Records to append: way out, partition, records.
    pub appends: Vec<(usize, u32, Flow)>,
    /// Watermarks that have changed, of ways out whose topic is read by the pipeline: way out,
    /// watermark, idle. They hold after the appended records, in every partition of the topic.
    pub clocks: Vec<(usize, i64, bool)>,
    /// Records for sinks: sink number, records.
    pub sinks: Vec<(usize, Flow)>,
}

impl Effects {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.clocks.is_empty() && self.sinks.is_empty()
    }
}
