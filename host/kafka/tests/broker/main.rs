//! The crate against a real broker. Invariant: every test has topics and groups of its own.
#![allow(clippy::unwrap_used)]

mod inferred;
mod membership;
mod outages;
mod records;
mod restores;
mod support;
mod topics;
mod transactions;
