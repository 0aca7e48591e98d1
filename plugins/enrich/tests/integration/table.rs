//! Columns of a table go into records.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{enrich, run, text};

const CSV: (&str, &str) = ("t.csv", "id,country,age\nann,de,41\n\"b,\"\"b\",\"f\nr\",\n");
const BASE: &str = r#""table":"t","key-field":"u","table-key":"id""#;

fn with(more: &str) -> String {
    format!("{{{BASE}{more}}}")
}

#[test]
fn the_columns_of_the_row_are_appended() {
    let plugin = enrich(&with(""), CSV).unwrap();
    let cases = [
        (r#"{"u":"ann"}"#, r#"{"u":"ann","country":"de","age":"41"}"#),
        (
            " {\"a\":[1, 2],\n\"u\":\"ann\" }\n",
            " {\"a\":[1, 2],\n\"u\":\"ann\" ,\"country\":\"de\",\"age\":\"41\"}\n",
        ),
        (r#"{"u":"b,\"b"}"#, r#"{"u":"b,\"b","country":"f\nr","age":""}"#),
        (r#"{"u":"eve"}"#, r#"{"u":"eve"}"#),
        (r#"{"u":null}"#, r#"{"u":null}"#),
        ("{}", "{}"),
    ];
    for (value, expected) in cases {
        assert_eq!(text(&plugin, value).unwrap(), expected);
    }
}

#[test]
fn types_columns_and_prefix_are_as_configured() {
    let plugin =
        enrich(&with(r#","types":{"age":"int"},"columns":["age"],"prefix":"user_""#), CSV).unwrap();
    assert_eq!(text(&plugin, r#"{"u":"ann"}"#).unwrap(), r#"{"u":"ann","user_age":41}"#);
    assert_eq!(text(&plugin, r#"{"u":"b,\"b"}"#).unwrap(), r#"{"u":"b,\"b"}"#);
    let typed = ("t.TSV", "\u{feff}id\tf\tb\n1\t1e3\tTRUE\n");
    let plugin = enrich(&with(r#","types":{"f":"float","b":"bool"}"#), typed).unwrap();
    assert_eq!(text(&plugin, r#"{"u":1}"#).unwrap(), r#"{"u":1,"f":1000.0,"b":true}"#);
}

#[test]
fn json_lines_keep_their_types() {
    let lines =
        ("t.jsonl", "{\"id\":7,\"a\":{\"x\": 1}}\r\n\n{\"b\":null,\"id\":\"x\",\"a\":1.50}\n");
    let plugin = enrich(&with(""), lines).unwrap();
    assert_eq!(text(&plugin, r#"{"u":"7"}"#).unwrap(), r#"{"u":"7","a":{"x": 1}}"#);
    assert_eq!(text(&plugin, r#"{"u":"\u0078"}"#).unwrap(), r#"{"u":"\u0078","a":1.50,"b":null}"#);
}

#[test]
fn a_missing_key_is_handled_as_configured() {
    let null = enrich(&with(r#","on-missing":"null","types":{"age":"int"}"#), CSV).unwrap();
    assert_eq!(text(&null, r#"{"u":"eve"}"#).unwrap(), r#"{"u":"eve","country":null,"age":null}"#);
    assert_eq!(
        text(&null, r#"{"u":"b,\"b"}"#).unwrap(),
        r#"{"u":"b,\"b","country":"f\nr","age":null}"#
    );
    assert_eq!(text(&null, "{ }").unwrap(), r#"{ "country":null,"age":null}"#);
    let reject = enrich(&with(r#","on-missing":"reject""#), CSV).unwrap();
    assert_eq!(
        text(&reject, r#"{"u":"eve"}"#).unwrap_err(),
        r#"invalid: u = "eve" is not in the table t"#
    );
    assert_eq!(
        text(&reject, "{}").unwrap_err(),
        "invalid: the record has no u to look up in the table t"
    );
}

#[test]
fn a_field_that_is_there_already_is_handled_as_configured() {
    let value = r#"{"country": "??", "u":"ann"}"#;
    let run = |policy: &str| {
        text(&enrich(&with(&format!(r#","on-conflict":"{policy}""#)), CSV).unwrap(), value)
    };
    assert_eq!(run("replace").unwrap(), r#"{"country": "de", "u":"ann","age":"41"}"#);
    assert_eq!(run("keep").unwrap(), r#"{"country": "??", "u":"ann","age":"41"}"#);
    assert!(run("reject").unwrap_err().contains(r#"invalid: the record has a field "country""#));
}

#[test]
fn a_derived_field_can_be_looked_up() {
    let run = |more: &str, value: &str| {
        let derive = r#""derive":[{"field":"u","from":"p","as":"first-segment"}]"#;
        text(
            &enrich(&with(&format!(",{derive},\"columns\":[\"country\"]{more}")), CSV).unwrap(),
            value,
        )
    };
    assert_eq!(run("", r#"{"p":"/ann/x"}"#).unwrap(), r#"{"p":"/ann/x","country":"de","u":"ann"}"#);
    assert_eq!(run("", r#"{"p":"/eve"}"#).unwrap(), r#"{"p":"/eve","u":"eve"}"#);
    // What is looked up is what the field has in the record that goes out.
    assert_eq!(
        run("", r#"{"u":"?","p":"/ann"}"#).unwrap(),
        r#"{"u":"ann","p":"/ann","country":"de"}"#
    );
    assert_eq!(run("", r#"{"u":"ann","p":"/"}"#).unwrap(), r#"{"u":"ann","p":"/","country":"de"}"#);
    let keep = r#","on-conflict":"keep""#;
    assert_eq!(
        run(keep, r#"{"u":"ann","p":"/b"}"#).unwrap(),
        r#"{"u":"ann","p":"/b","country":"de"}"#
    );
    let null = r#","on-missing":"null""#;
    assert_eq!(
        run(null, r#"{"u":"ann","p":"/"}"#).unwrap(),
        r#"{"u":null,"p":"/","country":null}"#
    );
    let reject = r#","on-missing":"reject""#;
    assert_eq!(
        run(reject, r#"{"p":"/eve"}"#).unwrap_err(),
        r#"invalid: u = "eve" is not in the table t"#
    );
}

#[test]
fn keys_come_from_nested_fields_or_the_record() {
    let nested =
        enrich(r#"{"table":"t","key-field":"a.b","table-key":"id","columns":["age"]}"#, CSV)
            .unwrap();
    assert_eq!(text(&nested, r#"{"a":{"b":"ann"}}"#).unwrap(), r#"{"a":{"b":"ann"},"age":"41"}"#);
    assert_eq!(text(&nested, r#"{"a":["b"]}"#).unwrap(), r#"{"a":["b"]}"#);
    let key = enrich(r#"{"table":"t","key-field":"$key","table-key":"id","columns":["age"]}"#, CSV)
        .unwrap();
    assert_eq!(run(&key, Some(b"ann"), Some(b"{}")).unwrap(), br#"{"age":"41"}"#);
    assert_eq!(run(&key, None, Some(b"{}")).unwrap(), b"{}");
}

#[test]
fn what_is_no_object_is_malformed() {
    let plugin = enrich(&with(""), CSV).unwrap();
    for bad in ["", "7", "[]", "{", "{} x", r#"{"a":}"#, r#"{"a":1,}"#] {
        assert!(text(&plugin, bad).unwrap_err().starts_with("malformed: "), "{bad}");
    }
    assert!(run(&plugin, None, None).unwrap_err().contains("tombstone"));
    assert!(run(&plugin, None, Some(b"{\"a\":\"\xff\"}")).unwrap_err().contains("UTF-8"));
}

#[test]
fn the_example_of_the_readme_is_what_happens() {
    let readme = include_str!("../../README.md");
    let blocks: Vec<_> = readme.split("## Example").nth(1).unwrap().split("```").collect();
    let config = r#"{"table":"t","key-field":"user","table-key":"id","types":{"age":"int"},
        "derive":[{"field":"hour","from":"ts","as":"hour-of-day"}]}"#;
    let plugin = enrich(config, ("users.csv", blocks[3].trim_start())).unwrap();
    let found: Vec<_> = blocks[5].trim().lines().map(|line| text(&plugin, line).unwrap()).collect();
    assert_eq!(found.join("\n"), blocks[7].trim());
}

/// The number of members of an object, with those that occur twice.
struct Members(usize);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Count;
        impl<'de> serde::de::Visitor<'de> for Count {
            type Value = Members;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Members, A::Error> {
                let mut members = 0;
                while map.next_entry::<String, serde::de::IgnoredAny>()?.is_some() {
                    members += 1;
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Count)
    }
}

proptest! {
    #[test]
    fn what_is_added_is_all_that_changes(
        names in prop::collection::vec("[a-d\"\\\\é]{1,2}", 0..4), cell in any::<String>(), key in any::<String>(), policy in 0usize..2) {
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let csv = format!("id,a,b\n{},{},x\n", quoted(&key), quoted(&cell));
        let policies = ["replace", "keep"];
        let config = format!(
            r#"{{"table":"t","key-field":"$key","table-key":"id","on-conflict":"{}"}}"#, policies[policy]);
        let plugin = enrich(&config, ("t.csv", &csv)).unwrap();
        let mut record = BTreeMap::new();
        for name in &names {
            record.insert(name.clone(), serde_json::json!([1, {"a": name}]));
        }
        let out = run(&plugin, Some(key.as_bytes()), Some(&serde_json::to_vec(&record).unwrap())).unwrap();
        for (name, value) in [("a", cell.as_str()), ("b", "x")] {
            if policy == 0 || !record.contains_key(name) {
                record.insert(name.into(), value.into());
            }
        }
        let back: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(&back, &record);
        let members: Members = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(members.0, record.len(), "a name occurs twice");
    }
}
