//! `wasmill topic`: looks at the topics of the embedded log, and writes into them.
//!
//! Invariant: what reads never takes the log's lock, so that it works while a pipeline runs.

pub mod appender;
mod list;
mod read;
mod write;

use std::process::ExitCode;

/// Looks at the topics of a pipeline, and writes into them
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the topics.
    Ls(list::Args),
    /// Print the records of a topic, as lines of JSON.
    Read(read::Args),
    /// Append records to a topic, from lines of JSON on standard input: all of them or, when a line
    /// is no record, none.
    ///
    /// A line is an object with `value` and, where wanted, `key`, `timestamp` and `headers`, as
    /// `topic read` prints them. A record goes to the partition of its key, as Kafka's Java client
    /// chooses it; those without a key go to the partitions in turn. `partition` and `offset` of a
    /// line don't count.
    Write(write::Args),
}

/// Runs the command.
///
/// # Errors
/// What went wrong, for a person to read.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Ls(args) => list::run(args),
        Command::Read(args) => read::run(args),
        Command::Write(args) => write::run(args),
    }
}
