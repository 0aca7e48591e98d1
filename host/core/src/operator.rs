//! What a stage runs: a component, or the same plugin compiled natively.

use wasmill_abi::{Column, KeyedBatch, KeyedReply, Maps, StatelessBatch, StatelessReply};

/// What kind of failure a call ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The plugin trapped or panicked.
    Trap,
    /// It ran longer than `batch-time`.
    Timeout,
    /// It asked for more memory than `memory`.
    Memory,
    /// It used up its stack.
    Stack,
    /// Its reply breaks the ABI.
    MalformedReply,
    /// It passed a limit on output, state, timers or map writes.
    Limit,
    /// It said itself that the call failed.
    Failed,
}

impl FailureKind {
    /// The name in headers, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::MalformedReply => "malformed-reply",
            Self::Limit => "limit",
            Self::Failed => "failed",
        }
    }
}

/// A failed call: nothing of it takes effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", kind.name())]
pub struct CallError {
    /// What kind of failure.
    pub kind: FailureKind,
    /// What happened, for a person; names the plugin.
    pub message: String,
}

impl CallError {
    /// A call error.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The same error, naming the plugin whose reply was checked.
    pub(crate) fn of(mut self, plugin: &str) -> Self {
        self.message = format!("plugin {plugin}: {}", self.message);
        self
    }
}

/// What every operator offers.
pub trait Common: Send {
    /// Makes the operator usable again after a failed call: a component is instantiated anew.
    ///
    /// # Errors
    /// A sentence when that is not possible; the task then stops.
    fn reset(&mut self) -> Result<(), String>;

    /// The content address of the plugin's code, for dead letters.
    fn digest(&self) -> &str;

    /// The plugin's name and version, for dead letters.
    fn plugin(&self) -> &str;

    /// Whether batches are to carry headers.
    fn wants_headers(&self) -> bool {
        false
    }

    /// Whether batches are to carry origins.
    fn wants_origins(&self) -> bool {
        false
    }
}

/// An operator without state.
pub trait Stateless: Common {
    /// Processes a batch.
    ///
    /// # Errors
    /// [`CallError`]: the reply, if any, is dropped.
    fn process(&mut self, batch: &StatelessBatch) -> Result<StatelessReply, CallError>;
}

/// An operator with state and timers per key.
pub trait Keyed: Common {
    /// Processes a batch. `maps` is moved in and comes back whatever happens.
    ///
    /// # Errors
    /// [`CallError`]: the reply, if any, is dropped.
    fn process(
        &mut self,
        batch: &KeyedBatch,
        maps: Box<dyn MapAccess>,
    ) -> (Result<KeyedReply, CallError>, Box<dyn MapAccess>);

    /// Migrates states of an older version.
    ///
    /// # Errors
    /// [`CallError`].
    fn migrate(&mut self, old_version: u32, states: &Column) -> Result<Column, CallError>;

    /// The version of the states it writes.
    fn state_version(&self) -> u32;

    /// The older versions it can migrate.
    fn reads_state_versions(&self) -> &[u32];

    /// The number of its map states.
    fn maps(&self) -> u16;
}

/// The map state of one call: [`Maps`] that can be handed to another thread's guest and given back.
pub trait MapAccess: Maps + Send {
    /// Gives the access back to its owner.
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any + Send>;
}

/// The operator of a stage.
pub enum Operator {
    /// Without state.
    Stateless(Box<dyn Stateless>),
    /// With state and timers per key.
    Keyed(Box<dyn Keyed>),
}

impl Operator {
    /// What both kinds offer.
    pub fn common(&mut self) -> &mut dyn Common {
        match self {
            Self::Stateless(o) => o.as_mut(),
            Self::Keyed(o) => o.as_mut(),
        }
    }
}
