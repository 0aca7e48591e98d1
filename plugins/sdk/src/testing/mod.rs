//! Test a plugin on the engine's own task core: pipe records in, read what comes out, look at state
//! and timers. No broker, no component, no threads; time moves only when told.
//!
//! A record that is piped in has all that the ABI can give ([`Piped`]): tombstones, missing keys,
//! headers, offsets, and a watermark of its own where it is to come as from a topic within the
//! pipeline. [`Harness::reopen`] goes on from what was committed, as a restart or another version of
//! the plugin does.
//!
//! ```
//! use wasmill_sdk::prelude::*;
//! use wasmill_sdk::testing::Harness;
//!
//! struct Count;
//! impl Keyed for Count {
//!     type Config = NoConfig;
//!     type State = u64;
//!     fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
//!         Ok(Count)
//!     }
//!     fn process(
//!         &self,
//!         _: &Record,
//!         count: &mut State<u64>,
//!         ctx: &mut Context,
//!     ) -> Result<(), Rejection> {
//!         **count += 1;
//!         ctx.json(&**count);
//!         Ok(())
//!     }
//! }
//!
//! let mut harness = Harness::keyed::<Count>("{}").unwrap();
//! harness.pipe("a", 1_000, "x");
//! harness.pipe("a", 2_000, "y");
//! assert_eq!(harness.texts("out"), ["1", "2"]);
//! assert_eq!(harness.state::<u64>("a"), Some(2));
//! ```

mod open;
mod record;
mod store;
mod usage;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use wasmill_abi::{
    ConfigError, Headers, Ports, RejectionKind, Resource, TimeDomain, WATERMARK_END,
};
use wasmill_core::change::Changes;
use wasmill_core::clock::{Generator, Policy};
use wasmill_core::keyed::Stage as KeyedStage;
use wasmill_core::limits::Limits;
use wasmill_core::metrics;
use wasmill_core::operator::Operator;
use wasmill_core::reject::header;
use wasmill_core::row::{self, Name, Row};
use wasmill_core::task::{Clocks, Effects, Fact, Records, Stage, Task};

use self::record::emissions;
use self::store::Memory;
use self::usage::Counts;
use crate::config::Setup;
use crate::{keyed, native, stateless};

pub use record::{Emission, Piped, Rejected};
pub use usage::Usage;

/// A plugin under test.
pub struct Harness {
    task: Task,
    ports: Ports,
    bound: Policy,
    generator: Generator,
    /// The offset of the next record that names none.
    offset: i64,
    now: i64,
    outputs: Vec<Vec<Emission>>,
    rejected: Vec<Rejected>,
    error: Option<String>,
    store: Arc<Memory>,
    committed: Committed,
    counts: Arc<Counts>,
}

/// What the last checkpoint has besides the state.
#[derive(Debug)]
struct Committed {
    clocks: Clocks,
    generator: Generator,
    offset: i64,
}

/// How a harness is set up.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// By how much records may be out of order, in ms: the bound of the watermarks.
    pub out_of_orderness_ms: i64,
    /// The plugin's resources.
    pub resources: Vec<Resource>,
    /// The stage's limits.
    pub limits: Limits,
    /// The time to live of state, in ms of event time.
    pub state_ttl_ms: Option<i64>,
    /// Records older than the watermark less this are expired, in ms.
    pub max_age_ms: Option<i64>,
    /// The topic or source that each input port reads, and the partition of it; `test` and 0 for
    /// those that are not named.
    pub origins: Vec<(String, u32)>,
}

impl Harness {
    /// A stateless plugin with a configuration, as JSON.
    ///
    /// # Errors
    /// The plugin's [`ConfigError`].
    pub fn stateless<T: stateless::Stateless + Send>(config: &str) -> Result<Self, ConfigError> {
        Self::stateless_with::<T>(config, Options::default())
    }

