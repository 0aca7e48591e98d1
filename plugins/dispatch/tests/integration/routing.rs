//! Where records go.

use proptest::prelude::*;

use crate::{dispatch, routes, run};

/// Whether a record fits one condition.
fn fits(condition: &str, value: &str) -> bool {
    let config = format!(r#"{{"default":"no","rules":[{{"to":"yes","when":{condition}}}]}}"#);
    routes(&config, value).unwrap() == ["yes"]
}

#[test]
fn each_check_holds_for_what_it_says() {
    let cases = [
        (
            r#"{"field":"a.b","equals":"x"}"#,
            vec![r#"{"a":{"b":"x"}}"#, r#"{"c":[1,{}],"a":{"z":0,"b":"\u0078"}}"#],
            vec![r#"{"a":{"b":"y"}}"#, r#"{"a":"x"}"#, r#"{"b":"x"}"#, "{}", "7"],
        ),
        (
            r#"{"field":"a","equals":1}"#,
            vec![r#"{"a":1}"#, r#"{"a":1.0}"#],
            vec![r#"{"a":"1"}"#, r#"{"a":true}"#],
        ),
        (
            r#"{"field":"a","equals":18446744073709551615}"#,
            vec![r#"{"a":18446744073709551615}"#],
            vec![r#"{"a":18446744073709551614}"#],
        ),
        (r#"{"field":"a","equals":false}"#, vec![r#"{"a":false}"#], vec![r#"{"a":null}"#, "{}"]),
        (
            r#"{"field":"a","not-equals":"x"}"#,
            vec![r#"{"a":"y"}"#, "{}", r#"{"a":1}"#],
            vec![r#"{"a":"x"}"#],
        ),
        (r#"{"field":"a","in":["x",2]}"#, vec![r#"{"a":"x"}"#, r#"{"a":2}"#], vec![r#"{"a":"y"}"#]),
        (
            r#"{"field":"a","prefix":"ab"}"#,
            vec![r#"{"a":"abc"}"#],
            vec![r#"{"a":"cab"}"#, r#"{"a":1}"#],
        ),
        (r#"{"field":"a","suffix":"ab"}"#, vec![r#"{"a":"cab"}"#], vec![r#"{"a":"abc"}"#]),
        (
            r#"{"field":"a","contains":"b"}"#,
            vec![r#"{"a":"abc"}"#, r#"{"a":[1,"b"]}"#],
            vec![r#"{"a":"ac"}"#, r#"{"a":["abc"]}"#],
        ),
        (r#"{"field":"a","regex":"^[a-c]+$"}"#, vec![r#"{"a":"abc"}"#], vec![r#"{"a":"abcd"}"#]),
        (
            r#"{"field":"a","range":{"min":1,"max":2}}"#,
            vec![r#"{"a":1}"#, r#"{"a":1.99}"#],
            vec![r#"{"a":2}"#, r#"{"a":0.99}"#, r#"{"a":"1"}"#, "{}"],
        ),
        (
            r#"{"field":"a","range":{"max":-1.5}}"#,
            vec![r#"{"a":-2}"#],
            vec![r#"{"a":-1}"#, r#"{"a":-1.5}"#],
        ),
        (
            r#"{"field":"a","exists":true}"#,
            vec![r#"{"a":{}}"#, r#"{"a":0}"#, r#"{"a":[]}"#],
            vec![r#"{"a":null}"#, "{}"],
        ),
        (r#"{"field":"a","exists":false}"#, vec!["{}"], vec![r#"{"a":0}"#]),
        (
            r#"{"field":"a","prefix":"x","suffix":"y"}"#,
            vec![r#"{"a":"xy"}"#],
            vec![r#"{"a":"x"}"#, r#"{"a":"y"}"#],
        ),
        (
            r#"{"field":"/a.b/0","equals":"x"}"#,
            vec![r#"{"a.b":["x"]}"#, r#"{"a.b":{"0":"x"}}"#],
            vec![r#"{"a":{"b":["x"]}}"#, r#"{"a.b":["y","x"]}"#],
        ),
        (r#"{"field":"$key","equals":"kö"}"#, vec!["{}"], vec![]),
        (
            r#"{"field":"$timestamp","range":{"min":1000,"max":1001}}"#,
            vec!["{}", "no JSON"],
            vec![],
        ),
        (r#"{"not":{"field":"a","equals":1}}"#, vec!["{}"], vec![r#"{"a":1}"#]),
        (
            r#"{"all":[{"field":"a","equals":1},{"any":[{"field":"b","equals":1},{"field":"b","equals":2}]}]}"#,
            vec![r#"{"b":2,"a":1}"#],
            vec![r#"{"a":1}"#, r#"{"b":1}"#],
        ),
    ];
    for (condition, good, bad) in cases {
        for value in good {
            assert!(fits(condition, value), "{condition} for {value}");
        }
        for value in bad {
            assert!(!fits(condition, value), "{condition} for {value}");
        }
    }
}

#[test]
fn a_field_and_one_inside_it_are_both_found() {
    let condition = r#"{"all":[
        {"field":"a","contains":"x"},{"field":"a.1","equals":"x"},{"field":"a.0","equals":2}]}"#;
    assert!(fits(condition, r#"{"a":[2,"x"]}"#));
    assert!(!fits(condition, r#"{"a":["x",2]}"#));
    assert!(fits(
        r#"{"all":[{"field":"a","exists":true},{"field":"a.b","equals":1}]}"#,
        r#"{"a":{"b":1}}"#
    ));
}

#[test]
fn the_last_of_two_members_of_a_name_counts() {
    assert!(!fits(r#"{"field":"a.b","equals":1}"#, r#"{"a":{"b":1},"a":{}}"#));
    assert!(fits(r#"{"field":"a","equals":1}"#, r#"{"a":2,"a":1}"#));
}

const TWO: &str = r#"[
    {"to":"one","when":{"field":"a","range":{"min":1}}},
    {"to":"two","when":{"field":"a","range":{"min":2}}},
    {"to":"one","when":{"field":"a","range":{"min":3}}}]"#;

#[test]
fn the_first_rule_that_fits_counts_or_all_of_them() {
    let first = format!(r#"{{"rules":{TWO},"default":"two"}}"#);
    assert_eq!(routes(&first, r#"{"a":3}"#).unwrap(), ["one"]);
    assert_eq!(routes(&first, r#"{"a":0}"#).unwrap(), ["two"]);
    let all = format!(r#"{{"rules":{TWO},"mode":"all","default":"rest"}}"#);
    assert_eq!(routes(&all, r#"{"a":3}"#).unwrap(), ["one", "two"]);
    assert_eq!(routes(&all, r#"{"a":0}"#).unwrap(), ["rest"]);
}

#[test]
fn what_no_rule_fits_is_invalid_without_a_default() {
    let reason = routes(&format!(r#"{{"rules":{TWO}}}"#), r#"{"a":0}"#).unwrap_err();
    assert_eq!(
        reason,
        "invalid: none of the 3 rules fits and there is no `default` output; found a = 0"
    );
}

#[test]
fn what_is_no_json_is_malformed() {
    let config = format!(r#"{{"rules":{TWO},"default":"x"}}"#);
    for bad in ["", "{", r#"{"a":1} x"#, "nope"] {
        assert!(routes(&config, bad).unwrap_err().starts_with("malformed: "), "{bad}");
    }
    let reply = run(&dispatch(&config).unwrap(), None, None);
    assert_eq!(reply.rejections.kinds.len(), 1);
}

#[test]
fn a_tombstone_is_routed_by_its_key() {
    let config = r#"{"rules":[{"to":"x","when":{"field":"$key","prefix":"k"}}],"default":"y"}"#;
    let reply = run(&dispatch(config).unwrap(), Some(b"k1"), None);
    assert!(reply.outputs.is_empty() && reply.values.is_null(0));
    assert_eq!(run(&dispatch(config).unwrap(), None, None).outputs, [1]);
}

#[test]
fn the_example_of_the_readme_is_what_happens() {
    let config = r#"{"default":"other","rules":[
        {"to":"vip","when":{"field":"user.tier","equals":"gold"}},
        {"to":"large","when":{"all":[
            {"field":"amount","range":{"min":100}},{"not":{"field":"$key","prefix":"test-"}}]}}]}"#;
    let readme = include_str!("../../README.md");
    let lines = readme.split("## Example").nth(1).unwrap().split("```").nth(3).unwrap().trim();
    let keys = [&b"a"[..], b"b", b"test-c"];
    for (output, (line, key)) in [0, 1, 2].into_iter().zip(lines.lines().zip(keys)) {
        let reply = run(&dispatch(config).unwrap(), Some(key), Some(line.as_bytes()));
        assert_eq!(reply.outputs.first().copied().unwrap_or(0), output, "{line}");
    }
}

proptest! {
    #[test]
    fn a_record_goes_out_as_it_came_or_is_rejected(value in prop::collection::vec(any::<u8>(), 0..60)) {
        let config = format!(r#"{{"rules":{TWO},"mode":"all","default":"rest"}}"#);
        let reply = run(&dispatch(&config).unwrap(), None, Some(&value));
        prop_assert_eq!(reply.rows.is_empty(), reply.rejections.rows.len() == 1);
        prop_assert!(reply.values.iter().all(|v| v == Some(&value[..])));
    }

    #[test]
    fn a_field_is_found_wherever_it_is(before in "[a-z]{1,4}", depth in 0usize..4, number in any::<i32>()) {
        let mut value = number.to_string();
        let mut path = Vec::new();
        for i in 0..=depth {
            value = format!(r#"{{"x{before}":[{{"f0":1}}],"f{i}":{value},"y":"f0"}}"#);
            path.insert(0, format!("f{i}"));
        }
        let condition = format!(r#"{{"field":"{}","equals":{number}}}"#, path.join("."));
        prop_assert!(fits(&condition, &value), "{} in {}", condition, value);
    }
}
