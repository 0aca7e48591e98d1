//! Sending records and committing them together with offsets. Invariant: a commit that may have
//! happened is never reported as failed, and one that has failed leaves nothing that a
//! read-committed consumer sees.

mod commit;
mod failure;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode;

use self::commit::Undecided;
pub use self::failure::CommitError;
use crate::client::{created, left, number};
use crate::context::Context;
use crate::native::group::Commit;
use crate::native::producer::{Handle, HeaderList, Label, Parts};
use crate::settings::Role;
use crate::{Error, Settings, Stats};

/// After how many records delivery reports are served.
const POLL_EVERY: u32 = 1_000;
/// How long one wait for reports takes at most.
const SLICE: Duration = Duration::from_millis(20);

/// A producer with transactions, or without them at least once.
pub struct Producer {
    handle: Handle,
    transactional: bool,
    timeout: Duration,
    topics: HashMap<String, Topic>,
    names: Vec<String>,
    tickets: usize,
    /// The lot that is being sent, and how many records were sent of it and of the one before, by
    /// the last bit of its number.
    lot: usize,
    sent: [u64; 2],
    since_poll: u32,
    open: bool,
    /// What a commit that is not decided yet has still to do.
    undecided: Option<Undecided>,
    /// Offsets that are being committed without waiting.
    committing: Option<Commit>,
}

/// A topic that a producer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Topic(usize);

/// A record to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Where to.
    pub topic: Topic,
    /// The partition, which must exist.
    pub partition: u32,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; none for a tombstone.
    pub value: Option<&'a [u8]>,
    /// In ms since the Unix epoch; none for now.
    pub timestamp: Option<i64>,
}

/// A record whose offset is told at the commit; counts from 0 in each transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub usize);

/// Records that were sent one after the other, see [`Producer::cut`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lot(usize);

/// What a commit has brought about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// The offset of each tracked record, by its ticket.
    pub offsets: Vec<i64>,
}

/// An offset to be committed with the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: u32,
    /// The offset to read next.
    pub next: i64,
    /// What is kept with it, at most 4 KiB by Kafka's default.
    pub metadata: Option<&'a str>,
}

/// For records without headers.
pub const NO_HEADERS: [(&[u8], Option<&[u8]>); 0] = [];

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.transactional { "transactional" } else { "at least once" };
        write!(f, "Producer({kind} at {})", self.handle.context().brokers)
    }
}

impl Producer {
    /// Makes a producer with transactions. It fences every other with the same `transactional_id`
    /// and aborts what that had open. `timeout` bounds this and each later call.
    ///
    /// # Errors
    /// [`Error::Settings`] when the settings can't be used, [`Error::Request`] when the transaction
    /// coordinator can't be reached in time or refuses.
    pub fn connect(
        settings: &Settings,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let producer = Self::new(settings, &[("transactional.id", transactional_id)], timeout)?;
        let deadline = Instant::now() + timeout;
        // Asked before there is one, librdkafka waits half a second to ask for the coordinator again.
        // What goes wrong with this shows below.
        let _ = producer.handle.ask_for_leaders(left(deadline));
        loop {
            match producer.handle.init_transactions(left(deadline)) {
                Ok(()) => return Ok(producer),
                Err(failure) if failure.retriable && Instant::now() < deadline => {
                    tracing::debug!(why = failure.text, transactional_id, "init again");
                    producer.handle.poll(Duration::from_millis(10));
                }
                Err(failure) => {
                    let context = producer.handle.context();
                    return Err(Error::Request {
                        what: format!("making the transactional producer {transactional_id}"),
                        brokers: context.brokers.clone(),
                        why: context.redaction.scrub(&failure.text),
                        retriable: failure.retriable,
                    });
                }
            }
        }
    }

    /// Makes a producer without transactions: what it sends is visible at once, and after a failure
    /// may be there twice.
    ///
    /// # Errors
    /// [`Error::Settings`] when the settings can't be used.
    pub fn at_least_once(settings: &Settings, timeout: Duration) -> Result<Self, Error> {
        Self::new(settings, &[], timeout)
    }

