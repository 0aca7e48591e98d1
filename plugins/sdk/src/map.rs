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

/// The buffered map access of one call.
pub(crate) struct Buffer<'m> {
    maps: &'m mut dyn Maps,
    known: Known,
    writes: Vec<Writes>,
    failure: Option<MapError>,
}

/// The entries of one map of one key that have been read or written: what the entry holds, if any.
type Table = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// What has been read or written, by slot and map.
#[derive(Default)]
pub(crate) struct Known(Vec<Vec<(u16, Table)>>);

/// A run of writes to one map, in order; a null value removes.
struct Writes {
    map: u16,
    slots: Vec<u32>,
    keys: Column,
    values: Column,
}

impl Known {
    /// The table of a map of a key. A key has few maps, so they are looked through.
    pub(crate) fn table(&mut self, map: u16, slot: u32) -> &mut Table {
        let slot = slot as usize;
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, Vec::new);
        }
        let tables = &mut self.0[slot];
        let at = tables.iter().position(|(m, _)| *m == map).unwrap_or_else(|| {
            tables.push((map, Table::new()));
            tables.len() - 1
        });
        &mut tables[at].1
    }
}

impl<'m> Buffer<'m> {
    pub(crate) fn new(maps: &'m mut dyn Maps) -> Self {
        Self { maps, known: Known::default(), writes: Vec::new(), failure: None }
    }

    /// The host's maps, and what is known of them.
    pub(crate) fn parts(&mut self) -> (&mut dyn Maps, &mut Known) {
        (self.maps, &mut self.known)
    }

    /// Remembers a refusal, which makes the call fail at its end.
    pub(crate) fn fail(&mut self, error: MapError) {
        self.failure.get_or_insert(error);
    }

    fn keep<T: Default>(&mut self, result: Result<T, MapError>) -> T {
        result.unwrap_or_else(|e| {
            self.fail(e);
            T::default()
        })
    }

    /// Gives the value of an entry to `read`. Allocates nothing when the entry is known.
    fn get<R>(
        &mut self,
        map: u16,
        slot: u32,
        key: &[u8],
        read: impl FnOnce(Option<&[u8]>) -> R,
    ) -> R {
        if let Some(value) = self.known.table(map, slot).get(key) {
            return read(value.as_deref());
        }
        let column = self.maps.get(map, &[slot], &std::iter::once(key).collect());
        let column = self.keep(column);
        let value = if column.is_empty() { None } else { column.get(0) };
        self.known.table(map, slot).insert(key.to_vec(), value.map(<[u8]>::to_vec));
        read(value)
    }

    fn put(&mut self, map: u16, slot: u32, key: &[u8], value: Option<&[u8]>) {
        let owned = value.map(<[u8]>::to_vec);
        let table = self.known.table(map, slot);
        match table.get_mut(key) {
            Some(known) => *known = owned,
            None => {
                table.insert(key.to_vec(), owned);
            }
        }
        if self.writes.last().is_none_or(|run| run.map != map) {
            let (keys, values) = (Column::default(), Column::default());
            self.writes.push(Writes { map, slots: Vec::new(), keys, values });
        }
        let run = self.writes.last_mut().expect("pushed above");
        run.slots.push(slot);
        run.keys.push(key);
        run.values.push_opt(value);
    }

    /// Hands the buffered writes to the host, one call for each run of writes to one map.
    pub(crate) fn flush(&mut self) {
        for run in std::mem::take(&mut self.writes) {
            let result = self.maps.put(run.map, &run.slots, &run.keys, &run.values);
            self.keep(result);
        }
    }

    fn delete_range(&mut self, map: u16, slot: u32, range: &Range) {
        self.flush();
        for (key, value) in self.known.table(map, slot) {
            let starts = range.start.as_ref().is_none_or(|start| start <= key);
            if starts && range.end.as_ref().is_none_or(|end| key < end) {
                *value = None;
            }
        }
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
        self.buffer.get(self.map, self.slot, key, |value| value.map(<[u8]>::to_vec))
    }

    /// Whether there is an entry under a key; cheaper than [`Map::get`], which copies the value.
    pub fn contains(&mut self, key: &[u8]) -> bool {
        self.buffer.get(self.map, self.slot, key, |value| value.is_some())
    }

    /// The value under an entry key, from its compact form.
    ///
    /// # Panics
    /// When the stored bytes are no `T`, which means that the type changed without a new map name.
    pub fn get_as<T: DeserializeOwned>(&mut self, key: &[u8]) -> Option<T> {
        let map = self.map;
        self.buffer.get(map, self.slot, key, |value| match postcard::from_bytes(value?) {
            Ok(value) => Some(value),
            Err(e) => panic!("map state {map}: the stored value can't be read: {e}"),
        })
    }

    /// Writes a value.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.buffer.put(self.map, self.slot, key, Some(value));
    }

    /// Writes a value in its compact form.
    ///
    /// # Panics
    /// When `value` can't be written, for example a sequence of unknown length.
    pub fn put_as<T: Serialize>(&mut self, key: &[u8], value: &T) {
        match postcard::to_stdvec(value) {
            Ok(bytes) => self.buffer.put(self.map, self.slot, key, Some(&bytes)),
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
