//! What can go wrong with Kafka. Invariant: every error names the brokers or the partition, and no
//! error holds a secret.

use rdkafka::types::RDKafkaErrorCode;

use crate::settings;

/// A failure of a request to Kafka.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings can't be used.
    #[error("Kafka settings: {0}")]
    Settings(#[from] settings::Error),
    /// A request failed.
    #[error("{what} at Kafka {brokers} failed: {why}{}", if *.retriable {
        "; it may work when tried again" } else { "" })]
    Request {
        /// What was asked for, naming topic and partition where there is one.
        what: String,
        /// The brokers of the settings.
        brokers: String,
        /// What Kafka or librdkafka says.
        why: String,
        /// Whether trying again may help.
        retriable: bool,
    },
    /// Topics are not as they must be; one line for each.
    #[error("topics at Kafka {brokers} are not as the pipeline needs them:\n{}", .problems.join("\n"))]
    Topics {
        /// The brokers of the settings.
        brokers: String,
        /// What is wrong with each, and what to do.
        problems: Vec<String>,
    },
    /// An offset that is to be read next is not there, or not there any more.
    #[error("{topic}/{partition}: offset {offset} is gone; {}. Records were deleted before they \
             were read, or the topic was made anew: choose what to do by the source's policy for \
             lost offsets", existing(.range))]
    OffsetGone {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset that was asked for.
        offset: i64,
        /// The first offset that exists and the one after the last, where they are known.
        range: Option<(i64, i64)>,
    },
    /// Reading a partition failed.
    #[error("{topic}/{partition} at offset {offset}: {why}")]
    Read {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset that was to be read next.
        offset: i64,
        /// What Kafka or librdkafka says.
        why: String,
        /// Whether the client goes on by itself; if not the partition must be assigned anew.
        retriable: bool,
    },
    /// Sending a record failed.
    #[error("{topic}/{partition}: a record can't be sent: {why}")]
    Send {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// What Kafka or librdkafka says.
        why: String,
        /// Whether sending it again would be answered in the same way.
        refused: bool,
    },
    /// A work was told to stop.
    #[error("{what} was interrupted")]
    Interrupted {
        /// What was being done.
        what: String,
    },
}

fn existing(range: &Option<(i64, i64)>) -> String {
    match range {
        Some((low, high)) => format!("there is {low} to {high}"),
        None => "what there is can't be told at the moment".to_owned(),
    }
}

impl Error {
    /// Whether the same call may work when it is tried again.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Request { retriable: true, .. } | Self::Read { retriable: true, .. })
    }
}

/// Whether a request that failed with this code may work when it is tried again.
pub(crate) fn is_retriable(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(
        code,
        E::BrokerTransportFailure
            | E::AllBrokersDown
            | E::DestroyBroker
            | E::OffsetNotAvailable
            | E::FencedLeaderEpoch
            | E::UnknownLeaderEpoch
            | E::KafkaStorageError
            | E::NotEnoughReplicas
            | E::NotEnoughReplicasAfterAppend
            | E::TimedOutQueue
            | E::OperationTimedOut
            | E::MessageTimedOut
            | E::RequestTimedOut
            | E::Resolve
            | E::LeaderNotAvailable
            | E::NotLeaderForPartition
            | E::BrokerNotAvailable
            | E::ReplicaNotAvailable
            | E::NetworkException
            | E::CoordinatorLoadInProgress
            | E::CoordinatorNotAvailable
            | E::NotCoordinator
            | E::RebalanceInProgress
            | E::UnstableOffsetCommit
            | E::WaitingForCoordinator
            | E::NotController
            | E::ConcurrentTransactions
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gone_offset_names_what_exists() {
        let error = Error::OffsetGone {
            topic: "clicks".to_owned(),
            partition: 3,
            offset: 7,
            range: Some((100, 200)),
        };
        let said = error.to_string();
        assert!(said.starts_with("clicks/3: offset 7 is gone; there is 100 to 200."), "{said}");
        assert!(!error.is_retriable());
    }
}
