//! A pipeline file, read and checked.
//!
//! Invariant: every reference of a [`Pipeline`] points at an item that exists, every number is in its
//! documented range, and no item depends on itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::Draft;
use crate::diagnostic::{At, Diagnostic, Severity};
use crate::document::{Document, Origin};
use crate::kafka::Kafka;

/// A pipeline, as its file describes it, with defaults filled in.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The name, `[a-z0-9-]{1,60}`.
    pub name: String,
    /// The file, as its path was given.
    pub file: PathBuf,
    /// Settings of the whole process.
    pub engine: Engine,
    /// Settings of Kafka; none for a pipeline that runs on the embedded log.
    pub kafka: Option<Kafka>,
    /// Where rejected records go, for stages that don't say.
    pub rejects: Rejects,
    /// The sources, in the order of the file, as are all items.
    pub sources: Vec<Source>,
    /// The declared topics.
    pub topics: Vec<Topic>,
    /// The stages.
    pub stages: Vec<Stage>,
    /// The sinks.
    pub sinks: Vec<Sink>,
    /// What is allowed but looks wrong.
    pub warnings: Vec<Diagnostic>,
    pub(crate) document: Document,
}

/// Settings of the whole process, the table `[engine]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Worker threads, 1 to 256; none for one a core.
    pub workers: Option<u32>,
    /// The time from one checkpoint to the next, 10 ms to 1 day. When the file doesn't say: 100 ms
    /// on Kafka, 1 s on the embedded log.
    pub checkpoint_interval_ms: u64,
    /// The most records in one call of a plugin, 1 to 100,000.
    pub batch_records: u32,
    /// The cache of keyed state in memory, for the whole process, 1 MiB to 1 TiB.
    pub cache_bytes: u64,
    /// The partitions of topics that don't say, 1 to 1,024.
    pub partitions: u32,
    /// The folders that plugins are looked up in, in this order.
    pub plugins: Vec<PathBuf>,
    /// Where the process answers questions about itself, `host:port` with a port from 0; none for
    /// nowhere.
    pub admin: Option<String>,
}

/// The names of the topics that rejected records go to, the tables `rejects`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejects {
    /// The dead letter queue: unreadable records and those that make the plugin fail.
    pub malformed: String,
    /// Records against a business rule.
    pub invalid: String,
    /// Records whose window is closed.
    pub late: String,
    /// Records older than what is still of use.
    pub expired: String,
}

impl Rejects {
    /// The names in the order of [`wasmill_abi::RejectionKind::ALL`].
    pub fn in_order(&self) -> [&str; 4] {
        [&self.malformed, &self.invalid, &self.late, &self.expired]
    }
}

/// How watermarks are generated for one partition: the greatest event time so far, minus a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// The bound, not negative.
    pub out_of_orderness_ms: i64,
    /// A partition without data for this long no longer holds the others up; none for never.
    pub idle_timeout_ms: Option<i64>,
}

/// A source, a table `[source.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The name, `[A-Za-z0-9_-]{1,60}`, as of all items but topics.
    pub name: String,
    /// Where it is in the file; none when it comes from a `--set`.
    pub at: Option<At>,
    /// What is read.
    pub kind: SourceKind,
    /// How watermarks are generated.
    pub policy: Policy,
    /// Whether it ends: with the last line there is, or at the end offset seen at the start.
    pub bounded: bool,
}

/// What a source reads.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// Files.
    File {
        /// At least one pattern.
        paths: Vec<Pattern>,
        /// What is in them.
        encoding: Encoding,
    },
    /// Standard input.
    Stdin {
        /// What comes in.
        encoding: Encoding,
    },
    /// A topic that something else writes.
    Topic {
        /// The topic's name.
        topic: String,
        /// Where reading starts the first time.
        start: Start,
        /// What happens when the position of a partition is no longer in the topic. On the embedded
        /// log it always is.
        lost_offsets: LostOffsets,
    },
}

/// Files to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// What a relative glob is relative to; taken literally. Empty for the current directory.
    pub folder: PathBuf,
    /// The glob: `*`, `?`, `**`, `[...]`.
    pub glob: String,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// How records are laid out.
    pub format: Format,
    /// How it is compressed.
    pub compression: Compression,
}

