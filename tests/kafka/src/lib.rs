//! Real Apache Kafka brokers for tests and for trials on one machine: the jars, the processes, and
//! the faults that are put upon them.
//!
//! Invariant: no broker outlives the [`Cluster`] that started it, however the process that holds the
//! cluster ends.
//!
//! ```no_run
//! use wasmill_test_kafka::cluster_or_skip;
//!
//! # fn a_record_is_kept() {
//! let Some(mut cluster) = cluster_or_skip("a_record_is_kept", 1) else { return };
//! let bootstrap = cluster.bootstrap(); // "127.0.0.1:21733"
//! cluster.kill(0).expect("the broker runs");
//! cluster.restart(0).expect("the broker starts again, with its data");
//! # }
//! ```
//!
//! Everything on disk is below the folder `target/kafka` of the project:
//!
//! ```text
//! libs/                      the jars, verified (see jars.txt of this crate)
//! prepared-<key>/            what one run made so that the next ones start fast
//! run/<process>-<number>/    one cluster: `<node>.log`, `<node>/` with its data; gone with it,
//!                            but for the logs where the test failed
//! data/                      the broker of `make kafka`
//! ports/                     a locked file for each port in use
//! ```

mod artifacts;
mod cluster;
mod error;
mod installation;
mod metadata;
mod node;
mod ports;
mod proxy;
mod security;
mod skip;
mod standalone;
mod watchdog;

pub use artifacts::fetch;
pub use cluster::{Cluster, End, Jvm, Link, Options};
pub use error::{Error, Unavailable};
pub use proxy::{Cut, Proxy};
pub use security::{PASSWORD, Security, USER};
pub use skip::{cluster_or_skip, left_out};
pub use standalone::{Running, Standalone};

use std::path::PathBuf;

/// The folder of everything that this crate puts on disk: `target/kafka` of the project.
pub fn folder() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.ancestors().nth(2).expect("the crate is two folders below the root");
    root.join("target/kafka")
}
