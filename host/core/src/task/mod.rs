//! A task: the stages between a few input partitions and the topics they write to.
//!
//! Invariant: [`Task::step`] is the only way in and [`Effects`] the only way out. A step either
//! returns all its effects or an error after which the task must be thrown away.

mod clocks;
mod facts;
mod moves;
mod pass;
mod replay;
mod rewrite;
mod time;
mod ways;

use wasmill_abi::{RejectionKind, WATERMARK_END, WATERMARK_START};

use self::clocks::{InputState, NodeState};
use self::pass::Pass;
use self::ways::{Way, ways_in};
use crate::change::Changes;
use crate::flow::{Flow, Source};
use crate::keyed::{self, Error};
use crate::layout::{InputClock, Layout};
use crate::metrics;
use crate::reject::{Original, Rejected, Stamp};
use crate::stateless;

pub use clocks::Clocks;
pub use facts::{Effects, Fact, Records};
pub use replay::Replay;

/// A stage of a task, of either kind.
// A task has a few of them, which don't move.
#[allow(clippy::large_enum_variant)]
pub enum Stage {
    /// Without state.
    Stateless(stateless::Stage),
    /// With state.
    Keyed(Box<keyed::Stage>),
}

impl Stage {
    /// What both kinds have.
    pub fn base(&self) -> &stateless::Base {
        match self {
            Self::Stateless(s) => &s.base,
            Self::Keyed(s) => &s.base,
        }
    }

    /// What both kinds have, to be changed.
    pub fn base_mut(&mut self) -> &mut stateless::Base {
        match self {
            Self::Stateless(s) => &mut s.base,
            Self::Keyed(s) => &mut s.base,
        }
    }

    fn plugin(&self) -> (&str, &str) {
        match self {
            Self::Stateless(s) => (s.operator.plugin(), s.operator.digest()),
            Self::Keyed(s) => (s.operator.plugin(), s.operator.digest()),
        }
    }
}

/// What waits at a stage for the rest of the step.
#[derive(Default)]
struct Inbox {
    flows: Vec<(usize, Flow)>,
    /// The latest watermark and idleness of each way in.
    ends: Vec<(i64, bool)>,
}

/// A task.
pub struct Task {
    layout: Layout,
    nodes: Vec<Option<Stage>>,
    clocks: Clocks,
    /// The first channel of each input; a channel is a producer of an input.
    channels: Vec<usize>,
    /// For each node the number of ways in, and for each target of each source its number there.
    ways_in: Vec<usize>,
    inboxes: Vec<Inbox>,
    now: i64,
}

impl Task {
    /// A task with its stages, in the order of the layout's nodes.
    ///
    /// # Panics
    /// When the number of stages differs from that of the nodes, or a node feeds one before it.
    pub fn new(layout: Layout, stages: Vec<Stage>) -> Self {
        assert_eq!(layout.nodes.len(), stages.len(), "a stage for each node");
        let mut channels = Vec::new();
        let mut count = 0;
        for input in &layout.inputs {
            channels.push(count);
            count += match &input.clock {
                InputClock::Generated(_) => 1,
                InputClock::Carried(producers) => producers.len(),
            };
        }
        let ways_in = ways_in(&layout);
        let clocks = Clocks::new(&layout, &channels, count);
        let inboxes = ways_in
            .iter()
            .map(|n| Inbox { flows: Vec::new(), ends: vec![(WATERMARK_START, false); *n] })
            .collect();
        let nodes = stages.into_iter().map(Some).collect();
        Self { layout, nodes, clocks, channels, ways_in, inboxes, now: 0 }
    }

    /// Continues from what [`Task::freeze`] returned. Inputs and producers that are new since then
    /// start anew; bounds are those of the layout.
    pub fn restore(&mut self, clocks: Clocks) {
        self.clocks.continue_from(clocks, &self.layout);
        for (inbox, state) in self.inboxes.iter_mut().zip(&self.clocks.nodes) {
            for (i, end) in inbox.ends.iter_mut().enumerate() {
                *end = (state.valve.channel(i), state.valve.is_channel_idle(i));
            }
        }
    }

