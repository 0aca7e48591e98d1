//! Timers on the wall clock. They had run with an event-time clock that had not started wherever a
//! call had no records, as is the rule when the clock makes them due.

use wasmill_sdk::abi::{TimeDomain, WATERMARK_START};
use wasmill_sdk::prelude::*;
use wasmill_sdk::testing::{Emission, Harness, Options, Piped};

/// Sets timers: `wall N`, `event N`, `clear`; tells with each timer where the clocks stand.
struct Alarms;

impl Keyed for Alarms {
    type Config = NoConfig;
    type State = u32;

    fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn process(
        &self,
        record: &Record<'_>,
        count: &mut State<u32>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), Rejection> {
        **count += 1;
        for order in record.text()?.split(", ") {
            match order.split_once(' ') {
                Some(("wall", at)) => ctx.set_processing_timer(0, at.parse().unwrap()),
                Some((_, at)) => ctx.set_timer(0, at.parse().unwrap()),
                None => ctx.clear_processing_timer(0),
            }
        }
        Ok(())
    }

    fn on_timer(&self, timer: &Timer<'_>, count: &mut State<u32>, ctx: &mut Context<'_, '_>) {
        let (what, key) = (timer.domain, timer.key_text());
        let what = if what == TimeDomain::EventTime { "event" } else { "wall" };
        let (time, watermark, now) = (timer.time, timer.watermark, timer.now);
        ctx.emit(format!("{what} {key} {time}, at {watermark}, now {now}, of {}", **count));
        if timer.domain == TimeDomain::ProcessingTime && **count > 1 {
            ctx.set_processing_timer(0, timer.time + 100);
        }
    }
}

fn harness() -> Harness {
    Harness::keyed::<Alarms>("{}").unwrap()
}

/// Text, clock and event time.
fn told(harness: &mut Harness) -> Vec<(String, i64, i64)> {
    let of = |e: &Emission| (e.text(), e.clock, e.timestamp);
    harness.output("out").iter().map(of).collect()
}

#[test]
fn the_clock_alone_runs_a_timer_at_the_watermark_that_holds() {
    let mut h = harness();
    h.pipe("a", 1_000, "wall 50");
    h.advance_watermark(2_000);
    h.advance_clock(49);
    assert_eq!(told(&mut h), []);
    h.advance_clock(60);
    let expected = ("wall a 50, at 2000, now 60, of 1".to_owned(), 2_000, 2_001);
    assert_eq!(told(&mut h), [expected]);
    h.advance_clock(1_000);
    assert_eq!(told(&mut h), []);
    assert_eq!(h.timers("a"), []);
}

#[test]
fn before_the_first_watermark_the_clock_has_not_started() {
    let mut h = harness();
    h.pipe_batch(&[Piped::new("a", 1_000, "wall 50").at_watermark(WATERMARK_START)]);
    h.advance_clock(50);
    assert_eq!(told(&mut h)[0].1, WATERMARK_START);
}

#[test]
fn one_that_is_moved_or_cleared_runs_as_it_was_set_last() {
    let mut h = harness();
    h.pipe("a", 1_000, "wall 50");
    h.pipe("b", 1_000, "wall 50");
    h.pipe("a", 1_001, "wall 70");
    h.pipe("b", 1_001, "clear");
    h.advance_clock(60);
    assert_eq!(told(&mut h), []);
    h.advance_clock(70);
    assert_eq!(told(&mut h)[0].0, "wall a 70, at 1000, now 70, of 2");
    // It has set itself again.
    assert_eq!(h.timers("a"), [(TimeDomain::ProcessingTime, 0, 170)]);
    h.advance_clock(500);
    assert_eq!(told(&mut h)[0].0, "wall a 170, at 1000, now 500, of 2");
}

#[test]
fn one_that_is_due_holds_up_no_event_time_timer_of_the_batch() {
    let mut h = harness();
    h.pipe("a", 1_000, "event 1500");
    h.pipe("b", 1_000, "wall 50");
    // The clock passes the time unnoticed, as between two batches.
    let mut h = {
        let mut h = h.reopen::<Alarms>("{}", &Options::default()).unwrap();
        h.pipe("c", 1_001, "clear");
        h
    };
    h.advance_watermark(1_400);
    h.pipe("b", 1_400, "wall 20, event 1600");
    h.advance_watermark(1_450);
    h.advance_clock(10);
    assert_eq!(told(&mut h), []);
    h.advance_clock(30);
    assert_eq!(told(&mut h)[0], ("wall b 20, at 1450, now 30, of 2".into(), 1_450, 1_451));
    // What it has set itself for is due together with timers of event time, in one call.
    h.pipe("c", 1_460, "wall 30");
    h.advance_watermark(2_000);
    let out = told(&mut h);
    assert_eq!(out[0], ("wall c 30, at 1459, now 30, of 2".into(), 1_459, 1_460));
    assert_eq!(out[1], ("event a 1500, at 1500, now 30, of 1".into(), 1_499, 1_500));
    assert_eq!(out[2], ("event b 1600, at 1600, now 30, of 2".into(), 1_599, 1_600));
    assert_eq!(out.len(), 3);
}

#[test]
fn one_of_a_key_that_has_left_memory_is_found() {
    let mut h = harness();
    h.pipe("a", 1_000, "wall 50");
    h.advance_watermark(2_000);
    let mut h = h.reopen::<Alarms>("{}", &Options::default()).unwrap();
    h.advance_clock(50);
    assert_eq!(told(&mut h), [("wall a 50, at 2000, now 50, of 1".into(), 2_000, 2_001)]);
}
