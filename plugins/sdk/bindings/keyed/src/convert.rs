//! Moves between the generated types and those of `wasmill-abi`.

use crate::exports::wasmill::plugin::keyed as k;

wasmill_abi::shared_conversions!();

fn domain_in(d: k::TimeDomain) -> abi::TimeDomain {
    match d {
        k::TimeDomain::EventTime => abi::TimeDomain::EventTime,
        k::TimeDomain::ProcessingTime => abi::TimeDomain::ProcessingTime,
    }
}

fn domain_out(d: abi::TimeDomain) -> k::TimeDomain {
    match d {
        abi::TimeDomain::EventTime => k::TimeDomain::EventTime,
        abi::TimeDomain::ProcessingTime => k::TimeDomain::ProcessingTime,
    }
}

/// A batch for a keyed operator.
pub fn keyed_batch(b: k::Batch) -> abi::KeyedBatch {
    abi::KeyedBatch {
        timestamps: b.timestamps,
        watermarks: b.watermarks,
        end_watermark: b.end_watermark,
        now: b.now,
        inputs: b.inputs,
        slots: b.slots,
        values: column_in(b.values),
        headers: b.headers.map(headers_in),
        origins: b.origins.map(origins_in),
        keys: column_in(b.keys),
        states: column_in(b.states),
        due: abi::Timers {
            slots: b.due.slots,
            domains: b.due.domains.into_iter().map(domain_in).collect(),
            tags: b.due.tags,
            times: b.due.times,
        },
    }
}

/// The reply of a keyed operator.
pub fn keyed_reply(r: abi::KeyedReply) -> k::Reply {
    let abi::TimerChanges { set, cleared } = r.timers;
    k::Reply {
        rows: r.rows,
        clocks: r.clocks,
        outputs: r.outputs,
        timestamps: r.timestamps,
        keys: r.keys.map(column_out),
        values: column_out(r.values),
        headers: r.headers.map(headers_out),
        rejections: rejections_out(r.rejections),
        changed: r.changed,
        states: column_out(r.states),
        timers: k::TimerChanges {
            set: k::Timers {
                slots: set.slots,
                domains: set.domains.into_iter().map(domain_out).collect(),
                tags: set.tags,
                times: set.times,
            },
            cleared: k::TimerNames {
                slots: cleared.slots,
                domains: cleared.domains.into_iter().map(domain_out).collect(),
                tags: cleared.tags,
            },
        },
    }
}
