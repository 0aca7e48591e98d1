//! A stage with state: groups records by key, lets timers and records run in the order of event
//! time, takes back what changed, isolates what makes the plugin fail.
//!
//! Invariant: a call that fails leaves no trace; one that succeeds takes effect as a whole.

use wasmill_abi::{
    Column, KeyedBatch, KeyedReply, RejectionKind, TimeDomain, WATERMARK_END, WATERMARK_START,
};

use crate::check;
use crate::flow::{Flow, NO_ROW};
use crate::keys::Keys;
use crate::maps::{MapCall, MapStore};
use crate::operator::{CallError, FailureKind, Keyed};
use crate::reject::{Original, Stamp};
use crate::row::{Row, Timer};
use crate::stateless::{
    Base, Emitted, Inherited, Outputs, Step, assemble, failed, no_headers, original, origins,
};
use crate::store::{self, Index};

/// Why a task must stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The state store can't be read.
    #[error("stage {stage}: {error}")]
    Store {
        /// The stage.
        stage: String,
        /// What happened.
        error: store::Error,
    },
    /// Records keep making the plugin fail, or one did and the stage says `on-failure = "halt"`.
    #[error(
        "stage {stage}: plugin {plugin} failed on {in_a_row} record(s) in a row, the last time: \
         {error}; mend the plugin, or raise max-failures, and run again: nothing is lost"
    )]
    Halted {
        /// The stage.
        stage: String,
        /// The plugin's name and version.
        plugin: String,
        /// How many records in a row.
        in_a_row: u32,
        /// The last failure.
        error: CallError,
    },
    /// The plugin can't be instantiated any more.
    #[error("stage {stage}: the plugin can't be started again: {message}")]
    Broken {
        /// The stage.
        stage: String,
        /// What happened.
        message: String,
    },
    /// A stored state has a version that the plugin can't read.
    #[error(
        "stage {stage}: plugin {plugin} writes state version {writes} and reads {reads:?}, but a \
         stored state has version {found}; run the version that wrote it, or one that migrates it"
    )]
    StateVersion {
        /// The stage.
        stage: String,
        /// The plugin's name and version.
        plugin: String,
        /// What is stored.
        found: u32,
        /// What the plugin writes.
        writes: u32,
        /// What it can migrate.
        reads: Vec<u32>,
    },
    /// The plugin failed to migrate a stored state.
    #[error("stage {stage}: {message}")]
    Migration {
        /// The stage.
        stage: String,
        /// What the plugin said.
        message: String,
    },
}

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
struct Part<'a> {
    flow: &'a Flow,
    from: usize,
    to: usize,
    end: i64,
    /// The keys besides those of its records whose due timers run in it.
    others: Vec<u32>,
    /// Whether timers run at all.
    timers: bool,
}

