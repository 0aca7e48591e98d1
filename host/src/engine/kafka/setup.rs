//! What all workers of a run share: names of topics, settings, what is open, figures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use wasmill_core::metrics;
use wasmill_kafka::{Admin, Settings, Strategy};
use wasmill_pipeline::{LostOffsets, Source, SourceKind};

use super::open::OpenFiles;
use super::outbox::Ways;
use super::restores::Restores;
use super::units::{Component, Leader, Unit};
use crate::admin::figures::{self, Figures};
use crate::admin::status;
use crate::engine::prepare::Prepared;
use crate::engine::report::Progress;
use crate::engine::topology::Topology;
use crate::engine::worker::lock;
use crate::engine::{Error, Options, Replay};

/// How often the progress of a restore is told.
const TELL: Duration = Duration::from_secs(2);

/// What all workers share.
pub(super) struct Setup<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) settings: Settings,
    pub(super) group: String,
    pub(super) exactly_once: bool,
    pub(super) strategy: Strategy,
    pub(super) interval: Duration,
    /// How long a reader of a changelog waits when nothing comes.
    pub(super) patience: Duration,
    /// How long state of tasks that are elsewhere is kept.
    pub(super) cleanup_delay: Duration,
    /// In how many other instances the state of a task has a copy.
    pub(super) standby: usize,
    pub(super) data_dir: PathBuf,
    pub(super) replay: Option<Replay>,
    /// Tells this process from others: part of the transactional ids.
    pub(super) instance: String,
    pub(super) topology: Topology,
    pub(super) components: Vec<Component>,
    /// Where the records of each topic go.
    pub(super) ways: Vec<Ways>,
    /// Bytes of memory for the state of a keyed stage of a task, if all tasks were here.
    pub(super) budget: usize,
    /// The same for the tasks that are here.
    pub(super) share: AtomicUsize,
    pub(super) admin: Admin,
    pub(super) open_files: OpenFiles,
    pub(super) restores: Restores,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: Arc<AtomicBool>,
    /// Whether the run is over, however: workers commit and leave.
    pub(super) ending: AtomicBool,
    pub(super) error: Mutex<Option<Error>>,
    /// Counts and watermark of each stage, by task.
    pub(super) stages: Mutex<BTreeMap<(String, usize), (metrics::Stage, i64)>>,
    pub(super) commits: AtomicU64,
    /// Units all of whose tasks have ended, by commits of this process.
    pub(super) ended: Mutex<BTreeSet<Unit>>,
    /// What this process is called as a static member of the group (KIP-345).
    pub(super) static_member: Option<String>,
    /// When the run began.
    pub(super) began: Instant,
    /// When the first record was read, from the beginning.
    pub(super) first: OnceLock<Duration>,
    /// Whether all tasks of the pipeline have ended.
    pub(super) complete: AtomicBool,
    /// Workers that have tasks, all of which have ended; and those that have none.
    pub(super) done: AtomicUsize,
    pub(super) bare: AtomicUsize,
    /// Where bounded inputs end, by topic and partition.
    ends: Mutex<BTreeMap<(String, u32), i64>>,
    /// How the run stands, for whoever asks.
    pub(super) figures: Arc<Figures>,
}

