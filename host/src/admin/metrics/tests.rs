use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wasmill_core::metrics;

use super::*;

fn status() -> Status {
    let counts = metrics::Stage { records_in: 10, records_out: 8, late: 2, ..Default::default() };
    let task = Task {
        watermark_ms: Some(1_500),
        stages: vec![Stage { name: "clean".into(), counts }],
        inputs: vec![
            Input {
                topic: "raw".into(),
                partition: 3,
                next: Some(40),
                lag: Some(2),
                watermark_ms: None,
            },
            Input { topic: "source.x".into(), watermark_ms: Some(i64::MAX), ..Default::default() },
        ],
        ..Task::default()
    };
    let mut commits = Latency::default();
    for ms in [4, 12, 12, 90_000] {
        commits.observe(Duration::from_millis(ms));
    }
    Status {
        pipeline: "weblog".into(),
        group: Some("g".into()),
        records: 12,
        tasks: BTreeMap::from([("0-3".to_owned(), task)]),
        assignments: BTreeMap::from([("0-3".to_owned(), 2)]),
        workers: BTreeMap::from([
            ("0".to_owned(), Worker { rebalances: 4, commits, ..Worker::default() }),
            ("1".to_owned(), Worker::default()),
        ]),
        restores: vec![Restore {
            topic: "g-1-changelog".into(),
            partition: 3,
            from: 100,
            position: 150,
            end: 300,
        }],
        standbys: BTreeMap::from([
            ("1-4".to_owned(), standby(4, Some(12))),
            ("1-5".to_owned(), standby(5, None)),
        ]),
        ..Status::default()
    }
}

fn standby(partition: u32, lag: Option<u64>) -> Standby {
    Standby { topic: "g-1-changelog".into(), partition, position: 70, lag }
}

/// A sample: its name, its labels, its value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads the text as Prometheus does; panics where it is not what the specification says.
fn parse(text: &str) -> Vec<Sample> {
    let body = text.strip_suffix("# EOF\n").expect("the text ends with # EOF");
    let mut samples: Vec<Sample> = Vec::new();
    let mut families = BTreeSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.contains(' '), "no help: {line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').expect("a type");
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            (family, kind) = (name.to_owned(), of.to_owned());
        } else {
            let sample = sample(line);
            let suffix = sample.0.strip_prefix(&family).expect("samples follow their type");
            let known: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_sum", "_count", "_bucket"],
                other => panic!("type {other}"),
            };
            assert!(known.contains(&suffix), "{line} in a {kind}");
            let twice = samples.iter().any(|s| s.0 == sample.0 && s.1 == sample.1);
            assert!(!twice, "{line} comes twice");
            samples.push(sample);
        }
    }
    samples
}

fn sample(line: &str) -> Sample {
    let (name, rest) = line.split_once('{').expect("every sample has labels");
    let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    assert!(is_name(name), "{line}");
    let (mut labels, mut rest) = (BTreeMap::new(), rest);
    loop {
        let (key, after) = rest.split_once("=\"").expect("a value in quotes");
        assert!(is_name(key), "{line}");
        let (value, after) = after.split_once('"').expect("the quotes are closed");
        assert!(!value.contains('\\'), "{line}");
        let before = labels.insert(key.to_owned(), value.to_owned());
        assert!(before.is_none(), "{key} comes twice in {line}");
        rest = after;
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => break,
        }
    }
    let value = rest.strip_prefix("} ").expect("a value");
    (name.to_owned(), labels, value.parse().expect("a number"))
}

/// The only sample of a name that has these labels.
fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |s: &&Sample| {
        s.0 == name && labels.iter().all(|(k, v)| s.1.get(*k).is_some_and(|found| found == v))
    };
    let found: Vec<&Sample> = samples.iter().filter(has).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
    found[0].2
}

#[test]
fn the_text_is_what_prometheus_reads_and_every_sample_names_pipeline_and_group() {
    let samples = parse(&text(status()));
    for (name, labels, _) in &samples {
        assert!(name.starts_with("wasmill_"), "{name}");
        assert_eq!(labels.get("pipeline").map(String::as_str), Some("weblog"), "{name}");
        assert_eq!(labels.get("group").map(String::as_str), Some("g"), "{name}");
    }
    assert_eq!(value(&samples, "wasmill_read_records_total", &[]), 12.0);
    let stage = [("task", "0-3"), ("stage", "clean")];
    assert_eq!(value(&samples, "wasmill_stage_records_in_total", &stage), 10.0);
    let late = [("task", "0-3"), ("stage", "clean"), ("kind", "late")];
    assert_eq!(value(&samples, "wasmill_stage_rejected_records_total", &late), 2.0);
    let input = [("task", "0-3"), ("topic", "raw"), ("partition", "3")];
    assert_eq!(value(&samples, "wasmill_input_lag_offsets", &input), 2.0);
    assert_eq!(value(&samples, "wasmill_input_next_offset", &input), 40.0);
    assert_eq!(value(&samples, "wasmill_task_watermark_timestamp_seconds", &[]), 1.5);
    assert_eq!(value(&samples, "wasmill_task_assignments_total", &[("task", "0-3")]), 2.0);
    assert_eq!(value(&samples, "wasmill_worker_rebalances_total", &[("worker", "0")]), 4.0);
    let changelog = [("topic", "g-1-changelog"), ("partition", "3")];
    assert_eq!(value(&samples, "wasmill_restore_ratio", &changelog), 0.25);
    let copy = [("task", "1-4"), ("topic", "g-1-changelog"), ("partition", "4")];
    assert_eq!(value(&samples, "wasmill_standby_lag_offsets", &copy), 12.0);
    assert_eq!(value(&samples, "wasmill_standby_position", &copy), 70.0);
}

#[test]
fn the_buckets_of_a_histogram_add_up_also_of_a_worker_that_has_not_committed() {
    let samples = parse(&text(status()));
    let bucket = |worker, le| {
        let labels = [("worker", worker), ("le", le)];
        value(&samples, "wasmill_commit_latency_seconds_bucket", &labels)
    };
    let found = ["0.003", "0.005", "0.015", "30.0", "+Inf"].map(|le| bucket("0", le));
    assert_eq!(found, [0.0, 1.0, 3.0, 3.0, 4.0]);
    assert_eq!(bucket("1", "+Inf"), 0.0);
    let of = [("worker", "0")];
    assert_eq!(value(&samples, "wasmill_commit_latency_seconds_count", &of), 4.0);
}

#[test]
fn what_is_not_known_has_no_sample() {
    let samples = parse(&text(status()));
    let of = |name: &str| samples.iter().filter(|s| s.0 == name).count();
    assert_eq!(of("wasmill_input_lag_offsets"), 1, "nothing is known of the file's");
    assert_eq!(of("wasmill_input_watermark_timestamp_seconds"), 0, "one at each end of time");
    assert_eq!(of("wasmill_standby_lag_offsets"), 1, "of the other one there is no answer yet");
    let nothing = parse(&text(Status { pipeline: "p".into(), ..Status::default() }));
    let names: BTreeSet<_> = nothing.iter().map(|s| s.0.as_str()).collect();
    let known =
        ["wasmill_read_bytes_total", "wasmill_read_records_total", "wasmill_uptime_seconds"];
    assert_eq!(names, BTreeSet::from(known));
    assert!(nothing.iter().all(|s| !s.1.contains_key("group")));
}
