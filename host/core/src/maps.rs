//! Map state of a stage: what the open epoch has changed, what waits to be applied, and the store.
//!
//! Invariant: a read sees the writes of its own call, then those of accepted calls, then the store;
//! the writes of a call that failed are never seen again.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmill_abi::maps::{Entries, Range};
use wasmill_abi::{Column, MapError, Maps};

use crate::change::Changes;
use crate::operator::MapAccess;
use crate::row::{after_prefix, map_prefix};
use crate::store::{self, Cold};

/// Most bytes of one scan's reply; the host answers with `more` beyond it.
const SCAN_BYTES: usize = 4 << 20;
/// Most entries that are read from the store at a time.
const PAGE: usize = 1_024;
/// What an entry takes in memory besides its key and value, about.
const ENTRY_BYTES: usize = 96;

/// An entry of the store.
type Pair = (Vec<u8>, Vec<u8>);
/// A walk through a layer, in one direction.
type Walk<'a> = Box<dyn Iterator<Item = (&'a Vec<u8>, Option<&'a Vec<u8>>)> + 'a>;
type Layer = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The map state of one stage of one task.
pub struct MapStore {
    stage: u16,
    maps: u16,
    cold: Arc<dyn Cold>,
    /// Changed in the open epoch.
    open: Layer,
    /// Changed in epochs that the store has not applied yet.
    frozen: BTreeMap<Vec<u8>, (Option<Vec<u8>>, u64)>,
    /// What both take in memory, about.
    bytes: usize,
}

impl MapStore {
    /// The map state of a stage with `maps` maps.
    pub fn new(stage: u16, maps: u16, cold: Arc<dyn Cold>) -> Self {
        Self { stage, maps, cold, open: Layer::new(), frozen: BTreeMap::new(), bytes: 0 }
    }

    /// Whether the stage has map state at all.
    pub fn is_used(&self) -> bool {
        self.maps > 0
    }

    /// Bytes held in memory, about: what the store has not applied yet.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes an entry in the open epoch.
    fn change(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        let length = key.len();
        self.bytes += size(length, value.as_ref());
        if let Some(before) = self.open.insert(key, value) {
            self.bytes -= size(length, before.as_ref());
        }
    }

    /// Ends the epoch: appends its changes to `changes`.
    pub fn freeze(&mut self, epoch: u64, changes: &mut Changes) {
        for (key, value) in std::mem::take(&mut self.open) {
            changes.put(&key, value.as_deref());
            let length = key.len();
            if let Some((before, _)) = self.frozen.insert(key, (value, epoch)) {
                self.bytes -= size(length, before.as_ref());
            }
        }
    }

    /// After a restart: takes a change in that the changelog has and the store does not. Changes come
    /// in the order of the changelog.
    pub(crate) fn replay(&mut self, key: &[u8], value: Option<&[u8]>, epoch: u64) {
        let value = value.map(<[u8]>::to_vec);
        self.bytes += size(key.len(), value.as_ref());
        if let Some((before, _)) = self.frozen.insert(key.to_vec(), (value, epoch)) {
            self.bytes -= size(key.len(), before.as_ref());
        }
    }

