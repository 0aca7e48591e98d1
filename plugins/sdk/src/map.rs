//! Map state: ordered maps per key, for collections too large to travel with every batch.
//!
//! Invariant: writes of a call are buffered and reach the host in order, before anything that must
//! see them is read and at the end of the call.

use std::collections::HashMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wasmill_abi::maps::{Entries, Range};
use wasmill_abi::{Column, Failure, MapError, Maps};

/// Reads of at most this many entries at a time when a scan is walked to its end.
const SCAN_PAGE: u32 = 1_000;

/// A write: map, slot, entry key, value or none for removal.
type Write = (u16, u32, Vec<u8>, Option<Vec<u8>>);

/// The buffered map access of one call.
pub(crate) struct Buffer<'m> {
    maps: &'m mut dyn Maps,
    /// What has been read or written: entry key to value, by map and slot.
    known: HashMap<(u16, u32, Vec<u8>), Option<Vec<u8>>>,
    writes: Vec<Write>,
    failure: Option<MapError>,
}

impl<'m> Buffer<'m> {
    pub(crate) fn new(maps: &'m mut dyn Maps) -> Self {
        Self { maps, known: HashMap::new(), writes: Vec::new(), failure: None }
    }

    fn keep<T: Default>(&mut self, result: Result<T, MapError>) -> T {
        result.unwrap_or_else(|e| {
            self.failure.get_or_insert(e);
            T::default()
        })
    }

    fn get(&mut self, map: u16, slot: u32, key: &[u8]) -> Option<Vec<u8>> {
        let name = (map, slot, key.to_vec());
        if let Some(known) = self.known.get(&name) {
            return known.clone();
        }
        let column = self.maps.get(map, &[slot], &std::iter::once(key).collect());
        let column = self.keep(column);
        let value = if column.is_empty() { None } else { column.get(0).map(<[u8]>::to_vec) };
        self.known.insert(name, value.clone());
        value
    }

    fn put(&mut self, map: u16, slot: u32, key: &[u8], value: Option<Vec<u8>>) {
        self.known.insert((map, slot, key.to_vec()), value.clone());
        self.writes.push((map, slot, key.to_vec(), value));
    }

    /// Hands the buffered writes to the host, one call for each run of writes to one map.
    pub(crate) fn flush(&mut self) {
        let writes = std::mem::take(&mut self.writes);
        for run in writes.chunk_by(|a, b| a.0 == b.0) {
            let slots: Vec<u32> = run.iter().map(|w| w.1).collect();
            let keys: Column = run.iter().map(|w| w.2.as_slice()).collect();
            let values: Column = run.iter().map(|w| w.3.as_deref()).collect();
            let result = self.maps.put(run[0].0, &slots, &keys, &values);
            self.keep(result);
        }
    }

    fn delete_range(&mut self, map: u16, slot: u32, range: &Range) {
        self.flush();
        self.known.retain(|(m, s, _), _| (*m, *s) != (map, slot));
        let result = self.maps.delete_range(map, slot, range);
        self.keep(result);
    }

    fn scan(&mut self, map: u16, slot: u32, range: &Range, limit: u32, down: bool) -> Entries {
        self.flush();
        let result = self.maps.scan(map, slot, range, limit, down);
        self.keep(result)
    }

    /// Writes what is left and says whether every call went well.
    ///
    /// # Errors
    /// A [`Failure`] with the first refusal.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.flush();
        match self.failure {
            Some(e) => Err(Failure { message: format!("map state: {e}") }),
            None => Ok(()),
        }
    }
}

/// One map state of the current key. A refused call (an index that does not exist, a limit) makes
/// the whole call of the plugin fail; the host then isolates the record.
pub struct Map<'c, 'm> {
    pub(crate) buffer: &'c mut Buffer<'m>,
    pub(crate) map: u16,
    pub(crate) slot: u32,
}

impl Map<'_, '_> {
    /// The value under an entry key.
    pub fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.buffer.get(self.map, self.slot, key)
    }

    /// The value under an entry key, from its compact form.
    ///
    /// # Panics
    /// When the stored bytes are no `T`, which means that the type changed without a new map name.
    pub fn get_as<T: DeserializeOwned>(&mut self, key: &[u8]) -> Option<T> {
        self.get(key).map(|bytes| match postcard::from_bytes(&bytes) {
            Ok(value) => value,
            Err(e) => panic!("map state {}: the stored value can't be read: {e}", self.map),
        })
    }

    /// Writes a value.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.buffer.put(self.map, self.slot, key, Some(value.to_vec()));
    }

    /// Writes a value in its compact form.
    ///
    /// # Panics
    /// When `value` can't be written, for example a sequence of unknown length.
    pub fn put_as<T: Serialize>(&mut self, key: &[u8], value: &T) {
        match postcard::to_stdvec(value) {
            Ok(bytes) => self.buffer.put(self.map, self.slot, key, Some(bytes)),
            Err(e) => panic!("map state {}: the value can't be written: {e}", self.map),
        }
    }

    /// Removes an entry.
    pub fn remove(&mut self, key: &[u8]) {
        self.buffer.put(self.map, self.slot, key, None);
    }

    /// Removes every entry from `start` (inclusive) to `end` (exclusive).
    pub fn remove_range(&mut self, start: Option<&[u8]>, end: Option<&[u8]>) {
        self.buffer.delete_range(self.map, self.slot, &range(start, end));
    }

    /// The first `limit` entries from `start` (inclusive) to `end` (exclusive).
    pub fn scan(&mut self, start: Option<&[u8]>, end: Option<&[u8]>, limit: u32) -> Entries {
        self.buffer.scan(self.map, self.slot, &range(start, end), limit, false)
    }

    /// The last `limit` entries from `start` (inclusive) to `end` (exclusive), last first.
    pub fn scan_back(&mut self, start: Option<&[u8]>, end: Option<&[u8]>, limit: u32) -> Entries {
        self.buffer.scan(self.map, self.slot, &range(start, end), limit, true)
    }

    /// Calls `each` with every entry of a range, in order.
    pub fn for_each(
        &mut self,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
        mut each: impl FnMut(&[u8], &[u8]),
    ) {
        let mut range = range(start, end);
        loop {
            let page = self.buffer.scan(self.map, self.slot, &range, SCAN_PAGE, false);
            for i in 0..page.keys.len() {
                each(page.keys.bytes(i), page.values.bytes(i));
            }
            if !page.more || page.keys.is_empty() {
                return;
            }
            let mut next = page.keys.bytes(page.keys.len() - 1).to_vec();
            next.push(0);
            range.start = Some(next);
        }
    }
}

fn range(start: Option<&[u8]>, end: Option<&[u8]>) -> Range {
    Range { start: start.map(<[u8]>::to_vec), end: end.map(<[u8]>::to_vec) }
}
