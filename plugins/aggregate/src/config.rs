//! The configuration of the operator.

use std::collections::BTreeMap;

use serde::Deserialize;
use wasmill_sdk::config::{Span, error};
use wasmill_sdk::prelude::ConfigError;
use wasmill_sdk::window::Windows;

use crate::counts;

/// The default of [`Config::top`].
pub const DEFAULT_TOP: u32 = 10;

/// The most that [`Config::top`] can be: a ranking is kept in one state and emitted as one record.
pub const MAX_TOP: u32 = 10_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Page views and different users, of events keyed by page.
    Pages,
    /// Visits, pages and time, of closed sessions under any key.
    Visits,
    /// Visits, events and time, of closed sessions keyed by user.
    Users,
    /// The first of the results of another measure, all under one key.
    Top,
    /// Records, and those that have certain fields, of anything under any key.
    Count,
}

/// The stage's `config` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// What is counted.
    pub measure: Measure,
    /// The windows: `{ size, hop, offset }`. Needed by every measure but `top`, which has the windows
    /// of its input.
    pub window: Option<Windows>,
    /// Allowed lateness: how long a window stays open beyond its end. `top` needs that of the stage
    /// whose results it ranks.
    #[serde(default = "no_lateness")]
    pub lateness: Span,
    /// How often, in event time, the results of windows that are open are emitted, marked as early.
    /// None for once, when a window closes; not for `top`.
    pub emit_every: Option<Span>,
    /// The length of a ranking, for `top`: 1 to [`MAX_TOP`], [`DEFAULT_TOP`] when left out.
    pub top: Option<u32>,
    /// The number field that a ranking goes by, highest first, for `top`: `count` when left out.
    pub rank_by: Option<String>,
    /// For `count`: the fields whose records are counted, as dotted paths, by the name that the count
    /// has in the result.
    #[serde(default)]
    pub counts: BTreeMap<String, String>,
    /// The field of an event that names the user, for `pages`.
    #[serde(default = "user_field")]
    pub user_field: String,
    /// The field of a session with its number of events, for `visits` and `users`.
    #[serde(default = "events_field")]
    pub events_field: String,
    /// The field of a session with its duration in ms, for `visits` and `users`.
    #[serde(default = "duration_field")]
    pub duration_field: String,
}

fn no_lateness() -> Span {
    Span(0)
}

fn user_field() -> String {
    "user".to_owned()
}

fn events_field() -> String {
    "events".to_owned()
}

fn duration_field() -> String {
    "duration_ms".to_owned()
}

impl Config {
    /// Checks what the types leave open.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the key.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        counts::check(self)?;
        if self.measure == Measure::Top {
            if self.window.is_some() {
                return Err(error(
                    "window",
                    "the measure \"top\" has the windows of its input (window_start_ms, \
                     window_end_ms); leave `window` out",
                ));
            }
            if self.emit_every.is_some() {
                return Err(error(
                    "emit-every",
                    "the measure \"top\" gets all results of a window when it closes, so there is \
                     nothing to emit before; leave `emit-every` out",
                ));
            }
        } else {
            if self.window.is_none() {
                return Err(error(
                    "window",
                    "found no window; say for example window = { size = \"1h\", hop = \"5m\" }",
                ));
            }
            let other = [("top", self.top.is_some()), ("rank-by", self.rank_by.is_some())];
            if let Some((key, _)) = other.iter().find(|(_, given)| *given) {
                return Err(error(
                    *key,
                    "is for the measure \"top\"; put a stage with that measure behind this one",
                ));
            }
        }
        if self.emit_every.is_some_and(|every| every.ms() == 0) {
            return Err(error("emit-every", "found no length of time; say for example \"1m\""));
        }
        match self.top {
            Some(top) if !(1..=MAX_TOP).contains(&top) => {
                Err(error("top", format!("found {top}; a ranking has 1 to {MAX_TOP} places")))
            }
            _ => Ok(()),
        }
    }
}
