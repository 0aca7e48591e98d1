//! What is let through, set apart and called invalid.

use crate::{NOW, clean, event, json, run};

fn line(request: &str, status: u16, agent: &str) -> String {
    format!(r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "{request}" {status} 1 "-" "{agent}""#)
}

/// The output that a line goes to.
fn output(config: &str, line: &str) -> u8 {
    let reply = run(&clean(config).unwrap(), &[line]);
    assert_eq!(reply.rows, [0]);
    reply.outputs.first().copied().unwrap_or(0)
}

#[test]
fn bots_go_to_their_own_output() {
    let bot = line("GET / HTTP/1.1", 200, "Mozilla/5.0 (compatible; Googlebot/2.1)");
    assert_eq!(output("", &bot), 1);
    assert_eq!(output(r#"{"bots":[]}"#, &bot), 0);
    assert_eq!(output(r#"{"bots":["mozilla"]}"#, &line("GET / HTTP/1.1", 200, "MOZILLA")), 1);
    assert_eq!(output("", &line("GET / HTTP/1.1", 200, "Mozilla/5.0 (X11) Firefox/120.0")), 0);
    assert_eq!(output("", &line("GET / HTTP/1.1", 200, "-")), 0);
}

#[test]
fn assets_go_to_their_own_output() {
    let css = line("GET /a/style.CSS?v=1 HTTP/1.1", 200, "x");
    assert_eq!(output("", &css), 0);
    assert_eq!(output(r#"{"drop-extensions":["css"]}"#, &css), 2);
    assert_eq!(output(r#"{"drop-extensions":["css"]}"#, &line("GET /css HTTP/1.1", 200, "x")), 0);
}

#[test]
fn requests_that_break_a_rule_are_invalid() {
    let cases = [
        ("", line("-", 408, "-"), "the client sent none"),
        ("", line(r"\x16\x03\x01 x", 400, "-"), "none of the 40 that are allowed"),
        ("", line("get / HTTP/1.1", 200, "-"), "\"get\""),
        ("", line("GET / HTTP/1.1", 999, "-"), "999"),
        (r#"{"status":[200,"300-399"]}"#, line("GET / HTTP/1.1", 404, "-"), "404"),
        (r#"{"methods":["GET"]}"#, line("POST / HTTP/1.1", 200, "-"), "POST"),
    ];
    for (config, line, expected) in cases {
        let reason = event(config, &line).unwrap_err();
        assert!(reason.starts_with("invalid: ") && reason.contains(expected), "{line}: {reason}");
    }
    assert!(event(r#"{"status":[200,"300-399"]}"#, line("GET / HTTP/1.1", 399, "-")).is_ok());
}

#[test]
fn requests_of_the_future_are_invalid() {
    let at = |date: &str| {
        format!(r#"1.2.3.4 - - [{date}:00:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "-""#)
    };
    assert_eq!(NOW, 1_893_456_000_000, "the first of January 2030");
    assert!(event("", at("02/Jan/2030")).is_ok());
    assert!(event("", at("03/Jan/2030")).unwrap_err().contains("max-future"));
    assert!(event(r#"{"max-future":"3d"}"#, at("03/Jan/2030")).is_ok());
    assert!(event(r#"{"max-future":0}"#, at("03/Jan/2100")).is_ok());
}

#[test]
fn events_have_the_type_of_the_first_rule_that_fits() {
    let config = r#"{"types":[
        {"path-prefix":"/checkout/done","method":"POST","type":"purchase"},
        {"path-prefix":"/checkout","type":"check\"out"}]}"#;
    let kind = |request: &str| json(config, line(request, 200, "-"))["type"].clone();
    assert_eq!(kind("POST /checkout/done HTTP/1.1"), "purchase");
    assert_eq!(kind("GET //checkout/done HTTP/1.1"), "check\"out");
    assert_eq!(kind("GET /x HTTP/1.1"), "view");
}

#[test]
fn users_are_told_apart_as_configured() {
    let user = |config: &str, agent: &str| {
        json(config, line("GET /?uid=%41nn&b HTTP/1.1", 200, agent))["user"].clone()
    };
    assert_eq!(user(r#"{"user":"ip"}"#, "a"), "1.2.3.4");
    assert_eq!(user(r#"{"user":"ip+agent"}"#, "a"), "1.2.3.4-296230c0");
    assert_eq!(user(r#"{"user":"ip+agent"}"#, "-"), "1.2.3.4-4fd0bfc1");
    assert_eq!(user(r#"{"user":"field:uid"}"#, "a"), "Ann");
    assert_eq!(user(r#"{"user":"field:uid","drop-query":true}"#, "a"), "Ann");
    assert_eq!(user(r#"{"user":"field:sid"}"#, "a"), "1.2.3.4");
    assert_eq!(user(r#"{"user":"field:remote-user"}"#, "a"), "1.2.3.4");
}

#[test]
fn the_host_of_a_referrer_is_put_into_lower_case() {
    let line = r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1 "HTTP://Example.COM/Path?Q" "-""#;
    assert_eq!(json("", line)["referrer"], "http://example.com/Path?Q");
    assert_eq!(json(r#"{"lower-host":false}"#, line)["referrer"], "HTTP://Example.COM/Path?Q");
}
