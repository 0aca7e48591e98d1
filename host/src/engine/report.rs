//! What a run has done, for people and programs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use wasmill_core::metrics::Stage;

/// Counters that a running pipeline keeps up to date.
#[derive(Debug, Default)]
pub struct Progress {
    /// Records read from sources.
    pub records: AtomicU64,
    /// Bytes read from sources.
    pub bytes: AtomicU64,
    /// How much there is to read. Unset before the sources are open, and where that is not known.
    pub extent: OnceLock<Extent>,
    /// What is left of bounded topics, in records about, by who reads it: on Kafka, where partitions
    /// move, so that nobody knows beforehand how much there is to read.
    left: Mutex<BTreeMap<String, u64>>,
}

/// How much there is to read from the sources of a bounded run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// In bytes, where all sources are files that are not compressed.
    Bytes {
        /// What earlier runs have read.
        before: u64,
        /// All of it.
        total: u64,
    },
    /// In records, where all sources are topics: what is left of them.
    Records(u64),
}

impl Extent {
    /// What two inputs are together; none when they can't be added.
    pub(crate) fn and(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Bytes { before, total }, Self::Bytes { before: b, total: t }) => {
                Some(Self::Bytes { before: before + b, total: total + t })
            }
            (Self::Records(a), Self::Records(b)) => Some(Self::Records(a + b)),
            _ => None,
        }
    }
}

impl Progress {
    /// How much there is to read, as far as it is known by now.
    pub fn extent(&self) -> Option<Extent> {
        if let Some(extent) = self.extent.get() {
            return Some(*extent);
        }
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = || self.records.load(Ordering::Relaxed) + left.values().sum::<u64>();
        (!left.is_empty()).then(|| Extent::Records(sum()))
    }

    /// So much is left for somebody who reads.
    pub fn set_left(&self, reader: &str, records: u64) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        match left.get_mut(reader) {
            Some(before) => *before = records,
            None => drop(left.insert(reader.to_owned(), records)),
        }
    }

    /// Adds what another one has counted, which begins anew.
    pub(crate) fn take_over(&self, other: &Self) {
        self.add(other.records.swap(0, Ordering::Relaxed), other.bytes.swap(0, Ordering::Relaxed));
    }

    pub(crate) fn add(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What a stage has done, over all its tasks.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StageReport {
    /// The stage's name.
    pub name: String,
    /// Its counts since the run began.
    pub counts: Stage,
    /// The least watermark behind it, in ms; none before it has one.
    pub watermark: Option<i64>,
}

/// What a run has done.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Report {
    /// The stages, in the order of the pipeline file.
    pub stages: Vec<StageReport>,
    /// Records read from sources.
    pub records: u64,
    /// How long the run took, from the first record on.
    pub elapsed: Duration,
    /// From the start of the run to the first record.
    pub until_first_record: Option<Duration>,
    /// Commits made.
    pub commits: u64,
    /// The epoch of the last commit.
    pub epoch: u64,
    /// Whether all inputs have ended.
    pub complete: bool,
    /// Whether they had all ended before this run began.
    pub was_complete: bool,
    /// How to run them again.
    #[serde(skip)]
    pub again: &'static str,
}

impl Report {
    /// The summary as a table.
    pub fn table(&self) -> String {
        let mut rows = vec![
            ["stage", "in", "out", "dead", "invalid", "late", "expired", "watermark"]
                .map(str::to_owned),
        ];
        for stage in &self.stages {
            let c = &stage.counts;
            rows.push([
                stage.name.clone(),
                c.records_in.to_string(),
                c.records_out.to_string(),
                c.dead.to_string(),
                c.invalid.to_string(),
                c.late.to_string(),
                c.expired.to_string(),
                watermark(stage.watermark),
            ]);
        }
        let mut out = String::new();
        let widths: Vec<usize> =
            (0..8).map(|i| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0)).collect();
        for row in rows {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(i, (cell, w))| match i {
                    0 | 7 => format!("{cell:<w$}"),
                    _ => format!("{cell:>w$}"),
                })
                .collect();
            out.push_str(cells.join("  ").trim_end());
            out.push('\n');
        }
        let seconds = self.elapsed.as_secs_f64();
        let rate = if seconds > 0.0 { self.records as f64 / seconds } else { 0.0 };
        out.push_str(&format!(
            "{} records read in {seconds:.2} s, {rate:.0} records/s, {} commits\n",
            self.records, self.commits
        ));
        if self.was_complete {
            let again = self.again;
            out.push_str(&format!(
                "Nothing to do: all inputs were processed before; to run them again, {again}.\n"
            ));
        }
        out
    }
}

/// A watermark for people: a time, `end`, or a dash where there is none.
pub fn watermark(ms: Option<i64>) -> String {
    match ms {
        None | Some(i64::MIN) => "-".into(),
        Some(i64::MAX) => "end".into(),
        Some(ms) => match chrono::DateTime::from_timestamp_millis(ms) {
            Some(time) => time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            None => format!("{ms} ms"),
        },
    }
}
