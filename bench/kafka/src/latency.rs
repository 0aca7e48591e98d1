//! End-to-end latency at a constant rate: from the wall clock when an event was made to a reader that
//! waits for commits.
//!
//! Invariant: a figure of Wasmill counts only when every event that was made came out; without, the run
//! fails. A peer that does not keep up with the load has the latency of its queue, which grows, and is
//! said not to.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::Bench;
use crate::child::{Program, number};
use crate::figure::{Goal, median, print};
use crate::mill::Pipeline;

const INPUT: &str = "in-latency";
/// Load goes on for so long before anything is measured.
const WARM_UP: Duration = Duration::from_secs(10);
/// The same for a peer in Java: what is hot is compiled meanwhile, and what was piled up until then is
/// worked off.
const JAVA_WARM_UP: Duration = Duration::from_secs(60);
/// How long what was made may be on its way after the end.
const PATIENCE: Duration = Duration::from_secs(120);
/// More records than any load makes.
const ENDLESS: &str = "1000000000000";

/// Half of all events later than this, in ms, and a program does not keep up: its latency is that of a
/// queue that grows.
const KEEPS_UP_MS: f64 = 2_000.0;
/// The rates at which Kafka Streams is measured until it keeps up with one.
const RATES: [u32; 3] = [30_000, 20_000, 10_000];
/// A reader begins to measure after so long.
const READER_WARM_UP: Duration = Duration::from_secs(5);

/// Latencies in ms.
#[derive(Debug, Clone, Copy)]
struct Latency {
    p50: f64,
    p99: f64,
    p999: f64,
}

impl Latency {
    fn keeps_up(&self) -> bool {
        self.p50 <= KEEPS_UP_MS
    }
}

/// The median of each.
fn medians(all: &[Latency]) -> Latency {
    let of = |part: fn(&Latency) -> f64| median(all.iter().map(part).collect());
    Latency { p50: of(|l| l.p50), p99: of(|l| l.p99), p999: of(|l| l.p999) }
}

/// Who does the job.
enum Who {
    Own { name: &'static str, commit_ms: u32, guarantee: &'static str },
    Native,
    Streams,
}

impl Who {
    fn name(&self) -> &'static str {
        match self {
            Self::Own { name, .. } => name,
            Self::Native => "native-packed",
            Self::Streams => "kstreams",
        }
    }
}

const ONCE: Who =
    Who::Own { name: "exactly-once-100ms", commit_ms: 100, guarantee: "exactly-once" };
const ONCE_20: Who =
    Who::Own { name: "exactly-once-20ms", commit_ms: 20, guarantee: "exactly-once" };
const AT_LEAST: Who =
    Who::Own { name: "at-least-once", commit_ms: 100, guarantee: "at-least-once" };

/// Prints the figures.
pub fn run(bench: &Bench) -> anyhow::Result<()> {
    against_streams(bench)?;
    let once = Goal::Most(30.0);
    print_all(30_000, &ONCE_20, &[measure(bench, 30_000, &ONCE_20)?], Goal::None);
    print_all(30_000, &AT_LEAST, &rounds(bench, 30_000, &AT_LEAST)?, once);
    against_native(bench)?;
    print_all(80_000, &ONCE_20, &[measure(bench, 80_000, &ONCE_20)?], Goal::None);
    print_all(80_000, &AT_LEAST, &rounds(bench, 80_000, &AT_LEAST)?, once);
    Ok(())
}

/// How often what varies much from run to run is measured.
fn times(bench: &Bench) -> usize {
    if bench.quick { 1 } else { 3 }
}

fn rounds(bench: &Bench, rate: u32, who: &Who) -> anyhow::Result<Vec<Latency>> {
    (0..times(bench)).map(|_| measure(bench, rate, who)).collect()
}

/// Prints the medians of some runs.
fn print_all(rate: u32, who: &Who, all: &[Latency], goal: Goal) -> Latency {
    let name = format!("latency-{}k-{}", rate / 1_000, who.name());
    let latency = medians(all);
    if all.len() > 1 {
        let p99s: Vec<f64> = all.iter().map(|l| l.p99).collect();
        eprintln!("{name}: p99 in {} runs: {p99s:?}", all.len());
    }
    print(&format!("{name}-p50"), latency.p50, "ms", Goal::None);
    print(&format!("{name}-p99"), latency.p99, "ms", goal);
    print(&format!("{name}-p99.9"), latency.p999, "ms", Goal::None);
    if !latency.keeps_up() {
        eprintln!("{name}: does not keep up with the load");
    }
    latency
}

/// At 30,000 records/s, and where Kafka Streams does not keep up with that, at the highest rate that it
/// does.
fn against_streams(bench: &Bench) -> anyhow::Result<()> {
    let mut kept_up = false;
    for rate in RATES {
        let streams = match &bench.peers.kstreams {
            _ if kept_up => break,
            None => None,
            Some(_) => Some(peer(bench, rate, &Who::Streams)?),
        };
        kept_up = streams.is_none_or(|streams| streams.keeps_up());
        // The figures of Wasmill at the first rate are wanted in any case.
        if rate != RATES[0] && !kept_up {
            continue;
        }
        let own = print_all(rate, &ONCE, &[measure(bench, rate, &ONCE)?], Goal::None);
        if let Some(streams) = streams {
            let name = format!("latency-{}k-p99-ratio-to-kstreams", rate / 1_000);
            print(&name, own.p99 / streams.p99, "ratio", Goal::Most(0.5));
        }
    }
    if !kept_up {
        eprintln!("latency: kstreams keeps up with none of {RATES:?} records/s");
    }
    Ok(())
}

