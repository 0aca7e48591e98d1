//! Keys and state file together against a plain map: whatever is written, applied, evicted and lost
//! in crashes, at every horizon just those keys are due that should be.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use redb::{ReadableTable, ReadableTableMetadata};
use wasmill_abi::TimeDomain;
use wasmill_core::change::{self, Changes};
use wasmill_core::keys::Keys;
use wasmill_core::row::{self, NEVER, Name, Row, Timer, UNDATED};
use wasmill_core::store::{Cold, Index};

use super::State;
use super::directory;
use super::postings::GARBAGE;

const STAGE: u16 = 3;
const TTL_MS: i64 = 200;
const BUDGET: usize = 4_000;

/// What is done to a key.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Sets a timer so far from now.
    Timer(TimeDomain, u8, i64),
    /// Sets the value, and dates it.
    Touch(u8),
    /// Clears the timers.
    Clear,
    /// Forgets everything.
    Remove,
}

#[derive(Debug, Clone)]
enum Op {
    /// A batch of records: keys and what becomes of them.
    Batch(Vec<(u16, Act)>),
    /// Time passes by an index: by so much, in parts of about so many keys. What is due is done, or
    /// stays; of what is done some is set again so much later.
    Pass(Index, i64, usize, Option<i64>),
    Freeze,
    /// So many epochs reach the file.
    Apply(usize),
    /// Memory gets so many bytes.
    Budget(usize),
    /// The process ends. What the file has not applied, it applies, or else memory takes it in.
    Crash {
        replay: bool,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let domain =
        prop_oneof![4 => Just(TimeDomain::EventTime), 1 => Just(TimeDomain::ProcessingTime)];
    prop_oneof![
        6 => (domain, 0..2u8, -20..400i64).prop_map(|(d, tag, at)| Act::Timer(d, tag, at)),
        3 => any::<u8>().prop_map(Act::Touch),
        1 => Just(Act::Clear),
        1 => Just(Act::Remove),
    ]
}

fn op(keys: u16) -> impl Strategy<Value = Op> {
    let index = prop_oneof![
        3 => Just(Index::EventTime),
        1 => Just(Index::ProcessingTime),
        2 => Just(Index::Touched),
    ];
    prop_oneof![
        6 => proptest::collection::vec((0..keys, act()), 1..30).prop_map(Op::Batch),
        4 => (index, 0..120i64, 1..9usize, proptest::option::of(-5..300i64))
            .prop_map(|(index, by, n, again)| Op::Pass(index, by, n, again)),
        3 => Just(Op::Freeze),
        3 => (1..4usize).prop_map(Op::Apply),
        1 => (BUDGET / 8..BUDGET * 4).prop_map(Op::Budget),
        2 => any::<bool>().prop_map(|replay| Op::Crash { replay }),
    ]
}

type Rows = BTreeMap<Vec<u8>, Row>;

struct World {
    folder: tempfile::TempDir,
    state: State,
    keys: Keys,
    ttl: Option<i64>,
    has_maps: bool,
    rows: Rows,
    clocks: [i64; 3],
    /// As of the last epoch that has ended.
    saved: (Rows, [i64; 3]),
    /// Epochs that the file does not have: number and packs.
    log: VecDeque<(u64, Vec<Vec<u8>>)>,
}

impl World {
    fn new(ttl: Option<i64>, has_maps: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("0.redb"), 0).unwrap();
        let keys = Keys::new(STAGE, Arc::new(state.clone()), BUDGET, ttl, has_maps);
        let (rows, saved, log) = (Rows::new(), (Rows::new(), [0; 3]), VecDeque::new());
        Self { folder, state, keys, ttl, has_maps, rows, clocks: [0; 3], saved, log }
    }

    fn is_nothing(&self, row: &Row) -> bool {
        let dates = self.ttl.is_some() && self.has_maps;
        row.value.is_none() && row.timers.is_empty() && (!dates || row.touched == UNDATED)
    }

    fn place(&self, row: &Row, index: Index) -> i64 {
        let exists = row.value.is_some() || self.has_maps;
        match index {
            Index::EventTime => row.next(TimeDomain::EventTime),
            Index::ProcessingTime => row.next(TimeDomain::ProcessingTime),
            Index::Touched if self.ttl.is_some() && exists && row.touched != UNDATED => row.touched,
            Index::Touched => NEVER,
        }
    }

    /// Changes a key in both worlds; what holds nothing is as if it had never been.
    fn change(&mut self, id: u32, key: &[u8], change: impl Fn(&mut Row)) {
        let mut row = self.rows.remove(key).unwrap_or_default();
        change(&mut row);
        let nothing = self.is_nothing(&row);
        if nothing {
            row = Row::default();
        }
        self.keys.change(id, |stored| {
            change(stored);
            if nothing {
                *stored = Row::default();
            }
            assert_eq!(*stored, row, "of {key:?}");
        });
        if !nothing {
            self.rows.insert(key.to_vec(), row);
        }
    }

