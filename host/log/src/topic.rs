//! What a topic is: its name, its options. Invariant: an accepted name is safe as a directory name.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Partition};

/// The most partitions that a topic can have.
pub(crate) const MAX_PARTITIONS: u32 = 65_536;

/// Which records a topic keeps. Only whole segments are dropped, never the last, and none that
/// [`Partition::release`] says is still to be read. Segments of nothing but watermarks always go
/// once they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Retention {
    /// All, until [`Partition::delete_before`].
    #[default]
    Forever,
    /// At each [`crate::Log::freeze`], the oldest segments of a partition that were read are dropped
    /// as long as at least this many bytes are left in it.
    Bytes(u64),
}

/// How a topic is kept. May change from one run to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicOptions {
    /// A new segment begins when the next frame would make the current one longer than this many
    /// bytes.
    pub segment_bytes: u64,
    /// Which records are kept.
    pub retention: Retention,
}

impl Default for TopicOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, retention: Retention::Forever }
    }
}

/// A topic of an open log.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) options: TopicOptions,
    pub(crate) partitions: Vec<Partition>,
}

/// Accepts the names `[a-zA-Z0-9._-]{1,200}` but `.` and `..`.
pub(crate) fn check_name(topic: &str) -> Result<(), Error> {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=200).contains(&topic.len()) && topic.bytes().all(known) && !matches!(topic, "." | "..")
    {
        Ok(())
    } else {
        Err(Error::TopicName { topic: topic.to_owned() })
    }
}

/// How many topics are suggested for one that does not exist.
const SUGGESTIONS: usize = 3;

/// The error for a topic that does not exist, which suggests the most similar of `known`.
pub(crate) fn unknown<'a>(topic: &str, known: impl Iterator<Item = &'a String>) -> Error {
    let likeness = |name: &'a String| (strsim::jaro_winkler(topic, name), name);
    let mut nearest: Vec<_> = known.map(likeness).collect();
    nearest.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let nearest = nearest.into_iter().take(SUGGESTIONS).map(|(_, name)| name.clone()).collect();
    Error::NoSuchTopic { topic: topic.to_owned(), nearest }
}

/// The directory of all topics.
pub(crate) fn root(dir: &Path) -> PathBuf {
    dir.join("topics")
}

/// The directory of a partition.
pub(crate) fn partition_dir(dir: &Path, topic: &str, partition: u32) -> PathBuf {
    root(dir).join(topic).join(partition.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_directory_are_refused() {
        for name in ["", ".", "..", "a/b", "../a", "ä", "a b", "a\0", &"x".repeat(201)] {
            assert!(matches!(check_name(name), Err(Error::TopicName { .. })), "{name:?}");
        }
        for name in ["a", "...", "A.b_c-9", &"x".repeat(200)] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn a_topic_that_does_not_exist_gets_the_nearest_that_do() {
        let known = ["clicks", "orders", "orders-late", "payments"].map(str::to_owned);
        let message = |name| unknown(name, known.iter()).to_string();
        assert_eq!(
            message("order"),
            "there is no topic \"order\". The nearest are \"orders\", \"orders-late\" and \
             \"payments\"; `wasmill topic ls` lists them all"
        );
        assert!(
            message("paymnts").contains("nearest are \"payments\", "),
            "{}",
            message("paymnts")
        );
        let message = |known: &[String]| unknown("zzz", known.iter()).to_string();
        assert!(message(&known[1..2]).contains("The nearest is \"orders\"; `wasmill topic ls`"));
        assert!(message(&[]).contains("there are no topics yet: run the pipeline first"));
    }
}
