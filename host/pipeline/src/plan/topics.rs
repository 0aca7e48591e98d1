//! The topics that the file names.

use super::{Topic, TopicKind};
use crate::section::Problems;
use crate::{Pipeline, SourceKind};

/// The declared topics, with the indexes they have in the file, then those that only sources name.
pub(super) fn declared(
    pipeline: &Pipeline,
    source_partitions: &dyn Fn(usize) -> u32,
    problems: &Problems<'_>,
) -> Vec<Topic> {
    let source_of = |name: &str| {
        pipeline.sources.iter().position(|s| match &s.kind {
            SourceKind::Topic { topic, .. } => topic == name,
            _ => false,
        })
    };
    let mut topics = Vec::new();
    for declared in &pipeline.topics {
        let rejects =
            pipeline.stages.iter().any(|s| s.rejects.in_order().contains(&declared.name.as_str()));
        let source = source_of(&declared.name);
        let kind = match declared.from.is_empty() {
            false => TopicKind::Fed,
            true if rejects => TopicKind::Rejects,
            true => TopicKind::External { source },
        };
        let partitions = match (kind, declared.partitions) {
            (TopicKind::External { source: Some(source) }, said) => {
                let found = source_partitions(source).max(1);
                if let Some(said) = said.filter(|said| *said != found) {
                    let path = format!("topic.{}.partitions", declared.name);
                    let message = format!("the topic has {found} partitions, the file says {said}");
                    let help = "remove the line: an external topic has the partitions it has";
                    let origin = problems.document.find(&path);
                    problems.error(origin, path, message, Some(help.to_owned()));
                }
                found
            }
            (_, said) => said.unwrap_or(pipeline.engine.partitions),
        };
        topics.push(Topic {
            name: declared.name.clone(),
            partitions,
            kind,
            retention_bytes: declared.retention_bytes,
            producers: Vec::new(),
        });
    }
    for (index, source) in pipeline.sources.iter().enumerate() {
        let SourceKind::Topic { topic: name, .. } = &source.kind else { continue };
        if !topics.iter().any(|t| t.name == *name) {
            topics.push(Topic {
                name: name.clone(),
                partitions: source_partitions(index).max(1),
                kind: TopicKind::External { source: Some(index) },
                retention_bytes: None,
                producers: Vec::new(),
            });
        }
    }
    topics
}