/// At 80,000 records/s, turn by turn.
fn against_native(bench: &Bench) -> anyhow::Result<()> {
    let rate = 80_000;
    let (mut own, mut native, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..times(bench) {
        let of = measure(bench, rate, &Who::Native)?;
        native.push(of);
        own.push(measure(bench, rate, &ONCE)?);
        ratios.push(own[own.len() - 1].p99 / of.p99);
    }
    print_all(rate, &Who::Native, &native, Goal::None);
    print_all(rate, &ONCE, &own, Goal::None);
    eprintln!("latency-80k: ratios of p99 to native: {ratios:?}");
    print("latency-80k-p99-ratio-to-native", median(ratios), "ratio", Goal::Most(1.2));
    Ok(())
}

/// Measures a peer and prints its figures.
fn peer(bench: &Bench, rate: u32, who: &Who) -> anyhow::Result<Latency> {
    Ok(print_all(rate, who, &[measure(bench, rate, who)?], Goal::None))
}

/// Starts the job over the input; returns it with the name of its output.
fn start(bench: &Bench, who: &Who) -> anyhow::Result<(Program, String)> {
    let folder = bench.folder.path();
    Ok(match who {
        Who::Own { name, commit_ms, guarantee } => {
            let mut pipeline = Pipeline::new(&format!("l-{name}"), INPUT, Some("sessions"));
            pipeline.bounded = false;
            pipeline.commit_ms = *commit_ms;
            pipeline.kafka = format!("guarantee = \"{guarantee}\"\n");
            let data = crate::mill::Mill::data(folder, &pipeline);
            if data.exists() {
                std::fs::remove_dir_all(data)?;
            }
            (bench.mill.start(folder, &pipeline)?, pipeline.output())
        }
        Who::Native => {
            let mut command = bench.peers.native("packed");
            command.args(["-t", INPUT, "-n", ENDLESS, "--commit", "100"]);
            (Program::start("native", &mut command, folder)?, "out-packed".to_owned())
        }
        Who::Streams => {
            let java = bench.peers.kstreams.as_ref().context("there is no Kafka Streams")?;
            let args = [ENDLESS, "2", "100", "exactly_once_v2"];
            let program = bench.peers.start_java(folder, java, Some(INPUT), &args)?;
            (program, "out-ks".to_owned())
        }
    })
}

fn measure(bench: &Bench, rate: u32, who: &Who) -> anyhow::Result<Latency> {
    let of = format!("{} at {rate} records/s", who.name());
    try_measure(bench, rate, who).context(of)
}

fn try_measure(bench: &Bench, rate: u32, who: &Who) -> anyhow::Result<Latency> {
    let Bench { broker, peers, .. } = bench;
    let folder = bench.folder.path();
    let time = Duration::from_secs(if bench.quick { 15 } else { 25 });
    broker.clean()?;
    broker.create(INPUT)?;
    let (mut program, output) = start(bench, who)?;
    let begun = Instant::now();
    while !broker.topics()?.contains(&output) {
        program.check()?;
        anyhow::ensure!(begun.elapsed() < PATIENCE, "topic {output} does not come to be");
        std::thread::sleep(Duration::from_millis(50));
    }
    let warm_up = if matches!(who, Who::Streams) { JAVA_WARM_UP } else { WARM_UP };
    let (rate, all) = (rate.to_string(), (warm_up + time).as_secs() + 2);
    let mut load = peers.native("load");
    load.args(["-t", INPUT, "-r", &rate, "-d", &all.to_string()]);
    let load = Program::start("load", &mut load, folder)?;
    std::thread::sleep(warm_up);
    let seconds = time.as_secs().to_string();
    let read = peers.run_native(folder, "read", &["-t", &output, "-d", &seconds]);
    let loaded = load.wait(PATIENCE)?.output;
    let loaded = loaded.trim().strip_prefix("loaded ").and_then(|n| n.parse().ok());
    let loaded: u64 = loaded.context("no number of loaded records")?;
    let came = broker.await_records(&output, loaded, PATIENCE, || program.check());
    // Ended by itself, it has no figure, whoever it is.
    program.check()?;
    let is_own = matches!(who, Who::Own { .. });
    if let Err(error) = came {
        anyhow::ensure!(!is_own, error);
        eprintln!("{} does not keep up: {error:#}", who.name());
    }
    program.kill()?;
    broker.remove(&[INPUT])?;
    match read {
        Ok(ended) => {
            let said = ended.output;
            let of = |before| number(&said, before, " ");
            Ok(Latency { p50: of("p50 ")?, p99: of("p99 ")?, p999: of("p99.9 ")? })
        }
        Err(error) if is_own => Err(error),
        // What comes later has waited for at least so long.
        Err(error) => {
            let least = (time - READER_WARM_UP).as_secs_f64() * 1e3;
            eprintln!("{}: nothing came out for {least} ms, which counts: {error:#}", who.name());
            Ok(Latency { p50: least, p99: least, p999: least })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_of_each_percentile() {
        let of = |p50, p99, p999| Latency { p50, p99, p999 };
        let all = [of(1.0, 30.0, 200.0), of(3.0, 10.0, 300.0), of(2.0, 20.0, 100.0)];
        let medians = medians(&all);
        assert_eq!((medians.p50, medians.p99, medians.p999), (2.0, 20.0, 200.0));
        assert!(medians.keeps_up() && !of(2_001.0, 0.0, 0.0).keeps_up());
    }
}
