//! Moves of records and watermarks between the stages of a task.

use wasmill_abi::{RejectionKind, WATERMARK_END};

use super::Stage;
use crate::clock::Valve;
use crate::flow::{Flow, Source};
use crate::reject::{Rejected, Stamp};
use crate::stateless::original;

pub(super) fn advance(valve: &mut Valve, way: usize, (watermark, idle): (i64, bool)) {
    if idle {
        valve.advance(way, watermark);
        valve.set_idle(way);
    } else {
        valve.set_active(way);
        valve.advance(way, watermark);
    }
}

/// Merges what came by several ways: by clock, then row, then way. Each record gets the watermark
/// over all ways.
pub(super) fn merge(flows: Vec<(usize, Flow)>, valve: &mut Valve) -> Flow {
    let mut all = Flow::default();
    let mut ways = Vec::new();
    for (way, flow) in &flows {
        all.append(flow);
        ways.resize(all.len(), *way);
    }
    let mut order: Vec<u32> = (0..all.len() as u32).collect();
    order.sort_by_key(|i| (all.clocks[*i as usize], all.rows[*i as usize]));
    let mut merged = all.gather(&order);
    for (i, from) in order.iter().enumerate() {
        valve.set_active(ways[*from as usize]);
        valve.advance(ways[*from as usize], merged.clocks[i]);
        merged.clocks[i] = valve.watermark();
    }
    merged
}

/// Takes out what is older than the stage wants to see.
pub(super) fn drop_old(
    stage: &mut Stage,
    flow: Flow,
    max_age: i64,
    source: &Source,
) -> (Flow, Rejected) {
    let mut rejected = Rejected::default();
    let is_old = |i: usize| {
        flow.clocks[i] != WATERMARK_END
            && flow.timestamps[i] < flow.clocks[i].saturating_sub(max_age)
    };
    let keep: Vec<u32> = (0..flow.len()).filter(|i| !is_old(*i)).map(|i| i as u32).collect();
    if keep.len() == flow.len() {
        return (flow, rejected);
    }
    let kind = RejectionKind::Expired;
    for i in (0..flow.len()).filter(|i| is_old(*i)) {
        let behind = flow.clocks[i].saturating_sub(flow.timestamps[i]);
        let reason = format!("{behind} ms behind the watermark, max-age is {max_age} ms");
        let (plugin, digest) = stage.plugin();
        let name = &stage.base().name;
        let reason_bytes = stage.base().limits.reason_bytes;
        let stamp = Stamp { stage: name, plugin, digest, source, reason_bytes };
        rejected.add(kind, kind.name(), reason.as_bytes(), stamp, original(&flow, i));
    }
    let base = stage.base_mut();
    let dropped = (flow.len() - keep.len()) as u64;
    base.metrics.records_in += dropped;
    base.metrics.expired += dropped;
    (flow.gather(&keep), rejected)
}

pub(super) fn note(clocks: &mut Vec<(usize, i64, bool)>, edge: usize, end: (i64, bool)) {
    match clocks.iter_mut().find(|(e, ..)| *e == edge) {
        Some(known) => *known = (edge, known.1.max(end.0), end.1),
        None => clocks.push((edge, end.0, end.1)),
    }
}
