//! Changelogs that are kept short hold the whole state.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ledger::{self, BEGIN_MS, PARTITIONS, RESIDUES, SPAN_MS};
use crate::support::Record;
use crate::world::World;

/// Accounts whose state is written once, some MB of it, and those that go on being written.
const ACCOUNTS: u64 = 30_000;
const HOT: u64 = 6;
/// How long a changelog gets, instead of 64 MiB.
const LOG_BYTES: &str = "100000";
const PATIENCE: Duration = Duration::from_secs(90);

/// What is kept of numbers.
pub fn fold(numbers: &[u64]) -> Value {
    let step = |hash: u64, n: &u64| (hash.rotate_left(5) ^ n).wrapping_mul(0x517c_c1b7_2722_0a95);
    json!({
        "count": numbers.len(),
        "sum": numbers.iter().sum::<u64>(),
        "last": numbers.last(),
        "hash": numbers.iter().fold(0, step),
    })
}

/// What an account must tell that has had these numbers.
fn audit(account: u64, numbers: &[u64]) -> Value {
    let residues: BTreeMap<u64, u64> = numbers.iter().map(|n| (n % RESIDUES, *n)).collect();
    let mut told = json!({
        "kind": "audit",
        "account": ledger::name(account),
        "audit": 1,
        "residues": residues.into_iter().collect::<Vec<_>>(),
        "open": [[BEGIN_MS / SPAN_MS, fold(numbers)]],
    });
    told.as_object_mut().unwrap().extend(fold(numbers).as_object().unwrap().clone());
    told
}

/// Where the changelogs of the ledger begin and end.
fn offsets(world: &World) -> Vec<(i64, i64)> {
    let admin = world.admin();
    let each = (0..PARTITIONS).map(|p| admin.offsets("ledger-0-changelog", p).unwrap());
    each.map(|offsets| (offsets.start, offsets.end)).collect()
}

#[test]
fn state_that_was_written_long_ago_is_in_a_changelog_whose_beginning_was_dropped() {
    let Some(world) = ledger::world("state_that_was_written") else { return };
    let set = ["--set", "engine.checkpoint-interval=50ms"];
    let old = world.start_with("old", &set, &[("WASMILL_CHANGELOG_BYTES", LOG_BYTES)]);
    let mut producer = ledger::producer(&world);
    let mut numbers: Vec<Vec<u64>> = (0..ACCOUNTS).map(|account| vec![account]).collect();
    let number =
        |account: u64, n: u64| (account, BEGIN_MS + n.cast_signed(), format!(r#""n":{n}"#));
    ledger::send(&mut producer, (0..ACCOUNTS).map(|account| number(account, account)));
    ledger::wait_for(&world, ACCOUNTS);
    let written: Vec<i64> = offsets(&world).into_iter().map(|(_, end)| end).collect();

    let (begun, mut next) = (Instant::now(), ACCOUNTS);
    let forgotten = || offsets(&world).iter().zip(&written).all(|((start, _), end)| start > end);
    while !forgotten() {
        assert!(begun.elapsed() < PATIENCE, "{:?}: {}", offsets(&world), old.said());
        for account in 0..HOT {
            ledger::send(&mut producer, std::iter::once(number(account, next)));
            numbers[account as usize].push(next);
            next += 1;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    ledger::wait_for(&world, next);
    old.end();

    let new = world.start("new", &set);
    let end = BEGIN_MS + next.cast_signed();
    ledger::send(&mut producer, (0..ACCOUNTS).map(|a| (a, end, r#""audit":1"#.to_owned())));
    let records = ledger::wait_for(&world, next + ACCOUNTS);
    new.end();
    let audits: Vec<&Record> = records.iter().filter(|r| r["value"]["kind"] == "audit").collect();
    assert_eq!(audits.len() as u64, ACCOUNTS);
    let account = |key: &str| key.strip_prefix('a').unwrap().parse::<u64>().unwrap();
    for record in audits {
        let account = account(record["key"].as_str().unwrap());
        assert_eq!(record["value"], audit(account, &numbers[account as usize]));
    }
}
