//! How fast this machine and disk append, read and commit: `cargo run --release -p wasmill-log
//! --example throughput [directory]`.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use wasmill_log::{Log, Options, Position, Reader, Records, TopicOptions};

const BATCHES: usize = 2_000;
const ROWS: usize = 1_000;
const VALUE_BYTES: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let dir = dir.join(format!("wasmill-log-throughput-{}", std::process::id()));
    measure(&dir)?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn measure(dir: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let log = Log::open(dir, Options::default())?;
    log.create_topic("t", 1, TopicOptions::default())?;
    let partition = log.partition("t", 0)?;
    let mut follower = partition.reader(Position::start());
    let (mut appending, mut following, mut slowest) = <(Duration, Duration, Duration)>::default();
    for i in 0..BATCHES {
        let batch = batch();
        let start = Instant::now();
        partition.append(1, 0, batch)?;
        appending += start.elapsed();
        let start = Instant::now();
        drain(&mut follower)?;
        following += start.elapsed();
        if i % 100 == 99 {
            let start = Instant::now();
            log.commit(log.freeze()?, i as u64, serde_json::Value::Null)?;
            slowest = slowest.max(start.elapsed());
        }
    }
    report("append", appending);
    report("read from memory", following);
    let start = Instant::now();
    drain(&mut partition.reader(Position::start()))?;
    report("read from files", start.elapsed());
    println!("slowest of {} commits: {slowest:?}", BATCHES / 100);
    Ok(())
}

fn batch() -> Records {
    let mut records = Records::default();
    for row in 0..ROWS {
        records.timestamps.push(row as i64);
        records.clocks.push(0);
        records.keys.push(&row.to_le_bytes());
        records.values.push(&[7; VALUE_BYTES]);
    }
    records
}

fn drain(reader: &mut Reader) -> Result<(), wasmill_log::Error> {
    while let Some((frame, _)) = reader.next()? {
        black_box(frame);
    }
    Ok(())
}

fn report(what: &str, took: Duration) {
    let records = (BATCHES * ROWS) as f64 / took.as_secs_f64();
    let bytes = records * (VALUE_BYTES + 32) as f64;
    println!("{what}: {:.1} M records/s, {:.2} GB/s", records / 1e6, bytes / 1e9);
}
