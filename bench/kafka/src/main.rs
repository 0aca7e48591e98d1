//! The benchmarks of Wasmill on Kafka: `make bench-kafka` prints one line a figure,
//! `name value unit goal pass|short`, beside the same figures of programs that do the same job, and
//! exits 0 whatever falls short, and 1 where a program failed or gave what it should not.
//!
//! All of it runs on one broker on this machine, which shares its processors with whoever is
//! measured; ratios are taken turn by turn. `--quick` measures less of everything, and names of
//! pieces (`throughput`, `pass`, `latency`, `restore`, `users`) leave the others out.
//!
//! Invariant: a program that has not put out every record that it should have has no figure.

mod child;
#[path = "../../src/figure.rs"]
mod figure;
mod latency;
mod mill;
mod pass;
mod peers;
mod restore;
mod throughput;
mod topics;
mod users;

use std::path::PathBuf;

use clap::Parser as _;

use crate::mill::Mill;
use crate::peers::Peers;
use crate::topics::Broker;

/// What all pieces use.
pub struct Bench {
    /// Whether to measure less of everything.
    pub quick: bool,
    /// The broker.
    pub broker: Broker,
    /// The peers.
    pub peers: Peers,
    /// What is measured.
    pub mill: Mill,
    /// A folder for what programs write, removed at the end.
    pub folder: tempfile::TempDir,
}

/// The folder of the project.
fn root() -> PathBuf {
    let bench = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.ancestors().nth(2).map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Prints the figures of Wasmill on Kafka beside those of its peers, one a line: name, value, unit, goal,
/// and whether that is reached.
#[derive(clap::Parser)]
struct Args {
    /// Measure less of everything
    #[arg(long)]
    quick: bool,
    /// The program to measure, where it is not the one that was built here
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// The folder of its plugins
    #[arg(long, value_name = "FOLDER")]
    plugins: Option<PathBuf>,
    /// The folder of its peers
    #[arg(long, value_name = "FOLDER")]
    peers: Option<PathBuf>,
    /// What to measure; all of it where nothing is named
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(PIECES.map(|(name, _)| name)))]
    only: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let Args { quick, program, plugins, peers, only } = Args::parse();
    let base = root().join("target/bench");
    std::fs::create_dir_all(&base)?;
    let folder = tempfile::tempdir_in(&base)?;
    let target = root().join("target");
    let program = program.unwrap_or_else(|| target.join("release/wasmill"));
    let plugins = plugins.unwrap_or_else(|| target.join("plugins"));
    let broker = match Broker::start() {
        Ok(broker) => broker,
        Err(error) => {
            eprintln!("left out: everything: no broker: {error:#}");
            return Ok(());
        }
    };
    let peers = Peers::find(&peers.unwrap_or_else(|| target.join("peers")), &broker)?;
    let mill = Mill::new(program, plugins, base.join("cache"), &broker)?;
    let bench = Bench { quick, broker, peers, mill, folder };
    let mut failed = Vec::new();
    for (name, piece) in PIECES {
        if only.is_empty() || only.iter().any(|o| o == name) {
            if let Err(error) = piece(&bench) {
                eprintln!("{name}: no more figures: {error:#}");
                failed.push(name);
            }
            bench.broker.clean()?;
        }
    }
    anyhow::ensure!(failed.is_empty(), "without all their figures: {}", failed.join(", "));
    Ok(())
}

type Piece = fn(&Bench) -> anyhow::Result<()>;

/// The pieces, in the order in which they run.
const PIECES: [(&str, Piece); 5] = [
    ("throughput", throughput::run),
    ("pass", pass::run),
    ("latency", latency::run),
    ("restore", restore::run),
    ("users", users::run),
];
