//! A deterministic clickstream: lines of a combined access log, made from a seed.
//!
//! ```
//! use wasmill_generate::{Config, Generator};
//!
//! let mut generator = Generator::new(&Config { events: Some(3), ..Config::default() })?;
//! let mut line = Vec::new();
//! while let Some(event) = generator.next_into(&mut line) {
//!     println!("{} {} {}", event.user, event.timestamp_ms, String::from_utf8_lossy(&line));
//! }
//! # Ok::<(), wasmill_generate::Error>(())
//! ```
//!
//! Invariant: the same configuration gives the same bytes, on every machine and in every version.
//! So there is no floating point beyond what IEEE 754 defines to the last bit, and the random numbers
//! are of this crate.

mod clock;
mod config;
mod generator;
mod malformed;
mod random;
mod site;
mod users;
mod zipf;

pub use config::{Config, Error};
pub use generator::{Event, Generator};
