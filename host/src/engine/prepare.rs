//! Everything that can be known before a pipeline runs: its plugins, their ports, its plan.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wasmill_abi::{Context, Ports, Resource};
use wasmill_pipeline::plan::{Catalog, Plan, Plugin};
use wasmill_pipeline::{Diagnostic, Draft, Pipeline, PluginRef, SourceKind};

use crate::runtime::{self, Component, Kind, Runtime, Settings};
use crate::source;

/// A pipeline that was checked and is ready to run.
pub struct Prepared {
    /// The pipeline file.
    pub pipeline: Pipeline,
    /// Where components run.
    pub runtime: Arc<Runtime>,
    /// The plugin of each stage.
    pub plugins: Vec<StagePlugin>,
    /// The partitions of each source that is no topic.
    pub sources: Vec<Vec<source::Partition>>,
    /// How the pipeline is cut.
    pub plan: Plan,
    /// What is allowed but looks wrong.
    pub warnings: Vec<Diagnostic>,
}

/// The plugin of a stage, loaded and configured.
pub struct StagePlugin {
    /// The component.
    pub component: Component,
    /// How its instances are set up.
    pub settings: Settings,
    /// Its ports in effect.
    pub ports: Ports,
    /// The files of its resources.
    pub resources: Vec<(String, PathBuf)>,
}

struct Plugins<'a>(&'a [StagePlugin]);

impl Catalog for Plugins<'_> {
    fn plugin(&self, stage: usize) -> Plugin<'_> {
        let plugin = &self.0[stage];
        Plugin { ports: &plugin.ports, keyed: plugin.component.kind == Kind::Keyed }
    }
}

impl Prepared {
    /// Loads a pipeline file and its plugins, and plans it. `partitions_of` knows how many
    /// partitions a topic of the log has.
    ///
    /// # Errors
    /// Every problem that can be found, as diagnostics.
    pub fn load(
        file: &Path,
        sets: &[(String, String)],
        folders: &[PathBuf],
        runtime: Arc<Runtime>,
        partitions_of: &dyn Fn(&str) -> Option<u32>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut draft = Draft::load(file, sets)?;
        // A plugin or a source that is broken is left out, and so are the problems that follow.
        let mut plugins = Vec::new();
        for stage in 0..draft.pipeline.stages.len() {
            let loaded = draft
                .has_plugin(stage)
                .then(|| load_plugin(&draft.pipeline, stage, folders, &runtime));
            plugins.push(accept(loaded, &mut draft));
        }
        let mut sources = Vec::new();
        for source in 0..draft.pipeline.sources.len() {
            let found = draft.has_input(source).then(|| find_input(&draft.pipeline, source));
            sources.push(accept(found, &mut draft));
        }
        if !draft.is_sound() {
            let known = |stage: usize| plugins[stage].as_ref().map(|p: &StagePlugin| &p.ports);
            draft.problems.extend(Plan::check_ports(&draft.pipeline, &known));
        }
        let pipeline = draft.finish()?;
        let plugins: Vec<StagePlugin> = plugins.into_iter().flatten().collect();
        let sources: Vec<Vec<source::Partition>> = sources.into_iter().flatten().collect();
        let mut warnings = pipeline.warnings.clone();
        let source_partitions = |i: usize| match &pipeline.sources[i].kind {
            SourceKind::Topic { topic, .. } => partitions_of(topic).unwrap_or(0),
            _ => sources[i].len() as u32,
        };
        let plan = Plan::of(&pipeline, &Plugins(&plugins), &source_partitions)?;
        warnings.extend(plan.warnings.iter().cloned());
        Ok(Self { pipeline, runtime, plugins, sources, plan, warnings })
    }
}

/// Takes what was found; otherwise the problems go to those of the draft.
fn accept<T>(found: Option<Result<T, Vec<Diagnostic>>>, draft: &mut Draft) -> Option<T> {
    match found? {
        Ok(found) => Some(found),
        Err(problems) => {
            draft.problems.extend(problems);
            None
        }
    }
}

/// The partitions of a source; none of one that is a topic.
fn find_input(
    pipeline: &Pipeline,
    index: usize,
) -> Result<Vec<source::Partition>, Vec<Diagnostic>> {
    let source = &pipeline.sources[index];
    let path = match source.kind {
        SourceKind::Topic { .. } => return Ok(Vec::new()),
        SourceKind::File { .. } => format!("source.{}.path", source.name),
        SourceKind::Stdin { .. } => format!("source.{}", source.name),
    };
    source::partitions(source).map_err(|e| vec![pipeline.diagnostic(&path, e.to_string(), None)])
}

