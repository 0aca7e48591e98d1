//! The crate from outside: files in, diagnostics and plans out.
#![allow(clippy::unwrap_used)]

mod catalog;
mod golden;
mod kafka;
mod mutation;
mod options;
mod planning;
