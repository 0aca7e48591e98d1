//! The keys of a stage that are in memory: their rows, their place in time, and what must still be
//! written.
//!
//! Invariant: a row that the store has not applied yet is never evicted, so a lookup that misses
//! memory finds the truth in the store. Of a row that was removed only the key stays until then, and
//! while every row is in memory, not even that: nobody asks the store then, and the first eviction
//! waits until the store has applied such removals.
//!
//! For each index there is a frontier. Invariant: every row that is posted before the frontier is in
//! memory. It holds because
//! - a row is posted at or before its place ([`Places`]), so whoever has read all postings up to a
//!   time has all rows that are due by then;
//! - what is read from the store up to the frontier is put into memory;
//! - when a row is evicted, the frontier goes back to what it is posted under.
//!
//! What a row is posted under is decided here, when an epoch ends, and written with it: where it was
//! posted before, so that a timer that moves on with every record costs the store nothing; under its
//! place, where that would be too late, or where time has passed it, so that the frontier would have
//! to go back far. For that reason a row that time has passed like that is not evicted either: it is
//! written again first.

mod leave;
mod replay;
mod time;

use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{HashMap, HashTable};
use wasmill_abi::Column;

use crate::filter::Filter;
use crate::gone::Gone;
use crate::row::{NEVER, Places, Row, UNDATED, row_key};
use crate::slab::Slab;
use crate::store::{self, Cold, Index};

/// What an entry costs besides its key and value, in bytes: itself, its place in the table (8, which
/// is partly empty) and in a time index (32, in a tree that grows at one end), and what an allocator
/// adds to key and value (16).
const ENTRY_BYTES: usize = size_of::<Entry>() + 56;

/// How many bytes a processor reads from memory at once.
const CACHE_LINE: usize = 64;
/// How many bytes of a value are looked at beforehand at most: the processor reads on by itself, and a
/// key may occur in every record of a batch.
const LOOKED_AT: usize = 256;

/// What stands for the entry of a key that has none.
pub const NO_ENTRY: u32 = u32::MAX;

/// A key in memory.
#[derive(Debug)]
pub struct Entry {
    hash: u64,
    /// The key.
    pub key: Box<[u8]>,
    /// Its row.
    pub row: Row,
    /// The epoch that changed it last, see [`Keys::relative`]; 0 for none.
    dirty: u32,
    /// The batch that it belongs to, and its slot in it.
    batch: u32,
    slot: u32,
    /// Whether it was used since the eviction hand last passed.
    used: bool,
    live: bool,
    /// Whether it waits among those that held nothing.
    empty: bool,
    /// Whether a row of it was loaded, or written by an epoch that has ended.
    stored: bool,
}

/// The keys of one stage of one task.
pub struct Keys {
    stage: u16,
    cold: Arc<dyn Cold>,
    /// Whether every key that exists is in memory.
    complete: bool,
    entries: Slab<Entry>,
    free: Vec<u32>,
    table: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    /// Keys that have no entry because their rows were removed, though the store may have them still.
    gone: Gone,
    /// The last epoch with removals that are not among the keys that are gone.
    unnoted: u64,
    /// The keys of the batch that have no entry: hash and slot.
    fresh: HashTable<(u64, u32)>,
    times: [BTreeSet<(i64, u32)>; 3],
    /// Every key that is posted in the store's index at or before this is in memory; none: all are.
    frontier: [Option<(i64, Vec<u8>)>; 3],
    /// The times up to which it was asked what is due.
    passed: Places,
    /// What rows are posted under in an index by their last epoch that has ended, where that is not
    /// their place. Of a row that no epoch has ended for, a place that it had.
    earlier: HashMap<(u32, u8), i64, foldhash::fast::RandomState>,
    dirty: Vec<u32>,
    /// How many rows changed in each epoch that the store has not applied, and in all of them.
    waiting: VecDeque<(u64, usize)>,
    unapplied: usize,
    epoch: u64,
    applied: u64,
    /// The last epoch before this process.
    base: u64,
    batch: u32,
    bytes: usize,
    /// What the stage's map state takes of the budget, all of which waits to be applied.
    map_bytes: usize,
    budget: usize,
    hand: usize,
    /// How many want every entry to stay.
    pins: u32,
    /// Entries that held nothing when their batch ended, the oldest first.
    empties: VecDeque<u32>,
    /// How many entries the hand has passed since it last found one that may go.
    barren: usize,
    /// The keys that the store may hold and memory does not.
    evicted: Filter,
    ttl_ms: Option<i64>,
    has_maps: bool,
    /// Whether a row without value and timers is kept, because it dates map state.
    keeps_empty: bool,
}

