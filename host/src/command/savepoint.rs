//! `wasmill savepoint`: keeps what a pipeline holds at an instant, and starts one from it.
//!
//! Invariant: what is there already is replaced only when that is asked for.

mod embedded;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use chrono::{DateTime, SecondsFormat, Utc};
use indicatif::HumanBytes;
use serde_json::json;
use wasmill::engine::{self, Options, Prepared};
use wasmill::savepoint::{Manifest, Origin, Savepoint, list};

use super::{data_dir, output, pipeline, run};

/// The environment variable that stands for `--savepoints`.
const VARIABLE: &str = "WASMILL_SAVEPOINTS";

/// Keeps the state and the offsets of a pipeline, and starts a pipeline from them
///
/// A savepoint is a folder with what all tasks held at one consistent instant: their state, where
/// their inputs stood, and what was on its way between them. It depends on nothing else: the topics
/// of the group, or the data directory, that it was taken from may go.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Take a savepoint of a pipeline.
    ///
    /// On Kafka it may run meanwhile; on the embedded log it must have been stopped.
    Create(CreateArgs),
    /// List the savepoints.
    Ls(ListArgs),
    /// Put a savepoint where the pipeline goes on from it: into its group, none of whose instances
    /// may run, or its data directory.
    ///
    /// The pipeline must have the stages, inputs and partitions that it had; its plugins may be
    /// others, which migrate state as they say, and their configuration too. What it gives after the
    /// savepoint it gives again, into the topics that the pipeline file names.
    Restore(RestoreArgs),
}

/// Where savepoints are.
#[derive(Debug, clap::Args)]
struct Folder {
    /// The folder of savepoints [default: .wasmill/savepoints]
    #[arg(long = "savepoints", value_name = "DIR", env = VARIABLE)]
    folder: Option<PathBuf>,
}

impl Folder {
    fn path(&self) -> PathBuf {
        self.folder.clone().unwrap_or_else(|| PathBuf::from(data_dir::ROOT).join("savepoints"))
    }
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    #[command(flatten)]
    pipeline: pipeline::Args,
    /// What to call it [default: the pipeline's name and the time]
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    #[command(flatten)]
    folder: Folder,
    /// On the embedded log, where topics and state are [default: .wasmill/NAME, NAME being the
    /// pipeline's]
    #[arg(long, value_name = "DIR", env = data_dir::VARIABLE)]
    data_dir: Option<PathBuf>,
    /// Print what it is as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    folder: Folder,
    /// Print JSON, a line each
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct RestoreArgs {
    #[command(flatten)]
    pipeline: pipeline::Args,
    /// Which savepoint
    #[arg(value_parser = name)]
    name: String,
    #[command(flatten)]
    folder: Folder,
    /// Drop the state that the group, or the data directory, has now
    #[arg(long)]
    replace: bool,
    /// Run the pipeline from there at once
    #[arg(long)]
    run: bool,
    /// Where topics and state are kept [default: .wasmill/NAME, NAME being the pipeline's]
    #[arg(long, value_name = "DIR", env = data_dir::VARIABLE)]
    data_dir: Option<PathBuf>,
    /// With --run, worker threads [default: what the pipeline file says, or one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
}

fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let dots = text.chars().all(|c| c == '.');
    if !dots && text.len() <= 120 && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err("a name has up to 120 of the characters a-z, A-Z, 0-9, dot, - and _".into())
}

/// Runs the command.
///
/// # Errors
/// What went wrong, for a person to read.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Create(args) => create(args),
        Command::Ls(args) => ls(args),
        Command::Restore(args) => restore(args),
    }
}

/// The data directory of a pipeline.
fn data_dir_of(given: Option<&PathBuf>, prepared: &Prepared) -> PathBuf {
    let name = &prepared.pipeline.name;
    given.cloned().unwrap_or_else(|| PathBuf::from(data_dir::ROOT).join(name))
}

