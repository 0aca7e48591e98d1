//! Topics of Kafka from the command line.
//!
//! Invariant: a command takes part in no group, and changes nothing but the topic that it writes.

pub mod reading;
pub mod sending;

use std::time::Duration;

use anyhow::anyhow;
use wasmill_kafka::{Admin, Error, PartitionOffsets, Settings};

/// How long questions to brokers may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How many topics are suggested for one that does not exist.
const SUGGESTIONS: usize = 3;

/// A Kafka cluster, and what of a pipeline's settings counts for commands.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// How to reach it.
    pub settings: Settings,
    /// The group that access rules may ask for; it is never joined.
    pub group: String,
    /// The replicas of a new topic; none for the brokers' default.
    pub replication: Option<u16>,
}

impl Cluster {
    /// Connects for questions about topics.
    ///
    /// # Errors
    /// When no broker answers, or the settings can't be used.
    pub fn connect(&self) -> anyhow::Result<Admin> {
        Admin::connect(&self.settings, TIMEOUT).map_err(|error| match error {
            Error::Request { why, retriable: true, .. } => anyhow!(
                "no broker answers at Kafka {}: {why}. Check that one runs there and can be reached \
                 from here, and the settings of security (security.protocol, sasl.*, ssl.*)",
                self.settings.brokers
            ),
            other => other.into(),
        })
    }

    /// The offsets of a topic's partitions, one or more.
    ///
    /// # Errors
    /// When there is no such topic, naming the nearest; when Kafka can't be asked.
    pub fn topic(
        &self,
        admin: &Admin,
        topic: &str,
    ) -> anyhow::Result<Vec<Option<PartitionOffsets>>> {
        match admin.survey_topic(topic)? {
            Some(found) => Ok(found.partitions),
            None => Err(self.unknown(admin, topic, "`wasmill topic ls` lists them all")?),
        }
    }

    /// The error for a topic that does not exist.
    fn unknown(&self, admin: &Admin, topic: &str, advice: &str) -> anyhow::Result<anyhow::Error> {
        let known = admin.list_topics("")?;
        let known = known.iter().filter(|name| !is_internal(name)).map(String::as_str);
        Ok(anyhow!(
            "there is no topic {topic:?} on Kafka {}{}; {advice}",
            self.settings.brokers,
            nearest(topic, known)
        ))
    }
}

/// Whether a topic is one that Kafka keeps for itself, by its name.
pub fn is_internal(topic: &str) -> bool {
    topic.starts_with("__")
}

/// A sentence with the most similar of the topics that exist.
fn nearest<'a>(topic: &str, known: impl Iterator<Item = &'a str>) -> String {
    let likeness = |name: &'a str| (strsim::jaro_winkler(topic, name), name);
    let mut found: Vec<_> = known.map(likeness).collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let quoted: Vec<String> =
        found.iter().take(SUGGESTIONS).map(|(_, name)| format!("{name:?}")).collect();
    match quoted.split_last() {
        None => ", which has no topics yet".to_owned(),
        Some((only, [])) => format!(". The nearest is {only}"),
        Some((last, others)) => format!(". The nearest are {} and {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_topics_are_named_the_most_similar_first() {
        let known = ["clicks", "orders", "orders-late", "payments"];
        assert_eq!(
            nearest("order", known.into_iter()),
            ". The nearest are \"orders\", \"orders-late\" and \"payments\""
        );
        assert_eq!(nearest("x", known.into_iter().take(1)), ". The nearest is \"clicks\"");
        assert_eq!(nearest("x", std::iter::empty()), ", which has no topics yet");
    }

    #[test]
    fn what_kafka_keeps_for_itself_begins_with_two_underscores() {
        assert!(is_internal("__consumer_offsets") && !is_internal("_schemas"));
    }
}
