//! `wasmill generate`: makes data to try pipelines with.
//!
//! Invariant: the same arguments give the same records, byte for byte.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use wasmill_generate::{Config, Generator};
use wasmill_pipeline::parse_duration;

use super::output::{BUFFER_BYTES, ended, note, stdout};
use super::topic::appender::Appender;
use super::topic::kafka::sending::{Sender, Target};
use super::topic::place::{self, Place, Where};
use super::usage;

/// After how many records a topic is committed, so that others see them.
const COMMIT_RECORDS: u64 = 100_000;

/// Makes data to try pipelines with
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Visits to a web site, as lines of an access log (combined format).
    Clickstream(Box<Clickstream>),
}

#[derive(Debug, clap::Args)]
struct Clickstream {
    /// The seed; another seed gives another stream.
    #[arg(long, default_value_t = Config::default().seed)]
    seed: u64,
    /// The number of users, bots included.
    #[arg(long, value_name = "N", default_value_t = Config::default().users)]
    users: u32,
    /// Events a second of event time.
    #[arg(long, value_name = "R", default_value_t = Config::default().rate)]
    rate: f64,
    /// The number of events; required for a file or topic [default: without end]
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// How far an event may lie behind the latest one before it.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    out_of_orderness: i64,
    /// The share of events, 0 to 1, that are held back, up to --out-of-orderness.
    #[arg(long, value_name = "X", default_value_t = Config::default().late_share)]
    late_share: f64,
    /// The share of lines, 0 to 1, that can't be parsed.
    #[arg(long, value_name = "X", default_value_t = Config::default().malformed_share)]
    malformed_share: f64,
    /// The share of events, 0 to 1, that come from bots.
    #[arg(long, value_name = "X", default_value_t = Config::default().bot_share)]
    bot_share: f64,
    /// The number of pages of the site.
    #[arg(long, value_name = "N", default_value_t = Config::default().pages)]
    pages: u32,
    /// The mean length of lines, in bytes.
    #[arg(long, value_name = "N", default_value_t = Config::default().line_bytes)]
    line_bytes: usize,
    /// The time of the first event.
    #[arg(long, value_name = "RFC3339", default_value = "2015-05-17T10:05:00Z")]
    start: DateTime<Utc>,
    /// The file to write, or - for standard output.
    #[arg(long, short, value_name = "FILE", default_value = "-", conflicts_with = "topic")]
    output: PathBuf,
    /// A topic to write instead, keyed by user, in commits of 100,000 records. Kafka drops records by
    /// their timestamps: with a retention.ms of the topic, --start is to be later than that.
    #[arg(long, requires = "events")]
    topic: Option<String>,
    #[command(flatten)]
    place: OfTopic,
    /// The partitions of the topic, when it is new [default: 4 in an embedded log; on Kafka, the
    /// topic must exist]
    #[arg(
        long, value_name = "N", requires = "topic",
        value_parser = clap::value_parser!(u32).range(1..),
    )]
    partitions: Option<u32>,
}

/// Where the topic is: the arguments of [`Place`], which don't count without `--topic`.
#[derive(Debug, Clone, Default)]
struct OfTopic(Place);

impl clap::Args for OfTopic {
    fn augment_args(command: clap::Command) -> clap::Command {
        let with_topic = |command: clap::Command, id: &'static str| {
            command.mut_arg(id, |arg| arg.requires("topic"))
        };
        place::IDS.into_iter().fold(Place::augment_args(command), with_topic)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for OfTopic {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        Place::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

/// Runs the command.
///
/// # Errors
/// When an argument is out of its range, or the output can't be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Clickstream(args) = args.command;
    let mut generator = usage::checked(Generator::new(&args.config()).map_err(Into::into))?;
    if let Some(topic) = &args.topic {
        let place = match args.place.0.clone().resolve()? {
            Where::Log(dir) => {
                let appender = Appender::open(&dir, topic, args.partitions)?;
                into_topic(&mut generator, &mut Topic::Log(appender))?;
                dir.display().to_string()
            }
            Where::Kafka(cluster) => {
                let place = format!("Kafka {}", cluster.settings.brokers);
                let bytes = COMMIT_RECORDS.saturating_mul(args.line_bytes as u64);
                let sender = Target::find(cluster, topic, args.partitions)?.open(bytes)?;
                into_topic(&mut generator, &mut Topic::Kafka(sender))?;
                place
            }
        };
        let records = generator.position();
        note(&format!("records written to topic {topic:?} in {place}: {records}\n"));
        return Ok(ExitCode::SUCCESS);
    }
    if args.output == Path::new("-") {
        return ended(into_lines(&mut generator, stdout()));
    }
    if args.events.is_none() {
        let file = args.output.display();
        let text = format!("--output {file} needs --events: the stream has no end");
        return Err(usage::wrong(text));
    }
    let file = File::create(&args.output)
        .with_context(|| format!("cannot create {}", args.output.display()))?;
    into_lines(&mut generator, BufWriter::with_capacity(BUFFER_BYTES, file))
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    Ok(ExitCode::SUCCESS)
}

impl Clickstream {
    fn config(&self) -> Config {
        Config {
            seed: self.seed,
            users: self.users,
            rate: self.rate,
            events: self.events,
            start_ms: self.start.timestamp_millis(),
            out_of_orderness_ms: self.out_of_orderness,
            late_share: self.late_share,
            malformed_share: self.malformed_share,
            bot_share: self.bot_share,
            pages: self.pages,
            line_bytes: self.line_bytes,
        }
    }
}

fn into_lines(generator: &mut Generator, mut out: impl Write) -> anyhow::Result<()> {
    let mut line = Vec::new();
    while generator.next_into(&mut line).is_some() {
        line.push(b'\n');
        out.write_all(&line)?;
    }
    Ok(out.flush()?)
}

/// A topic that is being written.
#[allow(clippy::large_enum_variant)] // There is one.
enum Topic {
    Log(Appender),
    Kafka(Sender),
}

impl Topic {
    fn push(&mut self, key: &[u8], line: &[u8], timestamp_ms: i64) -> anyhow::Result<()> {
        match self {
            Self::Log(appender) => appender.push(Some(key), Some(line), timestamp_ms, &[]),
            Self::Kafka(sender) => {
                let pushed = sender.push(Some(key), Some(line), timestamp_ms, &[]);
                pushed.map_err(|error| sender.give_up(error))
            }
        }
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Log(appender) => appender.commit(),
            Self::Kafka(sender) => sender.commit().map_err(|error| sender.give_up(error)),
        }
    }
}

