//! Replies that break the ABI in what only plugins with state return.

use wasmill_sdk::abi::{Column, KeyedBatch, KeyedReply, TimeDomain};
use wasmill_sdk::prelude::*;

/// How a reply is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyedForgery {
    /// An emission of a timer without a clock.
    FewerClocks,
    /// A clock beyond the watermark at the end of the batch.
    ClockBeyondEnd,
    /// A change of the state of a key that is not in the batch.
    ChangedOutOfRange,
    /// Two states for one key.
    ChangedTwice,
    /// Fewer states than changes.
    FewerStates,
    /// A state of 100 MiB.
    LargeState,
    /// A million timers.
    ManyTimers,
    /// A timer for a time that the watermark has passed.
    TimerInThePast,
    /// A timer of a key that is not in the batch.
    TimerOfNobody,
    /// A timer that is set twice.
    TimerTwice,
    /// Fewer names than timers.
    FewerTags,
}

impl KeyedForgery {
    /// Spoils an honest reply.
    pub fn spoil(self, batch: &KeyedBatch, reply: &mut KeyedReply) {
        let (n, k) = (batch.timestamps.len() as u32, batch.keys.len() as u32);
        let end = batch.end_watermark;
        let later = end.saturating_add(1_000);
        let event = TimeDomain::EventTime;
        let timers = &mut reply.timers.set;
        match self {
            Self::FewerClocks => {
                reply.rows.push(n);
                reply.values.push(b"of a timer");
            }
            Self::ClockBeyondEnd => {
                reply.rows.push(n);
                reply.values.push(b"of a timer");
                reply.clocks.push(end.saturating_add(1));
            }
            Self::ChangedOutOfRange => {
                reply.changed.push(k);
                reply.states.push(b"of nobody");
            }
            Self::ChangedTwice => {
                reply.changed = vec![0, 0];
                reply.states = [b"a".as_slice(), b"b"].into_iter().collect();
            }
            Self::FewerStates => reply.states = Column::default(),
            Self::LargeState => {
                reply.changed = vec![0];
                reply.states = Column { data: vec![0; 100 << 20], ..Column::default() };
                reply.states.close();
            }
            Self::ManyTimers => {
                for tag in 1_000..1_001_000 {
                    timers.push(0, event, tag, later);
                }
            }
            Self::TimerInThePast => timers.push(0, event, 7, end),
            Self::TimerOfNobody => timers.push(k, event, 7, later),
            Self::TimerTwice => {
                timers.push(0, event, 7, later);
                timers.push(0, event, 7, later);
            }
            Self::FewerTags => {
                timers.push(0, event, 7, later);
                timers.tags.clear();
            }
        }
    }
}
