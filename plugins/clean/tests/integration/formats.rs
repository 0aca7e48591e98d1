//! Lines of every format, from the documentation of their servers.

use crate::{clean, event, json, run};

const COMBINED: &str = r#"83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET /a/b?x=1 HTTP/1.1" 200 203023 "http://example.com/" "Mozilla/5.0 (X11)""#;

#[test]
fn a_combined_line_becomes_a_page_view() {
    assert_eq!(
        event("", COMBINED).unwrap(),
        r#"{"ts":1431857103000,"user":"83.149.9.216","ip":"83.149.9.216","type":"view","method":"GET","path":"/a/b","query":"x=1","status":200,"bytes":203023,"referrer":"http://example.com/","agent":"Mozilla/5.0 (X11)"}"#
    );
    let reply = run(&clean("").unwrap(), &[COMBINED]);
    assert_eq!(reply.timestamps, [1_431_857_103_000]);
    assert_eq!(reply.keys.unwrap().bytes(0), b"83.149.9.216");
    assert_eq!(event("", format!("{COMBINED}\r\n")), event("", COMBINED));
}

#[test]
fn absent_fields_are_left_out() {
    let line = r#"::1 - - [10/Oct/2000:13:55:36 -0700] "HEAD / HTTP/1.0" 304 - "-" "-""#;
    let expected = r#"{"ts":971211336000,"user":"::1","ip":"::1","type":"view","method":"HEAD","path":"/","status":304,"bytes":0}"#;
    assert_eq!(event("", line).unwrap(), expected);
}

#[test]
fn the_common_log_format_is_read_too() {
    let line =
        r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326"#;
    assert_eq!(json("", line)["bytes"], 2326);
    assert_eq!(json(r#"{"user":"field:remote-user"}"#, line)["user"], "frank");
}

#[test]
fn a_user_name_may_have_spaces() {
    let line = r#"10.0.0.1 - John Doe [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1 "-" "x""#;
    assert_eq!(json(r#"{"user":"field:remote-user"}"#, line)["user"], "John Doe");
    assert_eq!(json("", line)["user"], "10.0.0.1");
}

#[test]
fn fields_behind_the_agent_are_ignored() {
    let line = format!("{COMBINED} \"10.1.2.3\" rt=0.1");
    assert_eq!(event("", line), event("", COMBINED));
}

#[test]
fn an_agent_cut_off_by_the_end_of_the_line_is_kept() {
    let line = COMBINED.strip_suffix(" (X11)\"").unwrap();
    assert_eq!(json("", line)["agent"], "Mozilla/5.0");
}

#[test]
fn escaped_bytes_are_put_right_in_json() {
    let line = br#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /\"a\"\x09b\\ HTTP/1.1" 200 1 "http://x/\xe4\xC3\xB6" "say \"hi\"\n""#;
    let event = json("", line);
    assert_eq!(event["path"], "/\"a\"\tb\\");
    assert_eq!(event["referrer"], "http://x/\u{fffd}ö");
    assert_eq!(event["agent"], "say \"hi\"\n");
}

#[test]
fn bytes_that_are_no_utf8_are_replaced() {
    let mut line = COMBINED.as_bytes().to_vec();
    let at = line.windows(5).position(|w| w == b"(X11)").unwrap();
    line[at + 1] = 0xff;
    assert_eq!(json("", line)["agent"], "Mozilla/5.0 (\u{fffd}11)");
}

#[test]
fn a_classic_load_balancer_line_is_read() {
    let line = r#"2015-05-13T23:39:43.945958Z my-loadbalancer 192.168.131.39:2817 10.0.0.1:80 0.000086 0.001048 0.001337 200 200 0 57 "GET https://www.Example.com:443/a?b HTTP/1.1" "Mozilla/5.0" DHE-RSA-AES128-SHA TLSv1.2"#;
    let expected = r#"{"ts":1431560383945,"user":"192.168.131.39","ip":"192.168.131.39","type":"view","method":"GET","path":"/a","query":"b","status":200,"bytes":57,"agent":"Mozilla/5.0"}"#;
    assert_eq!(event("", line).unwrap(), expected);
    assert_eq!(event(r#"{"format":"elb"}"#, line).unwrap(), expected);
    assert_eq!(json(r#"{"host":true}"#, line)["host"], "www.example.com:443");
    assert!(event(r#"{"format":"alb"}"#, line).unwrap_err().contains("alb log: type at column 1"));
}

#[test]
fn a_line_of_a_tcp_listener_is_no_page_view() {
    let line = r#"2015-05-13T23:39:43.945958Z my-loadbalancer 192.168.131.39:2817 10.0.0.1:80 0.001069 0.000028 0.000041 - - 82 305 "- - - " "-" - -"#;
    let reason = event("", line).unwrap_err();
    assert!(reason.starts_with("invalid: ") && reason.contains("TCP listener"), "{reason}");
}

#[test]
fn application_load_balancer_lines_are_read() {
    for line in [
        r#"http 2018-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 192.168.131.39:2817 10.0.0.1:80 0.000 0.001 0.000 200 200 34 366 "GET http://www.example.com:80/ HTTP/1.1" "Mozilla/5.0" - - arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/my-targets/73e2d6bc24d8a067 "Root=1-58337262-36d228ad5d99923122bbe354" "-" "-" 0 2018-07-02T22:22:48.364000Z "forward" "-" "-" "10.0.0.1:80" "200" "-" "-" TID_1234abcd5678ef90"#,
        r#"h2 2018-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 192.168.131.39:2817 - -1 -1 -1 200 - 34 366 "GET https://www.example.com:443/ HTTP/2.0" "Mozilla/5.0" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 arn "Root=1""#,
    ] {
        let expected = r#"{"ts":1530570180186,"user":"192.168.131.39","ip":"192.168.131.39","type":"view","method":"GET","path":"/","status":200,"bytes":366,"agent":"Mozilla/5.0"}"#;
        assert_eq!(event("", line).unwrap(), expected);
    }
    let six = r#"https 2018-07-02T22:23:00.186641Z app/x [2001:db8::1]:2817 - -1 -1 -1 200 - 34 366 "GET https://a:443/ HTTP/2.0" "-" - -"#;
    assert_eq!(json("", six)["ip"], "2001:db8::1");
}

#[test]
fn what_cannot_be_read_is_malformed_with_field_and_column() {
    let cases = [
        ("", "the line is empty"),
        ("hello", "combined log: ident at column 6: found the end of the line"),
        (r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000 "GET / HTTP/1.1" 200 1"#, "time at column 13"),
        (
            r#"1.2.3.4 - - [31/Feb/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1"#,
            "a day that this month has",
        ),
        (
            r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1 200 1"#,
            "request at column 42",
        ),
        (
            r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 2x0 1"#,
            "status at column 59: found \"2x0 1\"",
        ),
        (
            r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 1000 1"#,
            "status at column 59",
        ),
        (r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200"#, "bytes at column 62"),
        (
            r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1 "-""#,
            "agent at column 68: found the end of the line",
        ),
        (
            "2015-05-13T23:39:43.945958Z lb 192.168.131.39 - 0 0 0 200 200 0 57 \"GET / HTTP/1.1\"",
            "elb log: client:port at column 32",
        ),
    ];
    for (line, expected) in cases {
        let reason = event("", line).unwrap_err();
        assert!(reason.starts_with("malformed: ") && reason.contains(expected), "{line}: {reason}");
    }
}
