//! What a call costs: the crossing alone, and a stage that does nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

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

use crate::figure::{Goal, median, print};

const ROWS: usize = 1_000;
const ROUNDS: usize = 9;
const CALLS: usize = 400;

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

/// Nanoseconds a record that calls take, the median of several rounds. What `make` takes to make the
/// parameter of a call does not count.
fn per_record<T>(
    mut make: impl FnMut() -> T,
    mut call: impl FnMut(T) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut taken = Duration::ZERO;
        for _ in 0..CALLS {
            let parameter = make();
            let start = Instant::now();
            call(parameter)?;
            taken += start.elapsed();
        }
        rounds.push(taken.as_nanos() as f64 / (CALLS * ROWS) as f64);
    }
    Ok(median(rounds))
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

/// Prints the figures.
pub fn run() -> anyhow::Result<()> {
    let runtime = Arc::new(Runtime::new(None)?);
    let folder = crate::root().join("target/plugins");
    let settings = Settings::default();
    let load = |name: &str| -> anyhow::Result<(Operator, wasmill_abi::Ports)> {
        let component = runtime.load(&folder.join(format!("{name}.wasm")), false)?;
        Ok(runtime.operator(&component, &settings)?)
    };

    let (Operator::Stateless(mut identity), _) = load("identity")? else {
        anyhow::bail!("identity is stateless");
    };
    let of = records(1_000, 0);
    let batch = StatelessBatch {
        timestamps: of.timestamps,
        watermarks: vec![0; ROWS],
        keys: of.keys,
        values: of.values,
        ..StatelessBatch::default()
    };
    let crossing = per_record(
        || (),
        |()| {
            let reply = identity.process(&batch)?;
            anyhow::ensure!(reply.rows.len() == ROWS, "every record comes back");
            Ok(())
        },
    )?;
    print("abi-crossing-200B-batch-1000", crossing, "ns/record", Goal::Most(40.0));

    for (name, plugin) in
        [("identity-stage-stateless", "identity"), ("identity-stage-keyed", "identity-keyed")]
    {
        let (operator, ports) = load(plugin)?;
        let mut task = task(operator, ports);
        let mut at = 0;
        let make = || {
            at += ROWS as i64;
            records(100_000, at)
        };
        let whole = per_record(make, |records| {
            let effects = task.step(Fact::Records { input: 0, producer: 0, records }, 0)?;
            anyhow::ensure!(effects.appends[0].2.len() == ROWS, "every record comes out");
            Ok(())
        })?;
        print(name, whole, "ns/record", Goal::Most(150.0));
    }
    Ok(())
}
