//! Configurations and tables that are wrong say where and why.

use enrich::Enrich;
use wasmill_sdk::prelude::Stateless;

use crate::enrich;

const CSV: (&str, &str) = ("t.csv", "id,a,b\n1,2,3\n");
const BASE: &str = r#""table":"t","key-field":"u","table-key":"id""#;

#[test]
fn a_wrong_value_is_named_by_its_path() {
    let with = |more: &str| format!("{{{BASE}{more}}}");
    let cases = [
        ("{}".to_owned(), "", "nothing to do"),
        (
            r#"{"table":"x","key-field":"u","table-key":"id"}"#.to_owned(),
            "resources.x",
            "the stage has t",
        ),
        (r#"{"table":"t","table-key":"id"}"#.to_owned(), "key-field", "missing"),
        (r#"{"table":"t","key-field":"u"}"#.to_owned(), "table-key", "missing"),
        (r#"{"table":"t","key-field":"u..","table-key":"id"}"#.to_owned(), "key-field", "no field"),
        (
            r#"{"table":"t","key-field":"u","table-key":"ID"}"#.to_owned(),
            "table-key",
            "it has id, a, b",
        ),
        (r#"{"envelope":true,"columns":["a"]}"#.to_owned(), "columns", "without table"),
        (with(r#","columns":["a","c"]"#), "columns.1", "it has id, a, b"),
        (with(r#","columns":["a","a"]"#), "columns", "added twice"),
        (with(r#","types":{"c":"int"}"#), "types.c", "no such column"),
        (with(r#","types":{"a":"date"}"#), "types.a", "date"),
        (with(r#","derive":[{"field":"a","from":"x","as":"host"}]"#), "derive.0.as", "added twice"),
        (with(r#","derive":[{"field":"","from":"x","as":"host"}]"#), "derive.0.field", "empty"),
        (with(r#","derive":[{"field":"x","from":"$x","as":"host"}]"#), "derive.0.from", "no field"),
        (with(r#","derive":[{"field":"x","from":"x","as":"hosts"}]"#), "derive.0.as", "hosts"),
        (
            r#"{"envelope":true,"derive":[{"field":"offset","from":"x","as":"host"}]}"#.to_owned(),
            "derive.0.as",
            "envelope",
        ),
    ];
    for (config, path, message) in cases {
        let error = enrich(&config, CSV).unwrap_err();
        assert_eq!(error.path, path, "{config}: {error}");
        assert!(error.message.contains(message), "{config}: {error}");
    }
}

#[test]
fn a_wrong_table_is_named_with_line_and_column() {
    let cases = [
        ("", ("t.csv", "id,a\n1,2\n3\n"), "t.csv, line 3: it has 1 columns, the header has 2"),
        (
            "",
            ("t.csv", "id,a\n1,2\n\n1,3\n"),
            "t.csv, line 4: column \"id\": the key \"1\" is there already, in line 2",
        ),
        ("", ("t.csv", "id,a,a\n"), "line 1: the column \"a\" is there twice"),
        (
            r#","types":{"a":"int"}"#,
            ("t.csv", "id,a\n1,2\n3,x\n"),
            "line 3: column \"a\": found \"x\", expected a whole number",
        ),
        (r#","types":{"a":"bool"}"#, ("t.csv", "id,a\n1,yes\n"), "true or false"),
        (r#","types":{"a":"float"}"#, ("t.csv", "id,a\n1,NaN\n"), "that JSON can write"),
        ("", ("t.jsonl", "{\"id\":1}\n{\"id\":2\n"), "t.jsonl, line 2: not the JSON"),
        ("", ("t.jsonl", "{\"id\":1}\n{\"id\":[]}\n"), "line 2: column \"id\": expected a text"),
        ("", ("t.jsonl", "{\"id\":1}\n\n{\"a\":1}\n"), "line 3: column \"id\""),
        ("", ("t.jsonl", "{\"id\":1}\n{\"id\":\"1\"}\n"), "there already, in line 1"),
        ("", ("t.xlsx", ""), "no known format"),
    ];
    for (more, table, message) in cases {
        let error = enrich(&format!("{{{BASE}{more}}}"), table).unwrap_err();
        assert_eq!(error.path, "resources.t");
        assert!(error.message.contains(message), "{error}");
    }
    let error =
        enrich(&format!(r#"{{{BASE},"types":{{"a":"int"}}}}"#), ("t.jsonl", "{}")).unwrap_err();
    assert_eq!(error.path, "types");
}

#[test]
fn the_schema_is_json_and_knows_every_key() {
    let description = Enrich::describe();
    assert!(description.wants_origins);
    let schema: serde_json::Value = serde_json::from_str(&description.config_schema).unwrap();
    let keys = schema["properties"].as_object().unwrap();
    let error = enrich(r#"{"?":0}"#, CSV).unwrap_err();
    let known = error.message.split("expected one of").nth(1).unwrap();
    assert_eq!(known.matches('`').count() / 2, keys.len(), "{known}");
    assert!(keys.keys().all(|key| known.contains(&format!("`{key}`"))), "{known}");
    for how in
        schema["properties"]["derive"]["items"]["properties"]["as"]["enum"].as_array().unwrap()
    {
        let config = format!(r#"{{"derive":[{{"field":"a","from":"b","as":{how}}}]}}"#);
        assert!(enrich(&config, CSV).is_ok(), "{how}");
    }
}
