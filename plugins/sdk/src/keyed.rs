//! Operators with state and timers per key.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::{Deref, DerefMut};
use wasmill_abi::{
    Column, ConfigError, Description, Failure, KeyedBatch, KeyedReply, Maps, Ports, TimeDomain,
};

use crate::config::Setup;
use crate::emitter::{Emitter, Inherit, Source};
use crate::map::{Buffer, Map};
use crate::prefetch::{self, Wanted};
use crate::record::{Columns, Record};
use crate::rejection::Rejection;
use crate::state::State;
use crate::timers::{self, Timer};

/// An operator that folds the records of each key into a state.
///
/// It gets `&self`: whatever must be remembered from record to record belongs into the state, the
/// map state or a timer, which the host keeps exactly once.
pub trait Keyed: Sized + 'static {
    /// The stage's `config` table; [`NoConfig`](crate::config::NoConfig) for none.
    type Config: DeserializeOwned;
    /// The value state of a key, stored in a compact binary form (postcard: no field names, so a
    /// change of the type needs a new [`Keyed::STATE_VERSION`]).
    type State: Serialize + DeserializeOwned + Default;
    /// The version of the state's type, from 1.
    const STATE_VERSION: u32 = 1;

    /// Name, ports and wishes; see [`Stateless::describe`](crate::stateless::Stateless::describe).
    fn describe() -> Description {
        Description::default()
    }

    /// Makes the operator.
    ///
    /// # Errors
    /// A [`ConfigError`] when the configuration or a resource can't be used.
    fn new(config: Self::Config, setup: &Setup) -> Result<Self, ConfigError>;

    /// The ports, where they depend on the configuration; none for those of the description.
    fn ports(&self) -> Option<Ports> {
        None
    }

    /// Names the map entries that a record will read. They are then read in one call for the whole
    /// batch, before its first record is processed, instead of one by one.
    ///
    /// It is worth writing for an operator that reads entries whose keys the record tells, as
    /// [`Map::get`](crate::map::Map::get) does. It changes no results: what is not named is read when
    /// it is needed, what is named in vain costs its reading. So it may guess, and it leaves records
    /// alone that it can't make sense of; [`Keyed::process`] rejects them.
    fn prefetch(&self, record: &Record<'_>, wanted: &mut Wanted<'_>) {
        let _ = record;
        wanted.nothing();
    }

    /// Processes one record of a key.
    ///
    /// # Errors
    /// A [`Rejection`] takes back what this record emitted and sends the record to the channel of
    /// its kind. Changes of state and timers stay, so check first and change afterwards.
    fn process(
        &self,
        record: &Record<'_>,
        state: &mut State<Self::State>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), Rejection>;

    /// Runs a timer that is due.
    fn on_timer(
        &self,
        timer: &Timer<'_>,
        state: &mut State<Self::State>,
        ctx: &mut Context<'_, '_>,
    ) {
        let _ = (timer, state, ctx);
    }

    /// Reads a state that an older version wrote; the description's `reads_state_versions` says
    /// which. None drops it.
    ///
    /// # Errors
    /// A [`Failure`] when it can't be read.
    fn migrate(from: u32, bytes: &[u8]) -> Result<Option<Self::State>, Failure> {
        let _ = bytes;
        Err(Failure { message: format!("states of version {from} can't be read") })
    }
}

/// What an operator can do while it runs for a key: emit (through [`Emitter`]), set timers, use map
/// state.
pub struct Context<'b, 'm> {
    emitter: Emitter<'b>,
    timers: timers::Book,
    maps: Buffer<'m>,
    slot: u32,
}

impl<'b> Deref for Context<'b, '_> {
    type Target = Emitter<'b>;
    fn deref(&self) -> &Emitter<'b> {
        &self.emitter
    }
}

impl<'b> DerefMut for Context<'b, '_> {
    fn deref_mut(&mut self) -> &mut Emitter<'b> {
        &mut self.emitter
    }
}

