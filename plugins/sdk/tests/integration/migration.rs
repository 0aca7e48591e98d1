//! A state that an older version of the plugin wrote is migrated when its key is next touched, within
//! the limits of the stage.

use wasmill_sdk::prelude::*;
use wasmill_sdk::testing::{Harness, Options, Piped};

/// Keeps the last value of a key; version 2 reads states of version 1 and repeats what it finds `BY`
/// times.
struct Last<const VERSION: u32, const BY: usize>;

impl<const VERSION: u32, const BY: usize> Keyed for Last<VERSION, BY> {
    type Config = NoConfig;
    type State = String;
    const STATE_VERSION: u32 = VERSION;

    fn describe() -> Description {
        Description {
            reads_state_versions: (1..VERSION).collect(),
            state_version: VERSION,
            ..Description::default()
        }
    }

    fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn process(
        &self,
        record: &Record<'_>,
        last: &mut State<String>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), Rejection> {
        ctx.emit(format!("{} after {}", record.text()?, **last));
        **last = record.text()?.to_owned();
        ctx.set_timer(0, record.timestamp() + 100);
        Ok(())
    }

    fn on_timer(&self, _: &Timer<'_>, last: &mut State<String>, ctx: &mut Context<'_, '_>) {
        ctx.emit(format!("timer after {}", **last));
    }

    fn migrate(from: u32, bytes: &[u8]) -> Result<Option<String>, Failure> {
        let text = std::str::from_utf8(&bytes[1..]).unwrap();
        assert_eq!(usize::from(bytes[0]), text.len(), "version {from} is a length and a text");
        match text {
            "void" => Ok(None),
            _ => Ok(Some(text.repeat(BY))),
        }
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.limits.state_bytes = 20;
    options
}

/// States `short`, `a long text` and `void` of version 1, opened with the version that repeats them.
fn swapped<const BY: usize>() -> Harness {
    let mut harness = Harness::keyed_with::<Last<1, 0>>("{}", options()).unwrap();
    harness.pipe_batch(&[
        Piped::new("a", 1, "short"),
        Piped::new("b", 1, "a long text"),
        Piped::new("c", 1, "void"),
    ]);
    assert_eq!(harness.output("out").len(), 3);
    harness.reopen::<Last<2, BY>>("{}", &options()).unwrap()
}

#[test]
fn a_state_is_migrated_when_its_key_is_touched_and_not_before() {
    let mut harness = swapped::<1>();
    harness.pipe_batch(&[Piped::new("a", 2, "x"), Piped::new("c", 2, "y")]);
    let mut out = harness.texts("out");
    out.sort();
    assert_eq!(out, ["x after short", "y after "]);
    let versions = ["a", "b", "c"].map(|key| harness.state_version(key));
    assert_eq!(versions, [Some(2), Some(1), Some(2)]);
}

#[test]
fn a_migrated_state_over_the_limit_stops_the_task_and_the_old_one_stays() {
    let mut harness = swapped::<2>();
    // Of "short" it makes a state within the limit.
    harness.pipe("a", 2, "x");
    assert_eq!(harness.texts("out"), ["x after shortshort"]);
    harness.checkpoint();
    harness.pipe("b", 2, "x");
    let error = harness.error().unwrap();
    for part in ["stage test", "version 1", "23 bytes", "the limit state = 20"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    // Opened again with more room it goes on: nothing of the state has been lost.
    let mut room = options();
    room.limits.state_bytes = 23;
    let mut harness = harness.reopen::<Last<2, 2>>("{}", &room).unwrap();
    assert_eq!((harness.state_version("a"), harness.state_version("b")), (Some(2), Some(1)));
    assert_eq!(harness.state::<String>("b").unwrap(), "a long text");
    harness.pipe("b", 2, "x");
    assert_eq!(harness.texts("out"), ["x after a long texta long text"]);
}

#[test]
fn the_timer_of_a_key_whose_state_can_not_be_migrated_stops_the_task_as_well() {
    let mut harness = swapped::<2>();
    harness.advance_watermark(101);
    assert!(harness.error().unwrap().contains("the limit state = 20"));
    let mut harness = harness.reopen::<Last<1, 0>>("{}", &options()).unwrap();
    harness.advance_watermark(101);
    let mut out = harness.texts("out");
    out.sort();
    let all = ["timer after a long text", "timer after short", "timer after void"];
    assert_eq!(out, all, "the version that wrote the states has them all");
}

#[test]
fn a_state_of_a_version_that_can_not_be_read_stops_the_task_which_says_what_to_run() {
    let harness = Harness::keyed_with::<Last<2, 1>>("{}", options()).unwrap();
    let mut harness = harness.reopen::<Last<2, 1>>("{}", &options()).unwrap();
    harness.pipe("a", 1, "x");
    let mut harness = harness.reopen::<Last<1, 0>>("{}", &options()).unwrap();
    harness.pipe("a", 2, "y");
    let error = harness.error().unwrap();
    assert!(error.contains("writes state version 1") && error.contains("has version 2"), "{error}");
}
