//! What is due, in memory and in the store.
//!
//! Invariant: after [`Keys::horizon`] every row that is due by then is in memory.

use super::Keys;
use crate::row::{NEVER, Places};
use crate::store::{self, Index};

/// How many keys are read from a time index of the store at once.
const PAGE: usize = 4_096;
/// What it costs that a row is posted before its place, in bytes.
const EARLIER_BYTES: usize = 2 * (size_of::<((u32, u8), i64)>() + 1);

impl Keys {
    /// A row moves away from what it is posted under; if it had before, that stays known.
    pub(super) fn note_posted(&mut self, id: u32, index: usize, posted: i64) {
        if let hashbrown::hash_map::Entry::Vacant(vacant) = self.earlier.entry((id, index as u8)) {
            vacant.insert(posted);
            self.bytes += EARLIER_BYTES;
        }
    }

    /// Keeps what a row is posted under, where that is not its place.
    pub(super) fn post(&mut self, id: u32, posted: Places) {
        let places = self.entries[id as usize].row.places();
        for (i, posted) in posted.into_iter().enumerate() {
            if posted == places[i] {
                self.unpost(id, i);
            } else if self.earlier.insert((id, i as u8), posted).is_none() {
                self.bytes += EARLIER_BYTES;
            }
        }
    }

    pub(super) fn unpost(&mut self, id: u32, index: usize) {
        if !self.earlier.is_empty() && self.earlier.remove(&(id, index as u8)).is_some() {
            self.bytes -= EARLIER_BYTES;
        }
    }

    /// What a row with these places is posted under.
    pub(super) fn posted(&self, id: u32, mut places: Places) -> Places {
        if self.earlier.is_empty() {
            return places;
        }
        for (i, place) in places.iter_mut().enumerate().filter(|(_, place)| **place != NEVER) {
            *place = self.earlier.get(&(id, i as u8)).copied().unwrap_or(*place);
        }
        places
    }

    /// What a row is to be posted under: as before where that is not too late and not passed, so
    /// that the store has nothing to do; otherwise under its place.
    pub(super) fn posting(&self, id: u32, places: Places) -> Places {
        let before = self.posted(id, places);
        std::array::from_fn(|i| {
            let stays = before[i] <= places[i] && before[i] > self.passed[i];
            if stays { before[i] } else { places[i] }
        })
    }

    /// The furthest that an index may be advanced towards `until` so that about `n` keys are due:
    /// `until` itself when there are fewer. Afterwards every key that is due by then is in memory.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn horizon(&mut self, index: Index, until: i64, n: usize) -> Result<i64, store::Error> {
        let bound = self.read_due(index, until, n)?;
        let passed = &mut self.passed[index as usize];
        *passed = bound.max(*passed);
        Ok(bound)
    }

    fn read_due(&mut self, index: Index, until: i64, n: usize) -> Result<i64, store::Error> {
        let i = index as usize;
        loop {
            let nth = match self.times[i].first() {
                Some((time, _)) if *time <= until => {
                    self.times[i].iter().nth(n.max(1) - 1).map_or(until, |(time, _)| *time)
                }
                _ => until,
            };
            let bound = nth.min(until);
            match &self.frontier[i] {
                Some((time, _)) if *time <= bound => {}
                _ => return Ok(bound),
            }
            let after = self.frontier[i].take();
            let page = self.cold.due(index, self.stage, after.as_ref(), until, PAGE.max(n))?;
            let full = page.len() == PAGE.max(n);
            self.frontier[i] = match page.last() {
                Some(last) if full => Some(last.clone()),
                _ if until < NEVER - 1 => Some((until + 1, Vec::new())),
                _ => None,
            };
            for (_, key) in page {
                self.find(self.hash(&key), &key)?;
            }
        }
    }

    /// A time before which no key is due by an index, and at which one may be; `None` when none is ever
    /// due. Keys that are not in memory count by what they are posted under.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn next(&mut self, index: Index, now: i64) -> Result<Option<i64>, store::Error> {
        let frontier = &mut self.frontier[index as usize];
        if let Some(after) = frontier.as_ref().filter(|(time, _)| *time <= now) {
            // What was read up to now lies behind it: it goes on to what the store has next.
            let page = self.cold.due(index, self.stage, Some(after), NEVER - 1, 1)?;
            *frontier = page.into_iter().next().map(|(time, _)| (time, Vec::new()));
        }
        let stored = frontier.as_ref().map(|(time, _)| *time);
        Ok(self.first(index).into_iter().chain(stored).min())
    }

    /// At most `limit` keys that are due at `until` by an index and not in the batch yet, by time.
    pub fn due(&self, index: Index, until: i64, limit: usize) -> Vec<u32> {
        let mut due = Vec::new();
        for (time, id) in &self.times[index as usize] {
            if *time > until || due.len() >= limit {
                break;
            }
            if self.entries[*id as usize].batch != self.batch {
                due.push(*id);
            }
        }
        due
    }

    /// The earliest place in an index, as far as memory knows; `None` for none.
    fn first(&self, index: Index) -> Option<i64> {
        self.times[index as usize].first().map(|(time, _)| *time)
    }
}