    fn batch(&mut self, acts: &[(u16, Act)]) {
        self.keys.begin();
        let mut ids = Vec::new();
        for (key, act) in acts {
            let key = format!("key {}", u32::from(*key) * 7919 % 10_007).into_bytes();
            let found = self.keys.find(self.keys.hash(&key), &key).unwrap();
            let id = found.unwrap_or_else(|| self.keys.make(&key));
            let (clocks, ttl) = (self.clocks, self.ttl);
            self.change(id, &key, |row| match act {
                Act::Timer(domain, tag, at) => {
                    let (domain, tag) = (*domain, u64::from(*tag));
                    row.timers.retain(|t| (t.domain, t.tag) != (domain, tag));
                    row.timers.push(Timer { domain, tag, time: clocks[domain as usize] + at });
                }
                Act::Touch(value) => {
                    row.value = Some(vec![*value; usize::from(*value)].into());
                    if ttl.is_some() {
                        row.touched = row.touched.max(clocks[Index::Touched as usize] + TTL_MS);
                    }
                }
                Act::Clear => row.timers.retain(|_| false),
                Act::Remove => *row = Row::default(),
            });
            ids.push(id);
        }
        self.keys.end_batch(&ids);
    }

    fn pass(&mut self, index: Index, by: i64, n: usize, again: Option<i64>) {
        let until = self.clocks[index as usize] + by;
        let next = self.keys.next(index, self.clocks[index as usize]).unwrap().unwrap_or(NEVER);
        let first = self.rows.values().map(|row| self.place(row, index)).min().unwrap_or(NEVER);
        assert!(next <= first, "a row is due by {index:?} at {first}, before {next}");
        loop {
            let horizon = self.keys.horizon(index, until, n).unwrap();
            assert!(horizon <= until);
            self.keys.begin();
            let ids = self.keys.due(index, horizon, usize::MAX);
            let name = |id: &u32| self.keys.entry(*id).key.to_vec();
            let due: Vec<(u32, Vec<u8>)> = ids.iter().map(|id| (*id, name(id))).collect();
            let mut found: Vec<_> = due.iter().map(|(_, key)| key).collect();
            found.sort();
            let expected = self.rows.iter().filter(|(_, row)| self.place(row, index) <= horizon);
            let expected: Vec<_> = expected.map(|(key, _)| key).collect();
            assert_eq!(found, expected, "due by {index:?} at {horizon} of {until}");
            self.clocks[index as usize] = horizon.max(self.clocks[index as usize]);
            // One in three is set again, however much later.
            for (i, (id, key)) in due.iter().enumerate().filter(|_| again.is_some()) {
                let again = again.filter(|_| i % 3 == 0);
                self.change(*id, key, |row| match index {
                    Index::Touched => {
                        row.value = None;
                        row.touched = UNDATED;
                    }
                    index => {
                        let is = |t: &Timer| t.domain as usize == index as usize;
                        row.timers.retain(|t| !is(t) || t.time > horizon);
                        if let Some(again) = again.filter(|again| *again > 0) {
                            let domain = [TimeDomain::EventTime, TimeDomain::ProcessingTime];
                            let domain = domain[index as usize];
                            row.timers.push(Timer { domain, tag: 9, time: horizon + again });
                        }
                    }
                });
            }
            self.keys.end_batch(&ids);
            if horizon >= until && again.is_some() {
                // Whoever waits for what is due next does not wait in vain for what is done.
                let next = self.keys.next(index, until).unwrap();
                assert!(next.is_none_or(|next| next > until), "{next:?} by {index:?} at {until}");
            }
            if horizon >= until || again.is_none() {
                return;
            }
        }
    }

    fn freeze(&mut self) {
        let mut changes = Changes::default();
        let epoch = self.keys.epoch();
        self.keys.freeze(&mut changes);
        changes.sort();
        self.log.push_back((epoch, changes.packs(200).collect()));
        self.saved = (self.rows.clone(), self.clocks);
    }

    fn apply(&mut self, epochs: usize) {
        let some: Vec<_> = self.log.drain(..epochs.min(self.log.len())).collect();
        let Some((epoch, _)) = some.last() else { return };
        let packs = some.iter().flat_map(|(_, packs)| packs).map(Vec::as_slice);
        self.state.apply(packs, *epoch).unwrap();
        self.keys.applied(*epoch);
        self.check();
    }

