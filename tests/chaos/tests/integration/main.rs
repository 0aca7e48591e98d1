//! Faults of every kind on a pipeline that runs on Kafka; see the crate's documentation.

mod kills;
