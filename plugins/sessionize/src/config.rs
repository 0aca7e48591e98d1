//! The configuration of the operator.

use serde::Deserialize;
use wasmill_sdk::config::{Span, error};
use wasmill_sdk::prelude::ConfigError;

/// The default of [`Config::max_events`]. It bounds a key's state at about 80 kB for each open
/// session, the size it has when every event is of another page.
pub const DEFAULT_MAX_EVENTS: u32 = 10_000;

/// The stage's `config` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// The longest pause within a session: events exactly this far apart still belong together.
    pub gap: Span,
    /// Allowed lateness: how long a session stays open beyond the time at which the watermark says
    /// that it is over.
    pub lateness: Span,
    /// A session is cut with its event of this number, at least 1.
    pub max_events: u32,
    /// A session is cut by the event that would make it longer than this; none for no such limit.
    pub max_duration: Option<Span>,
    /// The action that completes a session; none when only inactivity ends one.
    pub complete: Option<Completion>,
    /// The field of an event that names the page.
    pub page_field: String,
}

/// Which events complete a session.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Completion {
    /// The field that names the action.
    #[serde(default = "default_field")]
    pub field: String,
    /// The actions that complete a session.
    pub values: Vec<String>,
}

fn default_field() -> String {
    "type".to_owned()
}

impl Default for Config {
    fn default() -> Self {
        Self {
            gap: Span(1_800_000),
            lateness: Span(0),
            max_events: DEFAULT_MAX_EVENTS,
            max_duration: None,
            complete: None,
            page_field: "path".to_owned(),
        }
    }
}

impl Config {
    /// Checks what the types leave open.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the key.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.max_events == 0 {
            return Err(error("max-events", "found 0; a session has at least 1 event"));
        }
        if self.complete.as_ref().is_some_and(|c| c.values.is_empty()) {
            return Err(error(
                "complete.values",
                "found no value; name the actions that complete a session, for example \
                 [\"purchase\"], or leave `complete` out",
            ));
        }
        Ok(())
    }
}
