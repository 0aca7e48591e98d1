//! Records copied from topic to topic in transactions: what the engine itself costs, against the bare,
//! tuned loop over librdkafka.

use crate::Bench;
use crate::figure::{Goal, median, print};
use crate::mill::Pipeline;

/// Prints the figures.
pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let (records, rounds) = if bench.quick { (500_000, 1) } else { (2_000_000, 3) };
    let Bench { broker, peers, mill, .. } = bench;
    let folder = bench.folder.path();
    let n = records.to_string();
    peers.run_native(folder, "gen", &["-n", &n, "-t", "in"])?;
    let expected = broker.content("in")?;
    let stages = [("stage", Some("identity"), 0.8), ("no-stage", None, 0.9)];
    let (mut bare, mut bare_cpu) = (Vec::new(), Vec::new());
    let mut own = [(); 2].map(|()| (Vec::new(), Vec::new(), Vec::new()));
    for round in 0..rounds {
        let run = peers.job(folder, "pass", "in", records)?;
        let found = broker.content("out-pass")?;
        anyhow::ensure!(found == expected, "native: found {found:?}, expected {expected:?}");
        broker.clean()?;
        bare.push(run.rate);
        bare_cpu.push(run.ended.cpu * 1e6 / records as f64);
        for ((name, plugin, _), (rates, ratios, cpu)) in stages.iter().zip(&mut own) {
            let pipeline = Pipeline::new(&format!("pass-{name}-{round}"), "in", *plugin);
            let of = mill.run(folder, &pipeline, records)?;
            let found = broker.content(&pipeline.output())?;
            anyhow::ensure!(found == expected, "{name}: found {found:?}, expected {expected:?}");
            broker.clean()?;
            rates.push(of.rate);
            ratios.push(of.rate / run.rate);
            cpu.push(of.ended.cpu * 1e6 / records as f64);
        }
    }
    print("pass-bare-loop", median(bare), "records/s", Goal::None);
    print("pass-bare-loop-cpu", median(bare_cpu), "us/record", Goal::None);
    for ((name, _, goal), (rates, ratios, cpu)) in stages.into_iter().zip(own) {
        print(&format!("pass-{name}"), median(rates), "records/s", Goal::None);
        print(&format!("pass-{name}-cpu"), median(cpu), "us/record", Goal::None);
        let ratio = median(ratios);
        print(&format!("pass-{name}-ratio-to-bare-loop"), ratio, "ratio", Goal::Least(goal));
    }
    Ok(())
}
