//! A watermark that is told in parts brings about what it does at once, in steps that stay small.

#![allow(clippy::unwrap_used, missing_docs, reason = "all of it is tests")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use wasmill_abi::{
    Column, InputPort, KeyedBatch, KeyedReply, OutputPort, Ports, StatelessBatch, StatelessReply,
    TimeDomain, WATERMARK_END, WATERMARK_START,
};
use wasmill_core::change::Changes;
use wasmill_core::clock::Policy;
use wasmill_core::keyed;
use wasmill_core::keys::Keys;
use wasmill_core::layout::{Edge, Input, InputClock, Layout, Node, Output, Target};
use wasmill_core::limits::Limits;
use wasmill_core::maps::MapStore;
use wasmill_core::operator::{CallError, Common, Keyed, MapAccess, Stateless};
use wasmill_core::stateless::{self, Base, FailurePolicy};
use wasmill_core::store::Nothing;
use wasmill_core::task::{Effects, Fact, Records, Stage, Task};

/// How many keys with timers due a step is to have, about.
const REACH_KEYS: usize = 16_384;

/// Sets the timers that a record's value lists as little-endian times. A timer with an even time
/// sets another one half of it later, once.
struct Timers;

impl Common for Timers {
    fn reset(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn digest(&self) -> &str {
        "test"
    }
    fn plugin(&self) -> &str {
        "timers"
    }
}

impl Keyed for Timers {
    fn process(
        &mut self,
        batch: &KeyedBatch,
        maps: Box<dyn MapAccess>,
    ) -> (Result<KeyedReply, CallError>, Box<dyn MapAccess>) {
        let mut reply = KeyedReply::default();
        let n = batch.timestamps.len();
        let event = TimeDomain::EventTime;
        for (row, slot) in batch.slots.iter().enumerate() {
            for (tag, time) in batch.values.bytes(row).chunks(8).enumerate() {
                let time = i64::from_le_bytes(time.try_into().unwrap());
                reply.timers.set.push(*slot, event, tag as u64, time);
            }
        }
        let due = &batch.due;
        let mut queue: BTreeSet<(i64, u32, u64)> =
            (0..due.slots.len()).map(|i| (due.times[i], due.slots[i], due.tags[i])).collect();
        while let Some((time, slot, tag)) = queue.pop_first() {
            reply.rows.push(n as u32 + slot);
            reply.clocks.push(time - 1);
            reply.values.push(format!("{tag} at {time}").as_bytes());
            if time % 2 == 0 && tag < 100 {
                let (tag, later) = (tag + 100, time + time / 2);
                if later <= batch.end_watermark {
                    queue.insert((later, slot, tag));
                } else {
                    reply.timers.set.push(slot, event, tag, later);
                }
            }
        }
        (Ok(reply), maps)
    }

