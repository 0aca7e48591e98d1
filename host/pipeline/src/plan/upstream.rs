//! What holds for records because of where they come from, however far away: how much they may be
//! out of order, and whether they can have a key.

use wasmill_abi::Treatment;

use super::wires::{From, Wire, Wires};
use super::{Catalog, Topic, TopicKind};
use crate::section::Problems;
use crate::{Format, Pipeline, Policy, SourceKind};

#[derive(Debug, Clone, Copy, Default)]
struct Origin {
    policy: Option<Policy>,
    keyed: bool,
}

impl Origin {
    fn join(self, other: Self) -> Self {
        let policy = match (self.policy, other.policy) {
            (Some(a), Some(b)) => Some(Policy {
                out_of_orderness_ms: a.out_of_orderness_ms.max(b.out_of_orderness_ms),
                // None is never, which is the longest.
                idle_timeout_ms: a.idle_timeout_ms.zip(b.idle_timeout_ms).map(|(a, b)| a.max(b)),
            }),
            (a, b) => a.or(b),
        };
        Self { policy, keyed: self.keyed || other.keyed }
    }
}

/// What reaches each stage.
pub(super) struct Upstream {
    stages: Vec<Origin>,
    /// Stages that keep state by key and get records of which none can have one.
    keyless: Vec<usize>,
}

impl Upstream {
    pub(super) fn of(
        pipeline: &Pipeline,
        catalog: &dyn Catalog,
        topics: &[Topic],
        wires: &Wires,
    ) -> Self {
        let count = pipeline.stages.len();
        let mut stages = vec![Origin::default(); count];
        let mut carried = vec![Origin::default(); topics.len()];
        let mut keyless = Vec::new();
        for element in &wires.order {
            if let Some(topic) = element.checked_sub(count) {
                let feeding = wires.to_topic(topic);
                let mut origin = through(pipeline, catalog, feeding, &stages, &carried);
                match topics[topic].kind {
                    TopicKind::External { source } => {
                        let policy = source.map(|s| pipeline.sources[s].policy);
                        origin = Origin { policy: Some(policy.unwrap_or_default()), keyed: true };
                    }
                    TopicKind::Rejects => {
                        let name = topics[topic].name.as_str();
                        let rejects =
                            |s: &usize| pipeline.stages[*s].rejects.in_order().contains(&name);
                        let origins = (0..count).filter(rejects).map(|s| stages[s]);
                        origin = origins.fold(origin, Origin::join);
                        origin.keyed = true;
                    }
                    TopicKind::Fed => origin.keyed |= pipeline.topics[topic].key_by.is_some(),
                    TopicKind::Repartition { .. } => {}
                }
                carried[topic] = origin;
            } else {
                let stage = *element;
                let feeding = wires.to_stage(stage);
                let mut origin = through(pipeline, catalog, feeding, &stages, &carried);
                origin.keyed |= pipeline.stages[stage].key_by.is_some();
                if catalog.plugin(stage).keyed && !origin.keyed {
                    keyless.push(stage);
                }
                stages[stage] = origin;
            }
        }
        Self { stages, keyless }
    }

    /// The policy of the sources that a stage's records come from, the largest bounds of several.
    pub(super) fn policy(&self, stage: usize) -> Policy {
        self.stages[stage].policy.unwrap_or_default()
    }

    pub(super) fn warn(
        &self,
        pipeline: &Pipeline,
        catalog: &dyn Catalog,
        wires: &Wires,
        problems: &Problems<'_>,
    ) {
        for stage in &self.keyless {
            // Once is enough: what comes after such a stage is no better.
            let keyed_before = wires.to_stage(*stage).all(|w| match w.from {
                From::Output { stage, .. } => catalog.plugin(stage).keyed,
                _ => false,
            });
            if keyed_before {
                continue;
            }
            let path = format!("stage.{}", pipeline.stages[*stage].name);
            let message = "the plugin keeps state by key, but no record that comes here has a key";
            let help = "add key-by = \"FIELD\" to the stage, or key = \"FIELD\" to the source";
            problems.warning(problems.document.find(&path), path, message, Some(help.to_owned()));
        }
    }
}

fn through<'w>(
    pipeline: &Pipeline,
    catalog: &dyn Catalog,
    wires: impl Iterator<Item = &'w Wire>,
    stages: &[Origin],
    topics: &[Origin],
) -> Origin {
    let origin = |wire: &Wire| match wire.from {
        From::Topic(topic) => topics[topic],
        From::Source(source) => {
            let source = &pipeline.sources[source];
            let keyed = match &source.kind {
                SourceKind::File { encoding, .. } | SourceKind::Stdin { encoding } => {
                    matches!(encoding.format, Format::JsonLines { key: Some(_), .. })
                }
                SourceKind::Topic { .. } => true,
            };
            Origin { policy: Some(source.policy), keyed }
        }
        From::Output { stage, output } => {
            let ports = catalog.plugin(stage).ports;
            let assigned = ports.outputs[usize::from(output)].key == Treatment::Assigned;
            Origin { keyed: stages[stage].keyed || assigned, ..stages[stage] }
        }
    };
    wires.map(origin).fold(Origin::default(), Origin::join)
}
