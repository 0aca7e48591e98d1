//! `wasmill topic write`. Invariant: either all lines are appended, in one commit, or none.

use std::io::{self, BufRead};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use chrono::Utc;
use wasmill::record_json;
use wasmill_core::field;

use super::appender::Appender;
use crate::command::data_dir::data_dir;

/// The arguments of `wasmill topic write`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The topic; it is created when there is none of this name.
    topic: String,
    /// The pipeline's data directory [env: WASMILL_DATA_DIR] [default: the only folder in .wasmill]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The partitions of the topic, when it is new [default: 4]
    #[arg(long, value_name = "N")]
    partitions: Option<u32>,
    /// The field of a JSON value that becomes the key of its record, as user.id
    #[arg(long, value_name = "FIELD")]
    key_by: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When a line is no record, or the log is in use or can't be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let dir = data_dir(args.data_dir)?;
    let mut appender = Appender::open(&dir, &args.topic, args.partitions)?;
    let key_by = args.key_by.as_deref().map(path);
    append(io::stdin().lock(), &mut appender, key_by.as_deref(), Utc::now().timestamp_millis())
        .context("nothing was written")?;
    appender.commit()?;
    eprintln!(
        "records written to topic {:?} ({} partitions) in {}: {}",
        args.topic,
        appender.partitions(),
        dir.display(),
        appender.records()
    );
    Ok(ExitCode::SUCCESS)
}

fn path(field: &str) -> Vec<String> {
    field.split('.').map(str::to_owned).collect()
}

/// Appends every line that is not empty; `now_ms` is the time of those that have none.
fn append(
    mut lines: impl BufRead,
    appender: &mut Appender,
    key_by: Option<&[String]>,
    now_ms: i64,
) -> anyhow::Result<()> {
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        if lines.read_until(b'\n', &mut line).context("cannot read standard input")? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let place = || format!("line {number} of standard input");
        let mut record = record_json::parse(&line).with_context(place)?;
        if let (Some(path), Some(value)) = (key_by, &record.value) {
            let key = field::key(value, path).with_context(|| {
                format!("{}: the value is no JSON, so --key-by can't be used", place())
            })?;
            record.key = Some(key.with_context(|| {
                format!(
                    "{}: the value has no field {:?} with text, a number or a truth value for \
                     --key-by",
                    place(),
                    path.join(".")
                )
            })?);
        }
        let timestamp = record.timestamp.unwrap_or(now_ms);
        appender
            .push(record.key.as_deref(), record.value.as_deref(), timestamp, &record.headers)
            .with_context(place)?;
    }
    Ok(())
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
}
