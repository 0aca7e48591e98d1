//! Topics and their offsets. Invariant: no call here creates a topic but [`Admin::ensure_topics`].

mod group;
mod survey;
mod topics;

use std::cell::RefCell;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataPartition;
use rdkafka::types::RDKafkaErrorCode;

pub use self::group::GroupMember;
pub use self::survey::TopicOffsets;
pub use self::topics::TopicSpec;
use self::topics::{Found, problems};
use crate::client::{Client, consumer, created, failed, left, number};
use crate::context::Context;
use crate::settings::Role;
use crate::{Error, Settings};

/// How long to wait between two looks at what changes by itself.
const PAUSE: Duration = Duration::from_millis(50);
/// What may be too short for an answer of a broker that is there.
const SHORT: Duration = Duration::from_secs(1);
/// How long one broker is waited for at most before it is asked who leads now.
const SLICE: Duration = Duration::from_secs(3);

/// A client for topics and their offsets; usable from any thread.
pub struct Admin {
    settings: Settings,
    timeout: Duration,
    /// Sees everything.
    uncommitted: Client,
    /// Sees what transactions have committed.
    committed: Client,
}

/// The offsets that a partition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    /// The first that exists.
    pub start: i64,
    /// The first of a transaction that is still open, or else `end`: what a read-committed consumer
    /// can reach.
    pub stable: i64,
    /// The one after the last.
    pub end: i64,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Admin({})", self.uncommitted.context().brokers)
    }
}

impl Admin {
    /// Makes the client and sees whether the cluster answers. Every call takes at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Settings`] when the settings can't be used, [`Error::Request`] when no broker answers.
    pub fn connect(settings: &Settings, timeout: Duration) -> Result<Self, Error> {
        let client = |level| consumer(settings, Role::Lookup, &[("isolation.level", level)]);
        let admin = Self {
            settings: settings.clone(),
            timeout,
            uncommitted: client("read_uncommitted")?,
            committed: client("read_committed")?,
        };
        admin.list_topics("wasmill-connects").map(|_| admin)
    }

    /// What it was made with.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The cluster's id.
    ///
    /// # Errors
    /// [`Error::Request`] when it can't be had.
    pub fn cluster_id(&self) -> Result<String, Error> {
        let id = self.uncommitted.client().fetch_cluster_id(self.timeout);
        id.ok_or_else(|| self.failed("asking for the cluster's id", &timed_out()))
    }

    /// The names of all topics that begin with `prefix`, sorted.
    ///
    /// # Errors
    /// [`Error::Request`] when no broker answers.
    pub fn list_topics(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let metadata = self.again(|left| {
            self.uncommitted
                .fetch_metadata(None, left)
                .map_err(|e| self.failed("listing topics", &e))
        })?;
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        Ok(names)
    }

    /// How many partitions a topic has; none when it does not exist.
    ///
    /// # Errors
    /// [`Error::Request`] when no broker answers, or access is denied.
    pub fn partitions(&self, topic: &str) -> Result<Option<u32>, Error> {
        Ok(self.leaders(topic)?.map(|leaders| u32::try_from(leaders.len()).unwrap_or(u32::MAX)))
    }

    /// For each partition of a topic whether it has a leader.
    fn leaders(&self, topic: &str) -> Result<Option<Vec<bool>>, Error> {
        self.each_partition(topic, |partition| partition.leader() >= 0)
    }

    /// For each partition of a topic how many replicas it has.
    fn replicas(&self, topic: &str) -> Result<Option<Vec<usize>>, Error> {
        self.each_partition(topic, |partition| partition.replicas().len())
    }

    /// Something of each partition of a topic; none when there is no such topic.
    fn each_partition<T>(
        &self,
        topic: &str,
        what: impl Fn(&MetadataPartition) -> T,
    ) -> Result<Option<Vec<T>>, Error> {
        self.again(|left| {
            let error = |e| self.failed(&format!("looking at topic {topic}"), &e);
            let metadata = self.uncommitted.fetch_metadata(Some(topic), left).map_err(error)?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            let Some(found) = found else { return Ok(None) };
            match found.error().map(RDKafkaErrorCode::from) {
                None => Ok(Some(found.partitions().iter().map(&what).collect())),
                Some(
                    RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic,
                ) => Ok(None),
                Some(code) => Err(error(KafkaError::MetadataFetch(code))),
            }
        })
    }

