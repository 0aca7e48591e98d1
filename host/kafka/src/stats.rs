//! Figures of a client, for metrics. Invariant: they are a copy; taking them never waits.

use std::collections::BTreeMap;

use rdkafka::Statistics;

/// What a client last said of itself; all zero until `statistics.interval.ms` has passed once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Records and requests that wait in the client's queue to be sent.
    pub queued: u64,
    /// The bytes of records that wait to be sent.
    pub queued_bytes: u64,
    /// Bytes received since the client was made.
    pub received_bytes: u64,
    /// Bytes sent since the client was made.
    pub sent_bytes: u64,
    /// The brokers, by name.
    pub brokers: BTreeMap<String, BrokerStats>,
    /// The partitions that are read, by topic and partition.
    pub partitions: BTreeMap<(String, u32), PartitionStats>,
}

/// Figures of the connection to one broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStats {
    /// Whether it is connected.
    pub up: bool,
    /// The mean time of a round trip in the last interval, in microseconds.
    pub round_trip_us: u64,
    /// The 99th percentile of the time of a round trip in the last interval, in microseconds.
    pub round_trip_p99_us: u64,
    /// Requests that wait for their answer.
    pub in_flight: u64,
}

/// Figures of a partition that is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionStats {
    /// Records between what was read and the last that may be read; none while it is not known.
    pub lag: Option<u64>,
    /// Records that were fetched and not read yet.
    pub fetched: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
}

impl Stats {
    pub(crate) fn new(from: &Statistics) -> Self {
        let whole = |n: i64| u64::try_from(n).unwrap_or(0);
        let mut stats = Self {
            queued: from.msg_cnt,
            queued_bytes: from.msg_size,
            received_bytes: whole(from.rx_bytes),
            sent_bytes: whole(from.tx_bytes),
            ..Self::default()
        };
        for broker in from.brokers.values().filter(|b| b.nodeid >= 0) {
            let rtt = broker.rtt.as_ref();
            let figures = BrokerStats {
                up: broker.state == "UP",
                round_trip_us: rtt.map_or(0, |r| whole(r.avg)),
                round_trip_p99_us: rtt.map_or(0, |r| whole(r.p99)),
                in_flight: whole(broker.waitresp_cnt),
            };
            stats.brokers.insert(broker.nodename.clone(), figures);
        }
        for (name, topic) in &from.topics {
            for partition in topic.partitions.values().filter(|p| p.desired) {
                let Ok(number) = u32::try_from(partition.partition) else { continue };
                let (end, read) = (partition.ls_offset, partition.app_offset);
                let figures = PartitionStats {
                    lag: (end >= 0 && read >= 0).then(|| whole(end - read)),
                    fetched: whole(partition.fetchq_cnt),
                    fetched_bytes: partition.fetchq_size,
                };
                stats.partitions.insert((name.clone(), number), figures);
            }
        }
        stats
    }
}
