//! What can only be checked with all items at hand.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::transactions;
use crate::document::Origin;
use crate::graph;
use crate::section::Problems;
use crate::{Feed, Pipeline, Reference, SinkKind, SourceKind};

pub(super) fn check(pipeline: &Pipeline, problems: &Problems<'_>) {
    if pipeline.stages.is_empty() && pipeline.topics.is_empty() && pipeline.sinks.is_empty() {
        let help = "add [stage.NAME], [topic.NAME] or [sink.NAME]".to_owned();
        let message = "the pipeline does nothing: it has no stage, no topic and no sink";
        problems.error(Origin::File, "", message, Some(help));
    }
    if let Some(kafka) = &pipeline.kafka {
        transactions::check(kafka, pipeline.engine.checkpoint_interval_ms, problems);
    }
    topics(pipeline, problems);
    internal_names(pipeline, problems);
    stdin(pipeline, problems);
    files(pipeline, problems);
    cycles(pipeline, problems);
    if problems.errors() == 0 {
        unread(pipeline, problems);
    }
}

/// Topics that something else writes must not be written here as well.
fn topics(pipeline: &Pipeline, problems: &Problems<'_>) {
    let mut readers: BTreeMap<&str, &str> = BTreeMap::new();
    for source in &pipeline.sources {
        let SourceKind::Topic { topic, .. } = &source.kind else { continue };
        let path = format!("source.{}.topic", source.name);
        let origin = problems.document.find(&path);
        let error = |message: String, help: String| {
            problems.error(origin, path.clone(), message, Some(help));
        };
        if let Some(first) = readers.insert(topic, &source.name) {
            let message = format!("source.{first} reads topic {topic:?} as well");
            error(message, format!("read source.{first} in several places instead"));
        }
        let declared = pipeline.topics.iter().find(|t| t.name == *topic);
        let rejects =
            pipeline.stages.iter().find(|s| s.rejects.in_order().contains(&topic.as_str()));
        if declared.is_some_and(|t| !t.from.is_empty()) {
            let message = format!("topic {topic:?} is fed by this pipeline, it can't be a source");
            error(message, format!("read topic.{topic} instead"));
        } else if let Some(stage) = rejects {
            let message = format!("stage.{} sends rejected records to topic {topic:?}", stage.name);
            error(message, format!("declare [topic.{topic}] and read topic.{topic} instead"));
        }
    }
}

/// Names of the form of repartition topics are not for others.
fn internal_names(pipeline: &Pipeline, problems: &Problems<'_>) {
    let prefix = format!("{}-", pipeline.name);
    let check = |name: &str, path: String| {
        if name.starts_with(&prefix) && name.ends_with("-repartition") {
            let message = format!("the name {name:?} is kept for topics between two stages");
            problems.error(problems.document.find(&path), path, message, None);
        }
    };
    for topic in &pipeline.topics {
        check(&topic.name, format!("topic.{}", topic.name));
    }
    for source in &pipeline.sources {
        if let SourceKind::Topic { topic, .. } = &source.kind {
            check(topic, format!("source.{}.topic", source.name));
        }
    }
    let keys = ["malformed", "invalid", "late", "expired"];
    let own = pipeline.stages.iter().map(|s| (format!("stage.{}.rejects", s.name), &s.rejects));
    for (path, rejects) in own.chain([("rejects".to_owned(), &pipeline.rejects)]) {
        for (key, name) in keys.iter().zip(rejects.in_order()) {
            let path = format!("{path}.{key}");
            let own = path.starts_with("stage.");
            if !own || !pipeline.rejects.in_order().contains(&name) {
                check(name, path);
            }
        }
    }
}

fn stdin(pipeline: &Pipeline, problems: &Problems<'_>) {
    let is_stdin = |s: &&crate::Source| matches!(s.kind, SourceKind::Stdin { .. });
    let mut all = pipeline.sources.iter().filter(is_stdin);
    let Some(first) = all.next() else { return };
    for source in all {
        let path = format!("source.{}", source.name);
        let message = format!("source.{} reads standard input as well", first.name);
        let help = format!("read source.{} in several places instead", first.name);
        problems.error(problems.document.find(&path), path, message, Some(help));
    }
}