fn load_plugin(
    pipeline: &Pipeline,
    index: usize,
    folders: &[PathBuf],
    runtime: &Arc<Runtime>,
) -> Result<StagePlugin, Vec<Diagnostic>> {
    let stage = &pipeline.stages[index];
    let at = |key: &str| format!("stage.{}.{key}", stage.name);
    let problem = |key: &str, message: String, help: Option<String>| {
        vec![pipeline.diagnostic(&at(key), message, help)]
    };
    let path = find(pipeline, &stage.plugin, folders)
        .map_err(|(message, help)| problem("plugin", message, Some(help)))?;
    let blamed = |e: &runtime::Error| problem("plugin", e.to_string(), remedy(e));
    let component = runtime.load(&path, stage.trusted).map_err(|e| blamed(&e))?;
    let resources: Vec<(String, PathBuf)> =
        stage.resources.iter().map(|r| (r.name.clone(), r.path.clone())).collect();
    let files = read_resources(&resources).map_err(|(name, message)| {
        let help = "give the path of a file, relative to the pipeline file".to_owned();
        problem(&format!("resources.{name}"), message, Some(help))
    })?;
    let limits = &stage.limits;
    let settings = Settings {
        context: Context { pipeline: pipeline.name.clone(), stage: stage.name.clone() },
        config: serde_json::Value::Object(stage.config.clone()).to_string(),
        resources: files,
        memory_bytes: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
        batch_time: Duration::from_millis(limits.batch_time_ms),
        output_bytes: usize::try_from(limits.output_bytes).unwrap_or(usize::MAX),
        seed: index as u64,
    };
    let (_, ports) = runtime.operator(&component, &settings).map_err(|e| match e {
        runtime::Error::Config(e) => {
            let path = if e.path.is_empty() {
                "config".to_owned()
            } else if e.path.starts_with("resources.") {
                e.path.clone()
            } else {
                format!("config.{}", e.path)
            };
            let help =
                format!("`wasmill describe {}` shows what it takes", path_text(&stage.plugin));
            problem(&path, e.message, Some(help))
        }
        e => blamed(&e),
    })?;
    Ok(StagePlugin { component, settings, ports, resources })
}

/// What to do about a component that can't be used, where that does not follow from the error.
fn remedy(error: &runtime::Error) -> Option<String> {
    match error {
        runtime::Error::Start { .. } => Some(
            "mend the plugin and build it again with `wasmill build`; `limits` of the stage say how \
             much time and memory it gets while it is configured"
                .into(),
        ),
        runtime::Error::NotAPlugin { .. } | runtime::Error::Import { .. } => {
            Some("mend the plugin and build it again with `wasmill build`".into())
        }
        _ => None,
    }
}

fn path_text(plugin: &PluginRef) -> String {
    match plugin {
        PluginRef::Name(name) => name.clone(),
        PluginRef::File(path) => path.display().to_string(),
    }
}

/// Reads the files of a stage's resources.
pub(crate) fn read_resources(
    resources: &[(String, PathBuf)],
) -> Result<Vec<Resource>, (String, String)> {
    let read = |(name, path): &(String, PathBuf)| {
        let data = std::fs::read(path)
            .map_err(|e| (name.clone(), format!("{}: can't be read: {e}", path.display())))?;
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Resource { name: name.clone(), file_name, data })
    };
    resources.iter().map(read).collect()
}

/// The folders that plugins are looked up in besides those of the pipeline file: where `make build`
/// puts them, seen from the program and from the current folder.
pub fn standard_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(given) = std::env::var_os("WASMILL_PLUGINS") {
        folders.extend(std::env::split_paths(&given));
    }
    if let Ok(program) = std::env::current_exe()
        && let Some(folder) = program.parent()
    {
        folders.push(folder.join("plugins"));
        if let Some(target) = folder.parent() {
            folders.push(target.join("plugins"));
        }
    }
    folders.push(PathBuf::from("target/plugins"));
    folders
}

/// The file of a plugin.
pub fn find(
    pipeline: &Pipeline,
    plugin: &PluginRef,
    folders: &[PathBuf],
) -> Result<PathBuf, (String, String)> {
    let name = match plugin {
        PluginRef::File(path) if path.is_file() => return Ok(path.clone()),
        PluginRef::File(path) => {
            return Err((
                format!("there is no file {}", path.display()),
                "build the plugin with `wasmill build`, or mend the path".into(),
            ));
        }
        PluginRef::Name(name) => name,
    };
    let all: Vec<&PathBuf> = pipeline.engine.plugins.iter().chain(folders).collect();
    let found = all.iter().map(|f| f.join(format!("{name}.wasm"))).find(|path| path.is_file());
    if let Some(path) = found {
        return Ok(path);
    }
    let known = all.iter().filter_map(|f| std::fs::read_dir(f).ok()).flatten().flatten();
    let known = known.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_suffix(".wasm").map(str::to_owned)
    });
    let near = known.max_by_key(|k| (strsim::jaro_winkler(k, name) * 1000.0) as u32);
    let near = near.filter(|k| strsim::jaro_winkler(k, name) > 0.8);
    let hint = near.map_or(String::new(), |near| format!("did you mean {near:?}? "));
    // The folder of a pipeline file that was named without one is the current one.
    let shown = |folder: &Path| match folder.as_os_str().is_empty() {
        true => ".".to_owned(),
        false => folder.display().to_string(),
    };
    let searched: Vec<String> = all.iter().map(|f| shown(f)).collect();
    Err((
        format!("there is no plugin {name:?} in {}", searched.join(", ")),
        format!(
            "{hint}run `make plugins`, or name folders with engine.plugins, --plugins or \
             WASMILL_PLUGINS"
        ),
    ))
}
