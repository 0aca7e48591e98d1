//! Reading ahead: fewer calls to the host, the same results.

use proptest::prelude::*;
use wasmill_sdk::abi::{Column, KeyedBatch, KeyedReply};
use wasmill_sdk::keyed;
use wasmill_sdk::prelude::*;

use crate::table::Table;

/// What a record does with a map of its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Step {
    /// Emits the value.
    Get(u16, String),
    Contains(u16, String),
    Put(u16, String, String),
    Remove(u16, String),
    RemoveRange(u16, String, String),
    /// Emits every entry.
    List(u16),
    /// Has the step done by a timer, at this time.
    Later(i64, Box<Step>),
}

/// Does the steps of its records. With `AHEAD` it names the entries that they touch.
struct Script<const AHEAD: bool>;

impl<const AHEAD: bool> Keyed for Script<AHEAD> {
    type Config = NoConfig;
    /// What is left to be done, by tag of its timer.
    type State = Vec<Step>;

    fn describe() -> Description {
        Description { maps: vec!["a".into(), "b".into()], ..Description::default() }
    }

    fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn prefetch(&self, record: &Record<'_>, wanted: &mut Wanted<'_>) {
        if !AHEAD {
            return wanted.nothing();
        }
        for step in record.json::<Vec<Step>>().unwrap_or_default() {
            name(&step, wanted);
        }
    }

    fn process(
        &self,
        record: &Record<'_>,
        later: &mut State<Vec<Step>>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), Rejection> {
        for step in record.json::<Vec<Step>>()? {
            match step {
                Step::Later(time, step) => {
                    ctx.set_timer(later.len() as u64, time);
                    later.push(*step);
                }
                step => run_step(&step, ctx),
            }
        }
        Ok(())
    }

    fn on_timer(&self, timer: &Timer<'_>, later: &mut State<Vec<Step>>, ctx: &mut Context<'_, '_>) {
        let step = later[timer.tag as usize].clone();
        run_step(&step, ctx);
    }
}

fn name(step: &Step, wanted: &mut Wanted<'_>) {
    match step {
        Step::Get(map, key) | Step::Contains(map, key) => wanted.entry(*map, key.as_bytes()),
        // Named in vain, as a guess might.
        Step::Put(map, key, _) | Step::RemoveRange(map, key, _) => {
            wanted.entry(*map, key.as_bytes());
        }
        Step::Later(_, step) => name(step, wanted),
        Step::Remove(..) | Step::List(_) => {}
    }
}

fn run_step(step: &Step, ctx: &mut Context<'_, '_>) {
    match step {
        Step::Get(map, key) => {
            let value = ctx.map(*map).get(key.as_bytes());
            ctx.json(&value);
        }
        Step::Contains(map, key) => {
            let found = ctx.map(*map).contains(key.as_bytes());
            ctx.json(&found);
        }
        Step::Put(map, key, value) => ctx.map(*map).put(key.as_bytes(), value.as_bytes()),
        Step::Remove(map, key) => ctx.map(*map).remove(key.as_bytes()),
        Step::RemoveRange(map, from, to) => {
            ctx.map(*map).remove_range(Some(from.as_bytes()), Some(to.as_bytes()));
        }
        Step::List(map) => {
            let mut all = Vec::new();
            ctx.map(*map)
                .for_each(None, None, |key, value| all.push((key.to_vec(), value.to_vec())));
            ctx.json(&all);
        }
        Step::Later(..) => unreachable!("process() takes it apart"),
    }
}

