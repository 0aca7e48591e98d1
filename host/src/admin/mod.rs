//! What a running pipeline tells of itself: figures that its workers keep, shown as Prometheus
//! metrics and as a status over HTTP.
//!
//! Invariant: asking changes nothing and never waits for a worker; a worker only ever waits for a copy
//! of figures to be made.

pub mod figures;
pub mod latency;
pub mod metrics;
pub mod server;
pub mod status;

pub use figures::Figures;
pub use server::Server;
pub use status::Status;
