//! The weblog example on a real access log. What must come out is known from counting the log by
//! other means.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{self, Record, by_key, program, root, shared, topic};

const PIPELINE: &str = "examples/weblog/pipeline.toml";

/// The topics that the example fills.
const OUTPUTS: [&str; 9] =
    ["clean", "live", "sessions", "pages", "visits", "users", "bounced", "engaged", "other"];

/// Runs the example on the real log; gives its summary, or none where the log is missing.
fn example(test: &str, data_dir: &Path, more: &[&str]) -> Option<Value> {
    let log = shared(test, "data/apache_logs")?;
    let log = format!("source.raw.path={}", log.canonicalize().unwrap().display());
    let args = [&["--set", &log], more].concat();
    Some(support::run(&root(), PIPELINE, data_dir, &args))
}

fn count(summary: &Value, stage: &str, what: &str) -> u64 {
    let stages = summary["stages"].as_array().unwrap();
    let stage = stages.iter().find(|s| s["name"] == stage).expect("a stage of the example");
    stage["counts"][what].as_u64().unwrap()
}

fn integer(record: &Record, field: &str) -> i64 {
    record["value"][field].as_i64().unwrap_or_else(|| panic!("no {field} in {record}"))
}

fn text<'a>(record: &'a Record, field: &str) -> &'a str {
    record["value"][field].as_str().unwrap_or_else(|| panic!("no {field} in {record}"))
}

/// In each session the events are numbered 1, 2, 3... in the order in which they come.
fn assert_numbered_without_gaps(live: &[Record]) {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for record in live {
        let last = last.entry(text(record, "session_id")).or_default();
        *last += 1;
        assert_eq!(integer(record, "session_seq"), *last, "{record}");
    }
}

#[test]
fn the_real_log_gives_the_known_figures() {
    let dir = tempfile::tempdir().unwrap();
    for gap in ["15m", "30m"] {
        let data_dir = dir.path().join(gap);
        let set = format!("stage.sessionize.config.gap={gap}");
        let Some(summary) = example("the_real_log", &data_dir, &["--set", &set]) else { return };
        assert_eq!(summary["records"], 10_000);
        assert_eq!(summary["complete"], true);
        for stage in summary["stages"].as_array().unwrap() {
            for kind in ["dead", "invalid", "late", "expired", "failed_calls"] {
                assert_eq!(stage["counts"][kind], 0, "{kind} of {stage}");
            }
        }
        for rejects in ["dead", "invalid", "late", "expired"] {
            assert_eq!(topic(&data_dir, rejects), [] as [Record; 0], "topic {rejects}");
        }

        let sessions = topic(&data_dir, "sessions");
        assert_eq!(sessions.len(), 3_052);
        assert_eq!(sessions.iter().map(|s| integer(s, "duration_ms")).sum::<i64>(), 49_216_000);
        assert_eq!(sessions.iter().map(|s| integer(s, "events")).sum::<i64>(), 10_000);

        let clean = topic(&data_dir, "clean");
        assert_eq!(clean.len(), 10_000);
        let users: BTreeSet<&str> = clean.iter().map(|r| text(r, "user")).collect();
        assert_eq!(users.len(), 1_753);
        let mut statuses: BTreeMap<i64, u64> = BTreeMap::new();
        for record in &clean {
            *statuses.entry(integer(record, "status")).or_default() += 1;
        }
        let known = [
            (200, 9_126),
            (206, 45),
            (301, 164),
            (304, 445),
            (403, 2),
            (404, 213),
            (416, 2),
            (500, 3),
        ];
        assert_eq!(statuses, BTreeMap::from(known));

        let live = topic(&data_dir, "live");
        assert_eq!(live.len(), 10_000);
        assert_numbered_without_gaps(&live);
        assert_titles(&live);
        assert_rankings(&topic(&data_dir, "pages"), &live);
        let dispatched = ["bounced", "engaged", "other"].map(|t| topic(&data_dir, t).len());
        assert_eq!(dispatched.iter().sum::<usize>(), 3_052);
        let bounced = sessions.iter().filter(|s| integer(s, "events") == 1).count();
        assert_eq!(dispatched[0], bounced);
    }
}

