//! What tasks give, on its way into a transaction of Kafka.
//!
//! Invariant: records of a task for one partition are sent in the order in which it gave them, and
//! its watermarks after the records that they follow.

use std::sync::Arc;

use wasmill_abi::Headers;
use wasmill_core::flow::Flow;
use wasmill_kafka::{NO_HEADERS, Producer, Record, Topic};
use wasmill_log::{Frame, Records};

use super::kept::Kept;
use crate::engine::Error;
use crate::engine::task::Outlet;

/// About how large a frame may get, in bytes: well below the 1 MiB that brokers take by default.
const FRAME_BYTES: usize = 800_000;

/// Where the records of a topic of the pipeline go on Kafka.
#[derive(Debug, Clone)]
pub(super) struct Ways {
    /// The topic that others read, as plain records.
    pub(super) plain: Option<String>,
    /// The topic that the pipeline itself reads, as frames with watermarks.
    pub(super) frames: Option<String>,
    pub(super) partitions: u32,
}

impl Ways {
    /// The topic that an input reads; `carried` tells whether it needs the watermarks along.
    pub(super) fn read(&self, carried: bool) -> &str {
        match &self.plain {
            Some(plain) if !carried => plain,
            _ => self.offsets(),
        }
    }

    /// The topic that the group commits offsets of.
    pub(super) fn offsets(&self) -> &str {
        self.frames.as_deref().or(self.plain.as_deref()).expect("a topic has a way")
    }
}

/// [`Ways`] of a producer.
#[derive(Clone, Copy)]
pub(super) struct Handles {
    pub(super) plain: Option<Topic>,
    pub(super) frames: Option<Topic>,
    partitions: u32,
}

impl Handles {
    pub(super) fn of(ways: &[Ways], producer: &mut Producer) -> Result<Vec<Self>, Error> {
        let mut all = Vec::new();
        for way in ways {
            let mut handle = |name: &Option<String>| {
                name.as_deref().map(|name| producer.topic(name)).transpose()
            };
            let (plain, frames) = (handle(&way.plain)?, handle(&way.frames)?);
            all.push(Self { plain, frames, partitions: way.partitions });
        }
        Ok(all)
    }
}

/// What a task has given since it was last emptied.
pub(super) struct Outbox {
    /// The topic and the producer's number of each way out.
    edges: Arc<Vec<(usize, u32)>>,
    given: Vec<Given>,
    /// The size of keys and values in it.
    bytes: usize,
}

// Kept for a moment only: a box for each batch would cost more.
#[allow(clippy::large_enum_variant)]
enum Given {
    Records { edge: usize, partition: u32, flow: Flow },
    Mark { edge: usize, watermark: i64, idle: bool },
}

impl Outlet for Outbox {
    fn append(&mut self, edge: usize, partition: u32, flow: Flow) -> Result<(), Error> {
        self.bytes += flow.keys.data.len() + flow.values.data.len();
        self.given.push(Given::Records { edge, partition, flow });
        Ok(())
    }

    fn mark(&mut self, edge: usize, watermark: i64, idle: bool) -> Result<(), Error> {
        self.given.push(Given::Mark { edge, watermark, idle });
        Ok(())
    }
}

impl Outbox {
    /// Of a task whose way out number `e` leads to topic `edges[e].0`, as producer `edges[e].1`.
    pub(super) fn new(edges: Vec<(usize, u32)>) -> Self {
        Self { edges: Arc::new(edges), given: Vec::new(), bytes: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// The size of keys and values in it, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sends everything, as given in an epoch of the task, and keeps it where that is wanted.
    pub(super) fn send(
        &mut self,
        producer: &mut Producer,
        topics: &[Handles],
        epoch: u64,
        kept: &mut Option<Kept>,
    ) -> Result<(), Error> {
        self.bytes = 0;
        for given in self.given.drain(..) {
            match given {
                Given::Records { edge, partition, flow } => {
                    let (topic, number) = self.edges[edge];
                    let handles = topics[topic];
                    if let Some(plain) = handles.plain {
                        send_plain(producer, plain, partition, &flow)?;
                    }
                    let flow = match (handles.plain, handles.frames, &mut *kept) {
                        (Some(_), None, Some(kept)) => {
                            kept.plain(topic, partition, flow);
                            continue;
                        }
                        (Some(_), Some(_), Some(kept)) => {
                            kept.plain(topic, partition, flow.clone());
                            flow
                        }
                        _ => flow,
                    };
                    if let Some(frames) = handles.frames {
                        for bytes in frames_of(flow, (epoch, number)) {
                            send_frame(producer, frames, partition, &bytes)?;
                            if let Some(kept) = kept {
                                kept.frame(topic, partition, bytes);
                            }
                        }
                    }
                }
                Given::Mark { edge, watermark, idle } => {
                    let (topic, number) = self.edges[edge];
                    let handles = topics[topic];
                    let Some(frames) = handles.frames else { continue };
                    let mut bytes = Vec::new();
                    Frame::write_watermark(&mut bytes, epoch, number, watermark, idle);
                    for partition in 0..handles.partitions {
                        send_frame(producer, frames, partition, &bytes)?;
                        if let Some(kept) = kept {
                            kept.frame(topic, partition, bytes.clone());
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

pub(super) fn send_plain(
    producer: &mut Producer,
    topic: Topic,
    partition: u32,
    flow: &Flow,
) -> Result<(), Error> {
    for row in 0..flow.len() {
        let (key, value) = (flow.keys.get(row), flow.values.get(row));
        // Kafka has no times before 1970, and librdkafka takes 0 for now.
        let timestamp = Some(flow.timestamps[row].max(1));
        let record = Record { topic, partition, key, value, timestamp };
        match &flow.headers {
            None => producer.send(record, NO_HEADERS)?,
            Some(headers) => producer.send(record, headers_of(headers, row))?,
        }
    }
    Ok(())
}

fn headers_of(headers: &Headers, row: usize) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    headers.range(row).map(|i| (headers.names.bytes(i), headers.values.get(i)))
}

/// The frames of records.
fn frames_of(flow: Flow, (epoch, number): (u64, u32)) -> impl Iterator<Item = Vec<u8>> {
    let Flow { timestamps, clocks, keys, values, headers, .. } = flow;
    let records = Records { timestamps, clocks, keys, values, headers };
    records.split(FRAME_BYTES).into_iter().map(move |records| {
        let mut bytes = Vec::new();
        Frame::write_records(&mut bytes, epoch, number, &records);
        bytes
    })
}

pub(super) fn send_frame(
    producer: &mut Producer,
    topic: Topic,
    partition: u32,
    bytes: &[u8],
) -> Result<(), Error> {
    let record = Record { topic, partition, key: None, value: Some(bytes), timestamp: None };
    Ok(producer.send(record, NO_HEADERS)?)
}
