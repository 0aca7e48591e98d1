//! How far event time may go in one step.
//!
//! Invariant: nothing depends on the steps in which event time moves, since it moves continuously.
//!
//! A watermark of an input does not go beyond an output that assigns event time: what comes behind
//! that has a watermark of its own, made of the timestamps that were assigned. Only the end does, and
//! it brings about at once whatever timers are left there. So it is held at such an output, and let
//! through in steps.

use std::collections::BTreeSet;

use wasmill_abi::WATERMARK_END;

use super::pass::Pass;
use super::ways::{Way, within};
use super::{Effects, Stage, Task};
use crate::flow::{Flow, Source};
use crate::keyed::Error;

/// About how many keys with timers due are within [`Task::reach`].
const REACH_KEYS: usize = 16_384;

impl Task {
    /// Whether every input has ended, and all that follows from it has been done.
    pub fn is_ended(&self) -> bool {
        self.clocks.inputs.iter().all(|i| i.valve.is_ended()) && !self.is_held()
    }

    /// Whether every input has ended, and the end is still to be let through behind an output that
    /// assigns event time: by [`Fact::Release`](super::Fact::Release), until it is not held any more.
    pub fn is_held(&self) -> bool {
        self.clocks.held().is_some()
    }

    /// When the next processing-time timer may be due: none is before. It may have been cleared, or
    /// moved on. `now` is the wall clock.
    ///
    /// # Errors
    /// [`Error`] when the state can't be read; the task must be thrown away.
    pub fn next_processing_time(&mut self, now: i64) -> Result<Option<i64>, Error> {
        let mut next = None;
        for stage in self.nodes.iter_mut().flatten() {
            if let Stage::Keyed(stage) = stage {
                next = next.into_iter().chain(stage.next_processing_time(now)?).min();
            }
        }
        Ok(next)
    }

    /// How far towards `watermark` an input may be moved in one step so that not very many keys have
    /// timers due. Who wants steps that end soon and effects that stay small tells a watermark in such
    /// parts.
    ///
    /// # Errors
    /// [`Error`] when the state can't be read; the task must be thrown away.
    ///
    /// # Panics
    /// When there is no such input.
    pub fn reach(&mut self, input: usize, watermark: i64) -> Result<i64, Error> {
        let nodes = within(&self.layout, &self.layout.inputs[input].targets);
        self.reach_in(&nodes, self.watermark(input), watermark)
    }

    fn reach_in(
        &mut self,
        nodes: &BTreeSet<usize>,
        now: i64,
        watermark: i64,
    ) -> Result<i64, Error> {
        let mut reach = watermark;
        for node in nodes {
            if let Some(Stage::Keyed(stage)) = &mut self.nodes[*node] {
                let horizon = stage.horizon(reach, REACH_KEYS)?;
                // What is due by now already waits for another input.
                reach = if horizon > now { reach.min(horizon) } else { reach };
            }
        }
        Ok(reach)
    }

    /// Lets the end through behind the first output that is held, as far as one step may go.
    pub(super) fn release(&mut self) -> Result<Effects, Error> {
        let Some((node, port)) = self.clocks.held() else { return Ok(Effects::default()) };
        let targets = self.layout.nodes[node].outputs[port].targets.clone();
        let assigner = self.clocks.nodes[node].assigners[port].as_ref();
        let now = assigner.expect("one that is held").valve.watermark();
        let nodes = within(&self.layout, &targets);
        let until = self.reach_in(&nodes, now, WATERMARK_END)?;
        let end = self.clocks.release((node, port), until);
        let source = Source::default();
        let mut pass = Pass { source: &source, channel: 0, effects: Effects::default() };
        self.send(&targets, Way::Node(node, port), Flow::default(), end, &mut pass)?;
        self.run_nodes(&mut pass, Some(0))?;
        Ok(self.finish(pass))
    }
}
