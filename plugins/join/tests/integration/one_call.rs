//! The operator in a single call, for what the harness does not do: records of both inputs in one
//! batch, and counting scans.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use join::Join;
use wasmill_sdk::abi::maps::{Entries, Range};
use wasmill_sdk::abi::{Column, KeyedBatch, MapError, Maps, WATERMARK_END};
use wasmill_sdk::config::{self, Setup};
use wasmill_sdk::keyed::{self, Keyed};

use crate::driver::{Input, Output};

/// The map states of the keys of the call.
#[derive(Default)]
struct Store {
    entries: BTreeMap<(u16, u32), BTreeMap<Vec<u8>, Vec<u8>>>,
    scans: usize,
}

impl Maps for Store {
    fn get(&mut self, map: u16, slots: &[u32], keys: &Column) -> Result<Column, MapError> {
        let entries = &self.entries;
        let get = |(i, slot): (usize, &u32)| {
            entries.get(&(map, *slot))?.get(keys.bytes(i)).map(Vec::as_slice)
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
            let entries = self.entries.entry((map, *slot)).or_default();
            match values.get(i) {
                Some(value) => entries.insert(keys.bytes(i).to_vec(), value.to_vec()),
                None => entries.remove(keys.bytes(i)),
            };
        }
        Ok(())
    }

    fn delete_range(&mut self, map: u16, slot: u32, range: &Range) -> Result<(), MapError> {
        let within = |key: &Vec<u8>| {
            range.start.as_ref().is_none_or(|start| start <= key)
                && range.end.as_ref().is_none_or(|end| key < end)
        };
        self.entries.entry((map, slot)).or_default().retain(|key, _| !within(key));
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
        assert!(!descending, "not asked for by this operator");
        self.scans += 1;
        let bounds = (
            range.start.clone().map_or(Unbounded, Included),
            range.end.clone().map_or(Unbounded, Excluded),
        );
        let entries = self.entries.entry((map, slot)).or_default();
        let found = || entries.range(bounds.clone()).take(limit as usize);
        Ok(Entries {
            keys: found().map(|(key, _)| key.as_slice()).collect(),
            values: found().map(|(_, value)| value.as_slice()).collect(),
            more: entries.range(bounds.clone()).count() > limit as usize,
        })
    }
}

/// What comes out by key, and how often map state was scanned.
pub fn run(config: &str, inputs: &[Input]) -> (BTreeMap<String, Vec<Output>>, usize) {
    let join = Join::new(config::parse(config).unwrap(), &Setup::default()).unwrap();
    let mut keys: Vec<&str> = inputs.iter().map(|i| i.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    let slot = |i: &Input| keys.iter().position(|key| *key == i.key).unwrap() as u32;
    let batch = KeyedBatch {
        timestamps: inputs.iter().map(|i| i.time).collect(),
        watermarks: inputs.iter().map(|i| i.watermark).collect(),
        end_watermark: WATERMARK_END,
        inputs: inputs.iter().map(|i| i.port).collect(),
        slots: inputs.iter().map(slot).collect(),
        values: inputs.iter().map(|i| i.value.as_bytes()).collect(),
        keys: keys.iter().map(|key| key.as_bytes()).collect(),
        states: keys.iter().map(|_| None).collect(),
        ..KeyedBatch::default()
    };
    let mut store = Store::default();
    let reply = keyed::run(&join, &batch, &mut store).unwrap();
    let mut clocks = reply.clocks.iter();
    let mut outputs = BTreeMap::<String, Vec<Output>>::new();
    for (i, row) in reply.rows.iter().map(|row| *row as usize).enumerate() {
        let (slot, watermark, inherited) = match inputs.get(row) {
            Some(input) => (slot(input) as usize, input.watermark, input.time),
            None => {
                let clock = *clocks.next().unwrap();
                (row - inputs.len(), clock, clock + 1)
            }
        };
        let key = keys[slot].to_owned();
        let time = reply.timestamps.get(i).copied().unwrap_or(inherited);
        let value = String::from_utf8(reply.values.bytes(i).to_vec()).unwrap();
        outputs.entry(key.clone()).or_default().push(Output { key, time, value, watermark });
    }
    assert!(store.entries.values().all(BTreeMap::is_empty), "nothing is left at the end");
    (outputs, store.scans)
}
