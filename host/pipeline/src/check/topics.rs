//! The tables `[topic.NAME]`.

use super::kafka::replication;
use super::properties::properties;
use super::references::{Names, feeds};
use super::settings::key_by;
use crate::Topic;
use crate::section::Section;

pub(super) fn topic(name: String, section: Section<'_>, names: &Names) -> Topic {
    let topic = Topic {
        name,
        at: section.problems.document.at(section.origin),
        from: feeds(&section, names, false),
        partitions: section.integer("partitions", 1..=1_024),
        key_by: key_by(&section),
        retention_bytes: section.bytes("retention-bytes", 1 << 20..=1 << 50),
        replication: replication(&section),
        config: properties(&section, "config"),
    };
    if topic.key_by.is_some() && !section.has("from") {
        let help = "add from, or remove key-by";
        let message = "a topic that nothing feeds can't give records a new key";
        let entry = section.get("key-by").expect("it was read above");
        section.problems.error(entry.origin, section.at("key-by"), message, Some(help.into()));
    }
    section.finish();
    topic
}