/// A batch of records as slot and steps, one ms apart, each at the watermark of its own time.
fn batch(records: &[(u32, Vec<Step>)]) -> KeyedBatch {
    let values: Vec<_> = records.iter().map(|(_, s)| serde_json::to_vec(s).unwrap()).collect();
    let keys = records.iter().map(|(slot, _)| slot + 1).max().unwrap_or(1);
    KeyedBatch {
        timestamps: (0..records.len() as i64).collect(),
        watermarks: (0..records.len() as i64).collect(),
        end_watermark: records.len() as i64,
        slots: records.iter().map(|(slot, _)| *slot).collect(),
        values: values.iter().map(Vec::as_slice).collect(),
        keys: (0..keys).map(|_| &b"key"[..]).collect(),
        states: (0..keys).map(|_| None::<&[u8]>).collect(),
        ..KeyedBatch::default()
    }
}

/// What comes of a batch with and without reading ahead, and what `get` was called for.
fn both(batch: &KeyedBatch, table: &Table) -> [(KeyedReply, Table, Vec<usize>); 2] {
    fn one<const AHEAD: bool>(b: &KeyedBatch, table: &Table) -> (KeyedReply, Table, Vec<usize>) {
        let mut table = table.clone();
        let reply = keyed::run(&Script::<AHEAD>, b, &mut table).unwrap();
        let gets = std::mem::take(&mut table.gets);
        (reply, table, gets)
    }
    [one::<false>(batch, table), one::<true>(batch, table)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (map, key) = (0..2_u16, "[a-d]");
    let step = prop_oneof![
        4 => (map.clone(), key).prop_map(|(map, key)| Step::Get(map, key)),
        2 => (map.clone(), key).prop_map(|(map, key)| Step::Contains(map, key)),
        3 => (map.clone(), key, "[x-z]{0,2}").prop_map(|(map, key, v)| Step::Put(map, key, v)),
        1 => (map.clone(), key).prop_map(|(map, key)| Step::Remove(map, key)),
        1 => (map.clone(), key, "[a-e]").prop_map(|(m, from, to)| Step::RemoveRange(m, from, to)),
        1 => map.prop_map(Step::List),
    ];
    let later = (0..30_i64, step.clone()).prop_map(|(time, s)| Step::Later(time, Box::new(s)));
    prop::collection::vec(prop_oneof![4 => step, 1 => later], 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever records and timers do with their maps, also when the host refuses to read as much
    /// at once.
    #[test]
    fn reading_ahead_changes_no_result(
        records in prop::collection::vec((0..3_u32, steps()), 0..20),
        stored in prop::collection::btree_map((0..2_u16, 0..3_u32, "[a-d]"), "[s-t]{0,2}", 0..16),
        most in prop::option::of(1..6_usize),
    ) {
        let entries = stored.into_iter().map(|((m, s, k), v)| ((m, s, k.into()), v.into()));
        let table = Table { entries: entries.collect(), gets: Vec::new(), most };
        let [(without, table_without, gets_without), (with, table_with, gets_with)] =
            both(&batch(&records), &table);
        prop_assert_eq!(with, without);
        prop_assert_eq!(table_with, table_without);
        if most.is_none() {
            // What timers read, and puts and ranges named in vain, are among the one or two calls.
            prop_assert!(gets_with.len() <= gets_without.len() + 2);
        }
    }
}

#[test]
fn a_batch_reads_each_map_once_and_each_entry_once() {
    let get = |map, key: &str| Step::Get(map, key.into());
    let records: Vec<_> = (0..300)
        .map(|i| (i % 3, vec![get(0, &format!("{}", i % 20)), get(1, "same"), get(0, "same")]))
        .collect();
    let table = Table::default();
    let [(without, _, one_by_one), (with, _, ahead)] = both(&batch(&records), &table);
    assert_eq!(with, without);
    // 20 keys and "same" in one map, "same" in the other, for each of three keys of the batch.
    assert_eq!(ahead, [63, 3]);
    assert_eq!(one_by_one, [1; 66]);
}

#[test]
fn an_entry_in_a_removed_range_is_known_to_be_gone() {
    let all = |of: &str| Step::RemoveRange(0, "a".into(), of.into());
    let get = |key: &str| Step::Get(0, key.into());
    let records = [
        (0, vec![get("a"), get("b"), get("c")]),
        (0, vec![all("c"), get("a"), get("b"), get("c")]),
    ];
    let entries = ["a", "b", "c"].map(|k| ((0, 0, k.into()), b"v".to_vec()));
    let table = Table { entries: entries.into(), ..Table::default() };
    let [_, (reply, after, gets)] = both(&batch(&records), &table);
    assert_eq!(gets, [3]);
    let values: Vec<_> = reply.values.iter().map(|v| v.unwrap() != b"null").collect();
    assert_eq!(values, [true, true, true, false, false, true]);
    assert_eq!(after.entries.len(), 1);
}

#[test]
fn a_batch_whose_records_name_nothing_makes_no_call() {
    let records = [(0, vec![Step::Remove(0, "a".into())]), (1, vec![])];
    let [(_, _, without), (_, _, with)] = both(&batch(&records), &Table::default());
    assert!(without.is_empty() && with.is_empty());
    assert!(both(&batch(&[]), &Table::default())[1].2.is_empty());
}

#[test]
fn a_map_that_is_not_there_fails_the_call_although_nothing_reads_it() {
    let never = (0, vec![Step::Later(1_000, Box::new(Step::Get(7, "a".into())))]);
    let failure = keyed::run(&Script::<true>, &batch(&[never]), &mut Table::default()).unwrap_err();
    assert!(failure.message.contains("no map state 7"), "{}", failure.message);
}

/// Reads the entries that the value of its record counts up to, from a key of some length.
struct Count {
    key_bytes: usize,
}

impl Count {
    fn keys(&self, record: &Record<'_>) -> impl Iterator<Item = Vec<u8>> {
        let (length, n) = (self.key_bytes, record.json::<u32>().unwrap());
        (0..n).map(move |i| {
            let mut key = vec![0; length];
            key[..4].copy_from_slice(&i.to_be_bytes());
            key
        })
    }
}

impl Keyed for Count {
    type Config = NoConfig;
    type State = ();

    fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self { key_bytes: 4 })
    }

    fn prefetch(&self, record: &Record<'_>, wanted: &mut Wanted<'_>) {
        self.keys(record).for_each(|key| wanted.entry(0, &key));
    }

    fn process(
        &self,
        record: &Record<'_>,
        _: &mut State<()>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), Rejection> {
        let found = self.keys(record).filter(|key| ctx.map(0).contains(key)).count();
        ctx.json(&found);
        Ok(())
    }
}

