//! A call failed: the record or the key whose timers are to blame is found by halves and goes to the
//! dead letter queue; everything else runs again.

use wasmill_abi::RejectionKind;

use super::call::Call;
use super::{Error, Part, Stage, is_due, stamp};
use crate::flow::{Flow, NO_ROW};
use crate::operator::CallError;
use crate::reject::Original;
use crate::stateless::{Outputs, Step, original};

impl Stage {
    /// A call failed: look for the record or the key whose timers are to blame, by halves, in the
    /// order of event time.
    pub(super) fn isolate(
        &mut self,
        flow: &mut Flow,
        part: &Part,
        call: Call,
        error: CallError,
        step: Step<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        self.base.metrics.failed_calls += 1;
        let reset = self.operator.reset();
        reset.map_err(|message| Error::Broken { stage: self.base.name.clone(), message })?;
        self.keys.pin();
        let result = self.halve(flow, part, &call, error, step, out);
        self.keys.unpin();
        result
    }

    fn halve(
        &mut self,
        flow: &mut Flow,
        part: &Part,
        call: &Call,
        error: CallError,
        step: Step<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let (n, timers) = (part.to - part.from, !call.batch.due.slots.is_empty());
        let sub = |from, to, end, others, timers| Part { from, to, end, others, timers };
        match n {
            0 if call.ids.len() > 1 => {
                let (a, b) = call.ids.split_at(call.ids.len() / 2);
                self.part(flow, sub(part.to, part.to, part.end, a.to_vec(), true), step, out)?;
                self.part(flow, sub(part.to, part.to, part.end, b.to_vec(), true), step, out)
            }
            0 => self.drop_timers(call, &error, step, out),
            1 if timers || call.ids.len() > 1 => {
                // First what is due before the record, then the record alone, then what is due
                // after it: each may be the culprit.
                let clock = flow.clocks[part.from];
                self.part(flow, sub(part.from, part.from, clock, Vec::new(), true), step, out)?;
                self.part(flow, sub(part.from, part.to, clock, Vec::new(), false), step, out)?;
                self.part(flow, sub(part.to, part.to, part.end, Vec::new(), true), step, out)
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
                self.part(flow, sub(part.from, middle, clock, Vec::new(), timers), step, out)?;
                self.part(flow, sub(middle, part.to, part.end, Vec::new(), timers), step, out)
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
