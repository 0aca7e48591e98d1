//! `wasmill topic read`. Invariant: each committed record is printed once, those of a partition in
//! the order of their offsets.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use wasmill::record_json::{self, Shown};
use wasmill_kafka::Isolation;
use wasmill_log::{Frame, Log, ReadOnlyLog, Reader};

use super::kafka::reading::{self, Wanted};
use super::place::{Place, Where};
use crate::command::output::{ended, note, stdout};
use crate::command::{data_dir, usage};

/// How often `--follow` looks for a new commit.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// The arguments of `wasmill topic read`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The topic
    topic: String,
    #[command(flatten)]
    place: Place,
    /// The partition; without it, all of them, one after the other.
    #[arg(long, value_name = "P")]
    partition: Option<u32>,
    /// Where to begin in each partition: an offset, start or end.
    #[arg(long, value_name = "OFFSET", default_value = "start")]
    from: From,
    /// How many records to print, at most.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Wait for more records at the end, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// On Kafka, print also the records of transactions that are open or were aborted.
    #[arg(long, conflicts_with = "data_dir")]
    uncommitted: bool,
}

/// Where to begin in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the first record that is there.
    Start,
    /// At this offset, which may be one that is not there yet.
    Offset(u64),
    /// Behind the last record that is there.
    End,
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "start" => Ok(Self::Start),
            "end" => Ok(Self::End),
            _ => {
                let wrong = |_| "expected an offset (0 or more), start or end".to_owned();
                text.parse().map(Self::Offset).map_err(wrong)
            }
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When there is no such place, topic or partition, or it can't be read.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut out = stdout();
    match args.place.resolve()? {
        Where::Log(_) if args.uncommitted => {
            let text = "--uncommitted is for Kafka: the embedded log shows only what is committed";
            Err(usage::wrong(text.to_owned()))
        }
        Where::Log(dir) => {
            let mut reading = open(&dir, &args.topic, args.partition, args.from, args.limit)?;
            ended(reading.print(&mut out, args.follow))
        }
        Where::Kafka(cluster) => {
            let wanted = Wanted {
                topic: &args.topic,
                partition: args.partition,
                from: args.from,
                limit: args.limit,
                follow: args.follow,
                isolation: if args.uncommitted {
                    Isolation::Uncommitted
                } else {
                    Isolation::Committed
                },
            };
            ended(reading::print(&cluster, &wanted, &mut out))
        }
    }
}

/// Opens a topic of the embedded log, and says what of it was dropped.
fn open(
    dir: &Path,
    topic: &str,
    partition: Option<u32>,
    from: From,
    limit: Option<u64>,
) -> anyhow::Result<Reading> {
    let log = Log::open_read_only(data_dir::log(dir))?;
    let reading = Reading::new(log, topic, partition, from, limit)?;
    for partition in &reading.partitions {
        if let Some(start) = partition.dropped {
            note(&format!(
                "partition {}: records before offset {start} were dropped, beginning there\n",
                partition.index
            ));
        }
    }
    Ok(reading)
}

/// A topic that is being read.
#[derive(Debug)]
struct Reading {
    log: ReadOnlyLog,
    partitions: Vec<Partition>,
    /// How many records are still to be printed.
    left: u64,
}

#[derive(Debug)]
struct Partition {
    index: u32,
    reader: Reader,
    /// The first offset wanted, which may be above the end.
    from: u64,
    /// The start offset, when it is above the one that was asked for.
    dropped: Option<u64>,
}

impl Reading {
    fn new(
        log: ReadOnlyLog,
        topic: &str,
        partition: Option<u32>,
        from: From,
        limit: Option<u64>,
    ) -> anyhow::Result<Self> {
        let indexes = match partition {
            Some(index) => index..index.saturating_add(1),
            None => 0..log.partitions(topic)?,
        };
        let open = |index| {
            let (start, end) = (log.start_offset(topic, index)?, log.end_offset(topic, index)?);
            let from = match from {
                From::Start => start,
                From::Offset(offset) => offset,
                From::End => end,
            };
            let position = log.position_of(topic, index, from.clamp(start, end))?;
            let reader = log.reader(topic, index, position)?;
            Ok(Partition { index, reader, from, dropped: (from < start).then_some(start) })
        };
        let partitions = indexes.map(open).collect::<anyhow::Result<_>>()?;
        Ok(Self { log, partitions, left: limit.unwrap_or(u64::MAX) })
    }

    fn print(&mut self, out: &mut impl Write, follow: bool) -> anyhow::Result<()> {
        loop {
            self.print_committed(out)?;
            out.flush()?;
            if !follow || self.left == 0 {
                return Ok(());
            }
            while !self.log.refresh()? {
                thread::sleep(FOLLOW_INTERVAL);
            }
        }
    }

    /// Prints what is committed and was not printed yet.
    fn print_committed(&mut self, out: &mut impl Write) -> anyhow::Result<()> {
        let mut line = Vec::new();
        for partition in &mut self.partitions {
            while self.left > 0
                && let Some((frame, row)) = partition.reader.next()?
            {
                let wanted = partition.from.saturating_sub(frame.base_offset);
                let rows = frame.records().map_or(0, wasmill_log::Records::len);
                let first = row.max(usize::try_from(wanted).unwrap_or(usize::MAX));
                for row in (first..rows).take(usize::try_from(self.left).unwrap_or(usize::MAX)) {
                    line.clear();
                    record_json::write(&mut line, &shown(&frame, row, partition.index));
                    line.push(b'\n');
                    out.write_all(&line)?;
                    self.left -= 1;
                }
            }
        }
        Ok(())
    }
}

