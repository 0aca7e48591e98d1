//! The ways into the stages of a task, counted in the order of its layout.

use std::collections::BTreeSet;

use crate::layout::{Layout, Target};

/// Where a target hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Input(usize),
    Node(usize, usize),
}

/// Every way into a node: where it hangs, its number among the targets there, the node.
pub(super) fn all_ways(layout: &Layout) -> Vec<(Way, usize, usize)> {
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

pub(super) fn ways_in(layout: &Layout) -> Vec<usize> {
    let mut counts = vec![0; layout.nodes.len()];
    for (way, _, node) in all_ways(layout) {
        if let Way::Node(from, _) = way {
            assert!(from < node, "nodes are in topological order");
        }
        counts[node] += 1;
    }
    counts
}

/// The nodes that a watermark reaches from targets: those before the next output that assigns event
/// time.
pub(super) fn within(layout: &Layout, targets: &[Target]) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut targets: Vec<Target> = targets.to_vec();
    while let Some(target) = targets.pop() {
        let Target::Node { node, .. } = target else { continue };
        if found.insert(node) {
            let outputs = layout.nodes[node].outputs.iter().filter(|o| o.assigns.is_none());
            targets.extend(outputs.flat_map(|o| &o.targets));
        }
    }
    found
}

/// The inputs whose records reach each node.
pub(super) fn reaches(layout: &Layout) -> Vec<BTreeSet<usize>> {
    let mut reaches = vec![BTreeSet::new(); layout.nodes.len()];
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
