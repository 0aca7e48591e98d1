//! The business rules. Invariant: a line that breaks one is invalid, never malformed.

use wasmill_sdk::config::error;
use wasmill_sdk::prelude::{ConfigError, Rejection};

use crate::config::{Config, StatusRange};
use crate::cursor::excerpt;
use crate::line::Line;
use crate::request::Request;

/// What a request must be like.
#[derive(Debug)]
pub struct Rules {
    status: Vec<StatusRange>,
    methods: Vec<String>,
    max_future_ms: i64,
}

impl Rules {
    /// Takes them from the configuration.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        if config.status.is_empty() {
            return Err(error("status", "no status code is allowed; leave it out for 100 to 599"));
        }
        if config.methods.is_empty() {
            return Err(error("methods", "no method is allowed; leave it out for all registered"));
        }
        Ok(Self {
            status: config.status.clone(),
            methods: config.methods.clone(),
            max_future_ms: config.max_future.ms(),
        })
    }

    /// Says which rule a request breaks.
    #[inline]
    pub fn check(&self, line: &Line<'_>, request: &Request<'_>, now: i64) -> Result<(), Rejection> {
        if !self.methods.iter().any(|method| method.as_bytes() == request.method) {
            return Err(self.method(request));
        }
        if !self.status.iter().any(|r| r.first <= line.status && line.status <= r.last) {
            return Err(status(line.status));
        }
        if self.max_future_ms > 0 && line.timestamp > now.saturating_add(self.max_future_ms) {
            return Err(self.future(line.timestamp, now));
        }
        Ok(())
    }

    #[cold]
    fn method(&self, request: &Request<'_>) -> Rejection {
        Rejection::invalid(format!(
            "the method {:?} is none of the {} that are allowed (`methods`)",
            excerpt(request.method),
            self.methods.len()
        ))
    }

    #[cold]
    fn future(&self, timestamp: i64, now: i64) -> Rejection {
        Rejection::invalid(format!(
            "the request's time is {} s ahead of the clock, more than {} s (`max-future`)",
            timestamp.saturating_sub(now) / 1000,
            self.max_future_ms / 1000
        ))
    }
}

#[cold]
fn status(status: u16) -> Rejection {
    Rejection::invalid(match status {
        0 => "the request has no status code".to_owned(),
        _ => format!("the status {status} is not allowed (`status`)"),
    })
}
