//! Savepoints: a pipeline goes on from one as if nothing had happened since, in its own group or
//! another, and whatever can't be restored is an error that leaves nothing half done unnoticed.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ledger::{ACCOUNTS, BEGIN_MS, Feed, PARTITIONS, wait_for, wait_for_more};
use crate::support::{self, Record, by_key, program, root, stdout_of};
use crate::world::{Instance, TIMEOUT, World};

/// Two parts with a topic of frames between them, the second with state of all kinds.
const PIPELINE: &str = r#"
name = "ledger"
[engine]
partitions = 6
[source.in]
topic = "in"
[stage.pass]
plugin = "identity"
from = "source.in"
[stage.ledger]
plugin = "ledger"
from = "stage.pass"
key-by = "account"
config = { span-ms = 3600000, residues = 5 }
[topic.out]
from = "stage.ledger"
"#;

/// What runs the pipeline to where its input ends now.
const BOUNDED: [&str; 2] = ["--set", "source.in.bounded=true"];

fn world(test: &str) -> Option<World> {
    let world = World::new(test, PIPELINE)?;
    world.make("in", PARTITIONS, &[]);
    world.make("out", PARTITIONS, &[]);
    Some(world)
}

fn savepoint(world: &World, verb: &str, more: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(["savepoint", verb]).current_dir(world.path("."));
    command.env("WASMILL_CACHE_DIR", root().join("target/wasmill-cache"));
    command.env("WASMILL_SAVEPOINTS", world.path("savepoints"));
    if verb != "ls" {
        command.arg("pipeline.toml").arg("--plugins").arg(root().join("target/plugins"));
        command.args(["--set", &format!("kafka.brokers={}", world.cluster.bootstrap())]);
    }
    command.args(more).output().expect("the program starts")
}

fn refused(output: &Output, words: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it is not refused");
    for word in words {
        assert!(error.contains(word), "{word:?} in {error}");
    }
}

/// Frames that were on their way when a savepoint was taken.
fn frames(world: &World, name: &str) -> u64 {
    let path = world.path(&format!("savepoints/{name}/savepoint.json"));
    let manifest: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let channels = manifest["channels"].as_array().unwrap().iter();
    channels.map(|channel| channel["frames"]["count"].as_u64().unwrap()).sum()
}

/// Where the output ends in each partition.
fn ends(world: &World) -> BTreeMap<u64, i64> {
    let admin = world.admin();
    let end = |p: u32| (u64::from(p), admin.offsets("out", p).unwrap().end);
    (0..admin.partitions("out").unwrap().unwrap()).map(end).collect()
}

/// What came out behind these offsets.
fn since(world: &World, ends: &BTreeMap<u64, i64>) -> Vec<Record> {
    let behind =
        |r: &Record| r["offset"].as_i64().unwrap() >= ends[&r["partition"].as_u64().unwrap()];
    let mut records = world.topic("out");
    records.retain(behind);
    records
}

/// The numbers below `total` of each account from some number on, each once and in order, from a state
/// that had all before it. Returns how many.
fn assert_tail(records: &[Record], total: u64) -> u64 {
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let mut found = 0;
    for record in records {
        // What an audit or the end of a span gives tells of no number.
        let Some(n) = record["value"]["n"].as_u64() else { continue };
        let count = record["value"]["count"].as_u64().unwrap();
        let account = n % ACCOUNTS;
        assert_eq!(n, account + (count - 1) * ACCOUNTS, "by its count: {record}");
        if let Some(before) = counts.insert(account, count) {
            assert_eq!(count, before + 1, "{record}");
        }
        found += 1;
    }
    for (account, count) in counts {
        let all = total / ACCOUNTS + u64::from(account < total % ACCOUNTS);
        assert_eq!(count, all, "the last number of account {account}");
    }
    found
}

