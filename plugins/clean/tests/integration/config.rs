//! Configurations that are wrong say where and why.

use clean::Clean;
use wasmill_sdk::prelude::Stateless;

use crate::clean;

#[test]
fn a_wrong_value_is_named_by_its_path() {
    let cases = [
        (r#"{"format":"squid"}"#, "format", "squid"),
        (r#"{"user":"cookie"}"#, "user", "ip+agent"),
        (r#"{"user":"field:"}"#, "user", "field:PARAMETER"),
        (r#"{"format":"elb","user":"field:remote-user"}"#, "user", "no remote user"),
        (r#"{"status":["200-100"]}"#, "status.0", "200-100"),
        (r#"{"status":[]}"#, "status", "100 to 599"),
        (r#"{"methods":[]}"#, "methods", "no method"),
        (r#"{"bots":["b"]}"#, "bots.0", "too short"),
        (r#"{"drop-query":["a=b"]}"#, "drop-query.0", "utm_*"),
        (r#"{"drop-query":7}"#, "drop-query", "true, false or a list"),
        (r#"{"drop-extensions":[".css"]}"#, "drop-extensions.0", "css"),
        (r#"{"index-files":["a/b"]}"#, "index-files.0", "index.html"),
        (r#"{"types":[{"path-prefix":"","type":"x"}]}"#, "types.0.path-prefix", "empty"),
        (r#"{"types":[{"path-prefix":"/"}]}"#, "types.0", "type"),
        (r#"{"boots":[]}"#, "boots", "unknown field"),
    ];
    for (config, path, message) in cases {
        let error = clean(config).unwrap_err();
        assert_eq!(error.path, path, "{config}: {error}");
        assert!(error.message.contains(message), "{config}: {error}");
    }
}

#[test]
fn the_schema_knows_every_key_and_its_default() {
    let schema: serde_json::Value = serde_json::from_str(&Clean::describe().config_schema).unwrap();
    let keys: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
    // An unknown key makes serde list those that it knows.
    let error = clean(r#"{"?":0}"#).unwrap_err();
    for key in &keys {
        assert!(error.message.contains(&format!("`{key}`")), "{key} is not in {error}");
    }
    let known = error.message.split("expected one of").nth(1).unwrap();
    assert_eq!(known.matches('`').count() / 2, keys.len(), "{known}");
    let defaults: serde_json::Map<_, _> = schema["properties"]
        .as_object()
        .unwrap()
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), value.get("default")?.clone())))
        .collect();
    let said = clean(&serde_json::Value::Object(defaults).to_string()).unwrap();
    assert_eq!(format!("{said:?}"), format!("{:?}", clean("").unwrap()));
}
