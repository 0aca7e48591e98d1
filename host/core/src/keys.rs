//! The keys of a stage that are in memory: their rows, their place in time, and what must still be
//! written.
//!
//! Invariant: a row that the store has not applied yet is never evicted, so a lookup that misses
//! memory finds the truth in the store.

use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use wasmill_abi::{Column, TimeDomain};

use crate::change::Changes;
use crate::filter::Filter;
use crate::row::{Row, UNDATED, row_key};
use crate::slab::Slab;
use crate::store::{self, Cold, Index};

/// What an entry costs besides its key and value, in bytes: itself, its place in the table and in a
/// time index, and what an allocator adds.
const ENTRY_BYTES: usize = size_of::<Entry>() + 72;
/// How many entries the hand passes for each key of a batch when it looks for something to evict,
/// and at least: a third of the rows can go where memory is not pressed, each at the second visit.
const HAND_STEPS: usize = 8;
const LEAST_HAND_STEPS: usize = 1_024;
/// How many keys are read from a time index of the store at once.
const PAGE: usize = 4_096;
/// A time that no timer reaches: the last instant belongs to the end of the input.
pub const NEVER: i64 = i64::MAX;

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
    /// The epoch that changed it last; 0 for none.
    dirty: u64,
    /// The batch that it belongs to, and its slot in it.
    batch: u64,
    slot: u32,
    /// Whether it was used since the eviction hand last passed.
    used: bool,
    live: bool,
    /// Whether it waits among those that held nothing.
    empty: bool,
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
    /// The keys of the batch that have no entry: hash and slot.
    fresh: HashTable<(u64, u32)>,
    times: [BTreeSet<(i64, u32)>; 3],
    /// Every key whose place in the store's index is at or before this is in memory; none: all are.
    frontier: [Option<(i64, Vec<u8>)>; 3],
    dirty: Vec<u32>,
    /// How many rows changed in each epoch that the store has not applied, and in all of them.
    waiting: VecDeque<(u64, usize)>,
    unapplied: usize,
    epoch: u64,
    applied: u64,
    batch: u64,
    bytes: usize,
    budget: usize,
    hand: usize,
    /// How many want every entry to stay.
    pins: u32,
    /// Keys that held nothing when their batch ended, the oldest first.
    empties: VecDeque<u32>,
    /// How many entries the hand has passed since it last found one that may go.
    barren: usize,
    /// The keys that the store may hold and memory does not.
    evicted: Filter,
    ttl_ms: Option<i64>,
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
        let start = || if complete { None } else { Some((i64::MIN, Vec::new())) };
        Self {
            stage,
            cold,
            complete,
            entries: Slab::new(),
            free: Vec::new(),
            table: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            fresh: HashTable::new(),
            times: Default::default(),
            frontier: [start(), start(), start()],
            dirty: Vec::new(),
            waiting: VecDeque::new(),
            unapplied: 0,
            epoch: 1,
            applied: 0,
            batch: 0,
            bytes: 0,
            budget,
            hand: 0,
            pins: 0,
            empties: VecDeque::new(),
            barren: 0,
            evicted: if complete { Filter::empty() } else { Filter::all() },
            ttl_ms,
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
    }

    /// Bytes in memory, about.
    pub fn bytes(&self) -> usize {
        self.bytes
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
        let waiting = rows.saturating_mul(self.bytes / self.table.len().max(1));
        self.is_full() || (self.is_short() && waiting > self.budget / 8 * 5)
    }

    /// Whether so much is in memory that some of it should go.
    fn is_short(&self) -> bool {
        self.bytes > self.budget - self.budget / 4
    }

    /// Whether memory is full: no more should be read until the store has caught up.
    pub fn is_full(&self) -> bool {
        self.bytes > self.budget
    }

    /// The time to live of state, in ms of event time.
    pub fn ttl_ms(&self) -> Option<i64> {
        self.ttl_ms
    }

    /// Begins a batch: no key is in it yet.
    pub fn begin(&mut self) {
        self.batch += 1;
        self.fresh.clear();
    }

    /// The hash of a key, for [`Keys::find`] and [`Keys::join_new`].
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The entry of a key, loaded from the store if need be; none for a key that holds nothing and
    /// has no entry. [`Keys::make`] gives it one.
    ///
    /// # Errors
    /// When the store can't be read.
    #[inline]
    pub fn find(&mut self, hash: u64, key: &[u8]) -> Result<Option<u32>, store::Error> {
        let entries = &self.entries;
        if let Some(id) = self.table.find(hash, |id| *entries[*id as usize].key == *key) {
            return Ok(Some(*id));
        }
        if self.complete || !self.evicted.may_hold(hash) {
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
        Ok(Some(self.insert(hash, key, Row::decode(&bytes)?)))
    }

    fn insert(&mut self, hash: u64, key: &[u8], row: Row) -> u32 {
        let next = self.places(&row);
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

    fn places(&self, row: &Row) -> [i64; 3] {
        // A row from before the stage had a time to live is undated; its first touch dates it.
        let dated = self.ttl_ms.is_some() && row.touched != UNDATED;
        let exists = dated && (row.value.is_some() || self.keeps_empty);
        if row.timers.is_empty() {
            return [NEVER, NEVER, if exists { row.touched } else { NEVER }];
        }
        [
            row.next(TimeDomain::EventTime),
            row.next(TimeDomain::ProcessingTime),
            if exists { row.touched } else { NEVER },
        ]
    }

    /// Changes a row, and keeps the books: memory, time indexes, what must be written.
    #[inline]
    pub fn change(&mut self, id: u32, change: impl FnOnce(&mut Row)) {
        let old = self.places(&self.entries[id as usize].row);
        let entry = &mut self.entries[id as usize];
        let before = cost(&entry.key, &entry.row);
        change(&mut entry.row);
        self.bytes = self.bytes + cost(&entry.key, &entry.row) - before;
        if entry.dirty != self.epoch {
            entry.dirty = self.epoch;
            self.dirty.push(id);
        }
        let next = self.places(&self.entries[id as usize].row);
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

    /// The furthest that an index may be advanced towards `until` so that about `n` keys are due:
    /// `until` itself when there are fewer. Afterwards every key that is due by then is in memory.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn horizon(&mut self, index: Index, until: i64, n: usize) -> Result<i64, store::Error> {
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

    /// Whether an index has a key in memory at or before a time.
    pub fn any_due(&self, index: Index, until: i64) -> bool {
        self.times[index as usize].first().is_some_and(|(time, _)| *time <= until)
    }

    /// The earliest place in an index, as far as memory knows; `None` for none.
    pub fn first(&self, index: Index) -> Option<i64> {
        self.times[index as usize].first().map(|(time, _)| *time)
    }

    /// Ends a batch: entries that hold nothing go, as soon as the store knows of it, and what is over
    /// the budget is evicted.
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
        for _ in 0..2 * ids.len() + 64 {
            let Some(id) = self.empties.pop_front() else { break };
            let entry = &mut self.entries[id as usize];
            let nothing = entry.live && Self::holds_nothing(&entry.row, self.keeps_empty);
            if nothing && entry.dirty > self.applied {
                // Its removal must be written first, and that of those behind it.
                self.empties.push_front(id);
                break;
            }
            entry.empty = false;
            if nothing {
                self.remove(id);
            }
        }
        // A whole round for nothing: the hand rests until the store has applied something.
        if self.is_short() && self.barren < self.entries.len() {
            self.evict(LEAST_HAND_STEPS.max(HAND_STEPS * ids.len()));
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

    /// Goes round like the hand of a clock: what was not used since the last time is evicted. What
    /// the store has not applied stays; where nothing else is left, the hand rests until it has.
    fn evict(&mut self, steps: usize) {
        let target = self.budget - self.budget / 4 - self.budget / 16;
        for _ in 0..steps.min(2 * self.entries.len()) {
            if self.bytes <= target {
                return;
            }
            self.hand = (self.hand + 1) % self.entries.len();
            let entry = &mut self.entries[self.hand];
            if !entry.live || entry.dirty > self.applied {
                self.barren += 1;
                continue;
            }
            self.barren = 0;
            if std::mem::take(&mut entry.used) {
                continue;
            }
            let entry = &self.entries[self.hand];
            if !self.is_nothing(&entry.row) {
                self.complete = false;
                self.evicted.add(entry.hash);
                for (i, time) in self.places(&entry.row).into_iter().enumerate() {
                    if time == NEVER {
                        continue;
                    }
                    let beyond = self.frontier[i].as_ref().is_none_or(|(t, _)| *t >= time);
                    if beyond {
                        self.frontier[i] = Some((time, Vec::new()));
                    }
                }
            }
            self.remove(self.hand as u32);
        }
    }

    fn remove(&mut self, id: u32) {
        let next = self.places(&self.entries[id as usize].row);
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

    /// Ends the epoch: adds the rows that changed, and the removals, to `changes`.
    pub fn freeze(&mut self, changes: &mut Changes) {
        let changed = self.dirty.len();
        for id in std::mem::take(&mut self.dirty) {
            let entry = &self.entries[id as usize];
            let value = (!self.is_nothing(&entry.row)).then_some(|out: &mut Vec<u8>| {
                entry.row.encode(out);
            });
            changes.add(|out| row_key(self.stage, &entry.key, out), value);
        }
        self.waiting.push_back((self.epoch, changed));
        self.unapplied += changed;
        self.epoch += 1;
    }

    /// Whether the row of a key has changed since the store last applied it.
    pub fn is_unapplied(&self, key: &[u8]) -> bool {
        let entries = &self.entries;
        let found = self.table.find(self.hash(key), |id| *entries[*id as usize].key == *key);
        found.is_some_and(|id| entries[*id as usize].dirty > self.applied)
    }

    /// The store has applied everything up to this epoch.
    pub fn applied(&mut self, epoch: u64) {
        self.applied = self.applied.max(epoch);
        self.barren = 0;
        while self.waiting.front().is_some_and(|(epoch, _)| *epoch <= self.applied) {
            self.unapplied -= self.waiting.pop_front().map_or(0, |(_, changed)| changed);
        }
        if self.is_full() {
            // Nothing is read until there is room: no batch would do it.
            self.evict(usize::MAX);
        }
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
