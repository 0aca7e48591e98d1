//! Where batches are cut never shows: not in what comes out for a key, and not in what is rejected.
//!
//! Sessions and windows in the sequences of peers' tests are cut in all ways by the tests of
//! `sessionize` and `aggregate`; here are the chains of them, as components and in the engine, and
//! the host's own part: time to live, largest age, limits of a call.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use wasmill::runtime::{Runtime, Settings};
use wasmill_sdk::prelude::*;
use wasmill_sdk::testing::{Emission, Harness, Options, Piped};

use crate::support::{self, by_key, clickstream};

/// Cuts records into batches of these sizes, over and over.
fn batches<'a, T>(records: &'a [T], sizes: &'a [usize]) -> impl Iterator<Item = &'a [T]> {
    let mut rest = records;
    sizes.iter().cycle().map_while(move |size| {
        let (batch, after) = rest.split_at((*size).min(rest.len()));
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

/// Remembers all it sees of a key in state, map state and timers, and tells it with every record.
struct Witness {
    delay: i64,
}

#[derive(Deserialize)]
struct WitnessConfig {
    delay: i64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Seen {
    records: u64,
    timers: u64,
}

impl Witness {
    fn tell(&self, what: &str, existed: bool, seen: &Seen, ctx: &mut Context<'_, '_>) {
        let mut entries = Vec::new();
        ctx.map(0).for_each(None, None, |key, value| {
            entries.push(format!("{}{}", String::from_utf8_lossy(key), value[0]));
        });
        let entries = entries.join(" ");
        ctx.emit(format!(
            "{what}, state {existed} {} {}, map {entries}",
            seen.records, seen.timers
        ));
    }
}

impl Keyed for Witness {
    type Config = WitnessConfig;
    type State = Seen;

    fn describe() -> Description {
        Description { maps: vec!["m".into()], ..Description::default() }
    }

    fn new(config: WitnessConfig, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self { delay: config.delay })
    }

    fn process(
        &self,
        record: &Record<'_>,
        seen: &mut State<Seen>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), Rejection> {
        let (time, watermark) = (record.timestamp(), record.watermark());
        let tag = record.bytes()?[0];
        if time + 10 <= watermark {
            return Err(Rejection::late(format!("{time} at {watermark}")));
        }
        let existed = seen.exists();
        seen.records += 1;
        if tag == 0 {
            seen.clear();
        } else {
            ctx.map(0).put(&[b'a' + tag], &[tag]);
            ctx.set_timer(u64::from(tag % 4), time + self.delay + i64::from(tag));
        }
        if tag == 9 {
            ctx.clear_timer(2);
            ctx.map(0).remove_range(Some(b"b"), Some(b"e"));
        }
        self.tell(&format!("record {tag} of {time}"), existed, seen, ctx);
        Ok(())
    }

    fn on_timer(&self, timer: &Timer<'_>, seen: &mut State<Seen>, ctx: &mut Context<'_, '_>) {
        let existed = seen.exists();
        self.tell(&format!("timer {} of {}", timer.tag, timer.time), existed, seen, ctx);
        if existed {
            seen.timers += 1;
        }
        // A chain of timers, so that one falls due in the batch that set it.
        if timer.tag == 1 {
            ctx.set_timer(7, timer.time + 6);
        }
    }
}

#[derive(Debug, Clone)]
struct Case {
    records: Vec<Piped>,
    delay: i64,
    out_of_orderness: i64,
    ttl: Option<i64>,
    max_age: Option<i64>,
}

impl Case {
    /// Everything that comes out and is rejected, by key.
    fn run(&self, sizes: &[usize], batch_records: usize) -> BTreeMap<Vec<u8>, Vec<String>> {
        let mut options = Options {
            out_of_orderness_ms: self.out_of_orderness,
            state_ttl_ms: self.ttl,
            max_age_ms: self.max_age,
            ..Options::default()
        };
        options.limits.batch_records = batch_records;
        let config = format!(r#"{{"delay":{}}}"#, self.delay);
        let mut harness = Harness::keyed_with::<Witness>(&config, options).unwrap();
        for batch in batches(&self.records, sizes) {
            harness.pipe_batch(batch);
        }
        harness.end();
        let mut keys: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
        for emission in harness.output("out") {
            let told = format!("{} {} {}", emission.text(), emission.timestamp, emission.clock);
            keys.entry(emission.key.unwrap()).or_default().push(told);
        }
        for rejected in harness.rejected() {
            let told = format!("{rejected:?}");
            let kind = rejected.kind.name().as_bytes();
            let key = [kind, b" ", rejected.record.key.as_deref().unwrap()].concat();
            keys.entry(key).or_default().push(told);
        }
        keys
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let back = prop_oneof![4 => Just(0_i64), 2 => 0..6_i64, 1 => 0..30_i64];
    let step = prop_oneof![8 => 0..5_i64, 1 => 0..60_i64];
    let record = (0..4_usize, step, back, 0..10_u8);
    let (ttl, max_age) = (prop::option::of(1..40_i64), prop::option::of(0..12_i64));
    (prop::collection::vec(record, 1..80), 0..50_i64, 0..8_i64, ttl, max_age).prop_map(
        |(records, delay, out_of_orderness, ttl, max_age)| {
            let mut now = 1_000;
            let records = records.into_iter().map(|(key, step, back, tag)| {
                now += step;
                Piped::new(["a", "b", "c", "d"][key], now - back, [tag])
            });
            Case { records: records.collect(), delay, out_of_orderness, ttl, max_age }
        },
    )
}

/// The plugins, native or as components.
enum Plugins {
    Native,
    Components(Arc<Runtime>),
}

/// Sessions, the most engaged users and page counts, made by harnesses one behind the other.
struct Chain {
    clean: Harness,
    sessionize: Harness,
    pages: Harness,
    users: Harness,
}

const SESSIONIZE: &str = r#"{"gap":"8s","max-events":5,"max-duration":"40s"}"#;
const PAGES: &str = r#"{"measure":"pages","window":{"size":"20s","hop":"5s"},"lateness":"1s"}"#;
const USERS: &str = r#"{"measure":"users","window":{"size":"30s"}}"#;

impl Chain {
    fn new(plugins: &Plugins, options: &Options) -> Self {
        let component = |runtime: &Arc<Runtime>, name: &str, config: &str| {
            let component = runtime.load(&support::plugin(name), false).unwrap();
            let settings = Settings { config: config.into(), ..Settings::default() };
            let (operator, ports) = runtime.operator(&component, &settings).unwrap();
            Harness::of(operator, ports, options)
        };
        let native = || options.clone();
        match plugins {
            Plugins::Native => Self {
                clean: Harness::stateless_with::<clean::Clean>("{}", native()).unwrap(),
                sessionize: Harness::keyed_with::<sessionize::Sessionize>(SESSIONIZE, native())
                    .unwrap(),
                pages: Harness::keyed_with::<aggregate::Aggregate>(PAGES, native()).unwrap(),
                users: Harness::keyed_with::<aggregate::Aggregate>(USERS, native()).unwrap(),
            },
            Plugins::Components(runtime) => Self {
                clean: component(runtime, "clean", "{}"),
                sessionize: component(runtime, "sessionize", SESSIONIZE),
                pages: component(runtime, "aggregate", PAGES),
                users: component(runtime, "aggregate", USERS),
            },
        }
    }

    /// Everything that comes out of each stage and is rejected by it, by key.
    fn run(mut self, lines: &[Piped], sizes: &[usize]) -> BTreeMap<String, Vec<String>> {
        let mut told = Told::default();
        // Times ahead of the clock are invalid.
        self.clean.advance_clock(2_000_000_000_000);
        for batch in batches(lines, sizes) {
            self.clean.pipe_batch(batch);
            let events = self.clean.output("out");
            told.take("clean", &mut self.clean, &events);
            self.sessionize.pipe_batch(&piped(&events, None));
            self.sessions(&mut told);
        }
        self.sessionize.end();
        self.sessions(&mut told);
        for (stage, name) in [(&mut self.pages, "pages"), (&mut self.users, "users")] {
            stage.end();
            let results = stage.output("out");
            told.take(name, stage, &results);
        }
        assert!(told.late > 0, "the input has to have late records");
        told.keys
    }

    /// Hands on what the sessions have given.
    fn sessions(&mut self, told: &mut Told) {
        let live = self.sessionize.output("live");
        told.take("live", &mut self.sessionize, &live);
        self.pages.pipe_batch(&piped(&live, Some("path")));
        let results = self.pages.output("out");
        told.take("pages", &mut self.pages, &results);
        // Sessions that close at one instant come in no order across keys.
        let mut closed = self.sessionize.output("final");
        told.take("final", &mut self.sessionize, &closed);
        closed.sort_by(|a, b| (a.timestamp, &a.key).cmp(&(b.timestamp, &b.key)));
        self.users.pipe_batch(&piped(&closed, None));
        let results = self.users.output("out");
        told.take("users", &mut self.users, &results);
    }
}

#[derive(Default)]
struct Told {
    keys: BTreeMap<String, Vec<String>>,
    late: usize,
}

impl Told {
    fn take(&mut self, name: &str, harness: &mut Harness, emissions: &[Emission]) {
        assert_eq!(harness.error(), None);
        let key = |key: &Option<Vec<u8>>| {
            key.as_deref().map_or("none".into(), |key| String::from_utf8_lossy(key).into_owned())
        };
        for e in emissions {
            let all = self.keys.entry(format!("{name} {}", key(&e.key))).or_default();
            all.push(format!("{} {:?}", e.timestamp, e.text()));
        }
        for rejected in harness.rejected() {
            self.late += usize::from(rejected.kind.name() == "late");
            let key = format!("{} {name} {}", rejected.kind.name(), key(&rejected.record.key));
            let told = format!("{} {:?}", rejected.reason, rejected.record.value);
            self.keys.entry(key).or_default().push(told);
        }
    }
}

fn piped(emissions: &[Emission], field: Option<&str>) -> Vec<Piped> {
    let piped = |e: &Emission| {
        let key = match field {
            Some(field) => e.json::<serde_json::Value>()[field].to_string().into_bytes(),
            None => e.key.clone().unwrap(),
        };
        Piped::new(key, e.timestamp, e.text())
    };
    emissions.iter().map(piped).collect()
}

/// Lines of a log: few users, many pauses around the gap, much disorder.
fn lines(seed: u64, events: u64) -> Vec<Piped> {
    let config = wasmill_generate::Config {
        seed,
        users: 60,
        rate: 1.0,
        events: Some(events),
        out_of_orderness_ms: 60_000,
        late_share: 0.3,
        malformed_share: 0.02,
        pages: 5,
        ..wasmill_generate::Config::default()
    };
    clickstream(&config).lines().map(|line| Piped::new("", 0, line)).collect()
}

fn chain(plugins: &Plugins, lines: &[Piped], sizes: &[usize]) -> BTreeMap<String, Vec<String>> {
    let options = Options { out_of_orderness_ms: 2_000, ..Options::default() };
    Chain::new(plugins, &options).run(lines, sizes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn neither_cuts_nor_limits_of_a_call_show_with_time_to_live_timers_and_largest_age(
        case in cases(),
        sizes in prop::collection::vec(1..20_usize, 1..8),
        batch_records in 1..20_usize,
    ) {
        let one_by_one = case.run(&[1], 1_000);
        prop_assert_eq!(&case.run(&[1_000], 1_000), &one_by_one);
        prop_assert_eq!(&case.run(&sizes, 1_000), &one_by_one);
        prop_assert_eq!(&case.run(&[1_000], batch_records), &one_by_one);
        prop_assert_eq!(&case.run(&sizes, batch_records), &one_by_one);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn cuts_do_not_show_in_a_chain_of_native_plugins(
        seed in 0..u64::MAX,
        sizes in prop::collection::vec(1..60_usize, 1..12),
    ) {
        let lines = lines(seed, 500);
        let one_by_one = chain(&Plugins::Native, &lines, &[1]);
        for sizes in [&[7][..], &[1_000], &sizes] {
            prop_assert_eq!(&chain(&Plugins::Native, &lines, sizes), &one_by_one);
        }
    }
}

#[test]
fn cuts_do_not_show_in_a_chain_of_components_which_give_what_native_plugins_give() {
    let cache = support::root().join("target/wasmill-cache");
    std::fs::create_dir_all(&cache).unwrap();
    let components = Plugins::Components(Arc::new(Runtime::new(Some(&cache)).unwrap()));
    for seed in 1..4 {
        let lines = lines(seed, 1_500);
        let native = chain(&Plugins::Native, &lines, &[1]);
        for sizes in [&[1][..], &[7], &[1_000], &[3, 500, 1, 40]] {
            assert_eq!(chain(&components, &lines, sizes), native, "cut into {sizes:?}");
        }
    }
}

const PIPELINE: &str = r#"
name = "batching"
[engine]
partitions = 1
checkpoint-interval = "20ms"
[source.raw]
path = "access.log"
out-of-orderness = "2s"
[topic.raw]
from = "source.raw"
[stage.clean]
plugin = "clean"
from = "topic.raw"
[topic.clean]
from = "stage.clean"
[stage.sessionize]
plugin = "sessionize"
from = "topic.clean"
state-ttl = "5m"
max-age = "20s"
config = { gap = "8s", max-events = 50 }
[topic.live]
from = "stage.sessionize.live"
[topic.sessions]
from = "stage.sessionize.final"
[stage.pages]
plugin = "aggregate"
from = "topic.live"
key-by = "path"
config = { measure = "pages", window = { size = "20s", hop = "10s" } }
[topic.pages]
from = "stage.pages"
[stage.top]
plugin = "aggregate"
from = "stage.pages"
key-by = { constant = "all" }
config = { measure = "top", top = 3 }
[topic.top]
from = "stage.top"
"#;

/// In the engine: however many records a batch has at most, and cut at random from a seed.
#[test]
fn neither_the_engines_batch_records_nor_random_cuts_show() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("pipeline.toml"), PIPELINE).unwrap();
    let config = wasmill_generate::Config {
        seed: 5,
        users: 60,
        rate: 8.0,
        events: Some(8_000),
        pages: 40,
        ..wasmill_generate::Config::default()
    };
    std::fs::write(dir.path().join("access.log"), clickstream(&config)).unwrap();
    let topics =
        ["raw", "clean", "live", "sessions", "pages", "top", "dead", "invalid", "late", "expired"];
    let run = |batch_records: &str, seed: Option<u64>| {
        let name = format!("{batch_records}-{seed:?}");
        let data_dir = dir.path().join(&name);
        let set = format!("engine.batch-records={batch_records}");
        let seed = seed.map(|seed| seed.to_string());
        let set_seed = seed.as_deref().map(|seed| ("WASMILL_PIECE_SEED", seed));
        let more = ["--set", set.as_str()];
        support::run_with(dir.path(), "pipeline.toml", &data_dir, &more, set_seed.as_slice());
        topics.map(|topic| {
            let mut records = support::topic(&data_dir, topic);
            for record in &mut records {
                if topic == "raw" || topic == "dead" {
                    // The time at which a line was read.
                    record["timestamp"] = 0.into();
                }
            }
            by_key(&records)
        })
    };
    let whole = run("1000", None);
    for (topic, keys) in topics.iter().zip(&whole) {
        assert!(!keys.is_empty() || *topic == "invalid", "topic {topic} has to have records");
    }
    let mut random = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    if let Ok(seed) = std::env::var("WASMILL_SEED") {
        random = seed.parse().expect("WASMILL_SEED is a number");
    }
    eprintln!("WASMILL_SEED={random} cuts at the same places again");
    for (batch_records, seed) in [
        ("1", None),
        ("7", None),
        ("1000", Some(random)),
        ("1000", Some(random + 1)),
        ("13", Some(random)),
        ("311", Some(random + 2)),
    ] {
        for ((topic, keys), whole) in topics.iter().zip(run(batch_records, seed)).zip(&whole) {
            let cut = format!("batch-records = {batch_records} and seed {seed:?}");
            assert!(keys == *whole, "topic {topic} differs with {cut}");
        }
    }
}
