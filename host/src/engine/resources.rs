//! Reference files of plugins, which may change while a pipeline runs.
//!
//! Invariant: instances with new files are put in place for all tasks of a stage, or for none.

use std::time::{Duration, Instant};

use super::prepare::{Prepared, read_resources};
use super::worker::{Shared, lock};

/// How often files of resources are looked at.
const RESOURCES: Duration = Duration::from_millis(500);

/// When a file was changed last, and its length.
type Stamp = (std::time::SystemTime, u64);

/// The files of resources, as they were when they were last read.
pub(super) struct Watched {
    files: Vec<(usize, Vec<Option<Stamp>>)>,
    looked: Instant,
}

impl Watched {
    pub(super) fn new(prepared: &Prepared) -> Self {
        let files = (0..prepared.plugins.len())
            .filter(|i| !prepared.plugins[*i].resources.is_empty())
            .map(|i| (i, stamps(prepared, i)))
            .collect();
        Self { files, looked: Instant::now() }
    }

    /// Makes new instances of plugins whose reference files have changed.
    pub(super) fn look(&mut self, prepared: &Prepared, shared: &Shared) {
        // Before the first cut it is not known yet where the stages run.
        if self.looked.elapsed() < RESOURCES || lock(&shared.stages).is_empty() {
            return;
        }
        self.looked = Instant::now();
        for i in 0..self.files.len() {
            let (stage, known) = &self.files[i];
            let stage = *stage;
            let now = stamps(prepared, stage);
            if now == *known {
                continue;
            }
            self.files[i].1 = now;
            let name = &prepared.pipeline.stages[stage].name;
            match renew(prepared, shared, stage) {
                Ok(()) => tracing::info!(stage = name, "reference files were read again"),
                Err(e) => tracing::error!(
                    stage = name,
                    "reference files have changed but can't be used, the old ones stay: {e}"
                ),
            }
        }
    }
}

fn stamps(prepared: &Prepared, stage: usize) -> Vec<Option<Stamp>> {
    let stamp = |path: &std::path::PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    prepared.plugins[stage].resources.iter().map(|(_, path)| stamp(path)).collect()
}

fn renew(prepared: &Prepared, shared: &Shared, stage: usize) -> Result<(), String> {
    let plugin = &prepared.plugins[stage];
    let mut settings = plugin.settings.clone();
    settings.resources = read_resources(&plugin.resources).map_err(|(_, message)| message)?;
    let mut swaps = Vec::new();
    for (task, index) in lock(&shared.stages).keys() {
        if *index != stage {
            continue;
        }
        let made = prepared.runtime.operator(&plugin.component, &settings);
        let (operator, ports) = made.map_err(|e| e.to_string())?;
        if ports != plugin.ports {
            return Err("the plugin would have other ports".into());
        }
        swaps.push((task.clone(), stage, operator));
    }
    lock(&shared.swaps).extend(swaps);
    Ok(())
}
