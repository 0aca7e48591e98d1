//! A task with state, its changelog and its state file against plain maps: whatever is written,
//! applied, given up and taken over, the changelog from where it begins holds the whole state.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use proptest::prelude::*;
use wasmill_core::change::{self, Changes};
use wasmill_core::keyed::Stage as KeyedStage;
use wasmill_core::keys::Keys;
use wasmill_core::layout::{Edge, Input, InputClock, Layout, Node, Output, Target};
use wasmill_core::limits::Limits;
use wasmill_core::maps::MapStore;
use wasmill_core::row::Corrupt;
use wasmill_core::stateless::{Base, FailurePolicy};
use wasmill_core::store::{Cold, Error, Index, Pairs};
use wasmill_core::task::{Fact, Records, Stage, Task};
use wasmill_sdk::native;
use wasmill_sdk::prelude::*;

use super::{Behind, Trim};

/// So little that rows are evicted.
const MEMORY_BYTES: usize = 60_000;
const PACK_BYTES: usize = 2_000;

/// Keeps the last value of a key, and each of them under its length in a map; nothing for none.
struct Keep;

impl Keyed for Keep {
    type Config = NoConfig;
    type State = Vec<u8>;

    fn describe() -> Description {
        Description { maps: vec!["lengths".into()], ..Description::default() }
    }

    fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn process(
        &self,
        record: &Record,
        state: &mut State<Vec<u8>>,
        ctx: &mut Context,
    ) -> Result<(), Rejection> {
        let value = record.bytes()?;
        if value.is_empty() {
            state.clear();
            ctx.map(0).remove_range(None, None);
        } else {
            **state = value.to_vec();
            ctx.map(0).put(&[value.len() as u8], value);
        }
        Ok(())
    }
}

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

fn put(entries: &mut Entries, key: &[u8], value: Option<&[u8]>) {
    match value {
        Some(value) => entries.insert(key.to_vec(), value.to_vec()),
        None => entries.remove(key),
    };
}

/// The state file.
#[derive(Default)]
struct File(RwLock<Entries>);

impl Cold for File {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.read().unwrap().get(key).cloned())
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize, down: bool) -> Result<Pairs, Error> {
        let entries = self.0.read().unwrap();
        let range = entries.range(start.to_vec()..end.to_vec());
        let own = |(k, v): (&Vec<u8>, &Vec<u8>)| (k.clone(), v.clone());
        Ok(if down {
            range.rev().take(limit).map(own).collect()
        } else {
            range.take(limit).map(own).collect()
        })
    }

    fn due(
        &self,
        _: Index,
        _: u16,
        _: Option<&(i64, Vec<u8>)>,
        _: i64,
        _: usize,
    ) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        Ok(Vec::new())
    }

    fn is_empty(&self) -> bool {
        self.0.read().unwrap().is_empty()
    }
}

fn task(file: &Arc<File>) -> Task {
    let (operator, ports) = native::Keyed::<Keep>::new("{}", &Setup::default()).unwrap();
    let policy = FailurePolicy { halt: true, most_in_a_row: 1 };
    let base = Base::new("keep", ports, Limits::default(), policy);
    let keys = Keys::new(0, file.clone(), MEMORY_BYTES, None, true);
    let maps = MapStore::new(0, 1, file.clone());
    let stage = KeyedStage::new(base, Box::new(operator), keys, maps);
    let input = Input {
        name: "in".into(),
        partition: 0,
        clock: InputClock::Carried(vec![0]),
        targets: vec![Target::Node { node: 0, port: 0 }],
        unreadable: None,
    };
    let outputs = vec![Output::default()];
    let layout = Layout {
        inputs: vec![input],
        nodes: vec![Node { outputs, rejects: [0; 4], max_age_ms: None }],
        edges: vec![Edge::to(0, 1, false)],
    };
    Task::new(layout, vec![Stage::Keyed(Box::new(stage))])
}

#[derive(Debug, Clone)]
enum Op {
    /// Records: key, and the length of its value.
    Records(Vec<(u16, u8)>),
    Commit,
    /// A commit that fails: the task is opened anew.
    Fail,
    /// So many commits reach the state file.
    Apply(usize),
    /// The task is told how far that is.
    Tell,
    /// Another instance opens the task, with nothing but the changelog.
    Move,
}

