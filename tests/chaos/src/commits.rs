//! Who has committed what, by the brokers' own record of transactions.
//!
//! Invariant: a commit counts for an instance only if its producer was made after the last
//! [`Commits::forget`], so that an instance that was killed meanwhile begins at none.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rdkafka::message::{BorrowedMessage, Message};

use crate::output::{PAUSE, consumer};
use crate::run::tell;

/// Kafka's topic of transactions, and its partitions in clusters of tests.
const TOPIC: &str = "__transaction_state";
const PARTITIONS: u32 = 5;

/// States of a transaction as Kafka writes them (`TransactionState` of its coordinator).
const EMPTY: u8 = 0;
const PREPARE_COMMIT: u8 = 2;

/// What is known of producers, by their ids.
type Known = BTreeMap<String, Count>;

/// How many transactions a producer has committed.
#[derive(Debug, Default)]
struct Count {
    /// Since it was made; none before it was made anew.
    now: Option<u64>,
    ever: u64,
}

/// Follows the transactions of all producers.
#[derive(Debug)]
pub struct Commits {
    stop: Arc<AtomicBool>,
    known: Arc<Mutex<Known>>,
    thread: Option<JoinHandle<()>>,
}

impl Commits {
    /// Begins to follow.
    pub fn follow(brokers: &str) -> Self {
        let (stop, known) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Known>>::default());
        let (stopped, into, brokers) = (stop.clone(), known.clone(), brokers.to_owned());
        let thread = std::thread::spawn(move || {
            // The topic comes with the first transaction.
            let consumer = match consumer(&brokers, TOPIC, PARTITIONS, false) {
                Ok(consumer) => consumer,
                Err(error) => return tell(&format!("transactions can't be followed: {error:#}")),
            };
            let take = |m: &BorrowedMessage<'_>| {
                let id = m.key().and_then(transactional_id);
                let state = m.payload().and_then(state);
                let (Some(id), Some(state)) = (id, state) else { return };
                let mut known = into.lock().unwrap_or_else(PoisonError::into_inner);
                let count = known.entry(id).or_default();
                match state {
                    EMPTY => count.now = Some(0),
                    PREPARE_COMMIT => {
                        count.now = count.now.map(|n| n + 1);
                        count.ever += 1;
                    }
                    _ => {}
                }
            };
            while !stopped.load(Ordering::Relaxed) {
                // Errors are of brokers that are gone, or of a topic that is still to come.
                if let Some(Ok(m)) = consumer.poll(PAUSE) {
                    take(&m);
                }
            }
        });
        Self { stop, known, thread: Some(thread) }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many transactions the producers whose ids begin so have committed since they were made.
    pub fn count(&self, prefix: &str) -> u64 {
        let known = self.lock();
        known.iter().filter(|(id, _)| id.starts_with(prefix)).filter_map(|(_, c)| c.now).sum()
    }

    /// How many transactions the producers whose ids begin so have committed, and those with the
    /// same ids before them.
    pub fn ever(&self, prefix: &str) -> u64 {
        let known = self.lock();
        known.iter().filter(|(id, _)| id.starts_with(prefix)).map(|(_, c)| c.ever).sum()
    }

    /// What is known, for a run that fails.
    pub fn describe(&self) -> String {
        let each =
            |(id, count): (&String, &Count)| format!("{id}: {:?} of {}", count.now, count.ever);
        self.lock().iter().map(each).collect::<Vec<_>>().join(", ")
    }

    /// Lets the producers whose ids begin so count from when they are made anew.
    pub fn forget(&self, prefix: &str) {
        let mut known = self.lock();
        known.iter_mut().filter(|(id, _)| id.starts_with(prefix)).for_each(|(_, c)| c.now = None);
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed.
            let _ = thread.join();
        }
    }
}

/// `TransactionLogKey`: the version, then the id with its length before it.
fn transactional_id(key: &[u8]) -> Option<String> {
    let (_version, rest) = key.split_at_checked(2)?;
    let (length, id) = rest.split_at_checked(2)?;
    let length = u16::from_be_bytes(length.try_into().ok()?);
    String::from_utf8(id.get(..usize::from(length))?.to_vec()).ok()
}

/// `TransactionLogValue`: version, producer id, its epoch, the timeout, then the state.
fn state(value: &[u8]) -> Option<u8> {
    value.get(2 + 8 + 2 + 4).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_records_of_transactions_are_read() {
        assert_eq!(transactional_id(b"\0\0\0\x03abc"), Some("abc".to_owned()));
        assert_eq!(transactional_id(b"\0\0\0\x04abc"), None);
        let mut value = vec![0; 16];
        value.push(PREPARE_COMMIT);
        assert_eq!(state(&value), Some(PREPARE_COMMIT));
        assert_eq!(state(&value[..16]), None);
    }
}
