//! Opening one task: its stages with their state, its inputs where they stand.
//!
//! Invariant: state file and changelog of a task have together what the last commit has.

use std::sync::Arc;
use std::time::Duration;

use wasmill_core::keys::Keys;
use wasmill_core::limits::Limits;
use wasmill_core::maps::MapStore;
use wasmill_core::operator::Operator;
use wasmill_core::stateless::{Base, FailurePolicy, Stage as StatelessStage};
use wasmill_core::store::{Cold, Nothing};
use wasmill_core::task::{Stage, Task};
use wasmill_log::{Log, Position, Retention, TopicOptions};
use wasmill_pipeline::plan::{InputFrom, TopicKind};
use wasmill_pipeline::{OnFailure, SourceKind, Start};

use super::{Opened, SEGMENT_BYTES, Topics, is_keyed};
use crate::engine::apply::Follower;
use crate::engine::embedded::{LogOutlet, LogTask, Out};
use crate::engine::feed::{Feed, Lines, Place, Topic};
use crate::engine::prepare::Prepared;
use crate::engine::task::{Input, Run};
use crate::engine::topology::Sub;
use crate::engine::{Error, Options};
use crate::store::State;

#[allow(clippy::too_many_arguments)]
pub(super) fn open(
    prepared: &Prepared,
    options: &Options,
    log: &Log,
    sub: &Sub,
    partition: u32,
    budget: usize,
    topics: &Topics,
    opened: &mut Opened,
) -> Result<LogTask, Error> {
    let name = format!("{}-{partition}", sub.id);
    let epoch = log.epoch() + 1;
    let keyed = sub.stages.iter().any(|i| is_keyed(prepared, *i));
    // Of the memory for state an eighth is for pages of the file, the rest for rows.
    let pages = budget / 8 * sub.stages.iter().filter(|i| is_keyed(prepared, **i)).count();
    let budget = budget - budget / 8;
    let mut cold: Arc<dyn Cold> = Nothing::shared();
    let mut own = None;
    if keyed {
        let topic = format!("{}-{}-changelog", prepared.pipeline.name, sub.id);
        let options_ = TopicOptions { segment_bytes: SEGMENT_BYTES, retention: Retention::Forever };
        log.create_topic(&topic, sub.partitions, options_)?;
        let follower = Follower {
            task: name.clone(),
            changelog: log.partition(&topic, partition)?,
            state: State::open(&options.data_dir.join(format!("state/{name}.redb")), pages)?,
        };
        follower.applied()?;
        cold = Arc::new(follower.state.clone());
        own = Some(follower.clone());
        opened.followers.push(follower);
    }
    let mut stages = Vec::new();
    for (node, index) in sub.stages.iter().enumerate() {
        stages.push(open_stage(prepared, *index, node as u16, budget, &cold, epoch)?);
    }
    let layout = sub.tasks[partition as usize].clone();
    let outs = layout
        .edges
        .iter()
        .enumerate()
        .map(|(e, edge)| Out {
            partitions: topics[edge.topic].clone(),
            producer: sub.producer(e, partition),
        })
        .collect();
    let run = Run::new(
        name,
        sub.id,
        sub.stages.clone(),
        Task::new(layout, stages),
        LogOutlet { outs, epoch },
        prepared.pipeline.engine.batch_records as usize,
        options.progress.clone(),
    );
    Ok(LogTask { run, follower: own, applications: 0 })
}

pub(in crate::engine) fn open_stage(
    prepared: &Prepared,
    index: usize,
    node: u16,
    budget: usize,
    cold: &Arc<dyn Cold>,
    epoch: u64,
) -> Result<Stage, Error> {
    let (stage, plugin) = (&prepared.pipeline.stages[index], &prepared.plugins[index]);
    let (operator, ports) = prepared.runtime.operator(&plugin.component, &plugin.settings)?;
    let limits = Limits {
        output_bytes: stage.limits.output_bytes as usize,
        state_bytes: stage.limits.state_bytes as usize,
        timers: stage.limits.timers as usize,
        map_write_bytes: stage.limits.map_write_bytes as usize,
        batch_records: prepared.pipeline.engine.batch_records as usize,
        ..Limits::default()
    };
    let policy = FailurePolicy {
        halt: stage.on_failure == OnFailure::Halt,
        most_in_a_row: stage.max_failures,
    };
    let base = Base::new(&stage.name, ports, limits, policy);
    Ok(match operator {
        Operator::Stateless(operator) => Stage::Stateless(StatelessStage { base, operator }),
        Operator::Keyed(operator) => {
            let maps = operator.maps();
            let mut keys = Keys::new(node, cold.clone(), budget, stage.state_ttl_ms, maps > 0);
            keys.start_epoch(epoch);
            let maps = MapStore::new(node, maps, cold.clone());
            let stage = wasmill_core::keyed::Stage::new(base, operator, keys, maps);
            Stage::Keyed(Box::new(stage))
        }
    })
}

pub(super) fn open_input(
    prepared: &Prepared,
    from: &InputFrom,
    partition: u32,
    carried: bool,
    place: Option<&Place>,
    topics: &Topics,
) -> Result<Input<Box<dyn Feed + Send>>, Error> {
    if matches!(place, Some(Place::Ended)) {
        return Ok(Input::ended());
    }
    let idle = |ms: Option<i64>| ms.map(|ms| Duration::from_millis(ms.unsigned_abs()));
    match from {
        InputFrom::Source(index) => {
            let source = &prepared.pipeline.sources[*index];
            let Some(part) = prepared.sources[*index].get(partition as usize) else {
                return Ok(Input::ended());
            };
            let position = match place {
                Some(Place::Source(position)) => Some(position.clone()),
                _ => None,
            };
            let lines = Lines(part.open(position)?);
            Ok(Input::new(Box::new(lines), idle(source.policy.idle_timeout_ms)))
        }
        InputFrom::Topic(index) => {
            let Some(part) = topics[*index].get(partition as usize) else {
                return Ok(Input::ended());
            };
            let source = match prepared.plan.topics.get(*index).map(|t| t.kind) {
                Some(TopicKind::External { source: Some(source) }) => {
                    Some(&prepared.pipeline.sources[source])
                }
                _ => None,
            };
            let latest = source
                .is_some_and(|s| matches!(s.kind, SourceKind::Topic { start: Start::Latest, .. }));
            let place = match place {
                Some(Place::Topic(position)) => *position,
                _ if latest => part.position_of(part.end_offset())?,
                _ => Position::start(),
            };
            let until = source.filter(|s| s.bounded).map(|_| part.end_offset());
            let topic = Topic::new(part.clone(), place, until, carried);
            let idle_after = idle(source.and_then(|s| s.policy.idle_timeout_ms));
            Ok(Input::new(Box::new(topic), idle_after))
        }
    }
}