fn into_topic(generator: &mut Generator, topic: &mut Topic) -> anyhow::Result<()> {
    let (mut key, mut line) = (Vec::new(), Vec::new());
    while let Some(event) = generator.next_into(&mut line) {
        event.key_into(&mut key);
        topic.push(&key, &line, event.timestamp_ms)?;
        if generator.position().is_multiple_of(COMMIT_RECORDS) {
            topic.commit()?;
        }
    }
    topic.commit()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use wasmill_log::{Log, Position};

    use super::*;
    use crate::command::data_dir;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(arguments: &[&str]) -> Result<Args, String> {
        let line = ["generate", "clickstream"].iter().chain(arguments);
        Cli::try_parse_from(line).map(|cli| cli.args).map_err(|e| e.to_string())
    }

    #[test]
    fn without_arguments_it_generates_what_the_crate_does_by_default() {
        let Command::Clickstream(args) = parse(&[]).unwrap().command;
        assert_eq!(args.config(), Config::default());
    }

    #[test]
    fn arguments_that_do_not_go_together_are_refused() {
        assert!(parse(&["--topic", "t"]).unwrap_err().contains("--events"));
        for place in ["--data-dir", "--brokers", "--pipeline"] {
            assert!(parse(&[place, "d"]).unwrap_err().contains("--topic"), "{place}");
        }
        let both = ["--topic", "t", "--events", "1", "--brokers", "b:1", "--data-dir", "d"];
        assert!(parse(&both).unwrap_err().contains("cannot be used with"));
        assert!(parse(&["--topic", "t", "--events", "1", "-o", "f"]).is_err());
        assert!(parse(&["--out-of-orderness", "soon"]).unwrap_err().contains("30s"));
        assert!(parse(&["--start", "yesterday"]).is_err());
        let error = run(parse(&["--late-share", "2"]).unwrap()).unwrap_err().to_string();
        assert!(error.contains("late-share = 2"), "{error}");
        let error = run(parse(&["-o", "never-created"]).unwrap()).unwrap_err().to_string();
        assert!(error.contains("needs --events"), "{error}");
    }

    #[test]
    fn file_and_topic_get_the_same_lines() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = (dir.path().join("lines"), dir.path().join("data"));
        let (file, data) = (file.to_str().unwrap(), data.to_str().unwrap());
        run(parse(&["--events", "500", "--users", "40", "-o", file]).unwrap()).unwrap();
        let topic = ["--topic", "raw", "--data-dir", data, "--partitions", "3"];
        run(parse(&[&["--events", "500", "--users", "40"], &topic[..]].concat()).unwrap()).unwrap();

        let text = std::fs::read_to_string(file).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 500);
        let log = Log::open_read_only(data_dir::log(data.as_ref())).unwrap();
        let mut appended = Vec::new();
        for partition in 0..3 {
            let mut reader = log.reader("raw", partition, Position::start()).unwrap();
            let before = appended.len();
            while let Some((frame, _)) = reader.next().unwrap() {
                let records = frame.records().unwrap();
                for (key, value) in records.keys.iter().zip(records.values.iter()) {
                    let key = key.unwrap();
                    assert_eq!(wasmill_core::murmur::partition(key, 3), partition);
                    appended.push(String::from_utf8_lossy(value.unwrap()).into_owned());
                }
            }
            assert!(appended.len() > before, "40 users are on every partition");
        }
        lines.sort_unstable();
        appended.sort_unstable();
        assert_eq!(appended, lines);
    }
}
