//! A stage without state: batch in, emissions out, poison records isolated.

use wasmill_abi::{
    Column, HeaderChanges, Headers, Origins, Ports, RejectionKind, StatelessBatch, StatelessReply,
};

use crate::check;
use crate::flow::{Flow, NO_ROW, Source};
use crate::keyed::Error;
use crate::limits::Limits;
use crate::metrics;
use crate::operator::{CallError, FailureKind, Stateless};
use crate::reject::{Original, Rejected, Stamp};

/// What to do with a record that makes a plugin fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailurePolicy {
    /// Stop at the first one instead of sending it to the dead letter queue.
    pub halt: bool,
    /// Stop when so many in a row fail without a single success in between.
    pub most_in_a_row: u32,
}

impl Default for FailurePolicy {
    fn default() -> Self {
        Self { halt: false, most_in_a_row: 100 }
    }
}

/// What a stage gives back for a part of its work.
#[derive(Debug, Default)]
pub struct Outputs {
    /// What was emitted, by output port.
    pub ports: Vec<Flow>,
    /// What was rejected.
    pub rejected: Rejected,
}

impl Outputs {
    pub(crate) fn new(ports: usize) -> Self {
        Self { ports: (0..ports).map(|_| Flow::default()).collect(), rejected: Rejected::default() }
    }

    pub(crate) fn take_in(&mut self, flows: Vec<Flow>) {
        for (all, more) in self.ports.iter_mut().zip(flows) {
            if all.is_empty() {
                *all = more;
            } else if !more.is_empty() {
                all.append(&more);
            }
        }
    }
}

/// What every kind of stage is made of.
#[derive(Debug, Clone)]
pub struct Base {
    /// The stage's name.
    pub name: String,
    /// The ports in effect.
    pub ports: Ports,
    /// The limits.
    pub limits: Limits,
    /// What to do with poison records.
    pub policy: FailurePolicy,
    /// Counts.
    pub metrics: metrics::Stage,
    pub(crate) failures_in_a_row: u32,
}

impl Base {
    /// A stage that has counted nothing yet.
    pub fn new(name: &str, ports: Ports, limits: Limits, policy: FailurePolicy) -> Self {
        let metrics = metrics::Stage::default();
        Self { name: name.into(), ports, limits, policy, metrics, failures_in_a_row: 0 }
    }

    pub(crate) fn count_rejection(&mut self, kind: RejectionKind) {
        match kind {
            RejectionKind::Malformed => self.metrics.dead += 1,
            RejectionKind::Invalid => self.metrics.invalid += 1,
            RejectionKind::Late => self.metrics.late += 1,
            RejectionKind::Expired => self.metrics.expired += 1,
        }
    }

    /// Decides whether a poison record stops the task.
    ///
    /// # Errors
    /// [`Error::Halted`] when the policy says so.
    pub(crate) fn poison(&mut self, plugin: &str, error: &CallError) -> Result<(), Error> {
        self.metrics.poison += 1;
        self.failures_in_a_row += 1;
        if !self.policy.halt && self.failures_in_a_row < self.policy.most_in_a_row {
            return Ok(());
        }
        Err(Error::Halted {
            stage: self.name.clone(),
            plugin: plugin.into(),
            in_a_row: self.failures_in_a_row,
            error: error.clone(),
        })
    }
}

/// A stage without state.
pub struct Stage {
    /// What every stage has.
    pub base: Base,
    /// What it runs.
    pub operator: Box<dyn Stateless>,
}

/// What a step has in common for all its parts.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The wall clock, in ms.
    pub now: i64,
    /// Where the records came from.
    pub source: &'a Source,
}

impl Stage {
    /// Processes records, at most `batch_records`: those of one call. Whoever has more goes on part by
    /// part, so that what one gave is still at hand for the stage behind.
    ///
    /// # Errors
    /// [`Error`] when the task must stop.
    pub fn run(&mut self, flow: Flow, step: Step<'_>) -> Result<Outputs, Error> {
        let mut out = Outputs::new(self.base.ports.outputs.len());
        self.base.metrics.records_in += flow.len() as u64;
        self.part(flow, step, &mut out)?;
        self.base.metrics.records_out += out.ports.iter().map(|p| p.len() as u64).sum::<u64>();
        Ok(out)
    }

