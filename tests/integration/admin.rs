//! What a running pipeline tells of itself: over HTTP, and through `wasmill status`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{program, root, stdout_of, wasmill};

/// A source that does not end, so that the pipeline stays to be asked.
const PIPELINE: &str = r#"
name = "asked"
[engine]
partitions = 2
checkpoint-interval = "20ms"
[source.raw]
path = "lines.log"
bounded = false
[stage.first]
plugin = "identity"
from = "source.raw"
[topic.middle]
from = "stage.first"
[stage.second]
plugin = "identity"
from = "topic.middle"
[topic.out]
from = "stage.second"
"#;

const LINES: u64 = 3_000;

/// A pipeline that runs as a process, until it is dropped.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(folder: &Path) -> Self {
        let lines: String = (0..LINES).map(|n| format!("line {n}\n")).collect();
        std::fs::write(folder.join("lines.log"), lines).unwrap();
        std::fs::write(folder.join("asked.toml"), PIPELINE).unwrap();
        let mut child = Command::new(program())
            .args(["run", "asked.toml", "--data-dir", "data", "--admin", "127.0.0.1:0"])
            .arg("--plugins")
            .arg(root().join("target/plugins"))
            .current_dir(folder)
            .env("WASMILL_CACHE_DIR", root().join("target/wasmill-cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = errors.next().expect("it says where it listens").unwrap();
        let address = said.strip_prefix("admin: listening on http://");
        let address = address.unwrap_or_else(|| panic!("{said}")).to_owned();
        Self { child, address }
    }

    /// Asks a path; gives the head and the body.
    fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let ask =
            format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address);
        stream.write_all(ask.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.to_owned(), body.to_owned())
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").1).expect("the status is JSON")
    }

    /// Waits until the status is as wanted, and gives it.
    fn wait(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it stays at {status:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sum of a count of a stage over all tasks.
fn count(status: &Value, stage: &str, count: &str) -> u64 {
    let tasks = status["tasks"].as_object().unwrap().values();
    let stages = tasks.flat_map(|task| task["stages"].as_array().unwrap());
    let of = stages.filter(|s| s["name"] == stage);
    of.map(|s| s["counts"][count].as_u64().unwrap()).sum()
}

/// The samples of a metric: the text of the labels, and the value.
pub fn samples<'a>(text: &'a str, name: &str) -> Vec<(&'a str, f64)> {
    let of = |line: &'a str| {
        let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.split_once("} ")?;
        Some((labels, value.parse().expect("a number")))
    };
    text.lines().filter_map(of).collect()
}

#[test]
fn a_running_pipeline_tells_counts_lag_and_commits_by_http_and_as_tables() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path());
    let all = running.wait(|status| count(status, "second", "records_in") == LINES);
    assert_eq!(all["pipeline"], "asked");
    assert_eq!(all["group"], Value::Null);
    assert_eq!(all["records"], LINES);
    let inputs = |status: &Value| -> Vec<Value> {
        let tasks = status["tasks"].as_object().unwrap().values();
        let inputs = tasks.flat_map(|task| task["inputs"].as_array().unwrap().clone());
        inputs.filter(|input| input["topic"] == "middle").collect()
    };
    // What a task tells may be a moment old.
    let all = running.wait(|status| inputs(status).iter().all(|input| input["lag"] == 0));
    let next: u64 = inputs(&all).iter().map(|input| input["next"].as_u64().unwrap()).sum();
    assert_eq!((inputs(&all).len(), next), (2, LINES));
    running.wait(|status| status["workers"]["all"]["commits"]["count"].as_u64() > Some(0));

    assert_eq!(running.get("/healthz").1, "ok\n");
    let (head, text) = running.get("/metrics");
    assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
    let read = samples(&text, "wasmill_read_records_total");
    assert_eq!(read, [("pipeline=\"asked\"", LINES as f64)]);
    let stage = samples(&text, "wasmill_stage_records_in_total");
    let second = stage.iter().filter(|(labels, _)| labels.contains("stage=\"second\""));
    assert_eq!(second.map(|(_, value)| value).sum::<f64>(), LINES as f64);
    let lag = samples(&text, "wasmill_input_lag_offsets");
    assert_eq!(lag.len(), 2, "{text}");
    let commits = samples(&text, "wasmill_commit_latency_seconds_count");
    assert!(commits.len() == 1 && commits[0].1 >= 1.0, "{commits:?}");

    let status = ["status", "--admin", &running.address];
    let table = stdout_of(wasmill(folder.path(), &status));
    assert!(table.starts_with("asked: running for "), "{table}");
    assert!(table.contains(&format!("{LINES} records")), "{table}");
    for expected in ["WATERMARK", "middle", "second", "P99"] {
        assert!(table.contains(expected), "{expected} is not in\n{table}");
    }
    let json = stdout_of(wasmill(folder.path(), &[&status[..], &["--json"]].concat()));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(count(&json, "first", "records_out"), LINES);
}

#[test]
fn where_nobody_answers_the_error_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("asked.toml"), PIPELINE).unwrap();
    // Bound and not listening to HTTP: nobody else can take the port meanwhile.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let failed = |args: &[&str]| {
        let output = wasmill(folder.path(), args);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let nowhere = failed(&["status", "asked.toml"]);
    assert!(nowhere.contains("has no engine.admin") && nowhere.contains("--admin"), "{nowhere}");
    std::fs::write(folder.path().join("lines.log"), "").unwrap();
    let plugins = root().join("target/plugins").display().to_string();
    let run = ["run", "asked.toml", "--data-dir", "data", "--plugins", &plugins];
    let in_use = failed(&[&run[..], &["--admin", &address]].concat());
    assert!(in_use.contains(&address) && in_use.contains("engine.admin"), "{in_use}");
    drop(taken);
    let silent = failed(&["status", "--admin", &address]);
    assert!(silent.contains("no running pipeline answers at"), "{silent}");
    assert!(silent.contains(&format!("wasmill run FILE --admin {address}")), "{silent}");
}
