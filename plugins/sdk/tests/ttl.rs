//! State expires by event time: dated by records and by the timers that made it, wherever the input
//! was cut.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use wasmill_sdk::prelude::*;
use wasmill_sdk::testing::{Emission, Harness, Options, Piped};

/// Counts the records and timers of a key in state and map state. Each record sets a timer, and each
/// timer another one up to a bound, so that timers find state that has expired and make it anew.
struct Count;

#[derive(Default, Serialize, Deserialize)]
struct Counts {
    records: u32,
    timers: u32,
}

impl Count {
    fn tell(what: &str, counts: &Counts, ctx: &mut Context<'_, '_>) {
        let mut entries = 0;
        ctx.map(0).for_each(None, None, |_, _| entries += 1);
        ctx.emit(format!("{what}: {} {} {entries}", counts.records, counts.timers));
    }
}

impl Keyed for Count {
    type Config = NoConfig;
    type State = Counts;

    fn describe() -> Description {
        Description { maps: vec!["m".into()], ..Description::default() }
    }

    fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn process(
        &self,
        record: &Record<'_>,
        counts: &mut State<Counts>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), Rejection> {
        let delay = i64::from(record.bytes()?[0]);
        counts.records += 1;
        ctx.map(0).put(&record.timestamp().to_be_bytes(), b"r");
        ctx.set_timer(0, record.timestamp() + delay);
        Self::tell(&format!("record {}", record.timestamp()), counts, ctx);
        Ok(())
    }

    fn on_timer(&self, timer: &Timer<'_>, counts: &mut State<Counts>, ctx: &mut Context<'_, '_>) {
        // Half of them make only map state.
        if timer.time % 2 == 0 {
            counts.timers += 1;
        }
        ctx.map(0).put(&timer.time.to_be_bytes(), b"t");
        if timer.tag < 4 {
            ctx.set_timer(timer.tag + 1, timer.time + 7 + 5 * timer.tag as i64);
        }
        Self::tell(&format!("timer {}", timer.time), counts, ctx);
    }
}

fn options(ttl: i64) -> Options {
    Options { state_ttl_ms: Some(ttl), ..Options::default() }
}

/// Feeds records in batches of these sizes, and ends the input.
fn feed(harness: &mut Harness, records: &[Piped], sizes: &[usize]) {
    let mut rest = records;
    for size in sizes.iter().cycle() {
        let (batch, after) = rest.split_at((*size).min(rest.len()));
        rest = after;
        if batch.is_empty() {
            break;
        }
        harness.pipe_batch(batch);
    }
    harness.end();
}

/// What has come out for each key.
fn by_key(harness: &mut Harness) -> Vec<(Vec<u8>, String)> {
    let told = |e: Emission| {
        let text = format!("{} at {} {}", e.text(), e.timestamp, e.clock);
        (e.key.unwrap(), text)
    };
    let mut out: Vec<_> = harness.output("out").into_iter().map(told).collect();
    // Across keys the order is free.
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

/// What comes out for each key when the input is cut into batches of these sizes.
fn run(records: &[Piped], ttl: i64, sizes: &[usize], most: usize) -> Vec<(Vec<u8>, String)> {
    let mut options = options(ttl);
    options.limits.batch_records = most;
    let mut harness = Harness::keyed_with::<Count>("{}", options).unwrap();
    feed(&mut harness, records, sizes);
    by_key(&mut harness)
}

/// Feeds the first part of the input under one time to live, the second under another.
fn in_two_runs(first: &[Piped], then: &[Piped], ttls: [i64; 2], sizes: &[usize]) -> Harness {
    let mut harness = Harness::keyed_with::<Count>("{}", options(ttls[0])).unwrap();
    harness.pipe_batch(first);
    let mut harness = harness.reopen::<Count>("{}", &options(ttls[1])).unwrap();
    feed(&mut harness, then, sizes);
    harness
}

/// Records of a few keys, by key, time after the one before, and delay of the timer.
fn records(steps: Vec<(u8, i64, u8)>) -> Vec<Piped> {
    let mut time = -50;
    let record = |(key, after, delay)| {
        time += after;
        Piped::new([b'a' + key], time, [delay])
    };
    steps.into_iter().map(record).collect()
}

#[test]
fn state_that_a_timer_made_expires_as_well() {
    let mut harness = Harness::keyed_with::<Count>("{}", options(30)).unwrap();
    harness.pipe("a", 100, [40]);
    // Expires at 130; the timer of 140 makes state anew, which is dated by it and expires at 170.
    harness.pipe("b", 142, [1]);
    assert!(harness.texts("out").contains(&"timer 140: 0 1 1".into()));
    assert!(harness.state::<Counts>("a").is_some());
    harness.pipe("b", 172, [200]);
    assert!(harness.state::<Counts>("a").is_none());
}

#[test]
fn event_times_around_the_epoch_are_times_like_any_other() {
    for start in [-31, -30, -1, 0, 1] {
        let mut harness = Harness::keyed_with::<Count>("{}", options(30)).unwrap();
        harness.pipe("a", start, [250]);
        harness.pipe("b", start + 30, [250]);
        assert!(harness.state::<Counts>("a").is_some(), "from {start}");
        harness.pipe("b", start + 32, [250]);
        assert!(harness.state::<Counts>("a").is_none(), "from {start}");
    }
}

/// State of `a` at 100, of `b` at 140 and of `c` at 160, under a time to live of `ttl`; none of it
/// is in memory any more when the harness goes on with `then`.
fn reopened(ttl: i64, then: i64) -> Harness {
    let mut harness = Harness::keyed_with::<Count>("{}", options(ttl)).unwrap();
    for (key, time) in [("a", 100), ("b", 140), ("c", 160)] {
        // Their timers are far away.
        harness.pipe(key, time, [250]);
    }
    assert_eq!(harness.keys_kept(), ["a", "b", "c"]);
    harness.output("out");
    harness.reopen::<Count>("{}", &options(then)).unwrap()
}

/// The keys that have state.
fn alive(harness: &mut Harness) -> Vec<&'static str> {
    let alive = |key: &&str| harness.state::<Counts>(key).is_some();
    let keys: Vec<_> = ["a", "b", "c"].into_iter().filter(alive).collect();
    // Map state goes with the value state.
    let of = |key: &&str| !harness.entries(key, 0).is_empty();
    let with_entries: Vec<_> = ["a", "b", "c"].into_iter().filter(of).collect();
    assert_eq!(keys, with_entries);
    keys
}

