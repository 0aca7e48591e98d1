//! From the plan of a pipeline to the layouts of its tasks: partitions, ways out, producers.

use std::collections::{BTreeMap, BTreeSet};

use wasmill_core::clock::Policy;
use wasmill_core::layout::{self, Edge, Input, InputClock, KeyBy, Layout, Output};
use wasmill_pipeline as p;
use wasmill_pipeline::plan::{self, Clock, InputFrom, Plan, SubTopology, Target, TopicKind};

/// The topics and tasks of a pipeline.
pub(super) struct Topology {
    /// Names, partitions and kinds of the topics; the plan's come first.
    pub(super) topics: Vec<Topic>,
    /// The sub-topologies, each with its tasks.
    pub(super) subs: Vec<Sub>,
}

pub(super) struct Topic {
    pub(super) name: String,
    pub(super) partitions: u32,
    pub(super) external: bool,
    /// Whether nothing but this pipeline needs what has been read.
    pub(super) internal: bool,
    /// Whether the pipeline reads it with the watermarks that it wrote along.
    pub(super) carried: bool,
    /// Its number among the topics that the pipeline file declares.
    pub(super) declared: Option<usize>,
    pub(super) retention_bytes: Option<u64>,
}

/// A sub-topology.
pub(super) struct Sub {
    pub(super) id: usize,
    pub(super) partitions: u32,
    pub(super) inputs: Vec<InputFrom>,
    /// The stage of each node.
    pub(super) stages: Vec<usize>,
    /// The layout of each task.
    pub(super) tasks: Vec<Layout>,
    /// The number of the first producer: edge `e` of task `t` is `first + e * partitions + t`.
    first_producer: u32,
}

impl Sub {
    /// One without stages and tasks.
    #[cfg(test)]
    pub(super) fn bare(id: usize, partitions: u32, inputs: Vec<InputFrom>) -> Self {
        Self { id, partitions, inputs, stages: Vec::new(), tasks: Vec::new(), first_producer: 0 }
    }

    /// The producer number of a way out of a task.
    pub(super) fn producer(&self, edge: usize, task: u32) -> u32 {
        self.first_producer + edge as u32 * self.partitions + task
    }
}

impl Topology {
    pub(super) fn of(pipeline: &p::Pipeline, plan: &Plan) -> Self {
        let mut topics: Vec<Topic> = plan
            .topics
            .iter()
            .map(|t| Topic {
                name: t.name.clone(),
                partitions: t.partitions,
                external: matches!(t.kind, TopicKind::External { .. }),
                internal: matches!(t.kind, TopicKind::Repartition { .. }),
                carried: false,
                declared: pipeline.topics.iter().position(|d| d.name == t.name),
                retention_bytes: t.retention_bytes,
            })
            .collect();
        let carried: BTreeSet<usize> = plan
            .subtopologies
            .iter()
            .flat_map(|s| &s.inputs)
            .filter(|i| i.clock == Clock::Carried)
            .filter_map(|i| match i.from {
                InputFrom::Topic(topic) => Some(topic),
                InputFrom::Source(_) => None,
            })
            .collect();
        for topic in &carried {
            topics[*topic].carried = true;
        }
        // Ways out first, then producers, then inputs: each needs what comes before.
        let mut outs = Vec::new();
        for sub in &plan.subtopologies {
            outs.push(Outs::of(pipeline, plan, sub, &mut topics, &carried));
        }
        let mut first = 0;
        let mut subs = Vec::new();
        for (sub, outs) in plan.subtopologies.iter().zip(&outs) {
            let stages = sub.nodes.iter().map(|n| n.stage).collect();
            let inputs = sub.inputs.iter().map(|i| i.from).collect();
            let tasks = Vec::new();
            let partitions = sub.partitions;
            subs.push(Sub { id: sub.id, partitions, inputs, stages, tasks, first_producer: first });
            first += outs.edges.len() as u32 * partitions;
        }
        let producers = |topic: usize| -> Vec<u32> {
            let mut producers = Vec::new();
            for (sub, outs) in subs.iter().zip(&outs) {
                for (edge, out) in outs.edges.iter().enumerate() {
                    if out.topic == topic {
                        producers.extend((0..sub.partitions).map(|t| sub.producer(edge, t)));
                    }
                }
            }
            producers
        };
        let mut all = Vec::new();
        for (sub, outs) in plan.subtopologies.iter().zip(&outs) {
            let task = |t: u32| outs.layout(pipeline, plan, sub, t, &producers);
            all.push((0..sub.partitions).map(task).collect::<Vec<_>>());
        }
        for (sub, tasks) in subs.iter_mut().zip(all) {
            sub.tasks = tasks;
        }
        Self { topics, subs }
    }

