//! Records as lines. Invariant: one newline after each record.

use wasmill_core::flow::Flow;
use wasmill_pipeline::SinkFormat;

use crate::record_json::{self, Shown};

pub(super) fn write(out: &mut Vec<u8>, flow: &Flow, format: SinkFormat) {
    for i in 0..flow.len() {
        match format {
            SinkFormat::Value => out.extend_from_slice(flow.values.bytes(i)),
            SinkFormat::Record => {
                let record = Shown {
                    key: flow.keys.get(i),
                    value: flow.values.get(i),
                    timestamp: flow.timestamps[i],
                    headers: flow.headers.iter().flat_map(|h| h.row(i)).collect(),
                    partition: None,
                    offset: None,
                };
                record_json::write(out, &record);
            }
        }
        out.push(b'\n');
    }
}