/// A call as it was put together.
struct Call {
    batch: KeyedBatch,
    /// The entry of each slot.
    ids: Vec<u32>,
    /// When a record last touched the key of each slot; `i64::MIN` for none.
    touched: Vec<i64>,
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
        let part =
            Part { flow: &work.flow, from: work.at, to, end, others: Vec::new(), timers: true };
        self.base.metrics.records_in += (to - work.at) as u64;
        self.part(part, step, &mut out)?;
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
        let horizon = self.keys.horizon(Index::EventTime, end, most);
        let horizon = horizon.map_err(|e| self.store_error(e))?;
        if horizon < end {
            end = horizon;
            to = work.at + clocks[work.at..to].partition_point(|clock| *clock < end);
        }
        Ok((to, end))
    }

    /// Ends the part where the state of one of its keys expires, so that it is seen as gone by what
    /// comes after.
    fn before_expiry(
        &mut self,
        work: &Work,
        mut to: usize,
        mut end: i64,
    ) -> Result<(usize, i64), Error> {
        let ttl = self.keys.ttl_ms().expect("asked for by the caller");
        let mut touched: std::collections::HashMap<&[u8], i64> = std::collections::HashMap::new();
        let flow = &work.flow;
        let clocks = &flow.clocks;
        let mut until = end.min(work.expiry_end());
        // A timer sees its key's state up to the instant at which that expires, and not after it.
        self.keys.begin();
        let due = self.keys.due(Index::EventTime, until, usize::MAX);
        let rows = due.into_iter().map(|id| &self.keys.entry(id).row);
        let expiry = rows.filter(|row| row.touched != 0).map(|row| row.touched.saturating_add(ttl));
        if let Some(expiry) = expiry.min().filter(|expiry| *expiry <= until) {
            (until, end) = (expiry, expiry);
            to = work.at + clocks[work.at..to].partition_point(|clock| *clock < end);
        }
        let mut cut = None;
        for row in work.at..to {
            let key = flow.keys.bytes(row);
            let clock = flow.clocks[row];
            let now = flow.timestamps[row].max(clock);
            if let Some(last) = touched.get_mut(key) {
                if clock >= last.saturating_add(ttl) {
                    cut = Some((row, end.min(last.saturating_add(ttl))));
                    break;
                }
                *last = now.max(*last);
                continue;
            }
            touched.insert(key, now);
            let id = self.keys.find(key).map_err(|e| self.store_error(e))?;
            let row = &self.keys.entry(id).row;
            if row.touched != 0 && clock >= row.touched.saturating_add(ttl) {
                self.forget(id)?;
            }
        }
        (to, end) = cut.unwrap_or((to, end));
        let first = touched.values().min().map_or(i64::MAX, |t| t.saturating_add(ttl));
        if first < until {
            end = first;
            let within = flow.clocks[work.at..to].partition_point(|clock| *clock < end);
            to = work.at + within;
        }
        Ok((to, end))
    }

    /// Forgets the state of keys that no record has touched for the time to live.
    fn expire(&mut self, clock: i64) -> Result<(), Error> {
        let Some(ttl) = self.keys.ttl_ms() else { return Ok(()) };
        if clock == WATERMARK_START || clock == WATERMARK_END {
            return Ok(());
        }
        let until = clock.saturating_sub(ttl);
        let most = self.base.limits.batch_records;
        loop {
            let horizon = self.keys.horizon(Index::Touched, until, most);
            let horizon = horizon.map_err(|e| self.store_error(e))?;
            self.keys.begin();
            let due = self.keys.due(Index::Touched, horizon, most);
            if due.is_empty() && horizon >= until {
                return Ok(());
            }
            for id in &due {
                self.forget(*id)?;
            }
            self.keys.end_batch(&due);
        }
    }

    fn forget(&mut self, id: u32) -> Result<(), Error> {
        if self.maps().is_used() {
            let key = self.keys.entry(id).key.clone();
            let cleared = self.maps().clear_key(&key);
            cleared.map_err(|e| self.store_error(e))?;
        }
        self.keys.change(id, |row| {
            row.value = None;
            row.touched = 0;
        });
        Ok(())
    }

    /// Runs a part in one call, or in several when it fails or when very many timers are due at one
    /// instant.
    fn part(&mut self, mut part: Part<'_>, step: Step<'_>, out: &mut Outputs) -> Result<(), Error> {
        loop {
            self.keys.begin();
            let mut call = self.group(&part, step)?;
            let more = part.timers && self.add_due(&mut call, &part, step)?;
            if call.ids.is_empty() {
                return Ok(());
            }
            self.call(&part, call, step, out)?;
            if !more {
                return Ok(());
            }
            part.from = part.to;
            part.others.clear();
        }
    }

    /// Puts the records of a part together with the states of their keys.
    fn group(&mut self, part: &Part<'_>, step: Step<'_>) -> Result<Call, Error> {
        let flow = part.flow;
        let n = part.to - part.from;
        let whole = n == flow.len();
        let mut batch = KeyedBatch {
            timestamps: flow.timestamps[part.from..part.to].to_vec(),
            watermarks: flow.clocks[part.from..part.to].to_vec(),
            end_watermark: part.end,
            now: step.now,
            slots: Vec::with_capacity(n),
            keys: Column::with_capacity(n, n * 16),
            states: Column::with_capacity(n, n * 48),
            ..KeyedBatch::default()
        };
        if !flow.ports.is_empty() {
            batch.inputs = flow.ports[part.from..part.to].to_vec();
        }
        if whole {
            batch.values.clone_from(&flow.values);
        } else {
            batch.values.extend_range(&flow.values, part.from..part.to);
        }
        let mut call = Call { batch, ids: Vec::with_capacity(n), touched: Vec::new() };
        for row in part.from..part.to {
            let id = self.keys.find(flow.keys.bytes(row)).map_err(|e| self.store_error(e))?;
            let slot = self.add_key(&mut call, id)?;
            call.batch.slots.push(slot);
            let touched = &mut call.touched[slot as usize];
            *touched = flow.timestamps[row].max(flow.clocks[row]).max(*touched);
        }
        for id in &part.others {
            self.add_key(&mut call, *id)?;
        }
        if self.operator.wants_headers() {
            let mut headers = no_headers(0);
            for row in part.from..part.to {
                match &flow.headers {
                    Some(of) => headers.push_row_of(of, row),
                    None => headers.close_row(),
                }
            }
            call.batch.headers = Some(headers);
        }
        if self.operator.wants_origins() {
            call.batch.origins = Some(origins(step.source, &flow.rows[part.from..part.to]));
        }
        Ok(call)
    }

    fn add_key(&mut self, call: &mut Call, id: u32) -> Result<u32, Error> {
        let (slot, new) = self.keys.join(id, call.ids.len() as u32);
        if new {
            self.bring_up_to_date(id)?;
            let entry = self.keys.entry(id);
            call.batch.keys.push(&entry.key);
            call.batch.states.push_opt(entry.row.value.as_deref());
            call.ids.push(id);
            call.touched.push(i64::MIN);
        }
        Ok(slot)
    }

    /// Migrates the state of a key that an older version of the plugin wrote.
    fn bring_up_to_date(&mut self, id: u32) -> Result<(), Error> {
        let writes = self.operator.state_version();
        let row = &self.keys.entry(id).row;
        let (found, Some(value)) = (row.version, &row.value) else { return Ok(()) };
        if found == writes {
            return Ok(());
        }
        if !self.operator.reads_state_versions().contains(&found) {
            return Err(Error::StateVersion {
                stage: self.base.name.clone(),
                plugin: self.operator.plugin().into(),
                found,
                writes,
                reads: self.operator.reads_state_versions().to_vec(),
            });
        }
        let states: Column = std::iter::once(&value[..]).collect();
        let migrated = self.operator.migrate(found, &states).and_then(|states| {
            let sound = states.check("migrated states").is_ok() && states.len() == 1;
            if sound { Ok(states) } else { Err(failed("migrate must return one state for one")) }
        });
        let migrated = migrated.map_err(|e| Error::Migration {
            stage: self.base.name.clone(),
            message: format!("a state of version {found} can't be migrated: {e}"),
        })?;
        self.keys.change(id, |row| {
            row.version = writes;
            row.value = migrated.get(0).map(Into::into);
        });
        Ok(())
    }

    /// Adds the timers that are due: those of keys in the call, then, as far as there is room, those
    /// of others. Returns whether some had to wait for another call.
    fn add_due(&mut self, call: &mut Call, part: &Part<'_>, step: Step<'_>) -> Result<bool, Error> {
        let mut more = false;
        if part.others.is_empty() {
            let most = self.base.limits.batch_records;
            let event = self.keys.due(Index::EventTime, part.end, most);
            more = event.len() == most;
            self.keys
                .horizon(Index::ProcessingTime, step.now, most)
                .map_err(|e| self.store_error(e))?;
            let processing = self.keys.due(Index::ProcessingTime, step.now, most);
            for id in event.into_iter().chain(processing) {
                self.add_key(call, id)?;
            }
        }
        for (slot, id) in call.ids.iter().enumerate() {
            let timers = &self.keys.entry(*id).row.timers;
            if timers.is_empty() {
                continue;
            }
            let mut due: Vec<Timer> =
                timers.iter().filter(|t| is_due(t, part.end, step.now)).copied().collect();
            due.sort_by_key(|t| (t.time, t.tag));
            for t in due {
                call.batch.due.push(slot as u32, t.domain, t.tag, t.time);
            }
        }
        Ok(more)
    }

    fn call(
        &mut self,
        part: &Part<'_>,
        call: Call,
        step: Step<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let maps = self.maps.take().expect("map state is only away while a call runs");
        let keys = if maps.is_used() { call.batch.keys.clone() } else { Column::default() };
        let access = MapCall::new(maps, keys, self.base.limits.map_write_bytes);
        self.base.metrics.calls += 1;
        self.base.metrics.timers += call.batch.due.slots.len() as u64;
        let (result, access) = self.operator.process(&call.batch, Box::new(access));
        let access: Box<MapCall> =
            access.into_any().downcast().expect("an operator gives back the access it was given");
        let result = result.and_then(|reply| {
            let checked = check::keyed(&reply, &call.batch, &self.base.ports, &self.base.limits)
                .and_then(|()| self.check_timer_count(&reply, &call, part.end, step.now));
            match checked {
                Ok(()) => Ok(reply),
                Err(error) => Err(error.of(self.operator.plugin())),
            }
        });
        self.maps = Some(access.finish(result.is_ok()));
        match result {
            Ok(reply) => {
                self.base.failures_in_a_row = 0;
                self.reject(part, &call, &reply, step, out);
                self.apply(&call, &reply, part.end, step.now);
                self.emit(part, &call, reply, out);
                self.keys.end_batch(&call.ids);
                Ok(())
            }
            Err(error) => {
                self.keys.end_batch(&[]);
                self.isolate(part, call, error, step, out)
            }
        }
    }

    fn check_timer_count(
        &self,
        reply: &KeyedReply,
        call: &Call,
        end: i64,
        now: i64,
    ) -> Result<(), CallError> {
        let set = &reply.timers.set.slots;
        if set.is_empty() {
            return Ok(());
        }
        let mut counts = std::collections::HashMap::new();
        for slot in set {
            *counts.entry(*slot).or_insert(0usize) += 1;
        }
        for (slot, new) in counts {
            let id = call.ids[slot as usize];
            let kept = &self.keys.entry(id).row.timers;
            let total = new + kept.iter().filter(|t| !is_due(t, end, now)).count();
            let (limit, cleared) = (self.base.limits.timers, reply.timers.cleared.slots.len());
            if total > limit + cleared {
                let key = String::from_utf8_lossy(&self.keys.entry(id).key).into_owned();
                return Err(CallError::new(
                    FailureKind::Limit,
                    format!("key {key:?} would have {total} timers, the limit timers = {limit}"),
                ));
            }
        }
        Ok(())
    }

    /// Takes over states and timers.
    fn apply(&mut self, call: &Call, reply: &KeyedReply, end: i64, now: i64) {
        let version = self.operator.state_version();
        let ttl = self.keys.ttl_ms().is_some();
        let mut states = vec![None; call.ids.len()];
        for (i, slot) in reply.changed.iter().enumerate() {
            states[*slot as usize] = Some(i);
        }
        let (set, cleared) = (&reply.timers.set, &reply.timers.cleared);
        let mut timers: Vec<Vec<(TimeDomain, u64, Option<i64>)>> = Vec::new();
        if set.slots.len() + cleared.slots.len() > 0 {
            timers.resize(call.ids.len(), Vec::new());
            for i in 0..set.slots.len() {
                let time = set.times[i].min(WATERMARK_END - 1);
                timers[set.slots[i] as usize].push((set.domains[i], set.tags[i], Some(time)));
            }
            for i in 0..cleared.slots.len() {
                timers[cleared.slots[i] as usize].push((cleared.domains[i], cleared.tags[i], None));
            }
        }
        let mut due = vec![false; call.ids.len()];
        for slot in &call.batch.due.slots {
            due[*slot as usize] = true;
        }
        for (slot, id) in call.ids.iter().enumerate() {
            let changes = timers.get(slot).map_or(&[][..], Vec::as_slice);
            let touched = if ttl { call.touched[slot] } else { i64::MIN };
            let state = states[slot];
            if state.is_none() && changes.is_empty() && !due[slot] && touched == i64::MIN {
                continue;
            }
            self.keys.change(*id, |row| {
                if let Some(i) = state {
                    row.version = version;
                    set_value(row, reply.states.get(i));
                }
                if touched != i64::MIN {
                    row.touched = row.touched.max(touched);
                }
                if due[slot] {
                    row.timers.retain(|t| !is_due(t, end, now));
                }
                for (domain, tag, time) in changes {
                    row.timers.retain(|t| (t.domain, t.tag) != (*domain, *tag));
                    if let Some(time) = time {
                        row.timers.push(Timer { domain: *domain, tag: *tag, time: *time });
                    }
                }
            });
        }
    }

    fn emit(&self, part: &Part<'_>, call: &Call, reply: KeyedReply, out: &mut Outputs) {
        let n = call.batch.timestamps.len();
        let whole = part.flow.headers.as_ref().filter(|_| n == part.flow.len());
        let headers = match (&part.flow.headers, whole) {
            (Some(of), None) => {
                let mut headers = no_headers(0);
                (part.from..part.to).for_each(|row| headers.push_row_of(of, row));
                Some(headers)
            }
            _ => None,
        };
        let inherited = Inherited {
            timestamps: &call.batch.timestamps,
            clocks: &call.batch.watermarks,
            headers: whole.or(headers.as_ref()),
            rows: &part.flow.rows[part.from..part.to],
        };
        let emitted = Emitted {
            rows: reply.rows,
            timer_clocks: reply.clocks,
            outputs: reply.outputs,
            timestamps: reply.timestamps,
            values: reply.values,
            headers: reply.headers,
        };
        let keys = |rows: &[u32]| {
            reply.keys.unwrap_or_else(|| {
                let mut keys = Column::with_capacity(rows.len(), rows.len() * 16);
                for row in rows {
                    let row = *row as usize;
                    let slot = if row < n { call.batch.slots[row] as usize } else { row - n };
                    keys.push(call.batch.keys.bytes(slot));
                }
                keys
            })
        };
        out.take_in(assemble(emitted, keys, inherited, self.base.ports.outputs.len()));
    }

    fn reject(
        &mut self,
        part: &Part<'_>,
        call: &Call,
        reply: &KeyedReply,
        step: Step<'_>,
        out: &mut Outputs,
    ) {
        debug_assert!(call.batch.timestamps.len() == part.to - part.from);
        for (i, row) in reply.rejections.rows.iter().enumerate() {
            let kind = reply.rejections.kinds[i];
            let stamp = stamp(&self.base, self.operator.as_ref(), step);
            let record = original(part.flow, part.from + *row as usize);
            let reason = reply.rejections.reasons.bytes(i);
            out.rejected.add(kind, kind.name(), reason, stamp, record);
            self.base.count_rejection(kind);
        }
    }

    /// A call failed: look for the record or the key whose timers are to blame, by halves, in the
    /// order of event time.
    fn isolate(
        &mut self,
        part: &Part<'_>,
        call: Call,
        error: CallError,
        step: Step<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        self.base.metrics.failed_calls += 1;
        let reset = self.operator.reset();
        reset.map_err(|message| Error::Broken { stage: self.base.name.clone(), message })?;
        let flow = part.flow;
        let (n, timers) = (part.to - part.from, !call.batch.due.slots.is_empty());
        let sub = |from, to, end, others, timers| Part { flow, from, to, end, others, timers };
        match n {
            0 if call.ids.len() > 1 => {
                let (a, b) = call.ids.split_at(call.ids.len() / 2);
                self.part(sub(part.to, part.to, part.end, a.to_vec(), true), step, out)?;
                self.part(sub(part.to, part.to, part.end, b.to_vec(), true), step, out)
            }
            0 => self.drop_timers(&call, &error, step, out),
            1 if timers || call.ids.len() > 1 => {
                // First what is due before the record, then the record alone, then what is due
                // after it: each may be the culprit.
                let clock = flow.clocks[part.from];
                self.part(sub(part.from, part.from, clock, Vec::new(), true), step, out)?;
                self.part(sub(part.from, part.to, clock, Vec::new(), false), step, out)?;
                self.part(sub(part.to, part.to, part.end, Vec::new(), true), step, out)
            }
            1 => {
                let kind = RejectionKind::Malformed;
                let stamp = stamp(&self.base, self.operator.as_ref(), step);
                let record = original(flow, part.from);
                let reason = error.message.as_bytes();
                out.rejected.add(kind, error.kind.name(), reason, stamp, record);
                self.base.metrics.dead += 1;
                let plugin = self.operator.plugin().to_owned();
                self.base.poison(&plugin, &error)
            }
            _ => {
                let middle = part.from + n / 2;
                let clock = flow.clocks[middle].min(part.end);
                let timers = part.timers;
                self.part(sub(part.from, middle, clock, Vec::new(), timers), step, out)?;
                self.part(sub(middle, part.to, part.end, Vec::new(), timers), step, out)
            }
        }
    }

    /// The due timers of one key make the plugin fail: they are dropped, and said so in the dead
    /// letter queue. The key's state stays.
    fn drop_timers(
        &mut self,
        call: &Call,
        error: &CallError,
        step: Step<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let id = call.ids[0];
        let (end, due) = (call.batch.end_watermark, &call.batch.due);
        let mut dead = 0;
        for (time, tag) in due.times.iter().zip(&due.tags) {
            let stamp = stamp(&self.base, self.operator.as_ref(), step);
            let record = Original {
                key: Some(call.batch.keys.bytes(0)),
                timestamp: *time,
                clock: time.saturating_sub(1).min(end),
                row: NO_ROW,
                timer: Some((*time, *tag)),
                ..Original::default()
            };
            let reason = error.message.as_bytes();
            let kind = RejectionKind::Malformed;
            out.rejected.add(kind, error.kind.name(), reason, stamp, record);
            dead += 1;
        }
        self.base.metrics.dead += dead;
        self.keys.change(id, |row| row.timers.retain(|t| !is_due(t, end, step.now)));
        let plugin = self.operator.plugin().to_owned();
        self.base.poison(&plugin, error)
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

/// Replaces the value, in place where it is as long as the old one.
fn set_value(row: &mut Row, value: Option<&[u8]>) {
    match (&mut row.value, value) {
        (Some(old), Some(new)) if old.len() == new.len() => old.copy_from_slice(new),
        (old, new) => *old = new.map(Into::into),
    }
}