fn create(args: &CreateArgs) -> anyhow::Result<ExitCode> {
    let prepared = pipeline::load(&args.pipeline, args.data_dir.as_deref())?;
    let name = args.name.clone().unwrap_or_else(|| {
        format!("{}-{}", prepared.pipeline.name, Utc::now().format("%Y%m%dT%H%M%SZ"))
    });
    let folder = args.folder.path();
    let (folder, manifest) = if prepared.pipeline.kafka.is_some() {
        engine::kafka::savepoint::create(&prepared, &folder, &name)?
    } else {
        let data_dir = data_dir_of(args.data_dir.as_ref(), &prepared);
        embedded::create(&prepared, &data_dir, &folder, &name)?
    };
    let text = if args.json {
        line(&manifest)
    } else {
        format!("{}: {}\n", folder.display(), HumanBytes(manifest.bytes()))
    };
    output::print(&text)
}

fn ls(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let folder = args.folder.path();
    let found = list(&folder)?;
    let mut text = String::new();
    if args.json {
        found.iter().for_each(|savepoint| text += &line(&savepoint.manifest));
    } else if found.is_empty() {
        text = format!("there are no savepoints in {}\n", folder.display());
    } else {
        text = table(&found);
    }
    output::print(&text)
}

fn created(manifest: &Manifest) -> String {
    let time = DateTime::<Utc>::from_timestamp_millis(manifest.created_ms);
    time.map_or_else(String::new, |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// The group that it was taken from; none of the embedded log.
fn group(manifest: &Manifest) -> Option<&str> {
    match &manifest.of {
        Origin::Group { group, .. } => Some(group),
        Origin::Log { .. } => None,
    }
}

fn line(manifest: &Manifest) -> String {
    let Manifest { name, pipeline, plugins, .. } = manifest;
    let line = json!({
        "name": name,
        "created": created(manifest),
        "pipeline": pipeline,
        "group": group(manifest),
        "bytes": manifest.bytes(),
        "plugins": plugins,
    });
    format!("{line}\n")
}

fn table(found: &[Savepoint]) -> String {
    let heads = ["name", "created", "pipeline", "group", "size"].map(str::to_owned);
    let row = |savepoint: &Savepoint| {
        let of = &savepoint.manifest;
        let size = HumanBytes(of.bytes()).to_string();
        let group = group(of).unwrap_or("-").to_owned();
        [of.name.clone(), created(of), of.pipeline.clone(), group, size]
    };
    let rows: Vec<[String; 5]> = std::iter::once(heads).chain(found.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let cells: Vec<String> = cells.collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn restore(args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    let prepared = pipeline::load(&args.pipeline, None)?;
    let savepoint = Savepoint::open(&args.folder.path(), &args.name)?;
    let data_dir = data_dir_of(args.data_dir.as_ref(), &prepared);
    let place = match (&prepared.pipeline.kafka, &savepoint.manifest.of) {
        (Some(kafka), Origin::Group { .. }) => {
            engine::kafka::savepoint::restore(&prepared, &savepoint, args.replace)?;
            format!("group {}", kafka.group)
        }
        (None, Origin::Log { .. }) => {
            embedded::restore(&savepoint, &data_dir, args.replace)?;
            data_dir.display().to_string()
        }
        (Some(_), Origin::Log { .. }) => bail!(
            "savepoint {} is of a pipeline on the embedded log, and this one is on Kafka: state goes \
             from one to the other only by reading the input anew",
            args.name
        ),
        (None, Origin::Group { group, .. }) => bail!(
            "savepoint {} is of group {group} on Kafka, and this pipeline is on the embedded log: say \
             where Kafka is with --set kafka.brokers=HOST:PORT",
            args.name
        ),
    };
    output::note(&format!("{place} stands where savepoint {} was taken\n", args.name));
    if !args.run {
        return Ok(ExitCode::SUCCESS);
    }
    let workers = args.workers.map(usize::from);
    let report = run::execute_with(&prepared, Options { data_dir, workers, ..Options::default() })?;
    output::note(&report.table());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        for wrong in ["", ".", "..", "a/b", "a b", "é"] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(name("weblog-1.0_b").as_deref(), Ok("weblog-1.0_b"));
    }
}