    fn crash(&mut self, replay: bool) {
        (self.rows, self.clocks) = self.saved.clone();
        let epoch = self.log.back().map(|(epoch, _)| *epoch);
        let epoch = epoch.unwrap_or(self.state.applied().unwrap());
        let path = self.folder.path().join("0.redb");
        // The file is free when nobody has it.
        let elsewhere = tempfile::tempdir().unwrap();
        let other = State::open(&elsewhere.path().join("0.redb"), 0).unwrap();
        self.keys = Keys::new(STAGE, Arc::new(other.clone()), BUDGET, None, false);
        self.state = other;
        self.state = State::open(&path, 0).unwrap();
        while !replay && !self.log.is_empty() {
            self.apply(2);
        }
        let cold = Arc::new(self.state.clone());
        self.keys = Keys::new(STAGE, cold, BUDGET, self.ttl, self.has_maps);
        self.keys.start_epoch(epoch + 1);
        if !self.log.is_empty() {
            self.keys.begin_replay();
            for pack in self.log.iter().flat_map(|(_, packs)| packs) {
                let keys = &mut self.keys;
                let replayed = change::merge([pack.as_slice()].into_iter(), |key, value| {
                    let Name::Row { key, .. } = row::name(key)? else { panic!("a row") };
                    keys.replay(key, value)
                });
                replayed.unwrap();
            }
            self.keys.end_replay();
        }
    }

    /// What the file says of itself.
    fn check(&self) {
        let view = self.state.view();
        let mut counts = BTreeMap::new();
        for entry in view.state.iter().unwrap() {
            let (name, value) = entry.unwrap();
            let Ok(Name::Row { stage, key }) = row::name(name.value()) else { panic!("a row") };
            let (row, posted) = Row::decode_posted(value.value()).unwrap();
            for index in Index::ALL {
                let (posted, place) = (posted[index as usize], row.places()[index as usize]);
                assert!(posted <= place && (posted == NEVER) == (place == NEVER));
                if posted == NEVER {
                    continue;
                }
                let buckets = view.directory.of(stage, index);
                let at = buckets.partition_point(|bucket| bucket.starts_by(posted, key)) - 1;
                let postings = directory::postings(&buckets[at], &view.runs).unwrap();
                let found = postings.partition_point(|t, k| (t, k) < (posted, key));
                assert_eq!(postings.get(found), (posted, key));
                *counts.entry((stage, index as u8, at)).or_insert(0) += 1;
            }
        }
        let mut runs = 0;
        for ((stage, index), buckets) in &view.directory.0 {
            let (mut live, mut total) = (0, 0);
            for (at, bucket) in buckets.iter().enumerate() {
                let count = counts.get(&(*stage, *index, at)).copied().unwrap_or_default();
                assert_eq!(bucket.live, count, "rows that count on bucket {at} of {index}");
                (live, total) = (live + bucket.live, total + bucket.total);
                runs += u64::from(bucket.runs);
            }
            assert!(total <= 2 * live + GARBAGE, "{total} postings for {live} rows");
        }
        assert_eq!(view.runs.len().unwrap(), runs);
        let stored = super::View::of(&self.state.db).unwrap().directory;
        assert_eq!(format!("{stored:?}"), format!("{:?}", view.directory));
        for index in Index::ALL {
            let all = self.state.due(index, STAGE, None, NEVER - 1, usize::MAX).unwrap();
            assert!(all.is_sorted());
            let mut paged: Vec<(i64, Vec<u8>)> = Vec::new();
            loop {
                let page = self.state.due(index, STAGE, paged.last(), NEVER - 1, 5).unwrap();
                if page.is_empty() {
                    break;
                }
                paged.extend(page);
            }
            assert_eq!(all, paged);
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Batch(acts) => self.batch(acts),
            Op::Pass(index, by, n, again) => self.pass(*index, *by, *n, *again),
            Op::Freeze => self.freeze(),
            Op::Apply(epochs) => self.apply(*epochs),
            Op::Budget(bytes) => self.keys.set_budget(*bytes),
            Op::Crash { replay } => self.crash(*replay),
        }
    }

