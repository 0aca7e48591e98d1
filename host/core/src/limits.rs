//! What a plugin may use. Each limit has a name, a unit and a default; the pipeline file can set it.

/// The limits of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes that one reply may hold, over all its columns. `output`, default 64 MiB.
    pub output_bytes: usize,
    /// Most bytes of one key's value state. `state`, default 1 MiB.
    pub state_bytes: usize,
    /// Most timers that one key may have set. `timers`, default 1,000.
    pub timers: usize,
    /// Most bytes that one call may write into map state. `map-write`, default 64 MiB.
    pub map_write_bytes: usize,
    /// Most bytes of one rejection's reason; what is over is cut off. 4 KiB.
    pub reason_bytes: usize,
    /// Most records and due keys of one call. `batch-records`, default 1,000.
    pub batch_records: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            output_bytes: 64 << 20,
            state_bytes: 1 << 20,
            timers: 1_000,
            map_write_bytes: 64 << 20,
            reason_bytes: 4 << 10,
            batch_records: 1_000,
        }
    }
}