    /// What must not change while a data directory is in use.
    pub(super) fn shape(&self, pipeline: &p::Pipeline) -> serde_json::Value {
        let subs: Vec<_> = self
            .subs
            .iter()
            .map(|s| {
                let stages: Vec<_> = s.stages.iter().map(|i| &pipeline.stages[*i].name).collect();
                let inputs: Vec<_> = s
                    .inputs
                    .iter()
                    .map(|from| match from {
                        InputFrom::Source(i) => format!("source.{}", pipeline.sources[*i].name),
                        InputFrom::Topic(i) => format!("topic.{}", self.topics[*i].name),
                    })
                    .collect();
                serde_json::json!({
                    "stages": stages,
                    "inputs": inputs,
                    "partitions": s.partitions,
                })
            })
            .collect();
        // Frames and clocks name the task and the way out that they come from by these numbers.
        let carried = self.topics.iter().enumerate().filter(|(_, topic)| topic.carried);
        let producers: BTreeMap<&str, Vec<u32>> = carried
            .map(|(number, topic)| {
                let first = self.subs.iter().flat_map(|sub| {
                    let edges = sub.tasks.first().map_or(&[][..], |task| &task.edges);
                    let lead =
                        edges.iter().enumerate().filter(move |(_, edge)| edge.topic == number);
                    lead.map(|(edge, _)| sub.producer(edge, 0))
                });
                (topic.name.as_str(), first.collect())
            })
            .collect();
        serde_json::json!({
            "pipeline": pipeline.name, "sub-topologies": subs, "producers": producers
        })
    }
}

/// The ways out of a sub-topology, and the targets that lead to them.
struct Outs {
    edges: Vec<Edge>,
    inputs: Vec<Vec<layout::Target>>,
    unreadable: Vec<Option<usize>>,
    nodes: Vec<layout::Node>,
}

