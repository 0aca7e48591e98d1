//! How fast rows with a timer each come and go in a state file: `cargo run --release -p
//! wasmill-store --example churn [rows] [directory]`.
//!
//! Rows are written in random key order, 250,000 in a transaction; then time passes: what is due is
//! read page by page, its rows are looked up, and they are removed, as many in a transaction.

use std::error::Error;
use std::time::{Duration, Instant};

use wasmill_abi::TimeDomain;
use wasmill_core::change::Changes;
use wasmill_core::row::{Row, Timer, UNDATED, row_key};
use wasmill_core::store::{Cold, Index};
use wasmill_store::State;

const GROUP: u64 = 250_000;
const PAGE: usize = 4_096;
const STAGE: u16 = 0;
/// Timers are due half an hour after their row was made; a row is made every 100 µs.
const TIMER_MS: i64 = 1_800_000;
const ROWS_PER_MS: u64 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let rows: u64 = args.next().map_or(Ok(2_000_000), |n| n.parse())?;
    let dir = args.next().map_or_else(std::env::temp_dir, Into::into);
    let path = dir.join(format!("wasmill-store-churn-{}.redb", std::process::id()));
    let result = measure(&path, rows);
    std::fs::remove_file(&path)?;
    result
}

fn measure(path: &std::path::Path, rows: u64) -> Result<(), Box<dyn Error>> {
    let state = State::open(path, 64 << 20)?;
    let mut offset = 0;
    let mut writing = Spent::default();
    for first in (0..rows).step_by(GROUP as usize) {
        let packs = pack((first..rows.min(first + GROUP)).map(|i| (key(i), Some(row(i)))));
        offset += 1;
        writing.measure(|| state.apply(packs.iter().map(Vec::as_slice), offset))?;
    }
    writing.tell("written", rows);
    let bytes = std::fs::metadata(path)?.len();
    println!("file      {:>8.1} MB", bytes as f64 / 1e6);

    let (mut reading, mut finding, mut removing) =
        (Spent::default(), Spent::default(), Spent::default());
    let (mut after, mut found) = (None, 0);
    while found < rows {
        let mut due = Vec::new();
        while due.len() < GROUP as usize {
            let page = reading.measure(|| {
                state.due(Index::EventTime, STAGE, after.as_ref(), i64::MAX - 1, PAGE)
            })?;
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            due.extend(page.into_iter().map(|(_, key)| key));
        }
        finding.measure(|| {
            due.iter()
                .try_for_each(|key| {
                    let mut name = Vec::new();
                    row_key(STAGE, key, &mut name);
                    state.get(&name)?.map(drop).ok_or("a key that is due has a row".into())
                })
                .map_err(|e: Box<dyn Error>| e)
        })?;
        found += due.len() as u64;
        let packs = pack(due.into_iter().map(|key| (key, None)));
        offset += 1;
        removing.measure(|| state.apply(packs.iter().map(Vec::as_slice), offset))?;
    }
    reading.tell("read due", rows);
    finding.tell("looked up", rows);
    removing.tell("removed", rows);
    Ok(())
}

fn key(i: u64) -> Vec<u8> {
    let hash = i.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    format!("user-{:016x}", hash.wrapping_mul(0xBF58_476D_1CE4_E5B9)).into_bytes()
}

fn row(i: u64) -> Vec<u8> {
    let time = 1_700_000_000_000 + (i / ROWS_PER_MS) as i64 + TIMER_MS;
    let timer = Timer { domain: TimeDomain::EventTime, tag: 0, time };
    let timers = std::iter::once(timer).collect();
    let row = Row { version: 1, touched: UNDATED, timers, value: Some([7; 40].into()) };
    let mut bytes = Vec::new();
    row.encode(&mut bytes);
    bytes
}

fn pack(rows: impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>) -> Vec<Vec<u8>> {
    let mut changes = Changes::default();
    for (key, value) in rows {
        let value = value.map(|value| move |out: &mut Vec<u8>| out.extend_from_slice(&value));
        changes.add(|out| row_key(STAGE, &key, out), value);
    }
    changes.sort();
    changes.packs(900_000).collect()
}

/// Time by the wall and of the processor.
#[derive(Default)]
struct Spent {
    wall: Duration,
    cpu_ticks: u64,
}

impl Spent {
    fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (start, ticks) = (Instant::now(), cpu_ticks());
        let result = work();
        self.wall += start.elapsed();
        self.cpu_ticks += cpu_ticks() - ticks;
        result
    }

    fn tell(&self, what: &str, rows: u64) {
        let wall = self.wall.as_secs_f64();
        let cpu = self.cpu_ticks as f64 / 100.0;
        println!(
            "{what:<9} {:>9.0} rows/s, {wall:>6.2} s, {cpu:>6.2} s CPU, {:>5.2} µs CPU per row",
            rows as f64 / wall,
            cpu * 1e6 / rows as f64,
        );
    }
}

/// Processor time of this process so far, in hundredths of a second; 0 where the system has no
/// `/proc`.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum()
}
