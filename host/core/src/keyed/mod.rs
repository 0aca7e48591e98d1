//! A stage with state: groups records by key, lets timers and records run in the order of event
//! time, takes back what changed, isolates what makes the plugin fail.
//!
//! Invariant: a call that fails leaves no trace; one that succeeds takes effect as a whole.

mod call;
mod error;
mod expiry;
mod isolate;
mod outcome;

use wasmill_abi::{RejectionKind, TimeDomain, WATERMARK_END, WATERMARK_START};

use crate::change::Changes;
use crate::flow::Flow;
use crate::keys::Keys;
use crate::maps::MapStore;
use crate::operator::Keyed;
use crate::reject::Stamp;
use crate::row::{Corrupt, Name, Timer};
use crate::stateless::{Base, Outputs, Step, original};
use crate::store::{self, Index};

pub use error::Error;

/// Why a record without a key is rejected.
const NO_KEY: &str = "the record has no key, and this stage keeps its state by key; give the \
                      source a key, or the stage a key-by";

/// A stage with state.
pub struct Stage {
    /// What every stage has.
    pub base: Base,
    /// What it runs.
    pub operator: Box<dyn Keyed>,
    /// Its keys.
    pub keys: Keys,
    /// Its map state; away while a call runs.
    maps: Option<MapStore>,
}

/// Records on their way through a stage, in parts: between two parts the event-time clock stands
/// still, so that what is downstream can follow it.
pub struct Work {
    flow: Flow,
    at: usize,
    end: i64,
    done: bool,
}

impl Work {
    /// Records, and the watermark after them.
    pub fn new(flow: Flow, end: i64) -> Self {
        Self { flow, at: 0, end, done: false }
    }

    /// Up to where state expires: the end of the input is no instant at which it does, only the
    /// records before it are.
    fn expiry_end(&self) -> i64 {
        match self.end {
            WATERMARK_END => self.flow.clocks.last().copied().unwrap_or(WATERMARK_START),
            end => end,
        }
    }
}

/// A part of a flow, with the watermark after it.
struct Part {
    from: usize,
    to: usize,
    end: i64,
    /// The keys besides those of its records whose due timers run in it.
    others: Vec<u32>,
    /// Whether timers run at all.
    timers: bool,
}

impl Stage {
    /// A stage.
    pub fn new(base: Base, operator: Box<dyn Keyed>, keys: Keys, maps: MapStore) -> Self {
        Self { base, operator, keys, maps: Some(maps) }
    }

    /// The stage's map state.
    ///
    /// # Panics
    /// While a call runs.
    pub fn maps(&mut self) -> &mut MapStore {
        self.maps.as_mut().expect("map state is only away while a call runs")
    }

    /// Ends the epoch: adds what has changed to `changes`.
    pub fn freeze(&mut self, changes: &mut Changes) {
        let epoch = self.keys.epoch();
        self.keys.freeze(changes);
        self.maps().freeze(epoch, changes);
        self.weigh();
    }

    /// The store has applied everything up to this epoch.
    pub fn applied(&mut self, epoch: u64) {
        self.maps().applied(epoch);
        self.weigh();
        self.keys.applied(epoch);
    }

    /// Begins to take in what the store has not applied.
    pub(crate) fn begin_replay(&mut self) {
        self.keys.begin_replay();
    }

    /// Takes a change in, by its store key and what that names.
    pub(crate) fn replay(
        &mut self,
        name: Name<'_>,
        store_key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), Corrupt> {
        match name {
            Name::Row { key, .. } => self.keys.replay(key, value),
            Name::Map { .. } => {
                let last = self.keys.epoch() - 1;
                self.maps().replay(store_key, value, last);
                Ok(())
            }
        }
    }

    /// Ends what [`Stage::begin_replay`] began.
    pub(crate) fn end_replay(&mut self) {
        self.keys.end_replay();
    }

    /// Forgets all state in memory, and goes on from what the store has.
    pub(crate) fn begin_anew(&mut self) {
        self.keys.begin_anew();
        self.maps().begin_anew();
        self.weigh();
    }

    /// Tells the keys how much of their memory map state takes.
    pub(crate) fn weigh(&mut self) {
        let bytes = self.maps().bytes();
        self.keys.set_map_bytes(bytes);
    }

    fn store_error(&self, error: store::Error) -> Error {
        Error::Store { stage: self.base.name.clone(), error }
    }

