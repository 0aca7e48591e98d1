//! Drives a keyed operator as the host does: batches cut anywhere, states, timers and map state
//! carried from call to call, timers of untouched keys run at the end of a batch.
//!
//! Invariant: what is reported per key is in the order in which the operator produced it.

use std::collections::{BTreeMap, BTreeSet};

use wasmill_sdk::abi::maps::{Entries, Range};
use wasmill_sdk::abi::{
    Column, KeyedBatch, KeyedReply, MapError, Maps, RejectionKind, TimeDomain, WATERMARK_END,
    WATERMARK_START,
};
use wasmill_sdk::config::{self, Setup};
use wasmill_sdk::keyed::{self, Keyed};

/// A record to feed.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    pub key: String,
    pub value: String,
    pub time: i64,
    /// The watermark before it.
    pub watermark: i64,
}

impl Input {
    pub fn new(key: &str, time: i64, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into(), time, watermark: WATERMARK_START }
    }
}

/// Gives each record the watermark "latest event time before it - `delay`".
pub fn watermarks(inputs: &mut [Input], delay: i64) {
    let mut watermark = WATERMARK_START;
    for input in inputs {
        input.watermark = watermark;
        watermark = watermark.max(input.time - delay);
    }
}

/// An emission.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    pub key: String,
    pub output: u8,
    pub time: i64,
    pub value: String,
    /// The clock that a later stage sees when it gets this: of a timer's emission the instant before
    /// the timer, of a record's emission the watermark before the record.
    pub watermark: i64,
}

/// A rejected record.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// Counted over all records fed.
    pub index: usize,
    pub key: String,
    pub kind: RejectionKind,
    pub reason: String,
}

/// The host of one operator.
pub struct Driver<T> {
    operator: T,
    states: BTreeMap<String, Vec<u8>>,
    timers: BTreeMap<(String, u64), i64>,
    entries: Stored,
    fed: usize,
    /// All emissions so far.
    pub outputs: Vec<Output>,
    /// All rejections so far.
    pub rejected: Vec<Rejected>,
    /// How often timers were set.
    pub timers_set: usize,
    /// How often entries of map states were read, one or many at a time.
    #[allow(dead_code, reason = "for operators with map state, whose tests share this file")]
    pub reads: usize,
}

type Stored = BTreeMap<(u16, String, Vec<u8>), Vec<u8>>;

impl<T: Keyed> Driver<T> {
    /// A host of an operator with this configuration (JSON).
    pub fn new(config: &str) -> Self {
        let config = config::parse(config).unwrap_or_else(|e| panic!("{config}: {e}"));
        Self {
            operator: T::new(config, &Setup::default()).unwrap_or_else(|e| panic!("{e}")),
            states: BTreeMap::new(),
            timers: BTreeMap::new(),
            entries: BTreeMap::new(),
            fed: 0,
            outputs: Vec::new(),
            rejected: Vec::new(),
            timers_set: 0,
            reads: 0,
        }
    }

    /// Feeds the records in batches of these sizes, over and over.
    pub fn feed(&mut self, inputs: &[Input], sizes: &[usize], end: i64) {
        let mut sizes = sizes.iter().copied().cycle();
        let mut rest = inputs;
        while !rest.is_empty() {
            let size = sizes.next().expect("a cycle of sizes").clamp(1, rest.len());
            let (batch, next) = rest.split_at(size);
            self.batch(batch, next.first().map_or(end, |input| input.watermark));
            rest = next;
        }
        if inputs.is_empty() {
            self.batch(&[], end);
        }
    }

    /// Feeds the records in one batch and then ends the input, which closes everything.
    pub fn run(config: &str, inputs: &[Input]) -> Self {
        let mut driver = Self::new(config);
        driver.feed(inputs, &[inputs.len()], WATERMARK_END);
        driver
    }

    /// The keys that have a state, a timer or an entry in a map.
    pub fn keys_kept(&self) -> BTreeSet<&str> {
        let states = self.states.keys();
        let timers = self.timers.keys().map(|(key, _)| key);
        let entries = self.entries.keys().map(|(_, key, _)| key);
        states.chain(timers).chain(entries).map(String::as_str).collect()
    }

    #[allow(dead_code, reason = "for operators with map state, whose tests share this file")]
    /// The number of entries in the map states.
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// The values that went to an output.
    pub fn values(&self, output: usize) -> Vec<serde_json::Value> {
        let of = self.outputs.iter().filter(|o| usize::from(o.output) == output);
        of.map(|o| serde_json::from_str(&o.value).unwrap_or_else(|e| panic!("{}: {e}", o.value)))
            .collect()
    }

    /// One call, with the watermark after it.
    pub fn batch(&mut self, inputs: &[Input], end_watermark: i64) {
        let mut keys: Vec<String> = Vec::new();
        let mut slots = Vec::new();
        let slot_of = |keys: &mut Vec<String>, key: &str| {
            let at = keys.iter().position(|k| k == key).unwrap_or_else(|| {
                keys.push(key.to_owned());
                keys.len() - 1
            });
            at as u32
        };
        for input in inputs {
            slots.push(slot_of(&mut keys, &input.key));
        }
        let mut due: Vec<(u32, i64, u64)> = Vec::new();
        for ((key, tag), time) in &self.timers {
            if *time <= end_watermark {
                due.push((slot_of(&mut keys, key), *time, *tag));
            }
        }
        due.sort_unstable();
        let mut batch = KeyedBatch {
            timestamps: inputs.iter().map(|i| i.time).collect(),
            watermarks: inputs.iter().map(|i| i.watermark).collect(),
            end_watermark,
            slots,
            values: inputs.iter().map(|i| i.value.as_bytes()).collect(),
            keys: keys.iter().map(String::as_bytes).collect(),
            states: keys.iter().map(|key| self.states.get(key).map(Vec::as_slice)).collect(),
            ..KeyedBatch::default()
        };
        for (slot, time, tag) in due {
            batch.due.push(slot, TimeDomain::EventTime, tag, time);
            self.timers.remove(&(keys[slot as usize].clone(), tag));
        }
        let mut maps = Store { keys: &keys, entries: &mut self.entries, reads: &mut self.reads };
        let reply =
            keyed::run(&self.operator, &batch, &mut maps).unwrap_or_else(|e| panic!("{e:?}"));
        self.apply(&batch, &keys, &reply);
        self.fed += inputs.len();
    }

