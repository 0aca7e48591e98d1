//! Exit codes: 0 done, 1 failed, 2 wrong usage or pipeline file, 130 interrupted twice.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{ran, site};
use crate::support::{program, root, wasmill};

#[test]
fn wrong_usage_has_an_exit_code_of_its_own() {
    let site = ran();
    fs::create_dir(site.path().join("empty")).unwrap();
    for (args, said) in [
        (&["frobnicate"][..], "frobnicate"),
        (&["--log", "a=b=c", "check", "count.toml"], "--log"),
        (&["new", "fn"], "reserved"),
        (&["new", "empty/.."], "can't name a plugin"),
        (&["new", "site", "--path", "plugins"], "exists already"),
        (&["new", "other", "--sdk", "empty"], "not the crate wasmill-sdk"),
        (&["generate", "clickstream", "--late-share", "2"], "late-share = 2"),
        (&["generate", "clickstream", "-o", "lines"], "needs --events"),
        (&["describe", "nothere"], "no plugin \"nothere\""),
        (&["build", "empty"], "no Cargo.toml"),
        (&["build", "nothere"], "no Cargo.toml"),
        (&["state", "get", "nostage", "k", "--data-dir", "data"], "no stage \"nostage\""),
        (&["state", "scan", "nostage", "--data-dir", "data"], "no stage \"nostage\""),
        (&["state", "ls"], "no data directory here"),
        (&["replay", "count.toml", "--from", "earliest", "--as", "fix"], "needs Kafka"),
        (&["check", "nothere.toml"], "nothere.toml"),
        (&["run", "count.toml", "--set", "engine.partitions=0"], "engine.partitions"),
    ] {
        let output = wasmill(site.path(), args);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {errors}");
        assert!(errors.contains(said), "{args:?}: {errors}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    assert!(!site.path().join("lines").exists() && !site.path().join("other").exists());
}

#[test]
fn a_failure_that_is_nobodys_mistake_has_another_one() {
    let site = site();
    let commands = [
        &["generate", "clickstream", "--events", "1", "-o", "nothere/lines"][..],
        &["describe", "in.jsonl"],
        &["run", "count.toml", "--data-dir", "in.jsonl"],
    ];
    for args in commands {
        assert_eq!(wasmill(site.path(), args).status.code(), Some(1), "{args:?}");
    }
}

/// A plugin that does not come back holds up the clean end that the first interruption asks for.
#[test]
fn a_second_interruption_does_not_wait() {
    let site = site();
    let mut child = Command::new(program())
        .args(["run", "count.toml", "--data-dir", "data"])
        .args(["--set", "source.raw.bounded=false", "--set", "stage.count.config.call=loop"])
        .args(["--set", "stage.count.limits.batch-time=10m"])
        .current_dir(site.path())
        .env("WASMILL_CACHE_DIR", root().join("target/wasmill-cache"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pause = || std::thread::sleep(Duration::from_millis(20));
    let written = || {
        let files = (0..2).map(|p| site.path().join(format!("out-{p}.txt")));
        files.map(|f| fs::read_to_string(f).unwrap_or_default().lines().count()).sum::<usize>()
    };
    while written() < 600 {
        assert!(child.try_wait().unwrap().is_none(), "the run has ended");
        pause();
    }
    let mut input = File::options().append(true).open(site.path().join("in.jsonl")).unwrap();
    input.write_all(b"{\"user\":\"evil\"}\n").unwrap();
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        stat.split_whitespace().nth(13).and_then(|t| t.parse::<u64>().ok())
    };
    // It loops when it has used a fifth of a second; where that can't be seen, after a while.
    let before = ticks();
    for _ in 0..100 {
        if ticks().zip(before).is_some_and(|(now, before)| now > before + 20) {
            break;
        }
        pause();
    }
    let pid = child.id().to_string();
    let interrupt =
        || assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    interrupt();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "the first one waits for the plugin");
    interrupt();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
