//! The SDK as the host calls it.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

mod alarms;
mod harness;
mod migration;
mod prefetch;
mod table;
