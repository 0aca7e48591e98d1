//! Feeds a keyed operator in batches cut anywhere, records carrying their own watermarks, and keeps
//! all that comes out.
//!
//! Invariant: what is reported per key and output is in the order in which the operator produced it.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use wasmill_sdk::abi::{RejectionKind, WATERMARK_END, WATERMARK_START};
use wasmill_sdk::keyed::Keyed;
use wasmill_sdk::testing::{Emission, Harness, Piped};

/// A record to feed.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    pub key: String,
    pub value: String,
    pub time: i64,
    /// The watermark before it.
    pub watermark: i64,
}

impl Input {
    pub fn new(key: &str, time: i64, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into(), time, watermark: WATERMARK_START }
    }
}

/// Gives each record the watermark "latest event time before it - `delay`".
pub fn watermarks(inputs: &mut [Input], delay: i64) {
    let mut watermark = WATERMARK_START;
    for input in inputs {
        input.watermark = watermark;
        watermark = watermark.max(input.time - delay);
    }
}

/// An emission.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    pub key: String,
    pub output: usize,
    pub time: i64,
    pub value: String,
    /// The clock that a later stage sees when it gets this: of a timer's emission the instant before
    /// the timer, of a record's emission the watermark before the record.
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

/// Emissions by key and output, rejections by key.
#[derive(Debug, Default, PartialEq)]
pub struct ByKey {
    outputs: BTreeMap<(String, usize), Vec<Output>>,
    rejected: BTreeMap<String, Vec<Rejected>>,
}

/// One operator and what it has given.
pub struct Driver<T> {
    pub harness: Harness,
    operator: PhantomData<T>,
    /// All emissions so far, by batch, then by output.
    pub outputs: Vec<Output>,
    /// All rejections so far.
    pub rejected: Vec<Rejected>,
}

fn key(of: &Emission) -> String {
    String::from_utf8(of.key.clone().expect("a keyed operator's records have keys")).expect("text")
}

impl<T: Keyed + Send> Driver<T> {
    /// A driver of an operator with this configuration (JSON).
    pub fn new(config: &str) -> Self {
        let harness = Harness::keyed::<T>(config).unwrap_or_else(|e| panic!("{config}: {e}"));
        Self { harness, operator: PhantomData, outputs: Vec::new(), rejected: Vec::new() }
    }

    /// Feeds the records in batches of these sizes, over and over.
    pub fn feed(&mut self, inputs: &[Input], sizes: &[usize], end: i64) {
        let mut sizes = sizes.iter().copied().cycle();
        let mut rest = inputs;
        while !rest.is_empty() {
            let size = sizes.next().expect("a cycle of sizes").clamp(1, rest.len());
            let (batch, next) = rest.split_at(size);
            self.batch(batch, next.first().map_or(end, |input| input.watermark));
            rest = next;
        }
        if inputs.is_empty() {
            self.batch(&[], end);
        }
    }

    /// Feeds the records in one batch and then ends the input, which closes everything.
    pub fn run(config: &str, inputs: &[Input]) -> Self {
        let mut driver = Self::new(config);
        driver.feed(inputs, &[inputs.len()], WATERMARK_END);
        driver
    }

    /// One batch, with the watermark after it.
    pub fn batch(&mut self, inputs: &[Input], end_watermark: i64) {
        let piped = |i: &Input| Piped::new(&i.key, i.time, &i.value).at_watermark(i.watermark);
        self.harness.pipe_batch(&inputs.iter().map(piped).collect::<Vec<_>>());
        self.harness.advance_watermark(end_watermark);
        assert_eq!(self.harness.metrics().failed_calls, 0);
        for (output, port) in T::describe().ports.outputs.iter().enumerate() {
            for e in self.harness.output(&port.name) {
                let (time, watermark) = (e.timestamp, e.clock);
                self.outputs.push(Output {
                    key: key(&e),
                    output,
                    time,
                    value: e.text(),
                    watermark,
                });
            }
        }
        for r in self.harness.rejected() {
            let offset = r.record.header("wasmill.origin.offset").expect("the host says where");
            let index = offset.parse().expect("an offset is a number");
            let key = key(&r.record);
            self.rejected.push(Rejected { index, key, kind: r.kind, reason: r.reason });
        }
    }

    /// The keys that have anything left.
    pub fn keys_kept(&mut self) -> Vec<String> {
        self.harness.keys_kept()
    }

    /// The values that went to an output.
    pub fn values(&self, output: usize) -> Vec<serde_json::Value> {
        let of = self.outputs.iter().filter(|o| o.output == output);
        of.map(|o| serde_json::from_str(&o.value).unwrap_or_else(|e| panic!("{}: {e}", o.value)))
            .collect()
    }

    /// What must not depend on how batches were cut.
    pub fn by_key(self) -> ByKey {
        let mut all = ByKey::default();
        for output in self.outputs {
            all.outputs.entry((output.key.clone(), output.output)).or_default().push(output);
        }
        for rejected in self.rejected {
            all.rejected.entry(rejected.key.clone()).or_default().push(rejected);
        }
        all
    }
}
