//! What a plugin says of itself and how it is set up.

/// What an output does to a property of the records that pass through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Treatment {
    /// Each emission has the property as its source record has it.
    #[default]
    Kept,
    /// The plugin may set it anew.
    Assigned,
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InputPort {
    /// kebab-case, unique among the inputs.
    pub name: String,
    /// One sentence.
    pub summary: String,
}

/// One output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutputPort {
    /// kebab-case, unique among the outputs.
    pub name: String,
    /// One sentence.
    pub summary: String,
    /// Whether emissions may have another key than their source record.
    pub key: Treatment,
    /// Whether this output gives records their event time for the first time.
    pub event_time: Treatment,
}

/// The inputs and outputs in effect; the first of each is the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ports {
    /// The inputs, at most 64.
    pub inputs: Vec<InputPort>,
    /// The outputs, at most 64.
    pub outputs: Vec<OutputPort>,
}

/// What a plugin says of itself, before it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// kebab-case.
    pub name: String,
    /// A semantic version.
    pub version: String,
    /// One sentence.
    pub summary: String,
    /// The ports, as far as they don't depend on the configuration.
    pub ports: Ports,
    /// A JSON Schema of the configuration; empty when any object is taken.
    pub config_schema: String,
    /// The version of the value state that is written, from 1; 0 for stateless plugins.
    pub state_version: u32,
    /// Older versions that can be migrated.
    pub reads_state_versions: Vec<u32>,
    /// The names of the map states.
    pub maps: Vec<String>,
    /// Whether batches carry headers.
    pub wants_headers: bool,
    /// Whether batches carry origins.
    pub wants_origins: bool,
}

/// Where an instance runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Context {
    /// The pipeline's name.
    pub pipeline: String,
    /// The stage's name within it.
    pub stage: String,
}

/// A file that the pipeline hands to the plugin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resource {
    /// The name it has in the stage's `resources` table.
    pub name: String,
    /// The base name of the file that it was read from.
    pub file_name: String,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigError {
    /// A dotted path within the configuration; empty for the whole.
    pub path: String,
    /// What was found, what was expected, what to do.
    pub message: String,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

impl std::error::Error for ConfigError {}

/// Why a whole call failed: nothing of it takes effect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    /// What went wrong, for a person.
    pub message: String,
}
