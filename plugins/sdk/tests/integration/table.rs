//! Map states in a plain map, which count their calls.
//!
//! Invariant: every read shows what all earlier calls have written.

use std::collections::BTreeMap;

use wasmill_sdk::abi::maps::{Entries, Range};
use wasmill_sdk::abi::{Column, MapError, Maps};

/// The map states of the keys of a batch, by map, slot and entry key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    pub entries: BTreeMap<(u16, u32, Vec<u8>), Vec<u8>>,
    /// The number of entries of each call of `get`.
    pub gets: Vec<usize>,
    /// Calls of `get` for more entries are refused.
    pub most: Option<usize>,
}

impl Table {
    fn keys_in(&self, map: u16, slot: u32, range: &Range) -> Vec<Vec<u8>> {
        let within = |key: &[u8]| {
            range.start.as_deref().is_none_or(|start| start <= key)
                && range.end.as_deref().is_none_or(|end| key < end)
        };
        let keys = self.entries.keys().filter(|(m, s, key)| (*m, *s) == (map, slot) && within(key));
        keys.map(|(_, _, key)| key.clone()).collect()
    }
}

impl Maps for Table {
    fn get(&mut self, map: u16, slots: &[u32], keys: &Column) -> Result<Column, MapError> {
        assert_eq!(slots.len(), keys.len());
        self.gets.push(slots.len());
        if self.most.is_some_and(|most| slots.len() > most) {
            return Err(MapError::Limit("entries of one get".into(), 0));
        }
        if map > 1 {
            return Err(MapError::NoSuchMap(map));
        }
        let get = |(i, slot): (usize, &u32)| {
            self.entries.get(&(map, *slot, keys.bytes(i).to_vec())).map(Vec::as_slice)
        };
        Ok(slots.iter().enumerate().map(get).collect())
    }

    fn put(
        &mut self,
        map: u16,
        slots: &[u32],
        keys: &Column,
        values: &Column,
    ) -> Result<(), MapError> {
        for (i, slot) in slots.iter().enumerate() {
            let place = (map, *slot, keys.bytes(i).to_vec());
            match values.get(i) {
                Some(value) => self.entries.insert(place, value.to_vec()),
                None => self.entries.remove(&place),
            };
        }
        Ok(())
    }

    fn delete_range(&mut self, map: u16, slot: u32, range: &Range) -> Result<(), MapError> {
        for key in self.keys_in(map, slot, range) {
            self.entries.remove(&(map, slot, key));
        }
        Ok(())
    }

    fn scan(
        &mut self,
        map: u16,
        slot: u32,
        range: &Range,
        limit: u32,
        descending: bool,
    ) -> Result<Entries, MapError> {
        let mut keys = self.keys_in(map, slot, range);
        if descending {
            keys.reverse();
        }
        let more = keys.len() > limit as usize;
        keys.truncate(limit as usize);
        let values = keys.iter().map(|key| self.entries[&(map, slot, key.clone())].as_slice());
        Ok(Entries {
            values: values.collect(),
            keys: keys.iter().map(Vec::as_slice).collect(),
            more,
        })
    }
}
