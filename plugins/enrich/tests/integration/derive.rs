//! Fields that are derived from others.

use crate::{enrich, text};

const NONE: (&str, &str) = ("", "");

/// Derives `d` from `f`.
fn derive(how: &str, value: &str) -> String {
    let config = format!(r#"{{"derive":[{{"field":"d","from":"f","as":"{how}"}}]}}"#);
    let out = text(&enrich(&config, NONE).unwrap(), &format!(r#"{{"f":{value}}}"#)).unwrap();
    let head = format!(r#"{{"f":{value}"#);
    let rest = out.strip_prefix(&head).unwrap().strip_suffix('}').unwrap();
    rest.strip_prefix(",\"d\":").unwrap_or(rest).to_owned()
}

#[test]
fn each_derivation_gives_what_it_says() {
    let cases = [
        ("copy", r#"{"a": [1]}"#, r#"{"a": [1]}"#),
        ("hour-of-day", "1431857103000", "10"),
        ("hour-of-day", "1431857103000.7", "10"),
        ("hour-of-day", "\"soon\"", ""),
        ("day-of-week", "1431857103000", "7"),
        ("date", "1431857103000", "\"2015-05-17\""),
        ("date", "-1", "\"1969-12-31\""),
        ("date", "99999999999999999", ""),
        ("month", "1431857103000", "\"2015-05\""),
        ("iso-time", "1431857103045", "\"2015-05-17T10:05:03.045Z\""),
        ("host", r#""https://WWW.Example.com:80/a""#, "\"www.example.com\""),
        ("host", r#""/a/b""#, ""),
        ("referrer-domain", r#""https://WWW.Example.com:80/a""#, "\"example.com\""),
        ("path-depth", r#""/a//b/c?d/e""#, "3"),
        ("path-depth", r#""https://x/""#, "0"),
        ("first-segment", r#""https://x/a\"b/c""#, "\"a\\\"b\""),
        ("first-segment", r#""/""#, ""),
        ("extension", r#""/a/b.PNG?x""#, "\"png\""),
        ("lower", r#""ÀB""#, "\"àb\""),
        ("upper", r#""àb""#, "\"ÀB\""),
        ("length", r#""àb\n""#, "3"),
        ("length", "null", ""),
    ];
    for (how, value, expected) in cases {
        assert_eq!(derive(how, value), expected, "{how} of {value}");
    }
}

#[test]
fn what_cannot_be_derived_is_left_out_or_null() {
    let derive = r#""derive":[{"field":"h","from":"a.b","as":"host"},{"field":"t","from":"$timestamp","as":"date"},{"field":"k","from":"$key","as":"copy"}]"#;
    let pass = enrich(&format!("{{{derive}}}"), NONE).unwrap();
    assert_eq!(text(&pass, "{}").unwrap(), r#"{"t":"2015-05-17","k":"k"}"#);
    let null = enrich(&format!(r#"{{{derive},"on-missing":"null"}}"#), NONE).unwrap();
    assert_eq!(text(&null, "{}").unwrap(), r#"{"h":null,"t":"2015-05-17","k":"k"}"#);
}

#[test]
fn a_field_may_be_derived_from_itself() {
    let config = r#"{"derive":[{"field":"f","from":"f","as":"lower"}]}"#;
    assert_eq!(
        text(&enrich(config, NONE).unwrap(), r#"{"f": "A", "g":1}"#).unwrap(),
        r#"{"f": "a", "g":1}"#
    );
}
