//! What librdkafka tells a client of ours besides records. Invariant: callbacks only note; nothing
//! is decided in them, and every text is scrubbed of secrets.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{Statistics, TopicPartitionList};

use crate::redaction::Redaction;
use crate::stats::Stats;

/// The notes of one client.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) brokers: String,
    pub(crate) redaction: Redaction,
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// Whether the client is going away, so that nobody is left to acknowledge anything.
    closing: AtomicBool,
    stats: Mutex<Stats>,
    /// The last error that is not about one request.
    error: Mutex<Option<String>>,
    /// The last error that librdkafka has logged, which says more than what it returns.
    logged: Mutex<Option<String>>,
    deliveries: Mutex<Deliveries>,
    /// How many delivery reports came for each of two lots.
    reports: [AtomicU64; 2],
}

/// What the group asks of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rebalance {
    Assign(Vec<(String, u32)>),
    Revoke { partitions: Vec<(String, u32)>, lost: bool },
    Failed(String),
}

/// What became of the records of one transaction, as far as somebody asked.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    /// Ticket and offset.
    pub(crate) tracked: Vec<(usize, i64)>,
    /// The first failure: topic, partition, code and what librdkafka says.
    pub(crate) failure: Option<(String, i32, RDKafkaErrorCode, String)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    pub(crate) fn new(brokers: &str, redaction: Redaction) -> Self {
        Self {
            brokers: redaction.scrub(brokers),
            redaction,
            rebalances: Mutex::default(),
            closing: AtomicBool::new(false),
            stats: Mutex::default(),
            error: Mutex::default(),
            logged: Mutex::default(),
            deliveries: Mutex::default(),
            reports: Default::default(),
        }
    }

    pub(crate) fn next_rebalance(&self) -> Option<Rebalance> {
        lock(&self.rebalances).pop_front()
    }

    /// From now on what the group asks for is done at once.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn current_stats(&self) -> Stats {
        lock(&self.stats).clone()
    }

    pub(crate) fn take_error(&self) -> Option<String> {
        lock(&self.error).take()
    }

    /// The last error of connections, for instance why a broker lets nobody in. It stays: librdkafka
    /// does not say the same again as long as it goes on.
    pub(crate) fn last_error(&self) -> Option<String> {
        let logged = lock(&self.logged).clone();
        logged.or_else(|| lock(&self.error).clone())
    }

    /// Notes an error that is not about one request.
    pub(crate) fn note(&self, reason: &str) {
        let reason = self.redaction.scrub(reason);
        tracing::debug!(reason, "librdkafka");
        *lock(&self.error) = Some(reason);
    }

    pub(crate) fn delivered(&self, ticket: usize, offset: i64) {
        lock(&self.deliveries).tracked.push((ticket, offset));
    }

    /// A report came for a record of this lot, whatever it says.
    pub(crate) fn reported(&self, lot: usize) {
        self.reports[lot].fetch_add(1, Ordering::Relaxed);
    }

    /// How many reports came for the records of this lot.
    pub(crate) fn reports(&self, lot: usize) -> u64 {
        self.reports[lot].load(Ordering::Relaxed)
    }

    pub(crate) fn delivery_failed(
        &self,
        topic: &str,
        partition: i32,
        code: RDKafkaErrorCode,
        why: &str,
    ) {
        let why = self.redaction.scrub(why);
        lock(&self.deliveries).failure.get_or_insert((topic.to_owned(), partition, code, why));
    }

    /// No broker said that a record was taken: librdkafka infers it from the sequence number of one
    /// after it, which was. That is wrong where the broker has forgotten the producer, as it does when
    /// it starts and what the producer wrote has timestamps of more than a day ago
    /// (`producer.id.expiration.ms`): then it takes any number (KAFKA-15591).
    pub(crate) fn delivery_inferred(&self, topic: &str, partition: i32) {
        let why = "no broker has said that it was taken";
        self.delivery_failed(topic, partition, RDKafkaErrorCode::OutOfOrderSequenceNumber, why);
    }

    pub(crate) fn has_failed_delivery(&self) -> bool {
        lock(&self.deliveries).failure.is_some()
    }

    pub(crate) fn take_failure(&self) -> Option<(String, i32, RDKafkaErrorCode, String)> {
        lock(&self.deliveries).failure.take()
    }

    pub(crate) fn take_deliveries(&self) -> Deliveries {
        std::mem::take(&mut *lock(&self.deliveries))
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        let line = self.redaction.scrub(line);
        match level {
            // One set of settings serves consumers and producers.
            // What fails of a transaction is told by who asked for it.
            _ if matches!(facility, "CONFWARN" | "TXNERR") => tracing::debug!(facility, "{line}"),
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::error!(facility, "{line}");
                // Without the thread.
                let said = line.split_once("]: ").map_or(line.as_str(), |(_, said)| said);
                *lock(&self.logged) = Some(said.to_owned());
            }
            RDKafkaLogLevel::Warning => tracing::warn!(facility, "{line}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, "{line}"),
            RDKafkaLogLevel::Debug => tracing::debug!(facility, "{line}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        *lock(&self.stats) = Stats::new(&statistics);
    }

    fn error(&self, _: KafkaError, reason: &str) {
        self.note(reason);
    }
}

impl ConsumerContext for Context {
    /// Notes what is asked. Partitions are taken or given up when the worker is ready for it, which
    /// is what makes the group wait.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if self.closing.load(Ordering::Relaxed) {
            let taking = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
            let done = match (consumer.rebalance_protocol(), taking) {
                (RebalanceProtocol::Cooperative, true) => consumer.incremental_assign(partitions),
                (RebalanceProtocol::Cooperative, false) => {
                    consumer.incremental_unassign(partitions)
                }
                (_, true) => consumer.assign(partitions),
                (_, false) => consumer.unassign(),
            };
            if let Err(error) = done {
                tracing::debug!(%error, "giving up partitions at the end");
            }
            return;
        }
        let listed = || {
            let elements = partitions.elements().into_iter();
            elements
                .filter_map(|e| Some((e.topic().to_owned(), u32::try_from(e.partition()).ok()?)))
                .collect()
        };
        let event = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(listed()),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                Rebalance::Revoke { partitions: listed(), lost: consumer.assignment_lost() }
            }
            other => Rebalance::Failed(RDKafkaErrorCode::from(other).to_string()),
        };
        lock(&self.rebalances).push_back(event);
    }
}
