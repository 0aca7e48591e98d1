//! What workers on Kafka tell of themselves and their tasks, for whoever asks.

use wasmill_core::layout::InputClock;

use super::feed::KafkaFeed;
use super::outbox::Outbox;
use super::setup::Setup;
use super::units::Unit;
use crate::admin::figures;
use crate::engine::shown;
use crate::engine::task::Run;

/// Lists a task of a worker.
pub(super) fn list(
    setup: &Setup<'_>,
    run: &Run<KafkaFeed, Outbox>,
    worker: &figures::Worker,
) -> figures::Task {
    let topic = |input: usize, topic: usize| {
        let carried = matches!(run.task.layout().inputs[input].clock, InputClock::Carried(_));
        setup.ways[topic].read(carried).to_owned()
    };
    shown::list(&setup.figures, setup.prepared, &setup.topology, run, worker.name(), topic)
}

/// Counts that the tasks of a unit were assigned.
pub(super) fn assigned(setup: &Setup<'_>, unit: Unit) {
    for sub in &setup.components[unit.component].subs {
        let sub = &setup.topology.subs[*sub];
        if unit.partition < sub.partitions {
            setup.figures.assigned(format!("{}-{}", sub.id, unit.partition));
        }
    }
}
