//! Write Wasmill plugins in Rust.
//!
//! A plugin is a type that implements [`Stateless`](stateless::Stateless) or
//! [`Keyed`](keyed::Keyed), and one line that exports it:
//!
//! ```
//! use wasmill_sdk::prelude::*;
//!
//! struct Upper;
//!
//! impl Stateless for Upper {
//!     type Config = NoConfig;
//!     fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
//!         Ok(Upper)
//!     }
//!     fn process(&self, record: &Record, out: &mut Emitter) -> Result<(), Rejection> {
//!         out.emit(record.text()?.to_uppercase());
//!         Ok(())
//!     }
//! }
//!
//! wasmill_sdk::export!(stateless Upper);
//! # fn main() {}
//! ```
//!
//! Plain `cargo test` runs it natively, plain `cargo build --target wasm32-wasip2` makes the
//! component. Invariant of this crate: what an operator emits for a key depends on the sequence of
//! that key's records alone, never on how the host cut them into batches.

pub mod config;
pub mod emitter;
pub mod keyed;
pub mod log;
pub mod map;
pub mod prefetch;
pub mod record;
pub mod rejection;
pub mod state;
pub mod stateless;
pub mod timers;
pub mod window;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod guest;

#[cfg(not(target_family = "wasm"))]
pub mod native;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

#[doc(hidden)]
pub mod export;

pub use wasmill_abi as abi;

/// What a plugin needs, in one import.
pub mod prelude {
    pub use crate::config::{NoConfig, Setup};
    pub use crate::emitter::Emitter;
    pub use crate::keyed::{Context, Keyed};
    pub use crate::map::Map;
    pub use crate::prefetch::Wanted;
    pub use crate::record::Record;
    pub use crate::rejection::Rejection;
    pub use crate::state::State;
    pub use crate::stateless::Stateless;
    pub use crate::timers::Timer;
    pub use serde::{Deserialize, Serialize};
    pub use wasmill_abi::{ConfigError, Description, Failure, InputPort, OutputPort, Ports};
}
