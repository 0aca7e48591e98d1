//! Clients for requests that stand alone, and what their failures are called. Invariant: no consumer
//! that is made here ever joins a group.

use std::time::Duration;

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;

use crate::Error;
use crate::context::Context;
use crate::error::is_retriable;
use crate::settings::{Role, Settings};

pub(crate) type Client = BaseConsumer<Context>;

/// Makes a consumer with settings of the engine's own behind those of the user.
pub(crate) fn consumer(
    settings: &Settings,
    role: Role,
    owned: &[(&str, &str)],
) -> Result<Client, Error> {
    let mut all = vec![("enable.auto.commit", "false"), ("enable.auto.offset.store", "false")];
    all.extend_from_slice(owned);
    let (config, redaction) = settings.config(role, &all)?;
    let context = Context::new(&settings.brokers, redaction.clone());
    config.create_with_context(context).map_err(|error| created(settings, &redaction, &error))
}

/// The failure to make a client, which never has to do with the network.
pub(crate) fn created(
    settings: &Settings,
    redaction: &crate::redaction::Redaction,
    error: &KafkaError,
) -> Error {
    Error::Request {
        what: "making a client".to_owned(),
        brokers: redaction.scrub(&settings.brokers),
        why: redaction.scrub(&error.to_string()),
        retriable: false,
    }
}

/// The failure of a request, with the last thing that went wrong with the connections.
pub(crate) fn failed(context: &Context, what: String, error: &KafkaError) -> Error {
    let retriable = error.rdkafka_error_code().is_some_and(is_retriable);
    let mut why = error.to_string();
    if retriable && let Some(reason) = context.last_error() {
        why = format!("{why}; last: {reason}");
    }
    Error::Request {
        what,
        brokers: context.brokers.clone(),
        why: context.redaction.scrub(&why),
        retriable,
    }
}

/// What is left of a timeout; never nothing, so that a request is made at all.
pub(crate) fn left(deadline: std::time::Instant) -> Duration {
    deadline.saturating_duration_since(std::time::Instant::now()).max(Duration::from_millis(1))
}

/// A partition's number as librdkafka has it.
pub(crate) fn number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}
