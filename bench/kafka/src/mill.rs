//! Wasmill, run as a program on pipelines of the benchmark.
//!
//! Invariant: every run has a group and a data directory of its own, unless it goes on with those of
//! an earlier one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::child::{Ended, Program};
use crate::topics::Broker;

/// How Wasmill is run.
pub struct Mill {
    program: PathBuf,
    plugins: PathBuf,
    cache: PathBuf,
    brokers: String,
}

/// A pipeline from one topic to another.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its name, its group's and its folder's.
    pub name: String,
    /// The topic that it reads.
    pub input: String,
    /// Whether it ends where the topic ends at the start.
    pub bounded: bool,
    /// The plugin of its stage; none for no stage.
    pub plugin: Option<&'static str>,
    /// Time between commits, in ms.
    pub commit_ms: u32,
    /// More lines for its table `[kafka]`.
    pub kafka: String,
}

impl Pipeline {
    /// A pipeline with commits every 100 ms, exactly once.
    pub fn new(name: &str, input: &str, plugin: Option<&'static str>) -> Self {
        let (name, input) = (name.to_owned(), input.to_owned());
        Self { name, input, bounded: true, plugin, commit_ms: 100, kafka: String::new() }
    }

    /// The topic that it writes.
    pub fn output(&self) -> String {
        format!("{}-out", self.name)
    }

    fn text(&self, brokers: &str) -> String {
        let Self { name, input, bounded, commit_ms, kafka, .. } = self;
        let mut text = format!(
            "name = \"{name}\"\n\
             [kafka]\nbrokers = \"{brokers}\"\n{kafka}\
             [engine]\ncheckpoint-interval = \"{commit_ms}ms\"\n\
             [source.in]\ntype = \"topic\"\ntopic = \"{input}\"\nbounded = {bounded}\n"
        );
        let from = match self.plugin {
            None => "source.in",
            Some(plugin) => {
                text.push_str(&format!(
                    "[stage.job]\nplugin = \"{plugin}\"\nfrom = \"source.in\"\n"
                ));
                if KEYED.contains(&plugin) {
                    text.push_str("repartition = false\n");
                }
                "stage.job"
            }
        };
        let partitions = crate::topics::PARTITIONS;
        let output = self.output();
        text.push_str(&format!("[topic.{output}]\nfrom = \"{from}\"\npartitions = {partitions}\n"));
        text
    }
}

/// The plugins here that keep state by key.
const KEYED: [&str; 2] = ["sessions", "latest"];

/// What a bounded run has shown.
#[derive(Debug, Clone)]
pub struct Run {
    /// Records a second, from the first one to the last commit.
    pub rate: f64,
    /// What the process has taken.
    pub ended: Ended,
}

impl Mill {
    /// Wasmill, with the broker that it works on.
    pub fn new(
        program: PathBuf,
        plugins: PathBuf,
        cache: PathBuf,
        broker: &Broker,
    ) -> anyhow::Result<Self> {
        for path in [&program, &plugins] {
            anyhow::ensure!(path.exists(), "{} is missing: run `make bench-kafka`", path.display());
        }
        let absolute = |path: PathBuf| std::path::absolute(path);
        let (program, plugins) = (absolute(program)?, absolute(plugins)?);
        for plugin in ["identity", "latest", "sessions"] {
            // What is compiled stays in the cache: no figure is one of the compiler's.
            let file = plugins.join(format!("{plugin}.wasm"));
            let mut command = Command::new(&program);
            command.arg("describe").arg(&file).env("WASMILL_CACHE_DIR", &cache);
            let output = command.output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            anyhow::ensure!(output.status.success(), "{}: {said}", file.display());
        }
        Ok(Self { program, plugins, cache, brokers: broker.address.clone() })
    }

    /// The data directory of a pipeline.
    pub fn data(folder: &Path, pipeline: &Pipeline) -> PathBuf {
        folder.join(format!("{}-data", pipeline.name))
    }

    /// Starts a pipeline.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&self, folder: &Path, pipeline: &Pipeline) -> anyhow::Result<Program> {
        let file = folder.join(format!("{}.toml", pipeline.name));
        std::fs::write(&file, pipeline.text(&self.brokers))?;
        let mut command = Command::new(&self.program);
        command.arg("run").arg(&file).arg("--json");
        command.arg("--data-dir").arg(Self::data(folder, pipeline));
        command.arg("--plugins").arg(&self.plugins);
        command.env("WASMILL_CACHE_DIR", &self.cache);
        Program::start(&pipeline.name, &mut command, folder)
    }

    /// Runs a bounded pipeline over `records` records.
    ///
    /// # Errors
    /// When it fails, or reads fewer records.
    pub fn run(&self, folder: &Path, pipeline: &Pipeline, records: u64) -> anyhow::Result<Run> {
        let patience = Duration::from_secs(60 + records / 5_000);
        let ended = self.start(folder, pipeline)?.wait(patience)?;
        let report: serde_json::Value = serde_json::from_str(&ended.output)?;
        let field = |name: &str| report["elapsed"][name].as_f64().context("the time that it took");
        let seconds = field("secs")? + field("nanos")? / 1e9;
        let read = report["records"].as_u64().context("the report has records")?;
        let name = &pipeline.name;
        anyhow::ensure!(read >= records, "{name} read {read} of {records} records");
        if read > records {
            // What was rolled back is read once more; that time counts.
            eprintln!("{name}: {} records were done again:\n{}", read - records, ended.errors);
        }
        let data = Self::data(folder, pipeline);
        std::fs::remove_dir_all(&data).with_context(|| data.display().to_string())?;
        Ok(Run { rate: records as f64 / seconds, ended })
    }
}