    /// The offsets that a partition has at the moment.
    ///
    /// # Errors
    /// [`Error::Request`] naming topic and partition.
    pub fn offsets(&self, topic: &str, partition: u32) -> Result<Offsets, Error> {
        let query = |client: &Client| {
            let what = format!("asking for the offsets of {topic}/{partition}");
            let request = |left| client.fetch_watermarks(topic, number(partition), left);
            self.again_where_unknown(&what, request)
        };
        // In this order: what is stable can't be behind an end that was taken before.
        let (_, stable) = query(&self.committed)?;
        let (start, end) = query(&self.uncommitted)?;
        Ok(Offsets { start, stable: stable.clamp(start, end), end })
    }

    /// The first offset whose timestamp is at or after `time_ms` since the Unix epoch; the end when
    /// there is none. Kafka needs timestamps to ascend for this to be exact.
    ///
    /// # Errors
    /// [`Error::Request`] naming topic and partition.
    pub fn offset_at(&self, topic: &str, partition: u32, time_ms: i64) -> Result<i64, Error> {
        let what = format!("asking for the offset of {topic}/{partition} at {time_ms} ms");
        let found = self.again_where_unknown(&what, |left| {
            let mut list = TopicPartitionList::new();
            let time = Offset::Offset(time_ms.max(0));
            list.add_partition_offset(topic, number(partition), time)?;
            let list = self.uncommitted.offsets_for_times(list, left)?;
            let element = list.find_partition(topic, number(partition)).ok_or_else(timed_out)?;
            element.error()?;
            Ok(element.offset())
        })?;
        match found {
            Offset::Offset(offset) => Ok(offset),
            _ => Ok(self.offsets(topic, partition)?.end),
        }
    }

