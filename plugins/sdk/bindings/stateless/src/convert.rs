//! Moves between the generated types and those of `wasmill-abi`.

use crate::exports::wasmill::plugin::stateless as s;

wasmill_abi::shared_conversions!();

/// A batch for a stateless operator.
pub fn stateless_batch(b: s::Batch) -> abi::StatelessBatch {
    abi::StatelessBatch {
        timestamps: b.timestamps,
        watermarks: b.watermarks,
        now: b.now,
        inputs: b.inputs,
        keys: column_in(b.keys),
        values: column_in(b.values),
        headers: b.headers.map(headers_in),
        origins: b.origins.map(origins_in),
    }
}

/// The reply of a stateless operator.
pub fn stateless_reply(r: abi::StatelessReply) -> s::Reply {
    s::Reply {
        rows: r.rows,
        outputs: r.outputs,
        timestamps: r.timestamps,
        keys: r.keys.map(column_out),
        values: column_out(r.values),
        headers: r.headers.map(headers_out),
        rejections: rejections_out(r.rejections),
    }
}
