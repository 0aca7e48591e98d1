//! What tasks tell of themselves while they run, for whoever asks.
//!
//! Invariant: it is told now and then, never for a record, and what is told may be a little behind and
//! not committed yet.

use std::sync::Arc;
use std::time::Duration;

use wasmill_abi::WATERMARK_START;
use wasmill_pipeline::plan::InputFrom;

use super::feed::{Feed, Place};
use super::prepare::Prepared;
use super::task::{Outlet, Run};
use super::topology::Topology;
use crate::admin::figures::{self, Figures};
use crate::admin::status;

/// How often tasks tell how they stand.
pub(super) const INTERVAL: Duration = Duration::from_millis(200);

/// Lists a task of a worker; `topic` says what the topic with a number is called for an input.
pub(super) fn list<F: Feed, O: Outlet>(
    figures: &Arc<Figures>,
    prepared: &Prepared,
    topology: &Topology,
    run: &Run<F, O>,
    worker: &str,
    topic: impl Fn(usize, usize) -> String,
) -> figures::Task {
    let inputs = run.task.layout().inputs.iter().zip(&topology.subs[run.sub].inputs);
    let input = |(i, (input, from)): (usize, (&wasmill_core::layout::Input, &InputFrom))| {
        let topic = match from {
            InputFrom::Source(_) => format!("source.{}", input.name),
            InputFrom::Topic(number) => topic(i, *number),
        };
        status::Input { topic, partition: input.partition, ..status::Input::default() }
    };
    let stage = |stage: &usize| {
        let name = prepared.pipeline.stages[*stage].name.clone();
        status::Stage { name, ..status::Stage::default() }
    };
    let task = status::Task {
        subtopology: topology.subs[run.sub].id,
        partition: run.task.layout().inputs.first().map_or(0, |input| input.partition),
        worker: worker.to_owned(),
        stages: run.stages.iter().map(stage).collect(),
        inputs: inputs.enumerate().map(input).collect(),
        ..status::Task::default()
    };
    let shown = figures.task(&run.name, task);
    update(run, &shown);
    shown
}

/// Tells how a task stands now.
pub(super) fn update<F: Feed, O: Outlet>(run: &Run<F, O>, shown: &figures::Task) {
    let known = |watermark: i64| Some(watermark).filter(|w| *w != WATERMARK_START);
    shown.update(|task| {
        task.watermark_ms = known(run.task.output_watermark());
        task.state_bytes = run.task.state_bytes() as u64;
        (task.ended, task.full) = (run.ended, run.full);
        for (stage, counts) in task.stages.iter_mut().zip(run.task.metrics()) {
            stage.counts = counts;
        }
        for (i, (told, input)) in task.inputs.iter_mut().zip(&run.inputs).enumerate() {
            told.next = match input.place() {
                Place::Source(position) => Some(position.line),
                Place::Topic(position) => Some(position.offset),
                Place::Offset(offset) => u64::try_from(*offset).ok(),
                Place::Ended => None,
            };
            told.lag = input.feed.as_ref().and_then(Feed::lag);
            told.watermark_ms = known(run.task.watermark(i));
        }
    });
}