    fn apply(&mut self, batch: &KeyedBatch, keys: &[String], reply: &KeyedReply) {
        let n = batch.timestamps.len();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let mut clocks = reply.clocks.iter().copied();
        for (i, row) in reply.rows.iter().map(|row| *row as usize).enumerate() {
            let clock = (row >= n).then(|| clocks.next().expect("a clock for each timer"));
            let inherited = clock.map_or_else(|| batch.timestamps[row], |clock| clock + 1);
            let slot = if row < n { batch.slots[row] as usize } else { row - n };
            self.outputs.push(Output {
                key: reply.keys.as_ref().map_or(keys[slot].clone(), |k| text(k.bytes(i))),
                output: reply.outputs.get(i).copied().unwrap_or(0),
                time: reply.timestamps.get(i).copied().unwrap_or(inherited),
                value: text(reply.values.bytes(i)),
                watermark: clock.unwrap_or_else(|| batch.watermarks[row]),
            });
        }
        for (i, row) in reply.rejections.rows.iter().map(|row| *row as usize).enumerate() {
            self.rejected.push(Rejected {
                index: self.fed + row,
                key: keys[batch.slots[row] as usize].clone(),
                kind: reply.rejections.kinds[i],
                reason: text(reply.rejections.reasons.bytes(i)),
            });
        }
        for (i, slot) in reply.changed.iter().enumerate() {
            let key = keys[*slot as usize].clone();
            match reply.states.get(i) {
                Some(state) => self.states.insert(key, state.to_vec()),
                None => self.states.remove(&key),
            };
        }
        let cleared = &reply.timers.cleared;
        for (slot, tag) in cleared.slots.iter().zip(&cleared.tags) {
            self.timers.remove(&(keys[*slot as usize].clone(), *tag));
        }
        let set = &reply.timers.set;
        for i in 0..set.slots.len() {
            assert!(set.times[i] > batch.end_watermark, "the call should have run this timer");
            self.timers_set += 1;
            self.timers.insert((keys[set.slots[i] as usize].clone(), set.tags[i]), set.times[i]);
        }
    }

    /// Emissions and rejections by key: what must not depend on how batches were cut.
    pub fn by_key(&self) -> BTreeMap<String, (Vec<Output>, Vec<Rejected>)> {
        let mut found = BTreeMap::<String, (Vec<Output>, Vec<Rejected>)>::new();
        for output in &self.outputs {
            found.entry(output.key.clone()).or_default().0.push(output.clone());
        }
        for rejected in &self.rejected {
            found.entry(rejected.key.clone()).or_default().1.push(rejected.clone());
        }
        found
    }
}

/// The map states, seen through the slots of one call.
struct Store<'a> {
    keys: &'a [String],
    entries: &'a mut Stored,
    reads: &'a mut usize,
}

impl Store<'_> {
    fn place(&self, map: u16, slot: u32, key: &[u8]) -> (u16, String, Vec<u8>) {
        (map, self.keys[slot as usize].clone(), key.to_vec())
    }

    fn keys_in(&self, map: u16, slot: u32, range: &Range) -> Vec<(u16, String, Vec<u8>)> {
        let within = |key: &[u8]| {
            range.start.as_deref().is_none_or(|start| start <= key)
                && range.end.as_deref().is_none_or(|end| key < end)
        };
        let of = |(m, k, e): &&(u16, String, Vec<u8>)| {
            *m == map && *k == self.keys[slot as usize] && within(e)
        };
        self.entries.keys().filter(of).cloned().collect()
    }
}

impl Maps for Store<'_> {
    fn get(&mut self, map: u16, slots: &[u32], keys: &Column) -> Result<Column, MapError> {
        *self.reads += 1;
        let get = |(i, slot): (usize, &u32)| {
            self.entries.get(&self.place(map, *slot, keys.bytes(i))).map(Vec::as_slice)
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
            let place = self.place(map, *slot, keys.bytes(i));
            match values.get(i) {
                Some(value) => self.entries.insert(place, value.to_vec()),
                None => self.entries.remove(&place),
            };
        }
        Ok(())
    }

    fn delete_range(&mut self, map: u16, slot: u32, range: &Range) -> Result<(), MapError> {
        for place in self.keys_in(map, slot, range) {
            self.entries.remove(&place);
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
        let mut places = self.keys_in(map, slot, range);
        if descending {
            places.reverse();
        }
        let more = places.len() > limit as usize;
        places.truncate(limit as usize);
        Ok(Entries {
            keys: places.iter().map(|place| place.2.as_slice()).collect(),
            values: places.iter().map(|place| self.entries[place].as_slice()).collect(),
            more,
        })
    }
}
