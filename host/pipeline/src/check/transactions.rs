//! Whether Kafka lets a transaction stay open for as long as a checkpoint takes to come.

use crate::kafka::{COMMIT_MS, MOST_TRANSACTION_MS, TRANSACTION_TIMEOUT};
use crate::section::Problems;
use crate::units::show_duration;
use crate::{Guarantee, Kafka};

/// Where the interval stands.
const PATH: &str = "engine.checkpoint-interval";

/// Checks the interval of a pipeline on Kafka against the time that its transactions have.
pub(super) fn check(kafka: &Kafka, interval_ms: u64, problems: &Problems<'_>) {
    if kafka.guarantee != Guarantee::ExactlyOnce {
        return;
    }
    let shown = |ms: u64| show_duration(i64::try_from(ms).unwrap_or(i64::MAX));
    let error = |message: String, help: String| {
        problems.error(problems.document.find(PATH), PATH, message, Some(help));
    };
    match kafka.own_transaction_timeout() {
        // What it stands for is not known here.
        Some(text) if text.contains("${") => {}
        Some(text) => {
            let Ok(timeout) = text.parse::<u64>() else { return };
            if timeout <= interval_ms {
                error(
                    format!(
                        "Kafka aborts a transaction after {TRANSACTION_TIMEOUT} = {timeout}, before \
                         the checkpoint that commits it, which comes after {}",
                        shown(interval_ms)
                    ),
                    "set it to some seconds more than the checkpoint interval, or leave it out: it \
                     then follows the interval"
                        .to_owned(),
                );
            }
        }
        None if interval_ms + COMMIT_MS > MOST_TRANSACTION_MS => error(
            format!(
                "expected at most {} on Kafka, found {}: a transaction is open from one checkpoint \
                 to the next, and brokers let one stay open for {} unless they are told otherwise",
                shown(MOST_TRANSACTION_MS - COMMIT_MS),
                shown(interval_ms),
                shown(MOST_TRANSACTION_MS)
            ),
            format!(
                "for a longer interval set kafka.producer.{TRANSACTION_TIMEOUT}, and \
                 transaction.max.timeout.ms of the brokers to at least as much"
            ),
        ),
        None => {}
    }
}
