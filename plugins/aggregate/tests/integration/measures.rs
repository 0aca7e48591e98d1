//! Each measure on a short input, and Beam's case for keyed sliding windows.

use crate::driver::{Driver, Input, watermarks};
use crate::{onward, results};
use aggregate::Aggregate;

fn run(config: &str, inputs: &[Input]) -> Driver<Aggregate> {
    let mut driver = Driver::run(config, inputs);
    assert!(driver.keys_kept().is_empty(), "something is left behind the end of the input");
    driver
}

fn view(page: &str, time: i64, user: &str) -> Input {
    Input::new(page, time, format!(r#"{{"path":"{page}","user":"{user}"}}"#))
}

fn session(key: &str, time: i64, events: u64, duration: u64) -> Input {
    let value = format!(r#"{{"session_id":"s","events":{events},"duration_ms":{duration}}}"#);
    Input::new(key, time, value)
}

#[test]
fn pages_counts_views_and_different_users() {
    let inputs =
        [view("/a", 1, "ann"), view("/a", 9, "bob"), view("/b", 3, "ann"), view("/a", 2, "ann")];
    let driver = run(r#"{"measure":"pages","window":{"size":10}}"#, &inputs);
    assert_eq!(
        results(&driver),
        [
            r#"{"window_start_ms":0,"window_end_ms":10,"page":"/a","count":3,"unique_users":2}"#,
            r#"{"window_start_ms":0,"window_end_ms":10,"page":"/b","count":1,"unique_users":1}"#,
        ]
    );
    assert!(driver.outputs.iter().all(|o| o.time == 9), "the clock of the close");
}

#[test]
fn users_of_overlapping_windows_are_kept_apart_and_forgotten_at_the_close() {
    let mut driver =
        Driver::<Aggregate>::new(r#"{"measure":"pages","window":{"size":10,"hop":5}}"#);
    driver.batch(&[view("/a", -1, "ann"), view("/a", 1, "ann"), view("/a", 1, "bob")], -2);
    // One in [-10, 0), two each in [-5, 5) and [0, 10).
    assert_eq!(driver.harness.entries("/a", 0).len(), 5);
    driver.batch(&[], 4);
    assert_eq!(driver.harness.entries("/a", 0).len(), 2, "only the last window is open");
    assert_eq!(
        results(&driver),
        [
            r#"{"window_start_ms":-10,"window_end_ms":0,"page":"/a","count":1,"unique_users":1}"#,
            r#"{"window_start_ms":-5,"window_end_ms":5,"page":"/a","count":3,"unique_users":2}"#,
        ]
    );
}

#[test]
fn visits_has_means_and_extremes_of_sessions() {
    let inputs =
        [session("all", 10, 4, 1_000), session("all", 20, 1, 0), session("all", 99, 2, 500)];
    let driver = run(r#"{"measure":"visits","window":{"size":50}}"#, &inputs);
    assert_eq!(
        results(&driver),
        [
            r#"{"window_start_ms":0,"window_end_ms":50,"visits":2,"pages_per_visit":2.5,"time_per_visit_ms":500.0,"max_pages":4,"max_time_ms":1000,"bounces":1}"#,
            r#"{"window_start_ms":50,"window_end_ms":100,"visits":1,"pages_per_visit":2.0,"time_per_visit_ms":500.0,"max_pages":2,"max_time_ms":500,"bounces":0}"#,
        ]
    );
}

#[test]
fn users_adds_up_the_sessions_of_a_user() {
    let inputs = [session("ann", 1, 4, 1_000), session("ann", 2, 1, 5), session("bob", 3, 1, 0)];
    let driver = run(r#"{"measure":"users","window":{"size":"1s"}}"#, &inputs);
    assert_eq!(
        results(&driver),
        [
            r#"{"window_start_ms":0,"window_end_ms":1000,"user":"ann","visits":2,"events":5,"duration_ms":1005}"#,
            r#"{"window_start_ms":0,"window_end_ms":1000,"user":"bob","visits":1,"events":1,"duration_ms":0}"#,
        ]
    );
}

#[test]
fn top_ranks_the_results_of_another_stage_when_all_of_a_window_are_there() {
    let mut inputs: Vec<_> = [("/a", 1), ("/b", 2), ("/c", 2), ("/a", 3), ("/d", 12), ("/b", 4)]
        .iter()
        .map(|(page, time)| view(page, *time, "ann"))
        .collect();
    watermarks(&mut inputs, 8);
    let pages = run(r#"{"measure":"pages","window":{"size":10},"lateness":5}"#, &inputs);
    let config = r#"{"measure":"top","top":3,"lateness":5}"#;
    let top = run(config, &onward(&pages.outputs, "all"));
    assert_eq!(top.rejected, []);
    assert_eq!(
        results(&top),
        [
            r#"{"window_start_ms":0,"window_end_ms":10,"ranking":[{"rank":1,"page":"/a","count":2,"unique_users":1},{"rank":2,"page":"/b","count":2,"unique_users":1},{"rank":3,"page":"/c","count":1,"unique_users":1}]}"#,
            r#"{"window_start_ms":10,"window_end_ms":20,"ranking":[{"rank":1,"page":"/d","count":1,"unique_users":1}]}"#,
        ]
    );
    // A ranking bears the clock of its window, too.
    assert_eq!(top.outputs.iter().map(|o| o.time).collect::<Vec<_>>(), [14, 24]);
}

#[test]
fn the_most_engaged_users_are_the_top_of_the_users_by_duration() {
    let inputs = [session("ann", 1, 9, 10), session("bob", 2, 1, 800), session("cy", 3, 1, 70)];
    let users = run(r#"{"measure":"users","window":{"size":"1s"}}"#, &inputs);
    let config = r#"{"measure":"top","top":2,"rank-by":"duration_ms"}"#;
    let top = run(config, &onward(&users.outputs, "all"));
    let ranking = &top.values(0)[0]["ranking"];
    let names: Vec<_> = ranking.as_array().unwrap().iter().map(|r| &r["user"]).collect();
    assert_eq!(names, ["bob", "cy"]);
}

#[test]
fn a_batch_of_pages_reads_its_users_at_once() {
    let config = r#"{"measure":"pages","window":{"size":"1h","hop":"20m"}}"#;
    let value = |i: u32| match i % 50 {
        // Escapes are not guessed at, and what is no event is rejected without being looked up.
        7 => r#"{"user":"\u0061"}"#.to_owned(),
        8 => r#"{"user":null}"#.to_owned(),
        9 => "no event".to_owned(),
        user => format!(r#"{{"user":"u{user}"}}"#),
    };
    let page = |i: u32| format!("/{}", i % 4);
    let inputs: Vec<_> =
        (0..200).map(|i| Input::new(&page(i), 3_600_000 + i64::from(i), value(i))).collect();
    let mut driver = Driver::<Aggregate>::new(config);
    driver.feed(&inputs, &[100], 3_600_000);
    // Once for each of two batches; and in each the escaped user, of three windows at two pages.
    assert_eq!(driver.harness.usage().map_reads, 2 + 2 * 3 * 2);
    assert_eq!(driver.rejected.len(), 8);
    driver.feed(&inputs[..3], &[3], 10_000_000);
    assert_eq!(driver.harness.usage().map_reads, 2 + 2 * 3 * 2 + 1);
    let counts: Vec<_> = driver
        .values(0)
        .iter()
        .map(|v| (v["count"].as_u64(), v["unique_users"].as_u64()))
        .collect();
    assert_eq!(counts.len(), 4 * 3);
    driver.feed(&[], &[], wasmill_sdk::abi::WATERMARK_END);
    assert!(driver.keys_kept().is_empty());
}
