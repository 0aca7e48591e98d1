//! The time to live of state: what no record has touched for that long is gone.
//!
//! Invariant: where state expires, a part ends, so that neither a record nor a timer sees state that
//! was gone by then, wherever the input was cut.

use std::collections::HashMap;

use wasmill_abi::{TimeDomain, WATERMARK_END, WATERMARK_START};

use super::{Error, Stage, Work};
use crate::row::UNDATED;
use crate::store::Index;

impl Stage {
    /// Ends the part where the state of one of its keys expires, so that it is seen as gone by what
    /// comes after.
    pub(super) fn before_expiry(
        &mut self,
        work: &Work,
        mut to: usize,
        mut end: i64,
    ) -> Result<(usize, i64), Error> {
        let ttl = self.keys.ttl_ms().expect("asked for by the caller");
        let mut touched: HashMap<&[u8], i64> = HashMap::new();
        let flow = &work.flow;
        let clocks = &flow.clocks;
        let mut until = end.min(work.expiry_end());
        // A timer sees its key's state up to the instant at which that expires, and not after it.
        // State that a timer makes where there was none is dated by it, so the part ends with it.
        self.keys.begin();
        let due = self.keys.due(Index::EventTime, until, usize::MAX);
        let rows = due.into_iter().map(|id| &self.keys.entry(id).row);
        let expiry = rows.map(|row| match row.touched {
            UNDATED => row.next(TimeDomain::EventTime),
            touched => touched.saturating_add(ttl),
        });
        if let Some(expiry) = expiry.min().filter(|expiry| *expiry <= until) {
            (until, end) = (expiry, expiry);
            to = work.at + clocks[work.at..to].partition_point(|clock| *clock < end);
        }
        let mut cut = None;
        for row in work.at..to {
            let key = flow.keys.bytes(row);
            let clock = flow.clocks[row];
            let now = flow.timestamps[row].max(clock);
            if let Some(last) = touched.get_mut(key) {
                if clock >= last.saturating_add(ttl) {
                    cut = Some((row, end.min(last.saturating_add(ttl))));
                    break;
                }
                *last = now.max(*last);
                continue;
            }
            touched.insert(key, now);
            let id = self.keys.find(self.keys.hash(key), key);
            let Some(id) = id.map_err(|e| self.store_error(e))? else { continue };
            let row = &self.keys.entry(id).row;
            if row.touched != UNDATED && clock >= row.touched.saturating_add(ttl) {
                self.forget(id)?;
            }
        }
        (to, end) = cut.unwrap_or((to, end));
        let first = touched.values().min().map_or(i64::MAX, |t| t.saturating_add(ttl));
        if first < until {
            end = first;
            let within = flow.clocks[work.at..to].partition_point(|clock| *clock < end);
            to = work.at + within;
        }
        Ok((to, end))
    }

    /// Forgets the state of keys that no record has touched for the time to live.
    pub(super) fn expire(&mut self, clock: i64) -> Result<(), Error> {
        let Some(ttl) = self.keys.ttl_ms() else { return Ok(()) };
        if clock == WATERMARK_START || clock == WATERMARK_END {
            return Ok(());
        }
        let until = clock.saturating_sub(ttl);
        let most = self.base.limits.batch_records;
        loop {
            let horizon = self.keys.horizon(Index::Touched, until, most);
            let horizon = horizon.map_err(|e| self.store_error(e))?;
            self.keys.begin();
            let due = self.keys.due(Index::Touched, horizon, most);
            if due.is_empty() && horizon >= until {
                return Ok(());
            }
            for id in &due {
                self.forget(*id)?;
            }
            self.keys.end_batch(&due);
        }
    }

    fn forget(&mut self, id: u32) -> Result<(), Error> {
        if self.maps().is_used() {
            let key = self.keys.entry(id).key.clone();
            let cleared = self.maps().clear_key(&key);
            cleared.map_err(|e| self.store_error(e))?;
            self.weigh();
        }
        self.keys.change(id, |row| {
            row.value = None;
            row.touched = UNDATED;
        });
        Ok(())
    }
}
