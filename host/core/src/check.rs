//! What a guest returns is hostile: every length, index and count is checked before it is used.

use wasmill_abi::{
    Column, HeaderChanges, KeyedBatch, KeyedReply, Ports, Rejections, StatelessReply, TimeDomain,
};

use crate::limits::Limits;
use crate::operator::{CallError, FailureKind};

type Checked = Result<(), CallError>;

fn malformed(message: String) -> CallError {
    CallError::new(FailureKind::MalformedReply, message)
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(malformed(message())) }
}

fn length(name: &str, found: usize, expected: usize) -> Checked {
    ensure(found == expected, || format!("{name} has {found} elements, expected {expected}"))
}

fn column(name: &str, column: &Column, rows: usize) -> Checked {
    column.check(name).map_err(|e| malformed(e.0))?;
    length(name, column.len(), rows)
}

/// The parts that both kinds of reply have.
struct Emissions<'a> {
    rows: &'a [u32],
    outputs: &'a [u8],
    timestamps: &'a [i64],
    keys: Option<&'a Column>,
    values: &'a Column,
    headers: Option<&'a HeaderChanges>,
    rejections: &'a Rejections,
}

impl Emissions<'_> {
    /// `n` input records, `sources` things that an emission may come from.
    fn check(&self, n: usize, sources: usize, ports: &Ports, limits: &Limits) -> Checked {
        let m = self.rows.len();
        let bytes = self.bytes();
        if bytes > limits.output_bytes {
            return Err(CallError::new(
                FailureKind::Limit,
                format!("the reply has {bytes} bytes, the limit output = {}", limits.output_bytes),
            ));
        }
        if let Some(row) = self.rows.iter().find(|r| **r as usize >= sources) {
            return Err(malformed(format!("rows names source {row}, there are {sources}")));
        }
        column("values", self.values, m)?;
        if let Some(keys) = self.keys {
            column("keys", keys, m)?;
        }
        if !self.outputs.is_empty() {
            length("outputs", self.outputs.len(), m)?;
            let known = ports.outputs.len();
            let wrong = self.outputs.iter().find(|o| usize::from(**o) >= known);
            if let Some(output) = wrong {
                return Err(malformed(format!("output {output} is unknown, there are {known}")));
            }
        }
        if !self.timestamps.is_empty() {
            length("timestamps", self.timestamps.len(), m)?;
        }
        if let Some(headers) = self.headers {
            check_headers(headers, m)?;
        }
        check_rejections(self.rejections, n)
    }

    fn bytes(&self) -> usize {
        let headers = self.headers.map_or(0, |h| {
            h.added.names.size_bytes() + h.added.values.size_bytes() + 4 * h.added.ends.len()
        });
        self.values.size_bytes()
            + self.keys.map_or(0, Column::size_bytes)
            + headers
            + self.rejections.reasons.size_bytes()
            + 12 * self.rows.len()
    }
}

fn check_headers(headers: &HeaderChanges, m: usize) -> Checked {
    let added = &headers.added;
    let total = added.ends.last().map_or(0, |e| *e as usize);
    length("headers.added.ends", added.ends.len(), m)?;
    ensure(added.ends.is_sorted(), || "headers.added.ends must never decrease".into())?;
    column("headers.added.names", &added.names, total)?;
    column("headers.added.values", &added.values, total)?;
    ensure(added.names.validity.is_empty(), || "a header's name can't be null".into())?;
    let utf8 = (0..total).all(|i| std::str::from_utf8(added.names.bytes(i)).is_ok());
    ensure(utf8, || "a header's name must be UTF-8".into())?;
    ensure(headers.dropped.len() <= m.div_ceil(8), || "headers.dropped is too long".into())
}

fn check_rejections(rejections: &Rejections, n: usize) -> Checked {
    let rows = &rejections.rows;
    ensure(rows.windows(2).all(|w| w[0] < w[1]), || "rejections.rows must ascend".into())?;
    if let Some(row) = rows.last().filter(|r| **r as usize >= n) {
        return Err(malformed(format!("rejections.rows names record {row}, there are {n}")));
    }
    length("rejections.kinds", rejections.kinds.len(), rows.len())?;
    column("rejections.reasons", &rejections.reasons, rows.len())
}

