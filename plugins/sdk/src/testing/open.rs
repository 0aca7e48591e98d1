//! Puts together the task of a plugin under test.
//!
//! Invariant: it is one stage, with an input for each port, whose records carry their watermarks.

use std::sync::Arc;

use wasmill_abi::Ports;
use wasmill_core::keyed::Stage as KeyedStage;
use wasmill_core::keys::Keys;
use wasmill_core::layout::{Edge, Input, InputClock, Layout, Node, Output, Target};
use wasmill_core::maps::MapStore;
use wasmill_core::operator::Operator;
use wasmill_core::stateless::{Base, FailurePolicy, Stage as StatelessStage};
use wasmill_core::task::{Stage, Task};

use super::Options;
use super::store::Memory;
use super::usage::{Counted, Counts};

/// The task of a plugin on a store.
pub(super) fn task(
    operator: Operator,
    ports: &Ports,
    options: &Options,
    store: &Arc<Memory>,
    counts: &Arc<Counts>,
) -> Task {
    let stage = stage(operator, ports, options, store, counts);
    Task::new(layout(ports, options), vec![stage])
}

fn stage(
    operator: Operator,
    ports: &Ports,
    options: &Options,
    store: &Arc<Memory>,
    counts: &Arc<Counts>,
) -> Stage {
    let policy = FailurePolicy { halt: false, most_in_a_row: u32::MAX };
    let base = Base::new("test", ports.clone(), options.limits, policy);
    match operator {
        Operator::Stateless(operator) => Stage::Stateless(StatelessStage { base, operator }),
        Operator::Keyed(operator) => {
            let maps = operator.maps();
            let ttl = options.state_ttl_ms;
            let keys = Keys::new(0, store.clone(), usize::MAX / 2, ttl, maps > 0);
            let maps = MapStore::new(0, maps, store.clone());
            let operator = Box::new(Counted { operator, counts: counts.clone() });
            Stage::Keyed(Box::new(KeyedStage::new(base, operator, keys, maps)))
        }
    }
}

/// A task of the one stage: an input for each port, a sink for each output, a way out for each kind
/// of rejection.
fn layout(ports: &Ports, options: &Options) -> Layout {
    let sink = |i| Output { targets: vec![Target::Sink(i)], assigns: None };
    let input = |port: u8| {
        let origin = options.origins.get(usize::from(port)).cloned();
        let (name, partition) = origin.unwrap_or(("test".into(), 0));
        Input {
            name,
            partition,
            clock: InputClock::Carried(vec![0]),
            targets: vec![Target::Node { node: 0, port }],
            unreadable: None,
        }
    };
    Layout {
        inputs: (0..ports.inputs.len() as u8).map(input).collect(),
        nodes: vec![Node {
            outputs: (0..ports.outputs.len()).map(sink).collect(),
            rejects: [0, 1, 2, 3],
            max_age_ms: options.max_age_ms,
        }],
        edges: (0..4).map(|topic| Edge::to(topic, 1, false)).collect(),
    }
}
