//! Replies that break the ABI in what both kinds of plugin return.

use serde::Deserialize;
use wasmill_sdk::abi::{Column, HeaderChanges, RejectionKind, Rejections};

/// How a reply is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forgery {
    /// An emission of a record that is not in the batch.
    RowsOutOfRange,
    /// Fewer values than emissions.
    FewerValues,
    /// More values than emissions.
    MoreValues,
    /// The ends of the values go back.
    EndsDescend,
    /// A value ends beyond the data.
    EndsBeyondData,
    /// The presence bits are too many.
    ValidityTooLong,
    /// Fewer keys than emissions.
    FewerKeys,
    /// More event times than emissions.
    MoreTimestamps,
    /// More outputs than emissions.
    MoreOutputs,
    /// An output that the plugin does not have.
    UnknownOutput,
    /// Headers for fewer emissions than there are.
    FewerHeaders,
    /// A header whose name is not UTF-8.
    HeaderName,
    /// Bits for more emissions than there are.
    DroppedTooLong,
    /// A record that is rejected twice.
    RejectedTwice,
    /// A rejected record that is not in the batch.
    RejectedOutOfRange,
    /// Fewer kinds than rejections.
    FewerKinds,
    /// Fewer reasons than rejections.
    FewerReasons,
    /// 1 GiB of values.
    LargeReply,
    /// More than the limit `output`, by little: values of 2 MiB.
    LargerReply,
}

/// The columns of a reply that both kinds of plugin have.
pub struct Columns<'a> {
    /// The source of each emission.
    pub rows: &'a mut Vec<u32>,
    /// The outputs.
    pub outputs: &'a mut Vec<u8>,
    /// The event times.
    pub timestamps: &'a mut Vec<i64>,
    /// The keys.
    pub keys: &'a mut Option<Column>,
    /// The values.
    pub values: &'a mut Column,
    /// The headers.
    pub headers: &'a mut Option<HeaderChanges>,
    /// The rejections.
    pub rejections: &'a mut Rejections,
}

/// The [`Columns`] of a reply of either kind.
#[macro_export]
macro_rules! columns {
    ($reply:expr) => {
        $crate::Columns {
            rows: &mut $reply.rows,
            outputs: &mut $reply.outputs,
            timestamps: &mut $reply.timestamps,
            keys: &mut $reply.keys,
            values: &mut $reply.values,
            headers: &mut $reply.headers,
            rejections: &mut $reply.rejections,
        }
    };
}

impl Forgery {
    /// Spoils an honest reply to `n` records that has at least one emission.
    pub fn spoil(self, n: usize, mut c: Columns<'_>) {
        let m = c.rows.len();
        let mut headers = HeaderChanges::default();
        for _ in 0..m {
            headers.added.close_row();
        }
        match self {
            Self::RowsOutOfRange => {
                c.rows.push(n as u32 + 1_000);
                c.values.push(b"of nobody");
            }
            Self::FewerValues => c.values.truncate(m - 1),
            Self::MoreValues => c.values.push(b"too much"),
            Self::EndsDescend => {
                c.rows.push(0);
                c.values.ends.push(0);
            }
            Self::EndsBeyondData => c.values.ends[m - 1] += 1_000_000,
            Self::ValidityTooLong => c.values.validity = vec![0xff; m / 8 + 2],
            Self::FewerKeys => *c.keys = Some(Column::default()),
            Self::MoreTimestamps => *c.timestamps = vec![1; m + 1],
            Self::MoreOutputs => *c.outputs = vec![0; m + 1],
            Self::UnknownOutput => *c.outputs = vec![9; m],
            Self::FewerHeaders => *c.headers = Some(HeaderChanges::default()),
            Self::HeaderName => {
                headers.added.names.push(&[0xff, 0xfe]);
                headers.added.values.push(b"value");
                headers.added.ends[m - 1] = 1;
                *c.headers = Some(headers);
            }
            Self::DroppedTooLong => {
                headers.dropped = vec![0; m / 8 + 2];
                *c.headers = Some(headers);
            }
            Self::RejectedTwice => reject(c.rejections, &[0, 0], 2, 2),
            Self::RejectedOutOfRange => reject(c.rejections, &[n as u32], 1, 1),
            Self::FewerKinds => reject(c.rejections, &[0], 0, 1),
            Self::FewerReasons => reject(c.rejections, &[0], 1, 0),
            Self::LargeReply => grow(&mut c, 1 << 30),
            Self::LargerReply => grow(&mut c, 2 << 20),
        }
    }
}

fn grow(c: &mut Columns<'_>, bytes: usize) {
    c.rows.truncate(1);
    *c.values = Column { data: vec![0; bytes], ..Column::default() };
    c.values.close();
}

fn reject(rejections: &mut Rejections, rows: &[u32], kinds: usize, reasons: usize) {
    rejections.rows = rows.to_vec();
    rejections.kinds = vec![RejectionKind::Invalid; kinds];
    rejections.reasons = (0..reasons).map(|_| b"because".as_slice()).collect();
}
