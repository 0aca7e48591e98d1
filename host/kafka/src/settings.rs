//! How to reach Kafka: the brokers and any setting of librdkafka. Invariant: neither `Debug`,
//! `Display` nor an error shows a secret.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::native;
use crate::redaction::{REDACTED, Redaction, is_secret};

/// Settings of all clients of one cluster.
///
/// A value may hold `${env:NAME}`, which is replaced when a client connects; `$${` stands for `${`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where to find the cluster: `host:port`, several with commas between.
    pub brokers: String,
    /// Settings of librdkafka for every client.
    pub properties: BTreeMap<String, String>,
    /// Settings of librdkafka for consumers; they win over `properties`.
    pub consumer: BTreeMap<String, String>,
    /// Settings of librdkafka for producers; they win over `properties`.
    pub producer: BTreeMap<String, String>,
}

/// What is wrong with settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No broker is named.
    #[error("no broker is set: expected host:port, several with commas between")]
    NoBrokers,
    /// A setting that the engine decides on.
    #[error("`{key}` can't be set: {instead}")]
    Owned {
        /// The setting.
        key: String,
        /// What to use instead.
        instead: &'static str,
    },
    /// librdkafka has no such setting.
    #[error("`{key}` is not a setting of librdkafka{}", suggestion.as_ref().map_or(
        String::new(), |s| format!("; did you mean `{s}`?")))]
    Unknown {
        /// The setting.
        key: String,
        /// The nearest name that exists.
        suggestion: Option<String>,
    },
    /// librdkafka refuses the value.
    #[error("`{key}` can't be used: {why}")]
    Invalid {
        /// The setting.
        key: String,
        /// What librdkafka says, without secrets.
        why: String,
    },
    /// An environment variable is missing.
    #[error(
        "`{key}` needs the environment variable {variable}, which is not set: set it, or \
             write the value in its place"
    )]
    NoVariable {
        /// The setting.
        key: String,
        /// The variable.
        variable: String,
    },
    /// A reference to the environment is malformed.
    #[error(
        "`{key}`: found `${{` without an end or without `env:`, expected `${{env:NAME}}` \
             (write `$${{` for `${{` itself)"
    )]
    Reference {
        /// The setting.
        key: String,
    },
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "brokers={}", self.brokers)?;
        let scopes = [("", &self.properties), ("consumer.", &self.consumer)];
        for (scope, map) in scopes.into_iter().chain([("producer.", &self.producer)]) {
            for (key, value) in map {
                // A reference is shown as it is written: it names the variable, not the value.
                let shown = if is_secret(key) && !is_reference(value) { REDACTED } else { value };
                write!(f, " {scope}{key}={shown}")?;
            }
        }
        Ok(())
    }
}

/// What a client is for, which decides on its defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Membership,
    Fetch,
    Restore,
    Look,
    Lookup,
    Producer,
}

impl Settings {
    /// Settings for a cluster with nothing else set.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), ..Self::default() }
    }

    /// Checks everything that can be checked without a connection.
    ///
    /// # Errors
    /// [`Error`] names the setting.
    pub fn check(&self) -> Result<(), Error> {
        for role in [Role::Membership, Role::Producer] {
            self.config(role, &[])?;
        }
        Ok(())
    }

    /// The configuration of a client: defaults of its role, then these settings, then `owned`.
    pub(crate) fn config(
        &self,
        role: Role,
        owned: &[(&str, &str)],
    ) -> Result<(ClientConfig, Redaction), Error> {
        if self.brokers.trim().is_empty() {
            return Err(Error::NoBrokers);
        }
        let mut config = ClientConfig::new();
        let mut redaction = Redaction::default();
        config.set("bootstrap.servers", resolve("brokers", &self.brokers, &mut redaction)?);
        for (key, value) in defaults(role) {
            config.set(*key, *value);
        }
        let scope = if role == Role::Producer { &self.producer } else { &self.consumer };
        for (key, value) in self.properties.iter().chain(scope) {
            if let Some((_, instead)) = OWNED.iter().find(|(owned, _)| owned == key) {
                return Err(Error::Owned { key: key.clone(), instead });
            }
            let value = resolve(key, value, &mut redaction)?;
            if is_secret(key) {
                redaction.add(&value);
            }
            config.set(key, value);
        }
        for (key, value) in owned {
            config.set(*key, *value);
        }
        if config.get("debug").is_some_and(|facilities| !facilities.is_empty()) {
            // Otherwise it says nothing of what it is asked for.
            config.set_log_level(RDKafkaLogLevel::Debug);
        }
        match config.create_native_config() {
            Ok(_) => Ok((config, redaction)),
            Err(error) => Err(refused(error, &redaction)),
        }
    }
}

