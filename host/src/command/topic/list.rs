//! `wasmill topic ls`. Invariant: offsets and counts are those of one commit.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use wasmill_log::{Log, ReadOnlyLog};

use crate::command::data_dir;
use crate::command::output::{ended, stdout};

/// The arguments of `wasmill topic ls`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline's data directory [env: WASMILL_DATA_DIR] [default: the only folder in .wasmill]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Show each partition. Without it, START and END are the least and the greatest of a topic.
    #[arg(long)]
    partitions: bool,
}

/// Runs the command.
///
/// # Errors
/// When there is no such data directory, or it can't be read.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let dir = data_dir::log(&data_dir::data_dir(args.data_dir)?);
    let log = Log::open_read_only(&dir)?;
    let mut table = vec![Row::titles(args.partitions)];
    for topic in log.topics() {
        let partitions = partitions(&log, &dir, &topic)?;
        if args.partitions {
            let row = |(i, p): (usize, &Partition)| p.row(&topic, i);
            table.extend(partitions.iter().enumerate().map(row));
        } else {
            table.push(Partition::total(&partitions).row(&topic, partitions.len()));
        }
    }
    let mut out = stdout();
    let text = lines(&table);
    ended(out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Into::into))
}

/// What there is of a partition, or of all partitions of a topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Partition {
    records: u64,
    /// The bytes of its segment files, with what is not committed yet.
    bytes: u64,
    start: u64,
    end: u64,
}

impl Partition {
    fn total(partitions: &[Self]) -> Self {
        Self {
            records: partitions.iter().map(|p| p.records).sum(),
            bytes: partitions.iter().map(|p| p.bytes).sum(),
            start: partitions.iter().map(|p| p.start).min().unwrap_or_default(),
            end: partitions.iter().map(|p| p.end).max().unwrap_or_default(),
        }
    }

    /// `number` is that of the partition, or how many there are.
    fn row(&self, topic: &str, number: usize) -> Row {
        let numbers = [self.records, self.bytes, self.start, self.end].map(|n| n.to_string());
        let [records, bytes, start, end] = numbers;
        Row([topic.to_owned(), number.to_string(), records, bytes, start, end])
    }
}

fn partitions(log: &ReadOnlyLog, dir: &Path, topic: &str) -> anyhow::Result<Vec<Partition>> {
    let partition = |index: u32| {
        let (start, end) = (log.start_offset(topic, index)?, log.end_offset(topic, index)?);
        let folder = dir.join("topics").join(topic).join(index.to_string());
        Ok(Partition { records: end - start, bytes: file_bytes(&folder), start, end })
    };
    (0..log.partitions(topic)?).map(partition).collect()
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

/// One line of the table; the first column is text, the others are numbers.
struct Row([String; 6]);

impl Row {
    fn titles(each_partition: bool) -> Self {
        let second = if each_partition { "PARTITION" } else { "PARTITIONS" };
        Self(["TOPIC", second, "RECORDS", "BYTES", "START", "END"].map(str::to_owned))
    }
}

fn lines(table: &[Row]) -> String {
    let width = |column: usize| table.iter().map(|row| row.0[column].len()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for Row(cells) in table {
        text += &format!("{:<1$}", cells[0], widths[0]);
        for (cell, width) in cells.iter().zip(widths).skip(1) {
            text += &format!("  {cell:>width$}");
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
        let log = Log::open_read_only(data_dir::log(dir.path())).unwrap();
        let found = partitions(&log, &data_dir::log(dir.path()), "orders").unwrap();
        let counts: Vec<_> = found.iter().map(|p| (p.records, p.start, p.end)).collect();
        assert_eq!(counts, [(2, 0, 2), (1, 0, 1)]);
        let total = Partition::total(&found);
        assert_eq!(total.records, 3);
        assert!(total.bytes > 2 * 48, "each partition has a frame of at least its header");
    }

    #[test]
    fn numbers_are_aligned_to_the_right_below_their_titles() {
        let partition = Partition { records: 12, bytes: 1234567, start: 0, end: 12 };
        let table = [Row::titles(false), partition.row("a", 4), partition.row("orders", 16)];
        assert_eq!(
            lines(&table),
            "TOPIC   PARTITIONS  RECORDS    BYTES  START  END\n\
             a                4       12  1234567      0   12\n\
             orders          16       12  1234567      0   12\n"
        );
    }
}
