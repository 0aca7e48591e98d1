//! What is assigned as a whole: the tasks of one partition of sub-topologies that read a topic in
//! common, and the topic whose partitions stand for them in the group.
//!
//! Invariant: every task belongs to exactly one unit, and every topic that tasks read is read by
//! tasks of the same unit where the partition is the same.

use std::collections::BTreeMap;

use wasmill_pipeline::plan::InputFrom;

use crate::engine::topology::Topology;

/// Sub-topologies that are assigned together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Component {
    /// The sub-topologies, ascending.
    pub(super) subs: Vec<usize>,
    /// The number of units: the most partitions that one of them has.
    pub(super) partitions: u32,
    /// The topic whose partitions are assigned by the group.
    pub(super) leader: Leader,
}

/// Which topic's partitions stand for the units of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leader {
    /// One that is read: its number.
    Topic(usize),
    /// One without records, made for nothing else: its name.
    Assignment(String),
}

/// Partition `partition` of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unit {
    pub(super) component: usize,
    pub(super) partition: u32,
}

/// The components of a pipeline.
pub(super) fn components(topology: &Topology, group: &str) -> Vec<Component> {
    // Sub-topologies that read the same topic are one component: the least of them stands for it.
    let mut root: Vec<usize> = (0..topology.subs.len()).collect();
    let mut first_reader: BTreeMap<usize, usize> = BTreeMap::new();
    for (sub, of) in topology.subs.iter().enumerate() {
        for input in &of.inputs {
            let InputFrom::Topic(topic) = input else { continue };
            let other = *first_reader.entry(*topic).or_insert(sub);
            let (a, b) = (root[other], root[sub]);
            let least = a.min(b);
            for r in &mut root {
                if *r == a || *r == b {
                    *r = least;
                }
            }
        }
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (sub, root) in root.into_iter().enumerate() {
        members.entry(root).or_default().push(sub);
    }
    let component = |subs: Vec<usize>| {
        let partitions = subs.iter().map(|s| topology.subs[*s].partitions).max().unwrap_or(1);
        let topics = subs.iter().flat_map(|s| &topology.subs[*s].inputs);
        let whole = topics.filter_map(|input| match input {
            InputFrom::Topic(t) if topology.topics[*t].partitions == partitions => Some(*t),
            _ => None,
        });
        let leader = match whole.min() {
            Some(topic) => Leader::Topic(topic),
            None => Leader::Assignment(format!("{group}-{}-assignment", subs[0])),
        };
        Component { subs, partitions, leader }
    };
    members.into_values().map(component).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::topology::{Sub, Topic};

    fn topology(topics: &[u32], subs: &[(u32, &[InputFrom])]) -> Topology {
        let topic = |(i, partitions): (usize, &u32)| Topic {
            name: format!("t{i}"),
            partitions: *partitions,
            external: false,
            internal: false,
            carried: false,
            declared: None,
            retention_bytes: None,
        };
        Topology {
            topics: topics.iter().enumerate().map(topic).collect(),
            subs: subs
                .iter()
                .enumerate()
                .map(|(id, (partitions, inputs))| Sub::bare(id, *partitions, inputs.to_vec()))
                .collect(),
        }
    }

    #[test]
    fn those_that_share_a_topic_are_assigned_together() {
        use InputFrom::{Source, Topic};
        let topology = topology(
            &[4, 4, 2],
            &[
                (1, &[Source(0)]),
                (4, &[Topic(0)]),
                (4, &[Topic(1), Topic(0)]),
                (2, &[Topic(2)]),
                (4, &[Topic(1)]),
            ],
        );
        let found = components(&topology, "g");
        let of = |subs: &[usize], partitions, leader| Component {
            subs: subs.to_vec(),
            partitions,
            leader,
        };
        assert_eq!(
            found,
            [
                of(&[0], 1, Leader::Assignment("g-0-assignment".into())),
                of(&[1, 2, 4], 4, Leader::Topic(0)),
                of(&[3], 2, Leader::Topic(2)),
            ]
        );
    }

    #[test]
    fn a_source_with_more_partitions_than_any_topic_needs_a_leader_of_its_own() {
        use InputFrom::{Source, Topic};
        let topology = topology(&[2], &[(3, &[Source(0), Topic(0)])]);
        assert_eq!(
            components(&topology, "g")[0].leader,
            Leader::Assignment("g-0-assignment".into())
        );
    }
}
