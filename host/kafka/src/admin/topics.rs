//! What a topic must be and whether it is. Invariant: pure; it says both what was found and what is
//! needed.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::admin::{NewTopic, TopicReplication};

/// What a topic must be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicSpec {
    /// The name.
    pub name: String,
    /// The number of partitions; none when any will do, and for a new one the brokers' default.
    pub partitions: Option<u32>,
    /// The number of replicas; none when any will do, and for a new one the brokers' default.
    pub replication: Option<u16>,
    /// Whether one that exists may have any number of replicas all the same.
    pub any_replication: bool,
    /// The configuration of a new topic. Of one that exists `cleanup.policy` is checked, and where it
    /// is `own` whether it keeps its records and takes large ones as is asked for; the rest is the
    /// business of whoever runs the cluster.
    pub config: BTreeMap<String, String>,
    /// Whether it is for nobody but whoever asks for it, who would lose something without its records.
    pub own: bool,
    /// Whether it is an error when it does not exist, instead of creating it.
    pub must_exist: bool,
}

/// What a topic is.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The replicas of each partition.
    pub(super) replicas: Vec<usize>,
    pub(super) config: BTreeMap<String, String>,
}

const CLEANUP: &str = "cleanup.policy";
/// What says for how long, and how much of, a topic is kept; -1 for everything.
const RETENTION: [&str; 2] = ["retention.ms", "retention.bytes"];
const EVERYTHING: &str = "-1";
/// How large its records may be.
const LARGEST: &str = "max.message.bytes";

impl TopicSpec {
    /// What to say when it does not exist and must.
    pub(super) fn absent(&self) -> String {
        let partitions = match self.partitions {
            Some(partitions) => format!(" with {partitions} partitions"),
            None => String::new(),
        };
        format!("{}: does not exist; create it{partitions}, or correct the name", self.name)
    }

    pub(super) fn to_create(&self) -> NewTopic<'_> {
        let whole = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let replication = TopicReplication::Fixed(self.replication.map_or(-1, i32::from));
        let topic = NewTopic::new(&self.name, self.partitions.map_or(-1, whole), replication);
        self.config.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
    }
}

/// Everything that is wrong with a topic; a sentence each.
pub(super) fn problems(spec: &TopicSpec, found: &Found) -> Vec<String> {
    let TopicSpec { name, .. } = spec;
    let mut problems = Vec::new();
    let partitions = found.replicas.len();
    if let Some(needed) = spec.partitions.filter(|needed| *needed as usize != partitions) {
        problems.push(format!(
            "{name}: has {} partitions, but {needed} are needed; keys are placed by the number of \
             partitions, so give the topic another name, or delete it to have it made anew",
            partitions
        ));
    }
    // While replicas are moved, a partition has more of them.
    let needed = spec.replication.filter(|_| !spec.any_replication);
    if let Some((needed, is)) = needed.zip(found.replicas.iter().min())
        && usize::from(needed) != *is
    {
        problems.push(format!(
            "{name}: has {is} replicas, but {needed} are needed; have Kafka give it as many, or set the \
             replication of the pipeline file to what it has"
        ));
    }
    let policies = |value: &String| -> BTreeSet<String> {
        value.split(',').map(|policy| policy.trim().to_owned()).collect()
    };
    if let Some((needed, is)) = spec.config.get(CLEANUP).zip(found.config.get(CLEANUP))
        && policies(needed) != policies(is)
    {
        problems.push(format!(
            "{name}: has {CLEANUP}={is}, but {CLEANUP}={needed} is needed; change the topic's \
             configuration, or delete the topic to have it made anew"
        ));
    }
    if spec.own {
        problems
            .extend(RETENTION.iter().chain([&LARGEST]).filter_map(|key| lossy(spec, found, key)));
    }
    problems
}

