//! The host of Wasmill: it runs pipelines of WebAssembly components over topics, keyed state and
//! event time.

pub mod admin;
pub mod engine;
pub mod record_json;
pub mod runtime;
pub mod savepoint;
pub mod sink;
pub mod source;

/// Keyed state on disk.
pub use wasmill_store as store;
