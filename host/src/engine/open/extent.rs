//! How much there is to read, for whoever watches a run.
//!
//! Invariant: nothing is said where it is not known of every source.

use wasmill_pipeline::plan::{InputFrom, TopicKind};
use wasmill_pipeline::{SourceKind, Start};

use super::{Payload, Topics};
use crate::engine::feed::Place;
use crate::engine::prepare::Prepared;
use crate::engine::report::Extent;
use crate::engine::topology::Topology;

/// How much a run that goes on from `payload` has to read.
pub(super) fn of(
    prepared: &Prepared,
    topology: &Topology,
    payload: &Payload,
    topics: &Topics,
) -> Option<Extent> {
    let extent = |(from, partition, place)| of_input(prepared, from, partition, place, topics);
    together(inputs(topology, payload).filter_map(extent))
}

/// The inputs of all tasks, each with its partition and where it stands.
fn inputs<'t>(
    topology: &'t Topology,
    payload: &'t Payload,
) -> impl Iterator<Item = (&'t InputFrom, u32, Option<&'t Place>)> {
    topology.subs.iter().flat_map(move |sub| {
        (0..sub.partitions).flat_map(move |partition| {
            let saved = payload.tasks.get(&format!("{}-{partition}", sub.id));
            let inputs = sub.inputs.iter().enumerate();
            inputs.map(move |(i, from)| (from, partition, saved.and_then(|s| s.place(i))))
        })
    })
}

/// How much there is to read, where that can be told of all inputs.
fn together(mut extents: impl Iterator<Item = Option<Extent>>) -> Option<Extent> {
    let first = extents.next()??;
    extents.try_fold(first, |sum, extent| sum.and(extent?))
}

/// How much of an input there is to read; `None` for one within the pipeline, or that is not there,
/// and `Some(None)` where it can't be told.
fn of_input(
    prepared: &Prepared,
    from: &InputFrom,
    partition: u32,
    place: Option<&Place>,
    topics: &Topics,
) -> Option<Option<Extent>> {
    match from {
        InputFrom::Source(index) => {
            let part = prepared.sources[*index].get(partition as usize)?;
            let bytes = |total: u64| {
                let before = match place {
                    None => 0,
                    Some(Place::Source(position)) => position.byte.min(total),
                    Some(_) => total,
                };
                Extent::Bytes { before, total }
            };
            Some(part.length().map(bytes))
        }
        InputFrom::Topic(index) => {
            let part = topics[*index].get(partition as usize)?;
            let source = match prepared.plan.topics.get(*index).map(|t| t.kind) {
                Some(TopicKind::External { source }) => {
                    source.map(|s| &prepared.pipeline.sources[s])
                }
                _ => return None,
            };
            let start = match (place, source.map(|s| &s.kind)) {
                (Some(Place::Topic(position)), _) => position.offset,
                (Some(_), _) => part.end_offset(),
                (None, Some(SourceKind::Topic { start: Start::Latest, .. })) => part.end_offset(),
                (None, _) => part.start_offset(),
            };
            let left = part.end_offset().saturating_sub(start);
            Some(source.filter(|s| s.bounded).map(|_| Extent::Records(left)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_add_up_and_so_do_records_but_not_both_and_nothing_else() {
        let bytes = |before, total| Some(Extent::Bytes { before, total });
        let records = |left| Some(Extent::Records(left));
        let sum = |extents: &[Option<Extent>]| together(extents.iter().copied());
        assert_eq!(sum(&[bytes(1, 10), bytes(0, 5)]), bytes(1, 15));
        assert_eq!(sum(&[records(3), records(0), records(4)]), records(7));
        assert_eq!(sum(&[bytes(0, 5), records(3)]), None);
        assert_eq!(sum(&[bytes(0, 5), None, bytes(0, 5)]), None);
        assert_eq!(sum(&[None]), None);
        assert_eq!(sum(&[]), None);
    }
}