    /// Everything becomes due.
    fn end(&mut self) {
        self.freeze();
        self.apply(usize::MAX);
        for index in Index::ALL {
            self.pass(index, 1_000, 3, Some(0));
            self.freeze();
            self.apply(usize::MAX);
        }
        let keys: Vec<Vec<u8>> = self.rows.keys().cloned().collect();
        for key in keys {
            let id = self.keys.find(self.keys.hash(&key), &key).unwrap().expect("a key with a row");
            assert_eq!(self.keys.entry(id).row, self.rows[&key]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn just_what_should_be_due_is_due(
        ops in proptest::collection::vec(op(90), 1..80),
        expires in any::<bool>(), has_maps in any::<bool>()) {
        let mut world = World::new(expires.then_some(TTL_MS), has_maps);
        ops.iter().for_each(|op| world.run(op));
        world.end();
    }
}

/// Postings in the file, and rows that they are for, by event time.
fn postings(world: &World) -> (u64, u64) {
    let view = world.state.view();
    let buckets = view.directory.of(STAGE, Index::EventTime);
    (buckets.iter().map(|b| b.total).sum(), buckets.iter().map(|b| b.live).sum())
}

fn all(keys: u16, act: impl Fn(u16) -> Act) -> Op {
    Op::Batch((0..keys).map(|key| (key, act(key))).collect())
}

#[test]
fn a_timer_that_moves_on_with_every_record_is_not_posted_each_time() {
    let mut world = World::new(None, false);
    for at in 100..140 {
        world.run(&all(60, |key| Act::Timer(TimeDomain::EventTime, 0, at + i64::from(key))));
        world.run(&Op::Freeze);
        world.run(&Op::Apply(1));
        assert_eq!(postings(&world), (60, 60));
    }
    // Time reaches what they are posted under, but not them: they are posted anew, once.
    world.run(&Op::Pass(Index::EventTime, 138, 5, Some(0)));
    for at in 10..40 {
        world.run(&all(60, |key| Act::Timer(TimeDomain::EventTime, 0, at + i64::from(key))));
        world.run(&Op::Freeze);
        world.run(&Op::Apply(1));
        assert!(postings(&world).0 <= 120);
    }
    world.end();
}

#[test]
fn rows_that_come_and_go_before_their_time_leave_little_behind() {
    let mut world = World::new(None, false);
    for round in 0..40 {
        let at = |key: u16| 1_000 + i64::from(key) + round * 50;
        world.run(&all(60, |key| Act::Timer(TimeDomain::EventTime, round as u8, at(key))));
        world.run(&Op::Freeze);
        world.run(&Op::Apply(1));
        world.run(&all(60, |key| if key % 10 == 0 { Act::Touch(3) } else { Act::Remove }));
        world.run(&Op::Freeze);
        // Looks at how much garbage there is.
        world.run(&Op::Apply(1));
    }
    assert_eq!(postings(&world).1, 6);
    world.end();
}

#[test]
fn more_keys_than_a_page_become_due_in_order() {
    let mut world = World::new(None, false);
    for from in (0..9_000u16).step_by(1_500) {
        let timer = |key| Act::Timer(TimeDomain::EventTime, 0, i64::from(key % 700));
        let acts = (from..from + 1_500).map(|key| (key, timer(key)));
        world.run(&Op::Batch(acts.collect()));
        world.run(&Op::Freeze);
        world.run(&Op::Apply(1));
    }
    world.run(&Op::Pass(Index::EventTime, 300, 500, Some(0)));
    world.run(&Op::Crash { replay: false });
    world.run(&Op::Pass(Index::EventTime, 650, 800, Some(40)));
    world.end();
}

#[test]
fn what_is_applied_leaves_memory_at_once_when_there_is_less_of_it() {
    let mut world = World::new(None, false);
    world.run(&Op::Budget(1_000_000));
    world.run(&all(800, |key| Act::Touch(key as u8)));
    let before = world.keys.bytes();
    world.run(&Op::Budget(before / 4));
    assert!(world.keys.is_full(), "what is not applied stays");
    assert!(world.keys.is_pressed(), "and is to be applied");
    world.run(&Op::Freeze);
    world.run(&Op::Apply(1));
    assert!(world.keys.bytes() < before / 4);
    world.run(&Op::Budget(before));
    world.run(&Op::Pass(Index::EventTime, 1, 500, None));
    world.end();
    world.run(&Op::Budget(before / 8));
    assert!(!world.keys.is_full(), "{} bytes of {}", world.keys.bytes(), before / 8);
    world.end();
}

/// Memory does not note the keys of removed rows as long as it has all the others.
#[test]
fn nothing_is_evicted_while_the_file_has_rows_that_memory_has_forgotten() {
    let mut world = World::new(None, false);
    world.run(&Op::Budget(1_000_000));
    world.run(&all(800, |key| Act::Touch(key as u8)));
    world.run(&Op::Freeze);
    world.run(&Op::Apply(1));
    world.run(&all(400, |_| Act::Remove));
    let before = world.keys.bytes();
    world.run(&Op::Freeze);
    assert_eq!(world.keys.len(), 400);
    assert!(world.keys.bytes() < before * 2 / 3, "nothing is left of a removed row");
    world.run(&Op::Budget(world.keys.bytes() / 2));
    assert_eq!(world.keys.len(), 400, "the file still has what was removed");
    assert!(world.keys.is_pressed());
    world.run(&Op::Apply(1));
    assert!(world.keys.len() < 250, "{} keys", world.keys.len());
    // From here on they are noted.
    world.run(&Op::Budget(world.keys.bytes()));
    world.run(&Op::Batch((400..800).map(|key| (key, Act::Remove)).collect()));
    world.run(&Op::Freeze);
    world.run(&all(800, |_| Act::Clear));
    world.end();
}
