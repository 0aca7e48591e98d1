//! What holds for any input.

use proptest::prelude::*;

use crate::{clean, run};

fn configs() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        r#"{"format":"combined","user":"field:remote-user"}"#,
        r#"{"format":"alb","host":true}"#,
        r#"{"format":"elb","user":"ip+agent"}"#,
        r#"{"user":"field:a","drop-query":["a*"],"index-files":["a"],"host":true,"drop-extensions":["b"]}"#,
    ])
}

/// Bytes that a server writes within quotes.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<u8>()
            .prop_filter("escaped by servers", |b| *b != b'"' && *b != b'\\')
            .prop_map(|b| vec![b]),
        any::<u8>().prop_map(|b| format!("\\x{b:02x}").into_bytes()),
        prop::sample::select(vec![
            "\\\"", "\\\\", "\\n", "%41", "//", "?", "#", "=", "&", "a", " ", "http://"
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

/// A line of a combined log or a load balancer with arbitrary fields.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let ip = "[!-~]{1,12}";
    (ip, field(), field(), field(), 0u16..1000, any::<u64>(), any::<bool>()).prop_map(
        |(ip, target, referrer, agent, status, bytes, balancer)| {
            let request = [b"GET ", &target[..], b" HTTP/1.1"].concat();
            if balancer {
                let head =
                    format!("2015-05-13T23:39:43.9Z lb {ip}:1 - 0 0 0 {status} - 0 {bytes} \"");
                [head.as_bytes(), &request, b"\" \"", &agent, b"\" - -"].concat()
            } else {
                let head = format!("{ip} - - [17/May/2015:10:05:03 +0000] \"");
                let middle = format!("\" {status} {bytes} \"");
                [head.as_bytes(), &request, middle.as_bytes(), &referrer, b"\" \"", &agent, b"\""]
                    .concat()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_never_panic(line in prop::collection::vec(any::<u8>(), 0..120), config in configs()) {
        let reply = run(&clean(config).unwrap(), &[&line]);
        prop_assert_eq!(reply.rows.len() + reply.rejections.rows.len(), 1);
    }

    #[test]
    fn a_damaged_line_is_emitted_as_json_or_rejected(
        mut line in line(), at in any::<prop::sample::Index>(), byte in any::<u8>(), config in configs()) {
        let at = at.index(line.len());
        line[at] = byte;
        let reply = run(&clean(config).unwrap(), &[&line]);
        prop_assert_eq!(reply.rows.len() + reply.rejections.rows.len(), 1);
        for value in reply.values.iter() {
            serde_json::from_slice::<serde_json::Value>(value.unwrap()).unwrap();
        }
    }

    #[test]
    fn any_fields_make_valid_json_whose_user_is_the_key(line in line(), config in configs()) {
        let reply = run(&clean(config).unwrap(), &[&line]);
        for kind in &reply.rejections.kinds {
            // A line as a server writes it can be read, unless it is of another format.
            let wrong_format = config.contains("elb") || config.contains("alb") || config.contains("combined");
            prop_assert!(wrong_format || kind.name() == "invalid", "{:?}", reply.rejections);
        }
        for (i, value) in reply.values.iter().enumerate() {
            let event: serde_json::Value = serde_json::from_slice(value.unwrap()).unwrap();
            let key = std::str::from_utf8(reply.keys.as_ref().unwrap().bytes(i)).unwrap();
            prop_assert_eq!(&event["user"], key);
            prop_assert_eq!(event["ts"].as_i64(), Some(reply.timestamps[i]));
        }
    }
}
