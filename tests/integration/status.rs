//! What a run on Kafka tells of itself, and what Kafka tells where no instance does.

use std::process::{Command, Output};

use serde_json::Value;

use crate::admin::samples;
use crate::ledger::{self, PARTITIONS};
use crate::support::{program, root, stdout_of};
use crate::world::World;

/// `wasmill status FILE`.
fn status(world: &World, address: &str, more: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(["status", "pipeline.toml"]).current_dir(world.path("."));
    command.arg("--plugins").arg(root().join("target/plugins"));
    command.args(["--set", &format!("kafka.brokers={}", world.cluster.bootstrap())]);
    command.args(["--set", &format!("engine.admin={address}")]);
    command.args(more).output().expect("the program starts")
}

#[test]
fn a_run_on_kafka_tells_its_lag_and_kafka_does_so_where_it_has_ended() {
    let Some(world) = ledger::world("a_run_on_kafka_tells") else { return };
    let mut producer = ledger::producer(&world);
    ledger::send_numbers(&mut producer, 0..600);
    let instance = world.start("a", &[]);
    let inputs = |status: &Value| -> Vec<Value> {
        let tasks = status["tasks"].as_object().unwrap().values();
        tasks.flat_map(|task| task["inputs"].as_array().unwrap().clone()).collect()
    };
    instance.wait("all numbers", |status| {
        let inputs = inputs(status);
        inputs.len() == 6 && inputs.iter().all(|i| i["next"] == 100 && i["lag"] == 0)
    });
    ledger::wait_for(&world, 600);

    let text = instance.metrics();
    let of = |metric: &str, label: &str| -> Vec<f64> {
        let all = samples(&text, metric);
        assert!(!all.is_empty(), "no {metric} in {text}");
        for (labels, _) in &all {
            assert!(labels.contains(r#"pipeline="ledger",group="ledger""#), "{labels}");
        }
        all.iter().filter(|(labels, _)| labels.contains(label)).map(|(_, v)| *v).collect()
    };
    let each = |value: f64| vec![value; PARTITIONS as usize];
    assert_eq!(of("wasmill_input_lag_offsets", r#"topic="in""#), each(0.0));
    assert_eq!(of("wasmill_input_next_offset", r#"topic="in""#), each(100.0));
    assert_eq!(of("wasmill_stage_records_in_total", r#"stage="ledger""#), each(100.0));
    assert_eq!(of("wasmill_task_assignments_total", "task="), each(1.0));
    // That of number 594 to 599 is the greatest event time, less 1 ms.
    let last = |p: u32| (ledger::BEGIN_MS + i64::from(594 + p) - 1) as f64 / 1e3;
    let watermarks = of("wasmill_task_watermark_timestamp_seconds", "task=");
    assert_eq!(watermarks, (0..PARTITIONS).map(last).collect::<Vec<_>>());
    assert!(of("wasmill_commit_latency_seconds_count", r#"worker="0""#)[0] >= 1.0);
    assert!(of("wasmill_worker_rebalances_total", r#"worker="0""#)[0] >= 1.0);
    assert_eq!(of("wasmill_worker_rollbacks_total", r#"worker="0""#), [0.0]);

    let address = instance.address().to_owned();
    let table = stdout_of(status(&world, &address, &[]));
    assert!(table.starts_with("ledger on Kafka, group ledger: running for "), "{table}");
    for expected in ["600 records", "WATERMARK", "LAG", "ledger", "P99"] {
        assert!(table.contains(expected), "{expected} is not in\n{table}");
    }
    let told: Value =
        serde_json::from_str(&stdout_of(status(&world, &address, &["--json"]))).unwrap();
    assert_eq!((&told["group"], &told["records"]), (&"ledger".into(), &600.into()));
    assert_eq!(inputs(&told).len(), 6);

    instance.end();
    ledger::send_numbers(&mut producer, 600..660);
    let output = status(&world, &address, &[]);
    let note = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(note.contains(&format!("no running pipeline answers at {address}")), "{note}");
    let table = stdout_of(output);
    assert!(table.contains("LAG") && table.contains("110"), "{table}");
    let lag = stdout_of(status(&world, &address, &["--json"]));
    let lag: Vec<Value> = serde_json::from_str(&lag).unwrap();
    assert_eq!(lag.len(), 6);
    for (partition, lag) in lag.iter().enumerate() {
        let told = [&lag["topic"], &lag["partition"], &lag["committed"], &lag["end"], &lag["lag"]];
        assert_eq!(
            told,
            [&Value::from("in"), &partition.into(), &100.into(), &110.into(), &10.into()]
        );
    }
}
