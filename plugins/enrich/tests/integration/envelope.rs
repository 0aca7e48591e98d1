//! Records in envelopes.

use proptest::prelude::*;

use crate::{enrich, run, text};

const CSV: (&str, &str) = ("t.csv", "id,country\nk,de\n");
const META: &str =
    r#"{"meta":{"pipeline":"web","stage":"wrap","topic":"web","partition":3,"offset":42,"#;

#[test]
fn the_payload_is_the_record_byte_for_byte() {
    let plugin = enrich(r#"{"envelope":true}"#, CSV).unwrap();
    for payload in [r#"{"a" : 1}"#, " [1,\n2] ", "7", "\"é\"", "null"] {
        let expected =
            format!(r#"{META}"key":"k","timestamp":1431857103000}},"payload":{payload}}}"#);
        assert_eq!(text(&plugin, payload).unwrap(), expected);
    }
}

#[test]
fn what_is_no_json_is_put_in_as_base64() {
    let plugin = enrich(r#"{"envelope":true}"#, CSV).unwrap();
    let out = run(&plugin, Some(b"\xff"), Some(b"GET /")).unwrap();
    let expected = format!(
        r#"{META}"key_base64":"/w==","timestamp":1431857103000}},"payload_base64":"R0VUIC8="}}"#
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let out = run(&plugin, None, None).unwrap();
    let expected = format!(r#"{META}"key":null,"timestamp":1431857103000}},"payload":null}}"#);
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn what_is_added_goes_into_the_metadata() {
    let config = r#"{"envelope":true,"table":"t","key-field":"$key","table-key":"id","derive":[{"field":"hour","from":"ts","as":"hour-of-day"}]}"#;
    let plugin = enrich(config, CSV).unwrap();
    let meta = format!(r#"{META}"key":"k","timestamp":1431857103000,"country":"de""#);
    assert_eq!(
        text(&plugin, r#"{"ts":0,"country":"x"}"#).unwrap(),
        format!(r#"{meta},"hour":0}},"payload":{{"ts":0,"country":"x"}}}}"#)
    );
    // What is no object has no fields, but it is no error.
    assert_eq!(text(&plugin, "no").unwrap(), format!(r#"{meta}}},"payload_base64":"bm8="}}"#));
}

proptest! {
    #[test]
    fn an_envelope_is_always_json(key in prop::option::of(prop::collection::vec(any::<u8>(), 0..9)), value in prop::collection::vec(any::<u8>(), 0..30)) {
        let plugin = enrich(r#"{"envelope":true}"#, CSV).unwrap();
        let out = run(&plugin, key.as_deref(), Some(&value)).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        prop_assert!(json["meta"].is_object());
        prop_assert_eq!(json.get("payload").is_some(), serde_json::from_slice::<serde_json::Value>(&value).is_ok());
    }
}
