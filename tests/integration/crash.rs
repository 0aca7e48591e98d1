//! A pipeline that is killed at any instant, again and again, gives what one gives that was left in
//! peace: each record once, in order, in topics, files and state.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::support::{self, Record, by_key, clickstream, program, root, topic};

const PIPELINE: &str = r#"
name = "crash"
[engine]
partitions = 4
checkpoint-interval = "20ms"
cache = "512MiB"
[source.raw]
path = "access.log"
out-of-orderness = "60s"
[topic.raw]
from = "source.raw"
partitions = 1
[stage.clean]
plugin = "clean"
from = "topic.raw"
[topic.clean]
from = "stage.clean"
[stage.enrich]
plugin = "enrich"
from = "topic.clean"
config = { derive = [{ field = "section", from = "path", as = "first-segment" }] }
[stage.sessionize]
plugin = "sessionize"
from = "stage.enrich"
max-age = "168h"
config = { gap = "2m" }
[topic.live]
from = "stage.sessionize.live"
[topic.sessions]
from = "stage.sessionize.final"
[sink.sessions]
from = "stage.sessionize.final"
path = "SESSIONS"
format = "record"
[stage.pages]
plugin = "aggregate"
from = "topic.live"
key-by = "path"
config = { measure = "pages", window = { size = "1m" } }
[topic.pages]
from = "stage.pages"
[stage.top]
plugin = "aggregate"
from = "stage.pages"
key-by = { constant = "all" }
config = { measure = "top", top = 5 }
[topic.top]
from = "stage.top"
partitions = 1
[stage.dispatch]
plugin = "dispatch"
from = "topic.sessions"
[stage.dispatch.config]
rules = [{ to = "bounced", when = { field = "events", equals = 1 } }]
default = "other"
[topic.bounced]
from = "stage.dispatch.bounced"
[topic.other]
from = "stage.dispatch.other"
[sink.top]
from = "stage.top"
path = "TOP"
format = "record"
"#;

const TOPICS: [&str; 12] = [
    "raw", "clean", "live", "sessions", "pages", "top", "bounced", "other", "dead", "invalid",
    "late", "expired",
];

/// Records by topic or file, then by key.
type Outputs = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// A folder with a log and the pipeline.
struct Case {
    dir: tempfile::TempDir,
    cache: &'static str,
}

impl Case {
    fn new(config: &wasmill_generate::Config, cache: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("access.log"), spoiled(&clickstream(config))).unwrap();
        Self { dir, cache }
    }

    fn data_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The pipeline as a process, its output files named for the data directory.
    fn command(&self, name: &str) -> Command {
        let text = PIPELINE
            .replace("SESSIONS", &format!("{name}-sessions-{{partition}}.jsonl"))
            .replace("TOP", &format!("{name}-top.jsonl"))
            .replace("512MiB", self.cache);
        let pipeline = self.dir.path().join(format!("{name}.toml"));
        std::fs::write(&pipeline, text).unwrap();
        let mut command = Command::new(program());
        command
            .arg("run")
            .arg(pipeline)
            .arg("--data-dir")
            .arg(self.data_dir(name))
            .arg("--plugins")
            .arg(root().join("target/plugins"))
            .args(["--json", "--workers", "2"])
            .current_dir(self.dir.path())
            .env("WASMILL_CACHE_DIR", root().join("target/wasmill-cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs to the end; gives how long that took.
    fn run(&self, name: &str) -> Duration {
        let start = Instant::now();
        let output = self.command(name).output().unwrap();
        let elapsed = start.elapsed();
        let summary = support::stdout_of(output);
        let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
        assert_eq!(summary["complete"], true, "{summary}");
        elapsed
    }

    /// Starts it, and kills it after a while. True when it ended before.
    fn kill_after(&self, name: &str, delay: Duration) -> bool {
        let mut child = self.command(name).spawn().unwrap();
        let start = Instant::now();
        let ended = loop {
            if child.try_wait().unwrap().is_some() {
                break true;
            }
            let Some(left) = delay.checked_sub(start.elapsed()) else { break false };
            std::thread::sleep(left.min(Duration::from_millis(2)));
        };
        // SIGKILL: nothing can be tidied up.
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || output.status.code().is_none(), "{name}: {errors}");
        ended && output.status.success()
    }

    /// Everything that came out, by topic or file, then by key.
    fn outputs(&self, name: &str) -> Outputs {
        let mut outputs = BTreeMap::new();
        for topic_name in TOPICS {
            let mut records = topic(&self.data_dir(name), topic_name);
            assert_offsets_are_contiguous(topic_name, &records);
            if ["raw", "dead", "invalid"].contains(&topic_name) {
                // The time at which a line was read is another each time.
                records.iter_mut().for_each(|record| record["timestamp"] = 0.into());
            }
            outputs.insert(format!("topic {topic_name}"), by_key(&records));
        }
        let files = ["sessions-0", "sessions-1", "sessions-2", "sessions-3", "top"];
        for file in files {
            let path = self.dir.path().join(format!("{name}-{file}.jsonl"));
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.ends_with('\n'), "{} ends in the middle of a line", path.display());
            let records: Vec<Record> =
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            outputs.insert(format!("file {file}"), by_key(&records));
        }
        outputs
    }

    fn assert_same(&self, name: &str, peaceful: &Outputs) {
        let killed = self.outputs(name);
        for (output, expected) in peaceful {
            let got = &killed[output];
            let count = |keys: &BTreeMap<String, Vec<String>>| keys.values().map(Vec::len).sum();
            let (found, wanted): (usize, usize) = (count(got), count(expected));
            assert_eq!(found, wanted, "number of records in {output} of {name}");
            assert!(got == expected, "{output} of {name} has other records, or in another order");
        }
    }

    /// When the pipeline committed last.
    fn committed(&self, name: &str) -> Option<SystemTime> {
        self.data_dir(name).join("log/COMMIT").metadata().ok()?.modified().ok()
    }

    /// The number of state files to which something was applied.
    fn applied_states(&self, name: &str) -> u64 {
        let folder = self.data_dir(name).join("state");
        let mut applied = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let state = wasmill::store::State::open(&entry.unwrap().path(), 1 << 20).unwrap();
            applied += u64::from(state.applied().unwrap() > 0);
        }
        applied
    }
}

