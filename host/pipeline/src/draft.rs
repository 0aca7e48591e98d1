//! A pipeline file as far as it could be read, with all that is wrong in it.
//!
//! Invariant: a draft whose file has an error never becomes a [`Pipeline`] of its own.

use std::path::Path;

use crate::check;
use crate::diagnostic::{Diagnostic, Severity, sort};
use crate::{Pipeline, PluginRef};

/// What could be read of a pipeline file. It serves to look for more problems, so that people see
/// all of them at once, and becomes a [`Pipeline`] where there are none.
#[derive(Debug)]
pub struct Draft {
    /// The pipeline, with defaults in place of what is wrong. What it refers to exists.
    pub pipeline: Pipeline,
    /// Errors and warnings.
    pub problems: Vec<Diagnostic>,
    /// For each stage, whether what concerns its plugin could be read.
    pub(crate) plugins: Vec<bool>,
    /// For each source, whether what it reads could be read.
    pub(crate) inputs: Vec<bool>,
}

impl Draft {
    /// Reads a pipeline file. `sets` are as in [`Pipeline::load`].
    ///
    /// # Errors
    /// Why nothing of it can be read: it is not there, or no TOML.
    pub fn load(path: &Path, sets: &[(String, String)]) -> Result<Self, Vec<Diagnostic>> {
        let whole = |message: String, help: &str| {
            vec![Diagnostic {
                severity: Severity::Error,
                file: path.to_owned(),
                at: None,
                set: None,
                path: String::new(),
                message,
                help: Some(help.to_owned()),
                excerpt: None,
            }]
        };
        let bytes = std::fs::read(path).map_err(|e| {
            whole(format!("the pipeline file can't be read: {e}"), "give the path of a TOML file")
        })?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            whole(format!("byte {at} of the file is not UTF-8"), "save the file as UTF-8")
        })?;
        Self::parse(path, &text, sets)
    }

    /// As [`Draft::load`] for a text that was read before; see [`Pipeline::parse`].
    ///
    /// # Errors
    /// Why nothing of it can be read.
    pub fn parse(
        path: &Path,
        text: &str,
        sets: &[(String, String)],
    ) -> Result<Self, Vec<Diagnostic>> {
        check::draft(path, text, sets)
    }

    /// Whether the file has no error.
    pub fn is_sound(&self) -> bool {
        !self.problems.iter().any(Diagnostic::is_error)
    }

    /// Whether the plugin of a stage can be looked at: nothing that it is found, loaded or configured
    /// by is broken.
    pub fn has_plugin(&self, stage: usize) -> bool {
        let is_found = match self.pipeline.stages[stage].plugin {
            PluginRef::File(_) => true,
            PluginRef::Name(_) => !self.problems.iter().any(|p| {
                p.is_error() && (p.path == "engine" || p.path.starts_with("engine.plugins"))
            }),
        };
        is_found && self.plugins[stage]
    }

    /// Whether what a source reads can be looked at.
    pub fn has_input(&self, source: usize) -> bool {
        self.inputs[source]
    }

    /// The pipeline, whose warnings are the problems.
    ///
    /// # Errors
    /// Every problem that was found so far, errors and warnings, in the order of the file, when at
    /// least one is an error.
    pub fn finish(self) -> Result<Pipeline, Vec<Diagnostic>> {
        let (sound, mut problems) = (self.is_sound(), self.problems);
        sort(&mut problems);
        match sound {
            true => Ok(Pipeline { warnings: problems, ..self.pipeline }),
            false => Err(problems),
        }
    }
}
