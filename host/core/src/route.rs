//! Which partition each record of a flow goes to.

use wasmill_abi::{Column, RejectionKind};

use crate::field;
use crate::flow::{Flow, Source};
use crate::layout::{Edge, KeyBy};
use crate::murmur;
use crate::reject::{Rejected, Stamp};
use crate::stateless::original;

/// Keys a flow anew, as its way out says. Records that can't be keyed are returned as rejected.
pub fn rekey(flow: Flow, edge: &Edge, source: &Source) -> (Flow, Rejected) {
    let mut rejected = Rejected::default();
    let path = match &edge.key_by {
        None => return (flow, rejected),
        Some(KeyBy::Constant(key)) => {
            let keys = (0..flow.len()).map(|_| key.as_bytes()).collect();
            return (Flow { keys, ..flow }, rejected);
        }
        Some(KeyBy::Field(path)) => path,
    };
    let (mut keys, mut keep) = (Column::with_capacity(flow.len(), flow.len() * 16), Vec::new());
    for i in 0..flow.len() {
        let reason = match field::key(flow.values.bytes(i), path) {
            Ok(Some(key)) => {
                keys.push(&key);
                keep.push(i as u32);
                continue;
            }
            Ok(None) => format!("the record has no field {:?} to key it by", path.join(".")),
            Err(e) => format!("to be keyed by {:?} the record must be JSON: {e}", path.join(".")),
        };
        let stage = edge.unkeyed.as_ref().map_or("", |(_, stage)| stage);
        let stamp = Stamp { stage, plugin: "", digest: "", source, reason_bytes: 4096 };
        let kind = RejectionKind::Malformed;
        rejected.add(kind, "no-key", reason.as_bytes(), stamp, original(&flow, i));
    }
    let flow = if keep.len() == flow.len() { flow } else { flow.gather(&keep) };
    (Flow { keys, ..flow }, rejected)
}

/// Splits a flow by partition: the murmur2 hash of the key, or, for records without one, the offset
/// they came from, so that a replay sends them the same way.
pub fn split(flow: Flow, partitions: u32, source: &Source) -> Vec<(u32, Flow)> {
    if flow.is_empty() {
        return Vec::new();
    }
    if partitions == 1 {
        return vec![(0, flow)];
    }
    let mut indexes: Vec<Vec<u32>> = vec![Vec::new(); partitions as usize];
    for i in 0..flow.len() {
        let partition = match flow.keys.get(i) {
            Some(key) => murmur::partition(key, partitions),
            None => {
                let offset = source.offsets.get(flow.rows[i] as usize).copied().unwrap_or(0);
                (offset as u64 % u64::from(partitions)) as u32
            }
        };
        indexes[partition as usize].push(i as u32);
    }
    if let Some(all) = indexes.iter().position(|i| i.len() == flow.len()) {
        return vec![(all as u32, flow)];
    }
    let parts = indexes.into_iter().enumerate().filter(|(_, i)| !i.is_empty());
    parts.map(|(partition, i)| (partition as u32, flow.gather(&i))).collect()
}
