//! Event time: watermarks from timestamps, and one watermark from many.
//!
//! Invariant: a watermark that was given out never goes back.

use serde::{Deserialize, Serialize};
use wasmill_abi::{WATERMARK_END, WATERMARK_START};

/// How watermarks are generated for one input partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// By how much an event may come later than one with a greater timestamp, in ms.
    pub out_of_orderness_ms: i64,
    /// How long the partition may be silent, in ms of the wall clock, before it steps aside.
    pub idle_timeout_ms: Option<i64>,
}

/// Generates the watermark of one partition: the greatest timestamp seen, less the bound, less one
/// (an event with the same timestamp may still come), as Flink's `BoundedOutOfOrdernessWatermarks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generator {
    bound_ms: i64,
    watermark: i64,
}

impl Generator {
    /// A generator that has seen nothing.
    pub fn new(policy: Policy) -> Self {
        Self { bound_ms: policy.out_of_orderness_ms, watermark: WATERMARK_START }
    }

    /// The watermark that holds now.
    #[inline]
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// Takes note of an event.
    #[inline]
    pub fn see(&mut self, timestamp: i64) {
        let watermark = timestamp.saturating_sub(self.bound_ms).saturating_sub(1);
        // The last instant is kept for the end of the input.
        self.watermark = self.watermark.max(watermark.min(WATERMARK_END - 1));
    }

    /// The input has ended.
    pub fn end(&mut self) {
        self.watermark = WATERMARK_END;
    }

    /// The bound, in ms; it may be changed when a task is opened again.
    pub fn set_bound(&mut self, policy: Policy) {
        self.bound_ms = policy.out_of_orderness_ms;
    }
}

/// One channel of a [`Valve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Channel {
    watermark: i64,
    idle: bool,
    /// Active and not behind what was given out: takes part in the minimum.
    aligned: bool,
}

/// What a [`Valve`] gives out after a fact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// The new watermark, when it has advanced.
    pub watermark: Option<i64>,
    /// The new idleness of the whole, when it has changed.
    pub idle: Option<bool>,
}

/// Combines the watermarks of several channels: the least of those that are active, with the rules
/// of Flink's `StatusWatermarkValve` for channels that fall idle and come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Valve {
    channels: Vec<Channel>,
    watermark: i64,
    idle: bool,
}

impl Valve {
    /// A valve whose channels are active and have said nothing yet.
    pub fn new(channels: usize) -> Self {
        let channel = Channel { watermark: WATERMARK_START, idle: false, aligned: true };
        Self { channels: vec![channel; channels], watermark: WATERMARK_START, idle: false }
    }

    /// The watermark that was given out last.
    #[inline]
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// Whether every channel is idle.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// The number of channels.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether there is no channel.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The watermark of one channel.
    ///
    /// # Panics
    /// When there is no such channel.
    pub fn channel(&self, channel: usize) -> i64 {
        self.channels[channel].watermark
    }

    /// Whether one channel is idle.
    ///
    /// # Panics
    /// When there is no such channel.
    pub fn is_channel_idle(&self, channel: usize) -> bool {
        self.channels[channel].idle
    }

    /// Whether every channel has ended.
    pub fn is_ended(&self) -> bool {
        self.channels.iter().all(|c| c.watermark == WATERMARK_END)
    }

    /// A channel's watermark. One that goes back is ignored, and so is that of an idle channel,
    /// except for the end of its input, which is final.
    ///
    /// # Panics
    /// When there is no such channel.
    #[inline]
    pub fn advance(&mut self, channel: usize, watermark: i64) -> Change {
        let c = &mut self.channels[channel];
        if watermark == WATERMARK_END && c.idle {
            c.idle = false;
            c.aligned = false;
        }
        if c.idle || watermark <= c.watermark {
            return Change::default();
        }
        c.watermark = watermark;
        let was_aligned = c.aligned;
        c.aligned |= watermark >= self.watermark;
        if self.channels.len() == 1 {
            self.watermark = self.watermark.max(watermark);
            return Change { watermark: Some(self.watermark), idle: None };
        }
        if !self.channels[channel].aligned && !was_aligned {
            return Change::default();
        }
        Change { watermark: self.raise_to_least(), idle: None }
    }

