//! Streams as a whole: the same for ever, in the shares that were asked for, readable by `clean`.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, HashMap};

use clean::Clean;
use wasmill_generate::{Config, Event, Generator};
use wasmill_sdk::abi::{RejectionKind, StatelessBatch};
use wasmill_sdk::config::{Setup, parse};
use wasmill_sdk::prelude::Stateless;

fn stream(config: &Config) -> Vec<(Event, Vec<u8>)> {
    let mut generator = Generator::new(config).unwrap();
    let mut line = Vec::new();
    std::iter::from_fn(|| generator.next_into(&mut line).map(|event| (event, line.clone())))
        .collect()
}

fn config(events: u64) -> Config {
    Config { events: Some(events), ..Config::default() }
}

/// FNV-1a, 64 bits, of lines with their line breaks.
fn hash(stream: &[(Event, Vec<u8>)]) -> u64 {
    stream
        .iter()
        .flat_map(|(_, line)| line.iter().chain(b"\n"))
        .fold(0xcbf2_9ce4_8422_2325, |hash, b| {
            (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// The share of events for which something holds.
fn share(stream: &[(Event, Vec<u8>)], holds: impl Fn(&Event) -> bool) -> f64 {
    stream.iter().filter(|(event, _)| holds(event)).count() as f64 / stream.len() as f64
}

#[test]
fn a_seed_gives_the_same_bytes_for_ever() {
    assert_eq!(hash(&stream(&config(10_000))), GOLDEN);
    assert_ne!(hash(&stream(&Config { seed: 2, ..config(10_000) })), GOLDEN);
}

/// Recorded. Whoever changes it breaks every measurement and test that was made with a seed.
const GOLDEN: u64 = 46663332001346421;

#[test]
fn shares_are_as_configured() {
    let stream = stream(&Config {
        malformed_share: 0.1,
        bot_share: 0.3,
        late_share: 0.5,
        ..config(100_000)
    });
    let near = |found: f64, expected: f64| (found - expected).abs() < 0.01;
    assert!(near(share(&stream, |event| event.malformed), 0.1));
    assert!(near(share(&stream, |event| event.bot), 0.3));

    let mut latest = i64::MIN;
    let (mut late, mut max_late) = (0, 0);
    for (event, _) in &stream {
        latest = latest.max(event.timestamp_ms);
        late += usize::from(event.timestamp_ms < latest);
        max_late = max_late.max(latest - event.timestamp_ms);
    }
    // Some of the events that are held back are so for less than a second.
    assert!((0.47..0.5).contains(&(late as f64 / stream.len() as f64)), "{late} late");
    assert!((58_000..=60_000).contains(&max_late), "{max_late} ms");
}

#[test]
fn nothing_is_later_than_allowed() {
    for out_of_orderness_ms in [0, 500, 1_000, 1_500, 7_250] {
        let stream = stream(&Config { out_of_orderness_ms, late_share: 1.0, ..config(20_000) });
        let mut latest = i64::MIN;
        for (event, _) in &stream {
            assert!(latest.saturating_sub(event.timestamp_ms) <= out_of_orderness_ms);
            latest = latest.max(event.timestamp_ms);
        }
    }
}

#[test]
fn clean_reads_every_line_that_is_not_malformed() {
    for (seed, line_bytes) in [(1, 200), (2, 160), (3, 1_000)] {
        let config = Config {
            seed,
            malformed_share: 0.05,
            bot_share: 0.1,
            line_bytes,
            pages: 1_000,
            ..config(20_000)
        };
        let stream = stream(&config);
        let batch = StatelessBatch {
            timestamps: vec![0; stream.len()],
            watermarks: vec![i64::MIN; stream.len()],
            now: i64::MAX,
            keys: stream.iter().map(|_| None::<&[u8]>).collect(),
            values: stream.iter().map(|(_, line)| &line[..]).collect(),
            ..StatelessBatch::default()
        };
        let clean = Clean::new(parse("").unwrap(), &Setup::default()).unwrap();
        let reply = wasmill_sdk::stateless::run(&clean, &batch).unwrap();

        let rows = |malformed| {
            let rows = stream.iter().enumerate();
            rows.filter(move |(_, (event, _))| event.malformed == malformed)
                .map(|(row, _)| row as u32)
        };
        assert!(reply.rows.iter().copied().eq(rows(false)));
        assert!(reply.rejections.rows.iter().copied().eq(rows(true)));
        assert!(reply.rejections.kinds.iter().all(|kind| *kind == RejectionKind::Malformed));

        let keys = reply.keys.unwrap();
        let mut key = Vec::new();
        for (i, row) in reply.rows.iter().enumerate() {
            let (event, line) = &stream[*row as usize];
            event.key_into(&mut key);
            assert_eq!(keys.bytes(i), key, "{}", String::from_utf8_lossy(line));
            assert_eq!(key, event.user.to_string().into_bytes());
            assert_eq!(reply.timestamps[i], event.timestamp_ms);
            assert_eq!(reply.outputs[i] == 1, event.bot, "{}", String::from_utf8_lossy(line));
        }
    }
}

#[test]
fn lines_have_the_mean_length_that_is_asked_for() {
    for line_bytes in [160, 200, 300, 2_000] {
        let stream = stream(&Config { line_bytes, malformed_share: 0.0, ..config(20_000) });
        let mean = stream.iter().map(|(_, line)| line.len()).sum::<usize>() as f64 / 20_000.0;
        assert!((mean - line_bytes as f64).abs() < 2.0, "{mean} bytes instead of {line_bytes}");
    }
}

#[test]
fn events_come_at_the_rate() {
    let config = Config { rate: 40.0, late_share: 0.0, ..config(4_000) };
    let stream = stream(&config);
    let (first, last) = (stream[0].0.timestamp_ms, stream[3_999].0.timestamp_ms);
    assert_eq!(first, config.start_ms);
    assert_eq!(last, config.start_ms + 99_000);
}

#[test]
fn users_come_for_a_while_and_come_back() {
    let config =
        Config { users: 50, rate: 5.0, bot_share: 0.0, late_share: 0.0, ..config(200_000) };
    let mut last = HashMap::new();
    let mut pauses = 0;
    for (event, _) in stream(&config) {
        if let Some(last) = last.insert(event.user, event.timestamp_ms) {
            pauses += usize::from(event.timestamp_ms - last > 30 * 60_000);
        }
    }
    assert_eq!(last.len(), 50);
    // 11 hours, a visit every 80 to 170 minutes.
    assert!((50 * 3..50 * 9).contains(&pauses), "{pauses} pauses");
}

#[test]
fn a_line_does_not_depend_on_those_before_it_being_kept() {
    let all = stream(&config(100));
    let mut generator = Generator::new(&config(100)).unwrap();
    let mut line = b"something else".to_vec();
    for _ in 0..50 {
        generator.next_into(&mut line);
    }
    assert_eq!(generator.position(), 50);
    let event = generator.clone().next_into(&mut line).unwrap();
    assert_eq!((event, line), all[50].clone());
}

#[test]
fn a_million_users_are_a_million() {
    let config = Config { rate: 100_000.0, ..config(200_000) };
    let users: BTreeSet<_> = stream(&config).iter().map(|(event, _)| event.user).collect();
    assert!(users.len() > 130_000, "{} users in 200,000 events", users.len());
}