#[test]
fn a_time_to_live_that_was_shortened_holds_for_the_state_that_is_there() {
    // The watermark is 159: what was touched by 129 is too old at once, what is younger is not.
    let mut harness = reopened(1_000, 30);
    assert_eq!(alive(&mut harness), ["a", "b", "c"], "nothing happens before a fact");
    harness.advance_watermark(160);
    assert_eq!(alive(&mut harness), ["b", "c"]);
    harness.advance_watermark(169);
    assert_eq!(alive(&mut harness), ["b", "c"]);
    harness.advance_watermark(170);
    assert_eq!(alive(&mut harness), ["c"]);
    harness.advance_watermark(189);
    assert_eq!(alive(&mut harness), ["c"]);
    harness.advance_watermark(190);
    assert_eq!(alive(&mut harness), [] as [&str; 0]);
    // Timers are no state: they stay.
    assert_eq!(harness.keys(), ["a", "b", "c"]);
}

#[test]
fn a_record_finds_no_state_that_a_shortened_time_to_live_has_ended() {
    for cut in [1, 3] {
        let mut harness = reopened(1_000, 30);
        let records = ["a", "b", "c"].map(|key| Piped::new(key, 165, [200]));
        records.chunks(cut).for_each(|batch| harness.pipe_batch(batch));
        let mut out = harness.texts("out");
        out.sort();
        // `a` begins anew, with one entry; the others have two.
        let (anew, on) = ("record 165: 1 0 1", "record 165: 2 0 2");
        assert_eq!(out, [anew, on, on], "in batches of {cut}");
    }
}

#[test]
fn a_time_to_live_that_was_lengthened_holds_for_the_state_that_is_there() {
    let mut harness = reopened(70, 100);
    for (watermark, left) in [
        (171, &["a", "b", "c"][..]),
        (199, &["a", "b", "c"]),
        (200, &["b", "c"]),
        (239, &["b", "c"]),
        (240, &["c"]),
        (259, &["c"]),
        (260, &[]),
    ] {
        harness.advance_watermark(watermark);
        assert_eq!(alive(&mut harness), left, "at {watermark}");
    }
}

#[test]
fn state_from_before_there_was_a_time_to_live_is_dated_by_the_next_record() {
    let mut harness = Harness::keyed::<Count>("{}").unwrap();
    harness.pipe("a", 100, [250]);
    harness.pipe("b", 100, [250]);
    let mut harness = harness.reopen::<Count>("{}", &options(30)).unwrap();
    harness.pipe("a", 200, [250]);
    assert!(harness.texts("out").contains(&"record 200: 2 0 2".into()));
    harness.advance_watermark(229);
    assert!(harness.state::<Counts>("a").is_some());
    harness.advance_watermark(230);
    assert!(harness.state::<Counts>("a").is_none());
    assert!(harness.state::<Counts>("b").is_some(), "nobody knows how old it is");
}

proptest! {
    #[test]
    fn where_the_input_was_cut_never_shows(
        steps in prop::collection::vec((0..3_u8, 0..25_i64, 0..60_u8), 1..60),
        ttl in 1..50_i64,
        sizes in prop::collection::vec(1..9_usize, 1..5),
        most in 1..20_usize,
    ) {
        let records = records(steps);
        let whole = run(&records, ttl, &[1_000], 4_096);
        prop_assert_eq!(&run(&records, ttl, &[1], 4_096), &whole);
        prop_assert_eq!(&run(&records, ttl, &sizes, 4_096), &whole);
        prop_assert_eq!(&run(&records, ttl, &sizes, most), &whole);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_task_that_is_opened_again_goes_on_as_if_it_had_never_ended(
        steps in prop::collection::vec((0..3_u8, 0..25_i64, 0..60_u8), 2..60),
        at in any::<prop::sample::Index>(),
        ttl in 1..50_i64,
        sizes in prop::collection::vec(1..9_usize, 1..5),
    ) {
        let records = records(steps);
        let (before, after) = records.split_at(at.index(records.len()));
        let mut open = Harness::keyed_with::<Count>("{}", options(ttl)).unwrap();
        open.pipe_batch(before);
        feed(&mut open, after, &sizes);
        prop_assert_eq!(by_key(&mut in_two_runs(before, after, [ttl; 2], &sizes)), by_key(&mut open));
    }

    #[test]
    fn where_the_input_was_cut_never_shows_under_another_time_to_live(
        steps in prop::collection::vec((0..3_u8, 0..25_i64, 0..60_u8), 2..60),
        at in any::<prop::sample::Index>(),
        ttls in (1..90_i64, 1..90_i64),
        sizes in prop::collection::vec(1..9_usize, 1..5),
    ) {
        let records = records(steps);
        let (before, after) = records.split_at(at.index(records.len()));
        let run = |sizes| by_key(&mut in_two_runs(before, after, ttls.into(), sizes));
        let whole = run(&[1_000]);
        prop_assert_eq!(&run(&[1]), &whole);
        prop_assert_eq!(&run(&sizes), &whole);
    }
}
