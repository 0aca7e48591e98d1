//! A task with its inputs and outputs attached.
//!
//! Invariant: between two freezes every record that was read has been stepped and all that followed
//! has been appended; nothing is held back but watermarks, and those are written before the freeze.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wasmill_abi::{WATERMARK_END, WATERMARK_START};
use wasmill_core::change::Changes;
use wasmill_core::flow::Flow;
use wasmill_core::layout::InputClock;
use wasmill_core::operator::Operator;
use wasmill_core::task::{Clocks, Effects, Fact, Stage, Task};

use super::Error;
use super::feed::{Feed, Piece, Place};
use super::pieces::Pieces;
use super::report::Progress;
use crate::sink;

/// What a task leaves in a commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Saved {
    places: Vec<Place>,
    clocks: Clocks,
    ended: bool,
    /// Its epoch: how many it had frozen by then. What it gave in later ones is not in this commit.
    #[serde(default)]
    epoch: u64,
    /// How many bytes its changelog has had since what is needed of it begins.
    #[serde(default)]
    logged: u64,
}

/// Where what a task gives goes.
pub(super) trait Outlet {
    /// Takes records for a partition of the topic behind a way out.
    fn append(&mut self, edge: usize, partition: u32, flow: Flow) -> Result<(), Error>;

    /// Takes a watermark for every partition of the topic behind a way out.
    fn mark(&mut self, edge: usize, watermark: i64, idle: bool) -> Result<(), Error>;
}

/// An input and what is known of its silence.
pub(super) struct Input<F> {
    /// None when it has ended.
    pub(super) feed: Option<F>,
    /// Behind what has been stepped.
    place: Place,
    /// After how much silence it is idle.
    idle_after: Option<Duration>,
    last: Instant,
    idle: bool,
    /// Whether the task has been told of its end.
    told: bool,
    /// A watermark that is being told in parts: producer and watermark. It counts as read when all of
    /// it is told.
    held: Option<(u32, i64)>,
}

impl<F: Feed> Input<F> {
    pub(super) fn new(feed: F, idle_after: Option<Duration>) -> Self {
        let place = feed.place();
        Self::with(Some(feed), place, idle_after)
    }

    /// One that has ended before.
    pub(super) fn ended() -> Self {
        Self::with(None, Place::Ended, None)
    }

    fn with(feed: Option<F>, place: Place, idle_after: Option<Duration>) -> Self {
        let last = Instant::now();
        Self { feed, place, idle_after, last, idle: false, told: false, held: None }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }
}

/// A task with its inputs and outputs attached.
pub(super) struct Run<F, O> {
    pub(super) name: String,
    pub(super) sub: usize,
    /// The stage of each node.
    pub(super) stages: Vec<usize>,
    pub(super) task: Task,
    pub(super) inputs: Vec<Input<F>>,
    pub(super) outlet: O,
    pub(super) sinks: BTreeMap<usize, sink::Writer>,
    pub(super) batch_records: usize,
    pieces: Pieces,
    pub(super) progress: Arc<Progress>,
    /// Watermarks that are still to be written, by way out.
    marks: BTreeMap<usize, (i64, bool)>,
    next_input: usize,
    pub(super) ended: bool,
    /// The epoch of what it does now: the number of the freeze to come, over all its life.
    pub(super) epoch: u64,
    /// Whether the task waits for its state to be applied.
    pub(super) full: bool,
}

