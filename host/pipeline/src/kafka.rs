//! The settings of a pipeline that runs on Kafka, the table `[kafka]`.
//!
//! Invariant: no text made here shows the value of a setting that looks like a secret.

use std::collections::BTreeMap;
use std::fmt;

/// Settings of Kafka. Their presence makes the pipeline run on Kafka instead of the embedded log.
///
/// `Debug` hides the values of properties whose names look like secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Kafka {
    /// Where to find the cluster: `host:port`, several with commas between, at least one. An entry
    /// with `${env:NAME}` in it stands as it was written.
    pub brokers: String,
    /// The consumer group, `[A-Za-z0-9._-]{1,200}` but `.` and `..`; the pipeline's name unless
    /// the file says otherwise.
    pub group: String,
    /// What a record's effects are worth when something fails.
    pub guarantee: Guarantee,
    /// How tasks move between members of the group.
    pub rebalance: Rebalance,
    /// The replicas of topics that the pipeline creates, 1 to 100; none for the brokers' default.
    pub replication: Option<u32>,
    /// The warm copies of each task's state on other members, 0 to 10.
    pub standby: u32,
    /// How long local state of a task that is no longer here is kept, 0 to 100 years.
    pub state_cleanup_delay_ms: u64,
    /// Settings of librdkafka for every client. Values stand as they were written, `${env:NAME}`
    /// included, and hold no NUL; as in [`Kafka::consumer`] and [`Kafka::producer`].
    pub properties: BTreeMap<String, String>,
    /// Settings of librdkafka for consumers only.
    pub consumer: BTreeMap<String, String>,
    /// Settings of librdkafka for producers only.
    pub producer: BTreeMap<String, String>,
}

/// What a record's effects are worth when something fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Guarantee {
    /// State, topics and positions change together, in a transaction.
    #[default]
    ExactlyOnce,
    /// No record is lost; some may take effect twice.
    AtLeastOnce,
}

/// How tasks move between the members of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rebalance {
    /// Only tasks that move stop.
    #[default]
    Cooperative,
    /// All tasks stop, then are given out anew.
    Eager,
}

/// The setting that says how long a transaction may stay open.
pub(crate) const TRANSACTION_TIMEOUT: &str = "transaction.timeout.ms";
/// How long sending and committing may take when a checkpoint has come, in ms.
pub(crate) const COMMIT_MS: u64 = 10_000;
/// How long brokers let a transaction stay open unless they are told otherwise, in ms: their setting
/// `transaction.max.timeout.ms`.
pub(crate) const MOST_TRANSACTION_MS: u64 = 900_000;

impl Kafka {
    /// How long the pipeline file lets transactions stay open, as it is written; none when it does not
    /// say.
    pub(crate) fn own_transaction_timeout(&self) -> Option<&str> {
        let set =
            self.producer.get(TRANSACTION_TIMEOUT).or(self.properties.get(TRANSACTION_TIMEOUT));
        set.map(String::as_str)
    }

    /// The setting that lets transactions stay open from one checkpoint to the next, `interval_ms`
    /// apart, and while they are committed; none where the pipeline file has one of its own.
    pub fn transaction_timeout(&self, interval_ms: u64) -> Option<(&'static str, u64)> {
        let own = self.own_transaction_timeout().is_some();
        (!own).then_some((TRANSACTION_TIMEOUT, interval_ms.saturating_add(COMMIT_MS)))
    }

    /// How long a transaction may stay open, in ms, as far as that is known.
    pub fn longest_transaction_ms(&self, interval_ms: u64) -> u64 {
        let own = self.own_transaction_timeout().and_then(|text| text.parse().ok());
        own.unwrap_or_else(|| interval_ms.saturating_add(COMMIT_MS))
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("guarantee", &self.guarantee)
            .field("rebalance", &self.rebalance)
            .field("replication", &self.replication)
            .field("standby", &self.standby)
            .field("state_cleanup_delay_ms", &self.state_cleanup_delay_ms)
            .field("properties", &Shown(&self.properties))
            .field("consumer", &Shown(&self.consumer))
            .field("producer", &Shown(&self.producer))
            .finish()
    }
}

/// What stands for a hidden value.
const HIDDEN: &str = "***";

/// Properties without their secrets.
struct Shown<'p>(&'p BTreeMap<String, String>);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(key, value)| (key, if is_secret(key) { HIDDEN } else { value });
        f.debug_map()
            .entries(self.0.iter().map(|(key, value)| shown((key.as_str(), value.as_str()))))
            .finish()
    }
}

/// The parts of a name that tell of a secret. The last also names much that is none.
const MARKS: [&str; 7] =
    ["password", "passphrase", "secret", "token", "jaas", "oauthbearer.config", "key"];

/// Whether a setting of this name looks like a secret.
pub(crate) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    MARKS.iter().any(|mark| key.contains(mark))
}

/// A line of a pipeline file, or a `--set`, as it may be shown in a diagnostic about `path`: what
/// follows a name that looks like a secret is hidden where settings of Kafka can stand.
pub(crate) fn shown_at(path: &str, line: &str) -> String {
    let marks = match path {
        "kafka" => &MARKS[..],
        _ if path.starts_with("kafka.") => &MARKS[..],
        // The line can be in any table, for example when the file is no TOML.
        "" => &MARKS[..MARKS.len() - 1],
        _ => return line.to_owned(),
    };
    let lower = line.to_ascii_lowercase();
    let Some(mark) = marks.iter().filter_map(|mark| lower.find(mark)).min() else {
        return line.to_owned();
    };
    let Some(equals) = line[mark..].find('=') else { return line.to_owned() };
    let (name, value) = line.split_at(mark + equals + 1);
    let space = if value.starts_with(' ') { " " } else { "" };
    format!("{name}{space}{HIDDEN}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        let secret = ["sasl.password", "SSL.Key.Password", "ssl.key.pem", "sasl.jaas.config"];
        assert!(secret.iter().all(|key| is_secret(key)));
        let more = ["sasl.oauthbearer.client.secret", "sasl.oauthbearer.config", "my.token"];
        assert!(more.iter().all(|key| is_secret(key)));
        assert!(!["security.protocol", "sasl.username", "linger.ms"].iter().any(|k| is_secret(k)));
    }

    #[test]
    fn a_line_with_a_secret_is_cut_only_where_it_can_be_one_of_kafka() {
        let line = "\"sasl.Password\" = \"hunter2\"";
        assert_eq!(shown_at("kafka.properties.sasl.password", line), "\"sasl.Password\" = ***");
        assert_eq!(shown_at("kafka", line), "\"sasl.Password\" = ***");
        assert_eq!(shown_at("", line), "\"sasl.Password\" = ***");
        assert_eq!(shown_at("stage.a.config", line), line);
        assert_eq!(shown_at("kafkas", line), line);
        assert_eq!(shown_at("kafka.properties", "ssl.key.pem = 1"), "ssl.key.pem = ***");
        assert_eq!(shown_at("kafka", "kafka.password=x=y"), "kafka.password=***");
        assert_eq!(shown_at("", "key-by = id"), "key-by = id");
        assert_eq!(
            shown_at("kafka", "group = \"é\" # the password"),
            "group = \"é\" # the password"
        );
        let inline = "properties = { acks = 1, \"ssl.key.password\" = \"a=b\", x = [] }";
        let expected = "properties = { acks = 1, \"ssl.key.password\" = ***";
        assert_eq!(shown_at("kafka.properties.x", inline), expected);
    }
}
