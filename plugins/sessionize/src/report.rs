//! What is written: session ids, live events, closed sessions.

use std::borrow::Cow;

use crate::session::{Birth, Session};

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndedBy {
    Inactivity,
    Completion,
    MaxEvents,
    MaxDuration,
}

impl EndedBy {
    fn name(self) -> &'static str {
        match self {
            Self::Inactivity => "inactivity",
            Self::Completion => "completion",
            Self::MaxEvents => "max-events",
            Self::MaxDuration => "max-duration",
        }
    }
}

/// Writes a closed session as JSON. By hand, as live events: with many users, there is one for nearly
/// each event.
pub(crate) fn write_closed(out: &mut Vec<u8>, user: &str, session: &Session, ended_by: EndedBy) {
    let (entry, exit) = (session.entry_page(), session.exit_page());
    let page = |page: &Option<Cow<'_, str>>| page.as_ref().map_or(4, |page| page.len());
    out.reserve(2 * user.len() + page(&entry) + page(&exit) + 300);
    out.extend_from_slice(b"{\"session_id\":\"");
    write_id(out, user, session.birth);
    out.extend_from_slice(b"\",\"user\":\"");
    write_text(out, user);
    out.push(b'"');
    write_number(out, ",\"start_ms\":", session.start);
    write_number(out, ",\"end_ms\":", session.end);
    write_number(out, ",\"duration_ms\":", session.duration());
    write_number(out, ",\"events\":", session.events);
    write_number(out, ",\"unique_pages\":", session.unique_pages());
    for (name, page) in [(",\"entry_page\":", &entry), (",\"exit_page\":", &exit)] {
        out.extend_from_slice(name.as_bytes());
        match page {
            None => out.extend_from_slice(b"null"),
            Some(page) => {
                out.push(b'"');
                write_text(out, page);
                out.push(b'"');
            }
        }
    }
    out.extend_from_slice(b",\"ended_by\":\"");
    out.extend_from_slice(ended_by.name().as_bytes());
    out.push(b'"');
    for (i, birth) in session.merged.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b",\"merged_ids\":[\"" } else { b",\"" });
        write_id(out, user, *birth);
        out.push(b'"');
    }
    if !session.merged.is_empty() {
        out.push(b']');
    }
    out.push(b'}');
}

#[inline]
fn write_number(out: &mut Vec<u8>, name: &str, number: impl itoa::Integer) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
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
    write_id(out, user, session.birth);
    write_number(out, "\",\"session_seq\":", session.events);
    write_number(out, ",\"session_duration_ms\":", session.duration());
    out.push(b'}');
}

/// Writes the id of a session: the user, `-`, the start at creation in hexadecimal ms (two's
/// complement before the epoch), and `.n` when `n` sessions of the user had been cut before.
#[inline]
fn write_id(out: &mut Vec<u8>, user: &str, birth: Birth) {
    write_text(out, user);
    write_birth(out, birth);
}

/// Writes the part of an id behind the user.
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

    fn id(user: &str, birth: Birth) -> String {
        match birth.cuts {
            0 => format!("{user}-{:x}", birth.time),
            cuts => format!("{user}-{:x}.{cuts}", birth.time),
        }
    }

    proptest! {
        #[test]
        fn live_events_and_closed_sessions_bear_the_same_id(
            user in any::<String>(), time in any::<i64>(), cuts in any::<u32>(),
        ) {
            let birth = Birth { time, cuts };
            let live: serde_json::Value = serde_json::from_str(&live("{}", &user, birth)).unwrap();
            let id = id(&user, birth);
            prop_assert_eq!(live["session_id"].as_str().unwrap(), &id);
            // The user can be told from the rest, so no two users share an id.
            prop_assert_eq!(id.rsplit_once('-').unwrap().0, user);
        }

        #[test]
        fn a_closed_session_is_an_object_with_its_fields_in_order(
            user in any::<String>(), pages in prop::collection::vec(any::<String>(), 0..3),
            time in any::<i64>(), cuts in any::<u32>(), merged in any::<Option<(i64, u32)>>(),
        ) {
            let birth = Birth { time, cuts };
            let mut session = Session::new(time, cuts);
            session.add(time, None);
            pages.iter().for_each(|page| session.add(time, Some(page)));
            session.merged.extend(merged.map(|(time, cuts)| Birth { time, cuts }));
            let mut out = Vec::new();
            write_closed(&mut out, &user, &session, EndedBy::MaxEvents);
            let quoted = |text: &str| serde_json::to_string(text).unwrap();
            let page = |page: Option<&String>| page.map_or("null".to_owned(), |p| quoted(p));
            let distinct = pages.iter().collect::<std::collections::HashSet<_>>().len();
            let merged = session.merged.first().map_or(String::new(), |birth| {
                format!(",\"merged_ids\":[{}]", quoted(&id(&user, *birth)))
            });
            let expected = format!(
                "{{\"session_id\":{},\"user\":{},\"start_ms\":{time},\"end_ms\":{time},\
                 \"duration_ms\":0,\"events\":{},\"unique_pages\":{distinct},\
                 \"entry_page\":{},\"exit_page\":{},\"ended_by\":\"max-events\"{merged}}}",
                quoted(&id(&user, birth)), quoted(&user), 1 + pages.len(),
                page(pages.first()), page(pages.last()),
            );
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
