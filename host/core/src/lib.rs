//! The task of a stream processor as a state machine: it takes facts (records, watermarks, the
//! time) and returns effects (records to append, state changes to log). It does no I/O and reads no
//! clock, so the same code runs under files, under Kafka, in a plugin author's test and in a
//! simulator.
//!
//! Invariant: what a task emits for a key is a function of that key's input sequence and of its
//! watermarks alone. How the input was cut into batches never shows.

pub mod change;
pub mod check;
pub mod clock;
pub mod field;
pub mod filter;
pub mod flow;
mod gone;
pub mod keyed;
pub mod keys;
pub mod layout;
pub mod limits;
pub mod maps;
pub mod metrics;
pub mod murmur;
pub mod operator;
pub mod reject;
pub mod route;
pub mod row;
mod slab;
pub mod stateless;
pub mod store;
pub mod task;
