//! Cuts a pipeline into sub-topologies at its topics.
//!
//! Invariant: every stage is a node of exactly one sub-topology, every index of a [`Plan`] points
//! into it or into the pipeline it was made of, and the sub-topologies that write a topic come before
//! those that read it.

mod assemble;
mod components;
mod cuts;
mod describe;
mod topics;
mod upstream;
mod wires;

use wasmill_abi::Ports;

use crate::diagnostic::Diagnostic;
use crate::section::Problems;
use crate::{KeyBy, Pipeline, Policy};

/// What is known of the plugins of a pipeline's stages.
pub trait Catalog {
    /// The plugin of the stage with this index in [`Pipeline::stages`].
    fn plugin(&self, stage: usize) -> Plugin<'_>;
}

/// What the plan needs to know of a plugin.
#[derive(Debug, Clone, Copy)]
pub struct Plugin<'a> {
    /// The ports in effect once it is configured.
    pub ports: &'a Ports,
    /// Whether it keeps state per key.
    pub keyed: bool,
}

/// A pipeline, cut at its topics.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// All topics. The declared ones come first, with the indexes of [`Pipeline::topics`]; then those
    /// that only sources name, those between stages, and those of rejected records.
    pub topics: Vec<Topic>,
    /// The sub-topologies, in an order in which a topic is written before it is read; the index is
    /// [`SubTopology::id`].
    pub subtopologies: Vec<SubTopology>,
    /// What is allowed but looks wrong.
    pub warnings: Vec<Diagnostic>,
    pub(crate) names: describe::Names,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// The name.
    pub name: String,
    /// The number of partitions, at least 1. For an external topic that no source names: what the
    /// file says, or the default, which may not be what the topic has.
    pub partitions: u32,
    /// What it is for.
    pub kind: TopicKind,
    /// How many bytes of each partition are kept at least; none for all.
    pub retention_bytes: Option<u64>,
    /// The sub-topologies that write it, ascending.
    pub producers: Vec<usize>,
}

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicKind {
    /// Something else writes it.
    External {
        /// The source that says where reading starts and whether it ends; none for a topic that is
        /// declared but fed by nothing, which is read from its beginning without end.
        source: Option<usize>,
    },
    /// The file declares it and what feeds it.
    Fed,
    /// It carries records to the stage that reads them by key.
    Repartition {
        /// The reading stage.
        stage: usize,
        /// The input port that its records go to.
        port: u8,
    },
    /// It takes rejected records.
    Rejects,
}

/// Stages between which there is no topic. Task `p` of it reads partition `p` of each of its inputs
/// that has so many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubTopology {
    /// The index in [`Plan::subtopologies`].
    pub id: usize,
    /// The number of tasks: the most partitions that an input has, at least 1.
    pub partitions: u32,
    /// What it reads, at least one: sources before topics, each at most once.
    pub inputs: Vec<Input>,
    /// Its stages, each after those that it reads; none when records only go from inputs to targets.
    pub nodes: Vec<Node>,
}

/// What a sub-topology reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// What it is.
    pub from: InputFrom,
    /// Its partitions.
    pub partitions: u32,
    /// Where its watermarks come from.
    pub clock: Clock,
    /// Where each of its records goes, at least one.
    pub targets: Vec<Target>,
}

/// What an input reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InputFrom {
    /// Files or standard input: an index into [`Pipeline::sources`].
    Source(usize),
    /// An index into [`Plan::topics`]. Sources of type `topic` are read this way, see
    /// [`TopicKind::External`].
    Topic(usize),
}

/// Where the watermarks of an input come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// They are generated from the event times.
    Generated(Policy),
    /// This pipeline writes them into the topic along with the records.
    Carried,
}

/// A stage within a sub-topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The index in [`Pipeline::stages`].
    pub stage: usize,
    /// What becomes of the emissions, for each output of the plugin.
    pub outputs: Vec<Output>,
    /// The topics of rejected records, in the order of [`wasmill_abi::RejectionKind::ALL`].
    pub rejects: [usize; 4],
}

/// What becomes of the emissions of one output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Where they go; none when nothing reads them.
    pub targets: Vec<Target>,
    /// How watermarks are generated, when records get their event time here.
    pub assigns_event_time: Option<Policy>,
}

/// Where a record goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A stage of the same task.
    Node {
        /// The index in [`SubTopology::nodes`].
        node: usize,
        /// The input port.
        port: u8,
    },
    /// A topic.
    Topic {
        /// The index in [`Plan::topics`].
        topic: usize,
        /// The new key that the record gets on its way; none when it keeps its key.
        key_by: Option<KeyBy>,
    },
    /// An index into [`Pipeline::sinks`].
    Sink(usize),
}

impl Plan {
    /// Cuts a pipeline into sub-topologies.
    ///
    /// `source_partitions` says how many partitions a source has, by its index in
    /// [`Pipeline::sources`]: those of its topic, or what files are spread over; 0 counts as 1.
    ///
    /// # Errors
    /// Every problem that shows once the ports are known: outputs and ports that don't exist, inputs
    /// that are not co-partitioned, cycles between sub-topologies.
    pub fn of(
        pipeline: &Pipeline,
        catalog: &dyn Catalog,
        source_partitions: &dyn Fn(usize) -> u32,
    ) -> Result<Self, Vec<Diagnostic>> {
        let problems = Problems::new(&pipeline.document, Vec::new());
        let plan = Self::try_of(pipeline, catalog, source_partitions, &problems);
        let found = problems.into_sorted();
        match plan {
            Some(mut plan) if !found.iter().any(Diagnostic::is_error) => {
                plan.warnings = found;
                Ok(plan)
            }
            _ => Err(found),
        }
    }

    /// None when there are errors after which nothing more can be found out.
    fn try_of(
        pipeline: &Pipeline,
        catalog: &dyn Catalog,
        source_partitions: &dyn Fn(usize) -> u32,
        problems: &Problems<'_>,
    ) -> Option<Self> {
        let topics = topics::declared(pipeline, source_partitions, problems);
        let wires = wires::Wires::of(pipeline, catalog, &topics, problems)?;
        wires::warn(pipeline, catalog, &wires, problems);
        let upstream = upstream::Upstream::of(pipeline, catalog, &topics, &wires);
        upstream.warn(pipeline, catalog, &wires, problems);
        let context = cuts::Context { pipeline, catalog, wires: &wires, source_partitions };
        let (cuts, components) = components::settle(&context, &topics, problems)?;
        cuts.check(&context, problems);
        Some(assemble::plan(&context, &cuts, &components, &upstream))
    }

    /// What is wrong with the references to those plugins whose ports are `known`, by the index of
    /// their stage, in a pipeline of which no plan can be made.
    pub fn check_ports<'p>(
        pipeline: &Pipeline,
        known: &dyn Fn(usize) -> Option<&'p Ports>,
    ) -> Vec<Diagnostic> {
        let problems = Problems::new(&pipeline.document, Vec::new());
        wires::check(pipeline, known, &problems);
        problems.into_sorted()
    }

    /// A drawing of the sub-topologies as text, several lines that each end in a newline.
    pub fn describe(&self) -> String {
        describe::plan(self)
    }
}