/// What is wrong with a setting by which a topic would lose records, or refuse them.
fn lossy(spec: &TopicSpec, found: &Found, key: &str) -> Option<String> {
    let (needed, is) = spec.config.get(key).zip(found.config.get(key))?;
    let (why, wrong) = if key == LARGEST {
        let bytes = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
        ("larger records would be refused", bytes(is) < bytes(needed))
    } else {
        ("Kafka would drop records that are still needed", needed == EVERYTHING && is != EVERYTHING)
    };
    wrong.then(|| {
        format!(
            "{}: has {key}={is}, but {key}={needed} is needed: {why}; change the topic's configuration",
            spec.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(partitions: u32, policy: &str) -> TopicSpec {
        TopicSpec {
            name: "t".to_owned(),
            partitions: Some(partitions),
            config: [(CLEANUP.to_owned(), policy.to_owned())].into(),
            ..TopicSpec::default()
        }
    }

    #[test]
    fn both_numbers_and_both_policies_are_told() {
        let found = Found {
            replicas: vec![1; 4],
            config: [(CLEANUP.to_owned(), "delete".to_owned())].into(),
        };
        let said = problems(&spec(8, "compact"), &found);
        assert_eq!(said.len(), 2);
        assert!(said[0].starts_with("t: has 4 partitions, but 8 are needed"), "{said:?}");
        assert!(said[1].contains("cleanup.policy=delete, but cleanup.policy=compact"), "{said:?}");
        assert!(problems(&spec(4, "delete"), &found).is_empty());
    }

    #[test]
    fn the_order_of_policies_does_not_matter() {
        let config = [(CLEANUP.to_owned(), "delete,compact".to_owned())].into();
        let found = Found { replicas: vec![1], config };
        assert!(problems(&spec(1, "compact, delete"), &found).is_empty());
        assert_eq!(problems(&spec(1, "compact"), &found).len(), 1);
    }

    #[test]
    fn a_topic_without_demands_is_never_wrong() {
        let any = TopicSpec { name: "t".to_owned(), ..TopicSpec::default() };
        let found = Found { replicas: vec![1; 3], ..Found::default() };
        assert!(problems(&any, &found).is_empty());
    }

    #[test]
    fn both_numbers_of_replicas_are_told() {
        let spec = TopicSpec { name: "t".to_owned(), replication: Some(3), ..TopicSpec::default() };
        let said = |replicas: &[usize]| {
            let found = Found { replicas: replicas.to_vec(), ..Found::default() };
            problems(&spec, &found).join("; ")
        };
        assert!(said(&[3, 1]).starts_with("t: has 1 replicas, but 3 are needed"));
        assert_eq!(said(&[3, 4]), "", "one of them is being moved");
        let found = Found { replicas: vec![1], ..Found::default() };
        assert!(problems(&TopicSpec { any_replication: true, ..spec.clone() }, &found).is_empty());
    }

    /// A changelog that someone had made with the brokers' defaults lost its beginning after a week,
    /// and a restore gave a part of the state.
    #[test]
    fn a_topic_of_ones_own_that_would_lose_records_is_wrong() {
        let config = |of: &[(&str, &str)]| -> BTreeMap<String, String> {
            of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let kept = [("retention.ms", "-1"), ("retention.bytes", "-1"), (LARGEST, "1000")];
        let mut spec = TopicSpec {
            name: "t".to_owned(),
            config: config(&kept),
            own: true,
            ..TopicSpec::default()
        };
        let found = |of: &[(&str, &str)]| Found { replicas: vec![1], config: config(of) };
        let lossy =
            found(&[("retention.ms", "604800000"), ("retention.bytes", "1"), (LARGEST, "999")]);
        let said = problems(&spec, &lossy);
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].contains("retention.ms=604800000, but retention.ms=-1 is needed"));
        assert!(problems(&spec, &found(&kept)).is_empty());
        assert!(problems(&spec, &found(&[(LARGEST, "1001")])).is_empty());
        spec.own = false;
        assert!(problems(&spec, &lossy).is_empty(), "it is the business of others");
    }
}
