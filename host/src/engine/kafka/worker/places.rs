//! Where inputs are read on by what is committed: for the group's offsets, and for what may be dropped.
//!
//! Invariant: of several tasks that read a partition the one that is furthest behind counts, also one
//! that has committed nothing yet.

use std::collections::BTreeMap;

use wasmill_pipeline::plan::InputFrom;

use super::Live;
use crate::engine::feed::Place;
use crate::engine::kafka::setup::Setup;

/// Where inputs are read on, by topic and partition.
#[derive(Debug, Default)]
pub(super) struct Places<'a>(BTreeMap<(&'a str, u32), i64>);

impl<'a> Places<'a> {
    /// Notes that a task reads a partition on at `next`.
    fn note(&mut self, topic: &'a str, partition: u32, next: i64) {
        let known = self.0.entry((topic, partition)).or_insert(next);
        *known = (*known).min(next);
    }

    /// Notes where the inputs of a task stand by its last commit, or where they began. Inputs may have
    /// moved on since over what is no record; but nothing may be dropped that a commit still refers to.
    pub(super) fn add(&mut self, setup: &'a Setup<'_>, task: &Live) {
        for (input, from) in setup.topology.subs[task.run.sub].inputs.iter().enumerate() {
            let InputFrom::Topic(topic) = from else { continue };
            let name = setup.ways[*topic].offsets();
            let saved = task.saved.as_ref().and_then(|saved| saved.place(input));
            let end = || setup.known_end(name, task.partition);
            if let Some(next) = next(saved, task.begun[input], end) {
                self.note(name, task.partition, next);
            }
        }
    }

    /// Has something for a partition: by its offset Kafka checks whose it is.
    pub(super) fn stand_for(&mut self, topic: &'a str, partition: u32) {
        self.0.entry((topic, partition)).or_insert(0);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, u32, i64)> {
        self.0.iter().map(|(&(topic, partition), &next)| (topic, partition, next))
    }
}

/// Where an input is read on: by the last commit of its task, or where it began when there is none.
/// One that has ended is read no more: all before its end is done.
fn next(
    saved: Option<&Place>,
    begun: Option<i64>,
    end: impl FnOnce() -> Option<i64>,
) -> Option<i64> {
    match saved {
        Some(Place::Offset(next)) => Some(*next),
        Some(Place::Ended) => end(),
        _ => begun,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that had committed nothing was left out: what the other one had read was deleted
    /// before the first could read it again after a crash.
    #[test]
    fn a_reader_that_has_committed_nothing_holds_what_it_has_still_to_read() {
        let mut places = Places::default();
        places.note("frames", 0, next(Some(&Place::Offset(40)), Some(7), || None).unwrap());
        places.note("frames", 0, next(None, Some(7), || None).unwrap());
        places.note("frames", 1, next(Some(&Place::Offset(9)), Some(7), || None).unwrap());
        assert_eq!(places.iter().collect::<Vec<_>>(), [("frames", 0, 7), ("frames", 1, 9)]);
    }

    /// Offset 0 was committed for it, and whoever watched the group saw the whole topic as lag.
    #[test]
    fn what_was_never_read_stands_where_reading_begins() {
        let mut places = Places::default();
        places.note("in", 0, next(None, Some(500), || None).unwrap());
        places.stand_for("in", 0);
        places.stand_for("assignment", 3);
        assert_eq!(places.iter().collect::<Vec<_>>(), [("assignment", 3, 0), ("in", 0, 500)]);
    }

    #[test]
    fn an_input_that_has_ended_stands_at_its_end() {
        assert_eq!(next(Some(&Place::Ended), None, || Some(12)), Some(12));
        assert_eq!(next(Some(&Place::Ended), None, || None), None);
    }
}
