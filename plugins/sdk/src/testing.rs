//! Test a plugin on the engine's own task core: pipe records in, read what comes out, look at state
//! and timers. No broker, no component, no threads; time moves only when told.
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

use serde::de::DeserializeOwned;
use wasmill_abi::{ConfigError, Ports, RejectionKind, Resource, TimeDomain, WATERMARK_END};
use wasmill_core::clock::{Generator, Policy};
use wasmill_core::flow::Flow;
use wasmill_core::keyed::Stage as KeyedStage;
use wasmill_core::keys::Keys;
use wasmill_core::layout::{Edge, Input, InputClock, Layout, Node, Output, Target};
use wasmill_core::limits::Limits;
use wasmill_core::maps::MapStore;
use wasmill_core::metrics;
use wasmill_core::operator::Operator;
use wasmill_core::reject::header;
use wasmill_core::row::Row;
use wasmill_core::stateless::{Base, FailurePolicy, Stage as StatelessStage};
use wasmill_core::store::Nothing;
use wasmill_core::task::{Effects, Fact, Records, Stage, Task};

use crate::config::Setup;
use crate::{keyed, native, stateless};

/// A record that comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emission {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its event time, in ms.
    pub timestamp: i64,
    /// The watermark that later stages see it at.
    pub clock: i64,
    /// Its headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Emission {
    /// The value as text.
    ///
    /// # Panics
    /// When it is a tombstone.
    pub fn text(&self) -> String {
        let value = self.value.as_ref().expect("the emission is a tombstone");
        String::from_utf8_lossy(value).into_owned()
    }

    /// The value as JSON.
    ///
    /// # Panics
    /// When it is not such JSON.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.text()).expect("the emission is JSON of the type asked for")
    }

    /// The last header of a name, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().rev().find(|(n, _)| n == name)?;
        found.1.as_ref().map(|v| String::from_utf8_lossy(v).into_owned())
    }
}

/// A record that was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The channel.
    pub kind: RejectionKind,
    /// Why.
    pub reason: String,
    /// The record as it came, with the headers that say where it failed.
    pub record: Emission,
}

/// A record to pipe in: key, event time in ms, value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piped {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The event time, in ms.
    pub timestamp: i64,
    /// The value.
    pub value: Vec<u8>,
    /// The index of the input port.
    pub input: u8,
}

impl Piped {
    /// A record for input 0.
    pub fn new(key: impl AsRef<[u8]>, timestamp: i64, value: impl AsRef<[u8]>) -> Self {
        Self {
            key: Some(key.as_ref().to_vec()),
            timestamp,
            value: value.as_ref().to_vec(),
            input: 0,
        }
    }
}

