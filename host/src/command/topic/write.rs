//! `wasmill topic write`. Invariant: either all lines are appended, in one commit, or none.

use std::io::{self, BufRead, BufReader, BufWriter, Seek as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use chrono::Utc;
use wasmill::record_json::{self, Parsed};
use wasmill_core::field;

use super::appender::Appender;
use super::kafka::sending::{Target, check_time};
use super::place::{Place, Where};
use crate::command::output::note;

/// So many bytes of lines are kept in memory before they go to a file, where they wait for a
/// transaction.
const SPOOL_BYTES: usize = 64 << 20;
/// The size of the buffers before and behind that file, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// The arguments of `wasmill topic write`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The topic. In an embedded log it is created when there is none of this name; on Kafka only
    /// with --partitions.
    topic: String,
    #[command(flatten)]
    place: Place,
    /// The partitions of the topic, when it is new [default: 4 in an embedded log; on Kafka, the
    /// topic must exist]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    partitions: Option<u32>,
    /// The field of a JSON value that becomes the key of its record, as user.id
    #[arg(long, value_name = "FIELD")]
    key_by: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When a line is no record, or the log is in use or can't be written, or Kafka can't.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let key_by = args.key_by.as_deref().map(path);
    let key_by = key_by.as_deref();
    let now_ms = Utc::now().timestamp_millis();
    let input = io::stdin().lock();
    let (records, partitions, place) = match args.place.resolve()? {
        Where::Log(dir) => {
            let mut appender = Appender::open(&dir, &args.topic, args.partitions)?;
            append(input, &mut appender, key_by, now_ms).context("nothing was written")?;
            appender.commit()?;
            (appender.records(), appender.partitions(), dir.display().to_string())
        }
        Where::Kafka(cluster) => {
            let place = format!("Kafka {}", cluster.settings.brokers);
            let target = Target::find(cluster, &args.topic, args.partitions)?;
            let (records, partitions) = send(input, target, key_by, now_ms)?;
            (records, partitions, place)
        }
    };
    note(&format!(
        "records written to topic {:?} ({partitions} partitions) in {place}: {records}\n",
        args.topic
    ));
    Ok(ExitCode::SUCCESS)
}

fn path(field: &str) -> Vec<String> {
    field.split('.').map(str::to_owned).collect()
}

/// Appends every line that is not empty; `now_ms` is the time of those that have none.
fn append(
    lines: impl BufRead,
    appender: &mut Appender,
    key_by: Option<&[String]>,
    now_ms: i64,
) -> anyhow::Result<()> {
    each(lines, key_by, |_, record| {
        let Some(Parsed { key, value, timestamp, headers, .. }) = record else { return Ok(()) };
        appender.push(key.as_deref(), value.as_deref(), timestamp.unwrap_or(now_ms), &headers)
    })
}

/// Sends every line in one transaction; returns how many records there are, and how many partitions.
///
/// The transaction begins when all lines have been read and checked: it holds up everybody who reads
/// the topic, so it is not to wait for whoever writes the lines.
fn send(
    lines: impl BufRead,
    target: Target,
    key_by: Option<&[String]>,
    now_ms: i64,
) -> anyhow::Result<(u64, usize)> {
    let spool = spool(lines, key_by).context("nothing was written")?;
    let mut sender = target.open(spool.bytes).context("nothing was written")?;
    let pushed = each(spool.lines, key_by, |_, record| {
        let Some(Parsed { key, value, timestamp, headers, .. }) = record else { return Ok(()) };
        sender.push(key.as_deref(), value.as_deref(), timestamp.unwrap_or(now_ms), &headers)
    });
    let sent = pushed.and_then(|()| sender.commit());
    sent.map_err(|error| sender.give_up(error))?;
    Ok((sender.records(), sender.partitions() as usize))
}

/// Lines that are records, from the first.
struct Spool {
    lines: BufReader<tempfile::SpooledTempFile>,
    bytes: u64,
}

/// Reads and checks all lines. Many of them wait in a file that is gone with the process.
fn spool(lines: impl BufRead, key_by: Option<&[String]>) -> anyhow::Result<Spool> {
    let full = "cannot keep the lines in a temporary file (TMPDIR says where)";
    let mut file = BufWriter::with_capacity(BUFFER_BYTES, tempfile::spooled_tempfile(SPOOL_BYTES));
    let mut bytes = 0;
    each(lines, key_by, |line, record| {
        record.and_then(|record| record.timestamp).map_or(Ok(()), check_time)?;
        bytes += line.len() as u64;
        // Empty lines too: their numbers stay.
        file.write_all(line).context(full)
    })?;
    let mut file = file.into_inner().map_err(io::IntoInnerError::into_error).context(full)?;
    file.rewind().context(full)?;
    Ok(Spool { lines: BufReader::with_capacity(BUFFER_BYTES, file), bytes })
}

