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
    /// past. For a processing-time timer the watermark before the first record of the batch, or that
    /// after the batch where it has none; or the instant before the first event-time timer that is
    /// due in the batch, if that is earlier.
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

/// Where the list of a key's timers ends.
const NONE: u32 = u32::MAX;

/// What is known of one timer in this call.
#[derive(Debug, Clone, Copy)]
struct Entry {
    domain: TimeDomain,
    tag: u64,
    /// None when it was cleared or has run.
    time: Option<i64>,
    /// Whether the host has to hear of it: false for those it handed in as due.
    changed: bool,
    /// The next one of the same key.
    next: u32,
}

/// The timers of the keys of a call that are due in it or have been changed by it.
#[derive(Debug)]
pub(crate) struct Book {
    /// The first entry of each key.
    first: Vec<u32>,
    entries: Vec<Entry>,
    /// The watermark at the end of the batch: no later timer runs in it.
    end: i64,
    /// Event-time timers that may run in this batch by time, slot and tag; one that is not that of
    /// its slot any more is out of date.
    queue: BinaryHeap<Reverse<(i64, u32, u64)>>,
    /// Processing-time timers that are due: slot, tag, time.
    pub(crate) processing: Vec<(u32, u64, i64)>,
}

impl Book {
    pub(crate) fn new(keys: usize, due: &Timers, end: i64) -> Self {
        let mut book = Self {
            first: vec![NONE; keys],
            entries: Vec::with_capacity(keys),
            end,
            queue: BinaryHeap::new(),
            processing: Vec::new(),
        };
        for i in 0..due.slots.len() {
            let (slot, domain, tag) = (due.slots[i], due.domains[i], due.tags[i]);
            let time = due.times[i];
            book.add(slot, Entry { domain, tag, time: Some(time), changed: false, next: NONE });
            match domain {
                TimeDomain::EventTime => book.queue.push(Reverse((time, slot, tag))),
                TimeDomain::ProcessingTime => book.processing.push((slot, tag, time)),
            }
        }
        book
    }

    fn add(&mut self, slot: u32, entry: Entry) {
        let first = &mut self.first[slot as usize];
        self.entries.push(Entry { next: *first, ..entry });
        *first = self.entries.len() as u32 - 1;
    }

    fn find(&mut self, slot: u32, domain: TimeDomain, tag: u64) -> Option<&mut Entry> {
        let mut at = self.first[slot as usize];
        while at != NONE {
            let entry = &self.entries[at as usize];
            if (entry.domain, entry.tag) == (domain, tag) {
                return Some(&mut self.entries[at as usize]);
            }
            at = entry.next;
        }
        None
    }

    pub(crate) fn set(&mut self, slot: u32, domain: TimeDomain, tag: u64, time: Option<i64>) {
        match self.find(slot, domain, tag) {
            Some(known) => (known.time, known.changed) = (time, true),
            None => self.add(slot, Entry { domain, tag, time, changed: true, next: NONE }),
        }
        if let (TimeDomain::EventTime, Some(time)) = (domain, time)
            && time <= self.end
        {
            self.queue.push(Reverse((time, slot, tag)));
        }
    }

    /// The time of the first event-time timer that may run in this batch.
    pub(crate) fn first(&self) -> Option<i64> {
        self.queue.peek().map(|Reverse((time, ..))| *time)
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
        match self.find(slot, domain, tag) {
            // One that was changed the host may still hold an older setting of, so it stays noted
            // as changed and is heard to be gone.
            Some(entry) if entry.time == Some(time) => entry.time = None,
            _ => return false,
        }
        true
    }

    pub(crate) fn finish(&self) -> TimerChanges {
        let mut changes = TimerChanges::default();
        for (slot, first) in self.first.iter().enumerate() {
            let mut at = *first;
            while at != NONE {
                let entry = &self.entries[at as usize];
                at = entry.next;
                if !entry.changed {
                    continue;
                }
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
