//! Putting a call together: records, the keys they touch with their states, the timers that are due.
//!
//! Invariant: what a call borrows from the flow it gives back before anything else looks at the flow.

use wasmill_abi::{Column, KeyedBatch};

use super::{Error, Part, Stage, is_due};
use crate::flow::Flow;
use crate::keys::NO_ENTRY;
use crate::operator::{CallError, FailureKind};
use crate::row::Timer;
use crate::stateless::{Step, failed, no_headers, origins};
use crate::store::Index;

/// A call as it was put together.
pub(super) struct Call {
    pub(super) batch: KeyedBatch,
    /// The entry of each slot, or [`NO_ENTRY`].
    pub(super) ids: Vec<u32>,
    /// When a record last touched the key of each slot; `i64::MIN` for none.
    pub(super) touched: Vec<i64>,
    /// Whether the columns of the flow are in the batch.
    whole: bool,
}

impl Call {
    /// Gives back what was taken from the flow.
    pub(super) fn give_back(&mut self, flow: &mut Flow) {
        if !std::mem::take(&mut self.whole) {
            return;
        }
        let batch = &mut self.batch;
        flow.timestamps = std::mem::take(&mut batch.timestamps);
        flow.clocks = std::mem::take(&mut batch.watermarks);
        flow.ports = std::mem::take(&mut batch.inputs);
        flow.values = std::mem::take(&mut batch.values);
    }
}

impl Stage {
    /// Puts the records of a part together with the states of their keys.
    pub(super) fn group(
        &mut self,
        flow: &mut Flow,
        part: &Part,
        step: Step<'_>,
    ) -> Result<Call, Error> {
        let n = part.to - part.from;
        let keys = (part.from..part.to).map(|row| flow.keys.bytes(row));
        let (sought, bytes) = self.keys.seek(keys);
        let batch = KeyedBatch {
            end_watermark: part.end,
            now: step.now,
            slots: Vec::with_capacity(n),
            keys: Column::with_capacity(n, n * 16),
            states: Column::with_capacity(n, bytes),
            ..KeyedBatch::default()
        };
        let ids = Vec::with_capacity(n);
        let mut call = Call { batch, ids, touched: Vec::new(), whole: n > 0 && n == flow.len() };
        let ttl = self.keys.ttl_ms().is_some();
        for (row, sought) in (part.from..part.to).zip(sought) {
            let key = flow.keys.bytes(row);
            let found = self.keys.find_sought(sought, key);
            let slot = match found.map_err(|e| self.store_error(e))? {
                Some(id) => self.add_key(&mut call, id)?,
                None => self.add_new_key(&mut call, sought.0, key),
            };
            call.batch.slots.push(slot);
            if ttl {
                let touched = &mut call.touched[slot as usize];
                *touched = flow.timestamps[row].max(flow.clocks[row]).max(*touched);
            }
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
        let batch = &mut call.batch;
        if call.whole {
            batch.timestamps = std::mem::take(&mut flow.timestamps);
            batch.watermarks = std::mem::take(&mut flow.clocks);
            batch.inputs = std::mem::take(&mut flow.ports);
            batch.values = std::mem::take(&mut flow.values);
        } else {
            batch.timestamps = flow.timestamps[part.from..part.to].to_vec();
            batch.watermarks = flow.clocks[part.from..part.to].to_vec();
            if !flow.ports.is_empty() {
                batch.inputs = flow.ports[part.from..part.to].to_vec();
            }
            batch.values.extend_range(&flow.values, part.from..part.to);
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

    fn add_new_key(&mut self, call: &mut Call, hash: u64, key: &[u8]) -> u32 {
        let next = call.ids.len() as u32;
        let (slot, new) = self.keys.join_new(hash, key, &call.batch.keys, next);
        if new {
            call.batch.keys.push(key);
            call.batch.states.push_null();
            call.ids.push(NO_ENTRY);
            call.touched.push(i64::MIN);
        }
        slot
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
            let (bytes, limit) = (states.data.len(), self.base.limits.state_bytes);
            match sound {
                false => Err(failed("migrate must return one state for one")),
                true if bytes > limit => Err(CallError::new(
                    FailureKind::Limit,
                    format!("the migrated state has {bytes} bytes, the limit state = {limit}"),
                )),
                true => Ok(states),
            }
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
    pub(super) fn add_due(
        &mut self,
        call: &mut Call,
        part: &Part,
        step: Step<'_>,
    ) -> Result<bool, Error> {
        let mut more = false;
        if part.others.is_empty() {
            // A part ends with an instant, at which some more may be due than it was made for.
            let most = self.base.limits.batch_records;
            let most = most + most / 4;
            let event = self.keys.due(Index::EventTime, part.end, most);
            more = event.len() == most;
            self.keys
                .horizon(Index::ProcessingTime, step.now, most)
                .map_err(|e| self.store_error(e))?;
            let processing = self.keys.due(Index::ProcessingTime, step.now, most);
            let ids = || event.iter().chain(&processing).copied();
            self.keys.warm(ids());
            for id in ids() {
                self.add_key(call, id)?;
            }
        }
        for (slot, id) in call.ids.iter().enumerate().filter(|(_, id)| **id != NO_ENTRY) {
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
}