/// No two sinks write one file, and no sink the file that a source reads.
fn files(pipeline: &Pipeline, problems: &Problems<'_>) {
    let mut writers: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for sink in &pipeline.sinks {
        let SinkKind::File { path: file, .. } = &sink.kind else { continue };
        let path = format!("sink.{}.path", sink.name);
        let origin = problems.document.find(&path);
        let plain = plain(file);
        for source in &pipeline.sources {
            let SourceKind::File { paths, .. } = &source.kind else { continue };
            if paths.iter().any(|p| self::plain(&p.folder.join(&p.glob)) == plain) {
                let message =
                    format!("source.{} reads the file that this sink writes", source.name);
                problems.error(origin, path.clone(), message, None);
            }
        }
        if let Some(first) = writers.insert(plain, &sink.name) {
            let message = format!("sink.{first} writes to {} as well", file.display());
            let help = format!("let sink.{first} read both: from = [..., ...]");
            problems.error(origin, path, message, Some(help));
        }
    }
}

/// A path without `.` and, as far as it goes, without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(plain.components().next_back(), Some(Component::Normal(_))) =>
            {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

fn cycles(pipeline: &Pipeline, problems: &Problems<'_>) {
    let stages = pipeline.stages.len();
    let element = |reference: &Reference| match reference {
        Reference::Source(_) => None,
        Reference::Stage { stage, .. } => Some(*stage),
        Reference::Topic(topic) => Some(stages + topic),
    };
    let name = |element: usize| match element.checked_sub(stages) {
        None => format!("stage.{}", pipeline.stages[element].name),
        Some(topic) => format!("topic.{}", pipeline.topics[topic].name),
    };
    let mut next = vec![Vec::new(); stages + pipeline.topics.len()];
    let readers = pipeline.stages.iter().map(|s| &s.from);
    for (reader, feeds) in readers.chain(pipeline.topics.iter().map(|t| &t.from)).enumerate() {
        for from in feeds.iter().filter_map(|f| element(&f.from)) {
            next[from].push(reader);
        }
    }
    let plain = next.clone();
    for (index, stage) in pipeline.stages.iter().enumerate() {
        for (topic, declared) in pipeline.topics.iter().enumerate() {
            if stage.rejects.in_order().contains(&declared.name.as_str()) {
                next[index].push(stages + topic);
            }
        }
    }
    for cycle in graph::cycles(&next) {
        let round = cycle.iter().chain(cycle.first());
        let shown: Vec<String> = round.clone().map(|e| name(*e)).collect();
        let edges = round.clone().zip(round.skip(1));
        let rejecting = edges.into_iter().find(|(from, to)| !plain[**from].contains(to));
        let help = match rejecting {
            Some((from, to)) => {
                let (from, to) = (name(*from), name(*to));
                format!(
                    "{from} sends its rejected records to {to}; name others in [{from}.rejects]"
                )
            }
            None => "a record can't come by twice; read something else at one place".to_owned(),
        };
        let path = name(cycle[0]);
        let message = format!("there is a cycle: {}", shown.join(" -> "));
        problems.error(problems.document.find(&path), path, message, Some(help));
    }
}

fn unread(pipeline: &Pipeline, problems: &Problems<'_>) {
    let stages = pipeline.stages.iter().flat_map(|s| &s.from);
    let topics = pipeline.topics.iter().flat_map(|t| &t.from);
    let feeds: Vec<&Feed> =
        stages.chain(topics).chain(pipeline.sinks.iter().flat_map(|s| &s.from)).collect();
    let warn = |path: String, message: &str, help: &str| {
        problems.warning(problems.document.find(&path), path, message, Some(help.to_owned()));
    };
    for (index, source) in pipeline.sources.iter().enumerate() {
        let declared = |topic: usize| match &source.kind {
            SourceKind::Topic { topic: name, .. } => pipeline.topics[topic].name == *name,
            _ => false,
        };
        let read = |f: &&Feed| match f.from {
            Reference::Source(source) => source == index,
            Reference::Topic(topic) => declared(topic),
            Reference::Stage { .. } => false,
        };
        if !feeds.iter().any(read) {
            let path = format!("source.{}", source.name);
            warn(path, "nothing reads this source", "read it by a from, or remove it");
        }
    }
    for (index, stage) in pipeline.stages.iter().enumerate() {
        let read = |f: &&Feed| matches!(f.from, Reference::Stage { stage, .. } if stage == index);
        if !feeds.iter().any(read) {
            let path = format!("stage.{}", stage.name);
            let message = "nothing reads what this stage emits";
            warn(path, message, "add a sink, a topic or a stage that does");
        }
    }
    for (index, topic) in pipeline.topics.iter().enumerate() {
        let read = |f: &&Feed| f.from == Reference::Topic(index);
        let rejects = |s: &crate::Stage| s.rejects.in_order().contains(&topic.name.as_str());
        let written = !topic.from.is_empty() || pipeline.stages.iter().any(rejects);
        if !written && !feeds.iter().any(read) {
            let path = format!("topic.{}", topic.name);
            warn(path, "nothing feeds this topic and nothing reads it", "add from, or remove it");
        }
    }
}
