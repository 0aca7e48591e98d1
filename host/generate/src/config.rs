//! What is generated. Invariant: a [`Config`] that passes [`Config::check`] can be generated.

use serde::Deserialize;

use crate::users::MAX_USERS;

/// What is generated.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The seed; another seed gives another stream.
    pub seed: u64,
    /// The number of users, bots included, 1 to 16,777,216. Each has its own IPv4 address.
    pub users: u32,
    /// Events a second of event time, above 0.
    pub rate: f64,
    /// The number of events; none for a stream without end.
    pub events: Option<u64>,
    /// The time of the first event, in ms since the Unix epoch, between the years 1970 and 9999.
    pub start_ms: i64,
    /// How far an event may lie behind the latest one before it, in ms. Lines carry whole seconds, so
    /// below 1,000 nothing is out of order.
    pub out_of_orderness_ms: i64,
    /// The share of events, 0 to 1, that are held back by a random time up to `out-of-orderness-ms`.
    pub late_share: f64,
    /// The share of lines, 0 to 1, that can't be parsed.
    pub malformed_share: f64,
    /// The share of events, 0 to 1, that come from bots.
    pub bot_share: f64,
    /// The number of pages, 1 to 1,000,000; the k-th is viewed 1/k as often as the first (Zipf).
    pub pages: u32,
    /// The mean length of lines, in bytes, 160 to 8,000: user agents are cut or padded to reach it.
    pub line_bytes: usize,
}

impl Default for Config {
    /// A million users, 1,000 events a second from 2015-05-17T10:05:00Z on, up to 60 s out of order.
    fn default() -> Self {
        Self {
            seed: 1,
            users: 1_000_000,
            rate: 1_000.0,
            events: None,
            start_ms: 1_431_857_100_000,
            out_of_orderness_ms: 60_000,
            late_share: 0.2,
            malformed_share: 0.001,
            bot_share: 0.05,
            pages: 10_000,
            line_bytes: 200,
        }
    }
}

/// Why something can't be generated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{key} = {found}: expected {expected}")]
pub struct Error {
    /// The key of the configuration.
    pub key: &'static str,
    /// Its value.
    pub found: String,
    /// What would do.
    pub expected: &'static str,
}

/// 9999-01-01T00:00:00Z, in ms.
const MAX_START_MS: i64 = 253_370_764_800_000;
/// A year, in ms.
const MAX_OUT_OF_ORDERNESS_MS: i64 = 31_536_000_000;

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// An [`Error`] for the first value that is out of its range.
    pub fn check(&self) -> Result<(), Error> {
        let check = |good: bool, key, found: String, expected| {
            if good { Ok(()) } else { Err(Error { key, found, expected }) }
        };
        let share = |key, share: f64| {
            check((0.0..=1.0).contains(&share), key, share.to_string(), "a share between 0 and 1")
        };
        check(
            (1..=MAX_USERS).contains(&self.users),
            "users",
            self.users.to_string(),
            "1 to 16777216 users",
        )?;
        check(
            self.rate.is_finite() && self.rate > 0.0,
            "rate",
            self.rate.to_string(),
            "a number of events a second above 0",
        )?;
        check(
            (0..=MAX_START_MS).contains(&self.start_ms),
            "start-ms",
            self.start_ms.to_string(),
            "a time between the years 1970 and 9999, in ms since the Unix epoch",
        )?;
        check(
            (0..=MAX_OUT_OF_ORDERNESS_MS).contains(&self.out_of_orderness_ms),
            "out-of-orderness-ms",
            self.out_of_orderness_ms.to_string(),
            "0 ms to a year",
        )?;
        share("late-share", self.late_share)?;
        share("malformed-share", self.malformed_share)?;
        share("bot-share", self.bot_share)?;
        check(
            (1..=1_000_000).contains(&self.pages),
            "pages",
            self.pages.to_string(),
            "1 to 1000000 pages",
        )?;
        check(
            (160..=8_000).contains(&self.line_bytes),
            "line-bytes",
            self.line_bytes.to_string(),
            "160 to 8000 bytes",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_range_is_named() {
        let wrong = [
            Config { users: 0, ..Config::default() },
            Config { users: MAX_USERS + 1, ..Config::default() },
            Config { rate: 0.0, ..Config::default() },
            Config { rate: f64::NAN, ..Config::default() },
            Config { start_ms: -1, ..Config::default() },
            Config { out_of_orderness_ms: -1, ..Config::default() },
            Config { late_share: 1.5, ..Config::default() },
            Config { malformed_share: -0.1, ..Config::default() },
            Config { bot_share: f64::NAN, ..Config::default() },
            Config { pages: 0, ..Config::default() },
            Config { line_bytes: 100, ..Config::default() },
        ];
        let keys: Vec<_> = wrong.iter().map(|config| config.check().unwrap_err().key).collect();
        assert_eq!(
            keys,
            [
                "users",
                "users",
                "rate",
                "rate",
                "start-ms",
                "out-of-orderness-ms",
                "late-share",
                "malformed-share",
                "bot-share",
                "pages",
                "line-bytes"
            ]
        );
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn keys_are_read_in_kebab_case() {
        let config: Config =
            serde_json::from_str(r#"{"late-share": 0.5, "line-bytes": 300}"#).unwrap();
        assert_eq!(config, Config { late_share: 0.5, line_bytes: 300, ..Config::default() });
        assert!(serde_json::from_str::<Config>(r#"{"lines": 1}"#).is_err());
    }
}
