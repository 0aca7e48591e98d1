//! `wasmill topic ls`. Invariant: offsets and counts are those of one commit; on Kafka, of one moment
//! for each broker.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use wasmill_kafka::{PartitionOffsets, TopicOffsets};
use wasmill_log::{Log, ReadOnlyLog};

use super::kafka::{Cluster, is_internal};
use super::place::{Place, Where};
use crate::command::data_dir;
use crate::command::output::{ended, note, stdout};

/// The arguments of `wasmill topic ls`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Show each partition. Without it, START and END are the least and the greatest of a topic.
    #[arg(long)]
    partitions: bool,
    /// On Kafka, show also the topics that it keeps for itself, whose names begin with __
    #[arg(long, conflicts_with = "data_dir")]
    all: bool,
}

/// Runs the command.
///
/// # Errors
/// When there is no such place, or it can't be read.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (columns, topics) = match args.place.resolve()? {
        Where::Log(dir) => (&LOG[..], of_log(&data_dir::log(&dir))?),
        Where::Kafka(cluster) => (&KAFKA[..], of_kafka(&cluster, args.all)?),
    };
    let mut out = stdout();
    let text = lines(&table(columns, &topics, args.partitions));
    ended(out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Into::into))
}

/// The title of a number of a partition, and which it is.
type Column = (&'static str, fn(&Partition) -> u64);

const LOG: [Column; 4] = [
    ("RECORDS", |p| p.end - p.start),
    ("BYTES", |p| p.bytes),
    ("START", |p| p.start),
    ("END", |p| p.end),
];

/// Transactions take offsets for themselves, and what was compacted away leaves gaps.
const KAFKA: [Column; 3] = [("~RECORDS", LOG[0].1), ("START", LOG[2].1), ("END", LOG[3].1)];

/// A topic, and its partitions; none for one that can't be asked at the moment.
type Topic = (String, Vec<Option<Partition>>);

/// What there is of a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Partition {
    /// The bytes of its segment files, with what is not committed yet; on Kafka not known.
    bytes: u64,
    start: u64,
    end: u64,
}

fn of_log(dir: &Path) -> anyhow::Result<Vec<Topic>> {
    let log = Log::open_read_only(dir)?;
    let topic = |topic: String| Ok((topic.clone(), partitions(&log, dir, &topic)?));
    log.topics().into_iter().map(topic).collect()
}

fn partitions(
    log: &ReadOnlyLog,
    dir: &Path,
    topic: &str,
) -> anyhow::Result<Vec<Option<Partition>>> {
    let partition = |index: u32| {
        let (start, end) = (log.start_offset(topic, index)?, log.end_offset(topic, index)?);
        let folder = dir.join("topics").join(topic).join(index.to_string());
        Ok(Some(Partition { bytes: file_bytes(&folder), start, end }))
    };
    (0..log.partitions(topic)?).map(partition).collect()
}

fn of_kafka(cluster: &Cluster, all: bool) -> anyhow::Result<Vec<Topic>> {
    let found = cluster.connect()?.survey(|topic| all || !is_internal(topic))?;
    let number = |offset| u64::try_from(offset).unwrap_or(0);
    let partition = |PartitionOffsets { start, end, .. }| {
        let (start, end) = (number(start), number(end));
        Partition { bytes: 0, start, end: end.max(start) }
    };
    let topic = |TopicOffsets { topic, partitions }| {
        let partitions: Vec<Option<Partition>> =
            partitions.into_iter().map(|offsets: Option<_>| offsets.map(partition)).collect();
        (topic, partitions)
    };
    let topics: Vec<Topic> = found.into_iter().map(topic).collect();
    topics.iter().filter_map(leaderless).for_each(|text| note(&format!("{text}\n")));
    Ok(topics)
}

/// What to say of a topic that is not counted in full.
fn leaderless((topic, partitions): &Topic) -> Option<String> {
    let missing = (0..).zip(partitions).filter(|(_, found)| found.is_none());
    let missing: Vec<String> = missing.map(|(index, _): (u32, _)| index.to_string()).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "topic {topic}: no leader at the moment for partition {}, which does not count",
            missing.join(", ")
        )
    })
}

/// The bytes of the files in a folder; a segment may go away meanwhile, which then has none.
fn file_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .filter_map(|e| e.metadata().ok())
        .filter(|m| m.is_file())
        .map(|m| m.len())
        .sum()
}