fn op() -> impl Strategy<Value = Op> {
    let records = proptest::collection::vec((0..2_600u16, 0..40u8), 1..40);
    prop_oneof![
        6 => records.prop_map(Op::Records),
        10 => Just(Op::Commit),
        1 => Just(Op::Fail),
        6 => (1..6usize).prop_map(Op::Apply),
        3 => Just(Op::Tell),
        1 => Just(Op::Move),
    ]
}

/// A commit in the changelog.
struct Commit {
    offset: i64,
    /// Those that are in the file or on their way there have the epoch of the open task.
    epoch: u64,
    packs: Vec<Vec<u8>>,
}

struct World {
    file: Arc<File>,
    task: Task,
    trim: Trim,
    most: u64,
    slice: usize,
    /// The changelog, and the record that it begins with: what was before is gone.
    log: Vec<Commit>,
    start: i64,
    starts: usize,
    next: i64,
    epoch: u64,
    /// The last epoch that the file has.
    applied: u64,
    /// What the task holds by its commits.
    truth: Entries,
    clock: i64,
}

impl World {
    fn new(most: u64, slice: usize) -> Self {
        let file = Arc::new(File::default());
        let trim = Trim { most: Some(most), slice, ..Trim::default() };
        Self {
            task: task(&file),
            file,
            trim,
            most,
            slice,
            log: Vec::new(),
            start: 0,
            starts: 0,
            next: 0,
            epoch: 1,
            applied: 0,
            truth: Entries::new(),
            clock: 0,
        }
    }

    /// Opens the task with a state file that has what the changelog gives.
    fn open(&mut self) {
        self.file = Arc::new(File(RwLock::new(self.folded())));
        self.task = task(&self.file);
        self.trim = Trim { most: Some(self.most), slice: self.slice, ..Trim::default() };
        self.log.iter_mut().for_each(|commit| commit.epoch = 0);
        (self.epoch, self.applied) = (1, 0);
    }

    /// What a fresh instance reads from the changelog.
    fn folded(&self) -> Entries {
        let mut entries = Entries::new();
        let packs = self.log.iter().flat_map(|commit| &commit.packs).map(Vec::as_slice);
        let each = |key: &[u8], value: Option<&[u8]>| {
            put(&mut entries, key, value);
            Ok::<(), Corrupt>(())
        };
        change::merge(packs, each).unwrap();
        entries
    }

    fn records(&mut self, records: &[(u16, u8)]) {
        let n = records.len();
        self.clock += 1;
        let keys: Vec<_> = records.iter().map(|(key, _)| key.to_be_bytes()).collect();
        let values: Vec<_> = records
            .iter()
            .map(|(key, len)| vec![(i64::from(*key) + self.clock) as u8; usize::from(*len)])
            .collect();
        let records = Records {
            timestamps: vec![self.clock; n],
            clocks: vec![self.clock - 1; n],
            keys: keys.iter().map(<[u8; 2]>::as_slice).collect(),
            values: values.iter().map(Vec::as_slice).collect(),
            headers: None,
            offsets: (0..n as i64).collect(),
        };
        self.task.step(Fact::Records { input: 0, producer: 0, records }, self.clock).unwrap();
    }

    fn freeze(&mut self) -> (Changes, Changes) {
        let mut frozen = Changes::default();
        self.task.freeze(&mut frozen);
        let mut changes = frozen.clone();
        let behind = Behind { cold: &*self.file, applied: self.applied, bytes: 0 };
        self.trim.walk(&mut self.task, &behind, self.epoch, &mut changes).unwrap();
        (frozen, changes)
    }

    fn commit(&mut self) {
        let (frozen, changes) = self.freeze();
        frozen.iter().for_each(|(key, value)| put(&mut self.truth, key, value));
        let packs: Vec<_> = changes.packs(PACK_BYTES).collect();
        let bytes = packs.iter().map(Vec::len).sum();
        // The packs, and the record that says where the task stands.
        let offset = self.next + packs.len() as i64;
        self.next = offset + 1;
        self.log.push(Commit { offset, epoch: self.epoch, packs });
        self.epoch += 1;
        if let Some(start) = self.trim.committed(offset, bytes) {
            assert!(start >= self.start, "a changelog's beginning moves on");
            (self.start, self.starts) = (start, self.starts + 1);
            // Of the commit that it begins with only its last record is left.
            for commit in self.log.iter_mut().filter(|commit| commit.offset <= start) {
                commit.packs.clear();
            }
        }
    }

