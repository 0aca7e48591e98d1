//! Who reads what, with ports and outputs by number.

use std::collections::BTreeSet;

use wasmill_abi::Ports;

use super::{Catalog, Topic, TopicKind};
use crate::diagnostic::{list, nearest};
use crate::section::Problems;
use crate::{Feed, Pipeline, Reference, SourceKind};

/// The most inputs, and the most outputs, that a plugin can have.
const MAX_PORTS: usize = 64;

/// Where records come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum From {
    /// Files or standard input.
    Source(usize),
    /// A topic of the plan.
    Topic(usize),
    /// An output of a stage.
    Output { stage: usize, output: u8 },
}

/// Where records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum To {
    /// An input port of a stage.
    Stage { stage: usize, port: u8 },
    /// A declared topic.
    Topic(usize),
    /// A sink.
    Sink(usize),
}

/// One reading of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wire {
    pub(super) from: From,
    pub(super) to: To,
}

/// All wires: those of stages first, then topics, then sinks, each in the order of the file.
pub(super) struct Wires {
    pub(super) all: Vec<Wire>,
    /// Stages (below the number of stages) and topics (from there on), each after what it reads.
    pub(super) order: Vec<usize>,
}

impl Wires {
    /// Resolves every reference; none when one can't be.
    pub(super) fn of(
        pipeline: &Pipeline,
        catalog: &dyn Catalog,
        topics: &[Topic],
        problems: &Problems<'_>,
    ) -> Option<Self> {
        let mut all = Vec::new();
        let ports = |stage: usize| Some(catalog.plugin(stage).ports);
        let mut complete = ports_fit(pipeline, &ports, problems);
        let mut add = |from: Option<From>, to: Option<To>, feed: &Feed| {
            let (Some(from), Some(to)) = (from, to) else {
                complete = false;
                return;
            };
            let wire = Wire { from, to };
            if all.contains(&wire) {
                let message = format!("{} is there twice", feed.text);
                problems.error(feed.origin, &feed.path, message, None);
            }
            all.push(wire);
        };
        let from = |feed: &Feed| from(pipeline, catalog, topics, feed, problems);
        for (stage, item) in pipeline.stages.iter().enumerate() {
            for feed in &item.from {
                let ports = catalog.plugin(stage).ports;
                let to =
                    port(ports, feed, &item.name, problems).map(|port| To::Stage { stage, port });
                add(from(feed), to, feed);
            }
        }
        for (topic, item) in pipeline.topics.iter().enumerate() {
            item.from.iter().for_each(|feed| add(from(feed), Some(To::Topic(topic)), feed));
        }
        for (sink, item) in pipeline.sinks.iter().enumerate() {
            item.from.iter().for_each(|feed| add(from(feed), Some(To::Sink(sink)), feed));
        }
        if !complete {
            return None;
        }
        let order = order(pipeline, topics, &all);
        Some(Self { all, order })
    }

    /// The wires into a stage.
    pub(super) fn to_stage(&self, stage: usize) -> impl Iterator<Item = &Wire> {
        self.all.iter().filter(move |w| matches!(w.to, To::Stage { stage: s, .. } if s == stage))
    }

    /// The wires into a declared topic.
    pub(super) fn to_topic(&self, topic: usize) -> impl Iterator<Item = &Wire> {
        self.all.iter().filter(move |w| w.to == To::Topic(topic))
    }
}

fn order(pipeline: &Pipeline, topics: &[Topic], wires: &[Wire]) -> Vec<usize> {
    let stages = pipeline.stages.len();
    let mut next = vec![Vec::new(); stages + topics.len()];
    for wire in wires {
        let from = match wire.from {
            From::Source(_) => continue,
            From::Topic(topic) => stages + topic,
            From::Output { stage, .. } => stage,
        };
        match wire.to {
            To::Stage { stage, .. } => next[from].push(stage),
            To::Topic(topic) => next[from].push(stages + topic),
            To::Sink(_) => {}
        }
    }
    for (index, topic) in topics.iter().enumerate() {
        for (stage, item) in pipeline.stages.iter().enumerate() {
            if item.rejects.in_order().contains(&topic.name.as_str()) {
                next[stage].push(stages + index);
            }
        }
    }
    crate::graph::order(&next).expect("a checked pipeline has no cycle")
}

/// Checks the references whose plugins are known, in a pipeline that need not be sound.
pub(super) fn check<'p>(
    pipeline: &Pipeline,
    known: &dyn Fn(usize) -> Option<&'p Ports>,
    problems: &Problems<'_>,
) {
    ports_fit(pipeline, known, problems);
    for (index, stage) in pipeline.stages.iter().enumerate() {
        let Some(ports) = known(index) else { continue };
        for feed in &stage.from {
            port(ports, feed, &stage.name, problems);
        }
    }
    let stages = pipeline.stages.iter().map(|s| &s.from);
    let others = pipeline.topics.iter().map(|t| &t.from);
    let others = others.chain(pipeline.sinks.iter().map(|s| &s.from));
    for feed in stages.chain(others).flatten() {
        if let Reference::Stage { stage, output: name } = &feed.from
            && let Some(ports) = known(*stage)
        {
            output(ports, name.as_deref(), &pipeline.stages[*stage].name, feed, problems);
        }
    }
}