    fn part(&mut self, flow: Flow, step: Step<'_>, out: &mut Outputs) -> Result<(), Error> {
        if flow.is_empty() {
            return Ok(());
        }
        let n = flow.len();
        let origins = self.operator.wants_origins().then(|| origins(step.source, &flow.rows));
        let wants_headers = self.operator.wants_headers();
        let Flow { timestamps, clocks, ports, keys, values, headers, rows } = flow;
        let (for_guest, kept) = if wants_headers {
            (Some(headers.unwrap_or_else(|| no_headers(n))), None)
        } else {
            (None, headers)
        };
        let batch = StatelessBatch {
            timestamps,
            watermarks: clocks,
            now: step.now,
            inputs: ports,
            keys,
            values,
            headers: for_guest,
            origins,
        };
        self.base.metrics.calls += 1;
        let result = self.operator.process(&batch).and_then(|reply| {
            match check::stateless(&reply, n, &self.base.ports, &self.base.limits) {
                Ok(()) => Ok(reply),
                Err(error) => Err(error.of(self.operator.plugin())),
            }
        });
        match result {
            Ok(reply) => {
                self.base.failures_in_a_row = 0;
                let headers = batch.headers.as_ref().or(kept.as_ref());
                self.reject(&batch, &reply, headers, &rows, step, out);
                let inherited = Inherited {
                    timestamps: &batch.timestamps,
                    clocks: &batch.watermarks,
                    headers,
                    rows: &rows,
                };
                let mut reply = reply;
                let emitted = Emitted {
                    rows: std::mem::take(&mut reply.rows),
                    timer_clocks: Vec::new(),
                    outputs: std::mem::take(&mut reply.outputs),
                    timestamps: std::mem::take(&mut reply.timestamps),
                    values: std::mem::take(&mut reply.values),
                    headers: reply.headers.take(),
                };
                let keys = |emitted: &[u32]| match reply.keys.take() {
                    Some(keys) => keys,
                    None if is_identity(emitted, n) => batch.keys.clone(),
                    None => emitted.iter().map(|r| batch.keys.get(*r as usize)).collect(),
                };
                out.take_in(assemble(emitted, keys, inherited, self.base.ports.outputs.len()));
                Ok(())
            }
            Err(error) => {
                let flow = Flow {
                    timestamps: batch.timestamps,
                    clocks: batch.watermarks,
                    ports: batch.inputs,
                    keys: batch.keys,
                    values: batch.values,
                    headers: batch.headers.or(kept),
                    rows,
                };
                self.isolate(flow, error, step, out)
            }
        }
    }

    /// A call failed: look for the records that are to blame, by halves.
    fn isolate(
        &mut self,
        flow: Flow,
        error: CallError,
        step: Step<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        self.base.metrics.failed_calls += 1;
        let reset = self.operator.reset();
        reset.map_err(|message| Error::Broken { stage: self.base.name.clone(), message })?;
        if flow.len() > 1 {
            let middle = flow.len() / 2;
            self.part(flow.slice(0..middle), step, out)?;
            return self.part(flow.slice(middle..flow.len()), step, out);
        }
        let plugin = self.operator.plugin().to_owned();
        let stamp = Stamp {
            stage: &self.base.name,
            plugin: &plugin,
            digest: self.operator.digest(),
            source: step.source,
            reason_bytes: self.base.limits.reason_bytes,
        };
        let kind = RejectionKind::Malformed;
        let reason = error.message.as_bytes();
        out.rejected.add(kind, error.kind.name(), reason, stamp, original(&flow, 0));
        self.base.metrics.dead += 1;
        self.base.poison(&plugin, &error)
    }

    fn reject(
        &mut self,
        batch: &StatelessBatch,
        reply: &StatelessReply,
        headers: Option<&Headers>,
        rows: &[u32],
        step: Step<'_>,
        out: &mut Outputs,
    ) {
        let rejections = &reply.rejections;
        for (i, row) in rejections.rows.iter().enumerate() {
            let (kind, row) = (rejections.kinds[i], *row as usize);
            let stamp = Stamp {
                stage: &self.base.name,
                plugin: self.operator.plugin(),
                digest: self.operator.digest(),
                source: step.source,
                reason_bytes: self.base.limits.reason_bytes,
            };
            let record = Original {
                key: batch.keys.get(row),
                value: batch.values.get(row),
                timestamp: batch.timestamps[row],
                clock: batch.watermarks[row],
                row: rows[row],
                headers: headers.map(|h| (h, row)),
                timer: None,
            };
            out.rejected.add(kind, kind.name(), rejections.reasons.bytes(i), stamp, record);
            self.base.count_rejection(kind);
        }
    }
}

/// A record of a flow, for rejecting it.
pub(crate) fn original(flow: &Flow, i: usize) -> Original<'_> {
    Original {
        key: flow.keys.get(i),
        value: flow.values.get(i),
        timestamp: flow.timestamps[i],
        clock: flow.clocks[i],
        row: flow.rows[i],
        headers: flow.headers.as_ref().map(|h| (h, i)),
        timer: None,
    }
}