    fn new(settings: &Settings, own: &[(&str, &str)], timeout: Duration) -> Result<Self, Error> {
        let mut owned = vec![("enable.idempotence", "true"), ("acks", "all")];
        owned.extend_from_slice(own);
        let (mut config, redaction) = settings.config(Role::Producer, &owned)?;
        if own.is_empty() {
            config.remove("transaction.timeout.ms");
        }
        let context = Context::new(&settings.brokers, redaction.clone());
        let handle =
            Handle::new(&config, context).map_err(|e| created(settings, &redaction, &e))?;
        Ok(Self {
            handle,
            transactional: !own.is_empty(),
            timeout,
            topics: HashMap::new(),
            names: Vec::new(),
            tickets: 0,
            lot: 0,
            sent: [0; 2],
            since_poll: 0,
            open: false,
            undecided: None,
            committing: None,
        })
    }

    /// Bounds each call from now on.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// The handle of a topic, to be kept for sending to it. The topic must exist.
    ///
    /// # Errors
    /// [`Error::Send`] when the name can't be one of a topic.
    pub fn topic(&mut self, name: &str) -> Result<Topic, Error> {
        if let Some(topic) = self.topics.get(name) {
            return Ok(*topic);
        }
        let refused =
            |why| Error::Send { topic: name.to_owned(), partition: 0, why, refused: true };
        let topic = Topic(self.handle.add_topic(name).map_err(refused)?);
        self.topics.insert(name.to_owned(), topic);
        self.names.push(name.to_owned());
        Ok(topic)
    }

    /// Finds out who leads the topics that are known so far, at most for the timeout. Without it
    /// librdkafka looks for that when it has something to send, which may take it a second.
    pub fn find_leaders(&self) {
        if let Err(code) = self.handle.ask_for_leaders(self.timeout) {
            tracing::debug!(%code, "leaders are looked for when there is something to send");
        }
    }

    /// Opens a transaction, where there are any and none is open. Costs no request.
    ///
    /// # Errors
    /// [`CommitError`] when the producer is of no use any more, or a commit is not decided.
    pub fn begin(&mut self) -> Result<(), CommitError> {
        if self.transactional && !self.open {
            self.handle.begin_transaction().map_err(|f| self.judge(&f))?;
        }
        self.open = true;
        Ok(())
    }