/// Puts lines in between that break a rule, come too late, and are too old.
fn spoiled(log: &str) -> String {
    let mut text = String::with_capacity(log.len() + log.len() / 50);
    for (i, line) in log.lines().enumerate() {
        text += line;
        text.push('\n');
        let other = match i % 200 {
            50 => line.replace("\"GET ", "\"BREW "),
            100 => line.replace("17/May/2015", "16/May/2015"),
            150 => line.replace("17/May/2015", "17/May/2014"),
            _ => continue,
        };
        text += &other;
        text.push('\n');
    }
    text
}

fn assert_offsets_are_contiguous(name: &str, records: &[Record]) {
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for record in records {
        let next = next.entry(record["partition"].as_u64().unwrap()).or_default();
        assert_eq!(record["offset"].as_u64(), Some(*next), "offsets of topic {name}");
        *next += 1;
    }
}

/// Delays that are random, but the same for a seed.
struct Delays(TestRng);

impl Delays {
    fn new() -> Self {
        let seed = std::env::var("WASMILL_SEED").ok().map_or_else(
            || {
                u64::from(std::process::id())
                    ^ (std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64)
            },
            |seed| seed.parse().expect("WASMILL_SEED is a number"),
        );
        eprintln!("WASMILL_SEED={seed} kills at the same delays again");
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    fn up_to(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.0.next_u64() % (longest.as_micros() as u64 + 1))
    }
}

/// Kills a pipeline until it has been killed so often while it was at work, in as many data
/// directories as that takes; lets each come to its end and compares. Gives the data directories.
fn kill_often(case: &Case, kills: usize) -> Vec<String> {
    let mut delays = Delays::new();
    let typical = case.run("peaceful");
    let peaceful = case.outputs("peaceful");
    for (output, keys) in &peaceful {
        assert!(!keys.is_empty(), "{output} has to have records, or comparing it can't fail");
    }
    let mut longest = typical / 2;
    let mut names = Vec::new();
    let mut killed = 0;
    while killed < kills {
        let name = format!("killed-{}", names.len());
        let (mut here, mut before) = (0, None);
        while killed < kills && !case.kill_after(&name, delays.up_to(longest)) {
            // Only those count that hit a pipeline which had something to lose.
            let committed = case.committed(&name);
            if committed == before {
                longest = longest * 9 / 8;
            }
            killed += usize::from(committed != before);
            before = committed;
            here += 1;
        }
        // It ended too soon: other programs may have held up the run in peace.
        longest = longest * 3 / 4;
        eprintln!("{name}: killed {here} times; a run takes {typical:?}");
        case.run(&name);
        case.assert_same(&name, &peaceful);
        names.push(name);
    }
    names
}

#[test]
fn a_pipeline_killed_fifty_times_gives_what_one_gives_that_was_left_in_peace() {
    let config = wasmill_generate::Config {
        seed: 11,
        users: 3_000,
        rate: 100.0,
        events: Some(60_000),
        pages: 300,
        ..wasmill_generate::Config::default()
    };
    let case = Case::new(&config, "512MiB");
    kill_often(&case, 50);
}

/// Of more users than fit into the memory of 1 MiB.
fn many_users() -> wasmill_generate::Config {
    wasmill_generate::Config {
        seed: 12,
        users: 40_000,
        rate: 400.0,
        events: Some(60_000),
        pages: 3_000,
        ..wasmill_generate::Config::default()
    }
}

/// A restart takes what the state files don't have yet into memory. Where that has no room, the files are
/// written first; they were asked before that whether they have any rows, and so everything was new.
#[test]
fn what_no_state_file_has_yet_survives_a_restart_with_less_memory() {
    let mut case = Case::new(&many_users(), "512MiB");
    let typical = case.run("peaceful");
    let peaceful = case.outputs("peaceful");
    for part in [2, 3, 4, 6, 8, 16] {
        let name = format!("killed-at-1-{part}");
        let ended = case.kill_after(&name, typical / part);
        if ended || case.committed(&name).is_none() || case.applied_states(&name) > 0 {
            continue;
        }
        case.cache = "1MiB";
        case.run(&name);
        case.assert_same(&name, &peaceful);
        assert!(case.applied_states(&name) >= 4, "all of it had room");
        return;
    }
    panic!("it was never killed with commits that no state file had");
}

#[test]
fn state_that_has_left_memory_survives_kills() {
    let case = Case::new(&many_users(), "1MiB");
    let names = kill_often(&case, 15);
    for name in names.iter().map(String::as_str).chain(["peaceful"]) {
        assert!(case.applied_states(name) >= 4, "no state of {name} was applied to its file");
    }
}
