//! The offsets that a group has committed. Invariant: an offset that a transaction is about to
//! commit is waited for, never passed over.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer;

use crate::client::{Client, consumer, failed, left};
use crate::membership::listed;
use crate::native;
use crate::settings::Role;
use crate::{Error, Settings};

/// A client that reads a group's offsets without being a member; usable from any thread.
pub struct Committed {
    client: Client,
    group: String,
}

/// What is committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset to read next; none when nothing is committed.
    pub offset: Option<i64>,
    /// What was committed with it; empty when nothing was.
    pub metadata: String,
}

impl std::fmt::Debug for Committed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Committed(group {} at {})", self.group, self.client.context().brokers)
    }
}

impl Committed {
    /// Makes the client.
    ///
    /// # Errors
    /// [`Error::Settings`] and [`Error::Request`] when the settings can't be used.
    pub fn new(settings: &Settings, group: &str) -> Result<Self, Error> {
        let owned = [("group.id", group), ("isolation.level", "read_committed")];
        Ok(Self { client: consumer(settings, Role::Lookup, &owned)?, group: group.to_owned() })
    }

    /// The committed offsets of partitions, in their order. Waits for transactions that are about to
    /// commit offsets, at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Request`] naming the group.
    pub fn read(
        &self,
        partitions: &[(String, u32)],
        timeout: Duration,
    ) -> Result<Vec<Position>, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.try_read(partitions, deadline) {
                Err(error) if error.is_retriable() && Instant::now() < deadline => {
                    tracing::debug!(%error, "reading committed offsets again");
                    thread::sleep(Duration::from_millis(50));
                }
                result => return result,
            }
        }
    }

    fn try_read(
        &self,
        partitions: &[(String, u32)],
        deadline: Instant,
    ) -> Result<Vec<Position>, Error> {
        let error = |error| {
            let what = format!("reading the offsets of group {}", self.group);
            failed(self.client.context(), what, &error)
        };
        // Logs and errors come by polling; there is never a record.
        let _ = self.client.poll(Duration::ZERO);
        let list = listed(partitions, Offset::Invalid).map_err(error)?;
        let list = self.client.committed_offsets(list, left(deadline)).map_err(error)?;
        let elements = list.elements();
        let metadata = native::metadata(&list);
        elements
            .iter()
            .zip(metadata)
            .zip(partitions)
            .map(|((element, metadata), (topic, partition))| {
                element.error().map_err(error)?;
                let offset = match element.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                };
                Ok(Position { topic: topic.clone(), partition: *partition, offset, metadata })
            })
            .collect()
    }
}