/// Checks the reply of a stateless operator to `n` records.
///
/// # Errors
/// Which rule of the ABI or which limit is broken.
pub fn stateless(reply: &StatelessReply, n: usize, ports: &Ports, limits: &Limits) -> Checked {
    let e = Emissions {
        rows: &reply.rows,
        outputs: &reply.outputs,
        timestamps: &reply.timestamps,
        keys: reply.keys.as_ref(),
        values: &reply.values,
        headers: reply.headers.as_ref(),
        rejections: &reply.rejections,
    };
    e.check(n, n, ports, limits)?;
    ensure(reply.rows.is_sorted(), || "rows must never decrease".into())
}

/// Checks the reply of a keyed operator.
///
/// # Errors
/// Which rule of the ABI or which limit is broken.
pub fn keyed(reply: &KeyedReply, batch: &KeyedBatch, ports: &Ports, limits: &Limits) -> Checked {
    let (n, k) = (batch.timestamps.len(), batch.keys.len());
    let e = Emissions {
        rows: &reply.rows,
        outputs: &reply.outputs,
        timestamps: &reply.timestamps,
        keys: reply.keys.as_ref(),
        values: &reply.values,
        headers: reply.headers.as_ref(),
        rejections: &reply.rejections,
    };
    e.check(n, n + k, ports, limits)?;
    let from_timers = reply.rows.iter().filter(|r| **r as usize >= n).count();
    length("clocks", reply.clocks.len(), from_timers)?;
    if let Some(clock) = reply.clocks.iter().find(|c| **c > batch.end_watermark) {
        let end = batch.end_watermark;
        return Err(malformed(format!("clocks has {clock}, beyond the end watermark {end}")));
    }
    check_states(reply, batch, limits)?;
    check_timers(reply, batch)
}

fn check_states(reply: &KeyedReply, batch: &KeyedBatch, limits: &Limits) -> Checked {
    let k = batch.keys.len();
    ensure(reply.changed.windows(2).all(|w| w[0] < w[1]), || "changed must ascend".into())?;
    if let Some(slot) = reply.changed.last().filter(|s| **s as usize >= k) {
        return Err(malformed(format!("changed names slot {slot}, there are {k}")));
    }
    column("states", &reply.states, reply.changed.len())?;
    for (i, slot) in reply.changed.iter().enumerate() {
        let bytes = reply.states.bytes(i).len();
        if bytes > limits.state_bytes {
            let key = String::from_utf8_lossy(batch.keys.bytes(*slot as usize)).into_owned();
            return Err(CallError::new(
                FailureKind::Limit,
                format!(
                    "the state of key {key:?} has {bytes} bytes, the limit state = {}",
                    limits.state_bytes
                ),
            ));
        }
    }
    Ok(())
}

fn check_timers(reply: &KeyedReply, batch: &KeyedBatch) -> Checked {
    let (set, cleared, k) = (&reply.timers.set, &reply.timers.cleared, batch.keys.len());
    let m = set.slots.len();
    length("timers.set.domains", set.domains.len(), m)?;
    length("timers.set.tags", set.tags.len(), m)?;
    length("timers.set.times", set.times.len(), m)?;
    length("timers.cleared.domains", cleared.domains.len(), cleared.slots.len())?;
    length("timers.cleared.tags", cleared.tags.len(), cleared.slots.len())?;
    if m + cleared.slots.len() == 0 {
        return Ok(());
    }
    if let Some(slot) = set.slots.iter().chain(&cleared.slots).find(|s| **s as usize >= k) {
        return Err(malformed(format!("timers name slot {slot}, there are {k}")));
    }
    for i in 0..m {
        let event = set.domains[i] == TimeDomain::EventTime;
        if event && set.times[i] <= batch.end_watermark {
            return Err(malformed(format!(
                "timer {} is set to {}, which the end watermark {} has passed: the operator should \
                 have run it",
                set.tags[i], set.times[i], batch.end_watermark
            )));
        }
    }
    let mut names: Vec<_> = (0..m)
        .map(|i| (set.slots[i], set.domains[i], set.tags[i]))
        .chain(
            (0..cleared.slots.len())
                .map(|i| (cleared.slots[i], cleared.domains[i], cleared.tags[i])),
        )
        .collect();
    names.sort_unstable();
    ensure(names.windows(2).all(|w| w[0] != w[1]), || "a timer is changed twice".into())
}
