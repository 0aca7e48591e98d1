//! What a call costs: the crossing alone, and a stage that does nothing. Times are those of a batch of
//! 1,000 records; `make bench` prints them by record.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use wasmill::runtime::{Runtime, Settings};
use wasmill_abi::StatelessBatch;
use wasmill_core::clock::Policy;
use wasmill_core::keyed::Stage as KeyedStage;
use wasmill_core::keys::Keys;
use wasmill_core::layout::{Edge, Input, InputClock, Layout, Node, Output, Target};
use wasmill_core::limits::Limits;
use wasmill_core::maps::MapStore;
use wasmill_core::operator::Operator;
use wasmill_core::stateless::{Base, FailurePolicy, Stage as StatelessStage};
use wasmill_core::store::Nothing;
use wasmill_core::task::{Fact, Records, Stage, Task};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROWS: usize = 1_000;

fn records(keys: usize, at: i64) -> Records {
    let mut records = Records::default();
    for i in 0..ROWS {
        records.timestamps.push(at + i as i64);
        records.keys.push(format!("user-{:08}", (i * 7919 + at as usize) % keys).as_bytes());
        records.values.push(&[b'x'; 200]);
        records.offsets.push(at + i as i64);
    }
    records
}

fn task(operator: Operator, ports: wasmill_abi::Ports) -> Task {
    let base = Base::new("identity", ports, Limits::default(), FailurePolicy::default());
    let stage = match operator {
        Operator::Stateless(operator) => Stage::Stateless(StatelessStage { base, operator }),
        Operator::Keyed(operator) => {
            let keys = Keys::new(0, Nothing::shared(), 256 << 20, None, false);
            let maps = MapStore::new(0, 0, Nothing::shared());
            Stage::Keyed(Box::new(KeyedStage::new(base, operator, keys, maps)))
        }
    };
    let layout = Layout {
        inputs: vec![Input {
            name: "in".into(),
            partition: 0,
            clock: InputClock::Generated(Policy::default()),
            targets: vec![Target::Node { node: 0, port: 0 }],
            unreadable: None,
        }],
        nodes: vec![Node {
            outputs: vec![Output { targets: vec![Target::Edge(0)], assigns: None }],
            rejects: [1, 1, 1, 1],
            max_age_ms: None,
        }],
        edges: vec![Edge::to(0, 1, false), Edge::to(1, 1, false)],
    };
    Task::new(layout, vec![stage])
}

fn main() {
    let runtime = Arc::new(Runtime::new(None).unwrap());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins");
    let settings = Settings::default();
    let load = |name: &str| {
        let component = runtime.load(&folder.join(format!("{name}.wasm")), false).unwrap();
        runtime.operator(&component, &settings).unwrap()
    };
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .configure_from_args();
    let mut group = criterion.benchmark_group("calls");
    group.throughput(Throughput::Elements(ROWS as u64));

    let (Operator::Stateless(mut identity), _) = load("identity") else {
        panic!("identity is stateless");
    };
    let of = records(1_000, 0);
    let batch = StatelessBatch {
        timestamps: of.timestamps,
        watermarks: vec![0; ROWS],
        keys: of.keys,
        values: of.values,
        ..StatelessBatch::default()
    };
    group.bench_function("abi-crossing-200B-batch-1000", |b| {
        b.iter(|| {
            let reply = identity.process(&batch).unwrap();
            assert_eq!(reply.rows.len(), ROWS, "every record comes back");
        });
    });

    for (name, plugin) in
        [("identity-stage-stateless", "identity"), ("identity-stage-keyed", "identity-keyed")]
    {
        let (operator, ports) = load(plugin);
        let mut task = task(operator, ports);
        let mut at = 0;
        group.bench_function(name, |b| {
            let make = || {
                at += ROWS as i64;
                records(100_000, at)
            };
            let step = |records| {
                let fact = Fact::Records { input: 0, producer: 0, records };
                let effects = task.step(fact, 0).unwrap();
                assert_eq!(effects.appends[0].2.len(), ROWS, "every record comes out");
            };
            b.iter_batched(make, step, BatchSize::SmallInput);
        });
    }
    group.finish();
    criterion.final_summary();
}