    fn apply(&mut self, count: usize) {
        for commit in self.log.iter().filter(|c| c.epoch > self.applied).take(count) {
            let mut file = self.file.0.write().unwrap();
            let packs = commit.packs.iter().map(Vec::as_slice);
            let each = |key: &[u8], value: Option<&[u8]>| {
                put(&mut file, key, value);
                Ok::<(), Corrupt>(())
            };
            change::merge(packs, each).unwrap();
        }
        let reach = self.applied + count as u64;
        self.applied = reach.min(self.epoch - 1);
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Records(records) => self.records(records),
            Op::Commit => self.commit(),
            Op::Fail => {
                self.freeze();
                self.open();
            }
            Op::Apply(count) => self.apply(*count),
            Op::Tell => self.task.applied(self.applied),
            Op::Move => self.open(),
        }
    }

    /// Whether the changelog from its beginning holds the whole state.
    fn check(&self) -> Result<(), TestCaseError> {
        let folded = self.folded();
        let missing = self.truth.iter().find(|(key, value)| folded.get(*key) != Some(*value));
        prop_assert_eq!(missing, None, "of the changelog from {}", self.start);
        let more = folded.keys().find(|key| !self.truth.contains_key(*key));
        prop_assert_eq!(more, None, "of the changelog from {}", self.start);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_changelog_from_any_start_that_it_was_given_holds_the_whole_state(
        keys in 0..2_600u16,
        most in 1_000..100_000u64,
        slice in 100..20_000usize,
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        let mut world = World::new(most, slice);
        for first in (0..keys).step_by(500) {
            let records: Vec<_> = (first..keys.min(first + 500)).map(|key| (key, 20)).collect();
            world.records(&records);
            world.commit();
        }
        for op in &ops {
            world.run(op);
            if matches!(op, Op::Commit | Op::Fail | Op::Move) {
                world.check()?;
            }
        }
    }
}

#[test]
fn what_a_changelog_has_is_known_to_whoever_has_the_task_next() {
    let mut trim = Trim { most: Some(100), ..Trim::new(70) };
    assert_eq!(trim.committed(1, 20), None);
    assert_eq!(trim.logged(), 90);
    trim.walk = Some(super::Walk { start: None, epoch: 1, from: Vec::new(), ended: false });
    assert_eq!(trim.committed(2, 20), None);
    assert_eq!(trim.committed(3, 5), None);
    assert_eq!(trim.logged(), 115, "nothing is dropped before the walk has ended");
    trim.walk.as_mut().unwrap().ended = true;
    assert_eq!(trim.committed(4, 5), Some(2));
    assert_eq!(trim.logged(), 10, "what was written since the walk began");
}

#[test]
fn a_walk_goes_over_state_that_never_changes_again_and_again() {
    let mut world = World::new(50_000, 5_000);
    for first in [0, 1_000, 2_000] {
        world.records(&(first..first + 1_000).map(|key| (key, 30)).collect::<Vec<_>>());
        world.commit();
    }
    let written = world.next;
    for n in 0..200 {
        world.records(&[(n % 3, 10)]);
        world.commit();
        world.apply(1);
        world.check().unwrap();
    }
    assert!(world.starts >= 3, "the beginning was dropped {} times", world.starts);
    assert!(world.start > written, "the changelog begins at {} of {}", world.start, world.next);
}

#[test]
fn what_the_file_has_is_written_again_also_where_the_task_does_not_know_of_it_yet() {
    let mut world = World::new(1, 1_000_000);
    world.records(&[(1, 20), (2, 20)]);
    world.commit();
    // The walk begins here; the file follows before the next commit, and the task was not told.
    world.records(&[(3, 20)]);
    world.commit();
    world.apply(2);
    world.commit();
    assert_eq!(world.starts, 1);
    world.check().unwrap();
}
