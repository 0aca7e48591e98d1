//! What of event time a task remembers: watermarks of its inputs, of the ways into its stages and of
//! the outputs that assign event time.
//!
//! Invariant: it is plain data that a commit keeps, and advances by records and watermarks alone.

use serde::{Deserialize, Serialize};
use wasmill_abi::{WATERMARK_END, WATERMARK_START};

use super::ways;
use crate::clock::{Generator, Valve};
use crate::flow::Flow;
use crate::layout::{InputClock, Layout};

/// What a task must remember of time from commit to commit, besides its keyed state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    pub(super) inputs: Vec<InputState>,
    pub(super) nodes: Vec<NodeState>,
    /// The watermark and idleness that each way out has been told.
    pub(super) edges: Vec<(i64, bool)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InputState {
    pub(super) valve: Valve,
    /// One for an input whose watermarks are generated.
    pub(super) generator: Option<Generator>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeState {
    /// Over the ways in.
    pub(super) valve: Valve,
    /// For each output that assigns event time: a generator for each channel of the task.
    pub(super) assigners: Vec<Option<Assigner>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Assigner {
    generators: Vec<Generator>,
    pub(super) valve: Valve,
}

impl Clocks {
    /// Those of a task that has seen nothing. `channels` has the first channel of each input and
    /// `count` is the number of all.
    pub(super) fn new(layout: &Layout, channels: &[usize], count: usize) -> Self {
        let (ways_in, reaches) = (ways::ways_in(layout), ways::reaches(layout));
        Self {
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
        }
    }

    /// Continues from older ones. Inputs and producers that are new since then start anew; bounds
    /// are those of the layout.
    pub(super) fn continue_from(&mut self, old: Self, layout: &Layout) {
        for (state, old) in self.inputs.iter_mut().zip(old.inputs) {
            if state.valve.len() == old.valve.len() {
                state.valve = old.valve;
                state.generator = old.generator.or(state.generator.take());
            }
        }
        for (state, old) in self.nodes.iter_mut().zip(old.nodes) {
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
        for (i, input) in layout.inputs.iter().enumerate() {
            if let (InputClock::Generated(policy), Some(g)) =
                (&input.clock, &mut self.inputs[i].generator)
            {
                g.set_bound(*policy);
            }
        }
        for (edge, old) in self.edges.iter_mut().zip(old.edges) {
            *edge = old;
        }
    }

    /// The end and the idleness of inputs also hold behind an output that assigns event time. Where
    /// with an input everything before it has ended, it is held: its end is let through by
    /// [`Clocks::release`].
    pub(super) fn ended(
        &mut self,
        channels: &[usize],
        (node, port): (usize, usize),
        end: (i64, bool),
    ) -> (i64, bool) {
        let Some(assigner) = &mut self.nodes[node].assigners[port] else { return end };
        for (i, input) in self.inputs.iter().enumerate() {
            for local in 0..input.valve.len() {
                let channel = channels[i] + local;
                if input.valve.channel(local) == WATERMARK_END && !assigner.is_last(channel) {
                    assigner.generators[channel].end();
                    // Inputs that don't reach the stage are idle in its valve; their end is nothing.
                    assigner.valve.advance(channel, WATERMARK_END);
                }
            }
            if input.valve.is_idle() {
                for local in 0..input.valve.len() {
                    assigner.valve.set_idle(channels[i] + local);
                }
            }
        }
        (assigner.valve.watermark(), assigner.valve.is_idle())
    }

    /// The first output that is held, by node and port.
    pub(super) fn held(&self) -> Option<(usize, usize)> {
        if !self.inputs.iter().all(|input| input.valve.is_ended()) {
            return None;
        }
        self.nodes.iter().enumerate().find_map(|(node, state)| {
            let held = |a: &Option<Assigner>| a.as_ref().is_some_and(|a| !a.valve.is_ended());
            Some((node, state.assigners.iter().position(held)?))
        })
    }

    /// Moves the watermark behind an output that is held on.
    pub(super) fn release(&mut self, (node, port): (usize, usize), until: i64) -> (i64, bool) {
        let assigner = self.nodes[node].assigners[port].as_mut().expect("one that is held");
        for channel in 0..assigner.valve.len() {
            if assigner.valve.channel(channel) == WATERMARK_END {
                continue;
            }
            if until == WATERMARK_END {
                assigner.generators[channel].end();
            }
            assigner.valve.set_active(channel);
            assigner.valve.advance(channel, until);
        }
        (assigner.valve.watermark(), assigner.valve.is_idle())
    }
}

impl Assigner {
    /// Whether all channels but this one have ended.
    fn is_last(&self, channel: usize) -> bool {
        let others = (0..self.valve.len()).filter(|other| *other != channel);
        others.into_iter().all(|other| self.valve.channel(other) == WATERMARK_END)
    }

    /// Generates watermarks from the timestamps that a stage has just assigned.
    pub(super) fn assign(&mut self, flow: &mut Flow, channel: usize) -> (i64, bool) {
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