#[test]
fn a_pipeline_goes_on_from_a_savepoint_as_if_nothing_had_happened_since() {
    let Some(world) = world("a_pipeline_goes_on") else { return };
    let instances = [world.start("a", &[]), world.start("b", &[])];
    let feed = Feed::start(&world, 2_000);
    let mut under_way = 0;
    for name in ["one", "two", "three"] {
        wait_for_more(&world);
        stdout_of(savepoint(&world, "create", &["--name", name]));
        under_way += frames(&world, name);
    }
    assert!(under_way > 0, "a savepoint of a pipeline under load has frames that are on their way");
    wait_for_more(&world);
    let total = feed.end();
    wait_for(&world, total);
    refused(&savepoint(&world, "restore", &["one", "--replace"]), &["2 members", "group ledger"]);
    instances.into_iter().for_each(Instance::end);
    assert_eq!(assert_tail(&world.topic("out"), total), total);

    // Into another group, from topics of its own.
    let other = ["--set", "kafka.group=other"];
    let restored = |name: &'static str, more: &[&str], data_dir: &str, run: &[&str]| {
        stdout_of(savepoint(&world, "restore", &[&[name], more].concat()));
        let before = ends(&world);
        world.run(data_dir, &[&BOUNDED[..], run].concat());
        let records = since(&world, &before);
        let found = assert_tail(&records, total);
        assert!((1..total).contains(&found), "{found} of {total} numbers came again from {name}");
        found
    };
    let one = restored("one", &other, "other", &other);
    refused(
        &savepoint(&world, "restore", &[&["two"], &other[..]].concat()),
        &["group other has state already", "--replace"],
    );
    let two = restored("two", &[&["--replace"], &other[..]].concat(), "other", &other);
    assert!(two < one, "{two} numbers came after the second savepoint, {one} after the first");

    // Back into its own, whose instances have state of later times on their disks.
    let three = restored("three", &["--replace"], "a", &[]);
    assert!(three < two, "{three} numbers came after the third savepoint, {two} after the second");
    let again = restored("one", &["--replace"], "b", &[]);
    assert_eq!(again, one, "numbers that come from the same savepoint");
}

/// Has an instance process some numbers and end; gives how many.
fn run_for_a_while(world: &World) -> u64 {
    let feed = Feed::start(world, 1_000);
    std::thread::sleep(Duration::from_millis(500));
    let total = feed.end();
    let instance = world.start("a", &[]);
    wait_for(world, total);
    instance.end();
    total
}

#[test]
fn a_savepoint_of_a_stopped_pipeline_leaves_nothing_to_be_done_again() {
    let Some(world) = world("a_savepoint_of_a_stopped") else { return };
    refused(&savepoint(&world, "create", &[]), &["group ledger has no state", "run the pipeline"]);
    let total = run_for_a_while(&world);
    let text = stdout_of(savepoint(&world, "create", &["--name", "end", "--json"]));
    let made: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&made["name"], &made["group"]), (&"end".into(), &"ledger".into()));
    refused(&savepoint(&world, "create", &["--name", "end"]), &["end", "is there already"]);
    let listed = stdout_of(savepoint(&world, "ls", &["--json"]));
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap(), made);
    refused(&savepoint(&world, "restore", &["and"]), &["no savepoint \"and\"", "it has end"]);

    let other = ["--set", "kafka.group=other"];
    stdout_of(savepoint(&world, "restore", &[&["end"], &other[..]].concat()));
    let before = ends(&world);
    let instance = world.start("other", &other);
    instance.wait_tasks(12);
    let mut producer = crate::ledger::producer(&world);
    crate::ledger::send_numbers(&mut producer, total..total + ACCOUNTS);
    wait_for(&world, total + ACCOUNTS);
    instance.end();
    let records = since(&world, &before);
    assert_eq!(assert_tail(&records, total + ACCOUNTS), ACCOUNTS, "only what came later");

    // The same in a third group, by one command.
    let (before, data_dir) = (ends(&world), world.path("third"));
    let third = ["--set", "kafka.group=third", "--data-dir", data_dir.to_str().unwrap()];
    let run = [&["end", "--run", "--workers", "1"], &third[..], &BOUNDED].concat();
    let output = savepoint(&world, "restore", &run);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    stdout_of(output);
    assert!(said.contains("group third stands where savepoint end was taken"), "{said}");
    assert!(data_dir.join("instance").exists(), "it ran in its data directory: {said}");
    let records = since(&world, &before);
    assert_eq!(assert_tail(&records, total + ACCOUNTS), ACCOUNTS, "only what came later");
}

