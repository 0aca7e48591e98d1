//! The wall clock of a running pipeline: timers on it, and inputs that say nothing.

use std::fs;
use std::time::{Duration, Instant};

use super::{Site, interrupt};
use crate::support::topic;

/// How long anything may take that is to happen soon.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the sink has so many lines with this in it.
fn wait(site: &Site, part: &str, count: usize) {
    let begun = Instant::now();
    let files = [site.path().join("out-0.txt"), site.path().join("out-1.txt")];
    let found = |file| fs::read_to_string(file).unwrap_or_default().matches(part).count();
    while files.iter().map(found).sum::<usize>() < count {
        assert!(begun.elapsed() < PATIENCE, "{part:?} does not come out");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The values of topic `counts`, without order.
fn counts(site: &Site) -> Vec<String> {
    let text = |r: &serde_json::Value| r["value"].as_str().unwrap_or_default().to_owned();
    let mut values: Vec<_> = topic(&site.data(), "counts").iter().map(text).collect();
    values.sort();
    values
}

fn line(user: &str, at: i64, what: &str) -> String {
    format!("{{\"user\":\"{user}\",\"at\":{at},\"do\":\"{what}\"}}\n")
}

/// It had been looked for in memory alone, which is empty after a restart.
#[test]
fn a_timer_of_the_wall_clock_runs_after_a_restart_though_nothing_comes_in() {
    let site = Site::new();
    let text = line("a", 1_000, "alarm") + &line("b", 1_000, "alarm") + &line("b", 1_000, "calm");
    fs::write(site.path().join("in.jsonl"), text).unwrap();
    let more = ["--set", "source.raw.bounded=false"];
    let child = site.start(&more);
    while site.out() < 3 {
        std::thread::sleep(Duration::from_millis(2));
    }
    // At once: the timer may have run by now, on a machine that is slow.
    interrupt(child);
    std::thread::sleep(Duration::from_millis(400));
    let child = site.start(&more);
    wait(&site, "alarm 1 at", 1);
    interrupt(child);
    let alarms: Vec<_> = counts(&site).into_iter().filter(|c| c.starts_with("alarm ")).collect();
    assert_eq!(alarms, ["alarm 1 at 999"]);
}

/// Two files, of which one has nothing: it holds event time back until it steps aside.
#[test]
fn an_input_that_is_silent_steps_aside_after_its_idle_timeout() {
    let site = Site::new();
    fs::write(site.path().join("in.jsonl"), line("a", 1_000, "timer") + &line("b", 5_000, ""))
        .unwrap();
    fs::write(site.path().join("silent.jsonl"), "").unwrap();
    site.change(
        "[topic.raw]\nfrom = \"source.raw\"",
        "[source.silent]\npath = \"silent.jsonl\"\nformat = \"jsonl\"\nkey = \"user\"\n\
         timestamp = \"at\"\n\n[topic.raw]\nfrom = [\"source.raw\", \"source.silent\"]",
    );
    let waits = ["--set", "source.raw.bounded=false", "--set", "source.silent.bounded=false"];
    let child = site.start(&waits);
    while site.out() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    interrupt(child);
    assert!(counts(&site).iter().all(|count| !count.starts_with("timer")), "it is waited for");

    let child = site.start(&[&waits[..], &["--set", "source.silent.idle-timeout=100ms"]].concat());
    wait(&site, "timer 1", 1);
    // The silent one comes back, behind what the others have reached: its records are there all the
    // same, and take event time no further back.
    fs::write(site.path().join("silent.jsonl"), line("c", 1_500, "timer") + &line("c", 3_000, ""))
        .unwrap();
    wait(&site, "timer 1", 2);
    interrupt(child);
    let counts = counts(&site);
    assert_eq!(counts.iter().filter(|count| count.starts_with("timer ")).count(), 2, "{counts:?}");
}
