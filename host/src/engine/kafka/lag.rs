//! How far a group is behind, as Kafka has it: for when no instance can be asked.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmill_kafka::{Admin, Committed};
use wasmill_pipeline::plan::InputFrom;

use super::{settings, topics};
use crate::engine::Error;
use crate::engine::prepare::Prepared;
use crate::engine::topology::Topology;

/// How far a group is behind in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionLag {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset that the group reads next; none when it has committed nothing.
    pub committed: Option<i64>,
    /// The end of what may be read; none when the topic does not exist.
    pub end: Option<i64>,
    /// The offsets that are there between the two; none when either is not known.
    pub lag: Option<u64>,
}

/// How far the group of a pipeline is behind in every partition that it reads, by topic and
/// partition; nothing for a pipeline on the embedded log. Each question may take `timeout`.
///
/// # Errors
/// [`Error::Kafka`] when Kafka can't be asked.
pub fn lag(prepared: &Prepared, timeout: Duration) -> Result<Vec<PartitionLag>, Error> {
    let Some(kafka) = &prepared.pipeline.kafka else { return Ok(Vec::new()) };
    let settings = settings(kafka);
    let admin = Admin::connect(&settings, timeout)?;
    let topology = Topology::of(&prepared.pipeline, &prepared.plan);
    let ways = topics::ways(&topology, &prepared.pipeline.name, &kafka.group, "");
    let mut read = BTreeSet::new();
    for input in topology.subs.iter().flat_map(|sub| &sub.inputs) {
        let InputFrom::Topic(topic) = input else { continue };
        let name = ways[*topic].offsets();
        read.extend((0..topology.topics[*topic].partitions).map(|p| (name.to_owned(), p)));
    }
    let read: Vec<(String, u32)> = read.into_iter().collect();
    if read.is_empty() {
        return Ok(Vec::new());
    }
    let committed = Committed::new(&settings, &kafka.group)?.read(&read, timeout)?;
    let mut found = Vec::new();
    for position in committed {
        let (topic, partition) = (position.topic, position.partition);
        let exists = admin.partitions(&topic)?.is_some_and(|count| partition < count);
        let offsets = if exists { Some(admin.offsets(&topic, partition)?) } else { None };
        let lag = offsets.zip(position.offset).map(|(offsets, next)| {
            u64::try_from(offsets.stable - next.max(offsets.start)).unwrap_or(0)
        });
        let (committed, end) = (position.offset, offsets.map(|offsets| offsets.stable));
        found.push(PartitionLag { topic, partition, committed, end, lag });
    }
    Ok(found)
}