impl<'a> Setup<'a> {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        prepared: &'a Prepared,
        options: &Options,
        settings: Settings,
        group: String,
        instance: String,
        topology: Topology,
        components: Vec<Component>,
        ways: Vec<Ways>,
        budget: usize,
        admin: Admin,
    ) -> Self {
        let kafka = prepared.pipeline.kafka.as_ref();
        let static_member = kafka.and_then(super::static_member);
        let eager = kafka.is_some_and(|k| k.rebalance == wasmill_pipeline::Rebalance::Eager);
        Self {
            prepared,
            settings,
            group,
            exactly_once: kafka
                .is_none_or(|k| k.guarantee == wasmill_pipeline::Guarantee::ExactlyOnce),
            strategy: if eager { Strategy::Eager } else { Strategy::Cooperative },
            interval: match prepared.pipeline.engine.checkpoint_interval_ms {
                _ if super::failpoint::is_set() => Duration::ZERO,
                ms => Duration::from_millis(ms),
            },
            patience: super::open::patience(&prepared.pipeline),
            cleanup_delay: Duration::from_millis(
                kafka.map_or(600_000, |k| k.state_cleanup_delay_ms),
            ),
            standby: kafka.map_or(0, |k| k.standby as usize),
            data_dir: options.data_dir.clone(),
            replay: options.replay.clone(),
            instance,
            topology,
            components,
            ways,
            budget,
            share: AtomicUsize::new(budget),
            admin,
            open_files: OpenFiles::default(),
            restores: Restores::default(),
            progress: options.progress.clone(),
            stop: options.stop.clone(),
            ending: AtomicBool::new(false),
            error: Mutex::default(),
            stages: Mutex::default(),
            commits: AtomicU64::new(0),
            ended: Mutex::default(),
            static_member,
            began: Instant::now(),
            first: OnceLock::new(),
            complete: AtomicBool::new(false),
            done: AtomicUsize::new(0),
            bare: AtomicUsize::new(0),
            ends: Mutex::default(),
            figures: options.figures.clone(),
        }
    }

    /// Whether all tasks of the pipeline have ended, those of other instances included.
    pub(super) fn has_ended(&self, stop: &Arc<AtomicBool>) -> Result<bool, Error> {
        for (component, of) in self.components.iter().enumerate() {
            for partition in 0..of.partitions {
                let unit = Unit { component, partition };
                if lock(&self.ended).contains(&unit) {
                    continue;
                }
                if !super::open::has_ended(self, unit, stop)? {
                    return Ok(false);
                }
                lock(&self.ended).insert(unit);
            }
        }
        Ok(true)
    }

    /// The changelog of a sub-topology.
    pub(super) fn changelog(&self, sub: usize) -> String {
        changelog(&self.group, self.topology.subs[sub].id)
    }

    /// Whether a topic is one of those that the pipeline writes for nobody but itself.
    pub(super) fn is_frames(&self, topic: &str) -> bool {
        self.ways.iter().any(|ways| ways.frames.as_deref() == Some(topic))
    }

    /// What a topic is to the pipeline.
    pub(super) fn part_of(&self, topic: &str) -> Part {
        if (0..self.topology.subs.len()).any(|sub| self.changelog(sub) == topic) {
            return Part::Changelog;
        }
        if self.is_frames(topic) {
            return Part::Frames;
        }
        let policy = |source: &Source| match &source.kind {
            SourceKind::Topic { topic: read, lost_offsets, .. } => {
                (read == topic).then_some(*lost_offsets)
            }
            _ => None,
        };
        let policy = self.prepared.pipeline.sources.iter().find_map(policy);
        Part::Input(policy.unwrap_or(LostOffsets::Fail))
    }

    /// The topic whose partitions stand for the units of a component.
    pub(super) fn leader(&self, component: usize) -> &str {
        leader(&self.components[component], &self.ways)
    }

    /// Notes an error; the first one counts.
    pub(super) fn fail(&self, error: Error) {
        lock(&self.error).get_or_insert(error);
    }

    /// Where a bounded input ends: where its topic ended when it was first asked for.
    pub(super) fn end_of(&self, topic: &str, partition: u32, end: i64) -> i64 {
        *lock(&self.ends).entry((topic.to_owned(), partition)).or_insert(end)
    }

    /// Where a bounded input ends, once it was asked for.
    pub(super) fn known_end(&self, topic: &str, partition: u32) -> Option<i64> {
        lock(&self.ends).get(&(topic.to_owned(), partition)).copied()
    }

    /// Whether all that the pipeline reads from outside are topics with an end.
    pub(super) fn reads_bounded_topics(&self) -> bool {
        let is_topic = |source: &Source| matches!(source.kind, SourceKind::Topic { .. });
        self.prepared.pipeline.sources.iter().all(|s| s.bounded && is_topic(s))
    }

    /// An offset to begin with that exists, by the source's policy for lost offsets.
    pub(super) fn in_range(
        &self,
        source: Option<&Source>,
        topic: &str,
        partition: u32,
        offset: i64,
        (start, end): (i64, i64),
    ) -> Result<i64, Error> {
        if (start..=end).contains(&offset) {
            return Ok(offset);
        }
        let policy = match source.map(|s| &s.kind) {
            Some(SourceKind::Topic { lost_offsets, .. }) => *lost_offsets,
            _ => LostOffsets::Fail,
        };
        let to = match policy {
            LostOffsets::Earliest => start,
            LostOffsets::Latest => end,
            LostOffsets::Fail => {
                return Err(Error::Kafka(wasmill_kafka::Error::OffsetGone {
                    topic: topic.to_owned(),
                    partition,
                    offset,
                    range: Some((start, end)),
                }));
            }
        };
        tracing::warn!(
            topic,
            partition,
            offset,
            start,
            end,
            "the offset to go on with is gone; reading goes on at {to}, by the source's lost-offsets"
        );
        Ok(to)
    }

    /// Shows how a restore gets on until the result is dropped.
    pub(super) fn restore(&self, topic: &str, partition: u32, from: i64, end: i64) -> Restore {
        let restore = status::Restore { topic: topic.into(), partition, from, position: from, end };
        let shown = self.figures.restore(restore);
        let (name, told) = (format!("{topic}/{partition}"), std::cell::Cell::new(Instant::now()));
        Restore { name, from, end, told, shown }
    }
}

/// What a topic is to the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A changelog of the pipeline's own.
    Changelog,
    /// One of those that the pipeline writes for nobody but itself.
    Frames,
    /// One that it reads, whatever its name, and what to do when an offset of it is gone.
    Input(LostOffsets),
}

/// The changelog of a sub-topology.
pub(super) fn changelog(group: &str, sub: usize) -> String {
    format!("{group}-{sub}-changelog")
}

/// The topic whose partitions stand for the units of a component.
pub(super) fn leader<'a>(component: &'a Component, ways: &'a [Ways]) -> &'a str {
    match &component.leader {
        Leader::Assignment(name) => name,
        Leader::Topic(topic) => {
            let ways = &ways[*topic];
            ways.frames.as_ref().or(ways.plain.as_ref()).expect("a topic has a way")
        }
    }
}

/// A restore that is going on.
pub(super) struct Restore {
    name: String,
    from: i64,
    end: i64,
    told: std::cell::Cell<Instant>,
    shown: figures::Restore,
}

impl Restore {
    /// It has come so far.
    pub(super) fn at(&self, position: i64) {
        self.shown.at(position);
        if self.told.get().elapsed() < TELL {
            return;
        }
        self.told.set(Instant::now());
        let share = 100 * (position - self.from) / (self.end - self.from).max(1);
        tracing::info!(
            changelog = self.name,
            position,
            end = self.end,
            "restoring state: {share} %"
        );
    }
}
