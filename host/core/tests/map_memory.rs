//! Map state that waits to be applied is part of what a stage has in memory.

#![allow(clippy::unwrap_used, missing_docs, reason = "all of it is tests")]

use wasmill_abi::{Column, InputPort, KeyedBatch, KeyedReply, OutputPort, Ports, WATERMARK_START};
use wasmill_core::change::Changes;
use wasmill_core::keyed;
use wasmill_core::keys::Keys;
use wasmill_core::layout::{Edge, Input, InputClock, Layout, Node, Output, Target};
use wasmill_core::limits::Limits;
use wasmill_core::maps::MapStore;
use wasmill_core::operator::{CallError, Common, Keyed, MapAccess};
use wasmill_core::stateless::{Base, FailurePolicy};
use wasmill_core::store::Nothing;
use wasmill_core::task::{Fact, Records, Stage, Task};

const BUDGET: usize = 1 << 20;
const VALUE: usize = 1 << 10;

/// Puts each record's value into its key's map, under the record's event time.
struct Writer;

impl Common for Writer {
    fn reset(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn digest(&self) -> &str {
        "test"
    }
    fn plugin(&self) -> &str {
        "writer"
    }
}

impl Keyed for Writer {
    fn process(
        &mut self,
        batch: &KeyedBatch,
        mut maps: Box<dyn MapAccess>,
    ) -> (Result<KeyedReply, CallError>, Box<dyn MapAccess>) {
        let times: Vec<_> = batch.timestamps.iter().map(|time| time.to_be_bytes()).collect();
        let keys: Column = times.iter().map(|time| &time[..]).collect();
        maps.put(0, &batch.slots, &keys, &batch.values).unwrap();
        (Ok(KeyedReply::default()), maps)
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
        1
    }
}

fn task() -> Task {
    let ports = Ports { inputs: vec![InputPort::default()], outputs: vec![OutputPort::default()] };
    let base = Base::new("writer", ports, Limits::default(), FailurePolicy::default());
    let keys = Keys::new(0, Nothing::shared(), BUDGET, None, true);
    let maps = MapStore::new(0, 1, Nothing::shared());
    let stage = keyed::Stage::new(base, Box::new(Writer), keys, maps);
    let layout = Layout {
        inputs: vec![Input {
            name: "in".into(),
            partition: 0,
            clock: InputClock::Carried(vec![0]),
            targets: vec![Target::Node { node: 0, port: 0 }],
            unreadable: None,
        }],
        nodes: vec![Node {
            outputs: vec![Output { targets: vec![Target::Sink(0)], assigns: None }],
            rejects: [0; 4],
            max_age_ms: None,
        }],
        edges: vec![Edge::to(0, 1, false)],
    };
    Task::new(layout, vec![Stage::Keyed(Box::new(stage))])
}

/// Gives it records of one key, each for an entry of its own.
fn write(task: &mut Task, from: i64, count: i64) {
    let value = [b'v'; VALUE];
    let n = count as usize;
    let records = Records {
        timestamps: (from..from + count).collect(),
        clocks: vec![WATERMARK_START; n],
        keys: (0..n).map(|_| &b"key"[..]).collect(),
        values: (0..n).map(|_| &value[..]).collect(),
        headers: None,
        offsets: (from..from + count).collect(),
    };
    task.step(Fact::Records { input: 0, producer: 0, records }, 0).unwrap();
}

#[test]
fn map_state_that_waits_fills_memory_until_it_is_applied() {
    let mut task = task();
    let mut written = 0;
    while !task.is_full() {
        assert!(written < 2_000, "{} bytes, and memory is not full", task.state_bytes());
        write(&mut task, written, 10);
        written += 10;
    }
    assert!(task.is_pressed());
    let bytes = task.state_bytes();
    assert!(bytes > BUDGET && bytes < BUDGET + 20 * VALUE, "{bytes}");
    // The end of the epoch makes no room: the store has nothing of it yet.
    task.freeze(&mut Changes::default());
    assert_eq!((task.is_full(), task.state_bytes()), (true, bytes));
    task.applied(1);
    assert!(!task.is_full() && !task.is_pressed() && task.state_bytes() < 2 * VALUE);
}

#[test]
fn an_entry_that_is_written_again_counts_once_an_epoch() {
    let mut task = task();
    for _ in 0..3_000 {
        write(&mut task, 7, 1);
    }
    assert!(task.state_bytes() < 2 * VALUE, "{}", task.state_bytes());
    task.freeze(&mut Changes::default());
    write(&mut task, 7, 1);
    let bytes = task.state_bytes();
    assert!(
        bytes > 2 * VALUE && bytes < 3 * VALUE,
        "{bytes}: the open one, and the one that waits"
    );
}