/// One record of a frame of records.
fn shown(frame: &Frame, row: usize, partition: u32) -> Shown<'_> {
    let records = frame.records().expect("a watermark has no rows");
    let headers = records.headers.as_ref();
    Shown {
        key: records.keys.get(row),
        value: records.values.get(row),
        timestamp: records.timestamps[row],
        headers: headers.map_or_else(Vec::new, |headers| headers.row(row).collect()),
        partition: Some(partition),
        offset: i64::try_from(frame.base_offset + row as u64).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::topic::appender::Appender;

    fn append(dir: &Path, values: &[&str]) {
        let mut appender = Appender::open(dir, "t", Some(2)).unwrap();
        for value in values {
            let header = ("h".to_owned(), Some(b"1".to_vec()));
            appender.push(None, Some(value.as_bytes()), 5, &[header]).unwrap();
        }
        appender.commit().unwrap();
    }

    fn reading(dir: &Path, partition: Option<u32>, from: From, limit: Option<u64>) -> Reading {
        let log = Log::open_read_only(data_dir::log(dir)).unwrap();
        Reading::new(log, "t", partition, from, limit).unwrap()
    }

    /// What is printed now: partition, offset and value of each record.
    fn printed(reading: &mut Reading) -> Vec<(u32, i64, String)> {
        let mut out = Vec::new();
        reading.print_committed(&mut out).unwrap();
        let record = |line: &[u8]| {
            let parsed = record_json::parse(line).unwrap();
            let value = String::from_utf8(parsed.value.unwrap()).unwrap();
            (parsed.partition.unwrap(), parsed.offset.unwrap(), value)
        };
        let lines = out.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        lines.map(record).collect()
    }

    fn records(of: &[(u32, i64, &str)]) -> Vec<(u32, i64, String)> {
        of.iter().map(|(p, o, v)| (*p, *o, (*v).to_owned())).collect()
    }

    #[test]
    fn a_line_has_everything_that_is_known_of_its_record() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), &["{\"a\":1}"]);
        let mut out = Vec::new();
        reading(dir.path(), None, From::Start, None).print(&mut out, false).unwrap();
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let expected = serde_json::json!({
            "partition": 0, "offset": 0, "timestamp": 5, "key": null, "value": {"a": 1},
            "headers": [["h", "1"]],
        });
        assert_eq!(line, expected);
        assert_eq!(out.last(), Some(&b'\n'));
    }

    #[test]
    fn partition_offset_and_limit_narrow_what_is_printed() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), &["a", "b", "c", "d", "e"]);
        let of = |partition, from, limit| printed(&mut reading(dir.path(), partition, from, limit));
        let all = [(0, 0, "a"), (0, 1, "c"), (0, 2, "e"), (1, 0, "b"), (1, 1, "d")];
        assert_eq!(of(None, From::Start, None), records(&all));
        assert_eq!(of(None, From::Start, Some(4)), records(&all[..4]));
        assert_eq!(of(None, From::Start, Some(0)), []);
        assert_eq!(of(Some(1), From::Start, None), records(&all[3..]));
        assert_eq!(of(None, From::Offset(1), None), records(&[all[1], all[2], all[4]]));
        assert_eq!(of(Some(0), From::Offset(2), None), records(&all[2..3]));
        assert_eq!(of(None, From::End, None), []);
        assert_eq!(of(None, From::Offset(99), None), []);
    }

    #[test]
    fn what_is_committed_later_is_printed_once_and_from_the_offset_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), &["a", "b"]);
        let mut all = reading(dir.path(), None, From::Start, Some(3));
        let mut later = reading(dir.path(), Some(0), From::Offset(2), None);
        assert_eq!(printed(&mut all).len(), 2);
        assert_eq!(printed(&mut later), []);
        append(dir.path(), &["c", "d", "e"]);
        assert_eq!(printed(&mut all), [], "a commit counts when it was looked for");
        assert!(all.log.refresh().unwrap() && later.log.refresh().unwrap());
        assert_eq!(printed(&mut all), records(&[(0, 1, "c")]), "the limit is 3 in all");
        assert_eq!(all.left, 0);
        assert_eq!(printed(&mut later), records(&[(0, 2, "e")]));
    }

    #[test]
    fn topics_and_partitions_that_do_not_exist_are_named() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), &[]);
        let log = Log::open_read_only(data_dir::log(dir.path())).unwrap();
        let error = |topic: &str, partition| {
            let reading = Reading::new(log.clone(), topic, partition, From::Start, None);
            reading.unwrap_err().to_string()
        };
        assert!(error("unknown", None).contains("no topic \"unknown\""));
        assert!(error("t", Some(2)).contains("there is no partition 2"));
        assert_eq!("17".parse(), Ok(From::Offset(17)));
        assert!("-1".parse::<From>().unwrap_err().contains("start or end"));
    }
}