    /// A keyed plugin with a configuration, as JSON.
    ///
    /// # Errors
    /// The plugin's [`ConfigError`].
    pub fn keyed<T: keyed::Keyed + Send>(config: &str) -> Result<Self, ConfigError> {
        Self::keyed_with::<T>(config, Options::default())
    }

    /// A stateless plugin with options.
    ///
    /// # Errors
    /// The plugin's [`ConfigError`].
    pub fn stateless_with<T: stateless::Stateless + Send>(
        config: &str,
        options: Options,
    ) -> Result<Self, ConfigError> {
        let (operator, ports) = native::Stateless::<T>::new(config, &setup(&options))?;
        Ok(Self::of(Operator::Stateless(Box::new(operator)), ports, &options))
    }

    /// A keyed plugin with options.
    ///
    /// # Errors
    /// The plugin's [`ConfigError`].
    pub fn keyed_with<T: keyed::Keyed + Send>(
        config: &str,
        options: Options,
    ) -> Result<Self, ConfigError> {
        let (operator, ports) = native::Keyed::<T>::new(config, &setup(&options))?;
        Ok(Self::of(Operator::Keyed(Box::new(operator)), ports, &options))
    }

    /// Any operator of the engine, for example a component.
    pub fn of(operator: Operator, ports: Ports, options: &Options) -> Self {
        Self::on(Arc::default(), operator, ports, options)
    }

    /// Ends the task at a checkpoint and opens it again from there as a keyed plugin: with other
    /// options or another configuration, or as another version, which migrates the states that it
    /// finds. A task that has stopped with an error goes on from the checkpoint before. What has come
    /// out stays to be taken.
    ///
    /// # Errors
    /// The plugin's [`ConfigError`].
    pub fn reopen<T: keyed::Keyed + Send>(
        self,
        config: &str,
        options: &Options,
    ) -> Result<Self, ConfigError> {
        let (operator, ports) = native::Keyed::<T>::new(config, &setup(options))?;
        Ok(self.reopen_as(Operator::Keyed(Box::new(operator)), ports, options))
    }

    /// As [`Harness::reopen`], for any operator of the engine.
    pub fn reopen_as(mut self, operator: Operator, ports: Ports, options: &Options) -> Self {
        self.checkpoint();
        let mut next = Self::on(self.store, operator, ports, options);
        let Committed { clocks, mut generator, offset } = self.committed;
        next.task.restore(clocks);
        generator.set_bound(next.bound);
        (next.generator, next.offset, next.now) = (generator, offset, self.now);
        self.outputs.resize(next.outputs.len(), Vec::new());
        (next.outputs, next.rejected) = (self.outputs, self.rejected);
        next.checkpoint();
        next
    }

    fn on(store: Arc<Memory>, operator: Operator, ports: Ports, options: &Options) -> Self {
        let counts = Arc::<Counts>::default();
        let bound =
            Policy { out_of_orderness_ms: options.out_of_orderness_ms, idle_timeout_ms: None };
        let generator = Generator::new(bound);
        let mut harness = Self {
            task: open::task(operator, &ports, options, &store, &counts),
            outputs: vec![Vec::new(); ports.outputs.len()],
            ports,
            bound,
            generator: generator.clone(),
            offset: 0,
            now: 0,
            rejected: Vec::new(),
            error: None,
            store,
            committed: Committed { clocks: Clocks::default(), generator, offset: 0 },
            counts,
        };
        harness.checkpoint();
        harness
    }

    /// Pipes one record into input 0. Its event time moves the watermark.
    pub fn pipe(&mut self, key: &str, timestamp: i64, value: impl AsRef<[u8]>) {
        self.pipe_batch(&[Piped::new(key, timestamp, value)]);
    }

