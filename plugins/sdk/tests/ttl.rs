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

/// What comes out for each key when the input is cut into batches of these sizes.
fn run(records: &[Piped], ttl: i64, sizes: &[usize], most: usize) -> Vec<(Vec<u8>, String)> {
    let mut options = options(ttl);
    options.limits.batch_records = most;
    let mut harness = Harness::keyed_with::<Count>("{}", options).unwrap();
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
    let told = |e: Emission| {
        let text = format!("{} at {} {}", e.text(), e.timestamp, e.clock);
        (e.key.unwrap(), text)
    };
    let mut out: Vec<_> = harness.output("out").into_iter().map(told).collect();
    // Across keys the order is free.
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
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

proptest! {
    #[test]
    fn where_the_input_was_cut_never_shows(
        steps in prop::collection::vec((0..3_u8, 0..25_i64, 0..60_u8), 1..60),
        ttl in 1..50_i64,
        sizes in prop::collection::vec(1..9_usize, 1..5),
        most in 1..20_usize,
    ) {
        let mut time = -50;
        let records: Vec<Piped> = steps
            .into_iter()
            .map(|(key, after, delay)| {
                time += after;
                Piped::new([b'a' + key], time, [delay])
            })
            .collect();
        let whole = run(&records, ttl, &[1_000], 4_096);
        prop_assert_eq!(&run(&records, ttl, &[1], 4_096), &whole);
        prop_assert_eq!(&run(&records, ttl, &sizes, 4_096), &whole);
        prop_assert_eq!(&run(&records, ttl, &sizes, most), &whole);
    }
}
