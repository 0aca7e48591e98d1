//! Reading partitions at offsets that the engine keeps. Invariant: records of a partition come once
//! and in order, and an offset that is not there is an error, never a jump.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::batch::{Batch, TimestampKind};
use crate::client::{Client, consumer, number};
use crate::native::queue::{Message, Notice, Queue};
use crate::settings::Role;
use crate::{Error, Settings, Stats, Waker};

/// How long a query for the offsets that exist may take when one is gone.
const RANGE_TIMEOUT: Duration = Duration::from_secs(3);

/// A client that reads any number of partitions, each by itself.
pub struct Fetcher {
    client: Arc<Client>,
    waker: Waker,
    /// The topics whose leaders were found.
    found: Arc<Mutex<BTreeSet<String>>>,
}

/// What a [`Fetcher`] knows of who leads topics, for any thread to bring up to date.
#[derive(Clone)]
pub struct Leaders {
    client: Arc<Client>,
    found: Arc<Mutex<BTreeSet<String>>>,
}

/// Which records are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Those of no transaction and of committed ones, up to the first that is open.
    #[default]
    Committed,
    /// All, those of open and of aborted transactions too.
    Uncommitted,
}

/// How much one read may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The most records.
    pub records: usize,
    /// The most bytes of keys and values; one record is read even if it is larger.
    pub bytes: usize,
}

/// A partition that is being read; dropping it ends that.
pub struct Partition {
    topic: String,
    partition: u32,
    position: i64,
    /// Why nothing more can be read.
    end: Option<Error>,
    queue: Queue,
    client: Arc<Client>,
    waker: Waker,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fetcher({})", self.client.context().brokers)
    }
}

impl std::fmt::Debug for Leaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Leaders({})", self.client.context().brokers)
    }
}

impl Leaders {
    /// Finds out who leads a topic, at most for so long, if that is not known yet. Reading it begins
    /// at once then; otherwise librdkafka looks for that after [`Fetcher::assign`], which may take it
    /// a second.
    pub fn find(&self, topic: &str, timeout: Duration) {
        // Asked for once: behind a fetch that waits for records the answer would come late.
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.contains(topic) {
            return;
        }
        match self.client.fetch_metadata(Some(topic), timeout) {
            Ok(_) => drop(found.insert(topic.to_owned())),
            Err(error) => {
                tracing::debug!(topic, %error, "its leaders are looked for when it is read");
            }
        }
    }
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Partition({}/{} at {})", self.topic, self.partition, self.position)
    }
}

impl Fetcher {
    /// Makes a client that raises `waker` whenever a partition has something. The `group` is never
    /// joined; it is what access rules may ask for.
    ///
    /// # Errors
    /// [`Error::Settings`] and [`Error::Request`] when the settings can't be used. That no broker
    /// can be reached is no error: reading begins when one can.
    pub fn new(settings: &Settings, group: &str, waker: &Waker) -> Result<Self, Error> {
        Self::with_role(settings, Role::Fetch, group, waker, Isolation::Committed)
    }

    /// As [`Fetcher::new`], for a person who looks at topics: the end of a partition shows soon, and
    /// less is read ahead.
    ///
    /// # Errors
    /// As [`Fetcher::new`].
    pub fn for_looking(
        settings: &Settings,
        group: &str,
        waker: &Waker,
        isolation: Isolation,
    ) -> Result<Self, Error> {
        Self::with_role(settings, Role::Look, group, waker, isolation)
    }

    /// As [`Fetcher::new`], with defaults for reading much at once.
    pub(crate) fn for_restore(
        settings: &Settings,
        group: &str,
        waker: &Waker,
    ) -> Result<Self, Error> {
        Self::with_role(settings, Role::Restore, group, waker, Isolation::Committed)
    }

    fn with_role(
        settings: &Settings,
        role: Role,
        group: &str,
        waker: &Waker,
        isolation: Isolation,
    ) -> Result<Self, Error> {
        let level = match isolation {
            Isolation::Committed => "read_committed",
            Isolation::Uncommitted => "read_uncommitted",
        };
        let owned = [
            ("group.id", group),
            ("isolation.level", level),
            ("auto.offset.reset", "error"),
            ("enable.partition.eof", "true"),
        ];
        let mut client = consumer(settings, role, &owned)?;
        let own = waker.clone();
        client.set_nonempty_callback(move || own.wake());
        Ok(Self { client: Arc::new(client), waker: waker.clone(), found: Arc::default() })
    }

    /// Begins to read a partition at an offset.
    ///
    /// # Errors
    /// [`Error::Request`] when the topic's name can't be one or the partition is assigned already.
    pub fn assign(&self, topic: &str, partition: u32, offset: i64) -> Result<Partition, Error> {
        let refused = |why: &str| Error::Request {
            what: format!("reading {topic}/{partition} from offset {offset}"),
            brokers: self.client.context().brokers.clone(),
            why: why.to_owned(),
            retriable: false,
        };
        let queue = Queue::split(&self.client, topic, number(partition), &self.waker)
            .ok_or_else(|| refused("the name is not one of a topic"))?;
        let list =
            list(topic, partition, Offset::Offset(offset)).map_err(|e| refused(&e.to_string()))?;
        self.client.incremental_assign(&list).map_err(|e| refused(&e.to_string()))?;
        Ok(Partition {
            topic: topic.to_owned(),
            partition,
            position: offset,
            end: None,
            queue,
            client: Arc::clone(&self.client),
            waker: self.waker.clone(),
        })
    }