/// The least start, the greatest end, the sum of everything else.
fn total(columns: &[Column], partitions: &[Option<Partition>]) -> Vec<String> {
    let known = || partitions.iter().flatten();
    let total = |(title, number): &Column| {
        let numbers = known().map(number);
        let total = match *title {
            "START" => numbers.min().unwrap_or_default(),
            "END" => numbers.max().unwrap_or_default(),
            _ => numbers.sum(),
        };
        total.to_string()
    };
    columns.iter().map(total).collect()
}

/// The cells by line, the titles first; the first column is text, the others are numbers.
fn table(columns: &[Column], topics: &[Topic], each_partition: bool) -> Vec<Vec<String>> {
    let second = if each_partition { "PARTITION" } else { "PARTITIONS" };
    let titles = ["TOPIC", second].into_iter().chain(columns.iter().map(|(title, _)| *title));
    let mut table = vec![titles.map(str::to_owned).collect::<Vec<_>>()];
    for (topic, partitions) in topics {
        let row = |number: usize, cells: Vec<String>| {
            [topic.clone(), number.to_string()].into_iter().chain(cells).collect()
        };
        if !each_partition {
            table.push(row(partitions.len(), total(columns, partitions)));
            continue;
        }
        for (index, partition) in partitions.iter().enumerate() {
            let cell = |(_, number): &Column| match partition {
                Some(partition) => number(partition).to_string(),
                None => "?".to_owned(),
            };
            table.push(row(index, columns.iter().map(cell).collect()));
        }
    }
    table
}

fn lines(table: &[Vec<String>]) -> String {
    let count = table.first().map_or(0, Vec::len);
    let width = |column: usize| table.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for cells in table {
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            text += &match column {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::topic::appender::Appender;

    #[test]
    fn the_table_has_the_counts_and_offsets_of_each_topic() {
        let dir = tempfile::tempdir().unwrap();
        let mut appender = Appender::open(dir.path(), "orders", Some(2)).unwrap();
        for value in [b"a", b"b", b"c"] {
            appender.push(None, Some(value), 1, &[]).unwrap();
        }
        appender.commit().unwrap();
        let topics = of_log(&data_dir::log(dir.path())).unwrap();
        let without_bytes = |row: Vec<String>| [&row[..3], &row[4..]].concat().join(" ");
        let rows = |each| {
            let rows = table(&LOG, &topics, each).into_iter().map(without_bytes);
            rows.collect::<Vec<_>>()
        };
        assert_eq!(rows(false), ["TOPIC PARTITIONS RECORDS START END", "orders 2 3 0 2"]);
        assert_eq!(rows(true)[1..], ["orders 0 2 0 2", "orders 1 1 0 1"]);
        let bytes = |p: &Option<Partition>| p.unwrap().bytes;
        let bytes: Vec<u64> = topics[0].1.iter().map(bytes).collect();
        assert!(bytes.iter().all(|b| *b > 48), "each partition has a frame: {bytes:?}");
        let total: u64 = bytes.iter().sum();
        assert_eq!(table(&LOG, &topics, false)[1][3], total.to_string());
    }

    #[test]
    fn numbers_are_aligned_to_the_right_below_their_titles() {
        let partition = |start, end| Some(Partition { bytes: 1_234_567, start, end });
        let a = vec![partition(4, 12), partition(0, 4)];
        let topics = [("a".to_owned(), a), ("orders".to_owned(), vec![partition(0, 1)])];
        assert_eq!(
            lines(&table(&LOG, &topics, false)),
            "TOPIC   PARTITIONS  RECORDS    BYTES  START  END\n\
             a                2       12  2469134      0   12\n\
             orders           1        1  1234567      0    1\n"
        );
        assert_eq!(
            lines(&table(&KAFKA, &topics, true)),
            "TOPIC   PARTITION  ~RECORDS  START  END\n\
             a               0         8      4   12\n\
             a               1         4      0    4\n\
             orders          0         1      0    1\n"
        );
    }

    #[test]
    fn a_partition_without_a_leader_is_said_and_does_not_count() {
        let partition = Partition { bytes: 0, start: 7, end: 9 };
        let topic = ("t".to_owned(), vec![None, Some(partition), None]);
        let note = leaderless(&topic).unwrap();
        assert!(note.contains("topic t") && note.contains("partition 0, 2"), "{note}");
        let topics = [topic];
        assert_eq!(table(&KAFKA, &topics, false)[1], ["t", "3", "2", "7", "9"]);
        assert_eq!(table(&KAFKA, &topics, true)[1], ["t", "0", "?", "?", "?"]);
    }
}