    /// Forgets everything, and goes on from what the store has.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self::new(self.stage, self.maps, self.cold.clone());
    }

    /// Whether an entry has changed since the store last applied it, by its store key.
    pub fn is_unapplied(&self, key: &[u8]) -> bool {
        self.open.contains_key(key) || self.frozen.contains_key(key)
    }

    /// The store has applied everything up to this epoch.
    pub fn applied(&mut self, epoch: u64) {
        let mut gone = 0;
        self.frozen.retain(|key, (value, e)| {
            let stays = *e > epoch;
            gone += if stays { 0 } else { size(key.len(), value.as_ref()) };
            stays
        });
        self.bytes -= gone;
    }

    /// Removes every entry of a key, when its state expires.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn clear_key(&mut self, key: &[u8]) -> Result<(), store::Error> {
        for map in 0..self.maps {
            let prefix = map_prefix(self.stage, map, key);
            let end = after_prefix(&prefix).expect("a store key begins with a stage below 0xffff");
            let mut start = prefix;
            loop {
                let (found, more) = self.merged(&Layer::new(), &start, &end, PAGE, false)?;
                let last = found.last().filter(|_| more).map(|(key, _)| key.clone());
                for (key, _) in found {
                    self.change(key, None);
                }
                let Some(last) = last else { break };
                start = [last.as_slice(), &[0]].concat();
            }
        }
        Ok(())
    }

    fn get(&self, writes: &Layer, key: &[u8]) -> Result<Option<Vec<u8>>, store::Error> {
        if let Some(value) = writes.get(key).or_else(|| self.open.get(key)) {
            return Ok(value.clone());
        }
        if let Some((value, _)) = self.frozen.get(key) {
            return Ok(value.clone());
        }
        self.cold.get(key)
    }

    /// The entries of `[start, end)` over all layers, and whether there may be more.
    fn merged(
        &self,
        writes: &Layer,
        start: &[u8],
        end: &[u8],
        limit: usize,
        down: bool,
    ) -> Result<(store::Pairs, bool), store::Error> {
        if start >= end {
            return Ok((Vec::new(), false));
        }
        let range =
            (std::ops::Bound::Included(start.to_vec()), std::ops::Bound::Excluded(end.to_vec()));
        let mut layers: [Walk<'_>; 3] = [
            directed(writes.range(range.clone()).map(|(k, v)| (k, v.as_ref())), down),
            directed(self.open.range(range.clone()).map(|(k, v)| (k, v.as_ref())), down),
            directed(self.frozen.range(range).map(|(k, (v, _))| (k, v.as_ref())), down),
        ];
        let mut heads = [layers[0].next(), layers[1].next(), layers[2].next()];
        let mut cold = ColdScan::new(self.cold.as_ref(), start, end, limit.clamp(1, PAGE), down);
        let (mut found, mut bytes) = (Vec::new(), 0);
        loop {
            if found.len() >= limit || bytes >= SCAN_BYTES {
                // What the store has is not looked for: it may be one entry that was deleted.
                let more = heads.iter().any(Option::is_some) || !cold.is_over();
                return Ok((found, more));
            }
            let before = |a: &[u8], b: &[u8]| if down { a > b } else { a < b };
            let mut first: Option<Vec<u8>> = cold.peek()?.map(|(k, _)| k.clone());
            for head in heads.iter().flatten() {
                if first.as_ref().is_none_or(|f| before(head.0, f)) {
                    first = Some(head.0.clone());
                }
            }
            let Some(key) = first else { return Ok((found, false)) };
            let mut value: Option<Option<Vec<u8>>> = None;
            for (layer, head) in layers.iter_mut().zip(&mut heads) {
                if head.as_ref().is_some_and(|h| *h.0 == key) {
                    let (_, here) = head.take().expect("looked at above");
                    value.get_or_insert_with(|| here.cloned());
                    *head = layer.next();
                }
            }
            if cold.peek()?.is_some_and(|(k, _)| *k == key) {
                let (_, here) = cold.next()?.expect("looked at above");
                value.get_or_insert(Some(here));
            }
            if let Some(Some(value)) = value {
                bytes += key.len() + value.len();
                found.push((key, value));
            }
        }
    }
}

fn size(key: usize, value: Option<&Vec<u8>>) -> usize {
    ENTRY_BYTES + key + value.map_or(0, Vec::len)
}

fn directed<'a, T: 'a>(
    items: impl DoubleEndedIterator<Item = T> + 'a,
    down: bool,
) -> Box<dyn Iterator<Item = T> + 'a> {
    if down { Box::new(items.rev()) } else { Box::new(items) }
}

/// A walk through a range of the store, page by page.
struct ColdScan<'a> {
    cold: &'a dyn Cold,
    start: Vec<u8>,
    end: Vec<u8>,
    /// How many entries are read next.
    most: usize,
    down: bool,
    page: std::collections::VecDeque<(Vec<u8>, Vec<u8>)>,
    done: bool,
}

impl<'a> ColdScan<'a> {
    /// `most`: how many entries are wanted at first.
    fn new(cold: &'a dyn Cold, start: &[u8], end: &[u8], most: usize, down: bool) -> Self {
        let page = std::collections::VecDeque::new();
        Self { cold, start: start.to_vec(), end: end.to_vec(), most, down, page, done: false }
    }

    /// Whether it is known that nothing more comes.
    fn is_over(&self) -> bool {
        self.done && self.page.is_empty()
    }

    fn peek(&mut self) -> Result<Option<&Pair>, store::Error> {
        if self.page.is_empty() && !self.done {
            let page = self.cold.scan(&self.start, &self.end, self.most, self.down)?;
            self.done = page.len() < self.most;
            self.most = PAGE;
            if let Some((last, _)) = page.last() {
                if self.down {
                    self.end = last.clone();
                } else {
                    self.start = [last.as_slice(), &[0]].concat();
                }
            }
            self.page = page.into();
        }
        Ok(self.page.front())
    }