/// Calls `take` with every line and its record, which an empty line has not. An error gets the number
/// of the line.
fn each(
    mut lines: impl BufRead,
    key_by: Option<&[String]>,
    mut take: impl FnMut(&[u8], Option<Parsed>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        if lines.read_until(b'\n', &mut line).context("cannot read standard input")? == 0 {
            break;
        }
        let place = || format!("line {number} of standard input");
        let record =
            if line.trim_ascii().is_empty() { None } else { Some(record(&line, key_by, place)?) };
        take(&line, record).with_context(place)?;
    }
    Ok(())
}

/// The record of a line, with the key that `key_by` gives it.
fn record(
    line: &[u8],
    key_by: Option<&[String]>,
    place: impl Fn() -> String,
) -> anyhow::Result<Parsed> {
    let mut record = record_json::parse(line).with_context(&place)?;
    if let (Some(path), Some(value)) = (key_by, &record.value) {
        let key = field::key(value, path).with_context(|| {
            format!("{}: the value is no JSON, so --key-by can't be used", place())
        })?;
        record.key = Some(key.with_context(|| {
            format!(
                "{}: the value has no field {:?} with text, a number or a truth value for --key-by",
                place(),
                path.join(".")
            )
        })?);
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use wasmill_log::{Log, Position, Records};

    use super::*;
    use crate::command::data_dir;

    /// Appends lines to a topic with one partition and returns what is there then.
    fn written(dir: &Path, lines: &str, key_by: Option<&str>) -> anyhow::Result<Records> {
        let key_by = key_by.map(path);
        let mut appender = Appender::open(dir, "t", Some(1))?;
        append(lines.as_bytes(), &mut appender, key_by.as_deref(), 77)?;
        appender.commit()?;
        let log = Log::open_read_only(data_dir::log(dir))?;
        let (frame, _) = log.reader("t", 0, Position::start())?.next()?.context("no frame")?;
        Ok(frame.records().context("no records")?.clone())
    }

    #[test]
    fn lines_become_records_with_key_time_and_headers() {
        let dir = tempfile::tempdir().unwrap();
        let lines = "{\"key\":\"k\",\"value\":{\"a\":1},\"timestamp\":5,\"headers\":[[\"h\",\"v\"]]}\n\
                     \n\
                     {\"value\":\"text\",\"partition\":9,\"offset\":9}";
        let records = written(dir.path(), lines, None).unwrap();
        assert_eq!(records.timestamps, [5, 77]);
        let bytes = |text: &'static str| Some(text.as_bytes());
        assert!(records.keys.iter().eq([bytes("k"), None]));
        assert!(records.values.iter().eq([bytes("{\"a\":1}"), bytes("text")]));
        let headers: Vec<_> = records.headers.as_ref().unwrap().row(0).collect();
        assert_eq!(headers, [(&b"h"[..], Some(&b"v"[..]))]);
    }

    #[test]
    fn a_field_of_the_value_can_become_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let lines = "{\"key\":\"old\",\"value\":{\"user\":{\"id\":7}}}\n{\"key\":\"gone\",\"value\":null}\n";
        let records = written(dir.path(), lines, Some("user.id")).unwrap();
        assert!(records.keys.iter().eq([Some(&b"7"[..]), Some(b"gone")]));
    }

    #[test]
    fn one_bad_line_is_named_and_none_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let good = "{\"value\":{\"a\":1}}\n";
        let error = |lines: &str, key_by| {
            format!("{:#}", written(dir.path(), &format!("{good}{lines}"), key_by).unwrap_err())
        };
        assert!(error("nonsense\n", None).starts_with("line 2 of standard input: not a record"));
        let message = error("{\"value\":{\"b\":1}}\n", Some("a"));
        assert!(message.contains("line 2") && message.contains("no field \"a\""), "{message}");
        assert!(error("{\"value\":\"x\"}\n", Some("a")).contains("is no JSON"));
        let records = written(dir.path(), good, None).unwrap();
        assert_eq!(records.len(), 1, "the good lines before the bad ones were not kept");
    }

    #[test]
    fn lines_for_kafka_wait_until_all_of_them_are_records() {
        let lines = "{\"value\":1}\n\n{\"value\":2,\"timestamp\":5}\n";
        let Spool { lines: mut kept, bytes } = spool(lines.as_bytes(), None).unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut kept, &mut text).unwrap();
        assert_eq!((text.as_str(), bytes), (lines, lines.len() as u64));
        let error = |more: &str| {
            let lines = format!("{lines}{more}");
            format!("{:#}", spool(lines.as_bytes(), None).map(|_| ()).unwrap_err())
        };
        assert!(error("nonsense").starts_with("line 4 of standard input: not a record"));
        let said = error("{\"value\":1,\"timestamp\":0}");
        assert!(said.starts_with("line 4 of standard input: \"timestamp\" is 0"), "{said}");
    }
}
