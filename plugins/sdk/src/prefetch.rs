//! Reading ahead: the map entries that the records of a batch will read, asked for in one go.
//!
//! A plugin that names them:
//!
//! ```
//! # use wasmill_sdk::prelude::*;
//! # struct Distinct;
//! # const SEEN: u16 = 0;
//! impl Keyed for Distinct {
//! #   type Config = NoConfig;
//! #   type State = ();
//! #   fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
//! #       Ok(Self)
//! #   }
//!     fn prefetch(&self, record: &Record, wanted: &mut Wanted) {
//!         if let Some(id) = record.value() {
//!             wanted.entry(SEEN, id);
//!         }
//!     }
//!     fn process(
//!         &self,
//!         record: &Record,
//!         _: &mut State<()>,
//!         ctx: &mut Context,
//!     ) -> Result<(), Rejection> {
//!         let id = record.bytes()?;
//!         if !ctx.map(SEEN).contains(id) {
//!             ctx.map(SEEN).put(id, b"");
//!             ctx.emit(id);
//!         }
//!         Ok(())
//!     }
//! }
//! ```
//!
//! Invariant: reading ahead changes what a call costs, never what it does. An entry counts as known
//! only with what the host has said of it.

use wasmill_abi::{Column, KeyedBatch, MapError, Maps};

use crate::keyed::{Keyed, columns};
use crate::map::Buffer;
use crate::record::Record;

/// Most entries that are asked for at a time. With the default `batch-records` a batch asks once
/// while its records name about 4 entries each.
const REQUEST_ENTRIES: usize = 4_096;

/// Most bytes of keys and indexes that are asked for at a time; longer keys are not read ahead. The
/// host takes at least 1 MiB in one call, whatever the limits of the stage.
const REQUEST_BYTES: usize = 768 << 10;

/// What an entry takes besides its key: its slot, and where the key ends.
const ENTRY_BYTES: usize = 8;

/// A batch reads no further ahead once the entries asked for have this many bytes, keys and values.
const AHEAD_BYTES: usize = 16 << 20;

/// Takes down which map entries records will read; see [`Keyed::prefetch`].
pub struct Wanted<'m> {
    buffer: Buffer<'m>,
    slot: u32,
    /// What is still to be asked for, by map. Its entries are in the buffer, as if there were none.
    requests: Vec<Request>,
    /// How many bytes may still be read ahead.
    left_bytes: usize,
    nothing: bool,
}

struct Request {
    map: u16,
    slots: Vec<u32>,
    keys: Column,
}

impl Wanted<'_> {
    /// The current record will read the entry `key` of the map state with index `map` in the
    /// description's `maps`. An entry that is not read after all does no harm, nor does one that is
    /// named twice; a map that is not there fails the call, as reading it would.
    pub fn entry(&mut self, map: u16, key: &[u8]) {
        if self.left_bytes == 0 || key.len() + ENTRY_BYTES > REQUEST_BYTES {
            return;
        }
        let (_, known) = self.buffer.parts();
        let table = known.table(map, self.slot);
        if table.contains_key(key) {
            return;
        }
        table.insert(key.to_vec(), None);
        let at = self.requests.iter().position(|r| r.map == map).unwrap_or_else(|| {
            self.requests.push(Request { map, slots: Vec::new(), keys: Column::default() });
            self.requests.len() - 1
        });
        if self.requests[at].bytes() + key.len() + ENTRY_BYTES > REQUEST_BYTES {
            self.fetch(at);
        }
        let request = &mut self.requests[at];
        request.slots.push(self.slot);
        request.keys.push(key);
        if request.slots.len() == REQUEST_ENTRIES {
            self.fetch(at);
        }
    }

    /// This operator, as it is configured, reads nothing ahead: it is not asked about the other
    /// records of the batch.
    pub fn nothing(&mut self) {
        self.nothing = true;
    }

    /// Asks for what was taken down of one map, or gives it up when enough was found.
    fn fetch(&mut self, at: usize) {
        let Request { map, slots, keys } = &mut self.requests[at];
        let (maps, known) = self.buffer.parts();
        let values = match self.left_bytes {
            0 => Err(None),
            _ => maps.get(*map, slots, keys).map_err(Some),
        };
        for (i, slot) in slots.iter().enumerate() {
            let table = known.table(*map, *slot);
            match &values {
                Ok(values) => {
                    if let Some(value) = values.get(i) {
                        let known = table.get_mut(keys.bytes(i));
                        *known.expect("put there by entry()") = Some(value.to_vec());
                    }
                }
                Err(_) => {
                    table.remove(keys.bytes(i));
                }
            }
        }
        let asked = keys.data.len();
        slots.clear();
        keys.clear();
        match values {
            Ok(values) => {
                self.left_bytes = self.left_bytes.saturating_sub(asked + values.data.len());
            }
            // Too much at once: the entries are read one by one.
            Err(None | Some(MapError::Limit(..))) => self.left_bytes = 0,
            Err(Some(e)) => self.buffer.fail(e),
        }
    }
}

impl Request {
    fn bytes(&self) -> usize {
        self.keys.data.len() + ENTRY_BYTES * self.slots.len()
    }
}

/// Asks an operator what the records of a batch will read, and reads it.
#[inline]
pub(crate) fn run<'m, T: Keyed>(
    operator: &T,
    batch: &KeyedBatch,
    maps: &'m mut dyn Maps,
) -> Buffer<'m> {
    let mut wanted = Wanted {
        buffer: Buffer::new(maps),
        slot: 0,
        requests: Vec::new(),
        left_bytes: AHEAD_BYTES,
        nothing: false,
    };
    let columns = columns(batch);
    for row in 0..batch.timestamps.len() {
        wanted.slot = batch.slots[row];
        operator.prefetch(&Record { columns: &columns, row }, &mut wanted);
        if wanted.nothing {
            break;
        }
    }
    for at in 0..wanted.requests.len() {
        if !wanted.requests[at].slots.is_empty() {
            wanted.fetch(at);
        }
    }
    wanted.buffer
}
