//! The harness gives a plugin all that the ABI can: tombstones, records without key, headers,
//! origins, clocks that records carry; and what was kept goes on where it was left.

use wasmill_sdk::abi::{RejectionKind, WATERMARK_END, WATERMARK_START};
use wasmill_sdk::prelude::*;
use wasmill_sdk::testing::{Harness, Options, Piped};

/// Tells all it is given of a record.
struct Witness;

fn tell(record: &Record<'_>) -> String {
    let text = |bytes: Option<&[u8]>| {
        bytes.map_or("null".into(), |b| String::from_utf8_lossy(b).into_owned())
    };
    let headers: Vec<_> = record.headers().map(|(n, v)| text(Some(n)) + "=" + &text(v)).collect();
    let origin = record.origin().unwrap();
    format!(
        "{} {} [{}] {}/{}/{} in {}",
        text(record.key()),
        text(record.value()),
        headers.join(" "),
        origin.topic,
        origin.partition,
        origin.offset,
        record.input(),
    )
}

fn description() -> Description {
    let input = |name: &str| InputPort { name: name.into(), ..InputPort::default() };
    Description {
        ports: Ports { inputs: vec![input("a"), input("b")], ..Ports::default() },
        wants_headers: true,
        wants_origins: true,
        maps: vec!["m".into()],
        ..Description::default()
    }
}

impl Stateless for Witness {
    type Config = NoConfig;

    fn describe() -> Description {
        Description { maps: Vec::new(), ..description() }
    }

    fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn process(&self, record: &Record<'_>, out: &mut Emitter<'_>) -> Result<(), Rejection> {
        if record.value() == Some(b"bad") {
            return Err(Rejection::invalid("bad"));
        }
        out.emit(tell(record));
        Ok(())
    }
}

/// Tells the clock of every record and timer, and keeps the records in state and map state.
struct Clock;

impl Keyed for Clock {
    type Config = NoConfig;
    type State = u32;

    fn describe() -> Description {
        description()
    }

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
        ctx.map(0).put(&count.to_be_bytes(), record.value().unwrap_or(b"gone"));
        ctx.set_timer(0, record.timestamp() + 10);
        ctx.emit(format!("{} at {}", record.timestamp(), record.watermark()));
        Ok(())
    }

    fn on_timer(&self, timer: &Timer<'_>, count: &mut State<u32>, ctx: &mut Context<'_, '_>) {
        ctx.emit(format!("timer {} of {}", timer.time, **count));
        if **count > 1 {
            count.clear();
            ctx.map(0).remove_range(None, None);
        }
    }
}

#[test]
fn tombstones_missing_keys_headers_and_origins_reach_the_plugin() {
    let origins = vec![("web".into(), 3)];
    let options = Options { origins, ..Options::default() };
    let mut harness = Harness::stateless_with::<Witness>("{}", options).unwrap();
    harness.pipe_batch(&[
        Piped::tombstone("k", 1).with_header("h", "1").with_header("h", "2"),
        Piped::keyless(2, "v").at_offset(41),
        Piped::new("k", 3, "v"),
        Piped { headers: vec![("n".into(), None)], ..Piped::new("k", 4, "v").into_input(1) },
        Piped::new("k", 5, "bad").with_header("h", "3").at_offset(7),
    ]);
    let expected = [
        "k null [h=1 h=2] web/3/0 in 0",
        "null v [] web/3/41 in 0",
        "k v [] web/3/42 in 0",
        "k v [n=null] test/0/43 in 1",
    ];
    let out = harness.output("out");
    assert_eq!(out.iter().map(|e| e.text()).collect::<Vec<_>>(), expected);
    assert_eq!((out[0].header("h"), &out[1].key), (Some("2".into()), &None));
    let rejected = &harness.rejected()[0];
    assert_eq!(
        (rejected.kind, rejected.record.header("h")),
        (RejectionKind::Invalid, Some("3".into()))
    );
    assert_eq!(rejected.record.header("wasmill.origin.offset"), Some("7".into()));
    assert_eq!(rejected.record.header("wasmill.origin.topic"), Some("web".into()));
}

#[test]
fn a_record_without_a_key_reaches_no_keyed_plugin() {
    let mut harness = Harness::keyed::<Clock>("{}").unwrap();
    harness.pipe_batch(&[Piped::keyless(1, "v"), Piped::new("", 1, "v")]);
    assert_eq!(harness.output("out").len(), 1);
    let rejected = harness.rejected();
    assert_eq!((rejected.len(), rejected[0].kind), (1, RejectionKind::Malformed));
    assert_eq!(rejected[0].record.key, None);
}