fn ports_fit<'p>(
    pipeline: &Pipeline,
    known: &dyn Fn(usize) -> Option<&'p Ports>,
    problems: &Problems<'_>,
) -> bool {
    let mut fit = true;
    for (index, stage) in pipeline.stages.iter().enumerate() {
        let Some(ports) = known(index) else { continue };
        for (kind, count) in [("inputs", ports.inputs.len()), ("outputs", ports.outputs.len())] {
            if count > MAX_PORTS {
                let path = format!("stage.{}.plugin", stage.name);
                let message =
                    format!("the plugin has {count} {kind}, at most {MAX_PORTS} are allowed");
                problems.error(problems.document.find(&path), path, message, None);
                fit = false;
            }
        }
    }
    fit
}

fn number(index: usize) -> Option<u8> {
    u8::try_from(index).ok().filter(|i| usize::from(*i) < MAX_PORTS)
}

fn from(
    pipeline: &Pipeline,
    catalog: &dyn Catalog,
    topics: &[Topic],
    feed: &Feed,
    problems: &Problems<'_>,
) -> Option<From> {
    let (stage, output) = match &feed.from {
        Reference::Topic(topic) => return Some(From::Topic(*topic)),
        Reference::Source(source) => {
            return Some(match &pipeline.sources[*source].kind {
                SourceKind::Topic { topic, .. } => {
                    let index = topics.iter().position(|t| t.name == *topic);
                    From::Topic(index.expect("every topic that a source names is in the list"))
                }
                _ => From::Source(*source),
            });
        }
        Reference::Stage { stage, output } => (*stage, output.as_deref()),
    };
    let ports = catalog.plugin(stage).ports;
    let output = self::output(ports, output, &pipeline.stages[stage].name, feed, problems)?;
    Some(From::Output { stage, output })
}

/// The number of the output of a stage that is read.
fn output(
    ports: &Ports,
    output: Option<&str>,
    stage: &str,
    feed: &Feed,
    problems: &Problems<'_>,
) -> Option<u8> {
    let outputs = &ports.outputs;
    let names = || outputs.iter().map(|o| o.name.as_str());
    let index = match output {
        None => (!outputs.is_empty()).then_some(0),
        Some(name) => names().position(|n| n == name),
    };
    if index.is_none() {
        let message = match output {
            Some(name) => format!("stage.{stage} has no output {name:?}"),
            None => format!("stage.{stage} has no output"),
        };
        let help = match output.and_then(|o| nearest(o, names())) {
            Some(near) => format!("did you mean \"stage.{stage}.{near}\"?"),
            None => format!("outputs of its plugin: {}", list(names())),
        };
        problems.error(feed.origin, &feed.path, message, Some(help));
    }
    number(index?)
}

fn port(ports: &Ports, feed: &Feed, stage: &str, problems: &Problems<'_>) -> Option<u8> {
    let names = || ports.inputs.iter().map(|i| i.name.as_str());
    let index = match &feed.port {
        None => (!ports.inputs.is_empty()).then_some(0),
        Some(name) => names().position(|n| n == name),
    };
    if index.is_none() {
        let message = match &feed.port {
            Some(name) => format!("the plugin of stage.{stage} has no input {name:?}"),
            None => format!("the plugin of stage.{stage} has no input"),
        };
        let help = match feed.port.as_deref().and_then(|p| nearest(p, names())) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("inputs of its plugin: {}", list(names())),
        };
        // The key is what is wrong, not the reference behind it.
        let origin = problems.document.find(&feed.path);
        problems.error(origin, &feed.path, message, Some(help));
    }
    number(index?)
}

/// Warns of ports that nothing feeds and, of stages that are read at all, of outputs that are not.
pub(super) fn warn(
    pipeline: &Pipeline,
    catalog: &dyn Catalog,
    wires: &Wires,
    problems: &Problems<'_>,
) {
    for (index, item) in pipeline.stages.iter().enumerate() {
        let ports = catalog.plugin(index).ports;
        let fed: BTreeSet<u8> = wires
            .to_stage(index)
            .filter_map(|w| match w.to {
                To::Stage { port, .. } => Some(port),
                _ => None,
            })
            .collect();
        let read: BTreeSet<u8> = wires
            .all
            .iter()
            .filter_map(|w| match w.from {
                From::Output { stage, output } if stage == index => Some(output),
                _ => None,
            })
            .collect();
        let missing = |names: Vec<&str>, there: &BTreeSet<u8>| -> Vec<String> {
            let absent = |i: &usize| number(*i).is_some_and(|i| !there.contains(&i));
            (0..names.len()).filter(absent).map(|i| format!("{:?}", names[i])).collect()
        };
        let unfed = missing(ports.inputs.iter().map(|p| p.name.as_str()).collect(), &fed);
        if !unfed.is_empty() {
            let path = format!("stage.{}.from", item.name);
            let message = format!("nothing feeds the input {} of the plugin", list(unfed));
            let help = "write from = { PORT = \"...\", ... } with every input".to_owned();
            problems.warning(problems.document.find(&path), path, message, Some(help));
        }
        let unread = missing(ports.outputs.iter().map(|p| p.name.as_str()).collect(), &read);
        if !unread.is_empty() && !read.is_empty() {
            let path = format!("stage.{}", item.name);
            let message = format!("nothing reads the output {} of this stage", list(&unread));
            let name = unread[0].trim_matches('"');
            let help = format!("records sent there are dropped; read stage.{}.{name}", item.name);
            problems.warning(problems.document.find(&path), path, message, Some(help));
        }
    }
}

/// Whether this pipeline writes a topic, and so its watermarks.
pub(super) fn carries_watermarks(kind: TopicKind) -> bool {
    !matches!(kind, TopicKind::External { .. })
}
