//! The open sessions of one user, and the decision where an event belongs.
//!
//! Invariant: open sessions are disjoint and in the order of their starts, and a timer is set for the
//! first moment at which one of them may close (`armed`), or an earlier one.

use serde::{Deserialize, Serialize};

use crate::session::Session;

/// The rules by which sessions form, all times in ms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) gap: i64,
    pub(crate) lateness: i64,
    pub(crate) max_events: u32,
    pub(crate) max_duration: i64,
}

impl Rules {
    /// The watermark at which no event within the gap of `end` is expected any more.
    fn expires_at(&self, end: i64) -> i64 {
        end.saturating_add(self.gap).saturating_add(self.lateness)
    }

    /// The watermark at which a session closes.
    fn closes_at(&self, session: &Session) -> i64 {
        if session.completed {
            session.end.saturating_add(self.lateness)
        } else {
            self.expires_at(session.end)
        }
    }
}

/// What becomes of an event. Indexes are those of [`Sessions::open`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Its session closed at this watermark.
    Late(i64),
    /// It would make this session too long: the session ends, then the event is to be placed anew.
    Cut(usize),
    /// It opens a session, to be put at this index.
    New(usize),
    /// It belongs to this session.
    Join(usize),
    /// It joins this session and the next one to one.
    Merge(usize),
}

/// The state of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sessions {
    pub(crate) open: Vec<Session>,
    /// What the timer is set to.
    pub(crate) armed: Option<i64>,
    /// The latest end of a session that closed by completion: events up to it are late.
    completed_until: Option<i64>,
    /// The latest end of a session that was cut.
    cut_until: Option<i64>,
    /// How many sessions have been cut; makes the ids of later ones different.
    pub(crate) cuts: u32,
}

impl Sessions {
    /// Decides where an event of this time belongs.
    #[inline]
    pub(crate) fn place(
        &self,
        rules: &Rules,
        time: i64,
        completing: bool,
        watermark: i64,
    ) -> Placement {
        if let Some(until) = self.completed_until.filter(|until| time <= *until) {
            return Placement::Late(until.saturating_add(rules.lateness));
        }
        let next = self.open.partition_point(|session| session.start <= time);
        if let Some(before) = next.checked_sub(1) {
            let session = &self.open[before];
            if time <= session.end {
                return Placement::Join(before);
            }
            if !session.completed && time.saturating_sub(session.end) <= rules.gap {
                if time.saturating_sub(session.start) > rules.max_duration {
                    return Placement::Cut(before);
                }
                let bridges = !completing && self.may_merge(rules, before, time);
                return if bridges { Placement::Merge(before) } else { Placement::Join(before) };
            }
        }
        if !completing
            && let Some(after) = self.open.get(next)
            && after.start.saturating_sub(time) <= rules.gap
            && after.end.saturating_sub(time) <= rules.max_duration
        {
            return Placement::Join(next);
        }
        let closed = rules.expires_at(time);
        if closed <= watermark { Placement::Late(closed) } else { Placement::New(next) }
    }

    /// Whether an event between two sessions, within the gap of the first, makes them one.
    fn may_merge(&self, rules: &Rules, first: usize, time: i64) -> bool {
        let Some(second) = self.open.get(first + 1) else { return false };
        let first = &self.open[first];
        second.start.saturating_sub(time) <= rules.gap
            && second.end.saturating_sub(first.start) <= rules.max_duration
            && first.events.saturating_add(second.events) < rules.max_events
    }

    /// Carries out a placement other than late or cut, and returns the index of the event's session.
    #[inline]
    pub(crate) fn add(&mut self, placement: Placement, time: i64, page: Option<&str>) -> usize {
        let at = match placement {
            Placement::New(at) => {
                self.open.insert(at, Session::new(time, self.cuts));
                at
            }
            Placement::Merge(at) => {
                let later = self.open.remove(at + 1);
                self.open[at].absorb(later);
                at
            }
            Placement::Join(at) => at,
            Placement::Late(_) | Placement::Cut(_) => {
                unreachable!("the caller rejects late events and cuts before it adds")
            }
        };
        self.open[at].add(time, page);
        at
    }

    /// Takes a session out because it has reached a limit.
    pub(crate) fn cut(&mut self, at: usize) -> Session {
        let session = self.open.remove(at);
        self.cuts += 1;
        self.cut_until = self.cut_until.max(Some(session.end));
        session
    }

    /// Takes out the first session that is over at this clock: by closing time, then start.
    pub(crate) fn close_one(&mut self, rules: &Rules, clock: i64) -> Option<Session> {
        let (closes, at) =
            self.open.iter().enumerate().map(|(i, s)| (rules.closes_at(s), i)).min()?;
        if closes > clock {
            return None;
        }
        let session = self.open.remove(at);
        if session.completed {
            self.completed_until = self.completed_until.max(Some(session.end));
        }
        Some(session)
    }

    /// When the timer has to fire next: when the first session closes or, without one, when events
    /// that what is remembered of past sessions is there for would be late anyway.
    #[inline]
    pub(crate) fn due(&self, rules: &Rules) -> Option<i64> {
        match self.open.as_slice() {
            [] => self.completed_until.max(self.cut_until).map(|end| rules.expires_at(end)),
            open => open.iter().map(|session| rules.closes_at(session)).min(),
        }
    }
}
