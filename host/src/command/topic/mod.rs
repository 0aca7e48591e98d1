//! `wasmill topic`: looks at the topics of the embedded log or of Kafka, and writes into them.
//!
//! Invariant: what reads never takes the log's lock, so that it works while a pipeline runs.

pub mod appender;
pub mod kafka;
mod list;
pub mod place;
mod read;
mod write;

use std::process::ExitCode;

use wasmill_core::murmur;

/// Which partition a record goes to: that of its key, as Kafka's Java client chooses it; records
/// without a key go to the partitions in turn.
#[derive(Debug, Default)]
struct Turns {
    /// Whose turn it is, as a count that goes round.
    next: u32,
}

impl Turns {
    /// The partition of a record with this key, of `partitions`, which are at least 1.
    fn partition(&mut self, key: Option<&[u8]>, partitions: u32) -> u32 {
        match key {
            Some(key) => murmur::partition(key, partitions),
            None => {
                let partition = self.next % partitions;
                self.next = partition + 1;
                partition
            }
        }
    }
}

/// Looks at topics, of the embedded log or of Kafka, and writes into them
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the topics.
    ///
    /// On Kafka, ~RECORDS is how many offsets there are: transactions take some for themselves, and
    /// compaction leaves gaps.
    Ls(list::Args),
    /// Print the records of a topic, as lines of JSON.
    ///
    /// What is committed when the command begins is printed, unless --follow or --uncommitted says
    /// otherwise.
    Read(read::Args),
    /// Append records to a topic, from lines of JSON on standard input: all of them or, when a line
    /// is no record, none.
    ///
    /// A line is an object with `value` and, where wanted, `key`, `timestamp` and `headers`, as
    /// `topic read` prints them. A record goes to the partition of its key, as Kafka's Java client
    /// chooses it; those without a key go to the partitions in turn. `partition` and `offset` of a
    /// line don't count.
    ///
    /// On Kafka all lines are one transaction, which begins when the last one was read; whoever reads
    /// with isolation.level=read_committed sees all of them or none. Its transactional id begins with
    /// `wasmill-topic-write-`, or with the group of the pipeline file. Kafka drops records by their
    /// timestamps: old ones are gone soon where the topic has a retention.ms.
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
