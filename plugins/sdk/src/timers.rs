//! The timers of the keys of a batch.
//!
//! Invariant: a timer that falls due within the batch runs in the batch, in its place among the
//! records of its key; only later ones are handed to the host.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use wasmill_abi::{TimeDomain, TimerChanges, Timers};

/// A timer that is due.
#[derive(Debug, Clone, Copy)]
pub struct Timer<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// The name it was set with.
    pub tag: u64,
    /// When it was set for, in ms since the Unix epoch.
    pub time: i64,
    /// The clock it followed.
    pub domain: TimeDomain,
    /// The event-time clock while it runs: its own time, or a later one when it was set in the
    /// past. For processing-time timers the watermark at the start of the batch.
    pub watermark: i64,
    /// The wall clock of the host for the batch.
    pub now: i64,
}

impl Timer<'_> {
    /// The key as text, with what is not UTF-8 replaced.
    pub fn key_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.key)
    }
}

/// What is known of one timer in this call.
#[derive(Debug, Clone, Copy)]
struct Entry {
    domain: TimeDomain,
    tag: u64,
    /// None when it was cleared or has run.
    time: Option<i64>,
    /// Whether the host has to hear of it: false for those it handed in as due.
    changed: bool,
}

/// The timers of the keys of a call that are due in it or have been changed by it.
#[derive(Debug, Default)]
pub(crate) struct Book {
    slots: Vec<Vec<Entry>>,
    /// Event-time timers by time, slot and tag; an entry that is not that of its slot any more is
    /// out of date.
    queue: BinaryHeap<Reverse<(i64, u32, u64)>>,
    /// Processing-time timers that are due: slot, tag, time.
    pub(crate) processing: Vec<(u32, u64, i64)>,
}

impl Book {
    pub(crate) fn new(keys: usize, due: &Timers) -> Self {
        let mut book = Self { slots: vec![Vec::new(); keys], ..Self::default() };
        for i in 0..due.slots.len() {
            let (slot, domain, tag) = (due.slots[i], due.domains[i], due.tags[i]);
            let time = due.times[i];
            let entry = Entry { domain, tag, time: Some(time), changed: false };
            book.slots[slot as usize].push(entry);
            match domain {
                TimeDomain::EventTime => book.queue.push(Reverse((time, slot, tag))),
                TimeDomain::ProcessingTime => book.processing.push((slot, tag, time)),
            }
        }
        book
    }

    pub(crate) fn set(&mut self, slot: u32, domain: TimeDomain, tag: u64, time: Option<i64>) {
        let entry = Entry { domain, tag, time, changed: true };
        let entries = &mut self.slots[slot as usize];
        match entries.iter_mut().find(|e| e.domain == domain && e.tag == tag) {
            Some(known) => *known = entry,
            None => entries.push(entry),
        }
        if let (TimeDomain::EventTime, Some(time)) = (domain, time) {
            self.queue.push(Reverse((time, slot, tag)));
        }
    }

    /// Takes out the first event-time timer at or before a watermark: slot, tag, time.
    #[inline]
    pub(crate) fn pop(&mut self, until: i64) -> Option<(u32, u64, i64)> {
        while let Some(Reverse((time, ..))) = self.queue.peek()
            && *time <= until
        {
            let Reverse((time, slot, tag)) = self.queue.pop().expect("peeked above");
            if self.take(slot, TimeDomain::EventTime, tag, time) {
                return Some((slot, tag, time));
            }
        }
        None
    }

    /// Marks a timer as run; false when it has been moved or cleared meanwhile.
    pub(crate) fn take(&mut self, slot: u32, domain: TimeDomain, tag: u64, time: i64) -> bool {
        let entries = &mut self.slots[slot as usize];
        let wanted = |e: &Entry| e.domain == domain && e.tag == tag && e.time == Some(time);
        let Some(i) = entries.iter().position(wanted) else { return false };
        if entries[i].changed {
            // The host may still hold an older setting of it, so it must hear that it is gone.
            entries[i].time = None;
        } else {
            entries.swap_remove(i);
        }
        true
    }

    pub(crate) fn finish(&self) -> TimerChanges {
        let mut changes = TimerChanges::default();
        for (slot, entries) in self.slots.iter().enumerate() {
            for entry in entries.iter().filter(|e| e.changed) {
                match entry.time {
                    Some(time) => changes.set.push(slot as u32, entry.domain, entry.tag, time),
                    None => {
                        changes.cleared.slots.push(slot as u32);
                        changes.cleared.domains.push(entry.domain);
                        changes.cleared.tags.push(entry.tag);
                    }
                }
            }
        }
        changes
    }
}
