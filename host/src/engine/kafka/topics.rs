//! The topics of a pipeline on Kafka: their names, partitions and configuration.
//!
//! What the pipeline reads of its own goes through topics of frames, which carry watermarks; a topic
//! that the pipeline file declares and that the pipeline reads too is there twice: plain for others,
//! as frames for itself.

use std::collections::BTreeMap;

use wasmill_kafka::{Admin, TopicSpec};
use wasmill_pipeline::Pipeline;
use wasmill_pipeline::plan::{Plan, TopicKind};

use super::outbox::Ways;
use super::units::{Component, Leader};
use super::{control, setup};
use crate::engine::Error;
use crate::engine::prepare::Prepared;
use crate::engine::topology::{Topic, Topology};

/// The largest record of a topic of frames or a changelog, in bytes.
const MAX_MESSAGE_BYTES: &str = "10485760";

/// Where the records of each topic go.
///
/// What the pipeline gives to others goes to topics whose names end in `suffix`.
pub(super) fn ways(topology: &Topology, pipeline: &str, group: &str, suffix: &str) -> Vec<Ways> {
    let of = |topic: &Topic| {
        // Named after the group, so that several may run the same pipeline.
        let own = topic.name.strip_prefix(&format!("{pipeline}-")).unwrap_or(&topic.name);
        let suffix = if topic.external { "" } else { suffix };
        let plain = format!("{}{suffix}", topic.name);
        let (plain, frames) = if topic.internal {
            (None, Some(format!("{group}-{own}")))
        } else if topic.carried {
            (Some(plain), Some(format!("{group}-{}-frames", topic.name)))
        } else {
            (Some(plain), None)
        };
        Ways { plain, frames, partitions: topic.partitions }
    };
    topology.topics.iter().map(of).collect()
}

/// The plan, with the partitions that topics of rejected records have already: nobody joins by them, so
/// that any number will do, and pipelines may share them.
pub(super) fn with_rejects(plan: &Plan, pipeline: &Pipeline, admin: &Admin) -> Result<Plan, Error> {
    let mut plan = plan.clone();
    for topic in &mut plan.topics {
        if topic.kind == TopicKind::Rejects
            && pipeline.topic(&topic.name).is_none()
            && let Some(partitions) = admin.partitions(&topic.name)?
        {
            topic.partitions = partitions;
        }
    }
    Ok(plan)
}

/// What must be there before the pipeline runs.
pub(super) fn specs(
    prepared: &Prepared,
    topology: &Topology,
    components: &[Component],
    ways: &[Ways],
    group: &str,
) -> Vec<TopicSpec> {
    let pipeline = &prepared.pipeline;
    let replication = |name: &str| pipeline.replication(name).and_then(|n| u16::try_from(n).ok());
    let spec = |name: String, partitions: u32, config: BTreeMap<String, String>| TopicSpec {
        replication: replication(&name),
        partitions: Some(partitions),
        config,
        name,
        ..TopicSpec::default()
    };
    let own = |name, partitions, config| TopicSpec { own: true, ..spec(name, partitions, config) };
    let mut specs = Vec::new();
    for (topic, ways) in topology.topics.iter().zip(ways) {
        if let Some(name) = &ways.plain {
            let declared = topic.declared.map(|i| &pipeline.topics[i]);
            let mut config = declared.map(|d| d.config.clone()).unwrap_or_default();
            if let Some(bytes) = topic.retention_bytes {
                config.entry("retention.bytes".into()).or_insert_with(|| bytes.to_string());
            }
            let mut spec = spec(name.clone(), topic.partitions, config);
            spec.must_exist = topic.external && declared.is_none();
            // Whoever writes it decides that.
            spec.any_replication = topic.external;
            specs.push(spec);
        }
        if let Some(name) = &ways.frames {
            specs.push(own(name.clone(), topic.partitions, kept()));
        }
    }
    let compacted = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
    specs.push(own(control::topic(group), 1, compacted));
    for sub in 0..topology.subs.len() {
        let of = &topology.subs[sub];
        specs.push(own(setup::changelog(group, of.id), of.partitions, kept()));
    }
    for component in components {
        if let Leader::Assignment(name) = &component.leader {
            specs.push(own(name.clone(), component.partitions, BTreeMap::new()));
        }
    }
    specs
}

/// What to say of an input that has got partitions since the run began.
pub(super) fn grown(topic: &str, now: u32, then: u32) -> Error {
    Error::Shape(format!(
        "topic {topic} has {now} partitions now, and had {then} when this run began: what is in the new \
         ones would not be read. Keys are placed by the number of partitions, and with them state, so \
         that a group can't go on with another number: say the new one in the pipeline file \
         (topic.{topic}.partitions, or engine.partitions), and run it in another group: --set \
         kafka.group=NAME"
    ))
}

/// Looks whether any input from outside has got partitions since the run began.
pub(super) fn look_for_growth(
    admin: &Admin,
    topology: &Topology,
    ways: &[Ways],
) -> Result<(), Error> {
    let inputs = topology.topics.iter().zip(ways).filter(|(topic, _)| topic.external);
    for (topic, name) in inputs.filter_map(|(topic, ways)| Some((topic, ways.plain.as_deref()?))) {
        if let Some(now) = admin.partitions(name)?.filter(|now| *now > topic.partitions) {
            return Err(grown(name, now, topic.partitions));
        }
    }
    Ok(())
}

/// The configuration of a topic that the pipeline itself cleans up.
fn kept() -> BTreeMap<String, String> {
    [
        ("cleanup.policy", "delete"),
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
        ("max.message.bytes", MAX_MESSAGE_BYTES),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}
