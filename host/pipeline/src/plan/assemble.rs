//! Writes the decisions down as a [`Plan`].

use std::collections::{BTreeMap, BTreeSet};

use wasmill_abi::Treatment;

use super::components::Components;
use super::cuts::{Context, Cuts};
use super::describe::Names;
use super::upstream::Upstream;
use super::wires::{From, To, Wire, carries_watermarks};
use super::{Clock, Input, InputFrom, Node, Output, Plan, SubTopology, Target, Topic, TopicKind};

pub(super) fn plan(
    context: &Context<'_>,
    cuts: &Cuts,
    components: &Components,
    upstream: &Upstream,
) -> Plan {
    let (topics, rejects) = with_rejects(context, &cuts.topics);
    let mut builder = Builder { context, cuts, components, upstream, topics, rejects };
    let mut subtopologies = Vec::new();
    for component in &components.order {
        let subtopology = builder.subtopology(subtopologies.len(), *component);
        if !subtopology.inputs.is_empty() {
            subtopologies.push(subtopology);
        }
    }
    builder.note_producers(&subtopologies);
    let names = Names::of(context);
    Plan { topics: builder.topics, subtopologies, warnings: Vec::new(), names }
}

/// Adds the topics of rejected records that the file does not declare; for each stage the four that
/// it uses.
fn with_rejects(context: &Context<'_>, topics: &[Topic]) -> (Vec<Topic>, Vec<[usize; 4]>) {
    let mut topics = topics.to_vec();
    let mut index = |name: &str| {
        topics.iter().position(|t| t.name == name).unwrap_or_else(|| {
            topics.push(Topic {
                name: name.to_owned(),
                partitions: context.pipeline.engine.partitions,
                kind: TopicKind::Rejects,
                retention_bytes: None,
                producers: Vec::new(),
            });
            topics.len() - 1
        })
    };
    let stages = context.pipeline.stages.iter();
    let rejects = stages.map(|s| s.rejects.in_order().map(&mut index)).collect();
    (topics, rejects)
}

struct Builder<'a> {
    context: &'a Context<'a>,
    cuts: &'a Cuts,
    components: &'a Components,
    upstream: &'a Upstream,
    topics: Vec<Topic>,
    rejects: Vec<[usize; 4]>,
}

impl Builder<'_> {
    fn subtopology(&self, id: usize, component: usize) -> SubTopology {
        let stages = self.context.pipeline.stages.len();
        let member =
            |e: &usize| *e < stages && self.components.of_stage(self.context, *e) == component;
        let members: Vec<usize> = self.context.wires.order.iter().copied().filter(member).collect();
        let inputs = self.inputs(component, &members);
        SubTopology {
            id,
            partitions: inputs.iter().map(|i| i.partitions).max().unwrap_or(0).max(1),
            nodes: members.iter().map(|stage| self.node(*stage, &members)).collect(),
            inputs,
        }
    }

    fn inputs(&self, component: usize, members: &[usize]) -> Vec<Input> {
        let mut targets: BTreeMap<InputFrom, Vec<Target>> = BTreeMap::new();
        for wire in &self.context.wires.all {
            let from = match wire.from {
                From::Source(source) => InputFrom::Source(source),
                From::Topic(topic) => InputFrom::Topic(topic),
                From::Output { .. } => continue,
            };
            if self.components.home(self.context, self.cuts, wire) == component {
                targets.entry(from).or_default().push(self.target(wire, members));
            }
        }
        for (index, topic) in self.cuts.topics.iter().enumerate() {
            if let TopicKind::Repartition { stage, port } = topic.kind
                && let Some(node) = members.iter().position(|m| *m == stage)
            {
                let target = Target::Node { node, port };
                targets.entry(InputFrom::Topic(index)).or_default().push(target);
            }
        }
        let input = |(from, targets)| {
            let clock = match from {
                InputFrom::Source(source) => {
                    Clock::Generated(self.context.pipeline.sources[source].policy)
                }
                InputFrom::Topic(topic) => self.clock(self.topics[topic].kind),
            };
            let partitions = self.cuts.partitions(self.context, from);
            Input { from, partitions, clock, targets }
        };
        targets.into_iter().map(input).collect()
    }

    fn clock(&self, kind: TopicKind) -> Clock {
        match kind {
            _ if carries_watermarks(kind) => Clock::Carried,
            TopicKind::External { source: Some(source) } => {
                Clock::Generated(self.context.pipeline.sources[source].policy)
            }
            _ => Clock::Generated(crate::Policy::default()),
        }
    }

    fn target(&self, wire: &Wire, members: &[usize]) -> Target {
        if let Some(topic) = self.cuts.through.get(wire)
            && let To::Stage { stage, .. } = wire.to
        {
            let key_by = self.context.pipeline.stages[stage].key_by.clone();
            return Target::Topic { topic: *topic, key_by };
        }
        match wire.to {
            To::Stage { stage, port } => {
                let node = members.iter().position(|m| *m == stage);
                let node = node.expect("a wire that is not cut stays in its sub-topology");
                Target::Node { node, port }
            }
            To::Topic(topic) => {
                let key_by = self.context.pipeline.topics[topic].key_by.clone();
                Target::Topic { topic, key_by }
            }
            To::Sink(sink) => Target::Sink(sink),
        }
    }

    fn node(&self, stage: usize, members: &[usize]) -> Node {
        let outputs = &self.context.catalog.plugin(stage).ports.outputs;
        let output = |(index, port): (usize, &wasmill_abi::OutputPort)| {
            let from = |w: &&Wire| match w.from {
                From::Output { stage: s, output } => s == stage && usize::from(output) == index,
                _ => false,
            };
            let wires = self.context.wires.all.iter().filter(from);
            let assigns = port.event_time == Treatment::Assigned;
            Output {
                targets: wires.map(|w| self.target(w, members)).collect(),
                assigns_event_time: assigns.then(|| self.upstream.policy(stage)),
            }
        };
        Node {
            stage,
            outputs: outputs.iter().enumerate().map(output).collect(),
            rejects: self.rejects[stage],
        }
    }

    fn note_producers(&mut self, subtopologies: &[SubTopology]) {
        let mut producers = vec![BTreeSet::new(); self.topics.len()];
        for subtopology in subtopologies {
            let inputs = subtopology.inputs.iter().flat_map(|i| &i.targets);
            let outputs = subtopology.nodes.iter().flat_map(|n| &n.outputs);
            for target in inputs.chain(outputs.flat_map(|o| &o.targets)) {
                if let Target::Topic { topic, .. } = target {
                    producers[*topic].insert(subtopology.id);
                }
            }
            for topic in subtopology.nodes.iter().flat_map(|n| n.rejects) {
                producers[topic].insert(subtopology.id);
            }
        }
        for (topic, producers) in self.topics.iter_mut().zip(producers) {
            topic.producers = producers.into_iter().collect();
        }
    }
}
