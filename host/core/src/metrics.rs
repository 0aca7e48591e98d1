//! What a stage has counted since its task was opened.

use std::ops::AddAssign;

/// Counts of records of one stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stage {
    /// Records that reached the stage.
    pub records_in: u64,
    /// Records that it emitted.
    pub records_out: u64,
    /// Rejected as malformed, and poison records: dead letter queue.
    pub dead: u64,
    /// Rejected as invalid: invalid message channel.
    pub invalid: u64,
    /// Rejected as late.
    pub late: u64,
    /// Rejected as expired, by the plugin or by `max-age`.
    pub expired: u64,
    /// Records and timers, among `dead`, that made the plugin fail.
    pub poison: u64,
    /// Calls that failed: each poison record takes several to find.
    pub failed_calls: u64,
    /// Calls of the plugin.
    pub calls: u64,
    /// Timers that ran.
    pub timers: u64,
}

impl AddAssign for Stage {
    fn add_assign(&mut self, o: Self) {
        self.records_in += o.records_in;
        self.records_out += o.records_out;
        self.dead += o.dead;
        self.invalid += o.invalid;
        self.late += o.late;
        self.expired += o.expired;
        self.poison += o.poison;
        self.failed_calls += o.failed_calls;
        self.calls += o.calls;
        self.timers += o.timers;
    }
}