fn refused(error: KafkaError, redaction: &Redaction) -> Error {
    match error {
        KafkaError::ClientConfig(code, why, key, _) if native::is_unknown(code) => {
            let known = native::known_settings();
            let near = |name: &&String| strsim::jaro_winkler(name, &key);
            let best = known.iter().max_by(|a, b| near(a).total_cmp(&near(b)));
            let suggestion = best.filter(|name| near(name) > 0.85).cloned();
            tracing::debug!(%why, %key, "librdkafka does not know a setting");
            Error::Unknown { key, suggestion }
        }
        KafkaError::ClientConfig(_, why, key, _) if is_secret(&key) => {
            Error::Invalid { key, why: redaction.scrub(&why) }
        }
        KafkaError::ClientConfig(_, why, key, value) => {
            Error::Invalid { why: redaction.scrub(&format!("{why}; found `{value}`")), key }
        }
        other => {
            Error::Invalid { key: "settings".to_owned(), why: redaction.scrub(&other.to_string()) }
        }
    }
}

fn is_reference(value: &str) -> bool {
    value.starts_with("${env:") && value.find('}') == Some(value.len() - 1)
}

fn resolve(key: &str, value: &str, redaction: &mut Redaction) -> Result<String, Error> {
    let mut resolved = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            resolved.push_str(&rest[..at - 1]);
            resolved.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        resolved.push_str(&rest[..at]);
        let malformed = || Error::Reference { key: key.to_owned() };
        let (name, after) = rest[at + 2..].split_once('}').ok_or_else(malformed)?;
        let variable = name.strip_prefix("env:").ok_or_else(malformed)?;
        let found = std::env::var(variable).map_err(|_| Error::NoVariable {
            key: key.to_owned(),
            variable: variable.to_owned(),
        })?;
        redaction.add(&found);
        resolved.push_str(&found);
        rest = after;
    }
    resolved.push_str(rest);
    Ok(resolved)
}

const COMMON: [(&str, &str); 6] = [
    ("client.id", "wasmill"),
    ("socket.nagle.disable", "true"),
    ("socket.keepalive.enable", "true"),
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "2000"),
    // Connections are made when they are needed; idle ones are no failure.
    ("log.connection.close", "false"),
];

const FETCHING: [(&str, &str); 8] = [
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.error.backoff.ms", "100"),
    ("fetch.message.max.bytes", "2097152"),
    // For each partition. A message takes some 250 bytes besides its content; more of them in reserve
    // made nothing faster.
    ("queued.min.messages", "10000"),
    ("queued.max.messages.kbytes", "4096"),
    ("check.crcs", "true"),
    ("statistics.interval.ms", "0"),
];

const RESTORING: [(&str, &str); 7] = [
    ("fetch.queue.backoff.ms", "1"),
    // A task waits for it.
    ("fetch.error.backoff.ms", "20"),
    // The end shows by a fetch that brings nothing.
    ("fetch.wait.max.ms", "10"),
    ("fetch.message.max.bytes", "16777216"),
    ("queued.min.messages", "100000"),
    ("queued.max.messages.kbytes", "65536"),
    ("check.crcs", "true"),
];

const LOOKING: [(&str, &str); 6] = [
    ("fetch.queue.backoff.ms", "1"),
    // The end shows by a fetch that brings nothing; yet people look for hours.
    ("fetch.wait.max.ms", "25"),
    ("fetch.message.max.bytes", "2097152"),
    ("queued.min.messages", "20000"),
    ("queued.max.messages.kbytes", "16384"),
    ("check.crcs", "true"),
];

const MEMBERSHIP: [(&str, &str); 4] = [
    ("session.timeout.ms", "10000"),
    // A member learns by its heartbeats that the group rebalances: it holds up all others till then.
    ("heartbeat.interval.ms", "300"),
    ("max.poll.interval.ms", "300000"),
    ("topic.metadata.refresh.interval.ms", "30000"),
];

const PRODUCING: [(&str, &str); 9] = [
    // Offsets go to the coordinator of the group that was found last. Where that broker has left the
    // cluster, librdkafka (2.12) looks for another one only when some connection comes or goes, which
    // none may do for minutes; until then the call does not return, whatever its timeout.
    ("connections.max.idle.ms", "5000"),
    ("message.max.bytes", "10485760"),
    ("linger.ms", "5"),
    ("batch.size", "1000000"),
    ("queue.buffering.max.messages", "500000"),
    ("queue.buffering.max.kbytes", "262144"),
    ("compression.type", "none"),
    ("transaction.timeout.ms", "10000"),
    ("statistics.interval.ms", "0"),
];

fn defaults(role: Role) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    let own: &[(&str, &str)] = match role {
        Role::Membership => &MEMBERSHIP,
        Role::Fetch => &FETCHING,
        Role::Restore => &RESTORING,
        Role::Look => &LOOKING,
        Role::Lookup => &[],
        Role::Producer => &PRODUCING,
    };
    COMMON.iter().chain(own)
}