    /// Whether a transaction is open, or records wait for a commit.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Queues a record. Waits while the queue is full, at most the timeout. That it was not
    /// delivered shows at the commit.
    ///
    /// # Errors
    /// [`Error::Send`] when it can't be queued: the transaction is to be aborted.
    #[inline]
    pub fn send<'h>(
        &mut self,
        record: Record<'_>,
        headers: impl IntoIterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) -> Result<(), Error> {
        self.queue(&record, headers, 0)
    }

    /// Queues a record whose offset [`Producer::commit`] tells.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub fn send_tracked<'h>(
        &mut self,
        record: Record<'_>,
        headers: impl IntoIterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) -> Result<Ticket, Error> {
        self.queue(&record, headers, self.tickets + 1)?;
        self.tickets += 1;
        Ok(Ticket(self.tickets - 1))
    }

    #[inline]
    fn queue<'h>(
        &mut self,
        record: &Record<'_>,
        headers: impl IntoIterator<Item = (&'h [u8], Option<&'h [u8]>)>,
        ticket: usize,
    ) -> Result<(), Error> {
        let mut list: Option<HeaderList> = None;
        for (name, value) in headers {
            list.get_or_insert_with(HeaderList::new).add(name, value);
        }
        let parts = Parts {
            topic: record.topic.0,
            partition: number(record.partition),
            key: record.key,
            value: record.value,
            timestamp: record.timestamp.unwrap_or(0),
            label: Label::new(self.lot, ticket),
        };
        self.since_poll += 1;
        if self.since_poll >= POLL_EVERY {
            self.since_poll = 0;
            self.handle.poll(Duration::ZERO);
        }
        if let Err(code) = self.handle.produce(&parts, &mut list) {
            self.queue_slowly(&parts, list, code)?;
        }
        self.sent[self.lot & 1] += 1;
        Ok(())
    }

    #[cold]
    fn queue_slowly(
        &self,
        parts: &Parts<'_>,
        mut headers: Option<HeaderList>,
        mut code: RDKafkaErrorCode,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        while code == RDKafkaErrorCode::QueueFull && Instant::now() < deadline {
            self.handle.poll(Duration::from_millis(1));
            match self.handle.produce(parts, &mut headers) {
                Ok(()) => return Ok(()),
                Err(again) => code = again,
            }
        }
        let context = self.handle.context();
        let fatal = self.handle.fatal_error().map(|(_, why)| why);
        let refused = failure::is_refused(code);
        let why = match (code, fatal) {
            (_, Some(why)) => why,
            (RDKafkaErrorCode::QueueFull, None) => format!(
                "the queue is full and Kafka {} has taken nothing for {:?}",
                context.brokers, self.timeout
            ),
            (code, None) => code.to_string(),
        };
        Err(Error::Send {
            topic: self.names[parts.topic].clone(),
            partition: u32::try_from(parts.partition).unwrap_or(0),
            why: context.redaction.scrub(&why),
            refused,
        })
    }

    /// Serves delivery reports without waiting; to be called now and then while nothing is sent.
    pub fn poll(&mut self) {
        self.handle.poll(Duration::ZERO);
    }

    /// Waits until everything sent so far is delivered, at most the timeout. [`Producer::commit`]
    /// does this too.
    ///
    /// # Errors
    /// [`CommitError::Undelivered`] when a record was not delivered in time, another [`CommitError`] when
    /// it could not be.
    pub fn drain(&mut self) -> Result<(), CommitError> {
        self.drain_until(Instant::now() + self.timeout)
    }

    fn drain_until(&mut self, deadline: Instant) -> Result<(), CommitError> {
        self.handle.poll(Duration::ZERO);
        while self.handle.outstanding() > 0 && !self.handle.flush(SLICE.min(left(deadline))) {
            if Instant::now() >= deadline || self.handle.context().has_failed_delivery() {
                break;
            }
        }
        let context = self.handle.context();
        if let Some((topic, partition, code, why)) = context.take_failure() {
            return Err(CommitError::of_delivery(&topic, partition, code, why));
        }
        match self.handle.outstanding() {
            0 => Ok(()),
            count => Err(CommitError::Undelivered {
                why: format!("{count} records were not delivered within {:?}", self.timeout),
            }),
        }
    }

    /// Ends a lot: what was sent since the last call is one. To be called again only when that is
    /// delivered, see [`Producer::is_delivered`].
    pub fn cut(&mut self) -> Lot {
        self.lot += 1;
        Lot(self.lot - 1)
    }

    /// Whether all records of the lot that ended last are delivered; does not wait.
    ///
    /// # Errors
    /// [`CommitError`] when a record could not be delivered, of this lot or after it.
    pub fn is_delivered(&mut self, lot: Lot) -> Result<bool, CommitError> {
        self.handle.poll(Duration::ZERO);
        let context = self.handle.context();
        if let Some(failure) = context.take_failure() {
            let (topic, partition, code, why) = failure;
            return Err(CommitError::of_delivery(&topic, partition, code, why));
        }
        Ok(context.reports(lot.0 & 1) == self.sent[lot.0 & 1])
    }

    /// The records and reports that are not done with.
    pub fn outstanding(&self) -> usize {
        self.handle.outstanding()
    }

    /// The client's figures.
    pub fn stats(&self) -> Stats {
        self.handle.context().current_stats()
    }
}
