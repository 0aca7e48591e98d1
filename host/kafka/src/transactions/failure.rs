//! What a failed commit means. Invariant: each variant asks for one way to go on.

use rdkafka::types::RDKafkaErrorCode;

use crate::native::Failure;

/// Why a commit has not come about, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Nothing is committed. Abort, drop what was computed, read it again.
    #[error("the transaction must be aborted: {why}")]
    Abortable {
        /// What Kafka or librdkafka says.
        why: String,
    },
    /// Nothing is committed: a record was not delivered in time. Make the producer anew, which aborts,
    /// and read again what was not committed: what librdkafka knows of the brokers may be wrong, and
    /// stay so (its issue 5430).
    #[error("{why}")]
    Undelivered {
        /// The topic, the partition and what librdkafka says.
        why: String,
    },
    /// Nothing is committed: the group was at another generation than the one that was to prove the
    /// membership. Abort, and when [`crate::Membership::metadata`] tells another generation the same
    /// may be sent and committed again; where there is no membership any more, or it does not, as for
    /// [`CommitError::Stale`]. Without transactions only the offsets are to be committed again.
    #[error("the group has moved on to another generation, nothing is committed: {why}")]
    Moved {
        /// What Kafka or librdkafka says.
        why: String,
    },
    /// Nothing is committed: this worker is not the owner of its partitions any more. Abort, close
    /// the tasks, and see what [`crate::Membership::poll`] says.
    #[error("the group has moved on without this worker, nothing is committed: {why}")]
    Stale {
        /// What Kafka or librdkafka says.
        why: String,
    },
    /// Nothing is committed: another producer has this transactional id, or Kafka has aborted the
    /// transaction by itself because it took longer than `transaction.timeout.ms`. Make the producer
    /// anew and read again what was not committed.
    #[error(
        "another producer with the same transactional id has taken over, or the transaction took \
         longer than `transaction.timeout.ms`: {why}"
    )]
    Fenced {
        /// What Kafka or librdkafka says.
        why: String,
    },
    /// It may be committed or not. Call [`crate::Producer::resume`] until it is decided; serve the
    /// membership meanwhile. Without transactions only the offsets are open. Given up on, it is
    /// decided by whoever makes a producer with the same transactional id: look at the committed
    /// offsets then.
    #[error("whether the commit has come about is not known yet: {why}")]
    Undecided {
        /// What Kafka or librdkafka says.
        why: String,
    },
    /// Nothing is committed: Kafka refuses a record, and would again. Abort, and give up.
    #[error("Kafka refuses a record: {why}")]
    Refused {
        /// The topic, the partition and what Kafka or librdkafka says.
        why: String,
    },
    /// Nothing is committed, and this producer is of no use any more: make a new one.
    #[error("the producer has failed for good: {why}")]
    Fatal {
        /// What Kafka or librdkafka says.
        why: String,
    },
}

impl CommitError {
    /// What a failure that can't be retried means.
    pub(super) fn new(failure: &Failure, why: String) -> Self {
        if is_fenced(failure.code) {
            Self::Fenced { why }
        } else if failure.fatal {
            Self::Fatal { why }
        } else if failure.abort {
            Self::of_group(failure.code, &why).unwrap_or(Self::Abortable { why })
        } else {
            Self::of_group(failure.code, &why).unwrap_or(Self::Fatal { why })
        }
    }

    /// What it means that the group does not take offsets; none where it is not about the membership.
    pub(super) fn of_group(code: RDKafkaErrorCode, why: &str) -> Option<Self> {
        use RDKafkaErrorCode as E;
        let why = why.to_owned();
        match code {
            E::IllegalGeneration => Some(Self::Moved { why }),
            E::UnknownMemberId | E::FencedInstanceId | E::AssignmentLost => {
                Some(Self::Stale { why })
            }
            _ => None,
        }
    }

    /// What it means that a record was not delivered.
    pub(super) fn of_delivery(
        topic: &str,
        partition: i32,
        code: RDKafkaErrorCode,
        why: String,
    ) -> Self {
        let why = format!("{topic}/{partition}: a record was not delivered: {why}");
        if is_fenced(code) {
            Self::Fenced { why }
        } else if is_refused(code) {
            Self::Refused { why }
        } else if code == RDKafkaErrorCode::MessageTimedOut {
            Self::Undelivered { why }
        } else {
            Self::Abortable { why }
        }
    }
}

/// Whether sending the same record again would be answered in the same way.
pub(super) fn is_refused(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(
        code,
        E::MessageSizeTooLarge
            | E::InvalidMessageSize
            | E::InvalidRecord
            | E::InvalidTimestamp
            | E::InvalidTopic
            | E::PolicyViolation
            | E::TopicAuthorizationFailed
    )
}

/// Whether another producer has taken over.
fn is_fenced(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(
        code,
        E::Fenced | E::ProducerFenced | E::InvalidProducerEpoch | E::TransactionCoordinatorFenced
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: RDKafkaErrorCode, fatal: bool, abort: bool) -> Failure {
        Failure { code, text: String::new(), fatal, retriable: false, abort }
    }

    #[test]
    fn each_kind_of_failure_has_its_own_way_on() {
        use RDKafkaErrorCode as E;
        let judged =
            |code, fatal, abort| CommitError::new(&failure(code, fatal, abort), "why".to_owned());
        let why = || "why".to_owned();
        assert_eq!(judged(E::Fenced, true, false), CommitError::Fenced { why: why() });
        assert_eq!(judged(E::ProducerFenced, true, true), CommitError::Fenced { why: why() });
        assert_eq!(judged(E::IllegalGeneration, false, true), CommitError::Moved { why: why() });
        assert_eq!(judged(E::UnknownMemberId, false, true), CommitError::Stale { why: why() });
        assert_eq!(judged(E::MessageTimedOut, false, true), CommitError::Abortable { why: why() });
        let delivery = |code| CommitError::of_delivery("t", 3, code, "why".to_owned());
        let why = || "t/3: a record was not delivered: why".to_owned();
        assert_eq!(delivery(E::MessageSizeTooLarge), CommitError::Refused { why: why() });
        assert_eq!(delivery(E::MessageTimedOut), CommitError::Undelivered { why: why() });
        assert_eq!(delivery(E::PurgeQueue), CommitError::Abortable { why: why() });
        assert_eq!(delivery(E::Fenced), CommitError::Fenced { why: why() });
        let why = || "why".to_owned();
        assert_eq!(judged(E::Fatal, true, true), CommitError::Fatal { why: why() });
        assert_eq!(judged(E::State, false, false), CommitError::Fatal { why: why() });
    }
}
