//! A task: the stages between a few input partitions and the topics they write to.
//!
//! Invariant: [`Task::step`] is the only way in and [`Effects`] the only way out. A step either
//! returns all its effects or an error after which the task must be thrown away.

use serde::{Deserialize, Serialize};
use wasmill_abi::{Column, Headers, RejectionKind, WATERMARK_END, WATERMARK_START};

use crate::change::Changes;
use crate::clock::{Generator, Valve};
use crate::flow::{Flow, Source};
use crate::keyed::{self, Error, Work};
use crate::layout::{Edge, InputClock, Layout, Node, Target};
use crate::metrics;
use crate::reject::{Original, Rejected, Stamp};
use crate::route;
use crate::stateless::{self, Outputs, Step, original};
use crate::store::Index;

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
    /// A watermark of a producer.
    Watermark {
        /// The input's index.
        input: usize,
        /// Who says so; ignored for inputs whose watermarks are generated.
        producer: u32,
        /// The watermark; [`WATERMARK_END`] when nothing more comes.
        watermark: i64,
        /// Whether the producer has stepped aside until it has more.
        idle: bool,
    },
    /// Time has passed.
    Tick,
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

/// What a task must remember of time from commit to commit, besides its keyed state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    inputs: Vec<InputState>,
    nodes: Vec<NodeState>,
    /// The watermark and idleness that each way out has been told.
    edges: Vec<(i64, bool)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct InputState {
    valve: Valve,
    /// One for an input whose watermarks are generated.
    generator: Option<Generator>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct NodeState {
    /// Over the ways in.
    valve: Valve,
    /// For each output that assigns event time: a generator for each channel of the task.
    assigners: Vec<Option<Assigner>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Assigner {
    generators: Vec<Generator>,
    valve: Valve,
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

/// The ways out that a task has just told something.
struct Pass<'a> {
    source: &'a Source,
    /// The channel whose records these are.
    channel: usize,
    effects: Effects,
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
        let reaches = reaches(&layout);
        let clocks = Clocks {
            inputs: layout
                .inputs
                .iter()
                .map(|input| match &input.clock {
                    InputClock::Generated(policy) => InputState {
                        valve: Valve::new(1),
                        generator: Some(Generator::new(*policy)),
                    },
                    InputClock::Carried(producers) => {
                        InputState { valve: Valve::new(producers.len()), generator: None }
                    }
                })
                .collect(),
            nodes: layout
                .nodes
                .iter()
                .enumerate()
                .map(|(i, node)| NodeState {
                    valve: Valve::new(ways_in[i]),
                    assigners: node
                        .outputs
                        .iter()
                        .map(|output| {
                            output.assigns.map(|policy| {
                                let mut valve = Valve::new(count);
                                for (input, first) in channels.iter().enumerate() {
                                    let next = channels.get(input + 1).unwrap_or(&count);
                                    if !reaches[i].contains(&input) {
                                        for channel in *first..*next {
                                            valve.set_idle(channel);
                                        }
                                    }
                                }
                                Assigner { generators: vec![Generator::new(policy); count], valve }
                            })
                        })
                        .collect(),
                })
                .collect(),
            edges: vec![(WATERMARK_START, false); layout.edges.len()],
        };
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
        for (state, old) in self.clocks.inputs.iter_mut().zip(clocks.inputs) {
            if state.valve.len() == old.valve.len() {
                state.valve = old.valve;
                state.generator = old.generator.or(state.generator.take());
            }
        }
        for (state, old) in self.clocks.nodes.iter_mut().zip(clocks.nodes) {
            if state.valve.len() == old.valve.len() {
                state.valve = old.valve;
            }
            for (state, old) in state.assigners.iter_mut().zip(old.assigners) {
                if let (Some(state), Some(old)) = (state, old)
                    && state.valve.len() == old.valve.len()
                {
                    *state = old;
                }
            }
        }
        for (i, input) in self.layout.inputs.iter().enumerate() {
            if let (InputClock::Generated(policy), Some(g)) =
                (&input.clock, &mut self.clocks.inputs[i].generator)
            {
                g.set_bound(*policy);
            }
        }
        for (edge, old) in self.clocks.edges.iter_mut().zip(clocks.edges) {
            *edge = old;
        }
        for (inbox, state) in self.inboxes.iter_mut().zip(&self.clocks.nodes) {
            for (i, end) in inbox.ends.iter_mut().enumerate() {
                *end = (state.valve.channel(i), false);
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

    /// Whether every input has ended.
    pub fn is_ended(&self) -> bool {
        self.clocks.inputs.iter().all(|i| i.valve.is_ended())
    }

    /// When the next processing-time timer is due, as far as memory knows.
    pub fn next_processing_time(&self) -> Option<i64> {
        let keyed = self.stages().filter_map(|s| match s {
            Stage::Keyed(s) => s.keys.first(Index::ProcessingTime),
            Stage::Stateless(_) => None,
        });
        keyed.min()
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
        };
        let Some(local) = self.channel(input, producer) else { return Ok(Effects::default()) };
        let channel = self.channels[input] + local;
        let (flow, source) = match fact {
            Fact::Records { records, .. } => self.enter(input, local, records),
            Fact::Watermark { watermark, idle, .. } => {
                self.mark(input, local, watermark, idle);
                (Flow::default(), self.source(input, Vec::new()))
            }
            Fact::Tick => unreachable!("returned above"),
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
            // The watermark of a generated input is the generator's own.
            Some(_) => {}
            None => {
                valve.advance(channel, watermark);
            }
        }
    }

    /// Sends a flow to its targets; the last one gets it without a copy.
    fn send(
        &mut self,
        targets: &[Target],
        way: Way,
        flow: Flow,
        end: (i64, bool),
        pass: &mut Pass<'_>,
    ) -> Result<(), Error> {
        let mut flow = Some(flow);
        for (i, target) in targets.iter().enumerate() {
            let last = i + 1 == targets.len();
            let flow = if last { flow.take() } else { flow.clone() };
            let flow = flow.expect("taken for the last target only");
            match *target {
                Target::Node { node, port } => {
                    self.deliver(node, self.way(node, way, i), port, flow, end, pass)?;
                }
                Target::Edge(edge) => self.leave(edge, flow, end, pass),
                Target::Sink(sink) if !flow.is_empty() => pass.effects.sinks.push((sink, flow)),
                Target::Sink(_) => {}
            }
        }
        Ok(())
    }

    /// The number of a way into a node: targets are counted in the order of the layout.
    fn way(&self, node: usize, way: Way, target: usize) -> usize {
        if self.ways_in[node] == 1 {
            return 0;
        }
        let here = |(w, t, n): &(Way, usize, usize)| (*w, *t, *n) == (way, target, node);
        let all = all_ways(&self.layout);
        let before: Vec<_> = all.into_iter().filter(|(_, _, n)| *n == node).collect();
        before.iter().position(here).expect("the target is in the layout")
    }

    fn deliver(
        &mut self,
        node: usize,
        way: usize,
        port: u8,
        mut flow: Flow,
        end: (i64, bool),
        pass: &mut Pass<'_>,
    ) -> Result<(), Error> {
        flow.ports = if port == 0 { Vec::new() } else { vec![port; flow.len()] };
        self.inboxes[node].ends[way] = end;
        if self.ways_in[node] > 1 {
            // What comes by several ways in one step is put into order first.
            if !flow.is_empty() {
                self.inboxes[node].flows.push((way, flow));
            }
            return Ok(());
        }
        let valve = &mut self.clocks.nodes[node].valve;
        advance(valve, 0, end);
        let end = (valve.watermark(), valve.is_idle());
        self.run_node(node, flow, end, pass)
    }

    /// Runs the stages that have several ways in, and those whose timers are due by the wall clock.
    fn run_nodes(&mut self, pass: &mut Pass<'_>, input: Option<usize>) -> Result<(), Error> {
        for node in 0..self.nodes.len() {
            let due = match &self.nodes[node] {
                Some(Stage::Keyed(s)) => s.keys.any_due(Index::ProcessingTime, self.now),
                _ => false,
            };
            let several = self.ways_in[node] > 1 && input.is_some();
            if !several && !(due && input.is_none()) {
                continue;
            }
            let flows = std::mem::take(&mut self.inboxes[node].flows);
            let flow = merge(flows, &mut self.clocks.nodes[node].valve);
            for way in 0..self.ways_in[node] {
                let end = self.inboxes[node].ends[way];
                advance(&mut self.clocks.nodes[node].valve, way, end);
            }
            let valve = &self.clocks.nodes[node].valve;
            let end = (valve.watermark(), valve.is_idle());
            self.run_node(node, flow, end, pass)?;
        }
        Ok(())
    }

    fn run_node(
        &mut self,
        index: usize,
        flow: Flow,
        end: (i64, bool),
        pass: &mut Pass<'_>,
    ) -> Result<(), Error> {
        let mut stage = self.nodes[index].take().expect("a stage runs once at a time");
        let node = self.layout.nodes[index].clone();
        let result = self.run_stage(&mut stage, index, &node, flow, end, pass);
        self.nodes[index] = Some(stage);
        result
    }

    fn run_stage(
        &mut self,
        stage: &mut Stage,
        index: usize,
        node: &Node,
        flow: Flow,
        end: (i64, bool),
        pass: &mut Pass<'_>,
    ) -> Result<(), Error> {
        let flow = match node.max_age_ms {
            Some(max_age) if !flow.is_empty() => {
                let (flow, expired) = drop_old(stage, flow, max_age, pass.source);
                self.reject(node, expired, end, pass);
                flow
            }
            _ => flow,
        };
        let step = Step { now: self.now, source: pass.source };
        match stage {
            Stage::Stateless(stage) => {
                let outputs = stage.run(flow, step)?;
                self.give(index, node, outputs, end, pass)
            }
            Stage::Keyed(stage) => {
                let mut work = Work::new(flow, end.0);
                while let Some((outputs, clock)) = stage.next(&mut work, step)? {
                    self.give(index, node, outputs, (clock, end.1), pass)?;
                }
                Ok(())
            }
        }
    }

    /// Hands on what a stage has given.
    fn give(
        &mut self,
        index: usize,
        node: &Node,
        outputs: Outputs,
        end: (i64, bool),
        pass: &mut Pass<'_>,
    ) -> Result<(), Error> {
        self.reject(node, outputs.rejected, end, pass);
        for (port, mut flow) in outputs.ports.into_iter().enumerate() {
            let output = &node.outputs[port];
            let end = match &mut self.clocks.nodes[index].assigners[port] {
                Some(assigner) => assigner.assign(&mut flow, pass.channel),
                None => end,
            };
            let end = self.ended(index, port, end);
            self.send(&output.targets, Way::Node(index, port), flow, end, pass)?;
        }
        Ok(())
    }

    /// The end and the idleness of inputs also hold behind an output that assigns event time.
    fn ended(&mut self, index: usize, port: usize, end: (i64, bool)) -> (i64, bool) {
        let Some(assigner) = &mut self.clocks.nodes[index].assigners[port] else { return end };
        for (i, input) in self.clocks.inputs.iter().enumerate() {
            for local in 0..input.valve.len() {
                let channel = self.channels[i] + local;
                if input.valve.channel(local) == WATERMARK_END {
                    assigner.generators[channel].end();
                    // Inputs that don't reach the stage are idle in its valve; their end is nothing.
                    assigner.valve.advance(channel, WATERMARK_END);
                }
            }
            if input.valve.is_idle() {
                for local in 0..input.valve.len() {
                    assigner.valve.set_idle(self.channels[i] + local);
                }
            }
        }
        (assigner.valve.watermark(), assigner.valve.is_idle())
    }

    fn reject(&mut self, node: &Node, rejected: Rejected, end: (i64, bool), pass: &mut Pass<'_>) {
        for (kind, flow) in rejected.by_kind.into_iter().enumerate() {
            self.leave(node.rejects[kind], flow, end, pass);
        }
    }

    fn leave(&mut self, index: usize, flow: Flow, end: (i64, bool), pass: &mut Pass<'_>) {
        let edge = &self.layout.edges[index];
        if edge.marks {
            note(&mut pass.effects.clocks, index, end);
        }
        if flow.is_empty() {
            return;
        }
        let (flow, unkeyed) = route::rekey(flow, edge, pass.source);
        let partitions = edge.partitions;
        let rejects = edge.unkeyed.as_ref().map(|(edge, _)| *edge);
        for (partition, flow) in route::split(flow, partitions, pass.source) {
            pass.effects.appends.push((index, partition, flow));
        }
        if let Some(edge) = rejects.filter(|_| !unkeyed.is_empty()) {
            for flow in unkeyed.by_kind {
                self.leave(edge, flow, end, pass);
            }
        }
    }

    /// Leaves out the watermarks that every way out has been told already.
    fn finish(&mut self, mut pass: Pass<'_>) -> Effects {
        let told = &mut self.clocks.edges;
        pass.effects.clocks.retain(|(edge, watermark, idle)| {
            let before = told[*edge];
            let now = (before.0.max(*watermark), *idle);
            told[*edge] = now;
            now != before
        });
        for (edge, watermark, _) in &mut pass.effects.clocks {
            *watermark = told[*edge].0;
        }
        pass.effects
    }

    /// Ends the epoch: what has changed, and what of time must be remembered.
    pub fn freeze(&mut self) -> (Changes, Clocks) {
        let mut changes = Changes::default();
        for stage in self.nodes.iter_mut().flatten() {
            if let Stage::Keyed(stage) = stage {
                let epoch = stage.keys.epoch();
                stage.keys.freeze(&mut changes);
                stage.maps().freeze(epoch, &mut changes);
            }
        }
        changes.sort();
        (changes, self.clocks.clone())
    }

    /// The store has applied everything up to this epoch.
    pub fn applied(&mut self, epoch: u64) {
        for stage in self.nodes.iter_mut().flatten() {
            if let Stage::Keyed(stage) = stage {
                stage.keys.applied(epoch);
                stage.maps().applied(epoch);
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

/// Where a target hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Input(usize),
    Node(usize, usize),
}

/// Every way into a node: where it hangs, its number among the targets there, the node.
fn all_ways(layout: &Layout) -> Vec<(Way, usize, usize)> {
    let inputs = layout.inputs.iter().enumerate().map(|(i, x)| (Way::Input(i), &x.targets));
    let nodes = layout.nodes.iter().enumerate().flat_map(|(i, x)| {
        x.outputs.iter().enumerate().map(move |(port, o)| (Way::Node(i, port), &o.targets))
    });
    let mut ways = Vec::new();
    for (way, targets) in inputs.chain(nodes) {
        for (t, target) in targets.iter().enumerate() {
            if let Target::Node { node, .. } = target {
                ways.push((way, t, *node));
            }
        }
    }
    ways
}

fn ways_in(layout: &Layout) -> Vec<usize> {
    let mut counts = vec![0; layout.nodes.len()];
    for (way, _, node) in all_ways(layout) {
        if let Way::Node(from, _) = way {
            assert!(from < node, "nodes are in topological order");
        }
        counts[node] += 1;
    }
    counts
}

/// The inputs whose records reach each node.
fn reaches(layout: &Layout) -> Vec<std::collections::BTreeSet<usize>> {
    let mut reaches = vec![std::collections::BTreeSet::new(); layout.nodes.len()];
    for (way, _, node) in all_ways(layout) {
        match way {
            Way::Input(input) => drop(reaches[node].insert(input)),
            Way::Node(from, _) => {
                let above = reaches[from].clone();
                reaches[node].extend(above);
            }
        }
    }
    reaches
}

fn advance(valve: &mut Valve, way: usize, (watermark, idle): (i64, bool)) {
    if idle {
        valve.advance(way, watermark);
        valve.set_idle(way);
    } else {
        valve.set_active(way);
        valve.advance(way, watermark);
    }
}

/// Merges what came by several ways: by clock, then row, then way. Each record gets the watermark
/// over all ways.
fn merge(flows: Vec<(usize, Flow)>, valve: &mut Valve) -> Flow {
    let mut all = Flow::default();
    let mut ways = Vec::new();
    for (way, flow) in &flows {
        all.append(flow);
        ways.resize(all.len(), *way);
    }
    let mut order: Vec<u32> = (0..all.len() as u32).collect();
    order.sort_by_key(|i| (all.clocks[*i as usize], all.rows[*i as usize]));
    let mut merged = all.gather(&order);
    for (i, from) in order.iter().enumerate() {
        valve.set_active(ways[*from as usize]);
        valve.advance(ways[*from as usize], merged.clocks[i]);
        merged.clocks[i] = valve.watermark();
    }
    merged
}

/// Takes out what is older than the stage wants to see.
fn drop_old(stage: &mut Stage, flow: Flow, max_age: i64, source: &Source) -> (Flow, Rejected) {
    let mut rejected = Rejected::default();
    let is_old = |i: usize| {
        flow.clocks[i] != WATERMARK_END
            && flow.timestamps[i] < flow.clocks[i].saturating_sub(max_age)
    };
    let keep: Vec<u32> = (0..flow.len()).filter(|i| !is_old(*i)).map(|i| i as u32).collect();
    if keep.len() == flow.len() {
        return (flow, rejected);
    }
    let kind = RejectionKind::Expired;
    for i in (0..flow.len()).filter(|i| is_old(*i)) {
        let behind = flow.clocks[i].saturating_sub(flow.timestamps[i]);
        let reason = format!("{behind} ms behind the watermark, max-age is {max_age} ms");
        let (plugin, digest) = stage.plugin();
        let name = &stage.base().name;
        let reason_bytes = stage.base().limits.reason_bytes;
        let stamp = Stamp { stage: name, plugin, digest, source, reason_bytes };
        rejected.add(kind, kind.name(), reason.as_bytes(), stamp, original(&flow, i));
    }
    let base = stage.base_mut();
    let dropped = (flow.len() - keep.len()) as u64;
    base.metrics.records_in += dropped;
    base.metrics.expired += dropped;
    (flow.gather(&keep), rejected)
}

impl Assigner {
    /// Generates watermarks from the timestamps that a stage has just assigned.
    fn assign(&mut self, flow: &mut Flow, channel: usize) -> (i64, bool) {
        if !flow.is_empty() && self.valve.channel(channel) != WATERMARK_END {
            self.valve.set_active(channel);
        }
        let generator = &mut self.generators[channel];
        for i in 0..flow.len() {
            flow.clocks[i] = self.valve.watermark();
            generator.see(flow.timestamps[i]);
            self.valve.advance(channel, generator.watermark());
        }
        (self.valve.watermark(), self.valve.is_idle())
    }
}

fn note(clocks: &mut Vec<(usize, i64, bool)>, edge: usize, end: (i64, bool)) {
    match clocks.iter_mut().find(|(e, ..)| *e == edge) {
        Some(known) => *known = (edge, known.1.max(end.0), end.1),
        None => clocks.push((edge, end.0, end.1)),
    }
}

impl Edge {
    /// A way out that keeps keys.
    pub fn to(topic: usize, partitions: u32, marks: bool) -> Self {
        Self { topic, partitions, key_by: None, unkeyed: None, marks }
    }
}
