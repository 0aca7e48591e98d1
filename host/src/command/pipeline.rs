//! What the commands have in common that take a pipeline file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wasmill::engine::{self, Prepared, prepare};
use wasmill::runtime::Runtime;
use wasmill_kafka::Admin;
use wasmill_pipeline::{Diagnostic, Pipeline};

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
    let pipeline = Pipeline::load(&args.pipeline, &args.sets).map_err(Problems)?;
    if let Some(kafka) = &pipeline.kafka {
        let settings = engine::kafka::settings(kafka);
        let admin = Admin::connect(&settings, TIMEOUT)?;
        let failure = std::cell::RefCell::new(None);
        let partitions = |topic: &str| match admin.partitions(topic) {
            Ok(partitions) => partitions,
            Err(e) => {
                failure.borrow_mut().get_or_insert(e);
                None
            }
        };
        let prepared = Prepared::load(&args.pipeline, &args.sets, &folders, runtime, &partitions);
        if let Some(e) = failure.into_inner() {
            return Err(e.into());
        }
        return prepared.map_err(|problems| Problems(problems).into());
    }
    let log = data_dir.map(|dir| dir.join("log")).filter(|dir| dir.join("COMMIT").exists());
    let log = log.and_then(|dir| wasmill_log::Log::open_read_only(dir).ok());
    let partitions = |topic: &str| log.as_ref().and_then(|log| log.partitions(topic).ok());
    Prepared::load(&args.pipeline, &args.sets, &folders, runtime, &partitions)
        .map_err(|problems| Problems(problems).into())
}

/// Shows what is allowed but looks wrong.
pub fn warn(prepared: &Prepared) {
    for warning in &prepared.warnings {
        output::note(&format!("{warning}\n"));
    }
}
