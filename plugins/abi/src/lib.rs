//! The shapes of `wit/v0.1` as plain Rust types, shared by the SDK, the host and the test harness.
//!
//! Invariant: what is built through these types is well formed; what comes from elsewhere (a guest,
//! a disk) is checked by [`Column::check`] and its siblings before it is used.

pub mod batch;
pub mod column;
#[doc(hidden)]
pub mod conversions;
pub mod describe;
pub mod maps;
pub mod time;

pub use batch::{
    HeaderChanges, Headers, KeyedBatch, KeyedReply, Origins, Rejections, StatelessBatch,
    StatelessReply, TimerChanges, TimerNames, Timers,
};
pub use column::{Column, Malformed};
pub use describe::{
    ConfigError, Context, Description, Failure, InputPort, OutputPort, Ports, Resource, Treatment,
};
pub use maps::{MapError, Maps};
pub use time::{RejectionKind, TimeDomain, WATERMARK_END, WATERMARK_START};
