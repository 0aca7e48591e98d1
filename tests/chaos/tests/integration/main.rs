//! Faults of every kind on a pipeline that runs on Kafka; see the crate's documentation.

#![allow(clippy::unwrap_used)]

mod brokers;
mod disks;
mod groups;
mod kills;
mod networks;
mod standby;
mod zombies;
