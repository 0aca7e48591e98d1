//! `wasmill status`: how a pipeline stands, as the running instance tells it, or else Kafka.

mod table;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use wasmill::admin::Status;
use wasmill::engine::kafka;
use wasmill_pipeline::Pipeline;

use super::{output, pipeline};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Shows how a running pipeline stands: tasks, watermarks, lag, commits, rebalances, restores,
/// standbys
///
/// It asks the instance that listens on the admin address: that of --admin, else of engine.admin in
/// the pipeline file. When none answers, it shows for a pipeline on Kafka how far its group is behind.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file, TOML
    #[arg(required_unless_present = "admin")]
    pipeline: Option<std::path::PathBuf>,
    /// The admin address of the instance [default: engine.admin of the pipeline file]
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "pipeline")]
    admin: Option<String>,
    /// Sets a value of the pipeline file, for example kafka.group=a; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = pipeline::assignment)]
    sets: Vec<(String, String)>,
    /// A folder to look plugins up in, besides those of the pipeline file; may be repeated
    #[arg(long = "plugins", value_name = "DIR")]
    plugins: Vec<std::path::PathBuf>,
    /// Print JSON: what the instance answers, or the lag of each partition
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When nobody answers, and there is nobody else to ask.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Some(file) = args.pipeline else {
        let address = args.admin.context("clap wants one of the two")?;
        return show(&ask(&address).map_err(|why| absent(&address, &why))?, args.json);
    };
    let pipeline = Pipeline::load(&file, &args.sets).map_err(pipeline::Problems)?;
    let address = pipeline.engine.admin.as_deref();
    let silence = match address.map(|address| (address, ask(address))) {
        Some((_, Ok(status))) if status.pipeline != pipeline.name => bail!(
            "pipeline {} is what answers at {}, not {}; ask another address with --admin, or set another \
             one in engine.admin",
            status.pipeline,
            address.unwrap_or_default(),
            pipeline.name
        ),
        Some((_, Ok(status))) => return show(&status, args.json),
        Some((address, Err(why))) => absent(address, &why),
        None => anyhow!(
            "{} has no engine.admin, so its instances can't be asked: set one, for example \
             127.0.0.1:9900, or run it with --admin and ask with --admin",
            file.display()
        ),
    };
    if pipeline.kafka.is_none() {
        return Err(silence);
    }
    output::note(&format!("note: {silence}\nWhat Kafka knows of the group:\n\n"));
    let (sets, plugins) = (args.sets, args.plugins);
    let args_of = pipeline::Args { pipeline: file, sets, plugins };
    let lag = kafka::lag(&pipeline::load(&args_of, None)?, TIMEOUT)?;
    let text = if args.json { serde_json::to_string(&lag)? + "\n" } else { table::lag(&lag) };
    output::print(&text)
}

/// Asks the instance that listens on an address.
fn ask(address: &str) -> Result<Status, String> {
    let agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).proxy(None).build();
    let agent = agent.new_agent();
    let answer = agent.get(format!("http://{address}/status")).call();
    let mut answer = answer.map_err(|e| e.to_string())?;
    let text = answer.body_mut().with_config().limit(1 << 30).read_to_string();
    let text = text.map_err(|e| e.to_string())?;
    serde_json::from_str(&text).map_err(|e| format!("this is no answer of Wasmill: {e}"))
}

fn absent(address: &str, why: &str) -> anyhow::Error {
    anyhow!(
        "no running pipeline answers at {address}: {why}; start it with `wasmill run FILE --admin \
         {address}`, or ask the address that it said when it started, with --admin"
    )
}

fn show(status: &Status, json: bool) -> anyhow::Result<ExitCode> {
    let text = if json { serde_json::to_string(status)? + "\n" } else { table::status(status) };
    output::print(&text)
}