const READS: &str = "the engine reads what is committed, at offsets that it keeps itself";
const WRITES: &str = "the engine decides it from the pipeline's guarantee";
const GROUP: &str = "it follows from the pipeline's name or its `group`";

/// What the engine decides on, and what to use instead.
const OWNED: [(&str, &str); 24] = [
    ("bootstrap.servers", "use `brokers`"),
    ("metadata.broker.list", "use `brokers`"),
    ("group.id", GROUP),
    ("group.instance.id", "use the engine's option for static members"),
    ("group.protocol", "the engine follows the classic protocol"),
    ("group.remote.assignor", "the engine follows the classic protocol"),
    ("enable.auto.commit", READS),
    ("enable.auto.offset.store", READS),
    ("auto.commit.interval.ms", "use the pipeline's commit interval"),
    ("auto.offset.reset", "use the start position and the policy for lost offsets of the source"),
    ("isolation.level", READS),
    ("partition.assignment.strategy", "use the engine's choice of cooperative or eager"),
    ("enable.partition.eof", READS),
    ("transactional.id", "the engine gives each worker its own"),
    ("enable.idempotence", WRITES),
    ("enable.gapless.guarantee", WRITES),
    ("acks", WRITES),
    ("request.required.acks", WRITES),
    ("max.in.flight", WRITES),
    ("max.in.flight.requests.per.connection", WRITES),
    ("delivery.report.only.error", WRITES),
    ("partitioner", "the engine places keys as the Java client does (murmur2)"),
    ("log.queue", "logs go to the engine's log"),
    ("allow.auto.create.topics", "topics are created by the engine with the partitions they need"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> Settings {
        let mut settings = Settings::new("localhost:9092");
        settings.properties.insert(key.to_owned(), value.to_owned());
        settings
    }

    fn message(settings: &Settings) -> String {
        settings.check().unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_settings_that_librdkafka_takes_in_every_role() {
        let settings = Settings::new("localhost:9092");
        for role in
            [Role::Membership, Role::Fetch, Role::Restore, Role::Look, Role::Lookup, Role::Producer]
        {
            settings.config(role, &[]).unwrap();
        }
    }

    #[test]
    fn an_unknown_setting_is_named_with_the_nearest_one() {
        assert_eq!(
            message(&with("sesion.timeout.ms", "1")),
            "`sesion.timeout.ms` is not a setting of librdkafka; did you mean \
             `session.timeout.ms`?"
        );
        assert_eq!(message(&with("qqq", "1")), "`qqq` is not a setting of librdkafka");
    }

    #[test]
    fn every_setting_that_the_engine_owns_is_refused_by_name() {
        for (key, instead) in OWNED {
            let said = message(&with(key, "x"));
            assert!(said.contains(&format!("`{key}`")) && said.contains(instead), "{said}");
        }
    }

    #[test]
    fn a_missing_variable_is_named_with_its_setting() {
        let said = message(&with("sasl.password", "${env:WASMILL_NO_SUCH}"));
        assert!(said.contains("`sasl.password`") && said.contains("WASMILL_NO_SUCH"), "{said}");
        assert!(message(&with("client.id", "a${b}")).contains("expected `${env:NAME}`"));
        assert!(message(&with("client.id", "a${env:b")).contains("expected `${env:NAME}`"));
    }

    #[test]
    fn references_become_values_and_the_values_secrets() {
        let path = std::env::var("PATH").unwrap();
        let (config, redaction) =
            with("client.id", "a-${env:PATH}-$${env:B}").config(Role::Lookup, &[]).unwrap();
        assert_eq!(config.get("client.id"), Some(format!("a-{path}-${{env:B}}").as_str()));
        assert_eq!(redaction.scrub(&format!("<{path}>")), "<[redacted]>");
    }

    #[test]
    fn secrets_are_shown_nowhere() {
        let mut settings = with("sasl.password", "hunter2");
        settings.producer.insert("ssl.key.pem".to_owned(), "PEM".to_owned());
        settings.consumer.insert("ssl.key.password".to_owned(), "${env:KEY}".to_owned());
        let shown = format!("{settings} {settings:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("PEM"), "{shown}");
        assert!(shown.contains("sasl.password=[redacted]"), "{shown}");
        assert!(shown.contains("consumer.ssl.key.password=${env:KEY}"), "{shown}");
    }

    #[test]
    fn an_invalid_value_is_shown_unless_it_is_secret() {
        let said = message(&with("session.timeout.ms", "soon"));
        assert!(said.contains("`session.timeout.ms`") && said.contains("soon"), "{said}");
        let path = std::env::var("PATH").unwrap();
        let said = message(&with("session.timeout.ms", "${env:PATH}"));
        assert!(!said.contains(&path), "{said}");
    }

    #[test]
    fn no_broker_is_an_error() {
        assert_eq!(Settings::new(" ").check(), Err(Error::NoBrokers));
    }
}
