//! Which stages, sources and topics are in one sub-topology.
//!
//! Invariant of what [`settle`] returns: along topics, components don't form a cycle.

use std::collections::{BTreeMap, BTreeSet};

use super::cuts::{Context, Cuts};
use super::wires::{From, To, Wire};
use super::{Topic, TopicKind};
use crate::graph;
use crate::section::Problems;
use crate::{Pipeline, SourceKind};

/// Elements are sources, then stages, then topics (for what goes from a topic straight to others).
pub(super) struct Components {
    /// The component of each element.
    of: Vec<usize>,
    /// The sources of which all readers are in one component.
    joined: BTreeSet<usize>,
    /// The components in an order in which a topic is written before it is read.
    pub(super) order: Vec<usize>,
}

/// Decides cuts and components together: where one part of a sub-topology would have to wait for
/// another, more is cut.
pub(super) fn settle(
    context: &Context<'_>,
    declared: &[Topic],
    problems: &Problems<'_>,
) -> Option<(Cuts, Components)> {
    let mut forced = BTreeSet::new();
    let is_stdin =
        |s: &usize| matches!(context.pipeline.sources[*s].kind, SourceKind::Stdin { .. });
    let stdin: BTreeSet<usize> = (0..context.pipeline.sources.len()).filter(is_stdin).collect();
    loop {
        let cuts = Cuts::of(context, declared, &forced);
        let draft = Draft::of(context, &cuts, &stdin);
        if let Some(order) = graph::order(&draft.next) {
            let components = join_files(context, &cuts, draft.into_components(order));
            return Some((cuts, components));
        }
        match more_to_cut(context, &cuts, &draft, &forced) {
            Some(stage) => {
                forced.insert(stage);
            }
            None => {
                report(context, &cuts, &draft, problems);
                return None;
            }
        }
    }
}

/// Puts all readers of a file source together, unless that would make a cycle.
fn join_files(context: &Context<'_>, cuts: &Cuts, mut components: Components) -> Components {
    for source in 0..context.pipeline.sources.len() {
        let mut joined = components.joined.clone();
        if joined.insert(source) {
            let draft = Draft::of(context, cuts, &joined);
            if let Some(order) = graph::order(&draft.next) {
                components = draft.into_components(order);
            }
        }
    }
    components
}

/// A stage on a cycle that reads one thing through a repartition topic and another directly: it can
/// read both through the topic.
fn more_to_cut(
    context: &Context<'_>,
    cuts: &Cuts,
    draft: &Draft,
    forced: &BTreeSet<usize>,
) -> Option<usize> {
    let on_cycle: BTreeSet<usize> = graph::cycles(&draft.next).into_iter().flatten().collect();
    let stages = 0..context.pipeline.stages.len();
    stages.into_iter().find(|stage| {
        let cut = |w: &Wire| cuts.through.contains_key(w);
        let direct = |w: &Wire| !cut(w) && !matches!(w.from, From::Topic(_));
        let wires: Vec<Wire> = context.wires.to_stage(*stage).copied().collect();
        !forced.contains(stage)
            && on_cycle.contains(&draft.of[stage_element(context.pipeline, *stage)])
            && wires.iter().any(cut)
            && wires.iter().any(direct)
    })
}

fn report(context: &Context<'_>, cuts: &Cuts, draft: &Draft, problems: &Problems<'_>) {
    let pipeline = context.pipeline;
    let name = |component: usize| {
        let members: Vec<String> = (0..draft.of.len())
            .filter(|e| draft.of[*e] == component)
            .map(|e| element_name(pipeline, &cuts.topics, e))
            .collect();
        format!("({})", members.join(" "))
    };
    for cycle in graph::cycles(&draft.next) {
        let mut shown = String::new();
        for (from, to) in cycle.iter().zip(cycle.iter().skip(1).chain(&cycle[..1])) {
            let topic = draft.topics.get(&(*from, *to)).map(|t| cuts.topics[*t].name.as_str());
            shown += &format!("{} -> topic.{} -> ", name(*from), topic.unwrap_or_default());
        }
        shown += &name(cycle[0]);
        let first = (0..pipeline.stages.len())
            .rev()
            .find(|s| cycle.contains(&draft.of[stage_element(pipeline, *s)]));
        let path = first.map_or(String::new(), |s| format!("stage.{}", pipeline.stages[s].name));
        let message =
            format!("stages that read each other directly also wait for each other: {shown}");
        let help = "let one of them read another through a topic: [topic.NAME] from = ...";
        problems.error(problems.document.find(&path), path, message, Some(help.to_owned()));
    }
}