#[test]
fn records_carry_their_own_clock_which_their_event_times_do_not_move() {
    let at = |time, watermark| Piped::new("k", time, "v").at_watermark(watermark);
    let records = [at(50, WATERMARK_START), at(60, 20), at(5, 20), at(90, 40)];
    let mut harness = Harness::keyed::<Clock>("{}").unwrap();
    harness.pipe_batch(&records);
    let expected =
        [&format!("50 at {WATERMARK_START}"), "60 at 20", "5 at 20", "timer 15 of 3", "90 at 40"];
    assert_eq!(harness.texts("out"), expected);
    // A clock never goes back, and one that is not carried goes on from there.
    harness.pipe_batch(&[at(95, 30), Piped::new("k", 99, "v"), Piped::new("k", 99, "v")]);
    assert_eq!(harness.texts("out"), ["95 at 40", "99 at 40", "99 at 98"]);
    harness.pipe_batch(&[at(0, WATERMARK_END)]);
    assert_eq!(harness.texts("out")[0], "timer 109 of 4");
}

#[test]
fn the_bound_of_disorder_outlives_a_watermark_that_is_told() {
    let options = Options { out_of_orderness_ms: 10, ..Options::default() };
    let mut harness = Harness::keyed_with::<Clock>("{}", options).unwrap();
    harness.advance_watermark(100);
    harness.pipe_batch(&[Piped::new("k", 200, "v"), Piped::new("k", 200, "v")]);
    assert_eq!(harness.texts("out"), ["200 at 100", "200 at 189"]);
}

#[test]
fn what_comes_out_goes_on_to_the_next_stage_with_its_clock() {
    let mut first = Harness::keyed::<Clock>("{}").unwrap();
    first.pipe_batch(&[Piped::new("k", 1, "v").with_header("h", "1"), Piped::new("k", 100, "v")]);
    let onward: Vec<_> = first.output("out").iter().map(|e| e.onward()).collect();
    let clocks: Vec<_> = onward.iter().map(|p| p.watermark.unwrap()).collect();
    assert_eq!(clocks, [WATERMARK_START, 0]);
    assert_eq!(onward[0].headers, [("h".to_owned(), Some(b"1".to_vec()))]);
    first.advance_watermark(110);
    let timer = first.output("out").remove(0);
    assert_eq!((timer.text(), timer.clock), ("timer 110 of 2".into(), 109));
}

#[test]
fn what_is_kept_can_be_looked_at_in_memory_and_in_the_store() {
    let mut harness = Harness::keyed::<Clock>("{}").unwrap();
    harness.pipe_batch(&[
        Piped::new("a", 1, "x"),
        Piped::tombstone("a", 1),
        Piped::new("b", 1, "y"),
    ]);
    let one = |n: u32, value: &[u8]| (n.to_be_bytes().to_vec(), value.to_vec());
    assert_eq!(harness.entries("a", 0), [one(1, b"x"), one(2, b"gone")]);
    let mut harness = harness.reopen::<Clock>("{}", &Options::default()).unwrap();
    // Nothing of it is in memory now.
    assert_eq!(harness.keys(), ["a", "b"]);
    assert_eq!((harness.state::<u32>("a"), harness.state_version("a")), (Some(2), Some(1)));
    assert_eq!(harness.timers("b")[0].2, 11);
    harness.pipe("b", 20, "z");
    assert_eq!((harness.state::<u32>("a"), harness.state::<u32>("b")), (None, Some(2)));
    assert_eq!(harness.keys(), ["b"]);
    assert_eq!(harness.keys_kept(), ["b"]);
    assert_eq!(harness.entries("b", 0), [one(1, b"y"), one(2, b"z")]);
    harness.end();
    assert_eq!(harness.keys_kept(), [] as [&str; 0]);
}

#[test]
fn what_a_plugin_asks_of_the_host_is_counted() {
    let mut harness = Harness::keyed::<Clock>("{}").unwrap();
    let records: Vec<_> = (0..100).map(|i| Piped::new("k", i, "v")).collect();
    harness.pipe_batch(&records[..20]);
    // Moved within the batch: the host hears of the last place alone.
    assert_eq!(harness.usage().timers_set, 1);
    assert_eq!(harness.usage().map_reads, 0);
}
