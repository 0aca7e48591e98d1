//! The benchmarks of Wasmill: `make bench` prints one line a figure,
//! `name value unit goal pass|short`, and exits 0 whatever falls short.
//!
//! Every ratio is taken in one run, turn by turn, because machines are noisy.

mod crossing;
mod figure;
mod native;
mod pipeline;

use std::path::PathBuf;

use clap::Parser as _;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The folder of the project.
fn root() -> PathBuf {
    let bench = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.parent().map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Prints the figures of Wasmill, one a line: name, value, unit, goal, and whether that is reached.
#[derive(clap::Parser)]
struct Args {
    /// Measure less of everything
    #[arg(long)]
    quick: bool,
    /// What to measure; all of it where nothing is named
    only: Vec<Piece>,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Piece {
    /// Calls into components, and stages that do nothing
    Crossing,
    /// A pipeline in one process, beside the same program without components
    Fused,
    /// The same with many keys, beside few
    Keys,
    /// How long a start takes
    Start,
}

fn main() -> anyhow::Result<()> {
    let Args { quick, only } = Args::parse();
    let wanted = |piece| only.is_empty() || only.contains(&piece);
    if wanted(Piece::Crossing) {
        crossing::run()?;
    }
    if wanted(Piece::Fused) {
        pipeline::fused(quick)?;
    }
    if wanted(Piece::Keys) {
        pipeline::keys(quick)?;
    }
    if wanted(Piece::Start) {
        pipeline::start()?;
    }
    Ok(())
}