/// Pages of a section that `sections.csv` knows bear its title, others bear none.
fn assert_titles(live: &[Record]) {
    let mut titles: BTreeMap<Option<&str>, u64> = BTreeMap::new();
    for record in live {
        let path = text(record, "path");
        let section = path.split('/').find(|segment| !segment.is_empty());
        assert_eq!(record["value"]["section"].as_str(), section, "{record}");
        *titles.entry(record["value"]["title"].as_str()).or_default() += 1;
        let blog = section == Some("blog");
        assert_eq!(record["value"]["title"] == "Blog", blog, "{record}");
    }
    assert!(titles[&Some("Blog")] > 1_000 && titles[&Some("Images")] > 1_000, "{titles:?}");
    assert!(titles[&None] > 1_000, "{titles:?}");
}

/// Each hour's ranking is that of counting the live events of that hour.
fn assert_rankings(pages: &[Record], live: &[Record]) {
    let mut hours: BTreeMap<i64, BTreeMap<&str, (u64, BTreeSet<&str>)>> = BTreeMap::new();
    for record in live {
        let hour = integer(record, "ts").div_euclid(3_600_000) * 3_600_000;
        let page = hours.entry(hour).or_default().entry(text(record, "path")).or_default();
        page.0 += 1;
        page.1.insert(text(record, "user"));
    }
    assert_eq!(pages.len(), hours.len());
    for (record, (hour, counted)) in pages.iter().zip(&hours) {
        assert_eq!(integer(record, "window_start_ms"), *hour);
        let ranking = record["value"]["ranking"].as_array().unwrap();
        let mut best: Vec<u64> = counted.values().map(|(count, _)| *count).collect();
        best.sort_unstable_by(|a, b| b.cmp(a));
        best.truncate(10);
        let counts: Vec<u64> = ranking.iter().map(|r| r["count"].as_u64().unwrap()).collect();
        assert_eq!(counts, best);
        for (i, place) in ranking.iter().enumerate() {
            let (count, users) = &counted[place["page"].as_str().unwrap()];
            assert_eq!(place["rank"], i + 1);
            assert_eq!(place["count"], *count);
            assert_eq!(place["unique_users"], users.len());
        }
    }
}