impl Keys {
    /// The keys of a stage: `budget` bytes of memory for them, of which rows that the store has not
    /// applied may take more.
    pub fn new(
        stage: u16,
        cold: Arc<dyn Cold>,
        budget: usize,
        ttl_ms: Option<i64>,
        has_maps: bool,
    ) -> Self {
        let complete = cold.is_empty();
        let hasher = foldhash::fast::RandomState::default();
        let start = || if complete { None } else { Some((i64::MIN, Vec::new())) };
        Self {
            stage,
            cold,
            complete,
            entries: Slab::new(),
            free: Vec::new(),
            table: HashTable::new(),
            gone: Gone::new(hasher.clone()),
            unnoted: 0,
            hasher,
            fresh: HashTable::new(),
            times: Default::default(),
            frontier: [start(), start(), start()],
            passed: [i64::MIN; 3],
            earlier: HashMap::default(),
            dirty: Vec::new(),
            waiting: VecDeque::new(),
            unapplied: 0,
            epoch: 1,
            applied: 0,
            base: 0,
            batch: 0,
            bytes: 0,
            map_bytes: 0,
            budget,
            hand: 0,
            pins: 0,
            empties: VecDeque::new(),
            barren: 0,
            evicted: if complete { Filter::empty() } else { Filter::all() },
            ttl_ms,
            has_maps,
            keeps_empty: ttl_ms.is_some() && has_maps,
        }
    }