impl Outs {
    fn of(
        pipeline: &p::Pipeline,
        plan: &Plan,
        sub: &SubTopology,
        topics: &mut Vec<Topic>,
        carried: &BTreeSet<usize>,
    ) -> Self {
        let mut edges: Vec<Edge> = Vec::new();
        let mut rejects: std::collections::BTreeMap<usize, usize> = Default::default();
        let mut reject = |topic: usize, topics: &[Topic], edges: &mut Vec<Edge>| {
            *rejects.entry(topic).or_insert_with(|| {
                edges.push(Edge::to(topic, topics[topic].partitions, carried.contains(&topic)));
                edges.len() - 1
            })
        };
        let mut target = |target: &Target, topics: &mut Vec<Topic>, edges: &mut Vec<Edge>| {
            let (topic, key_by) = match target {
                Target::Node { node, port } => {
                    return layout::Target::Node { node: *node, port: *port };
                }
                Target::Sink(sink) => return layout::Target::Sink(*sink),
                Target::Topic { topic, key_by } => (*topic, key_by),
            };
            let mut edge = Edge::to(topic, topics[topic].partitions, carried.contains(&topic));
            if let Some(key_by) = key_by {
                edge.key_by = Some(match key_by {
                    p::KeyBy::Field(path) => KeyBy::Field(path.clone()),
                    p::KeyBy::Constant(key) => KeyBy::Constant(key.clone()),
                });
                let (name, stage) = match plan.topics[topic].kind {
                    TopicKind::Repartition { stage, .. } => {
                        let stage = &pipeline.stages[stage];
                        (&stage.rejects.malformed, stage.name.clone())
                    }
                    _ => (&pipeline.rejects.malformed, plan.topics[topic].name.clone()),
                };
                let dead = topic_named(name, topics);
                edge.unkeyed = Some((reject(dead, topics, edges), stage));
            }
            edges.push(edge);
            layout::Target::Edge(edges.len() - 1)
        };
        let mut inputs = Vec::new();
        for input in &sub.inputs {
            let targets = input.targets.iter().map(|t| target(t, topics, &mut edges)).collect();
            inputs.push(targets);
        }
        let mut node_outputs = Vec::new();
        for node in &sub.nodes {
            let mut outputs = Vec::new();
            for output in &node.outputs {
                outputs.push(Output {
                    targets: output.targets.iter().map(|t| target(t, topics, &mut edges)).collect(),
                    assigns: output.assigns_event_time.map(policy),
                });
            }
            node_outputs.push(outputs);
        }
        let mut nodes = Vec::new();
        for (node, outputs) in sub.nodes.iter().zip(node_outputs) {
            let rejects = node.rejects.map(|topic| reject(topic, topics, &mut edges));
            let max_age_ms = pipeline.stages[node.stage].max_age_ms;
            nodes.push(layout::Node { outputs, rejects, max_age_ms });
        }
        let mut unreadable = Vec::new();
        for input in &sub.inputs {
            unreadable.push(match input.from {
                InputFrom::Source(_) => {
                    let dead = topic_named(&pipeline.rejects.malformed, topics);
                    Some(reject(dead, topics, &mut edges))
                }
                InputFrom::Topic(_) => None,
            });
        }
        Self { edges, inputs, unreadable, nodes }
    }

    fn layout(
        &self,
        pipeline: &p::Pipeline,
        plan: &Plan,
        sub: &SubTopology,
        task: u32,
        producers: &dyn Fn(usize) -> Vec<u32>,
    ) -> Layout {
        let input = |(i, input): (usize, &plan::Input)| Input {
            name: match input.from {
                InputFrom::Source(s) => pipeline.sources[s].name.clone(),
                InputFrom::Topic(t) => plan.topics[t].name.clone(),
            },
            partition: task,
            clock: match (input.clock, input.from) {
                (Clock::Generated(p), _) => InputClock::Generated(policy(p)),
                (Clock::Carried, InputFrom::Topic(topic)) => InputClock::Carried(producers(topic)),
                (Clock::Carried, InputFrom::Source(_)) => {
                    unreachable!("the plan lets only topics carry watermarks")
                }
            },
            targets: self.inputs[i].clone(),
            unreadable: self.unreadable[i],
        };
        Layout {
            inputs: sub.inputs.iter().enumerate().map(input).collect(),
            nodes: self.nodes.clone(),
            edges: self.edges.clone(),
        }
    }
}

fn policy(p: p::Policy) -> Policy {
    Policy { out_of_orderness_ms: p.out_of_orderness_ms, idle_timeout_ms: p.idle_timeout_ms }
}

/// The topic with this name; one of a single partition is added if there is none.
fn topic_named(name: &str, topics: &mut Vec<Topic>) -> usize {
    if let Some(i) = topics.iter().position(|t| t.name == *name) {
        return i;
    }
    topics.push(Topic {
        name: name.into(),
        partitions: 1,
        external: false,
        internal: false,
        carried: false,
        declared: None,
        retention_bytes: None,
    });
    topics.len() - 1
}
