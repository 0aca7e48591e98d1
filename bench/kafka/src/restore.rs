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
/// What share of the time of a start is noise: a restore that takes less counts as this.
const NOISE: f64 = 0.25;
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
        for (end, times) in
            [(End::Asked, &mut intact), (End::Lost, &mut lost), (End::Killed, &mut killed)]
        {
            let (next, time) = run.come_back(program, end)?;
            program = next;
            times.push(time);
        }
    }
    // As a static member: the group knows the instance that comes back by its name.
    run.pipeline.kafka.push_str("[kafka.consumer]\n\"group.instance.id\" = \"bench\"\n");
    let (mut program, _) = run.come_back(program, End::Asked)?;
    let mut known = vec![];
    for _ in 0..rounds {
        let (next, time) = run.come_back(program, End::Killed)?;
        program = next;
        known.push(time);
    }
    program.interrupt()?;
    let found = broker.content(&output)?;
    let expected = run.expected;
    anyhow::ensure!(found == expected, "restore: found {found:?}, expected {expected:?}");
    let name = |what: &str| format!("restore-{}k-keys-{what}", keys / 1_000);
    let first = |times: &[Time]| median(times.iter().map(|time| time.first).collect());
    let last = |times: &[Time]| median(times.iter().map(|time| time.last).collect());
    print(&name("until-first-output"), 1e3 * first(&lost), "ms", Goal::None);
    // The start of the process, the group and the records are not the restore. All partitions have
    // been restored when the last output is there.
    let (with, without) = (last(&lost), last(&intact));
    print(&name("until-last-output"), 1e3 * with, "ms", Goal::None);
    let (seconds, told) = restoring(with, without);
    if !told {
        eprintln!(
            "restore: the last output is there after {without:.2} s without it and {with:.2} s with it: \
             the rate is at least what is printed"
        );
    }
    let rate = keys as f64 / seconds;
    print(&name("rate"), rate, "keys/s", Goal::Least(700_000.0));
    let within = Goal::Most(1_000.0);
    print("restart-until-first-output", 1e3 * first(&intact), "ms", within);
    print(
        "restart-after-kill-of-static-member-until-first-output",
        1e3 * first(&known),
        "ms",
        within,
    );
    // Nobody but the session timeout tells the group that a dynamic member is gone.
    print("restart-after-kill-until-first-output", 1e3 * first(&killed), "ms", Goal::None);
    broker.remove(&[INPUT])
}

/// How long a restore takes, in seconds, by starts with it and without it; and whether these tell: what is
/// within the noise takes no longer than that.
fn restoring(with: f64, without: f64) -> (f64, bool) {
    let (took, noise) = (with - without, NOISE * without);
    if took > noise { (took, true) } else { (noise, false) }
}

/// Record number `i`: the value of a key is always the same.
fn record(i: u64, key: &mut Vec<u8>, value: &mut Vec<u8>) -> i64 {
    key.extend_from_slice(format!("key-{i:09}").as_bytes());
    value.extend_from_slice(format!("{i:0100}").as_bytes());
    1_700_000_000_000 + i.cast_signed()
}

/// How long it took to be back, in seconds since the start of the process.
#[derive(Clone, Copy)]
struct Time {
    /// Until the first output.
    first: f64,
    /// Until the last output, so that every partition was back.
    last: f64,
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
    /// Ends the program and starts it again.
    fn come_back(&mut self, program: Program, end: End) -> anyhow::Result<(Program, Time)> {
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
        let mut next = || follower.next(PATIENCE, || program.check());
        next()?;
        let first = started.elapsed().as_secs_f64();
        for _ in 1..AGAIN {
            next()?;
        }
        let last = started.elapsed().as_secs_f64();
        broker.await_records(&output, expected.records, PATIENCE, || program.check())?;
        Ok((program, Time { first, last }))
    }
}

#[cfg(test)]
mod tests {
    use super::restoring;

    #[test]
    fn a_restore_takes_what_a_start_takes_longer_and_at_least_the_noise() {
        assert_eq!(restoring(3.0, 1.0), (2.0, true));
        for with in [1.125, 1.0, 0.5] {
            assert_eq!(restoring(with, 1.0), (0.25, false), "{with}");
        }
    }
}