    /// Finds out who leads topics that are to be read.
    pub fn leaders(&self) -> Leaders {
        Leaders { client: Arc::clone(&self.client), found: Arc::clone(&self.found) }
    }

    /// Serves logs, errors and statistics of the client; to be called now and then, at least once a
    /// second.
    pub fn poll(&self) {
        while let Some(event) = self.client.poll(Duration::ZERO) {
            if let Err(error) = event {
                tracing::debug!(%error, "fetching");
            }
        }
    }

    /// Waits until a partition may have something to read, at most `timeout`. Says whether the
    /// waker was raised.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.poll();
        self.waker.wait(timeout)
    }

    /// The client's figures.
    pub fn stats(&self) -> Stats {
        self.client.context().current_stats()
    }
}

impl Partition {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition's number.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The offset to read next, as [`Batch::next_offset`].
    pub fn position(&self) -> i64 {
        self.position
    }

    /// The records between the position and the last that may be read, by what the last fetch has
    /// told; none while nothing was fetched. Costs no request.
    pub fn lag(&self) -> Option<u64> {
        let (_, high) = self.queue.watermarks()?;
        Some(u64::try_from(high - self.position).unwrap_or(0))
    }

    /// Appends what is there to the batch, up to the limit, and returns how many records. Never
    /// waits. When the limit was reached the waker is raised, so that the rest is not slept on.
    ///
    /// # Errors
    /// [`Error::OffsetGone`] and [`Error::Read`], after the records that come before; the former
    /// for good.
    pub fn read(&mut self, into: &mut Batch, limit: Limit) -> Result<usize, Error> {
        if let Some(error) = &self.end {
            return Err(error.clone());
        }
        let (rows, bytes) = (into.len(), into.size_bytes());
        let (mut notice, mut eof) = (None, None);
        let most = limit.records;
        let take = |message: Message<'_>| {
            if notice.is_some() {
                return false;
            }
            if let Some(found) = message.notice() {
                if found.code == RDKafkaErrorCode::PartitionEOF {
                    eof = Some(found.offset);
                    return true;
                }
                // An error waits until the records before it are dealt with.
                if into.len() > rows {
                    return false;
                }
                notice = Some(found);
                return true;
            }
            let (key, value) = (message.key(), message.value());
            let size = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
            let read = into.size_bytes() - bytes;
            if into.len() > rows && read + size > limit.bytes {
                return false;
            }
            let (timestamp, appended) = message.timestamp();
            into.offsets.push(message.offset());
            into.timestamps.push(timestamp);
            into.timestamp_kind =
                if appended { TimestampKind::LogAppend } else { TimestampKind::Create };
            into.keys.push_opt(key);
            into.values.push_opt(value);
            if let Some(headers) = &mut into.headers {
                message.headers(headers);
            }
            true
        };
        let taken = self.queue.read(most, take);
        let read = into.len() - rows;
        if let Some(last) = into.offsets.last().filter(|_| read > 0) {
            self.position = last + 1;
        }
        // Transaction markers are no records, yet they have offsets. (The client's own position
        // would be of no use: with the end of a partition it is one too far.)
        if let Some(offset) = eof {
            self.position = self.position.max(offset);
        }
        if let Some(notice) = notice {
            into.next_offset = self.position;
            return self.fail(notice);
        }
        if taken == most || self.queue.has_more() {
            self.waker.wake();
        }
        into.next_offset = self.position;
        Ok(read)
    }

    fn fail(&mut self, notice: Notice) -> Result<usize, Error> {
        let (topic, partition, offset) = (self.topic.clone(), self.partition, self.position);
        let gone = [RDKafkaErrorCode::AutoOffsetReset, RDKafkaErrorCode::OffsetOutOfRange];
        let why = self.client.context().redaction.scrub(&notice.text);
        let error = if gone.contains(&notice.code) {
            let range = self.client.fetch_watermarks(&topic, number(partition), RANGE_TIMEOUT).ok();
            Error::OffsetGone { topic, partition, offset, range }
        } else {
            let retriable = crate::error::is_retriable(notice.code);
            Error::Read { topic, partition, offset, why, retriable }
        };
        if matches!(error, Error::OffsetGone { .. }) {
            self.end = Some(error.clone());
        }
        Err(error)
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        let done = list(&self.topic, self.partition, Offset::Invalid)
            .and_then(|list| self.client.incremental_unassign(&list));
        if let Err(error) = done {
            tracing::debug!(%error, topic = self.topic, self.partition, "ending a fetch");
        }
    }
}

fn list(
    topic: &str,
    partition: u32,
    offset: Offset,
) -> Result<TopicPartitionList, rdkafka::error::KafkaError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, number(partition), offset)?;
    Ok(list)
}
