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
    /// The number of replicas of a new topic; none for the brokers' default. Not checked.
    pub replication: Option<u16>,
    /// The configuration of a new topic. Of one that exists only `cleanup.policy` is checked: the
    /// rest is the business of whoever runs the cluster.
    pub config: BTreeMap<String, String>,
    /// Whether it is an error when it does not exist, instead of creating it.
    pub must_exist: bool,
}

/// What a topic is.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) partitions: u32,
    pub(super) config: BTreeMap<String, String>,
}

const CLEANUP: &str = "cleanup.policy";

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
    if let Some(needed) = spec.partitions.filter(|needed| *needed != found.partitions) {
        problems.push(format!(
            "{name}: has {} partitions, but {needed} are needed; keys are placed by the number of \
             partitions, so give the topic another name, or delete it to have it made anew",
            found.partitions
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
    problems
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
        let found =
            Found { partitions: 4, config: [(CLEANUP.to_owned(), "delete".to_owned())].into() };
        let said = problems(&spec(8, "compact"), &found);
        assert_eq!(said.len(), 2);
        assert!(said[0].starts_with("t: has 4 partitions, but 8 are needed"), "{said:?}");
        assert!(said[1].contains("cleanup.policy=delete, but cleanup.policy=compact"), "{said:?}");
        assert!(problems(&spec(4, "delete"), &found).is_empty());
    }

    #[test]
    fn the_order_of_policies_does_not_matter() {
        let config = [(CLEANUP.to_owned(), "delete,compact".to_owned())].into();
        let found = Found { partitions: 1, config };
        assert!(problems(&spec(1, "compact, delete"), &found).is_empty());
        assert_eq!(problems(&spec(1, "compact"), &found).len(), 1);
    }

    #[test]
    fn a_topic_without_demands_is_never_wrong() {
        let any = TopicSpec { name: "t".to_owned(), ..TopicSpec::default() };
        assert!(problems(&any, &Found { partitions: 3, ..Found::default() }).is_empty());
    }
}
