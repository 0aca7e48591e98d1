//! End-to-end latency at a constant rate: from the wall clock when an event was made to a reader that
//! waits for commits.
//!
//! Invariant: a figure counts only when every event that was made came out, and a peer is compared
//! with only where it keeps up with the load.

use std::time::{Duration, Instant};

use crate::Bench;
use crate::child::{Program, number};
use crate::figure::{Goal, print};
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

/// Latencies in ms.
struct Latency {
    p50: f64,
    p99: f64,
    p999: f64,
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
    let at = |rate: u32, who: Who, goal: Goal| -> anyhow::Result<Option<f64>> {
        let name = format!("latency-{}k-{}", rate / 1_000, who.name());
        let Latency { p50, p99, p999 } = match measure(bench, rate, &who) {
            Ok(Some(latency)) => latency,
            Ok(None) => return Ok(None),
            Err(error) => {
                eprintln!("{name}: no figure: {error:#}");
                return Ok(None);
            }
        };
        print(&format!("{name}-p50"), p50, "ms", Goal::None);
        print(&format!("{name}-p99"), p99, "ms", goal);
        print(&format!("{name}-p99.9"), p999, "ms", Goal::None);
        if p50 > KEEPS_UP_MS {
            eprintln!("{name}: does not keep up with the load");
        }
        Ok((p50 <= KEEPS_UP_MS).then_some(p99))
    };
    let goal = Goal::Most(30.0);
    let streams = at(30_000, Who::Streams, Goal::None)?;
    let own = at(30_000, ONCE, Goal::None)?;
    if let (Some(own), Some(streams)) = (own, streams) {
        print("latency-30k-p99-ratio-to-kstreams", own / streams, "ratio", Goal::Most(0.5));
    }
    at(30_000, ONCE_20, Goal::None)?;
    at(30_000, AT_LEAST, goal)?;
    let native = at(80_000, Who::Native, Goal::None)?;
    let own = at(80_000, ONCE, Goal::None)?;
    if let (Some(own), Some(native)) = (own, native) {
        print("latency-80k-p99-ratio-to-native", own / native, "ratio", Goal::Most(1.2));
    }
    at(80_000, ONCE_20, Goal::None)?;
    at(80_000, AT_LEAST, goal)?;
    Ok(())
}

/// Starts the job over the input; returns it with the name of its output, or none where it is left
/// out.
fn start(bench: &Bench, who: &Who) -> anyhow::Result<Option<(Program, String)>> {
    let folder = bench.folder.path();
    Ok(Some(match who {
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
            let Some(java) = &bench.peers.kstreams else { return Ok(None) };
            let args = [ENDLESS, "2", "100", "exactly_once_v2"];
            let program = bench.peers.start_java(folder, java, Some(INPUT), &args)?;
            (program, "out-ks".to_owned())
        }
    }))
}

fn measure(bench: &Bench, rate: u32, who: &Who) -> anyhow::Result<Option<Latency>> {
    let Bench { broker, peers, .. } = bench;
    let folder = bench.folder.path();
    let seconds: u64 = if bench.quick { 15 } else { 25 };
    broker.clean()?;
    broker.create(INPUT)?;
    let Some((mut program, output)) = start(bench, who)? else { return Ok(None) };
    let begun = Instant::now();
    while !broker.topics()?.contains(&output) {
        program.check()?;
        anyhow::ensure!(begun.elapsed() < PATIENCE, "topic {output} does not come to be");
        std::thread::sleep(Duration::from_millis(50));
    }
    let warm_up = if matches!(who, Who::Streams) { JAVA_WARM_UP } else { WARM_UP };
    let (rate, all) = (rate.to_string(), (warm_up.as_secs() + seconds + 2).to_string());
    let mut load = peers.native("load");
    let load = Program::start("load", load.args(["-t", INPUT, "-r", &rate, "-d", &all]), folder)?;
    std::thread::sleep(warm_up);
    let seconds = seconds.to_string();
    let said = peers.run_native(folder, "read", &["-t", &output, "-d", &seconds])?.output;
    let loaded = load.wait(PATIENCE)?.output;
    let loaded = loaded.trim().strip_prefix("loaded ").and_then(|n| n.parse().ok());
    let loaded: u64 = loaded.ok_or_else(|| anyhow::anyhow!("no number of loaded records"))?;
    broker.await_records(&output, loaded, PATIENCE, || program.check())?;
    program.kill()?;
    broker.remove(&[INPUT])?;
    Ok(Some(Latency {
        p50: number(&said, "p50 ", " ")?,
        p99: number(&said, "p99 ", " ")?,
        p999: number(&said, "p99.9 ", " ")?,
    }))
}