#[test]
fn without_a_bound_every_record_is_processed_or_late_with_its_origin() {
    let dir = tempfile::tempdir().unwrap();
    // The log is up to 59 s out of order: sessions must be over sooner for that to show.
    let sets =
        ["--set", "source.raw.out-of-orderness=0s", "--set", "stage.sessionize.config.gap=5s"];
    let Some(summary) = example("without_a_bound", dir.path(), &sets) else { return };
    let late: Vec<Record> = topic(dir.path(), "late");
    let header = |record: &Record, name: &str| {
        let headers = record["headers"].as_array().unwrap().clone();
        let found = headers.into_iter().find(|h| h[0] == name);
        found.unwrap_or_else(|| panic!("no {name} in {record}"))[1].as_str().unwrap().to_owned()
    };
    let by_stage = |stage: &str| {
        late.iter().filter(|r| header(r, "wasmill.stage") == stage).collect::<Vec<_>>()
    };
    let live = topic(dir.path(), "live");
    let sessionize = by_stage("sessionize");
    assert!(sessionize.len() > 100, "only {} late records", sessionize.len());
    assert_eq!(sessionize.len() + live.len(), 10_000);
    assert_numbered_without_gaps(&live);
    for stage in summary["stages"].as_array().unwrap() {
        let name = stage["name"].as_str().unwrap();
        assert_eq!(by_stage(name).len() as u64, count(&summary, name, "late"), "late of {name}");
    }
    let all: u64 = summary["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["counts"]["late"].as_u64().unwrap())
        .sum();
    assert_eq!(late.len() as u64, all);

    let clean: BTreeMap<(u64, u64), Record> = topic(dir.path(), "clean")
        .into_iter()
        .map(|r| ((r["partition"].as_u64().unwrap(), r["offset"].as_u64().unwrap()), r))
        .collect();
    for record in sessionize {
        assert_eq!(header(record, "wasmill.error.class"), "late");
        assert_eq!(header(record, "wasmill.origin.topic"), "clean");
        let partition = header(record, "wasmill.origin.partition").parse().unwrap();
        let offset = header(record, "wasmill.origin.offset").parse().unwrap();
        let origin = &clean[&(partition, offset)];
        assert_eq!(origin["key"], record["key"]);
        assert_eq!(origin["timestamp"], record["timestamp"]);
        assert_eq!(text(origin, "path"), text(record, "path"));
    }
}

#[test]
fn the_number_of_workers_does_not_show() {
    let dir = tempfile::tempdir().unwrap();
    let run = |workers: &str| {
        let data_dir = dir.path().join(workers);
        example("the_number_of_workers", &data_dir, &["--workers", workers])?;
        Some(OUTPUTS.map(|name| by_key(&topic(&data_dir, name))))
    };
    let Some(one) = run("1") else { return };
    for workers in ["2", "4"] {
        let more = run(workers).unwrap();
        for ((name, more), one) in OUTPUTS.iter().zip(&more).zip(&one) {
            assert!(!one.is_empty() || *name == "engaged", "topic {name} is empty");
            assert!(more == one, "topic {name} differs with {workers} workers");
        }
    }
}

/// In = processed + late, by any number of workers and at each stage that has windows.
#[test]
fn with_any_number_of_workers_every_record_is_processed_or_late() {
    let test = "with_any_number_of_workers_every_record_is_processed_or_late";
    let Some(log) = shared(test, "data/apache_logs") else { return };
    let dir = tempfile::tempdir().unwrap();
    let example = std::fs::read_to_string(root().join(PIPELINE)).unwrap();
    let more = "[topic.counted]\nfrom = \"stage.page-counts\"\n\
                [topic.totals]\nfrom = \"stage.user-totals\"\n";
    std::fs::write(dir.path().join("pipeline.toml"), example + more).unwrap();
    let sections = root().join("examples/weblog/sections.csv");
    std::fs::copy(sections, dir.path().join("sections.csv")).unwrap();
    let log = format!("source.raw.path={}", log.canonicalize().unwrap().display());
    let mut sets = vec![log.as_str(), "source.raw.out-of-orderness=0s"];
    sets.push("stage.sessionize.config.gap=5s");
    sets.push("stage.page-counts.config.window.size=10s");
    let sets: Vec<&str> = sets.into_iter().flat_map(|set| ["--set", set]).collect();
    for workers in ["1", "2", "4"] {
        let data_dir = dir.path().join(workers);
        let more = [&sets[..], &["--workers", workers]].concat();
        let summary = support::run(dir.path(), "pipeline.toml", &data_dir, &more);
        let read = |name: &str| topic(&data_dir, name);
        let late = read("late");
        let late_of = |stage: &str| {
            let stamp = serde_json::json!(["wasmill.stage", stage]);
            let is = |r: &&Record| r["headers"].as_array().unwrap().contains(&stamp);
            let found = late.iter().filter(is).count();
            assert_eq!(found as u64, count(&summary, stage, "late"), "late of {stage}");
            found
        };
        let sum = |name: &str, field: &str| -> usize {
            read(name).iter().map(|r| usize::try_from(integer(r, field)).unwrap()).sum()
        };
        let (live, sessions) = (read("live").len(), read("sessions").len());
        for (stage, taken, processed) in [
            ("sessionize", 10_000, live),
            ("page-counts", live, sum("counted", "count")),
            ("visit-statistics", sessions, sum("visits", "visits")),
            ("user-totals", sessions, sum("totals", "visits")),
        ] {
            assert_eq!(taken as u64, count(&summary, stage, "records_in"), "into {stage}");
            assert_eq!(processed + late_of(stage), taken, "{stage} with {workers} workers");
        }
        // Behind the first stage it is chance whether something is late: how partitions are read.
        assert!(late_of("sessionize") > 100, "{summary}");
        assert_eq!(sum("sessions", "events"), live, "{workers} workers");
    }
}

/// The example, reading standard input, with a reference file of its own.
struct Fed {
    folder: PathBuf,
    child: Child,
    input: Option<ChildStdin>,
}

impl Fed {
    fn start(folder: &Path, sections: &str) -> Self {
        let text = std::fs::read_to_string(root().join(PIPELINE)).unwrap();
        let text = text
            .replace("path = \"access.log\"", "type = \"stdin\"")
            .replace("checkpoint-interval = \"1s\"", "checkpoint-interval = \"20ms\"")
            .replace("sections.csv", sections);
        std::fs::write(folder.join("pipeline.toml"), text).unwrap();
        if !folder.join(sections).exists() {
            std::fs::copy(root().join("examples/weblog/sections.csv"), folder.join("sections.csv"))
                .unwrap();
        }
        let plugins = root().join("target/plugins").display().to_string();
        let mut child = Command::new(program())
            .args(["run", "pipeline.toml", "--data-dir", "data", "--plugins", &plugins])
            .current_dir(folder)
            .env("WASMILL_CACHE_DIR", root().join("target/wasmill-cache"))
            .stdin(Stdio::piped())
            .stderr(
                std::fs::File::options()
                    .create(true)
                    .append(true)
                    .open(folder.join("log"))
                    .unwrap(),
            )
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        Self { folder: folder.to_owned(), child, input }
    }

    fn write(&mut self, lines: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(lines.as_bytes()).unwrap();
        input.flush().unwrap();
    }

    fn live(&self) -> Vec<Record> {
        live(&self.folder)
    }

    /// Waits until something holds that must come to hold.
    fn wait(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap();
            assert!(self.child.try_wait().unwrap().is_none(), "the pipeline has ended: {log}");
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "not within a minute: {what}: {log}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Interrupts it, as Ctrl-C does, and waits for its end.
    fn interrupt(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.end();
    }

    /// Ends the input, and waits for the end of the pipeline.
    fn finish(mut self) {
        drop(self.input.take());
        self.end();
    }

    fn end(&mut self) {
        let status = self.child.wait().unwrap();
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap();
        assert!(status.success(), "{status}: {log}");
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        // It has ended already unless the test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The live records, also those of a pipeline that runs.
fn live(folder: &Path) -> Vec<Record> {
    if !folder.join("data/log/COMMIT").exists() {
        return Vec::new();
    }
    let output = support::wasmill(folder, &["topic", "read", "live", "--data-dir", "data"]);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A line of an access log, so many seconds after 10:00.
fn line(user: u32, second: u32, path: &str) -> String {
    let (minute, second) = (second / 60, second % 60);
    format!(
        "10.0.0.{user} - - [17/May/2015:10:{minute:02}:{second:02} +0000] \"GET {path} HTTP/1.1\" 200 1 \
         \"-\" \"Mozilla/5.0\"\n"
    )
}

#[test]
fn a_reference_file_that_changes_is_read_again_and_a_broken_one_is_not_used() {
    let csv = |rows: &[&str]| {
        let rows: String = rows.iter().map(|title| format!("blog,{title}\n")).collect();
        format!("section,title\n{rows}")
    };
    reference_file_that_changes("sections.csv", csv);
    let json_lines = |rows: &[&str]| {
        let row = |title: &&str| format!("{{\"section\":\"blog\",\"title\":\"{title}\"}}\n");
        rows.iter().map(row).collect()
    };
    reference_file_that_changes("sections.jsonl", json_lines);
}

/// The titles of the section `blog` are written by `table`.
fn reference_file_that_changes(file: &str, table: impl Fn(&[&str]) -> String) {
    let dir = tempfile::tempdir().unwrap();
    let sections = dir.path().join(file);
    std::fs::write(&sections, table(&["Blog"])).unwrap();
    let mut fed = Fed::start(dir.path(), file);
    let mut second = 0;
    // Feeds line after line until one bears the title.
    let mut until = |fed: &mut Fed, title: &str| {
        fed.wait(title, |fed| {
            fed.write(&line(1, second, "/blog/a"));
            second += 1;
            fed.live().last().is_some_and(|r| text(r, "title") == title)
        });
    };
    until(&mut fed, "Blog");
    std::fs::write(&sections, table(&["Weblog"])).unwrap();
    until(&mut fed, "Weblog");
    // A key twice: the plugin refuses it, and the old table stays.
    std::fs::write(&sections, table(&["First", "Second"])).unwrap();
    fed.wait("the change is reported", |fed| {
        std::fs::read_to_string(fed.folder.join("log")).unwrap().contains("can't be used")
    });
    let before = fed.live().len();
    fed.write(&line(2, 900, "/blog/b"));
    fed.wait("another record", |fed| fed.live().len() > before);
    assert_eq!(text(fed.live().last().unwrap(), "title"), "Weblog");
    std::fs::write(&sections, table(&["Mended"])).unwrap();
    until(&mut fed, "Mended");
    fed.finish();
    let titles: Vec<String> = live(dir.path())
        .iter()
        .filter(|r| r["key"] == "10.0.0.1")
        .map(|r| text(r, "title").to_owned())
        .collect();
    let mut changes = titles.clone();
    changes.dedup();
    assert_eq!(changes, ["Blog", "Weblog", "Mended"]);
}

#[test]
fn sessions_go_on_across_an_interruption() {
    let dir = tempfile::tempdir().unwrap();
    let mut fed = Fed::start(dir.path(), "sections.csv");
    fed.write(&line(1, 0, "/a"));
    fed.write(&line(2, 10, "/a"));
    fed.write(&line(1, 600, "/b"));
    fed.wait("three events", |fed| fed.live().len() == 3);
    fed.interrupt();
    assert_eq!(topic(&dir.path().join("data"), "sessions").len(), 0);

    // User 1 goes on; the clock comes to within the session of user 2, then past its end.
    let mut fed = Fed::start(dir.path(), "sections.csv");
    fed.write(&line(1, 1_200, "/c"));
    fed.wait("four events", |fed| fed.live().len() == 4);
    fed.interrupt();
    assert_eq!(topic(&dir.path().join("data"), "sessions").len(), 0);

    let mut fed = Fed::start(dir.path(), "sections.csv");
    fed.write(&line(1, 2_400, "/d"));
    fed.write(&line(3, 2_410, "/e"));
    fed.wait("six events", |fed| fed.live().len() == 6);
    fed.wait("the session of user 2 closes by its timer", |fed| {
        topic(&fed.folder.join("data"), "sessions").len() == 1
    });
    fed.interrupt();

    let mut fed = Fed::start(dir.path(), "sections.csv");
    // The watermark is known, so that this comes too late, though nothing came before it.
    fed.write(&line(3, 300, "/late"));
    fed.finish();
    let data = dir.path().join("data");
    let late = topic(&data, "late");
    assert_eq!(late.len(), 1);
    assert_eq!(text(&late[0], "path"), "/late");
    let live = live(dir.path());
    assert_numbered_without_gaps(&live);
    let seqs: Vec<i64> =
        live.iter().filter(|r| r["key"] == "10.0.0.1").map(|r| integer(r, "session_seq")).collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
    let sessions: BTreeSet<(String, i64, i64, i64)> = topic(&data, "sessions")
        .iter()
        .map(|s| {
            let user = text(s, "user").to_owned();
            (
                user,
                integer(s, "events"),
                integer(s, "duration_ms"),
                s["timestamp"].as_i64().unwrap() % 3_600_000,
            )
        })
        .collect();
    let session = |user: u32, events: i64, from: i64, to: i64| {
        (format!("10.0.0.{user}"), events, (to - from) * 1_000, (to + 1_800) % 3_600 * 1_000)
    };
    let expected = [session(1, 4, 0, 2_400), session(2, 1, 10, 10), session(3, 1, 2_410, 2_410)];
    assert_eq!(sessions, BTreeSet::from(expected));
}
