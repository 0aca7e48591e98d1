//! The table `[kafka]`, and addresses of the form `host:port`.

use std::net::Ipv6Addr;

use super::properties::properties;
use super::{MAX_MS, is_topic_name};
use crate::section::{Found, Section};
use crate::{Guarantee, Kafka, Rebalance};

/// How long local state of a task that is no longer here is kept when nothing is said.
const CLEANUP_DELAY_MS: u64 = 600_000;

/// The table `[kafka]` of a pipeline with this name.
pub(super) fn kafka(section: Option<Section<'_>>, pipeline: &str) -> Option<Kafka> {
    let section = section?;
    let guarantees =
        [("exactly-once", Guarantee::ExactlyOnce), ("at-least-once", Guarantee::AtLeastOnce)];
    let rebalances = [("cooperative", Rebalance::Cooperative), ("eager", Rebalance::Eager)];
    let kafka = Kafka {
        brokers: brokers(&section),
        group: group(&section).unwrap_or(pipeline).to_owned(),
        guarantee: section
            .choice("guarantee", &guarantees)
            .map_or_else(Guarantee::default, |g| g.value),
        rebalance: section
            .choice("rebalance", &rebalances)
            .map_or_else(Rebalance::default, |r| r.value),
        replication: replication(&section),
        standby: section.integer("standby", 0..=10).unwrap_or(0),
        state_cleanup_delay_ms: section
            .duration("state-cleanup-delay", 0..=MAX_MS)
            .and_then(|ms| u64::try_from(ms).ok())
            .unwrap_or(CLEANUP_DELAY_MS),
        properties: properties(&section, "properties"),
        consumer: properties(&section, "consumer"),
        producer: properties(&section, "producer"),
    };
    section.finish();
    Some(kafka)
}

/// The key `replication`, of `[kafka]` or of a topic.
pub(super) fn replication(section: &Section<'_>) -> Option<u32> {
    section.integer("replication", 1..=100)
}

fn brokers(section: &Section<'_>) -> String {
    if !section.has("brokers") {
        let message = "\"brokers\" is missing";
        let help = "write brokers = \"HOST:PORT\" in [kafka], or add --set kafka.brokers=HOST:PORT";
        section.problems.error(section.origin, "kafka", message, Some(help.to_owned()));
    }
    let Some(found) = section.string("brokers") else { return String::new() };
    let brokers: Vec<&str> = found.value.split(',').map(str::trim).collect();
    for broker in brokers.iter().filter(|b| !b.contains("${env:") && !is_address(b, 1)) {
        let help = if broker.contains("://") {
            "the protocol goes into kafka.properties: security.protocol = \"SSL\"".to_owned()
        } else if is_address(&format!("{broker}:9092"), 1) {
            format!("did you mean \"{broker}:9092\"?")
        } else {
            "write several brokers with commas between: \"one:9092,two:9092\"".to_owned()
        };
        let message = format!("expected host:port, with a port from 1 to 65535, found {broker:?}");
        section.problems.error(found.origin, section.at("brokers"), message, Some(help));
    }
    brokers.join(",")
}

fn group<'a>(section: &Section<'a>) -> Option<&'a str> {
    let Found { value, origin } = section.string("group")?;
    if !is_topic_name(value) {
        let message = format!(
            "expected the name of a consumer group, 1 to 200 letters, digits, '.', '_' or '-', \
             found {value:?}"
        );
        section.problems.error(origin, section.at("group"), message, None);
    }
    Some(value)
}

/// The address of a key that the process listens on; port 0 stands for any that is free.
pub(super) fn listen_address(section: &Section<'_>, key: &'static str) -> Option<String> {
    let Found { value, origin } = section.string(key)?;
    if !is_address(value, 0) {
        let message = format!("expected host:port, with a port from 0 to 65535, found {value:?}");
        let help = "write for example \"127.0.0.1:8080\"".to_owned();
        section.problems.error(origin, section.at(key), message, Some(help));
    }
    Some(value.to_owned())
}

/// Whether a text is `host:port`, or `[address]:port` for IPv6, with a port of at least `least`.
fn is_address(text: &str, least: u16) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let is_host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(known),
    };
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    is_host && digits && port.parse().is_ok_and(|port: u16| port >= least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_a_host_and_a_port() {
        for good in ["localhost:9092", "10.0.0.1:1", "kafka_1.x-y:65535", "[::1]:9092", "a:0"] {
            assert!(is_address(good, 0), "{good}");
        }
        let bad = ["", ":", "a", "a:", ":1", "a:65536", "a:-1", "a:+1", "::1:9", "[::1]", "[x]:1"];
        for bad in bad.into_iter().chain(["a b:1", "http://a:1", "a:1:2", "[]:1", "é:1", "a:1 "]) {
            assert!(!is_address(bad, 0), "{bad}");
        }
        assert!(!is_address("a:0", 1));
    }
}