    fn next(&mut self) -> Result<Option<Pair>, store::Error> {
        self.peek()?;
        Ok(self.page.pop_front())
    }
}

/// The access of one call to the maps of its keys. It owns the [`MapStore`] while the call lasts.
pub struct MapCall {
    store: MapStore,
    /// The key of each slot.
    keys: Column,
    writes: Layer,
    written_bytes: usize,
    limit_bytes: usize,
}

impl MapCall {
    /// Takes the store for a call.
    pub fn new(store: MapStore, keys: Column, limit_bytes: usize) -> Self {
        Self { store, keys, writes: Layer::new(), written_bytes: 0, limit_bytes }
    }

    /// Gives the store back. With `accept` the call's writes are part of the open epoch.
    pub fn finish(mut self, accept: bool) -> MapStore {
        if accept {
            for (key, value) in self.writes {
                self.store.change(key, value);
            }
        }
        self.store
    }

    fn prefix(&self, map: u16, slot: u32) -> Result<Vec<u8>, MapError> {
        if map >= self.store.maps {
            return Err(MapError::NoSuchMap(map));
        }
        if slot as usize >= self.keys.len() {
            return Err(MapError::NoSuchSlot(slot));
        }
        Ok(map_prefix(self.store.stage, map, self.keys.bytes(slot as usize)))
    }

    fn bounds(&self, map: u16, slot: u32, range: &Range) -> Result<(Vec<u8>, Vec<u8>), MapError> {
        let prefix = self.prefix(map, slot)?;
        let with = |entry: &Vec<u8>| [prefix.as_slice(), entry].concat();
        let start = range.start.as_ref().map_or_else(|| prefix.clone(), with);
        let end = range.end.as_ref().map_or_else(
            || after_prefix(&prefix).expect("a store key begins with a stage below 0xffff"),
            with,
        );
        Ok((start, end))
    }

    fn charge(&mut self, bytes: usize) -> Result<(), MapError> {
        if self.written_bytes + bytes > self.limit_bytes {
            return Err(MapError::Limit("map-write".into(), self.limit_bytes as u64));
        }
        self.written_bytes += bytes;
        Ok(())
    }
}

fn aligned(slots: &[u32], columns: &[(&str, &Column)]) -> Result<(), MapError> {
    for (name, column) in columns {
        column.check(name).map_err(|e| MapError::Malformed(e.0))?;
        if column.len() != slots.len() {
            return Err(MapError::Malformed(format!(
                "{} slots but {} {name}",
                slots.len(),
                column.len()
            )));
        }
    }
    Ok(())
}

fn failed(e: store::Error) -> MapError {
    MapError::Store(e.0)
}

impl Maps for MapCall {
    fn get(&mut self, map: u16, slots: &[u32], keys: &Column) -> Result<Column, MapError> {
        aligned(slots, &[("keys", keys)])?;
        let mut values = Column::default();
        for (i, slot) in slots.iter().enumerate() {
            let mut key = self.prefix(map, *slot)?;
            key.extend_from_slice(keys.bytes(i));
            let value = self.store.get(&self.writes, &key).map_err(failed)?;
            if values.data.len() + value.as_ref().map_or(0, Vec::len) > u32::MAX as usize / 2 {
                return Err(MapError::Limit("bytes of one get".into(), u64::from(u32::MAX / 2)));
            }
            values.push_opt(value.as_deref());
        }
        Ok(values)
    }

    fn put(
        &mut self,
        map: u16,
        slots: &[u32],
        keys: &Column,
        values: &Column,
    ) -> Result<(), MapError> {
        aligned(slots, &[("keys", keys), ("values", values)])?;
        let mut entries = Vec::with_capacity(slots.len());
        for (i, slot) in slots.iter().enumerate() {
            let mut key = self.prefix(map, *slot)?;
            key.extend_from_slice(keys.bytes(i));
            entries.push((key, values.get(i).map(<[u8]>::to_vec)));
        }
        self.charge(keys.data.len() + values.data.len())?;
        self.writes.extend(entries);
        Ok(())
    }