    /// Pipes records in as one batch: what comes out must not depend on how they are cut.
    ///
    /// Records of different inputs are cut where the input changes.
    pub fn pipe_batch(&mut self, records: &[Piped]) {
        for run in records.chunk_by(|a, b| a.input == b.input) {
            let mut batch = Records::default();
            let mut headers = Headers::default();
            for record in run {
                batch.timestamps.push(record.timestamp);
                if let Some(watermark) = record.watermark {
                    self.raise(watermark);
                }
                batch.clocks.push(self.generator.watermark());
                batch.keys.push_opt(record.key.as_deref());
                batch.values.push_opt(record.value.as_deref());
                for (name, value) in &record.headers {
                    headers.add(name, value.as_deref());
                }
                headers.close_row();
                let offset = record.offset.unwrap_or(self.offset);
                batch.offsets.push(offset);
                self.offset = offset + 1;
                if record.watermark.is_none() {
                    self.generator.see(record.timestamp);
                }
            }
            batch.headers = (!headers.names.is_empty()).then_some(headers);
            let input = usize::from(run[0].input);
            // The other inputs are as far, so that each record has its own clock wherever the
            // batch was cut.
            let watermark = *batch.clocks.last().expect("a run has a record");
            for other in (0..self.ports.inputs.len()).filter(|other| *other != input) {
                self.step(Fact::Watermark { input: other, producer: 0, watermark, idle: false });
            }
            self.step(Fact::Records { input, producer: 0, records: batch });
        }
        self.mark(self.generator.watermark());
    }

    /// Moves the watermark forward to a time in ms.
    pub fn advance_watermark(&mut self, to: i64) {
        self.raise(to);
        self.mark(self.generator.watermark());
    }

    fn raise(&mut self, to: i64) {
        if to <= self.generator.watermark() {
            return;
        }
        if to == WATERMARK_END {
            return self.generator.end();
        }
        self.generator.set_bound(Policy::default());
        self.generator.see(to + 1);
        self.generator.set_bound(self.bound);
    }

    /// Ends the input: every window and session closes.
    pub fn end(&mut self) {
        self.advance_watermark(WATERMARK_END);
    }

    /// Moves the wall clock forward to a time in ms.
    pub fn advance_clock(&mut self, to: i64) {
        self.now = self.now.max(to);
        self.step(Fact::Tick);
    }

    fn mark(&mut self, watermark: i64) {
        for input in 0..self.ports.inputs.len() {
            self.step(Fact::Watermark { input, producer: 0, watermark, idle: false });
        }
        while self.task.is_held() && self.error.is_none() {
            self.step(Fact::Release);
        }
    }

    fn step(&mut self, fact: Fact) {
        match self.task.step(fact, self.now) {
            Ok(effects) => self.collect(effects),
            Err(e) => {
                self.error.get_or_insert(e.to_string());
            }
        }
    }

    fn collect(&mut self, effects: Effects) {
        for (port, flow) in effects.sinks {
            self.outputs[port].extend(emissions(&flow));
        }
        for (edge, _, flow) in effects.appends {
            for record in emissions(&flow) {
                let kind = RejectionKind::ALL[edge];
                let reason = record.header(header::REASON).unwrap_or_default();
                self.rejected.push(Rejected { kind, reason, record });
            }
        }
    }

    /// Takes what has come out of an output.
    ///
    /// # Panics
    /// When the plugin has no such output, or the task has stopped.
    pub fn output(&mut self, name: &str) -> Vec<Emission> {
        if let Some(error) = &self.error {
            panic!("the task has stopped: {error}");
        }
        let known: Vec<_> = self.ports.outputs.iter().map(|o| o.name.as_str()).collect();
        let port = known.iter().position(|n| *n == name);
        let port = port.unwrap_or_else(|| panic!("no output {name:?}, there are {known:?}"));
        std::mem::take(&mut self.outputs[port])
    }

    /// Takes what has come out of an output, as text.
    ///
    /// # Panics
    /// As [`Harness::output`].
    pub fn texts(&mut self, name: &str) -> Vec<String> {
        self.output(name).iter().map(Emission::text).collect()
    }

    /// Takes what has been rejected.
    pub fn rejected(&mut self) -> Vec<Rejected> {
        std::mem::take(&mut self.rejected)
    }

