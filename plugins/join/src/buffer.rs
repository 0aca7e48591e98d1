//! The records of one side of a key that may still find a partner: entries of a map state in the
//! order of their event times.
//!
//! Invariant: the order of entry keys is that of event time, then of arrival.

use serde::{Deserialize, Serialize};
use wasmill_sdk::abi::maps::Entries;
use wasmill_sdk::prelude::*;

/// Most entries that are read at a time.
const PAGE: u32 = 1_000;

/// The length of an entry key: event time and number, each 8 bytes.
const KEY_BYTES: usize = 16;

/// What is known of a side without reading its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The event time of its first record.
    pub(crate) first: i64,
    /// A time that no record of it is later than.
    pub(crate) last: i64,
}

impl Extent {
    /// An extent that contains a time as well.
    pub(crate) fn with(extent: Option<Self>, time: i64) -> Self {
        let known = extent.unwrap_or(Self { first: time, last: time });
        Self { first: known.first.min(time), last: known.last.max(time) }
    }

    /// Whether there may be a record from `from` to `to`, both included.
    pub(crate) fn meets(&self, from: i64, to: i64) -> bool {
        self.first <= to && from <= self.last
    }
}

/// A buffered record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buffered<'a> {
    pub(crate) time: i64,
    /// Whether it has had a partner; only kept where it matters.
    pub(crate) matched: bool,
    pub(crate) value: &'a [u8],
}

/// The entries of one side of the current key.
pub(crate) struct Buffer<'c, 'b, 'm> {
    ctx: &'c mut Context<'b, 'm>,
    map: u16,
}

impl<'c, 'b, 'm> Buffer<'c, 'b, 'm> {
    /// That of a side, 0 or 1.
    pub(crate) fn of(ctx: &'c mut Context<'b, 'm>, side: usize) -> Self {
        Self { ctx, map: side as u16 }
    }

    /// Adds a record. `number` counts the records of a key.
    pub(crate) fn add(&mut self, number: u64, record: Buffered<'_>) {
        let mut key = [0; KEY_BYTES];
        key[..8].copy_from_slice(&in_order(record.time));
        key[8..].copy_from_slice(&number.to_be_bytes());
        self.ctx.map(self.map).put(&key, &entry(record.matched, record.value));
    }

    /// Calls `each` with the records from `from` to `to`, both included, in order. With `mark`, they
    /// count as matched from then on.
    pub(crate) fn each(
        &mut self,
        from: i64,
        to: i64,
        mark: bool,
        mut each: impl FnMut(&mut Context<'b, 'm>, Buffered<'_>),
    ) {
        let end = to.checked_add(1).map(in_order);
        let mut start = in_order(from).to_vec();
        loop {
            let end = end.as_ref().map(<[u8; 8]>::as_slice);
            let page = self.ctx.map(self.map).scan(Some(&start), end, PAGE);
            for i in 0..page.keys.len() {
                let record = read(&page, i);
                each(self.ctx, record);
                if mark && !record.matched {
                    let marked = entry(true, record.value);
                    self.ctx.map(self.map).put(page.keys.bytes(i), &marked);
                }
            }
            if !page.more || page.keys.is_empty() {
                return;
            }
            start = after(page.keys.bytes(page.keys.len() - 1));
        }
    }

    /// Removes the records up to `to`, unseen. Gives the time of the first that is left.
    pub(crate) fn remove(&mut self, extent: Extent, to: i64) -> Option<i64> {
        let mut map = self.ctx.map(self.map);
        let end = to.checked_add(1).filter(|_| to < extent.last).map(in_order);
        map.remove_range(None, end.as_ref().map(<[u8; 8]>::as_slice));
        // From there on: the host passes over what was removed entry by entry.
        let left = map.scan(Some(&end?), None, 1);
        (!left.keys.is_empty()).then(|| read(&left, 0).time)
    }

    /// Takes out the records from `from`, which none is before, up to `to`, both included, in order.
    /// Gives the time of the first that is left.
    pub(crate) fn take(
        &mut self,
        from: i64,
        to: i64,
        mut each: impl FnMut(&mut Context<'b, 'm>, Buffered<'_>),
    ) -> Option<i64> {
        // Mostly it is one that is due, and one more tells when the next is.
        let mut limit = 2;
        let mut start = in_order(from).to_vec();
        loop {
            let page = self.ctx.map(self.map).scan(Some(&start), None, limit);
            for i in 0..page.keys.len() {
                let record = read(&page, i);
                if record.time > to {
                    return Some(record.time);
                }
                each(self.ctx, record);
                self.ctx.map(self.map).remove(page.keys.bytes(i));
            }
            if !page.more || page.keys.is_empty() {
                return None;
            }
            start = after(page.keys.bytes(page.keys.len() - 1));
            limit = PAGE;
        }
    }
}

/// An entry's value: whether it has matched, and the record.
fn entry(matched: bool, value: &[u8]) -> Vec<u8> {
    [&[u8::from(matched)], value].concat()
}

fn read(page: &Entries, i: usize) -> Buffered<'_> {
    let key = page.keys.bytes(i);
    let time = key.first_chunk().expect("entry keys begin with a time of 8 bytes");
    let (matched, value) = page.values.bytes(i).split_first().expect("entries begin with a mark");
    let time = (u64::from_be_bytes(*time) ^ (1 << 63)).cast_signed();
    Buffered { time, matched: *matched != 0, value }
}

/// A time as bytes whose order is that of time: big-endian with the sign flipped.
fn in_order(time: i64) -> [u8; 8] {
    (time.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// The least entry key behind another.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