    fn migrate(&mut self, _: u32, states: &Column) -> Result<Column, CallError> {
        Ok(states.clone())
    }
    fn state_version(&self) -> u32 {
        1
    }
    fn reads_state_versions(&self) -> &[u32] {
        &[]
    }
    fn maps(&self) -> u16 {
        0
    }
}

/// Hands on what comes.
struct Pass;

impl Common for Pass {
    fn reset(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn digest(&self) -> &str {
        "test"
    }
    fn plugin(&self) -> &str {
        "pass"
    }
}

impl Stateless for Pass {
    fn process(&mut self, batch: &StatelessBatch) -> Result<StatelessReply, CallError> {
        let rows = (0..batch.timestamps.len() as u32).collect();
        Ok(StatelessReply { rows, values: batch.values.clone(), ..StatelessReply::default() })
    }
}

const IN_ORDER: Policy = Policy { out_of_orderness_ms: 0, idle_timeout_ms: None };

fn base(name: &str, inputs: usize) -> Base {
    let (inputs, outputs) = (vec![InputPort::default(); inputs], vec![OutputPort::default()]);
    Base::new(name, Ports { inputs, outputs }, Limits::default(), FailurePolicy::default())
}

fn timers_of(node: u16, inputs: usize) -> Stage {
    let keys = Keys::new(node, Nothing::shared(), usize::MAX / 2, None, false);
    let maps = MapStore::new(node, 0, Nothing::shared());
    let stage = keyed::Stage::new(base("timers", inputs), Box::new(Timers), keys, maps);
    Stage::Keyed(Box::new(stage))
}

fn node(target: Target, assigns: Option<Policy>) -> Node {
    let outputs = vec![Output { targets: vec![target], assigns }];
    Node { outputs, rejects: [0; 4], max_age_ms: None }
}

/// A task whose one stage has so many inputs and these timers set, by key.
fn task(inputs: usize, timers: &[Vec<i64>]) -> Task {
    task_of(inputs, vec![node(Target::Sink(0), None)], vec![timers_of(0, inputs)], timers)
}

/// One whose stage is behind another one that assigns event time.
fn task_behind_event_time(timers: &[Vec<i64>]) -> Task {
    let front = stateless::Stage { base: base("pass", 1), operator: Box::new(Pass) };
    let to_timers = Target::Node { node: 1, port: 0 };
    let nodes = vec![node(to_timers, Some(IN_ORDER)), node(Target::Sink(0), None)];
    task_of(1, nodes, vec![Stage::Stateless(front), timers_of(1, 1)], timers)
}

fn task_of(inputs: usize, nodes: Vec<Node>, stages: Vec<Stage>, timers: &[Vec<i64>]) -> Task {
    let input = |port| Input {
        name: "in".into(),
        partition: 0,
        clock: InputClock::Carried(vec![0]),
        targets: vec![Target::Node { node: 0, port }],
        unreadable: None,
    };
    let layout = Layout {
        inputs: (0..inputs as u8).map(input).collect(),
        nodes,
        edges: vec![Edge::to(0, 1, false)],
    };
    let mut task = Task::new(layout, stages);
    let times = |times: &Vec<i64>| times.iter().flat_map(|t| t.to_le_bytes()).collect::<Vec<_>>();
    let names: Vec<_> = (0..timers.len()).map(|i| i.to_string()).collect();
    let records = Records {
        timestamps: vec![0; timers.len()],
        clocks: vec![WATERMARK_START; timers.len()],
        keys: names.iter().map(String::as_bytes).collect(),
        values: timers.iter().map(times).collect::<Vec<_>>().iter().map(Vec::as_slice).collect(),
        headers: None,
        offsets: (0..timers.len() as i64).collect(),
    };
    let effects = task.step(Fact::Records { input: 0, producer: 0, records }, 0).unwrap();
    assert!(effects.is_empty());
    task
}

/// What came out for each key: value, event time, clock.
type Told = BTreeMap<Vec<u8>, Vec<(String, i64, i64)>>;

fn collect(effects: Effects, told: &mut Told) {
    for (_, flow) in effects.sinks {
        for i in 0..flow.len() {
            let text = String::from_utf8(flow.values.bytes(i).to_vec()).unwrap();
            let one = (text, flow.timestamps[i], flow.clocks[i]);
            told.entry(flow.keys.bytes(i).to_vec()).or_default().push(one);
        }
    }
}

fn tell(task: &mut Task, input: usize, watermark: i64) -> Effects {
    task.step(Fact::Watermark { input, producer: 0, watermark, idle: false }, 0).unwrap()
}

/// The most keys that have a timer at one instant.
fn most_at_once(told: &Told) -> usize {
    let mut counts = BTreeMap::<i64, usize>::new();
    for one in told.values().flatten() {
        *counts.entry(one.1).or_default() += 1;
    }
    counts.values().copied().max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn a_watermark_told_in_parts_gives_each_key_what_it_gives_at_once_in_steps_of_few_keys(
        seed in prop::collection::vec(prop::collection::vec(1..500_i64, 0..4), 40..60),
        scale in 1..400_i64,
        spread in 0..300_i64,
        inputs in 1..3_usize,
        watermarks in prop::collection::btree_set(0..200_000_i64, 0..3),
    ) {
        // Some thousands of keys more than a step has, each like one of the seeds, a little later.
        let later = |(i, times): (usize, &Vec<i64>)| {
            times.iter().map(|t| t * scale + i as i64 * spread / 1_000).collect::<Vec<_>>()
        };
        let timers: Vec<_> = seed.iter().cycle().take(24_000).enumerate().map(later).collect();
        let mut at_once = Told::new();
        let mut task_at_once = task(inputs, &timers);
        let mut in_parts = Told::new();
        let mut task_in_parts = task(inputs, &timers);
        let mut sizes = Vec::new();
        for watermark in watermarks.into_iter().chain([WATERMARK_END]) {
            for input in 0..inputs {
                collect(tell(&mut task_at_once, input, watermark), &mut at_once);
            }
            for input in 0..inputs {
                while task_in_parts.watermark(input) < watermark {
                    let reach = task_in_parts.reach(input, watermark).unwrap();
                    prop_assert!(task_in_parts.watermark(input) < reach && reach <= watermark);
                    let mut part = Told::new();
                    let effects = tell(&mut task_in_parts, input, reach);
                    collect(effects, &mut part);
                    sizes.push(part.len());
                    for (key, told) in part {
                        in_parts.entry(key).or_default().extend(told);
                    }
                }
            }
        }
        prop_assert!(in_parts == at_once, "in parts of {sizes:?} keys");
        let keys = timers.iter().filter(|times| !times.is_empty()).count();
        prop_assert_eq!(at_once.len(), keys);
        let bound = REACH_KEYS + most_at_once(&at_once);
        prop_assert!(sizes.iter().all(|n| *n <= bound), "{sizes:?} over {bound}");
    }
}

#[test]
fn timers_of_many_keys_at_many_instants_are_run_in_several_steps() {
    let timers: Vec<_> = (0..50_000).map(|i| vec![2 * i + 1]).collect();
    let mut task = task(1, &timers);
    let mut steps = Vec::new();
    while !task.is_ended() {
        let reach = task.reach(0, WATERMARK_END).unwrap();
        let mut told = Told::new();
        collect(tell(&mut task, 0, reach), &mut told);
        steps.push(told.len());
    }
    assert_eq!(steps, [REACH_KEYS, REACH_KEYS, REACH_KEYS, 50_000 - 3 * REACH_KEYS]);
}

#[test]
fn the_end_is_let_through_in_several_steps_behind_a_stage_that_assigns_event_time() {
    let timers: Vec<_> = (0..50_000).map(|i| vec![2 * i + 1, 70_000]).collect();
    let mut at_once = Told::new();
    collect(tell(&mut task(1, &timers), 0, WATERMARK_END), &mut at_once);
    let mut task = task_behind_event_time(&timers);
    // A watermark of the input is nothing to the stage behind.
    assert_eq!(task.reach(0, 90_000), Ok(90_000));
    assert!(tell(&mut task, 0, 90_000).is_empty() && !task.is_held());
    assert_eq!(task.reach(0, WATERMARK_END), Ok(WATERMARK_END));
    assert!(tell(&mut task, 0, WATERMARK_END).is_empty());
    let (mut in_parts, mut steps) = (Told::new(), Vec::new());
    while !task.is_ended() {
        assert!(task.is_held());
        // A restart between two steps goes on with the next one.
        let clocks = task.freeze(&mut Changes::default());
        let mut after = task_behind_event_time(&[]);
        after.restore(clocks);
        assert!(after.is_held());
        let mut part = Told::new();
        collect(task.step(Fact::Release, 0).unwrap(), &mut part);
        steps.push(part.values().map(Vec::len).sum::<usize>());
        for (key, told) in part {
            in_parts.entry(key).or_default().extend(told);
        }
    }
    assert!(in_parts == at_once, "in steps of {steps:?}");
    let instant = 50_000;
    assert!(steps.len() >= 4 && steps.iter().all(|n| *n <= REACH_KEYS + instant), "{steps:?}");
    assert!(task.step(Fact::Release, 0).unwrap().is_empty());
}

/// Once the end was said behind the first part of what a stage gave at the end: the others came late.
#[test]
fn what_a_stage_gives_at_the_end_comes_before_the_end() {
    let timers: Vec<_> = (0..5_000).map(|i| vec![2 * i + 1]).collect();
    let nodes = vec![node(Target::Sink(0), Some(IN_ORDER))];
    let mut task = task_of(1, nodes, vec![timers_of(0, 1)], &timers);
    let mut told = Told::new();
    collect(tell(&mut task, 0, WATERMARK_END), &mut told);
    assert_eq!(told.len(), 5_000);
    for (_, time, clock) in told.values().flatten() {
        assert!(clock < time, "a record of {time} after {clock}");
    }
    while !task.is_ended() {
        assert!(task.step(Fact::Release, 0).unwrap().is_empty());
    }
}

#[test]
fn timers_that_wait_for_another_input_hold_up_no_watermark() {
    let timers = vec![vec![501]; 40_000];
    let mut task = task(2, &timers);
    tell(&mut task, 0, 1_000);
    assert_eq!(task.reach(0, 2_000), Ok(2_000));
    tell(&mut task, 0, 2_000);
    // All at one instant: that is as small as a step gets.
    assert_eq!(task.reach(1, 2_000), Ok(501));
    let mut told = Told::new();
    collect(tell(&mut task, 1, 501), &mut told);
    assert_eq!(told.len(), 40_000);
    assert_eq!(task.reach(1, 2_000), Ok(2_000));
}

/// It had counted again after a restart, until it said something: event time stood still.
#[test]
fn an_input_that_is_idle_stays_so_after_a_restart() {
    let told = |input, watermark, idle| Fact::Watermark { input, producer: 0, watermark, idle };
    let mut before = task(2, &[vec![101]]);
    before.step(told(1, 5, true), 0).unwrap();
    before.step(told(0, 50, false), 0).unwrap();
    let clocks = before.freeze(&mut Changes::default());
    let mut after = task(2, &[vec![101]]);
    after.restore(clocks);
    let effects = after.step(told(0, 200, false), 0).unwrap();
    assert_eq!(effects.sinks.len(), 1, "the timer has run");
    // One that comes back counts again.
    after.step(told(1, 210, false), 0).unwrap();
    after.step(told(0, 300, false), 0).unwrap();
    assert_eq!(after.output_watermark(), 210);
}
