//! The reference: the same two plugins compiled natively into a loop, a thread for each partition,
//! state in a hash map. No log, no commit, no isolation.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clean::Clean;
use sessionize::Sessionize;
use wasmill_abi::{Column, KeyedBatch, MapError, Maps, StatelessBatch, TimeDomain, Timers};
use wasmill_log::{Body, Log, Position};
use wasmill_sdk::config::Setup;
use wasmill_sdk::{config, keyed, stateless};

const ROWS: usize = 1_000;
const BOUND_MS: i64 = 60_000;

struct NoMaps;

impl Maps for NoMaps {
    fn get(&mut self, _: u16, _: &[u32], _: &Column) -> Result<Column, MapError> {
        Err(MapError::NoSuchMap(0))
    }
    fn put(&mut self, _: u16, _: &[u32], _: &Column, _: &Column) -> Result<(), MapError> {
        Err(MapError::NoSuchMap(0))
    }
    fn delete_range(
        &mut self,
        _: u16,
        _: u32,
        _: &wasmill_abi::maps::Range,
    ) -> Result<(), MapError> {
        Err(MapError::NoSuchMap(0))
    }
    fn scan(
        &mut self,
        _: u16,
        _: u32,
        _: &wasmill_abi::maps::Range,
        _: u32,
        _: bool,
    ) -> Result<wasmill_abi::maps::Entries, MapError> {
        Err(MapError::NoSuchMap(0))
    }
}

/// State and timers of a key.
#[derive(Default)]
struct Row {
    state: Option<Vec<u8>>,
    timers: Vec<(u64, i64)>,
}

/// Runs the loop over the partitions of a topic and returns the time it took.
pub fn run(log: &std::path::Path, topic: &str) -> anyhow::Result<Duration> {
    let log = Log::open_read_only(log)?;
    let mut inputs = Vec::new();
    for partition in 0..log.partitions(topic)? {
        let mut reader = log.reader(topic, partition, Position::start())?;
        let mut frames = Vec::new();
        while let Some((frame, _)) = reader.next()? {
            frames.push(frame);
        }
        inputs.push(frames);
    }
    let start = Instant::now();
    let threads: Vec<_> = inputs
        .into_iter()
        .map(|frames| {
            std::thread::spawn(move || -> anyhow::Result<u64> {
                let setup = Setup::default();
                let clean =
                    <Clean as stateless::Stateless>::new(config::parse(r#"{"bots":[]}"#)?, &setup)?;
                let sessionize = <Sessionize as keyed::Keyed>::new(config::parse("{}")?, &setup)?;
                let mut lane =
                    Lane { clean, sessionize, rows: HashMap::new(), watermark: i64::MIN };
                let mut out = 0;
                for frame in frames {
                    let Body::Records(records) = &frame.body else { continue };
                    for from in (0..records.timestamps.len()).step_by(ROWS) {
                        let to = (from + ROWS).min(records.timestamps.len());
                        let mut values = Column::default();
                        values.extend_range(&records.values, from..to);
                        let mut keys = Column::default();
                        keys.extend_range(&records.keys, from..to);
                        let timestamps = records.timestamps[from..to].to_vec();
                        out += lane.batch(timestamps, keys, values)?;
                    }
                }
                Ok(out)
            })
        })
        .collect();
    let mut emitted = 0;
    for thread in threads {
        emitted += thread.join().map_err(|_| anyhow::anyhow!("the native loop panicked"))??;
    }
    let took = start.elapsed();
    anyhow::ensure!(emitted > 0, "the native loop emitted nothing");
    Ok(took)
}

struct Lane {
    clean: Clean,
    sessionize: Sessionize,
    rows: HashMap<Box<[u8]>, Row>,
    watermark: i64,
}

impl Lane {
    fn batch(&mut self, timestamps: Vec<i64>, keys: Column, values: Column) -> anyhow::Result<u64> {
        let now = i64::MAX / 2;
        let watermarks = vec![i64::MIN; timestamps.len()];
        let batch =
            StatelessBatch { timestamps, watermarks, now, keys, values, ..Default::default() };
        let cleaned =
            stateless::run(&self.clean, &batch).map_err(|f| anyhow::anyhow!(f.message))?;
        let timestamps = if cleaned.timestamps.is_empty() {
            cleaned.rows.iter().map(|r| batch.timestamps[*r as usize]).collect()
        } else {
            cleaned.timestamps
        };
        let mut batch = KeyedBatch { now, values: cleaned.values, ..Default::default() };
        let keys = cleaned.keys.unwrap_or_default();
        let mut slots: HashMap<&[u8], u32> = HashMap::new();
        for (row, timestamp) in timestamps.iter().enumerate() {
            batch.watermarks.push(self.watermark);
            self.watermark = self.watermark.max(timestamp - BOUND_MS - 1);
            let next = slots.len() as u32;
            let slot = *slots.entry(keys.bytes(row)).or_insert(next);
            if slot == next {
                batch.keys.push(keys.bytes(row));
                let known = self.rows.get(keys.bytes(row));
                batch.states.push_opt(known.and_then(|r| r.state.as_deref()));
            }
            batch.slots.push(slot);
        }
        batch.timestamps = timestamps;
        batch.end_watermark = self.watermark;
        batch.due = self.due(&batch);
        let reply = keyed::run(&self.sessionize, &batch, &mut NoMaps)
            .map_err(|f| anyhow::anyhow!(f.message))?;
        for (i, slot) in reply.changed.iter().enumerate() {
            let row = self.rows.entry(batch.keys.bytes(*slot as usize).into()).or_default();
            row.state = reply.states.get(i).map(<[u8]>::to_vec);
        }
        let (set, until) = (&reply.timers.set, self.watermark);
        for slot in &batch.due.slots {
            let row = self.rows.entry(batch.keys.bytes(*slot as usize).into()).or_default();
            row.timers.retain(|t| t.1 > until);
        }
        for i in 0..set.slots.len() {
            let row = self.rows.entry(batch.keys.bytes(set.slots[i] as usize).into()).or_default();
            row.timers.retain(|t| t.0 != set.tags[i]);
            row.timers.push((set.tags[i], set.times[i]));
        }
        Ok(reply.rows.len() as u64)
    }

    /// The timers of the batch's keys that are due; those of other keys are left out, which favours
    /// this loop.
    fn due(&self, batch: &KeyedBatch) -> Timers {
        let mut due = Timers::default();
        for slot in 0..batch.keys.len() {
            let Some(row) = self.rows.get(batch.keys.bytes(slot)) else { continue };
            for (tag, time) in row.timers.iter().filter(|t| t.1 <= batch.end_watermark) {
                due.push(slot as u32, TimeDomain::EventTime, *tag, *time);
            }
        }
        due
    }
}