    /// The layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The stages.
    pub fn stages(&self) -> impl Iterator<Item = &Stage> {
        self.nodes.iter().flatten()
    }

    /// The stages, to be changed between two steps.
    pub fn stages_mut(&mut self) -> impl Iterator<Item = &mut Stage> {
        self.nodes.iter_mut().flatten()
    }

    /// The counts of each stage.
    pub fn metrics(&self) -> Vec<metrics::Stage> {
        self.stages().map(|s| s.base().metrics).collect()
    }

    /// The watermark of an input.
    ///
    /// # Panics
    /// When there is no such input.
    pub fn watermark(&self, input: usize) -> i64 {
        self.clocks.inputs[input].valve.watermark()
    }

    /// The watermark behind the last stage, or of the first input where there is no stage.
    pub fn output_watermark(&self) -> i64 {
        let of = |state: &NodeState| {
            let assigned = state.assigners.iter().flatten().map(|a| a.valve.watermark());
            assigned.min().unwrap_or(state.valve.watermark())
        };
        match self.clocks.nodes.iter().map(of).min() {
            Some(watermark) => watermark,
            None => self.clocks.inputs.iter().map(|i| i.valve.watermark()).min().unwrap_or(0),
        }
    }

    /// Takes a fact and the wall clock, and returns what follows.
    ///
    /// # Errors
    /// [`Error`]: the task's memory is in an undefined state and must be built anew from the last
    /// commit.
    ///
    /// # Panics
    /// When the fact names an input that does not exist.
    pub fn step(&mut self, fact: Fact, now: i64) -> Result<Effects, Error> {
        self.now = self.now.max(now);
        let (input, producer) = match &fact {
            Fact::Records { input, producer, .. } | Fact::Watermark { input, producer, .. } => {
                (*input, *producer)
            }
            Fact::Tick => return self.tick(),
            Fact::Release => return self.release(),
        };
        let Some(local) = self.channel(input, producer) else { return Ok(Effects::default()) };
        let channel = self.channels[input] + local;
        let (flow, source) = match fact {
            Fact::Records { records, .. } => self.enter(input, local, records),
            Fact::Watermark { watermark, idle, .. } => {
                self.mark(input, local, watermark, idle);
                (Flow::default(), self.source(input, Vec::new()))
            }
            Fact::Tick | Fact::Release => unreachable!("returned above"),
        };
        let state = &self.clocks.inputs[input];
        let end = (state.valve.watermark(), state.valve.is_idle());
        let mut pass = Pass { source: &source, channel, effects: Effects::default() };
        if let Some(edge) = self.layout.inputs[input].unreadable {
            self.leave(edge, Flow::default(), end, &mut pass);
        }
        let targets = self.layout.inputs[input].targets.clone();
        self.send(&targets, Way::Input(input), flow, end, &mut pass)?;
        self.run_nodes(&mut pass, Some(input))?;
        Ok(self.finish(pass))
    }

    /// Sends what an input can't read as records to its dead letter queue: offset, bytes, reason.
    pub fn refuse(
        &mut self,
        input: usize,
        unreadable: &[(i64, Vec<u8>, String)],
        now: i64,
    ) -> Effects {
        self.now = self.now.max(now);
        let source = self.source(input, unreadable.iter().map(|u| u.0).collect());
        let Some(edge) = self.layout.inputs[input].unreadable else { return Effects::default() };
        let mut rejected = Rejected::default();
        let (kind, clock) = (RejectionKind::Malformed, self.watermark(input));
        for (row, (_, value, reason)) in unreadable.iter().enumerate() {
            let stage = &source.topic;
            let stamp =
                Stamp { stage, plugin: "", digest: "", source: &source, reason_bytes: 4096 };
            let record = Original {
                value: Some(value),
                timestamp: self.now,
                clock,
                row: row as u32,
                ..Original::default()
            };
            rejected.add(kind, "unreadable", reason.as_bytes(), stamp, record);
        }
        let mut pass = Pass { source: &source, channel: 0, effects: Effects::default() };
        let end = (clock, false);
        for flow in rejected.by_kind {
            self.leave(edge, flow, end, &mut pass);
        }
        self.finish(pass)
    }

