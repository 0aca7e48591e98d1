//! Configurations that are wrong say where and why.

use dispatch::Dispatch;
use wasmill_sdk::prelude::Stateless;

use crate::dispatch;

#[test]
fn a_wrong_value_is_named_by_its_path() {
    let rule = |when: &str| {
        format!(
            r#"{{"rules":[{{"to":"a","when":{{"field":"x","exists":true}}}},{{"to":"a","when":{when}}}]}}"#
        )
    };
    let many: Vec<String> = (0..65)
        .map(|i| format!(r#"{{"to":"o{i}","when":{{"field":"x","exists":true}}}}"#))
        .collect();
    let cases = [
        (r#"{"rules":[]}"#.to_owned(), "rules", "there is none"),
        (r#"{}"#.to_owned(), "", "missing field `rules`"),
        (
            r#"{"rules":[{"to":"A b","when":{"field":"x","exists":true}}]}"#.to_owned(),
            "rules.0.to",
            "A b",
        ),
        (format!(r#"{{"rules":[{}]}}"#, many.join(",")), "rules.64.to", "at most 64"),
        (
            r#"{"default":"","rules":[{"to":"a","when":{"field":"x","exists":true}}]}"#.to_owned(),
            "default",
            "no name",
        ),
        (rule("{}"), "rules.1.when", "none of them"),
        (rule(r#"{"field":"a"}"#), "rules.1.when", "nothing to check"),
        (rule(r#"{"field":"a","all":[]}"#), "rules.1.when", "all and field"),
        (rule(r#"{"all":[]}"#), "rules.1.when.all", "empty"),
        (rule(r#"{"not":{"field":"a","equals":1},"equals":2}"#), "rules.1.when", "needs a field"),
        (rule(r#"{"field":"a..b","exists":true}"#), "rules.1.when.field", "no path"),
        (rule(r#"{"field":"$keys","exists":true}"#), "rules.1.when.field", "$timestamp"),
        (rule(r#"{"field":"a","regex":"("}"#), "rules.1.when.regex", "no regular expression"),
        (
            rule(r#"{"any":[{"not":{"field":"a","regex":"("}}]}"#),
            "rules.1.when.any.0.not.regex",
            "(",
        ),
        (rule(r#"{"field":"a","equals":[1]}"#), "rules.1.when.equals", "found [1]"),
        (rule(r#"{"field":"a","in":[1,{}]}"#), "rules.1.when.in.1", "found {}"),
        (rule(r#"{"field":"a","in":[]}"#), "rules.1.when.in", "empty"),
        (rule(r#"{"field":"a","range":{}}"#), "rules.1.when.range", "no bound"),
        (rule(r#"{"field":"a","range":{"min":2,"max":2}}"#), "rules.1.when.range", "no number"),
        (rule(r#"{"field":"a","eq":1}"#), "rules.1.when.eq", "unknown field"),
    ];
    for (config, path, message) in cases {
        let error = dispatch(&config).unwrap_err();
        assert_eq!(error.path, path, "{config}: {error}");
        assert!(error.message.contains(message), "{config}: {error}");
    }
}

#[test]
fn outputs_come_in_the_order_of_first_mention() {
    let config = r#"{"default":"d","rules":[
        {"to":"b","when":{"field":"x","exists":true}},
        {"to":"a","when":{"field":"y","exists":true}},
        {"to":"b","when":{"field":"z","exists":true}}]}"#;
    let ports = dispatch(config).unwrap().ports().unwrap();
    let names: Vec<_> = ports.outputs.iter().map(|p| (&p.name[..], &p.summary[..])).collect();
    assert_eq!(
        names,
        [
            ("b", "Records that fit 2 rules."),
            ("a", "Records that fit 1 rule."),
            ("d", "Records that no rule fits.")
        ]
    );
}

#[test]
fn the_schema_is_json_and_knows_every_check() {
    let schema: serde_json::Value =
        serde_json::from_str(&Dispatch::describe().config_schema).unwrap();
    let keys = schema["$defs"]["when"]["properties"].as_object().unwrap();
    let error = dispatch(r#"{"rules":[{"to":"a","when":{"?":0}}]}"#).unwrap_err();
    let known = error.message.split("expected one of").nth(1).unwrap();
    assert_eq!(known.matches('`').count() / 2, keys.len(), "{known}");
    assert!(keys.keys().all(|key| known.contains(&format!("`{key}`"))), "{known}");
}
