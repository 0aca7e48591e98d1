//! What was sent in a transaction that is not committed yet, so that it can be sent in another one.
//!
//! Invariant: what is sent again is all that was sent, in the same order, or nothing.

use wasmill_core::flow::Flow;
use wasmill_kafka::Producer;

use super::outbox::{Handles, send_frame, send_plain};
use crate::engine::Error;

/// The most that a worker keeps, in bytes. What a transaction has beyond that is computed again where
/// it can't be committed.
const MOST_BYTES: usize = 16 << 20;
/// About how much of that a record takes beside its key and value, and what was sent at a time beside
/// its records.
const ROW_BYTES: usize = 32;
const SENT_BYTES: usize = 512;

/// What was sent since the last commit began.
#[derive(Default)]
pub(super) struct Kept {
    sent: Vec<Sent>,
    bytes: usize,
    missing: bool,
}

/// What was sent to a topic, by its number in the topology.
enum Sent {
    Plain { topic: usize, partition: u32, flow: Box<Flow> },
    Frame { topic: usize, partition: u32, bytes: Vec<u8> },
}

impl Kept {
    /// Keeps records that were sent as they are.
    pub(super) fn plain(&mut self, topic: usize, partition: u32, flow: Flow) {
        let headers = flow.headers.as_ref().map_or(0, |headers| {
            let (names, values) = (&headers.names, &headers.values);
            names.data.len() + values.data.len() + ROW_BYTES * names.len()
        });
        let data = flow.keys.data.len() + flow.values.data.len() + headers;
        let flow = Box::new(Flow { ports: Vec::new(), rows: Vec::new(), ..flow });
        let bytes = data + ROW_BYTES * flow.len();
        self.keep(bytes, Sent::Plain { topic, partition, flow });
    }

    /// Keeps a frame.
    pub(super) fn frame(&mut self, topic: usize, partition: u32, bytes: Vec<u8>) {
        self.keep(bytes.len(), Sent::Frame { topic, partition, bytes });
    }

    fn keep(&mut self, bytes: usize, sent: Sent) {
        self.bytes += SENT_BYTES + bytes;
        if self.bytes > MOST_BYTES {
            self.sent = Vec::new();
            self.missing = true;
        }
        if !self.missing {
            self.sent.push(sent);
        }
    }

    /// Whether it has everything.
    pub(super) fn is_whole(&self) -> bool {
        !self.missing
    }

    /// Sends everything again.
    pub(super) fn send(&self, producer: &mut Producer, topics: &[Handles]) -> Result<(), Error> {
        for sent in &self.sent {
            match sent {
                Sent::Plain { topic, partition, flow } => {
                    if let Some(topic) = topics[*topic].plain {
                        send_plain(producer, topic, *partition, flow)?;
                    }
                }
                Sent::Frame { topic, partition, bytes } => {
                    if let Some(topic) = topics[*topic].frames {
                        send_frame(producer, topic, *partition, bytes)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_not_kept_in_part() {
        let mut kept = Kept::default();
        kept.frame(0, 0, vec![0; MOST_BYTES / 2]);
        assert!(kept.is_whole());
        kept.frame(0, 1, vec![0; MOST_BYTES / 2]);
        assert!(!kept.is_whole());
        // Also not what comes later and would fit.
        kept.frame(0, 2, vec![0; 8]);
        assert!(kept.sent.is_empty() && !kept.is_whole());
    }
}
