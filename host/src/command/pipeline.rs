//! What the commands have in common that take a pipeline file.

use std::cell::{OnceCell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wasmill::engine::{self, Prepared, prepare};
use wasmill::runtime::Runtime;
use wasmill_kafka::Admin;
use wasmill_pipeline::{Diagnostic, Draft, Kafka};

use super::output;

/// How long questions about topics may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Which pipeline, and how it differs from its file.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The pipeline file, TOML
    pub pipeline: PathBuf,
    /// Sets a value of the pipeline file, for example source.raw.path=access.log; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = assignment)]
    pub sets: Vec<(String, String)>,
    /// A folder to look plugins up in, besides those of the pipeline file; may be repeated
    #[arg(long = "plugins", value_name = "DIR")]
    pub plugins: Vec<PathBuf>,
}

/// Takes `PATH=VALUE` apart.
pub fn assignment(text: &str) -> Result<(String, String), String> {
    let (path, value) = text
        .split_once('=')
        .ok_or_else(|| "write PATH=VALUE, for example source.raw.path=access.log".to_owned())?;
    Ok((path.trim().to_owned(), value.to_owned()))
}

/// The problems of a pipeline, each shown with its place.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Problems(pub Vec<Diagnostic>);

/// The folder of compiled code.
pub fn cache_dir() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("WASMILL_CACHE_DIR") {
        return (!given.is_empty()).then(|| PathBuf::from(given));
    }
    let home = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    home.map(|home| home.join("wasmill"))
}

/// The runtime, with its cache of compiled code.
pub fn runtime() -> anyhow::Result<Arc<Runtime>> {
    let cache = cache_dir().filter(|dir| std::fs::create_dir_all(dir).is_ok());
    Ok(Arc::new(Runtime::new(cache.as_deref())?))
}

/// Loads a pipeline with its plugins. Topics that others write have the partitions they have in the
/// log of `data_dir`, or on Kafka.
pub fn load(args: &Args, data_dir: Option<&Path>) -> anyhow::Result<Prepared> {
    let runtime = runtime()?;
    let mut folders = args.plugins.clone();
    folders.extend(prepare::standard_folders());
    let draft = Draft::load(&args.pipeline, &args.sets).map_err(Problems)?;
    let load = |partitions: &dyn Fn(&str) -> Option<u32>| {
        Prepared::load(&args.pipeline, &args.sets, &folders, runtime, partitions)
    };
    if !draft.is_sound() {
        // There is no plan to be made, for which topics would be looked at.
        return load(&|_| None).map_err(|problems| Problems(problems).into());
    }
    if let Some(kafka) = &draft.pipeline.kafka {
        return load_on_kafka(kafka, load);
    }
    let log = data_dir.map(|dir| dir.join("log")).filter(|dir| dir.join("COMMIT").exists());
    let log = log.and_then(|dir| wasmill_log::Log::open_read_only(dir).ok());
    let partitions = |topic: &str| log.as_ref().and_then(|log| log.partitions(topic).ok());
    load(&partitions).map_err(|problems| Problems(problems).into())
}

/// Brokers are asked when all else is sound, so that one that does not answer hides no problem.
fn load_on_kafka(
    kafka: &Kafka,
    load: impl FnOnce(&dyn Fn(&str) -> Option<u32>) -> Result<Prepared, Vec<Diagnostic>>,
) -> anyhow::Result<Prepared> {
    let settings = engine::kafka::settings(kafka);
    let connect = || Admin::connect(&settings, TIMEOUT);
    let (admin, failure) = (OnceCell::new(), RefCell::new(None));
    let fail = |error| {
        failure.borrow_mut().get_or_insert(error);
    };
    let partitions = |topic: &str| {
        let admin = admin.get_or_init(|| connect().map_err(fail).ok()).as_ref()?;
        admin.partitions(topic).map_err(fail).ok()?
    };
    let prepared = load(&partitions);
    if let Some(error) = failure.take() {
        return Err(error.into());
    }
    let prepared = prepared.map_err(Problems)?;
    if admin.get().is_none() {
        connect()?;
    }
    Ok(prepared)
}

/// Shows what is allowed but looks wrong.
pub fn warn(prepared: &Prepared) {
    for warning in &prepared.warnings {
        output::note(&format!("{warning}\n"));
    }
}
