//! The timers of the keys of a batch.
//!
//! Invariant: a timer that falls due within the batch runs in the batch, in its place among the
//! records of its key; only later ones are handed to the host.

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
    /// None when it was cleared.
    time: Option<i64>,
    /// Whether the host has to hear of it: false for those it handed in as due.
    changed: bool,
}

/// The timers of one key that are due in this batch or have been changed by it.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    entries: Vec<Entry>,
    /// The earliest event time among them.
    next: Option<i64>,
    /// Whether a timer of processing time is due.
    pub(crate) processing_due: bool,
}

impl Slot {
    pub(crate) fn add_due(&mut self, domain: TimeDomain, tag: u64, time: i64) {
        self.entries.push(Entry { domain, tag, time: Some(time), changed: false });
        self.processing_due |= domain == TimeDomain::ProcessingTime;
        self.refresh();
    }

    pub(crate) fn set(&mut self, domain: TimeDomain, tag: u64, time: Option<i64>) {
        let entry = Entry { domain, tag, time, changed: true };
        match self.entries.iter_mut().find(|e| e.domain == domain && e.tag == tag) {
            Some(known) => *known = entry,
            None => self.entries.push(entry),
        }
        self.refresh();
    }

    /// Whether an event-time timer is due at this watermark.
    #[inline]
    pub(crate) fn due(&self, watermark: i64) -> bool {
        self.next.is_some_and(|next| next <= watermark)
    }

    /// Takes the first timer that is due out: by time, then tag.
    pub(crate) fn pop(&mut self, domain: TimeDomain, until: i64) -> Option<(u64, i64)> {
        let (i, time) = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, e)| e.domain == domain)
            .filter_map(|(i, e)| e.time.filter(|t| *t <= until).map(|t| (i, t)))
            .min_by_key(|(i, time)| (*time, self.entries[*i].tag))?;
        let entry = &mut self.entries[i];
        let tag = entry.tag;
        if entry.changed {
            // The host may still hold an older setting of it, so it must hear that it is gone.
            entry.time = None;
        } else {
            self.entries.swap_remove(i);
        }
        self.refresh();
        Some((tag, time))
    }

    fn refresh(&mut self) {
        self.next = self
            .entries
            .iter()
            .filter(|e| e.domain == TimeDomain::EventTime)
            .filter_map(|e| e.time)
            .min();
    }

    pub(crate) fn finish(&self, slot: u32, changes: &mut TimerChanges) {
        for entry in &self.entries {
            match entry.time {
                Some(time) => changes.set.push(slot, entry.domain, entry.tag, time),
                None => {
                    changes.cleared.slots.push(slot);
                    changes.cleared.domains.push(entry.domain);
                    changes.cleared.tags.push(entry.tag);
                }
            }
        }
    }
}

/// Hands the due timers of a batch to their slots.
pub(crate) fn distribute(due: &Timers, slots: &mut [Slot]) {
    for i in 0..due.slots.len() {
        slots[due.slots[i] as usize].add_due(due.domains[i], due.tags[i], due.times[i]);
    }
}