#[test]
fn what_can_not_be_restored_is_said_and_half_a_restore_never_runs() {
    let Some(world) = world("what_can_not_be_restored") else { return };
    let total = run_for_a_while(&world);
    stdout_of(savepoint(&world, "create", &["--name", "end"]));

    let renamed = PIPELINE.replace("stage.ledger", "stage.book");
    std::fs::write(world.path("pipeline.toml"), renamed).unwrap();
    let words = ["another shape", "sub-topology 1", "\"ledger\"", "\"book\""];
    refused(&savepoint(&world, "restore", &["end", "--replace"]), &words);
    std::fs::write(world.path("pipeline.toml"), PIPELINE).unwrap();

    // A file that is cut short: found out in the middle of the restore.
    let folder = world.path("savepoints/end");
    let states = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let is_state = |path: &PathBuf| path.to_string_lossy().contains("state-1-");
    let last = states.filter(is_state).max().unwrap();
    let whole = std::fs::read(&last).unwrap();
    std::fs::write(&last, &whole[..whole.len() / 2]).unwrap();
    let name = last.file_name().unwrap().to_str().unwrap();
    let other = ["--set", "kafka.group=other"];
    let restore = [&["end"], &other[..]].concat();
    refused(&savepoint(&world, "restore", &restore), &[name, "blocks still expected"]);
    let run = world.wasmill("run", "other", &[&BOUNDED[..], &other].concat());
    refused(&run, &["savepoint end", "begun and not finished", "--replace"]);
    let create = [&["--name", "half"], &other[..]].concat();
    refused(&savepoint(&world, "create", &create), &["begun and not finished"]);

    std::fs::write(&last, &whole).unwrap();
    let restore = [&["end", "--replace"], &other[..]].concat();
    stdout_of(savepoint(&world, "restore", &restore));
    let before = ends(&world);
    world.run("other", &[&BOUNDED[..], &other].concat());
    assert_eq!(assert_tail(&since(&world, &before), total), 0, "everything was in the savepoint");
}

/// Writes numbers into the input on the embedded log, and runs the pipeline until `total` came out.
fn fold(dir: &Path, numbers: Range<u64>, total: usize) -> Vec<Record> {
    let mut lines = String::new();
    for n in numbers {
        let (account, time) = (n % ACCOUNTS, BEGIN_MS + n.cast_signed());
        let value = format!(r#"{{"account":"a{account:02}","n":{n}}}"#);
        let line =
            serde_json::json!({ "key": account.to_string(), "value": value, "timestamp": time });
        lines += &format!("{line}\n");
    }
    let data = dir.join("data");
    let data = data.to_str().unwrap();
    let mut write = Command::new(program());
    write.args(["topic", "write", "in", "--partitions", "2", "--data-dir", data]);
    let mut write = write.stdin(Stdio::piped()).spawn().unwrap();
    write.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(write.wait().unwrap().success());
    let mut run = Command::new(program());
    run.args(["run", "pipeline.toml", "--data-dir", data]).arg("--plugins");
    run.arg(root().join("target/plugins")).current_dir(dir);
    let mut run = run.stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let came = || {
        let read = ["topic", "read", "out", "--data-dir", data];
        support::wasmill(dir, &read).stdout.split(|byte| *byte == b'\n').count() - 1
    };
    while came() < total && begun.elapsed() < TIMEOUT {
        std::thread::sleep(Duration::from_millis(50));
    }
    let id = run.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert!(run.wait().unwrap().success());
    assert_eq!(came(), total, "records that came");
    support::topic(&dir.join("data"), "out")
}

#[test]
fn on_the_embedded_log_a_stopped_pipeline_goes_back_to_its_savepoint() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let text = format!("{PIPELINE}partitions = 2\n").replace("partitions = 6", "partitions = 2");
    std::fs::write(dir.join("pipeline.toml"), text).unwrap();
    let savepoint = |args: &[&str]| {
        let plugins = root().join("target/plugins").display().to_string();
        let fixed = ["--savepoints", "kept", "--data-dir", "data", "--plugins", &plugins];
        support::wasmill(dir, &[&["savepoint"], args, &fixed].concat())
    };
    refused(&savepoint(&["create", "pipeline.toml"]), &["no log", "run the pipeline first"]);
    let first = fold(dir, 0..600, 600);
    assert_eq!(assert_tail(&first, 600), 600);
    stdout_of(savepoint(&["create", "pipeline.toml", "--name", "one"]));
    let second = fold(dir, 600..1_000, 1_000);
    assert_eq!(assert_tail(&second, 1_000), 1_000);
    refused(&savepoint(&["restore", "pipeline.toml", "one"]), &["has a log already", "--replace"]);
    stdout_of(savepoint(&["restore", "pipeline.toml", "one", "--replace"]));
    assert!(support::topic(&dir.join("data"), "out") == first, "the topics are what they were");
    let again = fold(dir, 600..1_000, 1_000);
    assert!(by_key(&again) == by_key(&second), "what comes again is what came");
}
