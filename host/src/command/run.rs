//! `wasmill run`: runs a pipeline on this machine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use wasmill::admin::Server;
use wasmill::engine::{self, Options, Prepared, Report};
use wasmill_pipeline::SinkKind;

use super::bar::Bar;
use super::{data_dir, output, pipeline};

/// How long a process on Kafka that was told to end may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a pipeline: to the end of its inputs, or until it is interrupted
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pipeline: pipeline::Args,
    /// Where topics and state are kept [default: .wasmill/NAME, NAME being the pipeline's]
    #[arg(long, value_name = "DIR", env = data_dir::VARIABLE)]
    data_dir: Option<PathBuf>,
    /// Begin anew: remove all topics and all state that are in the data directory first; on Kafka that
    /// is the state of this instance, which is restored: another kafka.group begins anew there
    #[arg(long)]
    fresh: bool,
    /// Worker threads [default: what the pipeline file says, or one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// Where the run answers questions about itself: /metrics for Prometheus, /status for `wasmill
    /// status`, /healthz; port 0 for any that is free [default: engine.admin of the pipeline file]
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// Print the summary as JSON: to standard output, or to standard error where a sink writes its
    /// records to standard output
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the pipeline has problems, or the run fails.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let known = args.data_dir.as_deref().filter(|_| !args.fresh);
    let mut prepared = pipeline::load(&args.pipeline, known)?;
    let options = Options { workers: args.workers.map(usize::from), ..Options::default() };
    let admin = args.admin.as_deref().or(prepared.pipeline.engine.admin.as_deref());
    // Before anything is removed or opened.
    let _server = admin.map(|address| listen(address, &options)).transpose()?;
    let data_dir = args
        .data_dir
        .clone()
        .unwrap_or_else(|| PathBuf::from(data_dir::ROOT).join(&prepared.pipeline.name));
    if args.fresh {
        data_dir::clear(&data_dir)?;
        if let Some(kafka) = &prepared.pipeline.kafka {
            fresh_on_kafka(&data_dir, &kafka.group)?;
        }
    }
    if args.data_dir.is_none() && data_dir.join("log/COMMIT").exists() {
        prepared = pipeline::load(&args.pipeline, Some(&data_dir))?;
    }
    let report = execute_with(&prepared, Options { data_dir, ..options })?;
    tell(&prepared, &report, args.json)
}

/// Tells what a run has done. As JSON that goes to standard output, unless a sink has written its
/// records there.
pub fn tell(prepared: &Prepared, report: &Report, json: bool) -> anyhow::Result<ExitCode> {
    if !json {
        output::note(&report.table());
        return Ok(ExitCode::SUCCESS);
    }
    let line = serde_json::to_string(report)? + "\n";
    if prepared.pipeline.sinks.iter().any(|sink| sink.kind == SinkKind::Stdout) {
        output::note(&line);
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&line)
}

/// Removes the state of an instance on Kafka, and says what stays.
fn fresh_on_kafka(data_dir: &Path, group: &str) -> anyhow::Result<()> {
    if engine::kafka::clear(data_dir)? {
        output::note(&format!("fresh: the state in {} is removed\n", data_dir.display()));
    }
    output::note(&format!(
        "fresh: on Kafka group {group} keeps its offsets, state and topics, and goes on from there; to \
         begin anew, run the pipeline in another group: --set kafka.group=NAME\n"
    ));
    Ok(())
}

/// Answers questions about a run with these options until the result is dropped.
fn listen(address: &str, options: &Options) -> anyhow::Result<Server> {
    let server = Server::start(address, options.figures.clone())?;
    output::note(&format!("admin: listening on http://{}\n", server.address()));
    Ok(server)
}

/// Runs a prepared pipeline with a progress bar, stopping cleanly on interruption.
pub fn execute(
    prepared: &Prepared,
    data_dir: PathBuf,
    workers: Option<usize>,
) -> anyhow::Result<Report> {
    execute_with(prepared, Options { data_dir, workers, ..Options::default() })
}

/// As [`execute`], with options; those for stopping and progress are its own.
pub fn execute_with(prepared: &Prepared, options: Options) -> anyhow::Result<Report> {
    let data_dir = &options.data_dir;
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("the data directory {} can't be made", data_dir.display()))?;
    let (stop, on_kafka) = (options.stop.clone(), prepared.pipeline.kafka.is_some());
    ctrlc::set_handler(move || {
        if stop.swap(true, Ordering::Relaxed) {
            // A second one does not wait for the checkpoint: nothing is lost, it is done again.
            std::process::exit(130);
        }
        if on_kafka {
            std::thread::spawn(give_up);
        }
    })
    .context("the handler of interruptions can't be set")?;
    let bar = Bar::start(options.progress.clone());
    let result = engine::run(prepared, &options);
    bar.stop();
    Ok(result?)
}

/// Ends a process that was told to end and does not, as calls to brokers that are gone may not return
/// before these are back, whatever their timeout. Nothing is lost: it is done again.
fn give_up() {
    std::thread::sleep(PATIENCE);
    output::note(&format!(
        "error: the last commit is not done after {PATIENCE:?}, as Kafka does not answer; what it did not \
         have is done again by whoever has the tasks next\n"
    ));
    std::process::exit(1);
}
