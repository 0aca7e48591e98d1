//! A task with its inputs and outputs attached.
//!
//! Invariant: between two freezes every record that was read has been stepped and all that followed
//! has been appended; nothing is held back but watermarks, and those are written before the freeze.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wasmill_abi::{Column, Headers, WATERMARK_END, WATERMARK_START};
use wasmill_core::flow::Flow;
use wasmill_core::layout::InputClock;
use wasmill_core::operator::Operator;
use wasmill_core::task::{Clocks, Effects, Fact, Records, Stage, Task};
use wasmill_log::{Body, Frame, Partition, Reader};

use super::Error;
use super::report::Progress;
use crate::sink;
use crate::source;
use crate::store::State;

/// Most bytes read from a source at a time.
const READ_BYTES: usize = 1 << 20;
/// About how large a record of the changelog gets, in bytes.
const PACK_BYTES: usize = 900_000;

/// Where an input stands, as the commit has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Place {
    /// In a file or on standard input.
    Source(source::Position),
    /// In a topic.
    Topic(wasmill_log::Position),
    /// Behind its last record.
    Ended,
}

/// What a task leaves in a commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Saved {
    places: Vec<Place>,
    clocks: Clocks,
    ended: bool,
}

/// An input of a task.
pub(super) enum Feed {
    /// Lines from outside.
    Source(Box<source::Reader>),
    /// A partition of a topic.
    Topic {
        reader: Reader,
        /// Where it ends, for inputs that are bounded by where the topic ended at the start.
        until: Option<u64>,
        /// The position behind what was stepped.
        place: wasmill_log::Position,
    },
    /// Nothing more comes.
    Ended,
}

/// An input and what is known of its silence.
pub(super) struct Input {
    pub(super) feed: Feed,
    /// After how much silence it is idle.
    pub(super) idle_after: Option<Duration>,
    last: Instant,
    idle: bool,
    /// Whether the task has been told of its end.
    told: bool,
    /// A watermark that is being told in parts: producer and watermark. It counts as read when all of
    /// it is told.
    held: Option<(u32, i64)>,
}

impl Input {
    pub(super) fn new(feed: Feed, idle_after: Option<Duration>) -> Self {
        Self { feed, idle_after, last: Instant::now(), idle: false, told: false, held: None }
    }
}

/// A way out: the partitions of its topic, and the task's number as a producer.
pub(super) struct Out {
    pub(super) partitions: Arc<Vec<Partition>>,
    pub(super) producer: u32,
}

/// A task with its inputs and outputs attached.
pub(super) struct Run {
    pub(super) name: String,
    pub(super) sub: usize,
    /// The stage of each node.
    pub(super) stages: Vec<usize>,
    pub(super) task: Task,
    pub(super) inputs: Vec<Input>,
    pub(super) outs: Vec<Out>,
    pub(super) sinks: BTreeMap<usize, sink::Writer>,
    pub(super) changelog: Option<Partition>,
    pub(super) state: Option<State>,
    pub(super) epoch: u64,
    pub(super) batch_records: usize,
    pub(super) progress: Arc<Progress>,
    /// Watermarks that are still to be written, by way out.
    marks: BTreeMap<usize, (i64, bool)>,
    next_input: usize,
    pub(super) ended: bool,
    /// Whether the task waits for its state to be applied.
    pub(super) full: bool,
    /// How many applications of state it has taken note of.
    pub(super) applications: u64,
}

