//! The job of the peers: page views become events of sessions, with state by user, exactly once, at a
//! commit of 100 ms.

use crate::Bench;
use crate::child::Ended;
use crate::figure::{Goal, median, print};
use crate::mill::Pipeline;
use crate::topics::Content;

const COMMIT: &str = "100";

/// The figures of one program over all rounds.
#[derive(Default)]
struct Figures {
    rates: Vec<f64>,
    second_halves: Vec<f64>,
    cpu_us: Vec<f64>,
    peaks_mib: Vec<f64>,
}

impl Figures {
    fn add(&mut self, rate: f64, second_half: Option<f64>, ended: &Ended, records: u64) {
        self.rates.push(rate);
        self.second_halves.extend(second_half);
        self.cpu_us.push(ended.cpu * 1e6 / records as f64);
        self.peaks_mib.push(ended.peak_mib);
    }

    fn print(&self, name: &str) {
        print(&format!("{name}-throughput"), median(self.rates.clone()), "records/s", Goal::None);
        if !self.second_halves.is_empty() {
            let rate = median(self.second_halves.clone());
            print(&format!("{name}-second-half"), rate, "records/s", Goal::None);
        }
        print(&format!("{name}-cpu"), median(self.cpu_us.clone()), "us/record", Goal::None);
        print(&format!("{name}-peak-memory"), median(self.peaks_mib.clone()), "MiB", Goal::None);
    }
}

/// The median of the ratios of each round.
fn ratio(of: &[f64], to: &[f64]) -> f64 {
    median(of.iter().zip(to).map(|(a, b)| a / b).collect())
}

/// Prints the figures.
pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let (records, rounds) = if bench.quick { (500_000, 1) } else { (2_000_000, 3) };
    let Bench { broker, peers, mill, .. } = bench;
    let folder = bench.folder.path();
    let n = records.to_string();
    peers.run_native(folder, "gen", &["-n", &n, "-t", "in"])?;
    let [mut changelog, mut memory, mut own, mut kstreams, mut flink]: [Figures; 5] =
        Default::default();
    for round in 0..rounds {
        let run = peers.job(folder, "changelog", "in", records)?;
        changelog.add(run.rate, None, &run.ended, records);
        let expected = broker.content("out-changelog")?;
        anyhow::ensure!(expected.records > records, "native: {expected:?}");
        broker.clean()?;

        let pipeline = Pipeline::new(&format!("sessions-{round}"), "in", Some("sessions"));
        let run = mill.run(folder, &pipeline, records)?;
        own.add(run.rate, None, &run.ended, records);
        same("wasmill", broker.content(&pipeline.output())?, expected)?;
        broker.clean()?;

        let run = peers.job(folder, "native", "in", records)?;
        memory.add(run.rate, None, &run.ended, records);
        same("native in memory", broker.content("out-native")?, expected)?;
        broker.clean()?;

        if let Some(java) = &peers.kstreams {
            let args = ["2", COMMIT, "exactly_once_v2"];
            let run = peers.java_job(folder, java, records, &args)?;
            kstreams.add(run.rate, run.second_half, &run.ended, records);
            as_many("kstreams", broker.content("out-ks")?, expected)?;
            broker.clean()?;
        }
        if let Some(java) = &peers.flink {
            let run = peers.java_job(folder, java, records, &["2", COMMIT])?;
            flink.add(run.rate, run.second_half, &run.ended, records);
            as_many("flink", broker.content("out-flink")?, expected)?;
            broker.clean()?;
        }
    }
    own.print("sessions-wasmill");
    changelog.print("sessions-native-changelog");
    memory.print("sessions-native-memory");
    let to_changelog = ratio(&own.rates, &changelog.rates);
    print("sessions-ratio-to-native-changelog", to_changelog, "ratio", Goal::Least(1.0));
    let to_memory = ratio(&own.rates, &memory.rates);
    print("sessions-ratio-to-native-memory", to_memory, "ratio", Goal::Least(0.75));
    // Other load on the machine shows less in these.
    let cpu = ratio(&own.cpu_us, &changelog.cpu_us);
    print("sessions-cpu-ratio-to-native-changelog", cpu, "ratio", Goal::None);
    let cpu = ratio(&own.cpu_us, &memory.cpu_us);
    print("sessions-cpu-ratio-to-native-memory", cpu, "ratio", Goal::None);
    for (name, peer) in [("kstreams", &kstreams), ("flink", &flink)] {
        if peer.rates.is_empty() {
            continue;
        }
        peer.print(&format!("sessions-{name}"));
        let of = |what: &str| format!("sessions-{what}-ratio-to-{name}");
        print(&of("whole-run"), ratio(&own.rates, &peer.rates), "ratio", Goal::Least(3.0));
        // The whole run of ours against their better half.
        let half = ratio(&own.rates, &peer.second_halves);
        print(&of("second-half"), half, "ratio", Goal::Least(2.0));
        print(&of("cpu"), ratio(&own.cpu_us, &peer.cpu_us), "ratio", Goal::Most(0.33));
        print(&of("memory"), ratio(&own.peaks_mib, &peer.peaks_mib), "ratio", Goal::Most(0.33));
    }
    Ok(())
}

fn same(name: &str, found: Content, expected: Content) -> anyhow::Result<()> {
    anyhow::ensure!(found == expected, "{name}: found {found:?}, expected {expected:?}");
    Ok(())
}

/// For peers that write the fields of an event in another order.
fn as_many(name: &str, found: Content, expected: Content) -> anyhow::Result<()> {
    let (found, expected) = (found.records, expected.records);
    anyhow::ensure!(found == expected, "{name}: found {found} records, expected {expected}");
    Ok(())
}