/// Reads `n` entries, of which those in `table` are there; gives their number and the calls made.
fn count(key_bytes: usize, n: u32, mut table: Table) -> (String, Vec<usize>) {
    let mut b = batch(&[(0, vec![])]);
    b.values = std::iter::once(n.to_string().as_bytes()).collect::<Column>();
    let reply = keyed::run(&Count { key_bytes }, &b, &mut table).unwrap();
    (String::from_utf8(reply.values.bytes(0).to_vec()).unwrap(), table.gets)
}

#[test]
fn much_is_asked_for_in_parts() {
    assert_eq!(count(4, 10_000, Table::default()).1, [4_096, 4_096, 1_808]);
    // Keys of 400 KiB: two would pass what the host takes in one call.
    assert_eq!(count(400 << 10, 3, Table::default()).1, [1; 3]);
    // A key that it may not take at all is left to the record, which reads it or not.
    assert_eq!(count(2 << 20, 2, Table::default()).1, [1; 2]);
    assert_eq!(count(400 << 10, 60, Table::default()).1, [1; 60]);
}

#[test]
fn reading_ahead_ends_when_much_was_found() {
    let key = |i: u32| (0, 0, i.to_be_bytes().to_vec());
    let entries = (0..4_100).map(|i| (key(i), vec![0; 4 << 10])).collect();
    let (found, gets) = count(4, 4_100, Table { entries, ..Table::default() });
    assert_eq!(found, "4100");
    assert_eq!(gets, [4_096, 1, 1, 1, 1]);
}