/// A plugin under test.
pub struct Harness {
    task: Task,
    ports: Ports,
    generator: Generator,
    offset: i64,
    now: i64,
    outputs: Vec<Vec<Emission>>,
    rejected: Vec<Rejected>,
    error: Option<String>,
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
        let policy = FailurePolicy { halt: false, most_in_a_row: u32::MAX };
        let base = Base::new("test", ports.clone(), options.limits, policy);
        let stage = match operator {
            Operator::Stateless(operator) => Stage::Stateless(StatelessStage { base, operator }),
            Operator::Keyed(operator) => {
                let maps = operator.maps();
                let ttl = options.state_ttl_ms;
                let keys = Keys::new(0, Nothing::shared(), usize::MAX / 2, ttl, maps > 0);
                let maps = MapStore::new(0, maps, Nothing::shared());
                Stage::Keyed(Box::new(KeyedStage::new(base, operator, keys, maps)))
            }
        };
        let outputs = ports.outputs.len();
        let sink = |i| Output { targets: vec![Target::Sink(i)], assigns: None };
        let layout = Layout {
            inputs: (0..ports.inputs.len() as u8)
                .map(|port| Input {
                    name: "test".into(),
                    partition: 0,
                    clock: InputClock::Carried(vec![0]),
                    targets: vec![Target::Node { node: 0, port }],
                    unreadable: None,
                })
                .collect(),
            nodes: vec![Node {
                outputs: (0..outputs).map(sink).collect(),
                rejects: [0, 1, 2, 3],
                max_age_ms: options.max_age_ms,
            }],
            edges: (0..4).map(|topic| Edge::to(topic, 1, false)).collect(),
        };
        let bound =
            Policy { out_of_orderness_ms: options.out_of_orderness_ms, idle_timeout_ms: None };
        Self {
            task: Task::new(layout, vec![stage]),
            ports,
            generator: Generator::new(bound),
            offset: 0,
            now: 0,
            outputs: vec![Vec::new(); outputs],
            rejected: Vec::new(),
            error: None,
        }
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
            for record in run {
                batch.timestamps.push(record.timestamp);
                batch.clocks.push(self.generator.watermark());
                batch.keys.push_opt(record.key.as_deref());
                batch.values.push(&record.value);
                batch.offsets.push(self.offset);
                self.offset += 1;
                self.generator.see(record.timestamp);
            }
            let input = usize::from(run[0].input);
            self.step(Fact::Records { input, producer: 0, records: batch });
        }
        self.mark(self.generator.watermark());
    }

    /// Moves the watermark forward to a time in ms.
    pub fn advance_watermark(&mut self, to: i64) {
        if to == WATERMARK_END {
            self.generator.end();
        } else {
            let mut generator = Generator::new(Policy::default());
            generator.see(to.saturating_add(1));
            if generator.watermark() > self.generator.watermark() {
                self.generator = generator;
            }
        }
        self.mark(self.generator.watermark());
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

    /// The value state of a key.
    ///
    /// # Panics
    /// When it is no `S`.
    pub fn state<S: DeserializeOwned>(&self, key: &str) -> Option<S> {
        let value = self.row(key)?.value.clone()?;
        Some(postcard::from_bytes(&value).expect("the state is of the type asked for"))
    }

    /// The timers that a key has set: domain, tag, time in ms; by time.
    pub fn timers(&self, key: &str) -> Vec<(TimeDomain, u64, i64)> {
        let timers = self.row(key).map_or(&[][..], |row| &row.timers[..]);
        let mut timers: Vec<_> = timers.iter().map(|t| (t.domain, t.tag, t.time)).collect();
        timers.sort_by_key(|t| (t.2, t.1));
        timers
    }

    /// The keys that have state or timers.
    pub fn keys(&self) -> Vec<String> {
        let Some(Stage::Keyed(stage)) = self.task.stages().next() else { return Vec::new() };
        let kept = |row: &Row| row.value.is_some() || !row.timers.is_empty();
        let keys = stage.keys.iter().filter(|(_, row)| kept(row));
        let mut keys: Vec<_> = keys.map(|(k, _)| String::from_utf8_lossy(k).into_owned()).collect();
        keys.sort();
        keys
    }

    fn row(&self, key: &str) -> Option<&Row> {
        let Some(Stage::Keyed(stage)) = self.task.stages().next() else { return None };
        stage.keys.iter().find(|(k, _)| *k == key.as_bytes()).map(|(_, row)| row)
    }
}

fn setup(options: &Options) -> Setup {
    Setup { pipeline: "test".into(), stage: "test".into(), resources: options.resources.clone() }
}

fn emissions(flow: &Flow) -> Vec<Emission> {
    let headers = |i: usize| match &flow.headers {
        None => Vec::new(),
        Some(headers) => headers
            .row(i)
            .map(|(n, v)| (String::from_utf8_lossy(n).into_owned(), v.map(<[u8]>::to_vec)))
            .collect(),
    };
    (0..flow.len())
        .map(|i| Emission {
            key: flow.keys.get(i).map(<[u8]>::to_vec),
            value: flow.values.get(i).map(<[u8]>::to_vec),
            timestamp: flow.timestamps[i],
            clock: flow.clocks[i],
            headers: headers(i),
        })
        .collect()
}