fn stage_element(pipeline: &Pipeline, stage: usize) -> usize {
    pipeline.sources.len() + stage
}

fn element_name(pipeline: &Pipeline, topics: &[Topic], element: usize) -> String {
    let (sources, stages) = (pipeline.sources.len(), pipeline.stages.len());
    if element < sources {
        format!("source.{}", pipeline.sources[element].name)
    } else if element < sources + stages {
        format!("stage.{}", pipeline.stages[element - sources].name)
    } else {
        format!("topic.{}", topics[element - sources - stages].name)
    }
}

/// Components that may still form cycles.
struct Draft {
    of: Vec<usize>,
    joined: BTreeSet<usize>,
    /// The components that read what a component writes.
    next: Vec<Vec<usize>>,
    /// A topic that leads from one component to another.
    topics: BTreeMap<(usize, usize), usize>,
}

impl Draft {
    fn of(context: &Context<'_>, cuts: &Cuts, joined: &BTreeSet<usize>) -> Self {
        let pipeline = context.pipeline;
        let count = pipeline.sources.len() + pipeline.stages.len() + cuts.topics.len();
        let mut of: Vec<usize> = (0..count).collect();
        for wire in &context.wires.all {
            let To::Stage { stage, .. } = wire.to else { continue };
            if cuts.through.contains_key(wire) {
                continue;
            }
            let stage = of[stage_element(pipeline, stage)];
            let other = match wire.from {
                From::Source(source) if joined.contains(&source) => of[source],
                From::Output { stage, .. } => of[stage_element(pipeline, stage)],
                _ => continue,
            };
            let (low, high) = (stage.min(other), stage.max(other));
            of.iter_mut().filter(|c| **c == high).for_each(|c| *c = low);
        }
        let mut draft = Self {
            of,
            joined: joined.clone(),
            next: vec![Vec::new(); count],
            topics: BTreeMap::new(),
        };
        draft.connect(context, cuts);
        draft
    }

    fn connect(&mut self, context: &Context<'_>, cuts: &Cuts) {
        let mut writers: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); cuts.topics.len()];
        let mut readers = writers.clone();
        let components = |wire: &Wire| home(context.pipeline, cuts, &self.of, wire);
        for wire in &context.wires.all {
            let component = components(wire);
            if let From::Topic(topic) = wire.from {
                readers[topic].insert(component);
            }
            if let Some(topic) = cuts.through.get(wire) {
                writers[*topic].insert(component);
            } else if let To::Topic(topic) = wire.to {
                writers[topic].insert(component);
            }
        }
        for (index, topic) in cuts.topics.iter().enumerate() {
            if let TopicKind::Repartition { stage, .. } = topic.kind {
                readers[index].insert(self.of[stage_element(context.pipeline, stage)]);
            }
            for (stage, item) in context.pipeline.stages.iter().enumerate() {
                if item.rejects.in_order().contains(&topic.name.as_str()) {
                    writers[index].insert(self.of[stage_element(context.pipeline, stage)]);
                }
            }
        }
        for topic in 0..cuts.topics.len() {
            for from in &writers[topic] {
                for to in &readers[topic] {
                    if self.topics.insert((*from, *to), topic).is_none() {
                        self.next[*from].push(*to);
                    }
                }
            }
        }
    }

    fn into_components(self, order: Vec<usize>) -> Components {
        let used: BTreeSet<usize> = self.of.iter().copied().collect();
        let order = order.into_iter().filter(|c| used.contains(c)).collect();
        Components { of: self.of, joined: self.joined, order }
    }
}

/// The component that reads `wire.from` for the sake of this wire.
fn home(pipeline: &Pipeline, cuts: &Cuts, of: &[usize], wire: &Wire) -> usize {
    let direct = match wire.to {
        To::Stage { stage, .. } if !cuts.through.contains_key(wire) => Some(stage),
        _ => None,
    };
    match (wire.from, direct) {
        (From::Output { stage, .. }, _) => of[stage_element(pipeline, stage)],
        (_, Some(stage)) => of[stage_element(pipeline, stage)],
        (From::Source(source), None) => of[source],
        (From::Topic(topic), None) => of[pipeline.sources.len() + pipeline.stages.len() + topic],
    }
}

impl Components {
    /// The component that reads `wire.from` for the sake of this wire.
    pub(super) fn home(&self, context: &Context<'_>, cuts: &Cuts, wire: &Wire) -> usize {
        home(context.pipeline, cuts, &self.of, wire)
    }

    /// The component of a stage.
    pub(super) fn of_stage(&self, context: &Context<'_>, stage: usize) -> usize {
        self.of[stage_element(context.pipeline, stage)]
    }
}
