//! `wasmill run`: runs a pipeline on this machine.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use wasmill::admin::Server;
use wasmill::engine::report::Progress;
use wasmill::engine::{self, Options, Prepared, Report};
use wasmill::source::What;

use super::{data_dir, pipeline};

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
    /// Print the summary as JSON
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
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        eprint!("{}", report.table());
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes the state of an instance on Kafka, and says what stays.
fn fresh_on_kafka(data_dir: &Path, group: &str) -> anyhow::Result<()> {
    if engine::kafka::clear(data_dir)? {
        eprintln!("fresh: the state in {} is removed", data_dir.display());
    }
    eprintln!(
        "fresh: on Kafka group {group} keeps its offsets, state and topics, and goes on from there; to \
         begin anew, run the pipeline in another group: --set kafka.group=NAME"
    );
    Ok(())
}

/// Answers questions about a run with these options until the result is dropped.
fn listen(address: &str, options: &Options) -> anyhow::Result<Server> {
    let server = Server::start(address, options.figures.clone())?;
    eprintln!("admin: listening on http://{}", server.address());
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
    let total = total_bytes(prepared);
    options.progress.total_bytes.store(total.unwrap_or(0), Ordering::Relaxed);
    let bar = Bar::start(total, options.progress.clone());
    let result = engine::run(prepared, &options);
    bar.stop();
    Ok(result?)
}

/// Ends a process that was told to end and does not, as calls to brokers that are gone may not return
/// before these are back, whatever their timeout. Nothing is lost: it is done again.
fn give_up() {
    std::thread::sleep(PATIENCE);
    eprintln!(
        "error: the last commit is not done after {PATIENCE:?}, as Kafka does not answer; what it did not \
         have is done again by whoever has the tasks next"
    );
    std::process::exit(1);
}

/// How much there is to read, when all sources are plain files.
fn total_bytes(prepared: &Prepared) -> Option<u64> {
    let mut total = 0;
    for partition in prepared.sources.iter().flatten() {
        match &partition.what {
            What::File(path) if partition.bounded => total += std::fs::metadata(path).ok()?.len(),
            _ => return None,
        }
    }
    (total > 0).then_some(total)
}

/// A progress bar on a thread of its own; nothing when stderr is no terminal.
struct Bar {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Bar {
    fn start(total: Option<u64>, progress: Arc<Progress>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (Some(total), true) = (total, std::io::stderr().is_terminal()) else {
            return Self { stop, thread: None };
        };
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let bar = ProgressBar::new(total);
            let style = "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {msg} eta {eta}";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            while !stopped.load(Ordering::Relaxed) {
                bar.set_position(progress.bytes.load(Ordering::Relaxed).min(total));
                bar.set_message(format!("{} records", progress.records.load(Ordering::Relaxed)));
                std::thread::sleep(Duration::from_millis(100));
            }
            bar.finish_and_clear();
        });
        Self { stop, thread: Some(thread) }
    }

    fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The bar is only for the eye; that it panicked would not matter.
            let _ = thread.join();
        }
    }
}
