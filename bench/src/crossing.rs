//! What a call costs, as the micro-benchmarks (`benches/micro.rs`, by Criterion) found it.

use std::process::{Command, Stdio};

use anyhow::Context;

use crate::figure::{Goal, print};

/// How many records a call has there.
const ROWS: f64 = 1_000.0;

/// The figures, and what they may be at most, in ns a record.
const FIGURES: [(&str, f64); 3] = [
    ("abi-crossing-200B-batch-1000", 40.0),
    ("identity-stage-stateless", 150.0),
    ("identity-stage-keyed", 150.0),
];

/// Runs the micro-benchmarks, which report to standard error, and prints the figures.
pub fn run() -> anyhow::Result<()> {
    let folder = crate::root().join("target/criterion");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["bench", "--quiet", "--workspace", "--bench", "micro", "--profile", "release"]);
    command.args(["--", "--noplot", "--quiet"]).current_dir(crate::root());
    command.env("CRITERION_HOME", &folder).stdout(Stdio::from(std::io::stderr()));
    let status = command.status().context("the micro-benchmarks are run by cargo")?;
    anyhow::ensure!(status.success(), "the micro-benchmarks failed: {status}");
    for (name, most) in FIGURES {
        let path = folder.join(format!("calls/{name}/new/estimates.json"));
        let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let estimates: serde_json::Value = serde_json::from_slice(&text)?;
        let median = estimates["median"]["point_estimate"].as_f64();
        let median = median.with_context(|| format!("{}: no median", path.display()))?;
        print(name, median / ROWS, "ns/record", Goal::Most(most));
    }
    Ok(())
}