impl<'m> Context<'_, 'm> {
    /// Sets the key's event-time timer `tag` to a time in ms since the Unix epoch, or moves it
    /// there. A time that the watermark has passed runs the timer before the key's next record.
    pub fn set_timer(&mut self, tag: u64, time_ms: i64) {
        self.timers.set(self.slot, TimeDomain::EventTime, tag, Some(time_ms));
    }

    /// Clears the key's event-time timer `tag`.
    pub fn clear_timer(&mut self, tag: u64) {
        self.timers.set(self.slot, TimeDomain::EventTime, tag, None);
    }

    /// Sets the key's timer `tag` on the wall clock. It runs with a later batch, at the earliest.
    /// What it emits has the event time of the clock then (see [`Timer::watermark`]) plus 1 ms, unless
    /// it says otherwise.
    pub fn set_processing_timer(&mut self, tag: u64, time_ms: i64) {
        self.timers.set(self.slot, TimeDomain::ProcessingTime, tag, Some(time_ms));
    }

    /// Clears the key's timer `tag` on the wall clock.
    pub fn clear_processing_timer(&mut self, tag: u64) {
        self.timers.set(self.slot, TimeDomain::ProcessingTime, tag, None);
    }

    /// The map state with this index in the description's `maps`.
    pub fn map(&mut self, index: u16) -> Map<'_, 'm> {
        Map { buffer: &mut self.maps, map: index, slot: self.slot }
    }
}

/// Runs an operator over a batch.
///
/// # Errors
/// A [`Failure`] when a state can't be read or the map state refuses a call.
pub fn run<T: Keyed>(
    operator: &T,
    batch: &KeyedBatch,
    maps: &mut dyn Maps,
) -> Result<KeyedReply, Failure> {
    let inherit =
        Inherit { timestamps: &batch.timestamps, keys: &batch.keys, slots: Some(&batch.slots) };
    let columns = columns(batch);
    let mut call = Call {
        operator,
        batch,
        states: (0..batch.keys.len()).map(|_| None).collect(),
        clock: i64::MIN,
        ctx: Context {
            emitter: Emitter::new(inherit, batch.values.data.len()),
            timers: timers::Book::new(batch.keys.len(), &batch.due, batch.end_watermark),
            maps: prefetch::run(operator, batch, maps),
            slot: 0,
        },
    };
    call.run_processing_timers()?;
    for row in 0..batch.timestamps.len() {
        call.run_timers(batch.watermarks[row])?;
        call.record(&columns, row)?;
    }
    call.run_timers(batch.end_watermark)?;
    call.finish()
}

/// The columns that the records of a batch are read from.
pub(crate) fn columns(batch: &KeyedBatch) -> Columns<'_> {
    Columns {
        timestamps: &batch.timestamps,
        watermarks: &batch.watermarks,
        now: batch.now,
        inputs: &batch.inputs,
        keys: &batch.keys,
        slots: Some(&batch.slots),
        values: &batch.values,
        headers: batch.headers.as_ref(),
        origins: batch.origins.as_ref(),
    }
}

struct Call<'a, 'm, T: Keyed> {
    operator: &'a T,
    batch: &'a KeyedBatch,
    /// Decoded on first touch.
    states: Vec<Option<State<T::State>>>,
    /// The event-time clock: the watermark of the last record, or the instant before the last
    /// timer.
    clock: i64,
    ctx: Context<'a, 'm>,
}

impl<T: Keyed> Call<'_, '_, T> {
    #[inline]
    fn record(&mut self, columns: &Columns<'_>, row: usize) -> Result<(), Failure> {
        let batch = self.batch;
        let slot = batch.slots[row] as usize;
        self.clock = self.clock.max(batch.watermarks[row]);
        self.load(slot)?;
        let record = Record { columns, row };
        self.ctx.slot = slot as u32;
        self.ctx.emitter.source = Source { row: row as u32, clock: None };
        let mark = self.ctx.emitter.mark();
        let state = self.states[slot].as_mut().expect("loaded above");
        if let Err(rejection) = self.operator.process(&record, state, &mut self.ctx) {
            self.ctx.emitter.roll_back(mark);
            self.ctx.emitter.reject(rejection);
        }
        Ok(())
    }

    /// Runs the event-time timers of all keys that are due at a watermark, by time.
    #[inline]
    fn run_timers(&mut self, until: i64) -> Result<(), Failure> {
        while let Some((slot, tag, time)) = self.ctx.timers.pop(until) {
            // What a timer emits goes on as of the instant before it fell due.
            self.clock = self.clock.max(time.saturating_sub(1));
            self.call_timer(slot, TimeDomain::EventTime, tag, time)?;
        }
        Ok(())
    }