/// How records are laid out in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// Each line is the value of a record.
    Lines,
    /// Each line is a JSON value and the value of a record.
    JsonLines {
        /// The field that holds the key, a segment for each level.
        key: Option<Vec<String>>,
        /// The field that holds the event time, an integer of ms or text in RFC 3339.
        timestamp: Option<Vec<String>>,
    },
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As its name or its first bytes say.
    Auto,
    /// It is not.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Where a topic is read from the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// From the first record that is kept.
    Earliest,
    /// From the end.
    Latest,
    /// From the first record at this time or later, in ms since 1970, not negative. Only on Kafka.
    Timestamp(i64),
    /// From these offsets, not negative, by partition, at least one; partitions without one are
    /// read from the first record that is kept. Only on Kafka.
    Offsets(BTreeMap<u32, i64>),
}

/// What happens when the position of a partition is no longer in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostOffsets {
    /// The pipeline stops: records were lost.
    Fail,
    /// Reading goes on at the first record that is kept.
    Earliest,
    /// Reading goes on at the end.
    Latest,
}

/// A topic, a table `[topic.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Topic {
    /// The name, `[A-Za-z0-9._-]{1,200}` but `.` and `..`.
    pub name: String,
    /// Where it is in the file.
    pub at: Option<At>,
    /// What feeds it; empty when something else writes it.
    pub from: Vec<Feed>,
    /// The partitions, 1 to 1,024; none when the file doesn't say.
    pub partitions: Option<u32>,
    /// Gives the records a new key on their way in.
    pub key_by: Option<KeyBy>,
    /// How much of each partition is kept at least, 1 MiB to 1 PiB: the oldest segments go, whether
    /// or not they were read; none for everything.
    pub retention_bytes: Option<u64>,
    /// The replicas if the pipeline creates the topic on Kafka, 1 to 100; none for those of
    /// [`Kafka::replication`].
    pub replication: Option<u32>,
    /// Settings of the topic on Kafka, such as `cleanup.policy`.
    pub config: BTreeMap<String, String>,
}

/// A stage, a table `[stage.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// The name.
    pub name: String,
    /// Where it is in the file.
    pub at: Option<At>,
    /// The plugin.
    pub plugin: PluginRef,
    /// What it reads, at least one.
    pub from: Vec<Feed>,
    /// Gives the records a new key before they come in.
    pub key_by: Option<KeyBy>,
    /// Whether records may be repartitioned on their way in; false asserts that they are already
    /// partitioned by their key.
    pub repartition: bool,
    /// State of a key that is not written for this long in event time expires; none for never.
    pub state_ttl_ms: Option<i64>,
    /// Records older than the watermark minus this are rejected as expired; none for never.
    pub max_age_ms: Option<i64>,
    /// What happens to a record that makes the plugin fail.
    pub on_failure: OnFailure,
    /// That many such records in a row stop the pipeline, at least 1.
    pub max_failures: u32,
    /// Whether the plugin runs without interruption of calls that take too long.
    pub trusted: bool,
    /// What the plugin is configured with.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// The files that the plugin is given.
    pub resources: Vec<Resource>,
    /// What the plugin may use.
    pub limits: Limits,
    /// Where its rejected records go.
    pub rejects: Rejects,
}

/// How a stage names its plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PluginRef {
    /// `NAME.wasm` in the folders of [`Engine::plugins`].
    Name(String),
    /// A file.
    File(PathBuf),
}

/// One thing that an item reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// The name of the input port; none for the first.
    pub port: Option<String>,
    /// What is read.
    pub from: Reference,
    /// The reference as it was written, for example `stage.clean.bots`.
    pub text: String,
    /// The dotted path of the key that it was written under.
    pub path: String,
    /// Where it is in the file.
    pub at: Option<At>,
    pub(crate) origin: Origin,
}

/// Something that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// The source with this index.
    Source(usize),
    /// The topic with this index.
    Topic(usize),
    /// An output of a stage.
    Stage {
        /// The stage's index.
        stage: usize,
        /// The output's name; none for the first.
        output: Option<String>,
    },
}

