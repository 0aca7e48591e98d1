//! Feeds the operator in batches cut anywhere, records carrying their own watermarks, and keeps all
//! that comes out.
//!
//! Invariant: what is reported per key is in the order in which the operator produced it.

use std::collections::BTreeMap;

use join::Join;
use wasmill_sdk::abi::{RejectionKind, WATERMARK_END, WATERMARK_START};
use wasmill_sdk::testing::{Emission, Harness, Piped};

/// A record to feed.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    pub port: u8,
    pub key: String,
    pub value: String,
    pub time: i64,
    /// The watermark before it.
    pub watermark: i64,
}

impl Input {
    pub fn new(port: u8, key: &str, time: i64, value: impl Into<String>) -> Self {
        Self { port, key: key.into(), value: value.into(), time, watermark: WATERMARK_START }
    }
}

/// Gives each record the watermark "latest event time before it - `delay`".
pub fn watermarks(inputs: &mut [Input], delay: i64) {
    let mut watermark = WATERMARK_START;
    for input in inputs {
        input.watermark = watermark;
        watermark = watermark.max(input.time.saturating_sub(delay));
    }
}

/// An emission.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    pub key: String,
    pub time: i64,
    pub value: String,
    /// The watermark that later stages see it at.
    pub watermark: i64,
}

/// A rejected record.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// Counted over all records fed.
    pub index: usize,
    pub key: String,
    pub kind: RejectionKind,
    pub reason: String,
}

/// The operator and what it has given.
pub struct Driver {
    pub harness: Harness,
    /// All emissions so far.
    pub outputs: Vec<Output>,
    /// All rejections so far.
    pub rejected: Vec<Rejected>,
}

fn key(of: &Emission) -> String {
    String::from_utf8(of.key.clone().expect("a keyed operator's records have keys")).expect("text")
}

impl Driver {
    /// A driver of a join with this configuration (JSON).
    pub fn new(config: &str) -> Self {
        let harness = Harness::keyed::<Join>(config).unwrap_or_else(|e| panic!("{config}: {e}"));
        Self { harness, outputs: Vec::new(), rejected: Vec::new() }
    }

    /// Feeds the records in batches of these sizes, over and over, then comes to a watermark.
    pub fn feed(&mut self, inputs: &[Input], sizes: &[usize], end: i64) {
        let mut sizes = sizes.iter().copied().cycle();
        let mut rest = inputs;
        while !rest.is_empty() {
            let size = sizes.next().expect("a cycle of sizes").clamp(1, rest.len());
            let (batch, next) = rest.split_at(size);
            let piped = |i: &Input| {
                Piped::new(&i.key, i.time, &i.value).into_input(i.port).at_watermark(i.watermark)
            };
            self.harness.pipe_batch(&batch.iter().map(piped).collect::<Vec<_>>());
            rest = next;
        }
        self.harness.advance_watermark(end);
        self.collect();
    }

    /// Feeds the records in one batch and then ends the input, which closes everything.
    pub fn run(config: &str, inputs: &[Input]) -> Self {
        let mut driver = Self::new(config);
        driver.feed(inputs, &[inputs.len()], WATERMARK_END);
        driver
    }

    fn collect(&mut self) {
        assert_eq!(self.harness.metrics().failed_calls, 0);
        for e in self.harness.output("out") {
            let (time, watermark) = (e.timestamp, e.clock);
            self.outputs.push(Output { key: key(&e), time, value: e.text(), watermark });
        }
        for r in self.harness.rejected() {
            let offset = r.record.header("wasmill.origin.offset").expect("the host says where");
            let index = offset.parse().expect("an offset is a number");
            let key = key(&r.record);
            self.rejected.push(Rejected { index, key, kind: r.kind, reason: r.reason });
        }
    }

    /// What has come out, in its order: event time and value.
    pub fn results(&self) -> Vec<(i64, &str)> {
        self.outputs.iter().map(|o| (o.time, o.value.as_str())).collect()
    }

    /// The values that have come out, in their order.
    pub fn texts(&self) -> Vec<&str> {
        self.outputs.iter().map(|o| o.value.as_str()).collect()
    }

    /// The values that have come out, in their order.
    pub fn values(&self) -> Vec<serde_json::Value> {
        let parse = |text| serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        self.texts().into_iter().map(parse).collect()
    }

    /// The number of records that are kept of both sides of the key `k`.
    pub fn kept(&mut self) -> usize {
        self.harness.entries("k", 0).len() + self.harness.entries("k", 1).len()
    }

    /// The number of keys that have anything left.
    pub fn keys_kept(&mut self) -> usize {
        self.harness.keys_kept().len()
    }

    /// Emissions and rejections by key: what must not depend on how batches were cut.
    pub fn by_key(self) -> BTreeMap<String, (Vec<Output>, Vec<Rejected>)> {
        let mut keys = BTreeMap::<_, (Vec<_>, Vec<_>)>::new();
        for output in self.outputs {
            keys.entry(output.key.clone()).or_default().0.push(output);
        }
        for one in self.rejected {
            keys.entry(one.key.clone()).or_default().1.push(one);
        }
        keys
    }
}
