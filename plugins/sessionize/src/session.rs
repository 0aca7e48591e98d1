//! One session as it is kept in the state: a fold over its events.
//!
//! Invariant: `start <= born <= end`, and start and end are the times of events.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::pages::{Ends, PageSet};

/// What makes a session's id, together with its user. Never the same for two sessions of a user
/// while the user has a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Birth {
    /// The start of the session when it was created, in ms since the Unix epoch.
    pub(crate) time: i64,
    /// How many sessions of the user had been cut before.
    pub(crate) cuts: u32,
}

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// The time of the first event.
    pub(crate) start: i64,
    /// The time of the last event.
    pub(crate) end: i64,
    pub(crate) birth: Birth,
    /// The number of events, at least 1.
    pub(crate) events: u32,
    /// Whether its completing action has been seen: no later event joins it.
    pub(crate) completed: bool,
    /// The times of the entry and the exit page; without meaning while there is no page.
    entry_at: i64,
    exit_at: i64,
    ends: Ends,
    pages: PageSet,
    /// The sessions that were absorbed.
    pub(crate) merged: Vec<Birth>,
}

impl Session {
    /// A session that is about to get its first event.
    pub(crate) fn new(time: i64, cuts: u32) -> Self {
        Self {
            start: time,
            end: time,
            birth: Birth { time, cuts },
            events: 0,
            completed: false,
            entry_at: time,
            exit_at: time,
            ends: Ends::default(),
            pages: PageSet::default(),
            merged: Vec::new(),
        }
    }

    /// Adds an event.
    #[inline]
    pub(crate) fn add(&mut self, time: i64, page: Option<&str>) {
        self.start = self.start.min(time);
        self.end = self.end.max(time);
        self.events += 1;
        let Some(page) = page else { return };
        let first = self.pages.len() == 0;
        self.pages.insert(page);
        if first {
            (self.entry_at, self.exit_at) = (time, time);
            self.ends.set_both(page);
            return;
        }
        // Ties go by arrival: the first to come is the entry, the last to come the exit.
        if time < self.entry_at {
            self.entry_at = time;
            self.ends.set_entry(page);
        }
        if time >= self.exit_at {
            self.exit_at = time;
            self.ends.set_exit(page);
        }
    }

    /// Takes over a session whose events are all later than its own.
    pub(crate) fn absorb(&mut self, later: Self) {
        if later.pages.len() > 0 {
            if self.pages.len() == 0 {
                self.entry_at = later.entry_at;
                self.ends.set_entry(&later.ends.entry());
            }
            self.exit_at = later.exit_at;
            self.ends.set_exit(&later.ends.exit());
        }
        self.end = later.end;
        self.events += later.events;
        self.completed = later.completed;
        self.pages.extend(&later.pages);
        self.merged.push(later.birth);
        self.merged.extend(later.merged);
    }

    /// From the first event to the last, in ms.
    pub(crate) fn duration(&self) -> i64 {
        self.end.saturating_sub(self.start)
    }

    /// The number of different pages.
    pub(crate) fn unique_pages(&self) -> usize {
        self.pages.len()
    }

    /// The page of the first event that has one.
    pub(crate) fn entry_page(&self) -> Option<Cow<'_, str>> {
        (self.pages.len() > 0).then(|| self.ends.entry())
    }

    /// The page of the last event that has one.
    pub(crate) fn exit_page(&self) -> Option<Cow<'_, str>> {
        (self.pages.len() > 0).then(|| self.ends.exit())
    }
}

/// The stored form: times as distances from the start, which are short.
type Stored = (i64, [i64; 4], u32, u32, bool, Ends, PageSet, Vec<Birth>);

impl Serialize for Session {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let after = |time: i64| time.wrapping_sub(self.start);
        (
            self.start,
            [
                after(self.end),
                after(self.birth.time),
                after(self.entry_at),
                self.end.wrapping_sub(self.exit_at),
            ],
            self.birth.cuts,
            self.events,
            self.completed,
            &self.ends,
            &self.pages,
            &self.merged,
        )
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Session {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (start, [length, birth, entry, exit], cuts, events, completed, ends, pages, merged) =
            Stored::deserialize(deserializer)?;
        let end = start.wrapping_add(length);
        Ok(Self {
            start,
            end,
            birth: Birth { time: start.wrapping_add(birth), cuts },
            events,
            completed,
            entry_at: start.wrapping_add(entry),
            exit_at: end.wrapping_sub(exit),
            ends,
            pages,
            merged,
        })
    }
}
