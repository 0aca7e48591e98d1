//! How rows leave memory: what holds nothing, what the store has and nobody uses.
//!
//! Invariant: what leaves is in the store, or was never to be, or is known to be gone.

use super::{Keys, NO_ENTRY};
use crate::change::Changes;
use crate::row::{NEVER, row_key};

/// How many entries the hand passes for each key of a batch when it looks for something to evict,
/// and at least: a third of the rows can go where memory is not pressed, each at the second visit.
const HAND_STEPS: usize = 8;
const LEAST_HAND_STEPS: usize = 1_024;

/// How many entries are looked at before they are written.
const WARM: usize = 256;

impl Keys {
    /// Ends a batch: entries that hold nothing go, those of rows that were written once when the epoch
    /// ends, and what is over the budget is evicted.
    pub fn end_batch(&mut self, ids: &[u32]) {
        for id in ids.iter().filter(|id| **id != NO_ENTRY) {
            let entry = &self.entries[*id as usize];
            if !entry.empty && self.is_nothing(&entry.row) {
                self.entries[*id as usize].empty = true;
                self.empties.push_back(*id);
            }
        }
        if self.pins > 0 {
            return;
        }
        let applied = self.relative(self.applied);
        for _ in 0..2 * ids.len() + 64 {
            let Some(id) = self.empties.pop_front() else { break };
            let entry = &mut self.entries[id as usize];
            let nothing = entry.live && Self::holds_nothing(&entry.row, self.keeps_empty);
            entry.empty = false;
            // Else its removal is to be written, or applied.
            if nothing && (!entry.stored || entry.dirty <= applied) {
                self.remove(id);
            }
        }
        // A whole round for nothing: the hand rests until the store has applied something.
        if self.is_short() && self.may_evict() && self.barren < self.entries.len() {
            self.evict(LEAST_HAND_STEPS.max(HAND_STEPS * ids.len()));
        }
    }

    /// Goes round like the hand of a clock: what was not used since the last time is evicted. What
    /// the store has not applied stays; where nothing else is left, the hand rests until it has.
    fn evict(&mut self, steps: usize) {
        let target = self.budget - self.budget / 8 - self.budget / 32;
        let applied = self.relative(self.applied);
        for _ in 0..steps.min(2 * self.entries.len()) {
            if self.bytes() <= target {
                return;
            }
            self.hand = (self.hand + 1) % self.entries.len();
            let entry = &mut self.entries[self.hand];
            if !entry.live || entry.dirty > applied {
                self.barren += 1;
                continue;
            }
            self.barren = 0;
            if std::mem::take(&mut entry.used) {
                continue;
            }
            let (id, entry) = (self.hand as u32, &self.entries[self.hand]);
            if !self.is_nothing(&entry.row) {
                let places = entry.row.places();
                let indexed = self.indexed(&entry.row, places);
                let posted = self.posted(id, places);
                let passed = |i: usize| posted[i] < indexed[i] && posted[i] <= self.passed[i];
                if (0..3).any(|i| indexed[i] != NEVER && passed(i)) {
                    // The frontier would have to go far back: it is posted anew first.
                    self.change(id, |_| {});
                    self.barren += 1;
                    continue;
                }
                self.complete = false;
                self.evicted.add(entry.hash);
                for i in (0..3).filter(|i| indexed[*i] != NEVER) {
                    if self.frontier[i].as_ref().is_none_or(|(time, _)| *time >= posted[i]) {
                        self.frontier[i] = Some((posted[i], Vec::new()));
                    }
                }
            }
            self.remove(id);
        }
    }

    /// Ends the epoch: adds the rows that changed, and the removals, to `changes`.
    pub fn freeze(&mut self, changes: &mut Changes) {
        let mut changed = 0;
        let epoch = self.relative(self.epoch);
        let dirty = std::mem::take(&mut self.dirty);
        for (i, id) in dirty.iter().copied().enumerate() {
            if i % WARM == 0 {
                self.warm(dirty[i..dirty.len().min(i + WARM)].iter().copied());
            }
            let entry = &self.entries[id as usize];
            // What was never written is not removed; its entry may be another one's by now.
            if !entry.live || entry.dirty != epoch {
                continue;
            }
            if self.is_nothing(&entry.row) {
                self.bury(id, changes);
                continue;
            }
            changed += 1;
            let posted = self.posting(id, entry.row.places());
            let row = |out: &mut Vec<u8>| entry.row.encode_posted(&posted, out);
            changes.add(|out| row_key(self.stage, &entry.key, out), Some(row));
            self.entries[id as usize].stored = true;
            self.post(id, posted);
        }
        self.waiting.push_back((self.epoch, changed));
        self.unapplied += changed;
        self.epoch += 1;
    }

    /// Removes what holds nothing when its epoch ends: of what was written once, the key stays.
    fn bury(&mut self, id: u32, changes: &mut Changes) {
        let entry = &self.entries[id as usize];
        if entry.stored {
            changes.add(|out| row_key(self.stage, &entry.key, out), None::<fn(&mut Vec<u8>)>);
        }
        // An entry whose id is to stay good goes when memory is short.
        if self.pins == 0 && (!entry.stored || self.note_removal(id)) {
            self.remove(id);
        }
    }

    /// Sees to it that a removed row is not read from the store, which has it until it applies the
    /// removal. Returns whether its entry may go.
    fn note_removal(&mut self, id: u32) -> bool {
        // Nobody reads from the store while everything is in memory, and that won't end soon.
        if self.complete && !self.is_short() {
            self.unnoted = self.epoch;
            return true;
        }
        let entry = &self.entries[id as usize];
        self.gone.add(self.epoch, entry.hash, &entry.key)
    }

    /// Whether the row of a key has changed since the store last applied it.
    pub fn is_unapplied(&self, key: &[u8]) -> bool {
        let (hash, entries) = (self.hash(key), &self.entries);
        let found = self.table.find(hash, |id| *entries[*id as usize].key == *key);
        let applied = self.relative(self.applied);
        match found {
            Some(id) => entries[*id as usize].dirty > applied,
            // Where memory has everything, the row of a key that it does not have was removed.
            None => self.complete || self.gone.holds(hash, key),
        }
    }

    /// From now on so many bytes of memory are for the keys. Called between two batches.
    pub fn set_budget(&mut self, bytes: usize) {
        self.budget = bytes;
        self.barren = 0;
        if self.is_full() && self.may_evict() {
            // No batch would do it. What is left waits to be applied, and makes room when it is.
            self.evict(usize::MAX);
        }
    }

    /// The store has applied everything up to this epoch.
    pub fn applied(&mut self, epoch: u64) {
        self.applied = self.applied.max(epoch);
        self.gone.applied(self.applied);
        self.barren = 0;
        while self.waiting.front().is_some_and(|(epoch, _)| *epoch <= self.applied) {
            self.unapplied -= self.waiting.pop_front().map_or(0, |(_, changed)| changed);
        }
        if self.is_full() && self.may_evict() {
            // Nothing is read until there is room: no batch would do it.
            self.evict(usize::MAX);
        }
    }
}
