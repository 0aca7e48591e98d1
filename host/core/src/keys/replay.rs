//! Taking what the changelog has and the store has not applied into memory, after a restart: so the
//! stream goes on before the store has caught up.
//!
//! Invariant: afterwards memory is as if the last epoch before the restart had just ended in this
//! process, with all these changes in it.

use super::Keys;
use crate::row::{Corrupt, Row};

impl Keys {
    /// Begins to take changes in, after [`Keys::start_epoch`] and before anything else.
    pub fn begin_replay(&mut self) {
        debug_assert!(self.is_empty() && self.waiting.is_empty());
        self.applied = self.epoch.saturating_sub(2);
        self.base = self.applied;
    }

    /// Takes a change of a key in: its row, or none where it was removed. Changes come in the order
    /// of the changelog.
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are no row.
    pub fn replay(&mut self, key: &[u8], row: Option<&[u8]>) -> Result<(), Corrupt> {
        let last = self.epoch - 1;
        let (hash, entries) = (self.hash(key), &self.entries);
        let before = self.table.find(hash, |id| *entries[*id as usize].key == *key).copied();
        let Some(row) = row else {
            before.into_iter().for_each(|id| self.remove(id));
            if self.complete {
                self.unnoted = last;
            } else if !self.gone.add(last, hash, key) {
                return Err(Corrupt("fewer than 4 GiB of removed keys"));
            }
            return Ok(());
        };
        let (row, posted) = Row::decode_posted(row)?;
        let id = match before {
            Some(id) => {
                self.change(id, |stored| *stored = row);
                id
            }
            None => self.insert(hash, key, row),
        };
        let dirty = self.relative(last);
        let entry = &mut self.entries[id as usize];
        entry.stored = true;
        entry.dirty = dirty;
        self.post(id, posted);
        Ok(())
    }

    /// Ends what [`Keys::begin_replay`] began.
    pub fn end_replay(&mut self) {
        self.dirty.clear();
        self.unapplied = self.table.len();
        self.waiting.push_back((self.epoch - 1, self.unapplied));
    }

    /// Forgets everything, and goes on from what the store has.
    pub(crate) fn begin_anew(&mut self) {
        let has_maps = self.has_maps;
        let new = Self::new(self.stage, self.cold.clone(), self.budget, self.ttl_ms, has_maps);
        let epoch = self.epoch;
        *self = new;
        self.start_epoch(epoch);
    }
}
