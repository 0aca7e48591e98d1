//! What is written: session ids, live events, closed sessions.

use std::borrow::Cow;
use std::fmt::Write;

use serde::Serialize;

use crate::session::{Birth, Session};

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EndedBy {
    Inactivity,
    Completion,
    MaxEvents,
    MaxDuration,
}

/// A closed session; its fields are written in this order.
#[derive(Serialize)]
struct Closed<'a> {
    session_id: String,
    user: &'a str,
    start_ms: i64,
    end_ms: i64,
    duration_ms: i64,
    events: u32,
    unique_pages: usize,
    entry_page: Option<Cow<'a, str>>,
    exit_page: Option<Cow<'a, str>>,
    ended_by: EndedBy,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    merged_ids: Vec<String>,
}

/// The id of a session: the user, `-`, the start at creation in hexadecimal ms (two's complement
/// before the epoch), and `.n` when `n` sessions of the user had been cut before.
fn id(user: &str, birth: Birth) -> String {
    let mut id = String::with_capacity(user.len() + 16);
    id.push_str(user);
    push_birth(&mut id, birth);
    id
}

fn push_birth(id: &mut String, birth: Birth) {
    let written = match birth.cuts {
        0 => write!(id, "-{:x}", birth.time),
        cuts => write!(id, "-{:x}.{cuts}", birth.time),
    };
    written.expect("writing to a string does not fail");
}

/// Writes a closed session as JSON.
pub(crate) fn write_closed(out: &mut Vec<u8>, user: &str, session: &Session, ended_by: EndedBy) {
    let closed = Closed {
        session_id: id(user, session.birth),
        user,
        start_ms: session.start,
        end_ms: session.end,
        duration_ms: session.duration(),
        events: session.events,
        unique_pages: session.unique_pages(),
        entry_page: session.entry_page(),
        exit_page: session.exit_page(),
        ended_by,
        merged_ids: session.merged.iter().map(|birth| id(user, *birth)).collect(),
    };
    serde_json::to_writer(out, &closed).expect("text and numbers can be written as JSON");
}

/// Writes an event with the fields of its session at the end. `event` is a JSON object.
#[inline]
pub(crate) fn write_live(out: &mut Vec<u8>, event: &[u8], user: &str, session: &Session) {
    let body = event.trim_ascii_end();
    let body = body.strip_suffix(b"}").unwrap_or(body);
    out.reserve(body.len() + user.len() + 96);
    out.extend_from_slice(body);
    // The body of an object that has fields ends with a value, never with a brace that opens.
    if !body.trim_ascii_end().ends_with(b"{") {
        out.push(b',');
    }
    out.extend_from_slice(b"\"session_id\":\"");
    write_text(out, user);
    write_birth(out, session.birth);
    out.extend_from_slice(b"\",\"session_seq\":");
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(session.events).as_bytes());
    out.extend_from_slice(b",\"session_duration_ms\":");
    out.extend_from_slice(digits.format(session.duration()).as_bytes());
    out.push(b'}');
}

/// Writes the part of an id behind the user, as [`push_birth`] does.
#[inline]
fn write_birth(out: &mut Vec<u8>, birth: Birth) {
    out.push(b'-');
    let time = birth.time.cast_unsigned();
    let digits = (64 - time.leading_zeros()).div_ceil(4).max(1);
    for i in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(time >> (4 * i)) as usize & 15]);
    }
    if birth.cuts > 0 {
        out.push(b'.');
        out.extend_from_slice(itoa::Buffer::new().format(birth.cuts).as_bytes());
    }
}

/// Writes the inside of a JSON string.
#[inline]
fn write_text(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    let quoted = serde_json::to_string(text).expect("text can be written as JSON");
    out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn live(event: &str, user: &str, birth: Birth) -> String {
        let mut session = Session::new(birth.time, birth.cuts);
        session.add(birth.time, None);
        session.add(birth.time.saturating_add(5), None);
        let mut out = Vec::new();
        write_live(&mut out, event.as_bytes(), user, &session);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_fields_of_the_session_come_last() {
        let birth = Birth { time: 1_431_857_103_000, cuts: 0 };
        assert_eq!(
            live(r#"{"path":"/a"}"#, "u", birth),
            r#"{"path":"/a","session_id":"u-14d61558098","session_seq":2,"session_duration_ms":5}"#
        );
        let birth = Birth { time: 0, cuts: 3 };
        let fields = r#""session_id":"u-0.3","session_seq":2,"session_duration_ms":5}"#;
        assert_eq!(live("{}", "u", birth), format!("{{{fields}"));
        assert_eq!(live(" { } \n", "u", birth), format!(" {{ {fields}"));
        assert_eq!(live(r#"{"a":{} } "#, "u", birth), format!(r#"{{"a":{{}} ,{fields}"#));
    }

    proptest! {
        #[test]
        fn live_events_and_closed_sessions_bear_the_same_id(
            user in any::<String>(), time in any::<i64>(), cuts in any::<u32>(),
        ) {
            let birth = Birth { time, cuts };
            let live: serde_json::Value = serde_json::from_str(&live("{}", &user, birth)).unwrap();
            prop_assert_eq!(live["session_id"].as_str().unwrap(), id(&user, birth));
            // The user can be told from the rest, so no two users share an id.
            let id = id(&user, birth);
            prop_assert_eq!(id.rsplit_once('-').unwrap().0, user);
        }
    }
}
