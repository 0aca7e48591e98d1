//! Faults, and a checker for what comes of them, after the manner of Jepsen.
//!
//! A [`Run`] has a real Kafka cluster, a pipeline with state and a repartition, and instances of the
//! `wasmill` program that run it. Numbered records go in at a steady rate while a test does harm. At
//! its end everything is read that the pipeline has committed, and compared with a model
//! ([`check`]): each number is there exactly once, per account in order, and the state is the fold of
//! the input.
//!
//! Invariant: a run that passes has seen all its numbers; one that does not, says its seed and keeps
//! the logs of its instances.
//!
//! Variables of the environment:
//!
//! - `CHAOS_SEED`: the seed of the schedule of faults, to repeat a run;
//! - `CHAOS_LONG`: `1` for longer runs with more faults;
//! - `CHAOS_KEEP`: `1` keeps the logs of runs that pass;
//! - `CHAOS_WASMILL`: the program to run instead of `target/release/wasmill`.

pub mod check;
pub mod commits;
pub mod feed;
pub mod input;
pub mod instance;
pub mod output;
pub mod random;
pub mod run;
mod standing;

pub use run::{Options, Run};

use std::path::PathBuf;

/// The project's folder.
pub fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("the crate is two folders below the root").to_owned()
}

/// Whether a variable of the environment is set to something other than no.
pub fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// A number that grows where long runs are asked for.
pub fn scaled(short: u32, long: u32) -> u32 {
    if is_set("CHAOS_LONG") { long } else { short }
}
