//! Puts the numbers in, at a steady rate, whatever happens to the brokers.
//!
//! Invariant: numbers are sent in order and without a gap, each at least once, and little is under way
//! at a time; [`Feed::end`] returns when all of them are acknowledged.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use crate::input::{self, ACCOUNTS, PARTITIONS, TOPIC};

/// How long records may wait for a broker that is gone.
const PATIENCE: Duration = Duration::from_secs(240);
/// How often numbers that are due are sent.
const PAUSE: Duration = Duration::from_millis(10);
/// What is sent that is no number.
const OTHER: usize = usize::MAX;

/// The thread that sends.
#[derive(Debug)]
pub struct Feed {
    brokers: String,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    known: Arc<Known>,
    thread: Option<JoinHandle<anyhow::Result<u64>>>,
}

impl Feed {
    /// Starts to send `rate` numbers a second; `log` is where the client says what it does.
    ///
    /// # Errors
    /// When the log can't be made.
    pub fn start(brokers: &str, rate: u32, log: &Path) -> anyhow::Result<Self> {
        let log = File::create(log).with_context(|| format!("making {}", log.display()))?;
        let taken = Mutex::default();
        let known = Arc::new(Known { taken, log, since: Instant::now() });
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count, to) = (stop.clone(), sent.clone(), brokers.to_owned());
        let knows = known.clone();
        let thread = std::thread::spawn(move || feed(&to, rate, &stopped, &count, knows));
        Ok(Self { brokers: brokers.to_owned(), stop, sent, known, thread: Some(thread) })
    }

    /// The offset at which a number was taken; below 0 where the client only infers that it was, none
    /// where it does not say so at all.
    pub fn taken(&self, n: u64) -> Option<i64> {
        let taken = self.known.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get(&n).copied()
    }

    /// How many numbers were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops, waits until everything sent has arrived, and returns how many numbers that were; then
    /// time moves past the end of all their spans.
    ///
    /// # Errors
    /// When the brokers did not take everything.
    ///
    /// # Panics
    /// When it ended before.
    pub fn end(&mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("a feed ends once");
        let total = thread.join().map_err(|_| anyhow::anyhow!("the feed panicked"))??;
        let producer = producer(&self.brokers, self.known.clone())?;
        for partition in 0..PARTITIONS {
            let value = format!(r#"{{"account":"tick-{partition}","tick":0}}"#);
            send(&producer, partition, input::end_ms(total), &value, OTHER)?;
        }
        deliver(&producer)?;
        Ok(total)
    }

    /// Asks all accounts for what is kept of them.
    ///
    /// # Errors
    /// When the brokers did not take everything.
    pub fn audit(&self, audit: u64, total: u64) -> anyhow::Result<()> {
        let producer = producer(&self.brokers, self.known.clone())?;
        for account in 0..ACCOUNTS {
            let value = format!(r#"{{"account":"{}","audit":{audit}}}"#, input::name(account));
            let time = input::end_ms(total) + 1 + audit.cast_signed();
            send(&producer, input::partition(account), time, &value, OTHER)?;
        }
        deliver(&producer)
    }
}

fn feed(
    brokers: &str,
    rate: u32,
    stop: &AtomicBool,
    sent: &AtomicU64,
    known: Arc<Known>,
) -> anyhow::Result<u64> {
    let producer = producer(brokers, known)?;
    let start = Instant::now();
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        while n < due {
            let partition = input::partition(input::account(n));
            send(&producer, partition, input::time_ms(n), &input::value(n), n as usize)?;
            n += 1;
        }
        sent.store(n, Ordering::Relaxed);
        producer.poll(PAUSE);
    }
    deliver(&producer)?;
    Ok(n)
}

/// What the client has said.
#[derive(Debug)]
struct Known {
    /// At which offset each number was taken.
    taken: Mutex<BTreeMap<u64, i64>>,
    log: File,
    since: Instant,
}

struct Deliveries {
    failed: AtomicU64,
    known: Arc<Known>,
}

impl ClientContext for Deliveries {
    fn log(&self, _level: RDKafkaLogLevel, fac: &str, text: &str) {
        let since = self.known.since.elapsed().as_secs_f64();
        // A log that can't be written is missed where it is read.
        let _ = (&self.known.log).write_all(format!("{since:.6} {fac} {text}\n").as_bytes());
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(_) if number == OTHER => {}
            Ok(record) => {
                let mut taken = self.known.taken.lock().unwrap_or_else(PoisonError::into_inner);
                taken.insert(number as u64, record.offset());
            }
            Err(_) => drop(self.failed.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

fn producer(brokers: &str, known: Arc<Known>) -> anyhow::Result<BaseProducer<Deliveries>> {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", PATIENCE.as_millis().to_string())
        .set("socket.timeout.ms", "5000")
        .set("reconnect.backoff.max.ms", "500")
        .set("linger.ms", "5")
        // One after the other: a broker that has forgotten this producer, as it does when it starts and
        // the records' times are long ago, takes a batch after one that it has refused (KAFKA-15591).
        .set("max.in.flight.requests.per.connection", "1")
        // So that what comes once more is not late: 4 partitions with 5 batches of 50, each number a ms.
        .set("batch.num.messages", "50")
        .set("debug", "eos,msg")
        .set_log_level(RDKafkaLogLevel::Debug)
        .create_with_context(Deliveries { failed: AtomicU64::new(0), known })
        .context("the feed can't be made")
}

fn send(
    producer: &BaseProducer<Deliveries>,
    partition: u32,
    time_ms: i64,
    value: &str,
    number: usize,
) -> anyhow::Result<()> {
    loop {
        let record = BaseRecord::<(), str, usize>::with_opaque_to(TOPIC, number)
            .partition(partition.cast_signed())
            .timestamp(time_ms)
            .payload(value);
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                producer.poll(PAUSE);
            }
            Err((error, _)) => return Err(error).context("a record can't be sent"),
        }
    }
}

fn deliver(producer: &BaseProducer<Deliveries>) -> anyhow::Result<()> {
    let start = Instant::now();
    while producer.in_flight_count() > 0 && start.elapsed() < PATIENCE {
        producer.poll(PAUSE);
    }
    let (left, failed) =
        (producer.in_flight_count(), producer.context().failed.load(Ordering::Relaxed));
    ensure!(
        left == 0 && failed == 0,
        "{left} records wait to be taken and {failed} were not taken"
    );
    Ok(())
}