pub(crate) fn no_headers(n: usize) -> Headers {
    Headers { ends: vec![0; n], ..Headers::default() }
}

pub(crate) fn origins(source: &Source, rows: &[u32]) -> Origins {
    let offset = |row: &u32| source.offsets.get(*row as usize).copied().unwrap_or(-1);
    Origins {
        topics: vec![source.topic.clone()],
        topic: vec![0; rows.len()],
        partition: vec![source.partition; rows.len()],
        offset: rows.iter().map(offset).collect(),
    }
}

/// What emissions may inherit from their source records.
#[derive(Clone, Copy)]
pub(crate) struct Inherited<'a> {
    pub(crate) timestamps: &'a [i64],
    pub(crate) clocks: &'a [i64],
    pub(crate) headers: Option<&'a Headers>,
    pub(crate) rows: &'a [u32],
}

/// The columns of emissions, as a checked reply has them.
pub(crate) struct Emitted {
    pub(crate) rows: Vec<u32>,
    /// For each emission of a timer the clock before it.
    pub(crate) timer_clocks: Vec<i64>,
    pub(crate) outputs: Vec<u8>,
    pub(crate) timestamps: Vec<i64>,
    pub(crate) values: Column,
    pub(crate) headers: Option<HeaderChanges>,
}

fn is_identity(rows: &[u32], n: usize) -> bool {
    rows.len() == n && rows.iter().enumerate().all(|(i, r)| *r as usize == i)
}

/// Turns the emissions of a reply into a flow for each output port.
pub(crate) fn assemble(
    emitted: Emitted,
    keys: impl FnOnce(&[u32]) -> Column,
    inherited: Inherited<'_>,
    ports: usize,
) -> Vec<Flow> {
    let n = inherited.timestamps.len();
    let m = emitted.rows.len();
    let mut flow = Flow { keys: keys(&emitted.rows), ..Flow::default() };
    if emitted.timer_clocks.is_empty() {
        let of = |column: &[i64]| emitted.rows.iter().map(|r| column[*r as usize]).collect();
        flow.clocks = of(inherited.clocks);
        flow.timestamps = if emitted.timestamps.is_empty() {
            of(inherited.timestamps)
        } else {
            emitted.timestamps
        };
        flow.rows = emitted.rows.iter().map(|r| inherited.rows[*r as usize]).collect();
    } else {
        let mut timers = emitted.timer_clocks.iter();
        for row in &emitted.rows {
            if let Some(timestamp) = inherited.timestamps.get(*row as usize) {
                flow.clocks.push(inherited.clocks[*row as usize]);
                flow.timestamps.push(*timestamp);
                flow.rows.push(inherited.rows[*row as usize]);
            } else {
                let clock = *timers.next().expect("checked: a clock for each emission of a timer");
                flow.clocks.push(clock);
                flow.timestamps.push(clock.saturating_add(1));
                flow.rows.push(NO_ROW);
            }
        }
        if !emitted.timestamps.is_empty() {
            flow.timestamps = emitted.timestamps;
        }
    }
    flow.headers = headers(&emitted.rows, n, emitted.headers.as_ref(), inherited.headers);
    flow.values = emitted.values;
    if emitted.outputs.iter().all(|o| *o == 0) {
        let mut flows: Vec<Flow> = (1..ports).map(|_| Flow::default()).collect();
        flows.insert(0, flow.into_order());
        return flows;
    }
    let mut indexes: Vec<Vec<u32>> = vec![Vec::new(); ports];
    for i in 0..m {
        indexes[usize::from(emitted.outputs[i])].push(i as u32);
    }
    indexes.iter().map(|i| flow.gather(i).into_order()).collect()
}

fn headers(
    rows: &[u32],
    n: usize,
    changes: Option<&HeaderChanges>,
    inherited: Option<&Headers>,
) -> Option<Headers> {
    if changes.is_none() && inherited.is_none() {
        return None;
    }
    let mut headers = Headers::default();
    for (i, row) in rows.iter().enumerate() {
        let row = *row as usize;
        if let Some(inherited) = inherited.filter(|_| row < n)
            && !changes.is_some_and(|c| c.drops(i))
        {
            for (name, value) in inherited.row(row) {
                headers.names.push(name);
                headers.values.push_opt(value);
            }
        }
        match changes {
            Some(changes) => headers.push_row_of(&changes.added, i),
            None => headers.close_row(),
        }
    }
    (!headers.names.is_empty()).then_some(headers)
}

/// A failure of the host itself, in the form of a call error.
pub(crate) fn failed(message: impl Into<String>) -> CallError {
    CallError::new(FailureKind::Failed, message)
}