impl Run {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        name: String,
        sub: usize,
        stages: Vec<usize>,
        task: Task,
        outs: Vec<Out>,
        epoch: u64,
        batch_records: usize,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            name,
            sub,
            stages,
            task,
            inputs: Vec::new(),
            outs,
            sinks: BTreeMap::new(),
            changelog: None,
            state: None,
            epoch,
            batch_records,
            progress,
            marks: BTreeMap::new(),
            next_input: 0,
            ended: false,
            full: false,
            applications: 0,
        }
    }

    pub(super) fn restore(&mut self, saved: &Saved) {
        self.task.restore(saved.clocks.clone());
        self.ended = saved.ended;
    }

    /// Does one piece of work. Returns whether there was any.
    pub(super) fn work(&mut self, now: i64) -> Result<bool, Error> {
        if self.ended {
            return Ok(false);
        }
        let mut worked = false;
        // Full of rows that the state file does not have yet: the next cut sees to that.
        self.full = self.task.is_full();
        let inputs = if self.full { 0 } else { self.inputs.len() };
        for _ in 0..inputs {
            let input = self.next_input;
            self.next_input = (input + 1) % self.inputs.len();
            if self.read(input, now)? {
                worked = true;
                break;
            }
        }
        if self.task.next_processing_time().is_some_and(|time| time <= now) {
            self.step(Fact::Tick, now)?;
            worked = true;
        }
        if !worked && !self.full {
            self.write_marks()?;
            self.ended = self.task.is_ended()
                && self.inputs.iter().all(|i| i.told || matches!(i.feed, Feed::Topic { .. }));
        }
        Ok(worked)
    }

    fn step(&mut self, fact: Fact, now: i64) -> Result<(), Error> {
        let effects = self.task.step(fact, now);
        let effects = effects.map_err(|error| Error::Task { task: self.name.clone(), error })?;
        self.bring_about(effects)
    }

    fn bring_about(&mut self, effects: Effects) -> Result<(), Error> {
        for (edge, partition, flow) in effects.appends {
            let out = &self.outs[edge];
            let Flow { timestamps, clocks, keys, values, headers, .. } = flow;
            let records = wasmill_log::Records { timestamps, clocks, keys, values, headers };
            out.partitions[partition as usize].append(self.epoch, out.producer, records)?;
        }
        for (edge, watermark, idle) in effects.clocks {
            self.marks.insert(edge, (watermark, idle));
        }
        for (sink, flow) in effects.sinks {
            let writer = self.sinks.get_mut(&sink).expect("a writer was opened for each sink");
            writer.write(&flow)?;
        }
        Ok(())
    }

    /// Reads some of an input and steps it. Returns whether there was anything.
    fn read(&mut self, index: usize, now: i64) -> Result<bool, Error> {
        let input = &mut self.inputs[index];
        let batch = match &mut input.feed {
            Feed::Ended if input.told => return Ok(false),
            Feed::Ended => {
                let told = self.end(index, now)?;
                self.inputs[index].told = told;
                return Ok(true);
            }
            Feed::Source(reader) => {
                let before = reader.position().byte;
                let batch = reader.read(self.batch_records, READ_BYTES, now)?;
                let after = reader.position().byte;
                if let source::Batch::Records { records, .. } = &batch {
                    self.progress.add(records.offsets.len() as u64, after - before);
                }
                batch
            }
            Feed::Topic { .. } => return self.read_topic(index, now),
        };
        match batch {
            source::Batch::Pending => self.look_idle(index, now).map(|()| false),
            source::Batch::End => {
                self.inputs[index].feed = Feed::Ended;
                Ok(true)
            }
            source::Batch::Records { records, bad } => {
                self.touch(index);
                if !bad.is_empty() {
                    let bad: Vec<_> =
                        bad.into_iter().map(|b| (b.offset, b.value, b.reason)).collect();
                    let effects = self.task.refuse(index, &bad, now);
                    self.bring_about(effects)?;
                }
                if !records.offsets.is_empty() {
                    let fact = Fact::Records { input: index, producer: 0, records };
                    self.step(fact, now)?;
                }
                Ok(true)
            }
        }
    }

    fn read_topic(&mut self, index: usize, now: i64) -> Result<bool, Error> {
        let carried = matches!(self.task.layout().inputs[index].clock, InputClock::Carried(_));
        if let Some((producer, watermark)) = self.inputs[index].held
            && !self.advance(index, producer, watermark, now)?
        {
            return Ok(true);
        }
        let input = &mut self.inputs[index];
        let Feed::Topic { reader, until, place } = &mut input.feed else {
            unreachable!("only called for topics");
        };
        if input.held.take().is_some() {
            *place = reader.position();
        }
        if until.is_some_and(|until| place.offset >= until) {
            self.inputs[index].feed = Feed::Ended;
            return Ok(true);
        }
        let Some((frame, first)) = reader.next()? else {
            self.look_idle(index, now)?;
            return Ok(false);
        };
        if let Body::Watermark { watermark, idle: false } = frame.body
            && carried
        {
            input.held = Some((frame.producer, watermark));
            return Ok(true);
        }
        *place = reader.position();
        match &frame.body {
            Body::Watermark { watermark, idle } => {
                if carried {
                    let (producer, watermark, idle) = (frame.producer, *watermark, *idle);
                    let fact = Fact::Watermark { input: index, producer, watermark, idle };
                    self.step(fact, now)?;
                }
            }
            Body::Records(_) => {
                let end = until.map_or(usize::MAX, |u| (u - frame.base_offset) as usize);
                let producer = frame.producer;
                let records = records_of(frame, first, end, carried);
                if !carried {
                    self.progress.add(records.offsets.len() as u64, 0);
                }
                self.touch(index);
                let fact = Fact::Records { input: index, producer, records };
                self.step(fact, now)?;
            }
        }
        Ok(true)
    }

    fn touch(&mut self, index: usize) {
        let input = &mut self.inputs[index];
        input.idle = false;
        if input.idle_after.is_some() {
            input.last = Instant::now();
        }
    }

    /// Tells the task when an input has been silent for too long.
    fn look_idle(&mut self, index: usize, now: i64) -> Result<(), Error> {
        let input = &mut self.inputs[index];
        let silent = input.idle_after.is_some_and(|after| input.last.elapsed() >= after);
        if input.idle || !silent {
            return Ok(());
        }
        input.idle = true;
        let watermark = WATERMARK_START;
        self.step(Fact::Watermark { input: index, producer: 0, watermark, idle: true }, now)
    }

    /// Moves the watermark of an input on, as far as one step may go. Returns whether it is there.
    fn advance(
        &mut self,
        index: usize,
        producer: u32,
        watermark: i64,
        now: i64,
    ) -> Result<bool, Error> {
        let reach = self.task.reach(index, watermark);
        let reach = reach.map_err(|error| Error::Task { task: self.name.clone(), error })?;
        let fact = Fact::Watermark { input: index, producer, watermark: reach, idle: false };
        self.step(fact, now)?;
        Ok(reach == watermark)
    }

    /// Tells the task that an input has ended. Returns whether all of it is told.
    fn end(&mut self, index: usize, now: i64) -> Result<bool, Error> {
        let producers = match &self.task.layout().inputs[index].clock {
            InputClock::Generated(_) => vec![0],
            InputClock::Carried(producers) => producers.clone(),
        };
        for producer in producers {
            if !self.advance(index, producer, WATERMARK_END, now)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes the watermarks that have changed into every partition of their topics.
    pub(super) fn write_marks(&mut self) -> Result<(), Error> {
        for (edge, (watermark, idle)) in std::mem::take(&mut self.marks) {
            let out = &self.outs[edge];
            for partition in out.partitions.iter() {
                partition.append_watermark(self.epoch, out.producer, watermark, idle)?;
            }
        }
        Ok(())
    }

    /// Ends the epoch: writes what has changed into the changelog and returns where the task
    /// stands.
    pub(super) fn freeze(&mut self) -> Result<Saved, Error> {
        self.write_marks()?;
        let (changes, clocks) = self.task.freeze();
        if let Some(changelog) = &self.changelog {
            for pack in changes.pack(PACK_BYTES) {
                let records = wasmill_log::Records {
                    timestamps: vec![0],
                    clocks: vec![WATERMARK_START],
                    keys: std::iter::once(&b"pack"[..]).collect(),
                    values: std::iter::once(pack.as_slice()).collect(),
                    headers: None,
                };
                changelog.append(self.epoch, 0, records)?;
            }
        }
        self.epoch += 1;
        let places = self
            .inputs
            .iter()
            .map(|input| match &input.feed {
                Feed::Source(reader) => Place::Source(reader.position().clone()),
                Feed::Topic { place, .. } => Place::Topic(*place),
                Feed::Ended => Place::Ended,
            })
            .collect();
        Ok(Saved { places, clocks, ended: self.ended })
    }

    /// Replaces the operator of a stage.
    pub(super) fn replace(&mut self, stage: usize, operator: Operator) {
        let Some(node) = self.stages.iter().position(|s| *s == stage) else { return };
        match (self.task.stages_mut().nth(node), operator) {
            (Some(Stage::Stateless(stage)), Operator::Stateless(new)) => stage.operator = new,
            (Some(Stage::Keyed(stage)), Operator::Keyed(new)) => stage.operator = new,
            _ => tracing::error!(task = self.name, "a plugin can't change its kind"),
        }
    }
}

impl Saved {
    pub(super) fn place(&self, input: usize) -> Option<&Place> {
        self.places.get(input)
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }
}

/// The wanted rows of a frame: moved where they are all of it and nobody else has it, else copied.
fn records_of(frame: Arc<Frame>, first: usize, end: usize, carried: bool) -> Records {
    let base = frame.base_offset;
    let of = frame.records().expect("the caller has looked");
    let (rows, end) = (of.timestamps.len(), end.min(of.timestamps.len()));
    let offsets = (first..end).map(|row| (base + row as u64) as i64).collect();
    let frame = match Arc::try_unwrap(frame) {
        Ok(Frame { body: Body::Records(all), .. }) if (first, end) == (0, rows) => {
            let wasmill_log::Records { timestamps, mut clocks, keys, values, headers } = all;
            if !carried {
                clocks.clear();
            }
            return Records { timestamps, clocks, keys, values, headers, offsets };
        }
        Ok(frame) => Arc::new(frame),
        Err(frame) => frame,
    };
    let of = frame.records().expect("the caller has looked");
    let column = |column: &Column| {
        let mut part = Column::default();
        part.extend_range(column, first..end);
        part
    };
    Records {
        timestamps: of.timestamps[first..end].to_vec(),
        clocks: if carried { of.clocks[first..end].to_vec() } else { Vec::new() },
        keys: column(&of.keys),
        values: column(&of.values),
        headers: of.headers.as_ref().map(|headers| {
            let mut part = Headers::default();
            (first..end).for_each(|row| part.push_row_of(headers, row));
            part
        }),
        offsets,
    }
}