    /// Deletes all records of a partition before an offset.
    ///
    /// # Errors
    /// [`Error::Request`] naming topic and partition.
    pub fn delete_records(&self, topic: &str, partition: u32, before: i64) -> Result<(), Error> {
        let what = format!("deleting the records of {topic}/{partition} before offset {before}");
        let error = |e| self.failed(&what, &e);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, number(partition), Offset::Offset(before))
            .map_err(error)?;
        let admin = self.admin()?;
        let list = block_on(admin.delete_records(&list, &self.options())).map_err(error)?;
        list.elements().iter().try_for_each(|element| element.error().map_err(error))
    }

    /// Deletes topics and waits until they are gone; those that don't exist are none the worse.
    ///
    /// # Errors
    /// [`Error::Request`] naming the topic.
    pub fn delete_topics(&self, topics: &[&str]) -> Result<(), Error> {
        let admin = self.admin()?;
        let error = |topic: &str, e| self.failed(&format!("deleting topic {topic}"), &e);
        let deleted = block_on(admin.delete_topics(topics, &self.options()))
            .map_err(|e| error(&topics.join(", "), e))?;
        for result in deleted {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((topic, code)) => return Err(error(&topic, KafkaError::AdminOp(code))),
            }
        }
        let deadline = Instant::now() + self.timeout;
        for topic in topics {
            while self.partitions(topic)?.is_some() {
                if Instant::now() > deadline {
                    return Err(error(topic, timed_out()));
                }
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// Creates the topics that are missing, unless they must exist, and checks those that are there.
    /// Nothing is created when something is wrong with any of them.
    ///
    /// # Errors
    /// [`Error::Topics`] with everything that is wrong, [`Error::Request`] when Kafka can't be asked
    /// or does not create one.
    pub fn ensure_topics(&self, specs: &[TopicSpec]) -> Result<(), Error> {
        let mut missing = Vec::new();
        let mut wrong = Vec::new();
        for spec in specs {
            match self.replicas(&spec.name)? {
                None if spec.must_exist => wrong.push(spec.absent()),
                None => missing.push(spec),
                Some(replicas) => wrong.extend(self.compare(spec, &replicas)?),
            }
        }
        if wrong.is_empty() && !missing.is_empty() {
            self.create(&missing)?;
            for spec in missing {
                // Another instance may have been first, with other ideas.
                let replicas = self.await_topic(spec)?;
                wrong.extend(self.compare(spec, &replicas)?);
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Error::Topics { brokers: self.uncommitted.context().brokers.clone(), problems: wrong })
    }

    fn create(&self, specs: &[&TopicSpec]) -> Result<(), Error> {
        let topics: Vec<_> = specs.iter().map(|spec| spec.to_create()).collect();
        let admin = self.admin()?;
        let error = |topic: &str, e| self.failed(&format!("creating topic {topic}"), &e);
        let names = || specs.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
        let created = block_on(admin.create_topics(&topics, &self.options()))
            .map_err(|e| error(&names(), e))?;
        for result in created {
            match result {
                Ok(topic) => tracing::info!(topic, "created a topic"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(error(&topic, KafkaError::AdminOp(code))),
            }
        }
        Ok(())
    }

    /// Waits until every partition of a new topic has a leader, and returns how many replicas each has.
    fn await_topic(&self, spec: &TopicSpec) -> Result<Vec<usize>, Error> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let known = |p: &MetadataPartition| (p.leader() >= 0).then(|| p.replicas().len());
            match self.each_partition(&spec.name, known)? {
                Some(known) if !known.is_empty() && known.iter().all(Option::is_some) => {
                    return Ok(known.into_iter().flatten().collect());
                }
                _ if Instant::now() > deadline => {
                    let what = format!("waiting for the leaders of topic {}", spec.name);
                    return Err(self.failed(&what, &timed_out()));
                }
                _ => thread::sleep(PAUSE),
            }
        }
    }

    fn compare(&self, spec: &TopicSpec, replicas: &[usize]) -> Result<Vec<String>, Error> {
        let mut found = Found { replicas: replicas.to_vec(), ..Found::default() };
        if !spec.config.is_empty() {
            let what = format!("looking at the configuration of topic {}", spec.name);
            let error = |e| self.failed(&what, &e);
            let admin = self.admin()?;
            let resources = [ResourceSpecifier::Topic(&spec.name)];
            let answers = block_on(admin.describe_configs(&resources, &self.options()));
            for answer in answers.map_err(error)? {
                let entries = answer.map_err(|code| error(KafkaError::AdminOp(code)))?.entries;
                found.config.extend(entries.into_iter().filter_map(|e| Some((e.name, e.value?))));
            }
        }
        Ok(problems(spec, &found))
    }

    /// Tries again what may work then, until the time is over.
    fn again<T>(&self, request: impl Fn(Duration) -> Result<T, Error>) -> Result<T, Error> {
        let deadline = Instant::now() + self.timeout;
        loop {
            // Logs and errors come by polling; there is never a record.
            let _ = (self.uncommitted.poll(Duration::ZERO), self.committed.poll(Duration::ZERO));
            match request(left(deadline).min(SLICE)) {
                Err(error) if error.is_retriable() && Instant::now() + PAUSE < deadline => {
                    // The leader that was asked may be gone: who leads now is asked of any broker.
                    let _ = self.uncommitted.fetch_metadata(None, left(deadline).min(SLICE));
                    let _ = self.committed.fetch_metadata(None, left(deadline).min(SLICE));
                    thread::sleep(PAUSE);
                }
                result => return result,
            }
        }
    }

    /// As [`Admin::again`], also where the topic is said not to be there: a broker that has just come
    /// back does not know of all topics yet. In the end it is none of the errors that pass.
    fn again_where_unknown<T>(
        &self,
        what: &str,
        request: impl Fn(Duration) -> Result<T, KafkaError>,
    ) -> Result<T, Error> {
        let unknown = RefCell::new(None);
        let set = |mut error: Error, to: bool| {
            if let Error::Request { retriable, .. } = &mut error {
                *retriable = to;
            }
            error
        };
        let result = self.again(|left| {
            request(left).map_err(|error| match error.rdkafka_error_code() {
                Some(code) if is_unknown(code) => {
                    unknown.replace(Some(set(self.failed(what, &error), false)));
                    set(self.failed(what, &error), true)
                }
                // What was left of the time was too short to hear it once more.
                Some(RDKafkaErrorCode::OperationTimedOut) if left < SHORT => {
                    self.failed(what, &error)
                }
                _ => {
                    unknown.replace(None);
                    self.failed(what, &error)
                }
            })
        });
        result.map_err(|error| unknown.take().unwrap_or(error))
    }

    /// A client for one request: it has a thread of its own and nobody to read its log.
    fn admin(&self) -> Result<AdminClient<Context>, Error> {
        let (config, redaction) = self.settings.config(Role::Lookup, &[])?;
        let context = Context::new(&self.settings.brokers, redaction.clone());
        let made = config.create_with_context(context);
        made.map_err(|error| created(&self.settings, &redaction, &error))
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(self.timeout))
            .operation_timeout(Some(self.timeout))
    }

    fn failed(&self, what: &str, error: &KafkaError) -> Error {
        let error = match error {
            KafkaError::AdminOp(code) => &KafkaError::MetadataFetch(*code),
            other => other,
        };
        failed(self.uncommitted.context(), what.to_owned(), error)
    }
}

/// Whether a broker knows no such topic or partition.
fn is_unknown(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(code, E::UnknownTopicOrPartition | E::UnknownTopic | E::UnknownPartition)
}

fn timed_out() -> KafkaError {
    KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut)
}

/// Waits for an answer of the admin client, which gives one in its own time limit.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
