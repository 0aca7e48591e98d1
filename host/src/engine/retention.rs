//! What may be dropped of topics: nothing that the pipeline itself has still to read.
//!
//! Invariant: a partition is released only up to positions of a commit, at which a crash begins anew.

use std::collections::BTreeMap;

use wasmill_log::{Partition, Position};
use wasmill_pipeline::plan::InputFrom;

use super::feed::Place;
use super::open::Topics;
use super::task::Saved;
use super::topology::Topology;

/// A partition of a topic, and the inputs of tasks that read it.
pub(super) struct Readers {
    partition: Partition,
    /// The task and the number of its input.
    inputs: Vec<(String, usize)>,
}

impl Readers {
    /// Those of every partition of every topic.
    pub(super) fn of(topology: &Topology, topics: &Topics) -> Vec<Self> {
        let mut all = Vec::new();
        for (index, partitions) in topics.iter().enumerate() {
            for (p, partition) in (0..).zip(partitions.iter()) {
                let subs = topology.subs.iter().filter(|s| p < s.partitions);
                let inputs = subs.flat_map(|s| {
                    let reads = s.inputs.iter().enumerate();
                    let reads = reads.filter(|(_, from)| **from == InputFrom::Topic(index));
                    reads.map(|(i, _)| (format!("{}-{p}", s.id), i)).collect::<Vec<_>>()
                });
                all.push(Self { partition: partition.clone(), inputs: inputs.collect() });
            }
        }
        all
    }

    /// Lets retention drop what all of them have read, in a commit with these tasks.
    pub(super) fn release(&self, tasks: &BTreeMap<String, Saved>) {
        let places = self.inputs.iter().map(|(task, input)| tasks.get(task)?.place(*input));
        if let Some(read) = least(places) {
            self.partition.release(read);
        }
    }
}

/// Up to where all have read: none when that is not known of one of them, none within when none of
/// them reads on.
fn least<'a>(places: impl Iterator<Item = Option<&'a Place>>) -> Option<Option<Position>> {
    let mut least: Option<Position> = None;
    for place in places {
        match place? {
            Place::Topic(position) => {
                least = Some(least.map_or(*position, |least| least.min(*position)));
            }
            Place::Ended => {}
            Place::Source(_) | Place::Offset(_) => return None,
        }
    }
    Some(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64, segment: u64) -> Place {
        Place::Topic(Position { offset, segment, byte: 0 })
    }

    fn segment(places: &[Option<Place>]) -> Option<Option<u64>> {
        least(places.iter().map(Option::as_ref)).map(|read| read.map(|position| position.segment))
    }

    #[test]
    fn the_slowest_reader_counts() {
        assert_eq!(
            segment(&[Some(at(90, 60)), Some(at(20, 10)), Some(at(70, 60))]),
            Some(Some(10))
        );
        // Of two at the same record one may still have watermarks of the segment before it to read.
        assert_eq!(segment(&[Some(at(60, 60)), Some(at(60, 10))]), Some(Some(10)));
    }

    #[test]
    fn a_reader_that_has_ended_does_not_count_and_one_of_which_nothing_is_known_holds_all() {
        assert_eq!(segment(&[Some(Place::Ended), Some(at(7, 7))]), Some(Some(7)));
        assert_eq!(segment(&[Some(Place::Ended)]), Some(None));
        assert_eq!(segment(&[]), Some(None));
        assert_eq!(segment(&[Some(at(7, 7)), None]), None);
    }
}
