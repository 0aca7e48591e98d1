//! A plan as text.

use std::fmt::Write;

use wasmill_abi::RejectionKind;

use super::cuts::Context;
use super::{Clock, InputFrom, Plan, SubTopology, Target, TopicKind};
use crate::units::{show_bytes, show_duration};
use crate::{KeyBy, Policy};

/// The names that indexes into the pipeline stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    sources: Vec<String>,
    sinks: Vec<String>,
    stages: Vec<StageNames>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct StageNames {
    name: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl Names {
    pub(super) fn of(context: &Context<'_>) -> Self {
        let stages = context.pipeline.stages.iter().enumerate().map(|(index, stage)| {
            let ports = context.catalog.plugin(index).ports;
            StageNames {
                name: stage.name.clone(),
                inputs: ports.inputs.iter().map(|p| p.name.clone()).collect(),
                outputs: ports.outputs.iter().map(|p| p.name.clone()).collect(),
            }
        });
        Self {
            sources: context.pipeline.sources.iter().map(|s| s.name.clone()).collect(),
            sinks: context.pipeline.sinks.iter().map(|s| s.name.clone()).collect(),
            stages: stages.collect(),
        }
    }
}

pub(super) fn plan(plan: &Plan) -> String {
    let mut text = String::new();
    for subtopology in &plan.subtopologies {
        draw(plan, subtopology, &mut text).expect("writing into a string does not fail");
    }
    topics(plan, &mut text).expect("writing into a string does not fail");
    text
}

fn draw(plan: &Plan, subtopology: &SubTopology, text: &mut String) -> std::fmt::Result {
    let tasks = plural(subtopology.partitions, "task");
    writeln!(text, "sub-topology {}, {tasks}", subtopology.id)?;
    for input in &subtopology.inputs {
        let name = match input.from {
            InputFrom::Source(source) => format!("source.{}", plan.names.sources[source]),
            InputFrom::Topic(topic) => format!("topic.{}", plan.topics[topic].name),
        };
        let partitions = plural(input.partitions, "partition");
        let clock = match input.clock {
            Clock::Carried => "watermarks as written".to_owned(),
            Clock::Generated(policy) => show_policy(policy),
        };
        writeln!(text, "  {name}, {partitions}, {clock}")?;
        targets(plan, subtopology, &input.targets, "    ", text)?;
    }
    for node in &subtopology.nodes {
        let stage = &plan.names.stages[node.stage];
        writeln!(text, "  stage.{}", stage.name)?;
        for (output, name) in node.outputs.iter().zip(&stage.outputs) {
            write!(text, "    {name}")?;
            if let Some(policy) = output.assigns_event_time {
                write!(text, ", sets the event time, {}", show_policy(policy))?;
            }
            writeln!(text, "{}", if output.targets.is_empty() { ": not read" } else { "" })?;
            targets(plan, subtopology, &output.targets, "      ", text)?;
        }
        let rejects = RejectionKind::ALL.iter().zip(node.rejects);
        let rejects = rejects.map(|(kind, topic)| match plan.topics[topic].name.as_str() {
            name if name == kind.name() => name.to_owned(),
            name => format!("{} to {name}", kind.name()),
        });
        writeln!(text, "    rejects: {}", rejects.collect::<Vec<_>>().join(", "))?;
    }
    writeln!(text)
}

fn targets(
    plan: &Plan,
    subtopology: &SubTopology,
    targets: &[Target],
    indent: &str,
    text: &mut String,
) -> std::fmt::Result {
    for target in targets {
        match target {
            Target::Node { node, port } => {
                let stage = &plan.names.stages[subtopology.nodes[*node].stage];
                write!(text, "{indent}-> stage.{}", stage.name)?;
                if stage.inputs.len() > 1 {
                    write!(text, " ({})", stage.inputs[usize::from(*port)])?;
                }
            }
            Target::Topic { topic, key_by } => {
                write!(text, "{indent}-> topic.{}", plan.topics[*topic].name)?;
                match key_by {
                    Some(KeyBy::Field(field)) => write!(text, " by {}", field.join("."))?,
                    Some(KeyBy::Constant(key)) => write!(text, " by the constant {key:?}")?,
                    None => {}
                }
            }
            Target::Sink(sink) => write!(text, "{indent}-> sink.{}", plan.names.sinks[*sink])?,
        }
        writeln!(text)?;
    }
    Ok(())
}

fn topics(plan: &Plan, text: &mut String) -> std::fmt::Result {
    if plan.topics.is_empty() {
        return Ok(());
    }
    writeln!(text, "topics")?;
    let width = plan.topics.iter().map(|t| t.name.len()).max().unwrap_or(0);
    for topic in &plan.topics {
        let kind = match topic.kind {
            TopicKind::External { .. } => "external",
            TopicKind::Fed => "fed",
            TopicKind::Repartition { .. } => "repartition",
            TopicKind::Rejects => "rejects",
        };
        let partitions = plural(topic.partitions, "partition");
        write!(text, "  {:width$}  {kind}, {partitions}", topic.name)?;
        if let Some(bytes) = topic.retention_bytes {
            write!(text, ", the last {} kept", show_bytes(bytes))?;
        }
        if !topic.producers.is_empty() {
            let ids: Vec<String> = topic.producers.iter().map(usize::to_string).collect();
            write!(text, ", written by {}", ids.join(", "))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn show_policy(policy: Policy) -> String {
    let bound = show_duration(policy.out_of_orderness_ms);
    match policy.idle_timeout_ms {
        Some(ms) => format!("watermarks {bound} behind, idle after {}", show_duration(ms)),
        None => format!("watermarks {bound} behind"),
    }
}

fn plural(count: u32, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