    fn tick(&mut self) -> Result<Effects, Error> {
        let source = Source::default();
        let mut pass = Pass { source: &source, channel: 0, effects: Effects::default() };
        self.run_nodes(&mut pass, None)?;
        Ok(self.finish(pass))
    }

    fn source(&self, input: usize, offsets: Vec<i64>) -> Source {
        let input = &self.layout.inputs[input];
        Source { topic: input.name.clone(), partition: input.partition, offsets }
    }

    /// The number of a producer among the channels of an input; none for one that is not of it.
    fn channel(&self, input: usize, producer: u32) -> Option<usize> {
        match &self.layout.inputs[input].clock {
            InputClock::Generated(_) => Some(0),
            InputClock::Carried(producers) => producers.iter().position(|p| *p == producer),
        }
    }

    /// Gives each record the watermark that holds before it.
    fn enter(&mut self, input: usize, channel: usize, records: Records) -> (Flow, Source) {
        let Records { timestamps, clocks: carried, keys, values, headers, offsets } = records;
        let source = self.source(input, offsets);
        let InputState { valve, generator } = &mut self.clocks.inputs[input];
        if valve.channel(channel) != WATERMARK_END {
            valve.set_active(channel);
        }
        let mut clocks = Vec::with_capacity(timestamps.len());
        match generator {
            Some(generator) => {
                for timestamp in &timestamps {
                    clocks.push(valve.watermark());
                    generator.see(*timestamp);
                    valve.advance(channel, generator.watermark());
                }
            }
            None => {
                for clock in carried {
                    valve.advance(channel, clock);
                    clocks.push(valve.watermark());
                }
            }
        }
        let rows = (0..timestamps.len() as u32).collect();
        (Flow { timestamps, clocks, ports: Vec::new(), keys, values, headers, rows }, source)
    }

    fn mark(&mut self, input: usize, channel: usize, watermark: i64, idle: bool) {
        let InputState { valve, generator } = &mut self.clocks.inputs[input];
        if idle {
            valve.advance(channel, watermark);
            valve.set_idle(channel);
            return;
        }
        valve.set_active(channel);
        match generator {
            Some(generator) if watermark == WATERMARK_END => {
                generator.end();
                valve.advance(channel, WATERMARK_END);
            }
            _ => {
                valve.advance(channel, watermark);
            }
        }
    }

    /// Ends the epoch: `changes` are what has changed, in order, and no longer what they were before.
    /// Returns what of time must be remembered.
    pub fn freeze(&mut self, changes: &mut Changes) -> Clocks {
        changes.clear();
        for stage in self.nodes.iter_mut().flatten() {
            if let Stage::Keyed(stage) = stage {
                stage.freeze(changes);
            }
        }
        changes.sort();
        self.clocks.clone()
    }

    /// The store has applied everything up to this epoch.
    pub fn applied(&mut self, epoch: u64) {
        for stage in self.nodes.iter_mut().flatten() {
            if let Stage::Keyed(stage) = stage {
                stage.applied(epoch);
            }
        }
    }

    /// From now on each keyed stage has so many bytes of memory for its keys. To be called between
    /// two steps.
    pub fn set_budget(&mut self, bytes: usize) {
        for stage in self.stages_mut() {
            if let Stage::Keyed(stage) = stage {
                stage.keys.set_budget(bytes);
            }
        }
    }

    /// Whether memory is short because too much waits to be applied.
    pub fn is_pressed(&self) -> bool {
        self.stages().any(|s| matches!(s, Stage::Keyed(s) if s.keys.is_pressed()))
    }

    /// Whether memory is full: nothing more should be read until the store has caught up.
    pub fn is_full(&self) -> bool {
        self.stages().any(|s| matches!(s, Stage::Keyed(s) if s.keys.is_full()))
    }

    /// Bytes of keyed state in memory, about.
    pub fn state_bytes(&self) -> usize {
        self.stages().map(|s| if let Stage::Keyed(s) = s { s.keys.bytes() } else { 0 }).sum()
    }
}
