//! The measure `count`.

use aggregate::{Aggregate, Config};
use wasmill_sdk::config::{self, Setup};
use wasmill_sdk::keyed::Keyed;

use crate::driver::{Driver, Input, watermarks};
use crate::results;

const CONFIG: &str = r#"{"measure": "count", "window": {"size": 10},
    "counts": {"views": "view", "clicks": "click.ad"}}"#;

fn refused(json: &str) -> String {
    let made = config::parse::<Config>(json).and_then(|c| Aggregate::new(c, &Setup::default()));
    made.expect_err(json).to_string()
}

#[test]
fn records_are_counted_and_those_that_have_a_field() {
    let mut inputs = [
        Input::new("c", 1, r#"{"view":{"ad":1},"click":null}"#),
        Input::new("c", 2, r#"{"view":0,"click":{"ad":7}}"#),
        Input::new("c", 3, r#"{"click":{"ad":null}}"#),
        Input::new("c", 12, r#"{}"#),
    ];
    watermarks(&mut inputs, 1);
    let driver = Driver::<Aggregate>::run(CONFIG, &inputs);
    let expected = [
        r#"{"window_start_ms":0,"window_end_ms":10,"key":"c","count":3,"clicks":1,"views":2}"#,
        r#"{"window_start_ms":10,"window_end_ms":20,"key":"c","count":1,"clicks":0,"views":0}"#,
    ];
    assert_eq!(results(&driver), expected);
}

#[test]
fn a_count_can_be_ranked_by() {
    let value = r#"{"window_start_ms":0,"window_end_ms":10,"key":"c","count":3,"clicks":1}"#;
    let config = r#"{"measure": "top", "rank-by": "clicks"}"#;
    let driver = Driver::<Aggregate>::run(config, &[Input::new("all", 9, value)]);
    let ranking = r#"{"window_start_ms":0,"window_end_ms":10,"ranking":[{"rank":1,"key":"c","count":3,"clicks":1}]}"#;
    assert_eq!(results(&driver), [ranking]);
}

#[test]
fn counts_that_make_no_sense_are_refused_by_the_key() {
    for (json, path) in [
        (r#"{"measure": "pages", "window": {"size": 1}, "counts": {"a": "b"}}"#, "counts: "),
        (
            r#"{"measure": "count", "window": {"size": 1}, "counts": {"count": "b"}}"#,
            "counts.count: ",
        ),
        (r#"{"measure": "count"}"#, "window: "),
    ] {
        assert!(refused(json).starts_with(path), "{json}: {}", refused(json));
    }
}
