//! The benchmarks of Wasmill: `make bench` prints one line a figure,
//! `name value unit goal pass|short`, and exits 0 whatever falls short.
//!
//! Every ratio is taken in one run, turn by turn, because machines are noisy.

mod crossing;
mod figure;
mod native;
mod pipeline;

use std::path::PathBuf;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The folder of the project.
fn root() -> PathBuf {
    let bench = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.parent().map_or_else(|| PathBuf::from("."), PathBuf::from)
}

fn main() -> anyhow::Result<()> {
    let quick = std::env::args().any(|a| a == "--quick");
    let only: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|o| o == name);
    if wanted("crossing") {
        crossing::run()?;
    }
    if wanted("fused") {
        pipeline::fused(quick)?;
    }
    if wanted("keys") {
        pipeline::keys(quick)?;
    }
    if wanted("start") {
        pipeline::start()?;
    }
    Ok(())
}
