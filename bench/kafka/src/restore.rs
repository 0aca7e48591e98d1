//! Coming back: with the local state intact, and with nothing but the changelog.
//!
//! Invariant: what came back is right: each key that comes again brings out the value it had.

use std::time::Duration;

use crate::Bench;
use crate::child::Program;
use crate::figure::{Goal, median, print};
use crate::mill::{Mill, Pipeline};
use crate::topics::Content;

const INPUT: &str = "in-restore";
/// Records that come when it is back.
const AGAIN: u64 = 4_000;
/// By how much a start with a restore must take longer than one without: what is less is noise.
const CLEARLY: f64 = 1.25;
const PATIENCE: Duration = Duration::from_secs(300);

/// How it ended before.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// It was asked to.
    Asked,
    /// It was asked to, and its data directory is lost.
    Lost,
    /// It was killed.
    Killed,
}

/// Prints the figures.
pub fn run(bench: &Bench) -> anyhow::Result<()> {
    let (keys, rounds) = if bench.quick { (200_000, 1) } else { (1_000_000, 3) };
    let Bench { broker, mill, .. } = bench;
    let folder = bench.folder.path();
    let mut pipeline = Pipeline::new("restore", INPUT, Some("latest"));
    pipeline.bounded = false;
    let output = pipeline.output();
    let mut run = Restores { bench, pipeline, keys, expected: Content::default(), comings: 0 };
    broker.create(INPUT)?;
    broker.fill(INPUT, 0..keys, record)?;
    let mut program = mill.start(folder, &run.pipeline)?;
    broker.await_group("restore", INPUT, PATIENCE, || program.check())?;
    let (mut intact, mut lost, mut killed) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        let (next, whole) = run.come_back(program, End::Asked)?;
        let (next, restored) = run.come_back(next, End::Lost)?;
        let (next, after_kill) = run.come_back(next, End::Killed)?;
        program = next;
        intact.push(whole);
        lost.push(restored);
        killed.push(after_kill);
    }
    program.interrupt()?;
    let found = broker.content(&output)?;
    let expected = run.expected;
    anyhow::ensure!(found == expected, "restore: found {found:?}, expected {expected:?}");
    let name = |what: &str| format!("restore-{}k-keys-{what}", keys / 1_000);
    let (lost, intact) = (median(lost), median(intact));
    print(&name("until-first-output"), 1e3 * lost, "ms", Goal::None);
    // The start of the process, the group and a commit are not the restore.
    if lost > CLEARLY * intact {
        let rate = keys as f64 / (lost - intact);
        print(&name("rate"), rate, "keys/s", Goal::Least(700_000.0));
    } else {
        eprintln!(
            "restore: no rate: a start takes {intact:.1} s without it and {lost:.1} s with it"
        );
    }
    let within = Goal::Most(1_000.0);
    print("restart-until-first-output", 1e3 * intact, "ms", within);
    print("restart-after-kill-until-first-output", 1e3 * median(killed), "ms", within);
    broker.remove(&[INPUT])
}

/// Record number `i`: the value of a key is always the same.
fn record(i: u64, key: &mut Vec<u8>, value: &mut Vec<u8>) -> i64 {
    key.extend_from_slice(format!("key-{i:09}").as_bytes());
    value.extend_from_slice(format!("{i:0100}").as_bytes());
    1_700_000_000_000 + i.cast_signed()
}

struct Restores<'b> {
    bench: &'b Bench,
    pipeline: Pipeline,
    keys: u64,
    /// What must have come out so far.
    expected: Content,
    /// How often it has come back.
    comings: u64,
}

impl Restores<'_> {
    /// Ends the program and starts it again. Returns the seconds from its start to its first output.
    fn come_back(&mut self, program: Program, end: End) -> anyhow::Result<(Program, f64)> {
        let Bench { broker, mill, .. } = self.bench;
        let folder = self.bench.folder.path();
        if end == End::Killed {
            program.kill()?;
        } else {
            program.interrupt()?;
        }
        if end == End::Lost {
            std::fs::remove_dir_all(Mill::data(folder, &self.pipeline))?;
        }
        let output = self.pipeline.output();
        let follower = broker.follow(&output)?;
        let (keys, step) = (self.keys, self.keys / AGAIN);
        let shift = self.comings * 7;
        self.comings += 1;
        let mut expected = self.expected;
        broker.fill(INPUT, 0..AGAIN, |i, key, value| {
            let timestamp = record((i * step + shift) % keys, key, value);
            expected.add(key, value, timestamp);
            timestamp
        })?;
        self.expected = expected;
        let mut program = mill.start(folder, &self.pipeline)?;
        let started = program.started();
        follower.next(PATIENCE, || program.check())?;
        let took = started.elapsed().as_secs_f64();
        broker.await_records(&output, expected.records, PATIENCE, || program.check())?;
        Ok((program, took))
    }
}
