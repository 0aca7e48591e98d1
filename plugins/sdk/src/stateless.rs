//! Operators without state.

use serde::de::DeserializeOwned;
use wasmill_abi::{ConfigError, Description, Failure, Ports, StatelessBatch, StatelessReply};

use crate::config::Setup;
use crate::emitter::{Emitter, Inherit, Source};
use crate::record::{Columns, Record};
use crate::rejection::Rejection;

/// An operator whose emissions depend on the record and the configuration alone.
///
/// It gets `&self`: there is nothing to remember from record to record.
pub trait Stateless: Sized + 'static {
    /// The stage's `config` table; [`NoConfig`](crate::config::NoConfig) for none.
    type Config: DeserializeOwned;

    /// Name, ports and wishes. Name, version and summary default to those of the crate, the ports
    /// to one input `in` and one output `out`.
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

    /// Processes one record.
    ///
    /// # Errors
    /// A [`Rejection`] takes back what this record emitted and sends the record to the channel of
    /// its kind.
    fn process(&self, record: &Record<'_>, out: &mut Emitter<'_>) -> Result<(), Rejection>;
}

/// Runs an operator over a batch.
///
/// # Errors
/// None: a stateless operator rejects records one by one.
pub fn run<T: Stateless>(operator: &T, batch: &StatelessBatch) -> Result<StatelessReply, Failure> {
    let inherit = Inherit { timestamps: &batch.timestamps, keys: &batch.keys, slots: None };
    let mut out = Emitter::new(inherit, batch.values.data.len());
    let columns = Columns {
        timestamps: &batch.timestamps,
        watermarks: &batch.watermarks,
        now: batch.now,
        inputs: &batch.inputs,
        keys: &batch.keys,
        slots: None,
        values: &batch.values,
        headers: batch.headers.as_ref(),
        origins: batch.origins.as_ref(),
    };
    for row in 0..batch.timestamps.len() {
        let record = Record { columns: &columns, row };
        out.source = Source { row: row as u32, clock: None };
        let mark = out.mark();
        if let Err(rejection) = operator.process(&record, &mut out) {
            out.roll_back(mark);
            out.reject(rejection);
        }
    }
    out.measure(batch.values.data.len());
    let rejections = out.take_rejections();
    Ok(StatelessReply {
        rows: out.rows,
        outputs: out.outputs,
        timestamps: out.timestamps,
        keys: out.keys,
        values: out.values,
        headers: out.headers,
        rejections,
    })
}
