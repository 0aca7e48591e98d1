//! Everything that talks to Kafka, over librdkafka.
//!
//! A worker thread of the engine has a [`Membership`] (takes part in the group's rebalances and reads
//! nothing), a [`Fetcher`] (reads the partitions of its tasks at offsets that the engine keeps), and
//! a [`Producer`] (one transaction after the other).
//!
//! Invariant: nothing here decides about records. Offsets that are gone, partitions that are lost and
//! commits that fail are told to the worker, never dealt with silently.

mod admin;
mod batch;
mod client;
mod committed;
mod context;
mod error;
mod fetch;
mod membership;
mod native;
mod redaction;
mod restore;
mod settings;
mod stats;
mod transactions;
mod wake;

pub use admin::{Admin, GroupMember, Offsets as PartitionOffsets, TopicOffsets, TopicSpec};
pub use batch::{Batch, TimestampKind};
pub use committed::{Committed, Position};
pub use error::Error;
pub use fetch::{Fetcher, Isolation, Leaders, Limit, Partition};
pub use membership::{Event, GroupMetadata, Membership, NotAMember, Strategy};
pub use redaction::REDACTED;
pub use restore::{Progress, Source, read_to_end};
pub use settings::{Error as SettingsError, Settings};
pub use stats::{BrokerStats, PartitionStats, Stats};
pub use transactions::{
    CommitError, Delivered, Lot, NO_HEADERS, Offsets, Producer, Record, Ticket, Topic,
};
pub use wake::Waker;
