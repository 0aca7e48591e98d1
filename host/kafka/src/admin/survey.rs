//! The offsets of all partitions of topics at once. Invariant: each broker is asked three times,
//! however many partitions it leads.

use std::collections::HashMap;

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use super::{Admin, Offsets};
use crate::Error;
use crate::client::{Client, number};

/// A topic and the offsets of its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicOffsets {
    /// The topic.
    pub topic: String,
    /// The offsets by partition; none where a partition has no leader at the moment.
    pub partitions: Vec<Option<Offsets>>,
}

/// A topic, and for each of its partitions whether it has a leader.
type Leaders = (String, Vec<bool>);

impl Admin {
    /// The topics whose names are `wanted`, sorted. [`Offsets::stable`] is less than
    /// [`Offsets::end`] only where a transaction was open.
    ///
    /// # Errors
    /// [`Error::Request`] when brokers don't answer.
    pub fn survey(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<TopicOffsets>, Error> {
        let metadata = self.again(|left| {
            self.uncommitted
                .fetch_metadata(None, left)
                .map_err(|e| self.failed("listing topics", &e))
        })?;
        let topics = metadata.topics().iter().filter(|topic| wanted(topic.name()));
        let mut found: Vec<Leaders> = topics
            .map(|topic| {
                let mut leads = vec![false; topic.partitions().len()];
                for partition in topic.partitions() {
                    let index = usize::try_from(partition.id()).unwrap_or(usize::MAX);
                    if let Some(slot) = leads.get_mut(index) {
                        *slot = partition.leader() >= 0;
                    }
                }
                (topic.name().to_owned(), leads)
            })
            .collect();
        found.sort();
        self.offsets_of(found)
    }

    /// One topic as [`Admin::survey`] shows it; none when it does not exist.
    ///
    /// # Errors
    /// [`Error::Request`] when brokers don't answer, or access is denied.
    pub fn survey_topic(&self, topic: &str) -> Result<Option<TopicOffsets>, Error> {
        let Some(leaders) = self.leaders(topic)? else { return Ok(None) };
        Ok(self.offsets_of(vec![(topic.to_owned(), leaders)])?.pop())
    }

    fn offsets_of(&self, topics: Vec<Leaders>) -> Result<Vec<TopicOffsets>, Error> {
        // In this order: what is stable after the end was asked for is behind it only where a
        // transaction is open.
        let starts = self.query(&self.uncommitted, Offset::Beginning, &topics)?;
        let ends = self.query(&self.uncommitted, Offset::End, &topics)?;
        let stables = self.query(&self.committed, Offset::End, &topics)?;
        let of = |(topic, leaders): Leaders| {
            let partition = |index: usize| {
                let key = (topic.clone(), i32::try_from(index).ok()?);
                let (start, end) = (*starts.get(&key)?, *ends.get(&key)?);
                let end = end.max(start);
                Some(Offsets { start, stable: (*stables.get(&key)?).clamp(start, end), end })
            };
            let partitions = (0..leaders.len()).map(partition).collect();
            TopicOffsets { topic, partitions }
        };
        Ok(topics.into_iter().map(of).collect())
    }

    /// The first or the last offset of every partition that has a leader, as the client sees it.
    fn query(
        &self,
        client: &Client,
        which: Offset,
        topics: &[Leaders],
    ) -> Result<HashMap<(String, i32), i64>, Error> {
        self.again(|left| {
            let error = |e| self.failed("asking for offsets", &e);
            let mut list = TopicPartitionList::new();
            for (topic, leaders) in topics {
                for partition in (0..).zip(leaders).filter(|(_, leads)| **leads).map(|(p, _)| p) {
                    list.add_partition_offset(topic, number(partition), which).map_err(error)?;
                }
            }
            if list.count() == 0 {
                return Ok(HashMap::new());
            }
            let answers = client.offsets_for_times(list, left).map_err(error)?;
            let mut offsets = HashMap::with_capacity(answers.count());
            for answer in answers.elements() {
                let (topic, partition) = (answer.topic().to_owned(), answer.partition());
                let what = || format!("asking for the offsets of {topic}/{partition}");
                answer.error().map_err(|e| self.failed(&what(), &e))?;
                if let Offset::Offset(offset) = answer.offset() {
                    offsets.insert((topic, partition), offset);
                }
            }
            Ok(offsets)
        })
    }
}
