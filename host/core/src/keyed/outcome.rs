//! What becomes of a call: its reply is checked, then taken over as a whole, or not at all.

use wasmill_abi::{Column, KeyedReply, TimeDomain, WATERMARK_END};

use super::call::Call;
use super::{Error, Part, Stage, is_due, stamp};
use crate::check;
use crate::flow::Flow;
use crate::keys::NO_ENTRY;
use crate::maps::MapCall;
use crate::operator::{CallError, FailureKind};
use crate::row::{Row, Timer, UNDATED};
use crate::stateless::{Emitted, Inherited, Outputs, Step, assemble, no_headers, original};

impl Stage {
    pub(super) fn call(
        &mut self,
        flow: &mut Flow,
        part: &Part,
        mut call: Call,
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
        self.weigh();
        call.give_back(flow);
        match result {
            Ok(reply) => {
                self.base.failures_in_a_row = 0;
                self.reject(flow, part, &reply, step, out);
                self.apply(&mut call, &reply, part.end, step.now);
                self.emit(flow, part, &call, reply, out);
                self.keys.end_batch(&call.ids);
                Ok(())
            }
            Err(error) => {
                self.keys.end_batch(&[]);
                self.isolate(flow, part, call, error, step, out)
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
            let kept = match call.ids[slot as usize] {
                NO_ENTRY => &[][..],
                id => &*self.keys.entry(id).row.timers,
            };
            let total = new + kept.iter().filter(|t| !is_due(t, end, now)).count();
            let (limit, cleared) = (self.base.limits.timers, reply.timers.cleared.slots.len());
            if total > limit + cleared {
                let key =
                    String::from_utf8_lossy(call.batch.keys.bytes(slot as usize)).into_owned();
                return Err(CallError::new(
                    FailureKind::Limit,
                    format!("key {key:?} would have {total} timers, the limit timers = {limit}"),
                ));
            }
        }
        Ok(())
    }

    /// Takes over states and timers.
    fn apply(&mut self, call: &mut Call, reply: &KeyedReply, end: i64, now: i64) {
        let version = self.operator.state_version();
        let (ttl, has_maps) = (self.keys.ttl_ms().is_some(), self.operator.maps() > 0);
        let mut states = vec![None; call.ids.len()];
        for (i, slot) in reply.changed.iter().enumerate() {
            states[*slot as usize] = Some(i);
        }
        let (set, cleared) = (&reply.timers.set, &reply.timers.cleared);
        // By slot, so that they can be walked along with the slots.
        let mut timers: Vec<(u32, TimeDomain, u64, Option<i64>)> = Vec::new();
        for i in 0..set.slots.len() {
            let time = set.times[i].min(WATERMARK_END - 1);
            timers.push((set.slots[i], set.domains[i], set.tags[i], Some(time)));
        }
        for i in 0..cleared.slots.len() {
            timers.push((cleared.slots[i], cleared.domains[i], cleared.tags[i], None));
        }
        if !timers.is_sorted_by_key(|t| t.0) {
            timers.sort_by_key(|t| t.0);
        }
        let mut timers = timers.as_slice();
        let mut due = vec![false; call.ids.len()];
        for slot in &call.batch.due.slots {
            due[*slot as usize] = true;
        }
        let gone = |state: Option<usize>| state.is_none_or(|i| reply.states.is_null(i));
        for slot in 0..call.ids.len() {
            let here = timers.iter().take_while(|t| t.0 == slot as u32).count();
            let (changes, rest) = timers.split_at(here);
            timers = rest;
            let touched = if ttl { call.touched[slot] } else { i64::MIN };
            let state = states[slot];
            if state.is_none() && changes.is_empty() && !due[slot] && touched == i64::MIN {
                continue;
            }
            if call.ids[slot] == NO_ENTRY {
                // What was never there is not removed.
                if changes.is_empty() && !has_maps && gone(state) {
                    continue;
                }
                call.ids[slot] = self.keys.make(call.batch.keys.bytes(slot));
            }
            self.keys.change(call.ids[slot], |row| {
                if let Some(i) = state {
                    row.version = version;
                    set_value(row, reply.states.get(i));
                }
                if touched != i64::MIN {
                    row.touched = row.touched.max(touched);
                } else if ttl && row.touched == UNDATED && (has_maps || row.value.is_some()) {
                    // A timer has made it; the part ends with that timer.
                    row.touched = end;
                }
                if due[slot] {
                    row.timers.retain(|t| !is_due(t, end, now));
                }
                for (_, domain, tag, time) in changes {
                    row.timers.retain(|t| (t.domain, t.tag) != (*domain, *tag));
                    if let Some(time) = time {
                        row.timers.push(Timer { domain: *domain, tag: *tag, time: *time });
                    }
                }
            });
        }
    }

    fn emit(&self, flow: &Flow, part: &Part, call: &Call, reply: KeyedReply, out: &mut Outputs) {
        let n = part.to - part.from;
        let whole = flow.headers.as_ref().filter(|_| n == flow.len());
        let headers = match (&flow.headers, whole) {
            (Some(of), None) => {
                let mut headers = no_headers(0);
                (part.from..part.to).for_each(|row| headers.push_row_of(of, row));
                Some(headers)
            }
            _ => None,
        };
        let inherited = Inherited {
            timestamps: &flow.timestamps[part.from..part.to],
            clocks: &flow.clocks[part.from..part.to],
            headers: whole.or(headers.as_ref()),
            rows: &flow.rows[part.from..part.to],
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
        flow: &Flow,
        part: &Part,
        reply: &KeyedReply,
        step: Step<'_>,
        out: &mut Outputs,
    ) {
        for (i, row) in reply.rejections.rows.iter().enumerate() {
            let kind = reply.rejections.kinds[i];
            let stamp = stamp(&self.base, self.operator.as_ref(), step);
            let record = original(flow, part.from + *row as usize);
            let reason = reply.rejections.reasons.bytes(i);
            out.rejected.add(kind, kind.name(), reason, stamp, record);
            self.base.count_rejection(kind);
        }
    }
}

/// Replaces the value, in place where it is as long as the old one.
fn set_value(row: &mut Row, value: Option<&[u8]>) {
    match (&mut row.value, value) {
        (Some(old), Some(new)) if old.len() == new.len() => old.copy_from_slice(new),
        (old, new) => *old = new.map(Into::into),
    }
}
