//! What a plugin asks of the host: counted between the engine and the plugin.
//!
//! Invariant: what passes is not changed.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmill_abi::maps::{Entries, Range};
use wasmill_abi::{Column, KeyedBatch, KeyedReply, MapError, Maps};
use wasmill_core::operator::{CallError, Common, Keyed, MapAccess};

/// What a keyed plugin has asked of the host so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Timers that were set or moved beyond the batch; those that ran within it cost nothing.
    pub timers_set: u64,
    /// Calls that read entries of map state, one entry or many at a time; scans are not among them.
    pub map_reads: u64,
}

/// The counts of a plugin, shared by the harness and the operator.
#[derive(Debug, Default)]
pub(super) struct Counts {
    timers_set: AtomicU64,
    map_reads: AtomicU64,
}

impl Counts {
    pub(super) fn usage(&self) -> Usage {
        Usage {
            timers_set: self.timers_set.load(Ordering::Relaxed),
            map_reads: self.map_reads.load(Ordering::Relaxed),
        }
    }
}

/// An operator whose calls are counted.
pub(super) struct Counted {
    pub(super) operator: Box<dyn Keyed>,
    pub(super) counts: Arc<Counts>,
}

impl Common for Counted {
    fn reset(&mut self) -> Result<(), String> {
        self.operator.reset()
    }
    fn digest(&self) -> &str {
        self.operator.digest()
    }
    fn plugin(&self) -> &str {
        self.operator.plugin()
    }
    fn wants_headers(&self) -> bool {
        self.operator.wants_headers()
    }
    fn wants_origins(&self) -> bool {
        self.operator.wants_origins()
    }
}

impl Keyed for Counted {
    fn process(
        &mut self,
        batch: &KeyedBatch,
        maps: Box<dyn MapAccess>,
    ) -> (Result<KeyedReply, CallError>, Box<dyn MapAccess>) {
        let maps = CountedMaps { maps, counts: self.counts.clone() };
        let (result, maps) = self.operator.process(batch, Box::new(maps));
        if let Ok(reply) = &result {
            let set = reply.timers.set.slots.len() as u64;
            self.counts.timers_set.fetch_add(set, Ordering::Relaxed);
        }
        let maps: Box<CountedMaps> =
            maps.into_any().downcast().expect("an operator gives back the access it was given");
        (result, maps.maps)
    }

    fn migrate(&mut self, old_version: u32, states: &Column) -> Result<Column, CallError> {
        self.operator.migrate(old_version, states)
    }
    fn state_version(&self) -> u32 {
        self.operator.state_version()
    }
    fn reads_state_versions(&self) -> &[u32] {
        self.operator.reads_state_versions()
    }
    fn maps(&self) -> u16 {
        self.operator.maps()
    }
}

struct CountedMaps {
    maps: Box<dyn MapAccess>,
    counts: Arc<Counts>,
}

impl Maps for CountedMaps {
    fn get(&mut self, map: u16, slots: &[u32], keys: &Column) -> Result<Column, MapError> {
        self.counts.map_reads.fetch_add(1, Ordering::Relaxed);
        self.maps.get(map, slots, keys)
    }

    fn put(
        &mut self,
        map: u16,
        slots: &[u32],
        keys: &Column,
        values: &Column,
    ) -> Result<(), MapError> {
        self.maps.put(map, slots, keys, values)
    }

    fn delete_range(&mut self, map: u16, slot: u32, range: &Range) -> Result<(), MapError> {
        self.maps.delete_range(map, slot, range)
    }

    fn scan(
        &mut self,
        map: u16,
        slot: u32,
        range: &Range,
        limit: u32,
        descending: bool,
    ) -> Result<Entries, MapError> {
        self.maps.scan(map, slot, range, limit, descending)
    }
}

impl MapAccess for CountedMaps {
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}