    /// A channel falls idle: it no longer holds the others back.
    ///
    /// # Panics
    /// When there is no such channel.
    pub fn set_idle(&mut self, channel: usize) -> Change {
        let c = &mut self.channels[channel];
        if c.idle || c.watermark == WATERMARK_END {
            return Change::default();
        }
        let was_last = c.watermark == self.watermark;
        c.idle = true;
        c.aligned = false;
        if self.channels.iter().all(|c| c.idle) {
            // Nobody will say more: what the furthest has said may pass, provided that the one
            // that was the least until now is the one that fell silent.
            let watermark = if was_last { self.raise_to_greatest() } else { None };
            self.idle = true;
            return Change { watermark, idle: Some(true) };
        }
        Change { watermark: self.raise_to_least(), idle: None }
    }

    /// A channel is active again. It takes part once its watermark has caught up.
    ///
    /// # Panics
    /// When there is no such channel.
    pub fn set_active(&mut self, channel: usize) -> Change {
        let c = &mut self.channels[channel];
        if !c.idle {
            return Change::default();
        }
        c.idle = false;
        c.aligned = c.watermark >= self.watermark;
        let idle = self.idle.then_some(false);
        self.idle = false;
        Change { watermark: None, idle }
    }

    fn raise_to_least(&mut self) -> Option<i64> {
        let least = self.channels.iter().filter(|c| c.aligned).map(|c| c.watermark).min()?;
        self.raise(least)
    }

    fn raise_to_greatest(&mut self) -> Option<i64> {
        let said = self.channels.iter().map(|c| c.watermark);
        let greatest = said.filter(|w| *w != WATERMARK_END || self.is_ended()).max()?;
        self.raise(greatest)
    }

    fn raise(&mut self, to: i64) -> Option<i64> {
        // A channel that is only idle may still have more to say: the end waits for it.
        if to <= self.watermark || (to == WATERMARK_END && !self.is_ended()) {
            return None;
        }
        self.watermark = to;
        for c in &mut self.channels {
            c.aligned |= !c.idle && c.watermark >= to;
        }
        Some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_generator_leaves_room_for_equal_timestamps_and_for_the_bound() {
        let mut g = Generator::new(Policy { out_of_orderness_ms: 5, idle_timeout_ms: None });
        assert_eq!(g.watermark(), WATERMARK_START);
        g.see(100);
        assert_eq!(g.watermark(), 94);
        g.see(90);
        assert_eq!(g.watermark(), 94);
        g.end();
        assert_eq!(g.watermark(), WATERMARK_END);
    }

    /// The cases of Flink's own test suite, as data; see `cases/flink_watermark_valve.json` of the
    /// shared inputs. Skipped, saying so, where that folder is missing.
    #[test]
    fn the_valve_behaves_as_that_of_flink() {
        let shared = std::env::var_os("WASMILL_SHARED").map_or_else(
            || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
            Into::into,
        );
        let path = shared.join("cases/flink_watermark_valve.json");
        let Ok(text) = std::fs::read_to_string(&path) else {
            eprintln!("skipped: {} is missing", path.display());
            return;
        };
        let suite: serde_json::Value = serde_json::from_str(&text).unwrap();
        let cases = suite["cases"].as_array().unwrap();
        assert!(cases.len() >= 10);
        for case in cases {
            let mut valve = Valve::new(case["channels"].as_u64().unwrap() as usize);
            for (i, step) in case["steps"].as_array().unwrap().iter().enumerate() {
                let channel = step[0][1].as_u64().unwrap() as usize;
                let change = match step[0][0].as_str().unwrap() {
                    "wm" => valve.advance(channel, step[0][2].as_i64().unwrap()),
                    "idle" => valve.set_idle(channel),
                    _ => valve.set_active(channel),
                };
                let mut out = Vec::new();
                out.extend(change.watermark.map(serde_json::Value::from));
                out.extend(change.idle.map(|i| if i { "IDLE" } else { "ACTIVE" }.into()));
                assert_eq!(out, *step[1].as_array().unwrap(), "{} step {i}", case["name"]);
            }
        }
    }

    proptest! {
        #[test]
        fn a_valve_never_goes_back_nor_beyond_its_active_channels(
            steps in proptest::collection::vec((0..3usize, 0..3u8, -50..50i64), 0..60)) {
            let mut valve = Valve::new(3);
            let mut last = WATERMARK_START;
            for (channel, what, watermark) in steps {
                match what {
                    0 => valve.advance(channel, watermark),
                    1 => valve.set_idle(channel),
                    _ => valve.set_active(channel),
                };
                prop_assert!(valve.watermark() >= last);
                last = valve.watermark();
            }
        }
    }
}