    /// Processes the next part. Returns what it gave and the watermark after it, or none when all
    /// is done.
    ///
    /// # Errors
    /// [`Error`] when the task must stop.
    pub fn next(
        &mut self,
        work: &mut Work,
        step: Step<'_>,
    ) -> Result<Option<(Outputs, i64)>, Error> {
        if work.done {
            return Ok(None);
        }
        let mut out = Outputs::new(self.base.ports.outputs.len());
        if work.at == 0 {
            self.drop_keyless(work, step, &mut out);
        }
        let (mut to, mut end) = self.extent(work)?;
        if self.keys.ttl_ms().is_some() {
            (to, end) = self.before_expiry(work, to, end)?;
        }
        let part = Part { from: work.at, to, end, others: Vec::new(), timers: true };
        self.base.metrics.records_in += (to - work.at) as u64;
        self.part(&mut work.flow, part, step, &mut out)?;
        self.expire(end.min(work.expiry_end()))?;
        work.at = to;
        work.done = to == work.flow.len() && end == work.end;
        self.base.metrics.records_out += out.ports.iter().map(|p| p.len() as u64).sum::<u64>();
        Ok(Some((out, end)))
    }

    /// Rejects records that have no key.
    fn drop_keyless(&mut self, work: &mut Work, step: Step<'_>, out: &mut Outputs) {
        if work.flow.keys.validity.is_empty() {
            return;
        }
        let (mut keep, mut drop) = (Vec::new(), Vec::new());
        for i in 0..work.flow.len() {
            if work.flow.keys.is_null(i) { drop.push(i) } else { keep.push(i as u32) }
        }
        let kind = RejectionKind::Malformed;
        for i in drop {
            self.base.metrics.records_in += 1;
            self.base.count_rejection(kind);
            let stamp = stamp(&self.base, self.operator.as_ref(), step);
            out.rejected.add(kind, "no-key", NO_KEY.as_bytes(), stamp, original(&work.flow, i));
        }
        if keep.len() < work.flow.len() {
            work.flow = work.flow.gather(&keep);
        }
    }

    /// The furthest towards `until` that about `n` keys have event-time timers due.
    ///
    /// # Errors
    /// [`Error`] when the state can't be read.
    pub fn horizon(&mut self, until: i64, n: usize) -> Result<i64, Error> {
        self.keys.horizon(Index::EventTime, until, n).map_err(|e| self.store_error(e))
    }

    /// When its next processing-time timer may be due.
    ///
    /// # Errors
    /// [`Error`] when the state can't be read.
    pub fn next_processing_time(&mut self, now: i64) -> Result<Option<i64>, Error> {
        self.keys.next(Index::ProcessingTime, now).map_err(|e| self.store_error(e))
    }

    /// How far the next part may go: so many records that the call is not too large, and so far in
    /// event time that not too many timers are due.
    fn extent(&mut self, work: &Work) -> Result<(usize, i64), Error> {
        let most = self.base.limits.batch_records;
        let clocks = &work.flow.clocks;
        let (mut to, mut end) = (clocks.len(), work.end);
        if to - work.at > most {
            to = work.at + most;
            end = clocks[to];
        }
        let horizon = self.horizon(end, most)?;
        if horizon < end {
            end = horizon;
            to = work.at + clocks[work.at..to].partition_point(|clock| *clock < end);
        }
        Ok((to, end))
    }

    /// Runs a part in one call, or in several when it fails or when very many timers are due at one
    /// instant.
    fn part(
        &mut self,
        flow: &mut Flow,
        mut part: Part,
        step: Step<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        loop {
            self.keys.begin();
            let mut call = self.group(flow, &part, step)?;
            let more = part.timers && self.add_due(&mut call, &part, step)?;
            if call.ids.is_empty() {
                return Ok(());
            }
            self.call(flow, &part, call, step, out)?;
            if !more {
                return Ok(());
            }
            part.from = part.to;
            part.others.clear();
        }
    }
}

fn stamp<'a>(base: &'a Base, operator: &'a dyn Keyed, step: Step<'a>) -> Stamp<'a> {
    Stamp {
        stage: &base.name,
        plugin: operator.plugin(),
        digest: operator.digest(),
        source: step.source,
        reason_bytes: base.limits.reason_bytes,
    }
}

fn is_due(timer: &Timer, end: i64, now: i64) -> bool {
    match timer.domain {
        TimeDomain::EventTime => timer.time <= end,
        TimeDomain::ProcessingTime => timer.time <= now,
    }
}
