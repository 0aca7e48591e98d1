//! The host of Wasmill: it runs pipelines of WebAssembly components over topics, keyed state and
//! event time.

pub mod runtime;
pub mod store;