impl<F: Feed, O: Outlet> Run<F, O> {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        name: String,
        sub: usize,
        stages: Vec<usize>,
        task: Task,
        outlet: O,
        batch_records: usize,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            pieces: Pieces::of(&name),
            name,
            sub,
            stages,
            task,
            inputs: Vec::new(),
            outlet,
            sinks: BTreeMap::new(),
            batch_records,
            progress,
            marks: BTreeMap::new(),
            next_input: 0,
            ended: false,
            epoch: 1,
            full: false,
        }
    }

    pub(super) fn restore(&mut self, saved: &Saved) {
        self.task.restore(saved.clocks.clone());
        self.ended = saved.ended;
        self.epoch = saved.epoch + 1;
    }

    /// Does one piece of work. Returns whether there was any.
    pub(super) fn work(&mut self, now: i64) -> Result<bool, Error> {
        if self.ended {
            return Ok(false);
        }
        let mut worked = false;
        // Full of rows that the state file does not have yet: the next cut sees to that.
        self.full = self.task.is_full();
        if !self.full && self.task.is_held() {
            self.step(Fact::Release, now)?;
            return Ok(true);
        }
        let inputs = if self.full { 0 } else { self.inputs.len() };
        for _ in 0..inputs {
            let input = self.next_input;
            self.next_input = (input + 1) % self.inputs.len();
            if self.read(input, now)? {
                worked = true;
                break;
            }
        }
        let next = self.task.next_processing_time(now);
        let next = next.map_err(|error| Error::Task { task: self.name.clone(), error })?;
        if next.is_some_and(|time| time <= now) {
            self.step(Fact::Tick, now)?;
            worked = true;
        }
        if !worked && !self.full {
            self.write_marks()?;
            // An input from a topic ends by the watermark that says so.
            self.ended = self.task.is_ended()
                && self
                    .inputs
                    .iter()
                    .all(|i| i.told || (i.feed.is_some() && !matches!(i.place, Place::Source(_))));
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
            self.outlet.append(edge, partition, flow)?;
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
        if self.inputs[index].feed.is_none() {
            let already = self.inputs[index].told;
            if !already {
                self.inputs[index].told = self.end(index, now)?;
            }
            return Ok(!already);
        }
        if let Some((producer, watermark)) = self.inputs[index].held {
            if !self.advance(index, producer, watermark, now)? {
                return Ok(true);
            }
            self.inputs[index].held = None;
            self.arrive(index);
        }
        let input = &mut self.inputs[index];
        let feed = input.feed.as_mut().expect("looked at above");
        match feed.next(self.pieces.next(self.batch_records), now)? {
            Piece::Pending => {
                // What was passed over may be no record.
                self.arrive(index);
                return self.look_idle(index, now).map(|()| false);
            }
            Piece::End => {
                input.feed = None;
                input.place = Place::Ended;
                return Ok(true);
            }
            Piece::Watermark { producer, watermark, idle: false } => {
                input.held = Some((producer, watermark));
                return Ok(true);
            }
            Piece::Watermark { producer, watermark, idle } => {
                self.step(Fact::Watermark { input: index, producer, watermark, idle }, now)?;
            }
            Piece::Records { producer, records, bad, read } => {
                if let Some(bytes) = read {
                    self.progress.add(records.offsets.len() as u64, bytes);
                }
                self.touch(index);
                if !bad.is_empty() {
                    let bad: Vec<_> =
                        bad.into_iter().map(|b| (b.offset, b.value, b.reason)).collect();
                    let effects = self.task.refuse(index, &bad, now);
                    self.bring_about(effects)?;
                }
                if !records.offsets.is_empty() {
                    self.step(Fact::Records { input: index, producer, records }, now)?;
                }
            }
        }
        self.arrive(index);
        Ok(true)
    }

    /// Notes that everything that an input has given is stepped.
    fn arrive(&mut self, index: usize) {
        let input = &mut self.inputs[index];
        if let Some(feed) = &input.feed {
            input.place = feed.place();
        }
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
            self.outlet.mark(edge, watermark, idle)?;
        }
        Ok(())
    }

    /// Ends the epoch: writes watermarks, and returns where the task stands. `changes` are then what
    /// has changed.
    pub(super) fn freeze(&mut self, changes: &mut Changes) -> Result<Saved, Error> {
        self.write_marks()?;
        let clocks = self.task.freeze(changes);
        let places = self.inputs.iter().map(|input| input.place.clone()).collect();
        let epoch = self.epoch;
        self.epoch += 1;
        Ok(Saved { places, clocks, ended: self.ended, epoch, logged: 0 })
    }

    /// An error of the task's state.
    pub(super) fn store_error(&self, error: wasmill_core::store::Error) -> Error {
        let stage = self.name.clone();
        let error = wasmill_core::keyed::Error::Store { stage, error };
        Error::Task { task: self.name.clone(), error }
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

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn logged(&self) -> u64 {
        self.logged
    }

    pub(super) fn set_logged(&mut self, bytes: u64) {
        self.logged = bytes;
    }

    /// The same, with an input at another place.
    pub(super) fn set_place(&mut self, input: usize, place: Place) {
        self.places[input] = place;
    }
}
