//! The sessionizer of the peers that the benchmark measures against, as a plugin.
//!
//! Invariant: it reads, keeps and emits what they do. An event that comes more than [`GAP_MS`] after
//! the user's last one ends the session, which goes out before the event; every event goes out with
//! its session, its number in it and the session's duration so far.

use std::fmt::Write;

use wasmill_sdk::prelude::*;

/// The longest pause within a session, in ms.
pub const GAP_MS: i64 = 30 * 60 * 1_000;

/// The plugin.
pub struct Sessions;

/// A page view, as it comes in.
#[derive(Deserialize)]
struct Event<'a> {
    user: &'a str,
    ts: i64,
    url: &'a str,
    status: u16,
}

/// A page view, as it goes out.
#[derive(Serialize)]
struct Live<'a> {
    user: &'a str,
    ts: i64,
    url: &'a str,
    status: u16,
    session_id: &'a str,
    seq: u32,
    duration_ms: i64,
}

/// A session that has ended.
#[derive(Serialize)]
struct Closed<'a> {
    session_id: &'a str,
    user: &'a str,
    start_ms: i64,
    end_ms: i64,
    duration_ms: i64,
    events: u32,
}

/// The open session of a user: times in ms since the Unix epoch; no events before the first one.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Session {
    /// The time of its first event.
    pub start: i64,
    /// The greatest time of its events.
    pub last: i64,
    /// The number of its events.
    pub events: u32,
}

/// A session's id, in the same buffer for all.
fn name<'a>(into: &'a mut String, user: &str, start: i64) -> &'a str {
    into.clear();
    // Writing into a string does not fail.
    let _ = write!(into, "{user}-{start:x}");
    into
}

impl Keyed for Sessions {
    type Config = NoConfig;
    type State = Session;

    fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn process(
        &self,
        record: &Record<'_>,
        state: &mut State<Session>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), Rejection> {
        let event: Event<'_> = record.json()?;
        let session: &mut Session = state;
        let mut id = String::with_capacity(48);
        if session.events > 0 && event.ts - session.last > GAP_MS {
            let closed = Closed {
                session_id: name(&mut id, event.user, session.start),
                user: event.user,
                start_ms: session.start,
                end_ms: session.last,
                duration_ms: session.last - session.start,
                events: session.events,
            };
            ctx.to(0).timestamp(session.last).json(&closed);
            session.events = 0;
        }
        if session.events == 0 {
            session.start = event.ts;
        }
        session.last = session.last.max(event.ts);
        session.events += 1;
        let live = Live {
            user: event.user,
            ts: event.ts,
            url: event.url,
            status: event.status,
            session_id: name(&mut id, event.user, session.start),
            seq: session.events,
            duration_ms: session.last - session.start,
        };
        ctx.to(0).timestamp(event.ts).json(&live);
        Ok(())
    }
}

wasmill_sdk::export!(keyed Sessions);

#[cfg(test)]
mod tests {
    use super::*;
    use wasmill_sdk::testing::Harness;

    #[test]
    fn a_session_that_a_gap_has_ended_goes_out_before_the_event_that_shows_it() {
        let mut harness = Harness::keyed::<Sessions>("{}").unwrap();
        let event =
            |ts: i64| format!(r#"{{"user":"u1","ts":{ts},"url":"/a","status":200,"pad":"x"}}"#);
        for ts in [1_000, 2_000, 2_001 + GAP_MS] {
            harness.pipe("u1", ts, event(ts));
        }
        assert_eq!(
            harness.texts("out"),
            [
                r#"{"user":"u1","ts":1000,"url":"/a","status":200,"session_id":"u1-3e8","seq":1,"duration_ms":0}"#,
                r#"{"user":"u1","ts":2000,"url":"/a","status":200,"session_id":"u1-3e8","seq":2,"duration_ms":1000}"#,
                r#"{"session_id":"u1-3e8","user":"u1","start_ms":1000,"end_ms":2000,"duration_ms":1000,"events":2}"#,
                r#"{"user":"u1","ts":1802001,"url":"/a","status":200,"session_id":"u1-1b7f11","seq":1,"duration_ms":0}"#,
            ]
        );
    }
}
