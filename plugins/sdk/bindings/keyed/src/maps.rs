//! The map state of the keys of the current call.

use wasmill_abi::maps::{Entries, Range};
use wasmill_abi::{Column, MapError, Maps};

use crate::convert::{column_in, column_out};
use crate::wasmill::plugin::map_state as m;

/// The map state as the host gives it.
pub struct HostMaps;

fn error(e: m::Error) -> MapError {
    match e {
        m::Error::NoSuchMap(map) => MapError::NoSuchMap(map),
        m::Error::NoSuchSlot(slot) => MapError::NoSuchSlot(slot),
        m::Error::Malformed(why) => MapError::Malformed(why),
        m::Error::Limit((name, value)) => MapError::Limit(name, value),
        m::Error::Store(why) => MapError::Store(why),
    }
}

fn range_out(r: &Range) -> m::Range {
    m::Range { start: r.start.clone(), end: r.end.clone() }
}

impl Maps for HostMaps {
    fn get(&mut self, map: u16, slots: &[u32], keys: &Column) -> Result<Column, MapError> {
        m::get(map, slots, &column_out(keys.clone())).map(column_in).map_err(error)
    }

    fn put(
        &mut self,
        map: u16,
        slots: &[u32],
        keys: &Column,
        values: &Column,
    ) -> Result<(), MapError> {
        m::put(map, slots, &column_out(keys.clone()), &column_out(values.clone())).map_err(error)
    }

    fn delete_range(&mut self, map: u16, slot: u32, range: &Range) -> Result<(), MapError> {
        m::delete_range(map, slot, &range_out(range)).map_err(error)
    }

    fn scan(
        &mut self,
        map: u16,
        slot: u32,
        range: &Range,
        limit: u32,
        descending: bool,
    ) -> Result<Entries, MapError> {
        m::scan(map, slot, &range_out(range), limit, descending)
            .map(|e| Entries { keys: column_in(e.keys), values: column_in(e.values), more: e.more })
            .map_err(error)
    }
}
