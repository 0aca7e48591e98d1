//! Savepoints of a pipeline on Kafka: what all its tasks held at one consistent cut, taken from their
//! changelogs while they run or not, and put into the topics of a group that does not run.
//!
//! A cut is consistent when each task had read nothing that its upstream had not yet given, and what
//! upstream had given and it had not read is kept too. Tasks are therefore looked at from the end of
//! the pipeline to its beginning, each by its last commit, and of the frames between them those are
//! kept that their producer gave up to the epoch of its commit (after Chandy and Lamport's snapshots,
//! with the order of the looks in place of markers).
//!
//! Invariant: a savepoint that is made, and a group that is restored, is whole; whatever is
//! interrupted says so and is done again.

mod create;
mod restore;

use std::collections::BTreeMap;

use wasmill_kafka::{Admin, Settings};
use wasmill_pipeline::plan::InputFrom;

pub use self::create::create;
pub use self::restore::restore;
use super::outbox::Ways;
use super::units::Component;
use super::{TIMEOUT, settings, topics, units};
use crate::engine::Error;
use crate::engine::prepare::Prepared;
use crate::engine::topology::Topology;

/// The name of the savepoint whose restore a record of a changelog says to be going on.
pub(super) fn pending(mark: &[u8]) -> Option<String> {
    match serde_json::from_slice::<restore::Mark>(mark) {
        Ok(mark) => mark.pending.then_some(mark.savepoint),
        // Whatever it says, it is a mark.
        Err(_) => Some("(unknown)".into()),
    }
}

/// A pipeline's tasks and topics on Kafka, seen from outside of a run.
struct Scene<'a> {
    prepared: &'a Prepared,
    group: String,
    settings: Settings,
    admin: Admin,
    topology: Topology,
    components: Vec<Component>,
    ways: Vec<Ways>,
}

impl<'a> Scene<'a> {
    fn of(prepared: &'a Prepared) -> Result<Self, Error> {
        let Some(kafka) = &prepared.pipeline.kafka else {
            return Err(Error::Shape("savepoints through topics need a [kafka] section".into()));
        };
        let settings = settings(kafka);
        let admin = Admin::connect(&settings, TIMEOUT)?;
        let plan = topics::with_rejects(&prepared.plan, &prepared.pipeline, &admin)?;
        let topology = Topology::of(&prepared.pipeline, &plan);
        let components = units::components(&topology, &kafka.group);
        let ways = topics::ways(&topology, &prepared.pipeline.name, &kafka.group, "");
        let group = kafka.group.clone();
        Ok(Self { prepared, group, settings, admin, topology, components, ways })
    }

    fn changelog(&self, sub: usize) -> String {
        super::setup::changelog(&self.group, self.topology.subs[sub].id)
    }

    /// The topics that tasks read from others: their numbers and names.
    fn channels(&self) -> impl Iterator<Item = (usize, &str)> {
        let channels = self.ways.iter().enumerate();
        channels.filter_map(|(number, ways)| Some((number, ways.frames.as_deref()?)))
    }

    /// The topic of frames that an input of a sub-topology reads.
    fn channel_of(&self, input: &InputFrom) -> Option<usize> {
        match input {
            InputFrom::Topic(topic) if self.ways[*topic].frames.is_some() => Some(*topic),
            _ => None,
        }
    }

    /// The sub-topologies, each after all that read what it gives.
    fn downstream_first(&self) -> Vec<usize> {
        let mut order = Vec::new();
        for sub in 0..self.topology.subs.len() {
            self.visit(sub, &mut order);
        }
        order
    }

    fn visit(&self, sub: usize, order: &mut Vec<usize>) {
        if order.contains(&sub) {
            return;
        }
        let subs = &self.topology.subs;
        let given = subs[sub].tasks.iter().flat_map(|task| &task.edges).map(|edge| edge.topic);
        let given: std::collections::BTreeSet<usize> = given.collect();
        for (reader, of) in subs.iter().enumerate() {
            let reads = of.inputs.iter().filter_map(|input| self.channel_of(input));
            // The plan has no cycles.
            if reader != sub && reads.into_iter().any(|topic| given.contains(&topic)) {
                self.visit(reader, order);
            }
        }
        order.push(sub);
    }

    /// The task of each producer of frames: sub-topology and partition by its number.
    fn producers(&self) -> BTreeMap<u32, (usize, u32)> {
        let mut all = BTreeMap::new();
        for (sub, of) in self.topology.subs.iter().enumerate() {
            for (partition, task) in (0..of.partitions).zip(&of.tasks) {
                for edge in 0..task.edges.len() {
                    all.insert(of.producer(edge, partition), (sub, partition));
                }
            }
        }
        all
    }
}
