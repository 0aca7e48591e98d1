//! Writing state again that has not changed, so that the beginning of a changelog can be dropped.
//!
//! Invariant: what a walk leaves out was changed after it began, so the changelog has it behind the
//! walk's beginning.

use super::{Stage, Task};
use crate::change::Changes;
use crate::row::{self, Name};
use crate::store::{self, Cold};

/// How many entries are read at a time.
const PAGE: usize = 1_024;

impl Task {
    /// Adds entries of the store to `changes`, from the store key `from` on, about `bytes` of them, as
    /// they are in the store. Those that have changed since are left out. Returns where to go on, or
    /// none when all have been gone through. The changes must be sorted afterwards.
    ///
    /// The store must have applied everything that was frozen before the walk began.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn rewrite(
        &mut self,
        cold: &dyn Cold,
        from: &[u8],
        bytes: usize,
        changes: &mut Changes,
    ) -> Result<Option<Vec<u8>>, store::Error> {
        let mut from = from.to_vec();
        let mut written = 0;
        loop {
            let page = cold.scan(&from, &[0xff; 3], PAGE, false)?;
            let full = page.len() == PAGE;
            let Some((last, _)) = page.last() else { return Ok(None) };
            from = [last.as_slice(), &[0]].concat();
            for (key, value) in &page {
                if !self.is_unapplied(key)? {
                    changes.put(key, Some(value));
                    written += key.len() + value.len();
                }
            }
            if !full {
                return Ok(None);
            }
            if written >= bytes {
                return Ok(Some(from));
            }
        }
    }

    fn is_unapplied(&mut self, store_key: &[u8]) -> Result<bool, store::Error> {
        let name = row::name(store_key)?;
        let of = |stage: u16| stage as usize;
        Ok(match name {
            Name::Row { stage, key } => match self.nodes.get(of(stage)) {
                Some(Some(Stage::Keyed(stage))) => stage.keys.is_unapplied(key),
                _ => false,
            },
            Name::Map { stage, .. } => match self.nodes.get_mut(of(stage)) {
                Some(Some(Stage::Keyed(stage))) => stage.maps().is_unapplied(store_key),
                _ => false,
            },
        })
    }
}
