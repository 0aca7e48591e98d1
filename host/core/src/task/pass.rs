//! One step through the stages of a task: from an input, over the stages that it reaches, to the
//! ways out.
//!
//! Invariant: a stage runs on what it gets at once where it has one way in; where it has several,
//! after all of them, in the order of the layout.

use super::facts::Effects;
use super::moves::{advance, drop_old, merge, note};
use super::ways::{Way, all_ways};
use super::{Stage, Task};
use crate::flow::{Flow, Source};
use crate::keyed::{Error, Work};
use crate::layout::{Node, Target};
use crate::reject::Rejected;
use crate::route;
use crate::stateless::{Outputs, Step};

/// The ways out that a task has just told something.
pub(super) struct Pass<'a> {
    pub(super) source: &'a Source,
    /// The channel whose records these are.
    pub(super) channel: usize,
    pub(super) effects: Effects,
}

impl Task {
    /// Sends a flow to its targets; the last one gets it without a copy.
    pub(super) fn send(
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
    pub(super) fn run_nodes(
        &mut self,
        pass: &mut Pass<'_>,
        input: Option<usize>,
    ) -> Result<(), Error> {
        for node in 0..self.nodes.len() {
            let runs = match (&mut self.nodes[node], input) {
                (_, Some(_)) => self.ways_in[node] > 1,
                (Some(Stage::Keyed(stage)), None) => {
                    stage.next_processing_time(self.now)?.is_some_and(|time| time <= self.now)
                }
                _ => false,
            };
            if !runs {
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
                let most = stage.base.limits.batch_records;
                let mut from = 0;
                while flow.len() - from > most {
                    let part = flow.slice(from..from + most);
                    from += most;
                    let outputs = stage.run(part, step)?;
                    // Before the next record holds its clock.
                    self.give(index, node, outputs, (flow.clocks[from], end.1), pass)?;
                }
                let rest = if from == 0 { flow } else { flow.slice(from..flow.len()) };
                let outputs = stage.run(rest, step)?;
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
            let end = self.clocks.ended(&self.channels, (index, port), end);
            self.send(&output.targets, Way::Node(index, port), flow, end, pass)?;
        }
        Ok(())
    }

    fn reject(&mut self, node: &Node, rejected: Rejected, end: (i64, bool), pass: &mut Pass<'_>) {
        for (kind, flow) in rejected.by_kind.into_iter().enumerate() {
            self.leave(node.rejects[kind], flow, end, pass);
        }
    }

    pub(super) fn leave(
        &mut self,
        index: usize,
        flow: Flow,
        end: (i64, bool),
        pass: &mut Pass<'_>,
    ) {
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
    pub(super) fn finish(&mut self, mut pass: Pass<'_>) -> Effects {
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
}