/// Where a new key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyBy {
    /// A field of the value, which is JSON; a segment for each level, at least one.
    Field(Vec<String>),
    /// One key for all records.
    Constant(String),
}

/// What to do with a record that makes the plugin fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Reject it as malformed and go on.
    DeadLetter,
    /// Stop the pipeline.
    Halt,
}

/// A file that a plugin is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The name that the plugin knows it by.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Where it is in the pipeline file.
    pub at: Option<At>,
}

/// What a plugin may use, the table `[stage.NAME.limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory of one instance, 1 MiB to 4 GiB.
    pub memory_bytes: u64,
    /// Time of one call, 1 ms to 10 minutes.
    pub batch_time_ms: u64,
    /// Emissions of one call, 1 KiB to 1 GiB.
    pub output_bytes: u64,
    /// Value state of one key, 1 B to 64 MiB.
    pub state_bytes: u64,
    /// Timers of one key, 0 to 1,000,000.
    pub timers: u32,
    /// Writes into map states in one call, 1 KiB to 1 GiB.
    pub map_write_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            batch_time_ms: 5_000,
            output_bytes: 64 << 20,
            state_bytes: 1 << 20,
            timers: 1_000,
            map_write_bytes: 64 << 20,
        }
    }
}

/// A sink, a table `[sink.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sink {
    /// The name.
    pub name: String,
    /// Where it is in the file.
    pub at: Option<At>,
    /// What it reads, at least one.
    pub from: Vec<Feed>,
    /// Where it writes.
    pub kind: SinkKind,
    /// How it writes.
    pub format: SinkFormat,
}

/// Where a sink writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkKind {
    /// Files.
    File {
        /// The file. `{partition}` in it, if [`SinkKind::File::partitioned`], stands for the number
        /// of the task's partition; without it all tasks write one file.
        path: PathBuf,
        /// Whether the path has `{partition}` in it.
        partitioned: bool,
    },
    /// Standard output.
    Stdout,
}

/// How a sink writes a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkFormat {
    /// The bytes of the value and a newline.
    Value,
    /// A line of JSON with key, value, timestamp and headers.
    Record,
}

impl Pipeline {
    /// Reads and checks a pipeline file. `sets` are applied to it first: each a dotted path and a
    /// value, which counts as TOML if it is TOML and as a string otherwise.
    ///
    /// # Errors
    /// Every problem of the file, errors and warnings, in its order; at least one is an error.
    pub fn load(path: &Path, sets: &[(String, String)]) -> Result<Self, Vec<Diagnostic>> {
        Draft::load(path, sets)?.finish()
    }

    /// As [`Pipeline::load`] for a text that was read before; relative paths in it are relative to
    /// the folder of `path`. Does no I/O.
    ///
    /// # Errors
    /// As [`Pipeline::load`].
    pub fn parse(
        path: &Path,
        text: &str,
        sets: &[(String, String)],
    ) -> Result<Self, Vec<Diagnostic>> {
        Draft::parse(path, text, sets)?.finish()
    }

    /// The table of the topic with this name, if it is declared.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.iter().find(|t| t.name == name)
    }

    /// The replicas, 1 to 100, that the topic of this name gets if the pipeline creates it on Kafka,
    /// whether or not it is declared; none for the brokers' default.
    pub fn replication(&self, topic: &str) -> Option<u32> {
        let own = self.topic(topic).and_then(|t| t.replication);
        own.or(self.kafka.as_ref().and_then(|k| k.replication))
    }

    /// Where a dotted path such as `stage.clean.config.rules.2.field` is in the file: the deepest
    /// part of it that exists. None when nothing of it does, or when it comes from a `--set`.
    pub fn locate(&self, path: &str) -> Option<At> {
        self.document.at(self.document.find(path))
    }

    /// An error about what is at a dotted path, for what only shows later: a plugin that is missing,
    /// a configuration that the plugin refuses.
    pub fn diagnostic(
        &self,
        path: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        let origin = self.document.find(path);
        self.document.diagnostic(Severity::Error, origin, path.to_owned(), message.into(), help)
    }
}
