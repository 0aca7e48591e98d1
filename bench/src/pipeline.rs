//! Whole pipelines as processes: throughput, memory, start.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use wasmill_generate::{Config, Generator};
use wasmill_log::{Log, Records, TopicOptions};

use crate::figure::{Goal, median, print};
use crate::native;

const PIPELINE: &str = r#"
name = "fused"
[engine]
workers = 2
checkpoint-interval = "1s"
[source.raw]
type = "topic"
topic = "raw"
bounded = true
out-of-orderness = "60s"
[stage.clean]
plugin = "clean"
from = "source.raw"
config.bots = []
[stage.sessionize]
plugin = "sessionize"
from = "stage.clean"
repartition = false
[topic.live]
from = "stage.sessionize.live"
partitions = 2
[topic.sessions]
from = "stage.sessionize.final"
partitions = 2
"#;

/// What a run has shown.
struct Run {
    seconds: f64,
    records: u64,
    peak_mib: f64,
    wall: Duration,
}

/// A folder for the data of a benchmark, removed at the end.
fn folder() -> anyhow::Result<tempfile::TempDir> {
    let base = crate::root().join("target/bench");
    std::fs::create_dir_all(&base)?;
    Ok(tempfile::tempdir_in(base)?)
}

/// Writes generated lines into the topic `raw`, by user, in two partitions.
fn generate(data: &Path, events: u64, users: u32) -> anyhow::Result<()> {
    let config = Config { events: Some(events), users, rate: 1_000.0, ..Config::default() };
    let mut generator = Generator::new(&config)?;
    let log = Log::open(data.join("log"), wasmill_log::Options::default())?;
    let options = TopicOptions { segment_bytes: 64 << 20, ..TopicOptions::default() };
    log.create_topic("raw", 2, options)?;
    let mut batches: [Records; 2] = Default::default();
    let (mut line, mut key) = (Vec::new(), Vec::new());
    let append = |p: usize, batch: Records| -> anyhow::Result<()> {
        log.partition("raw", p as u32)?.append(1, 0, batch)?;
        Ok(())
    };
    while let Some(event) = generator.next_into(&mut line) {
        key.clear();
        event.key_into(&mut key);
        let p = wasmill_core::murmur::partition(&key, 2) as usize;
        let batch = &mut batches[p];
        batch.timestamps.push(event.timestamp_ms);
        batch.clocks.push(i64::MIN);
        batch.keys.push(&key);
        batch.values.push(&line);
        if batch.timestamps.len() == 1_000 {
            append(p, std::mem::take(batch))?;
        }
    }
    for (p, batch) in batches.into_iter().enumerate().filter(|(_, b)| !b.timestamps.is_empty()) {
        append(p, batch)?;
    }
    let snapshot = log.freeze()?;
    log.commit(snapshot, log.epoch() + 1, serde_json::Value::Null)?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn program() -> PathBuf {
    crate::root().join("target/release/wasmill")
}

/// Runs a pipeline to its end, looking at its memory meanwhile.
fn wasmill(folder: &Path, pipeline: &str, data: &Path, sets: &[&str]) -> anyhow::Result<Run> {
    let file = folder.join("pipeline.toml");
    std::fs::write(&file, pipeline)?;
    let mut command = Command::new(program());
    command.arg("run").arg(&file).arg("--json").arg("--data-dir").arg(data);
    command.arg("--plugins").arg(crate::root().join("target/plugins"));
    command.env("WASMILL_CACHE_DIR", crate::root().join("target/bench/cache"));
    for set in sets {
        command.arg("--set").arg(set);
    }
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{}: run `make build` first", program().display()))?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0.0f64;
    while child.try_wait()?.is_none() {
        if let Ok(text) = std::fs::read_to_string(&status)
            && let Some(line) = text.lines().find(|l| l.starts_with("VmHWM:"))
            && let Some(kib) = line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok())
        {
            peak = peak.max(kib / 1024.0);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let wall = start.elapsed();
    let output = child.wait_with_output()?;
    anyhow::ensure!(output.status.success(), "wasmill run failed: {}", output.status);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let seconds = report["elapsed"]["secs"].as_f64().unwrap_or(0.0)
        + report["elapsed"]["nanos"].as_f64().unwrap_or(0.0) / 1e9;
    let records = report["records"].as_u64().context("the report has records")?;
    Ok(Run { seconds, records, peak_mib: peak, wall })
}

/// `clean -> sessionize`, fused, exactly once, against the same plugins in a native loop.
pub fn fused(quick: bool) -> anyhow::Result<()> {
    let (events, rounds) = if quick { (500_000, 1) } else { (2_000_000, 3) };
    let folder = folder()?;
    let source = folder.path().join("source");
    generate(&source, events, 100_000)?;
    let (mut rates, mut ratios, mut natives) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let took = native::run(&source.join("log"), "raw")?;
        let native = events as f64 / took.as_secs_f64();
        let data = folder.path().join(format!("data-{round}"));
        copy(&source, &data)?;
        let run = wasmill(folder.path(), PIPELINE, &data, &[])?;
        anyhow::ensure!(run.records == events, "{} of {events} records", run.records);
        let rate = run.records as f64 / run.seconds;
        rates.push(rate);
        natives.push(native);
        ratios.push(rate / native);
        std::fs::remove_dir_all(&data)?;
    }
    print("clean-sessionize-fused", median(rates), "records/s", Goal::Least(250_000.0));
    print("clean-sessionize-native-loop", median(natives), "records/s", Goal::None);
    print("clean-sessionize-ratio-to-native", median(ratios), "ratio", Goal::Least(0.6));
    Ok(())
}

/// Many distinct users: throughput against few, and memory.
pub fn keys(quick: bool) -> anyhow::Result<()> {
    let (events, many) = if quick { (1_000_000, 1_000_000) } else { (6_000_000, 5_000_000) };
    let folder = folder()?;
    let mut rates = Vec::new();
    for (name, users) in [("10-thousand-keys", 10_000), ("5-million-keys", many)] {
        let data = folder.path().join(name);
        generate(&data, events, users)?;
        let run = wasmill(folder.path(), PIPELINE, &data, &[])?;
        let rate = run.records as f64 / run.seconds;
        print(&format!("{name}-throughput"), rate, "records/s", Goal::None);
        let bound = 512.0 + 256.0;
        print(&format!("{name}-peak-memory"), run.peak_mib, "MiB", Goal::Most(bound));
        rates.push(rate);
        std::fs::remove_dir_all(&data)?;
    }
    print("5-million-keys-ratio", rates[1] / rates[0], "ratio", Goal::Least(0.5));
    Ok(())
}

/// From the start of the process to its end over three lines: the whole start, three records, and a
/// commit. The first record comes sooner.
pub fn start() -> anyhow::Result<()> {
    let folder = folder()?;
    let mut walls = Vec::new();
    for round in 0..6 {
        let data = folder.path().join(format!("start-{round}"));
        generate(&data, 3, 3)?;
        let run = wasmill(folder.path(), PIPELINE, &data, &[])?;
        // The first round fills the cache of compiled code.
        if round > 0 {
            walls.push(run.wall.as_secs_f64() * 1_000.0);
        }
    }
    print("start-to-end-cached", median(walls), "ms", Goal::Most(300.0));
    Ok(())
}
