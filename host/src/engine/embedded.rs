//! A task on the embedded log: where its records, watermarks and changes are appended.

use std::sync::Arc;

use wasmill_abi::WATERMARK_START;
use wasmill_core::change::Changes;
use wasmill_core::flow::Flow;
use wasmill_log::Partition;

use super::Error;
use super::apply::Follower;
use super::feed::Feed;
use super::task::{Outlet, Run, Saved};

/// About how large a record of the changelog gets, in bytes: one of each commit is in memory when many
/// are applied at once.
const PACK_BYTES: usize = 128 << 10;

/// A way out: the partitions of its topic, and the task's number as a producer.
pub(super) struct Out {
    pub(super) partitions: Arc<Vec<Partition>>,
    pub(super) producer: u32,
}

/// What a task appends to.
pub(super) struct LogOutlet {
    pub(super) outs: Vec<Out>,
    pub(super) epoch: u64,
}

impl Outlet for LogOutlet {
    fn append(&mut self, edge: usize, partition: u32, flow: Flow) -> Result<(), Error> {
        let out = &self.outs[edge];
        let Flow { timestamps, clocks, keys, values, headers, .. } = flow;
        let records = wasmill_log::Records { timestamps, clocks, keys, values, headers };
        out.partitions[partition as usize].append(self.epoch, out.producer, records)?;
        Ok(())
    }

    fn mark(&mut self, edge: usize, watermark: i64, idle: bool) -> Result<(), Error> {
        let out = &self.outs[edge];
        for partition in out.partitions.iter() {
            partition.append_watermark(self.epoch, out.producer, watermark, idle)?;
        }
        Ok(())
    }
}

/// A task with its changelog and state file, where it has state.
pub(super) struct LogTask {
    pub(super) run: Run<Box<dyn Feed + Send>, LogOutlet>,
    pub(super) follower: Option<Follower>,
    /// How many applications of state it has taken note of.
    pub(super) applications: u64,
}

impl LogTask {
    /// Brings its state to where the last commit was. Returns how many bytes of changes it took into
    /// memory for that.
    pub(super) fn replay(&mut self) -> Result<u64, Error> {
        self.follower.as_ref().map_or(Ok(0), |follower| follower.replay(&mut self.run.task))
    }

    /// Ends the epoch: appends what has changed to the changelog, and returns where the task stands and
    /// how many bytes of changes these were. `changes` lend their room.
    pub(super) fn freeze(&mut self, changes: &mut Changes) -> Result<(Saved, u64), Error> {
        let saved = self.run.freeze(changes)?;
        let epoch = self.run.outlet.epoch;
        self.run.outlet.epoch += 1;
        let follower = self.follower.as_ref();
        let bytes = follower.map_or(Ok(0), |f| write_changes(&f.changelog, epoch, changes))?;
        Ok((saved, bytes))
    }
}

/// Returns how many bytes were written.
fn write_changes(changelog: &Partition, epoch: u64, changes: &Changes) -> Result<u64, Error> {
    let mut bytes = 0;
    for pack in changes.packs(PACK_BYTES) {
        let records = wasmill_log::Records {
            timestamps: vec![0],
            clocks: vec![WATERMARK_START],
            keys: std::iter::once(&b"pack"[..]).collect(),
            values: std::iter::once(pack.as_slice()).collect(),
            headers: None,
        };
        bytes += pack.len() as u64;
        changelog.append(epoch, 0, records)?;
    }
    Ok(bytes)
}
