//! Groups the events of each user into sessions.
//!
//! A session is a run of events of one key whose pauses are at most `gap`, ended by inactivity, by a
//! completing action or by a limit. Every accepted event goes on at once with the fields of its
//! session (output `live`); every closed session is reported once (output `final`). Invariant: each
//! accepted event is counted in exactly one closed session, and every session id that a live event
//! bears is the id or one of the `merged_ids` of one closed session.

mod config;
mod event;
mod json;
mod pages;
mod report;
mod session;
mod sessions;

use wasmill_sdk::prelude::*;

pub use config::{Completion, Config, DEFAULT_MAX_EVENTS};
use event::Fields;
use report::EndedBy;
use session::Session;
use sessions::{Placement, Rules, Sessions};

/// The output of events with the fields of their session.
pub const LIVE: usize = 0;

/// The output of closed sessions.
pub const FINAL: usize = 1;

/// The one timer of a user. It is set when a session opens and is not moved by the events that
/// extend it: it fires, finds that the session goes on, and is set anew.
const TIMER: u64 = 0;

/// The operator.
#[derive(Debug)]
pub struct Sessionize {
    rules: Rules,
    fields: Fields,
}

/// The state of a user: the open sessions and what has to be remembered of closed ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserState(Sessions);

impl Keyed for Sessionize {
    type Config = Config;
    type State = UserState;

    fn describe() -> Description {
        let output = |name: &str, summary: &str| OutputPort {
            name: name.into(),
            summary: summary.into(),
            ..OutputPort::default()
        };
        Description {
            name: "sessionize".into(),
            ports: Ports {
                inputs: vec![InputPort {
                    name: "in".into(),
                    summary: "Events as JSON objects, keyed by user.".into(),
                }],
                outputs: vec![
                    output("live", "Each accepted event at once, with the fields of its session."),
                    output("final", "Each session once, when it is closed."),
                ],
            },
            config_schema: include_str!("../schema.json").into(),
            ..Description::default()
        }
    }

    fn new(config: Config, _: &Setup) -> Result<Self, ConfigError> {
        config.check()?;
        let Config { gap, lateness, max_events, max_duration, complete, page_field } = config;
        let completion = complete.map(|Completion { field, values }| (field, values));
        Ok(Self {
            rules: Rules {
                gap: gap.ms(),
                lateness: lateness.ms(),
                max_events,
                max_duration: max_duration.map_or(i64::MAX, |span| span.ms()),
            },
            fields: Fields { page: page_field, completion },
        })
    }

    #[inline]
    fn process(
        &self,
        record: &Record<'_>,
        state: &mut State<UserState>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), Rejection> {
        let user = self.user(record)?;
        let bytes = record.bytes()?;
        let event = self.fields.read(bytes)?;
        let (time, watermark) = (record.timestamp(), record.watermark());
        let mut placement = state.0.place(&self.rules, time, event.completes, watermark);
        if let Placement::Late(closed) = placement {
            return Err(late(time, closed, watermark));
        }
        // The results of a cut are of now; the next instant that no later stage has closed yet.
        let now = time.max(watermark.saturating_add(1));
        let sessions = &mut state.0;
        while let Placement::Cut(at) = placement {
            let session = sessions.cut(at);
            report(ctx, now, user, &session, EndedBy::MaxDuration);
            placement = sessions.place(&self.rules, time, event.completes, watermark);
        }
        let at = sessions.add(placement, time, event.page.as_deref());
        let session = &mut sessions.open[at];
        session.completed |= event.completes;
        ctx.to(LIVE).write(|out| report::write_live(out, bytes, user, session));
        if session.events >= self.rules.max_events {
            let session = sessions.cut(at);
            let limit = if session.completed { EndedBy::Completion } else { EndedBy::MaxEvents };
            report(ctx, now, user, &session, limit);
        }
        if let Some(due) = sessions.due(&self.rules)
            && sessions.armed.is_none_or(|armed| due < armed)
        {
            sessions.armed = Some(due);
            ctx.set_timer(TIMER, due);
        }
        Ok(())
    }

    fn on_timer(&self, timer: &Timer<'_>, state: &mut State<UserState>, ctx: &mut Context<'_, '_>) {
        let (clock, user) = (timer.watermark, timer.key_text());
        let sessions = &mut state.0;
        while let Some(session) = sessions.close_one(&self.rules, clock) {
            let ended_by =
                if session.completed { EndedBy::Completion } else { EndedBy::Inactivity };
            ctx.to(FINAL).write(|out| report::write_closed(out, &user, &session, ended_by));
        }
        sessions.armed = sessions.due(&self.rules).filter(|due| *due > clock);
        match sessions.armed {
            Some(due) => ctx.set_timer(TIMER, due),
            None => state.clear(),
        }
    }
}

impl Sessionize {
    /// The user that a record is of.
    fn user<'a>(&self, record: &Record<'a>) -> Result<&'a str, Rejection> {
        if record.key().is_none() {
            return Err(Rejection::malformed(
                "the record has no key; sessions are formed by user, so give each record its user \
                 as the key",
            ));
        }
        record.key_text()
    }
}

fn report(ctx: &mut Context<'_, '_>, now: i64, user: &str, session: &Session, ended_by: EndedBy) {
    ctx.to(FINAL).timestamp(now).write(|out| report::write_closed(out, user, session, ended_by));
}

fn late(time: i64, closed: i64, watermark: i64) -> Rejection {
    Rejection::late(format!(
        "the session of an event at {time} closed at {closed}, {} ms before the watermark {watermark}",
        watermark.saturating_sub(closed)
    ))
}

wasmill_sdk::export!(keyed Sessionize);