    /// Why the task has stopped, if it has.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// The stage's counts.
    pub fn metrics(&self) -> metrics::Stage {
        self.task.metrics()[0]
    }

    /// What a keyed plugin has asked of the host since it was opened.
    pub fn usage(&self) -> Usage {
        self.counts.usage()
    }

    /// Commits: what the state has become is in the store, from which [`Harness::reopen`] goes on.
    /// A task that has stopped with an error commits nothing.
    pub fn checkpoint(&mut self) {
        if self.error.is_some() {
            return;
        }
        let epoch = self.keyed_stage().map(|stage| stage.keys.epoch());
        let mut changes = Changes::default();
        let clocks = self.task.freeze(&mut changes);
        self.store.apply(&changes);
        self.committed =
            Committed { clocks, generator: self.generator.clone(), offset: self.offset };
        if let Some(epoch) = epoch {
            self.task.applied(epoch);
        }
    }

    /// The value state of a key.
    ///
    /// # Panics
    /// When it is no `S`.
    pub fn state<S: DeserializeOwned>(&self, key: &str) -> Option<S> {
        let value = self.row(key)?.value?;
        Some(postcard::from_bytes(&value).expect("the state is of the type asked for"))
    }

    /// The version of the plugin's states that the value state of a key is written in.
    pub fn state_version(&self, key: &str) -> Option<u32> {
        self.row(key).filter(|row| row.value.is_some()).map(|row| row.version)
    }

    /// The timers that a key has set: domain, tag, time in ms; by time.
    pub fn timers(&self, key: &str) -> Vec<(TimeDomain, u64, i64)> {
        let timers = self.row(key).map(|row| row.timers).unwrap_or_default();
        let mut timers: Vec<_> = timers.iter().map(|t| (t.domain, t.tag, t.time)).collect();
        timers.sort_by_key(|t| (t.2, t.1));
        timers
    }

    /// The entries that a key has in a map state, in their order: entry key and value. Makes a
    /// checkpoint.
    pub fn entries(&mut self, key: &str, map: u16) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.checkpoint();
        let prefix = row::map_prefix(0, map, key.as_bytes());
        let entries = self.store.entries();
        let of = entries.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
        of.map(|(name, value)| (name[prefix.len()..].to_vec(), value.clone())).collect()
    }

    /// The keys that have state or timers.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = BTreeSet::new();
        for (name, bytes) in self.store.entries().iter() {
            if let Ok(Name::Row { key, .. }) = row::name(name)
                && holds(&store::read(bytes))
            {
                keys.insert(key.to_vec());
            }
        }
        // What is in memory is newer.
        for (key, row) in self.keyed_stage().into_iter().flat_map(|stage| stage.keys.iter()) {
            if holds(row) {
                keys.insert(key.to_vec());
            } else {
                keys.remove(key);
            }
        }
        keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
    }

    /// The keys that have anything: state, timers or entries in map state. Makes a checkpoint.
    pub fn keys_kept(&mut self) -> Vec<String> {
        self.checkpoint();
        let mut keys = BTreeSet::from_iter(self.keys());
        for name in self.store.entries().keys() {
            if let Ok(Name::Map { key, .. }) = row::name(name) {
                keys.insert(String::from_utf8_lossy(key).into_owned());
            }
        }
        keys.into_iter().collect()
    }

    fn keyed_stage(&self) -> Option<&KeyedStage> {
        match self.task.stages().next() {
            Some(Stage::Keyed(stage)) => Some(stage),
            _ => None,
        }
    }

    fn row(&self, key: &str) -> Option<Row> {
        let here = self.keyed_stage()?.keys.iter().find(|(k, _)| *k == key.as_bytes());
        here.map(|(_, row)| row.clone()).or_else(|| self.store.row(key.as_bytes()))
    }
}

fn holds(row: &Row) -> bool {
    row.value.is_some() || !row.timers.is_empty()
}

fn setup(options: &Options) -> Setup {
    Setup { pipeline: "test".into(), stage: "test".into(), resources: options.resources.clone() }
}