    /// The epoch that changes belong to now.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Continues the numbering of epochs after a restart.
    pub fn start_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.applied = epoch.saturating_sub(1);
        self.base = self.applied;
    }

    /// An epoch of this process, as entries note it.
    fn relative(&self, epoch: u64) -> u32 {
        let since = epoch.saturating_sub(self.base);
        u32::try_from(since)
            .expect("a process makes fewer than 2^32 commits: ten a second for 13 years")
    }

    /// Bytes in memory, about, with the stage's map state.
    pub fn bytes(&self) -> usize {
        self.bytes + self.gone.bytes() + self.map_bytes
    }

    /// So many bytes of the budget are taken by the stage's map state now.
    pub fn set_map_bytes(&mut self, bytes: usize) {
        self.map_bytes = bytes;
    }

    /// The number of keys in memory.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no key is in memory.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether memory is over its budget by so much that the store should apply what waits for it.
    pub fn is_pressed(&self) -> bool {
        let rows = self.unapplied + self.dirty.len();
        let waiting = rows.saturating_mul(self.bytes / self.table.len().max(1))
            + self.gone.bytes()
            + self.map_bytes;
        let waits = waiting > self.budget / 8 * 5 || !self.may_evict();
        self.is_full() || (self.is_short() && waits)
    }

    /// Whether the store can be asked about keys that are not in memory: it has applied every removal
    /// that memory knows nothing of.
    fn may_evict(&self) -> bool {
        self.unnoted <= self.applied
    }

    /// Whether so much is in memory that some of it should go.
    fn is_short(&self) -> bool {
        self.bytes() > self.budget - self.budget / 8
    }

    /// Whether memory is full: no more should be read until the store has caught up.
    pub fn is_full(&self) -> bool {
        self.bytes() > self.budget
    }

    /// The time to live of state, in ms of event time.
    pub fn ttl_ms(&self) -> Option<i64> {
        self.ttl_ms
    }

    /// Begins a batch: no key is in it yet.
    pub fn begin(&mut self) {
        self.batch = self.batch.wrapping_add(1);
        if self.batch == 0 {
            // The numbers begin again: none of the old ones may be taken for a new one.
            self.batch = 1;
            (0..self.entries.len()).for_each(|id| self.entries[id].batch = 0);
        }
        self.fresh.clear();
    }

    /// The hash of a key, for [`Keys::find`] and [`Keys::join_new`].
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Hashes of keys, and the entries that these keys have in memory if no other key has the same
    /// hash, else [`NO_ENTRY`]. For [`Keys::find_sought`], which then knows where to look.
    ///
    /// With many keys, most of the time goes by waiting for memory. Here nothing depends on anything
    /// before it, so that the processor waits for many keys at once; what they hold is asked for too,
    /// and how many bytes were is the second thing that is returned.
    pub fn seek<'k>(
        &self,
        keys: impl ExactSizeIterator<Item = &'k [u8]>,
    ) -> (Vec<(u64, u32)>, usize) {
        let mut sought: Vec<_> = keys.map(|key| (self.hash(key), NO_ENTRY)).collect();
        let entries = &self.entries;
        for (hash, id) in &mut sought {
            let found = self.table.find(*hash, |id| entries[*id as usize].hash == *hash);
            *id = found.copied().unwrap_or(NO_ENTRY);
        }
        let bytes = self.warm(sought.iter().map(|(_, id)| *id));
        (sought, bytes)
    }

    /// Looks at what entries hold, so that it is at hand when it is needed: at many of them at once,
    /// as nothing depends on anything before it. Returns how many bytes their values have, of each
    /// [`LOOKED_AT`] at most.
    pub(crate) fn warm(&self, ids: impl Iterator<Item = u32>) -> usize {
        let (mut looked, mut bytes) = (0, 0);
        for id in ids.filter(|id| *id != NO_ENTRY) {
            let entry = &self.entries[id as usize];
            looked ^= entry.key.first().copied().unwrap_or_default();
            let Some(value) = &entry.row.value else { continue };
            let value = &value[..value.len().min(LOOKED_AT)];
            bytes += value.len();
            looked ^= value.iter().step_by(CACHE_LINE).fold(0, |all, byte| all ^ byte);
        }
        // It is of no use but that it was looked at.
        std::hint::black_box(looked);
        bytes
    }

    /// The entry of a key, loaded from the store if need be; none for a key that holds nothing and
    /// has no entry. [`Keys::make`] gives it one.
    ///
    /// `hash` and `sought` are what [`Keys::seek`] found, in the same batch.
    ///
    /// # Errors
    /// When the store can't be read.
    #[inline]
    pub fn find_sought(
        &mut self,
        (hash, sought): (u64, u32),
        key: &[u8],
    ) -> Result<Option<u32>, store::Error> {
        if sought != NO_ENTRY && *self.entries[sought as usize].key == *key {
            return Ok(Some(sought));
        }
        self.find(hash, key)
    }

    /// As [`Keys::find_sought`], without having sought.
    ///
    /// # Errors
    /// When the store can't be read.
    #[inline]
    pub fn find(&mut self, hash: u64, key: &[u8]) -> Result<Option<u32>, store::Error> {
        let entries = &self.entries;
        if let Some(id) = self.table.find(hash, |id| *entries[*id as usize].key == *key) {
            return Ok(Some(*id));
        }
        if self.complete || !self.evicted.may_hold(hash) || self.gone.holds(hash, key) {
            return Ok(None);
        }
        self.load(hash, key)
    }

    /// Gives a key that has none an entry that holds nothing.
    pub fn make(&mut self, key: &[u8]) -> u32 {
        self.insert(self.hash(key), key, Row::default())
    }

    /// The slot in the batch of a key without entry; it joins with `next` if it is not in it yet.
    /// `keys` are those of the batch, by slot. The second value says whether it joined.
    #[inline]
    pub fn join_new(&mut self, hash: u64, key: &[u8], keys: &Column, next: u32) -> (u32, bool) {
        let found = self.fresh.find(hash, |(_, slot)| keys.bytes(*slot as usize) == key);
        if let Some((_, slot)) = found {
            return (*slot, false);
        }
        self.fresh.insert_unique(hash, (hash, next), |(hash, _)| *hash);
        (next, true)
    }

    /// The slot of an entry in the batch; it joins with `next` if it is not in it yet. The second
    /// value says whether it joined.
    #[inline]
    pub fn join(&mut self, id: u32, next: u32) -> (u32, bool) {
        let entry = &mut self.entries[id as usize];
        if entry.batch == self.batch {
            return (entry.slot, false);
        }
        entry.batch = self.batch;
        entry.slot = next;
        entry.used = true;
        (next, true)
    }

    /// An entry.
    #[inline]
    pub fn entry(&self, id: u32) -> &Entry {
        &self.entries[id as usize]
    }

    #[cold]
    fn load(&mut self, hash: u64, key: &[u8]) -> Result<Option<u32>, store::Error> {
        let mut name = Vec::with_capacity(3 + key.len());
        row_key(self.stage, key, &mut name);
        let Some(bytes) = self.cold.get(&name)? else { return Ok(None) };
        let (row, posted) = Row::decode_posted(&bytes)?;
        let id = self.insert(hash, key, row);
        self.entries[id as usize].stored = true;
        self.post(id, posted);
        Ok(Some(id))
    }

    fn insert(&mut self, hash: u64, key: &[u8], row: Row) -> u32 {
        let next = self.indexed(&row, row.places());
        self.bytes += cost(key, &row);
        let entry = Entry {
            hash,
            key: key.into(),
            row,
            dirty: 0,
            batch: 0,
            slot: 0,
            used: true,
            live: true,
            empty: false,
            stored: false,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = entry;
                id
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        for (times, time) in self.times.iter_mut().zip(next) {
            if time != NEVER {
                times.insert((time, id));
            }
        }
        let entries = &self.entries;
        self.table.insert_unique(hash, id, |id| entries[*id as usize].hash);
        id
    }

    /// Those of a row's places that count in memory: state expires where it exists and the stage has
    /// a time to live. A row from before that is undated; its first touch dates it.
    fn indexed(&self, row: &Row, mut places: Places) -> Places {
        let exists = row.value.is_some() || self.keeps_empty;
        if self.ttl_ms.is_none() || !exists {
            places[Index::Touched as usize] = NEVER;
        }
        places
    }

    /// Changes a row, and keeps the books: memory, time indexes, what must be written.
    #[inline]
    pub fn change(&mut self, id: u32, change: impl FnOnce(&mut Row)) {
        let row = &self.entries[id as usize].row;
        let places = row.places();
        let old = self.indexed(row, places);
        let epoch = self.relative(self.epoch);
        let entry = &mut self.entries[id as usize];
        let before = cost(&entry.key, &entry.row);
        change(&mut entry.row);
        self.bytes = self.bytes + cost(&entry.key, &entry.row) - before;
        if entry.dirty != epoch {
            entry.dirty = epoch;
            self.dirty.push(id);
        }
        let row = &self.entries[id as usize].row;
        let now = row.places();
        let next = self.indexed(row, now);
        if places != now {
            for i in (0..3).filter(|i| places[*i] < now[*i] && now[*i] != NEVER) {
                self.note_posted(id, i, places[i]);
            }
        }
        if old != next {
            for i in 0..3 {
                if old[i] == next[i] {
                    continue;
                }
                if old[i] != NEVER {
                    self.times[i].remove(&(old[i], id));
                }
                if next[i] != NEVER {
                    self.times[i].insert((next[i], id));
                }
            }
        }
    }

    fn is_nothing(&self, row: &Row) -> bool {
        Self::holds_nothing(row, self.keeps_empty)
    }

    fn holds_nothing(row: &Row, keeps_empty: bool) -> bool {
        row.value.is_none() && row.timers.is_empty() && (!keeps_empty || row.touched == UNDATED)
    }

    /// Until [`Keys::unpin`] no entry goes away: its id stays good beyond the end of a batch.
    pub fn pin(&mut self) {
        self.pins += 1;
    }

    /// Takes one [`Keys::pin`] back.
    pub fn unpin(&mut self) {
        self.pins -= 1;
    }

    fn remove(&mut self, id: u32) {
        (0..3).for_each(|i| self.unpost(id, i));
        let row = &self.entries[id as usize].row;
        let next = self.indexed(row, row.places());
        let entry = &mut self.entries[id as usize];
        entry.live = false;
        self.bytes -= cost(&entry.key, &entry.row);
        let hash = entry.hash;
        entry.key = Box::default();
        entry.row = Row::default();
        for (times, time) in self.times.iter_mut().zip(next) {
            if time != NEVER {
                times.remove(&(time, id));
            }
        }
        if let Ok(found) = self.table.find_entry(hash, |other| *other == id) {
            found.remove();
        }
        self.free.push(id);
    }

    /// The keys in memory with their rows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Row)> {
        self.entries.iter().filter(|e| e.live).map(|e| (&*e.key, &e.row))
    }
}

#[inline]
fn cost(key: &[u8], row: &Row) -> usize {
    ENTRY_BYTES + key.len() + row.value.as_ref().map_or(0, |v| v.len()) + row.timers.heap_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Nothing;

    /// Room for the states of a batch was once made for the whole value at each record of its key.
    #[test]
    fn a_large_value_counts_little_however_often_its_key_occurs_in_a_batch() {
        let mut keys = Keys::new(0, Nothing::shared(), 64 << 20, None, false);
        let id = keys.make(b"hot");
        keys.change(id, |row| row.value = Some(vec![7; 1 << 20].into()));
        let (sought, bytes) = keys.seek(std::iter::repeat_n(&b"hot"[..], 1_000));
        assert!(sought.iter().all(|(_, found)| *found == id));
        assert_eq!(bytes, 1_000 * LOOKED_AT);
    }
}