    fn run_processing_timers(&mut self) -> Result<(), Failure> {
        let due = std::mem::take(&mut self.ctx.timers.processing);
        if !due.is_empty() {
            // They run before everything else of the batch: the clock stands no later than for that.
            let start = self.batch.watermarks.first().unwrap_or(&self.batch.end_watermark);
            let timer = self.ctx.timers.first().map(|time| time.saturating_sub(1));
            self.clock = timer.map_or(*start, |timer| timer.min(*start));
        }
        for (slot, tag, time) in due {
            // One that an earlier timer of this key has moved or cleared does not run.
            if self.ctx.timers.take(slot, TimeDomain::ProcessingTime, tag, time) {
                self.call_timer(slot, TimeDomain::ProcessingTime, tag, time)?;
            }
        }
        Ok(())
    }

    fn call_timer(
        &mut self,
        slot: u32,
        domain: TimeDomain,
        tag: u64,
        time: i64,
    ) -> Result<(), Failure> {
        self.load(slot as usize)?;
        let batch = self.batch;
        let watermark = match domain {
            TimeDomain::EventTime => self.clock.max(time),
            TimeDomain::ProcessingTime => self.clock,
        };
        self.ctx.slot = slot;
        self.ctx.emitter.source =
            Source { row: batch.timestamps.len() as u32 + slot, clock: Some(self.clock) };
        let key = batch.keys.bytes(slot as usize);
        let timer = Timer { key, tag, time, domain, watermark, now: batch.now };
        let state = self.states[slot as usize].as_mut().expect("loaded above");
        self.operator.on_timer(&timer, state, &mut self.ctx);
        Ok(())
    }

    #[inline]
    fn load(&mut self, slot: usize) -> Result<(), Failure> {
        if self.states[slot].is_some() {
            return Ok(());
        }
        let value = match self.batch.states.get(slot) {
            None => None,
            Some(bytes) => Some(postcard::from_bytes(bytes).map_err(|e| Failure {
                message: format!(
                    "the state of key {:?} can't be read as state version {}: {e}; give a changed \
                     type a new STATE_VERSION and migrate",
                    String::from_utf8_lossy(self.batch.keys.bytes(slot)),
                    T::STATE_VERSION
                ),
            })?),
        };
        self.states[slot] = Some(State::new(value));
        Ok(())
    }

    fn finish(mut self) -> Result<KeyedReply, Failure> {
        let slots = self.states.len();
        let mut changed = Vec::with_capacity(slots);
        // About as large as they came.
        let mut states = Column::with_capacity(slots, self.batch.states.data.len() + 32 * slots);
        let timers = self.ctx.timers.finish();
        self.ctx.emitter.measure(self.batch.values.data.len());
        for (slot, state) in self.states.iter().enumerate() {
            let Some(state) = state.as_ref().filter(|s| s.changed()) else { continue };
            changed.push(slot as u32);
            push_state(state.value(), &mut states)?;
        }
        let Context { emitter, maps, .. } = &mut self.ctx;
        let rejections = emitter.take_rejections();
        maps.flush();
        let Context { emitter, maps, .. } = self.ctx;
        maps.finish()?;
        Ok(KeyedReply {
            rows: emitter.rows,
            clocks: emitter.clocks,
            outputs: emitter.outputs,
            timestamps: emitter.timestamps,
            keys: emitter.keys,
            values: emitter.values,
            headers: emitter.headers,
            rejections,
            changed,
            states,
            timers,
        })
    }
}

fn push_state<S: Serialize>(state: Option<&S>, column: &mut Column) -> Result<(), Failure> {
    let Some(state) = state else {
        column.push_null();
        return Ok(());
    };
    let data = std::mem::take(&mut column.data);
    column.data = postcard::to_extend(state, data)
        .map_err(|e| Failure { message: format!("the state can't be written: {e}") })?;
    column.close();
    Ok(())
}

/// Migrates a column of states.
///
/// # Errors
/// The [`Failure`] of the first state that can't be read.
pub fn migrate<T: Keyed>(from: u32, states: &Column) -> Result<Column, Failure> {
    let mut migrated = Column::default();
    for i in 0..states.len() {
        push_state(T::migrate(from, states.bytes(i))?.as_ref(), &mut migrated)?;
    }
    Ok(migrated)
}
