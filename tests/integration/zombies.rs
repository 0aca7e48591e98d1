//! Zombies: an instance stands still in the midst of a commit until its session is over and others have
//! its partitions, and then goes on with that commit.
//!
//! Instants are those of `WASMILL_SUSPEND_AT`, at which the process stops its own clock.

use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::admin::samples;
use crate::ledger::{self, Feed, PARTITIONS};
use crate::support::Record;
use crate::world::{self, World};

/// How long the zombie may take to stand still, or to say what became of its commit.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any of these tests: Kafka keeps the transaction of the zombie open.
const OPEN: &str = "kafka.producer.transaction.timeout.ms=120000";
/// Kafka aborts the transaction soon after the session is over, which takes 1.5 s.
const ABORTED: &str = "kafka.producer.transaction.timeout.ms=4000";

/// What the zombie says when the group refuses its offsets, and when Kafka refuses its producer.
const STALE: &str = "a commit has failed and is done again: the group has moved on without this \
                     worker, nothing is committed";
const FENCED: &str = "a commit has failed and is done again: another producer with the same \
                      transactional id has taken over, or the transaction took longer than";

/// An instance that stands still in its fifth commit, and the one that has its partitions meanwhile.
struct Zombie {
    world: World,
    feed: Feed,
    zombie: world::Instance,
    heir: world::Instance,
    /// The offsets of what it had sent for the commit, in each partition of the output.
    sent: Vec<Range<i64>>,
}

impl Zombie {
    /// Returns when the group has given all partitions to the heir, whose tasks may not be open.
    fn new(test: &str, instant: &str, timeout: &str) -> Option<Self> {
        let world = ledger::world(test)?;
        let set = ["--set", timeout];
        let at = format!("{instant}:5");
        let zombie = world.start_with("zombie", &set, &[("WASMILL_SUSPEND_AT", &at)]);
        let feed = Feed::start(&world, 600);
        let (admin, begun) = (world.admin(), Instant::now());
        let sent = loop {
            let still = stands_still(zombie.id());
            let offsets = (0..PARTITIONS).map(|p| admin.offsets("out", p).unwrap());
            let sent: Vec<_> = offsets.map(|offsets| offsets.stable..offsets.end).collect();
            // With something under way: not another suspension of everything.
            if still && stands_still(zombie.id()) && sent.iter().any(|sent| !sent.is_empty()) {
                break sent;
            }
            let said = || format!("{sent:?}, {}", zombie.said());
            assert!(begun.elapsed() < PATIENCE, "it never came to {instant}: {}", said());
            std::thread::sleep(Duration::from_millis(20));
        };
        let heir = world.start("heir", &set);
        heir.wait("all partitions", |status| figure(status, "units") == 6);
        Some(Self { world, feed, zombie, heir, sent })
    }

    /// Lets it go on, and waits until both have their share and everything came out. Gives how many
    /// records are there of those that it had sent, and what the heir has said.
    fn go_on(self, said: &str) -> (usize, String) {
        self.zombie.signal("CONT");
        let begun = Instant::now();
        while !self.zombie.said().contains(said) {
            let all = self.zombie.said();
            assert!(begun.elapsed() < PATIENCE, "{said:?} was not said: {all}");
            std::thread::sleep(Duration::from_millis(20));
        }
        for instance in [&self.zombie, &self.heir] {
            instance.wait_tasks(3);
        }
        ledger::wait_for_more(&self.world);
        let total = self.feed.end();
        let records = ledger::wait_for(&self.world, total);
        ledger::assert_exact(&records, total);
        let of = |r: &Record| &self.sent[r["partition"].as_u64().unwrap() as usize];
        let sent = records.iter().filter(|r| of(r).contains(&r["offset"].as_i64().unwrap()));
        (sent.count(), self.heir.said())
    }
}

/// Whether a process is stopped by a signal.
fn stands_still(id: u32) -> bool {
    let output = Command::new("ps").args(["-o", "stat=", "-p", &id.to_string()]).output().unwrap();
    output.stdout.starts_with(b"T")
}

/// A figure of the worker; 0 before it has told any.
fn figure(status: &Value, name: &str) -> u64 {
    status["workers"]["0"][name].as_u64().unwrap_or(0)
}

/// A task of the heir is open only when the transaction of the one that had it before is decided: by what
/// it is to read of the changelog, it waits for that. Meanwhile it shows a restore that is not done.
fn assert_undecided(heir: &world::Instance) {
    // Longer than a restore takes before its progress is told.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2_500) {
        let status = heir.try_status().unwrap();
        assert!(figure(&status, "opening") > 0, "the transaction is decided: {}", heir.said());
        std::thread::sleep(Duration::from_millis(100));
    }
    let text = heir.metrics();
    let ratios = samples(&text, "wasmill_restore_ratio");
    let waiting = |(labels, ratio): &&(&str, f64)| {
        labels.contains(r#"topic="ledger-0-changelog""#) && *ratio < 1.0
    };
    assert!(ratios.iter().any(|ratio| waiting(&ratio)), "{text}");
}

/// The heir has told how its restores got on when they did.
fn assert_told(said: &str) {
    let told = said.lines().any(|line| line.contains("restoring state: ") && line.contains('%'));
    assert!(told, "{said}");
}

#[test]
fn a_commit_of_a_zombie_whose_transaction_is_open_is_refused_by_the_group() {
    let Some(it) = Zombie::new("a_zombie_is_refused", "before-offsets", OPEN) else { return };
    assert_undecided(&it.heir);
    let (there, said) = it.go_on(STALE);
    assert_eq!(there, 0, "nothing of the refused commit is there");
    assert_told(&said);
}

#[test]
fn a_commit_of_a_zombie_whose_transaction_kafka_has_aborted_is_fenced() {
    let Some(it) = Zombie::new("a_zombie_is_fenced", "before-end", ABORTED) else { return };
    // The heir does all of it again, and goes on.
    it.heir.wait_tasks(6);
    ledger::wait_for_more(&it.world);
    let (there, _) = it.go_on(FENCED);
    assert_eq!(there, 0, "nothing of the refused commit is there");
}

/// The group had the offsets in time: all that is missing is the end of the transaction, which is as good
/// as any. Whoever has the tasks waits for it, and begins behind it.
#[test]
fn a_zombie_that_has_only_to_end_its_transaction_commits_and_its_heir_begins_behind() {
    let Some(it) = Zombie::new("a_zombie_commits", "before-end", OPEN) else { return };
    assert_undecided(&it.heir);
    let sent: i64 = it.sent.iter().map(|sent| sent.end - sent.start).sum();
    let (there, said) = it.go_on("partitions were given to others meanwhile");
    assert_eq!(there as i64, sent, "all of its commit counts");
    assert_told(&said);
}
