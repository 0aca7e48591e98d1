//! How topics stand, for a run that fails: where they begin and end, what of them is committed, and
//! where the group is.
//!
//! Invariant: it only looks, and says what could not be found out.

use std::fmt::Write as _;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::input::{self, PARTITIONS};
use crate::output;

/// The group of the pipeline, which is named after it.
const GROUP: &str = "ledger";
/// What the pipeline reads and writes, in the order in which records go through it.
const TOPICS: [&str; 5] = [
    input::TOPIC,
    "ledger-0-changelog",
    "ledger-ledger-repartition",
    "ledger-1-changelog",
    output::TOPIC,
];
/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A line for each partition. A transaction that is open keeps `stable` below `end`.
pub fn describe(brokers: &str) -> String {
    let mut text = String::new();
    let client = |isolation: &str| -> Option<BaseConsumer> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", GROUP);
        config.set("isolation.level", isolation).set("log_level", "0").create().ok()
    };
    let (Some(committed), Some(uncommitted)) =
        (client("read_committed"), client("read_uncommitted"))
    else {
        return "how topics stand can't be asked\n".to_owned();
    };
    for topic in TOPICS {
        for partition in 0..PARTITIONS.cast_signed() {
            let marks = |client: &BaseConsumer| client.fetch_watermarks(topic, partition, TIMEOUT);
            let _ = write!(text, "{topic}/{partition}: ");
            let _ = match (marks(&committed), marks(&uncommitted)) {
                (Ok((begin, stable)), Ok((_, end))) => {
                    write!(text, "begin {begin} stable {stable} end {end}")
                }
                (Err(error), _) | (_, Err(error)) => write!(text, "{error}"),
            };
            let mut asked = TopicPartitionList::new();
            asked.add_partition(topic, partition);
            let _ = match committed.committed_offsets(asked, TIMEOUT).map(|l| l.to_topic_map()) {
                Ok(offsets) => match offsets.values().next() {
                    Some(Offset::Offset(offset)) => writeln!(text, ", group at {offset}"),
                    _ => writeln!(text),
                },
                Err(error) => writeln!(text, ", group: {error}"),
            };
        }
    }
    text
}
