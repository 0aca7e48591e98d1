//! The job over very many users, most of whose state is not in memory.

use crate::Bench;
use crate::figure::{Goal, print};
use crate::mill::Pipeline;

const INPUT: &str = "in-users";
/// The memory that the state may take by default, and as much as the rest may take besides: code,
/// and what librdkafka holds.
const BOUND_MIB: f64 = 512.0 + 256.0;

/// Prints the figures.
pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let few = if bench.quick { (100_000, 500_000) } else { (100_000, 4_000_000) };
    let many = if bench.quick { (1_000_000, 2_000_000) } else { (10_000_000, 20_000_000) };
    let Bench { broker, peers, mill, .. } = bench;
    let folder = bench.folder.path();
    let mut rates = Vec::new();
    for (users, records) in [few, many] {
        let (n, u) = (records.to_string(), users.to_string());
        peers.run_native(folder, "gen", &["-n", &n, "-t", INPUT, "--users", &u])?;
        let pipeline = Pipeline::new(&format!("users-{users}"), INPUT, Some("sessions"));
        let run = mill.run(folder, &pipeline, records)?;
        let found = broker.content(&pipeline.output())?.records;
        anyhow::ensure!(found >= records, "{found} records came out for {records}");
        let name = format!("users-{}k", users / 1_000);
        print(&format!("{name}-throughput"), run.rate, "records/s", Goal::None);
        let peak = run.ended.peak_mib;
        print(&format!("{name}-peak-memory"), peak, "MiB", Goal::Most(BOUND_MIB));
        rates.push(run.rate);
        broker.clean()?;
    }
    let name = format!("users-{}k-ratio-to-{}k", many.0 / 1_000, few.0 / 1_000);
    print(&name, rates[1] / rates[0], "ratio", Goal::Least(0.4));
    broker.remove(&[INPUT])
}
