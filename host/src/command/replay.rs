//! `wasmill replay`: runs a pipeline over history, beside the one that runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use wasmill::engine::{self, Options, Replay, Until};
use wasmill_pipeline::{SourceKind, Start};

use super::{data_dir, pipeline, run, usage};

/// Runs a pipeline over history on Kafka, under a name of its own, as a bounded run
///
/// It reads what its sources of type topic hold from a place on, with a group, state and internal
/// topics of its own; the topics that it gives records to get its name as a suffix. The pipeline
/// itself may run meanwhile and is not touched.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pipeline: pipeline::Args,
    /// Where to begin: earliest, a time such as 2026-01-31T00:00:00Z, or offsets by partition such
    /// as 0=1200,1=950
    #[arg(long, value_name = "PLACE", value_parser = start)]
    from: Start,
    /// Where to end: a time, or offsets by partition [default: where the topics end now]
    #[arg(long, value_name = "PLACE", value_parser = until)]
    until: Option<Until>,
    /// The name of the replay: suffix of its group and of the topics that it writes
    #[arg(long = "as", value_name = "NAME", value_parser = name)]
    name: String,
    /// Where its state is kept [default: .wasmill/PIPELINE-NAME]
    #[arg(long, value_name = "DIR", env = data_dir::VARIABLE)]
    data_dir: Option<PathBuf>,
    /// Begin anew: remove the topics and the state of an earlier replay of this name first
    #[arg(long)]
    fresh: bool,
    /// Worker threads [default: what the pipeline file says, or one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.is_empty() && text.len() <= 60 && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err("a name has up to 60 of the characters a-z, A-Z, 0-9, dot, - and _".into())
}

fn time(text: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
}

fn offsets(text: &str) -> Option<BTreeMap<u32, i64>> {
    let pair = |pair: &str| {
        let (partition, offset) = pair.split_once('=')?;
        let offset: i64 = offset.trim().parse().ok()?;
        Some((partition.trim().parse().ok()?, (offset >= 0).then_some(offset)?))
    };
    text.split(',').map(pair).collect()
}

fn start(text: &str) -> Result<Start, String> {
    if text == "earliest" {
        return Ok(Start::Earliest);
    }
    time(text).map(Start::Timestamp).or_else(|| offsets(text).map(Start::Offsets)).ok_or_else(
        || {
            "write earliest, a time such as 2026-01-31T00:00:00Z, or offsets such as 0=1200,1=950"
                .into()
        },
    )
}

fn until(text: &str) -> Result<Until, String> {
    time(text).map(Until::Timestamp).or_else(|| offsets(text).map(Until::Offsets)).ok_or_else(
        || "write a time such as 2026-01-31T00:00:00Z, or offsets such as 0=1200,1=950".into(),
    )
}

/// Runs the command.
///
/// # Errors
/// When the pipeline has problems or is not one that can be replayed, or the run fails.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut prepared = pipeline::load(&args.pipeline, None)?;
    let Some(kafka) = &mut prepared.pipeline.kafka else {
        return Err(usage::wrong(
            "a replay needs Kafka: the embedded log belongs to one run at a time. Say where it is with \
             --set kafka.brokers=HOST:PORT, or run the pipeline with another --data-dir"
                .to_owned(),
        ));
    };
    kafka.group = format!("{}-{}", kafka.group, args.name);
    let mut topics = 0;
    for source in &mut prepared.pipeline.sources {
        source.bounded = true;
        if let SourceKind::Topic { start, .. } = &mut source.kind {
            *start = args.from.clone();
            topics += 1;
        }
    }
    for partition in prepared.sources.iter_mut().flatten() {
        partition.bounded = true;
    }
    if topics == 0 {
        return Err(usage::wrong(format!(
            "{}: no source is of type \"topic\", so there is no history in Kafka to replay",
            args.pipeline.pipeline.display()
        )));
    }
    let data_dir = args.data_dir.clone().unwrap_or_else(|| {
        PathBuf::from(data_dir::ROOT).join(format!("{}-{}", prepared.pipeline.name, args.name))
    });
    let replay = Replay { suffix: format!("-{}", args.name), until: args.until.clone() };
    if args.fresh {
        engine::kafka::remove(&prepared, &replay)?;
        if data_dir.exists() {
            std::fs::remove_dir_all(&data_dir)
                .with_context(|| format!("{} can't be removed", data_dir.display()))?;
        }
    }
    let workers = args.workers.map(usize::from);
    let options = Options { data_dir, workers, replay: Some(replay), ..Options::default() };
    let report = run::execute_with(&prepared, options)?;
    run::tell(&prepared, &report, args.json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_times_or_offsets() {
        assert_eq!(start("earliest"), Ok(Start::Earliest));
        assert_eq!(start("1970-01-01T00:00:01Z"), Ok(Start::Timestamp(1_000)));
        assert_eq!(until("1970-01-01T01:00:01+01:00"), Ok(Until::Timestamp(1_000)));
        assert_eq!(until("0=12, 3=4"), Ok(Until::Offsets([(0, 12), (3, 4)].into())));
        for wrong in ["", "yesterday", "0:1", "0=-1", "0=1,"] {
            assert!(start(wrong).is_err() && until(wrong).is_err(), "{wrong}");
        }
        assert!(name("a b").is_err() && name("").is_err());
        assert_eq!(name("fix-1").as_deref(), Ok("fix-1"));
    }
}
