//! Where records must go through a repartition topic, and with how many partitions.

use std::collections::{BTreeMap, BTreeSet};

use wasmill_abi::Treatment;

use super::wires::{From, To, Wire, Wires};
use super::{Catalog, InputFrom, Topic, TopicKind};
use crate::diagnostic::list;
use crate::section::Problems;
use crate::{Pipeline, Stage};

/// What planning works on.
pub(super) struct Context<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) catalog: &'a dyn Catalog,
    pub(super) wires: &'a Wires,
    pub(super) source_partitions: &'a dyn Fn(usize) -> u32,
}

/// The decisions.
pub(super) struct Cuts {
    /// The topics of the file, then the repartition topics.
    pub(super) topics: Vec<Topic>,
    /// The repartition topic that each cut wire goes through.
    pub(super) through: BTreeMap<Wire, usize>,
    /// For each stage the inputs of its sub-topology whose records reach it.
    reach: Vec<BTreeSet<InputFrom>>,
}

impl Cuts {
    /// Decides, stage by stage along the stream. All that the stages of `forced` read from stages
    /// and sources is cut.
    pub(super) fn of(context: &Context<'_>, declared: &[Topic], forced: &BTreeSet<usize>) -> Self {
        let stages = context.pipeline.stages.len();
        let mut cuts = Self {
            topics: declared.to_vec(),
            through: BTreeMap::new(),
            reach: vec![BTreeSet::new(); stages],
        };
        // Whether equal keys are in one task when they come to a stage.
        let mut partitioned = vec![false; stages];
        for stage in context.wires.order.iter().copied().filter(|e| *e < stages) {
            let item = &context.pipeline.stages[stage];
            let keyed = context.catalog.plugin(stage).keyed;
            let mut cut_wires = Vec::new();
            partitioned[stage] = true;
            for wire in context.wires.to_stage(stage) {
                let known = match wire.from {
                    From::Source(_) => false,
                    From::Topic(_) => true,
                    From::Output { stage, output } => {
                        let ports = context.catalog.plugin(stage).ports;
                        let key = ports.outputs[usize::from(output)].key;
                        partitioned[stage] && key == Treatment::Kept
                    }
                };
                let is_topic = matches!(wire.from, From::Topic(_));
                let cut = item.key_by.is_some()
                    || (keyed && item.repartition && !known)
                    || (forced.contains(&stage) && !is_topic);
                partitioned[stage] &= cut || known || !item.repartition;
                if cut {
                    cut_wires.push(*wire);
                    continue;
                }
                match wire.from {
                    From::Source(source) => {
                        cuts.reach[stage].insert(InputFrom::Source(source));
                    }
                    From::Topic(topic) => {
                        cuts.reach[stage].insert(InputFrom::Topic(topic));
                    }
                    From::Output { stage: before, .. } => {
                        let reach = cuts.reach[before].clone();
                        cuts.reach[stage].extend(reach);
                    }
                }
            }
            cuts.repartition(context, stage, item, &cut_wires);
        }
        cuts
    }

    fn repartition(
        &mut self,
        context: &Context<'_>,
        stage: usize,
        item: &Stage,
        cut_wires: &[Wire],
    ) {
        let others = self.reach[stage].iter().map(|i| self.partitions(context, *i)).max();
        let partitions = others.unwrap_or(context.pipeline.engine.partitions);
        let inputs = &context.catalog.plugin(stage).ports.inputs;
        let mut ports: BTreeMap<u8, usize> = BTreeMap::new();
        for wire in cut_wires {
            let To::Stage { port, .. } = wire.to else { continue };
            let topic = *ports.entry(port).or_insert_with(|| {
                let pipeline = &context.pipeline.name;
                let name = match inputs.len() {
                    0 | 1 => format!("{pipeline}-{}-repartition", item.name),
                    _ => {
                        let port = &inputs[usize::from(port)].name;
                        format!("{pipeline}-{}-{port}-repartition", item.name)
                    }
                };
                self.topics.push(Topic {
                    name,
                    partitions,
                    kind: TopicKind::Repartition { stage, port },
                    retention_bytes: None,
                    producers: Vec::new(),
                });
                self.topics.len() - 1
            });
            self.reach[stage].insert(InputFrom::Topic(topic));
            self.through.insert(*wire, topic);
        }
    }

    /// The partitions of an input.
    pub(super) fn partitions(&self, context: &Context<'_>, input: InputFrom) -> u32 {
        match input {
            InputFrom::Source(source) => (context.source_partitions)(source).max(1),
            InputFrom::Topic(topic) => self.topics[topic].partitions,
        }
    }

    /// Reports stages that keep state by key and are reached from inputs of different partition
    /// counts.
    pub(super) fn check(&self, context: &Context<'_>, problems: &Problems<'_>) {
        for (index, stage) in context.pipeline.stages.iter().enumerate() {
            if !context.catalog.plugin(index).keyed {
                continue;
            }
            let count = |input: &InputFrom| self.partitions(context, *input);
            let counts: BTreeSet<u32> = self.reach[index].iter().map(count).collect();
            if counts.len() < 2 {
                continue;
            }
            let shown = self.reach[index].iter().map(|input| {
                let name = match input {
                    InputFrom::Source(s) => format!("source.{}", context.pipeline.sources[*s].name),
                    InputFrom::Topic(t) => format!("topic.{}", self.topics[*t].name),
                };
                let count = count(input);
                format!("{name} has {count} partition{}", if count == 1 { "" } else { "s" })
            });
            let path = format!("stage.{}.from", stage.name);
            let message = format!("the inputs are not co-partitioned: {}", list(shown));
            let help = "give them the same number of partitions, or read one through a topic that has \
                        the number of the other: [topic.NAME] from = ..., partitions = ...";
            problems.error(problems.document.find(&path), path, message, Some(help.to_owned()));
        }
    }
}