    fn delete_range(&mut self, map: u16, slot: u32, range: &Range) -> Result<(), MapError> {
        let (mut start, end) = self.bounds(map, slot, range)?;
        loop {
            let (found, more) =
                self.store.merged(&self.writes, &start, &end, PAGE, false).map_err(failed)?;
            let Some((last, _)) = found.last() else { return Ok(()) };
            start = [last.as_slice(), &[0]].concat();
            for (key, _) in found {
                self.charge(key.len())?;
                self.writes.insert(key, None);
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn scan(
        &mut self,
        map: u16,
        slot: u32,
        range: &Range,
        limit: u32,
        descending: bool,
    ) -> Result<Entries, MapError> {
        let prefix = self.prefix(map, slot)?.len();
        let (start, end) = self.bounds(map, slot, range)?;
        let (found, more) = self
            .store
            .merged(&self.writes, &start, &end, limit as usize, descending)
            .map_err(failed)?;
        Ok(Entries {
            keys: found.iter().map(|(key, _)| &key[prefix..]).collect(),
            values: found.iter().map(|(_, value)| value.as_slice()).collect(),
            more,
        })
    }
}

impl MapAccess for MapCall {
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any + Send> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A store over a plain map.
    struct Table(BTreeMap<Vec<u8>, Vec<u8>>);

    impl Cold for Table {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, store::Error> {
            Ok(self.0.get(key).cloned())
        }
        fn scan(
            &self,
            start: &[u8],
            end: &[u8],
            limit: usize,
            down: bool,
        ) -> Result<store::Pairs, store::Error> {
            let range = self.0.range(start.to_vec()..end.to_vec());
            Ok(directed(range, down).take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
        }
        fn due(
            &self,
            _: store::Index,
            _: u16,
            _: Option<&(i64, Vec<u8>)>,
            _: i64,
            _: usize,
        ) -> Result<Vec<(i64, Vec<u8>)>, store::Error> {
            Ok(Vec::new())
        }
        fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }

    proptest! {
        /// Layers against one plain map: whatever is written where, reads are the same.
        #[test]
        fn layers_read_like_one_map(
            ops in proptest::collection::vec(
                (0..5u8, 0..2u32, 0..12u8, proptest::option::of(0..200u8)), 1..80),
            limit in 1..9u32, down in any::<bool>()) {
            let mut model: [BTreeMap<Vec<u8>, Vec<u8>>; 2] = Default::default();
            let mut committed = BTreeMap::new();
            let keys: Column = [&b"a"[..], b"ab"].into_iter().collect();
            let mut store = MapStore::new(3, 1, Arc::new(Table(BTreeMap::new())));
            let mut call = MapCall::new(store, keys.clone(), 1 << 20);
            let mut epoch = 1;
            for (op, slot, entry, value) in ops {
                let one: Column = std::iter::once(&[entry][..]).collect();
                match op {
                    0..=2 => {
                        let v = value.map(|v| vec![v]);
                        let values: Column = std::iter::once(v.as_deref()).collect();
                        call.put(0, &[slot], &one, &values).unwrap();
                        match v {
                            Some(v) => model[slot as usize].insert(vec![entry], v),
                            None => model[slot as usize].remove(&vec![entry]),
                        };
                    }
                    3 => {
                        let range = Range { start: Some(vec![entry]), end: Some(vec![entry + 3]) };
                        call.delete_range(0, slot, &range).unwrap();
                        model[slot as usize].retain(|k, _| k[0] < entry || k[0] >= entry + 3);
                    }
                    _ => {
                        store = call.finish(true);
                        let mut changes = Changes::default();
                        store.freeze(epoch, &mut changes);
                        if value.is_some() {
                            for (k, v) in changes.iter() {
                                match v {
                                    Some(v) => committed.insert(k.to_vec(), v.to_vec()),
                                    None => committed.remove(k),
                                };
                            }
                            // Epochs that were only frozen are applied with this one.
                            let mut all = committed.clone();
                            for (k, (v, _)) in &store.frozen {
                                match v {
                                    Some(v) => all.insert(k.clone(), v.clone()),
                                    None => all.remove(k),
                                };
                            }
                            committed = all.clone();
                            store.cold = Arc::new(Table(all));
                            store.applied(epoch);
                            prop_assert!(store.frozen.is_empty());
                        }
                        let open = store.open.iter().map(|(k, v)| size(k.len(), v.as_ref()));
                        let frozen = store.frozen.iter();
                        let frozen = frozen.map(|(k, (v, _))| size(k.len(), v.as_ref()));
                        prop_assert_eq!(store.bytes(), open.chain(frozen).sum::<usize>());
                        epoch += 1;
                        call = MapCall::new(store, keys.clone(), 1 << 20);
                    }
                }
                for slot in 0..2u32 {
                    let all = &model[slot as usize];
                    let got = call.scan(0, slot, &Range::default(), limit, down).unwrap();
                    let want: Vec<_> = directed(all.iter(), down).take(limit as usize).collect();
                    prop_assert!(got.more || all.len() <= limit as usize);
                    prop_assert_eq!(got.keys.len(), want.len());
                    for (i, (k, v)) in want.into_iter().enumerate() {
                        prop_assert_eq!(got.keys.bytes(i), k.as_slice());
                        prop_assert_eq!(got.values.bytes(i), v.as_slice());
                    }
                }
            }
        }
    }

    #[test]
    fn a_call_that_is_not_accepted_leaves_nothing() {
        let store = MapStore::new(0, 1, store::Nothing::shared());
        let keys: Column = std::iter::once(&b"k"[..]).collect();
        let one: Column = std::iter::once(&b"e"[..]).collect();
        let mut call = MapCall::new(store, keys.clone(), 100);
        call.put(0, &[0], &one, &one).unwrap();
        let mut call = MapCall::new(call.finish(false), keys, 100);
        assert!(call.get(0, &[0], &one).unwrap().is_null(0));
        assert_eq!(call.get(1, &[0], &one), Err(MapError::NoSuchMap(1)));
        assert_eq!(call.get(0, &[1], &one), Err(MapError::NoSuchSlot(1)));
        let big: Column = std::iter::once(&[0u8; 101][..]).collect();
        assert!(matches!(call.put(0, &[0], &one, &big), Err(MapError::Limit(_, 100))));
    }

    #[test]
    fn a_range_that_is_deleted_counts_for_what_a_call_may_write() {
        let keys: Column = std::iter::once(&b"k"[..]).collect();
        let entries = (0..100u8).map(|i| (map_prefix(0, 0, b"k"), i));
        let table = entries.map(|(prefix, i)| ([prefix.as_slice(), &[i]].concat(), vec![i]));
        let table = Arc::new(Table(table.collect()));
        let all = Range::default();
        let mut call = MapCall::new(MapStore::new(0, 1, table.clone()), keys.clone(), 200);
        assert!(matches!(call.delete_range(0, 0, &all), Err(MapError::Limit(_, 200))));
        let mut call = MapCall::new(MapStore::new(0, 1, table), keys, 10_000);
        call.delete_range(0, 0, &all).unwrap();
        let left = call.scan(0, 0, &all, 10, false).unwrap();
        assert!(left.keys.is_empty() && !left.more);
    }

    /// A store that counts the entries that are asked of it.
    struct Counting(Table, std::sync::atomic::AtomicUsize);

    impl Cold for Counting {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, store::Error> {
            self.0.get(key)
        }
        fn scan(
            &self,
            start: &[u8],
            end: &[u8],
            limit: usize,
            down: bool,
        ) -> Result<store::Pairs, store::Error> {
            let found = self.0.scan(start, end, limit, down)?;
            self.1.fetch_add(found.len(), std::sync::atomic::Ordering::Relaxed);
            Ok(found)
        }
        fn due(
            &self,
            index: store::Index,
            stage: u16,
            after: Option<&(i64, Vec<u8>)>,
            until: i64,
            limit: usize,
        ) -> Result<Vec<(i64, Vec<u8>)>, store::Error> {
            self.0.due(index, stage, after, until, limit)
        }
        fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }

    #[test]
    fn a_scan_reads_no_more_of_the_store_than_it_was_asked_for() {
        let keys: Column = std::iter::once(&b"k"[..]).collect();
        let prefix = map_prefix(0, 0, b"k");
        let table = (0..100u8).map(|i| ([prefix.as_slice(), &[i]].concat(), vec![i])).collect();
        let store = Arc::new(Counting(Table(table), std::sync::atomic::AtomicUsize::new(0)));
        let mut call = MapCall::new(MapStore::new(0, 1, store.clone()), keys, 10_000);
        let first = call.scan(0, 0, &Range::default(), 3, true).unwrap();
        let found: Vec<_> = first.keys.iter().map(|key| key.unwrap()[0]).collect();
        assert_eq!((found, first.more), (vec![99, 98, 97], true));
        assert_eq!(store.1.load(std::sync::atomic::Ordering::Relaxed), 3);
    }
}
