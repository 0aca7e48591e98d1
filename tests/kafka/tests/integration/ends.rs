//! Brokers end with the process that holds them.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read},
    process::{Command, Stdio},
    time::Instant,
};

use wasmill_test_kafka::cluster_or_skip;

use crate::PATIENCE;

/// Set for the process that is killed.
const HOLDER: &str = "WASMILL_TEST_HOLDER";

#[test]
fn brokers_end_when_the_process_that_holds_them_is_killed() {
    let test = "ends::brokers_end_when_the_process_that_holds_them_is_killed";
    let Some(cluster) = cluster_or_skip(test, 1) else { return };
    if env::var_os(HOLDER).is_some() {
        println!("\nholds {} {}", cluster.process(0).unwrap(), cluster.log(0).display());
        io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    let mut holder = Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(HOLDER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.into_iter().find(|line| line.starts_with("holds ")).unwrap();
    let (process, log) = line["holds ".len()..].split_once(' ').unwrap();
    assert!(is_running(process), "it held a broker");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let data = log.strip_suffix(".log").unwrap();
    let start = Instant::now();
    while fs::exists(data).unwrap() {
        assert!(start.elapsed() < PATIENCE, "{data} is still there");
        std::thread::yield_now();
    }
    assert!(!is_running(process), "it was ended before its data went, which would end it too");
    assert!(fs::exists(log).unwrap(), "what it said may tell why the process was killed");
    fs::remove_dir_all(data.strip_suffix("/0").unwrap()).unwrap();
}

/// Whether it has neither ended nor been left for its parent to look at.
fn is_running(process: &str) -> bool {
    let state = Command::new("ps").args(["-o", "stat=", "-p", process]).output().unwrap();
    let state = String::from_utf8(state.stdout).unwrap();
    !state.trim().is_empty() && !state.starts_with('Z')
}
