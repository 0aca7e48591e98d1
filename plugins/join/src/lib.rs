//! Joins two streams: pairs of records of one key whose event times lie within a window.
//!
//! Each side is buffered in a map state by event time until the watermark says that no partner can
//! come any more. Invariant: two records that both came in time are paired exactly when they fit,
//! whichever came first; a record without a partner comes out once, when its last one could have come.

mod buffer;
mod config;
mod layout;

use wasmill_sdk::abi::WATERMARK_END;
use wasmill_sdk::prelude::*;

use buffer::{Buffer, Buffered, Extent};
use config::Bounds;
pub use config::{Bound, Config, Kind, Layout};
use layout::Writer;

/// The sides: inputs, and map states.
const LEFT: usize = 0;
const RIGHT: usize = 1;

/// The one timer of a key, set to the first instant at which a buffered record is done with.
const TIMER: u64 = 0;

/// Records that come out with no partner are removed when they are due; others may stay this part of
/// the window longer, so that one timer removes many.
const DELAY: i64 = 4;

/// The operator.
#[derive(Debug)]
pub struct Join {
    writer: Writer,
    names: [String; 2],
    bounds: Bounds,
    lateness_ms: i64,
    /// Whether records of a side come out without a partner.
    alone: [bool; 2],
    /// Records that don't come out are removed at multiples of this.
    grain_ms: i64,
}

/// The state of a key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Buffers {
    /// The number of the next record.
    next: u64,
    /// What is buffered of each side.
    sides: [Option<Extent>; 2],
}

impl Keyed for Join {
    type Config = Config;
    type State = Buffers;

    fn describe() -> Description {
        Description {
            name: "join".into(),
            ports: ports("left", "right"),
            config_schema: include_str!("../schema.json").into(),
            maps: vec!["left".into(), "right".into()],
            ..Description::default()
        }
    }

    fn new(config: Config, _: &Setup) -> Result<Self, ConfigError> {
        let bounds = config.check()?;
        let lateness_ms = config.lateness.ms();
        let window = bounds.before_ms.saturating_add(bounds.after_ms).saturating_add(lateness_ms);
        Ok(Self {
            writer: Writer::new(&config),
            bounds,
            lateness_ms,
            alone: [
                matches!(config.join, Kind::Left | Kind::Outer),
                matches!(config.join, Kind::Right | Kind::Outer),
            ],
            grain_ms: (window / DELAY).max(1),
            names: [config.left, config.right],
        })
    }

    fn ports(&self) -> Option<Ports> {
        Some(ports(&self.names[LEFT], &self.names[RIGHT]))
    }

    fn process(
        &self,
        record: &Record<'_>,
        state: &mut State<Buffers>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), Rejection> {
        let (side, time, watermark) = (record.input(), record.timestamp(), record.watermark());
        let value = layout::check(record.bytes()?)?;
        if time.saturating_add(self.lateness_ms) <= watermark {
            return Err(self.late(side, time, watermark));
        }
        let matched = self.pair(side, time, value, state, ctx);
        if self.done_at(side, time) <= watermark {
            // Bounds of one sign: whatever could be its partner is there already, or late.
            if self.alone[side] && !matched {
                self.emit_alone(side, value, ctx);
            }
            return Ok(());
        }
        let due_before = self.due(state);
        Buffer::of(ctx, side).add(state.next, Buffered { time, matched, value });
        state.next += 1;
        state.sides[side] = Some(Extent::with(state.sides[side], time));
        if let Some(due) = self.due(state).filter(|due| due_before != Some(*due)) {
            ctx.set_timer(TIMER, due);
        }
        Ok(())
    }

    fn on_timer(&self, timer: &Timer<'_>, state: &mut State<Buffers>, ctx: &mut Context<'_, '_>) {
        for side in [LEFT, RIGHT] {
            let Some(extent) = state.sides[side] else { continue };
            if self.timer_at(side, extent.first) > timer.watermark {
                continue;
            }
            let done = self.last_done(side, timer.watermark);
            let mut buffer = Buffer::of(ctx, side);
            let first = if self.alone[side] {
                buffer.take(extent.first, done, |ctx, record| {
                    if !record.matched {
                        self.emit_alone(side, record.value, ctx);
                    }
                })
            } else {
                buffer.remove(extent, done)
            };
            state.sides[side] = first.map(|first| Extent { first, ..extent });
        }
        match self.due(state) {
            Some(due) => ctx.set_timer(TIMER, due),
            None => state.clear(),
        }
    }
}

impl Join {
    /// Emits the pairs of a record with what is buffered of the other side, and says whether there
    /// were any.
    fn pair(
        &self,
        side: usize,
        time: i64,
        value: &[u8],
        state: &Buffers,
        ctx: &mut Context<'_, '_>,
    ) -> bool {
        let Bounds { before_ms, after_ms } = self.bounds;
        let (earlier, later) =
            if side == LEFT { (before_ms, after_ms) } else { (after_ms, before_ms) };
        let (from, to) = (time.saturating_sub(earlier), time.saturating_add(later));
        let other = 1 - side;
        if !state.sides[other].is_some_and(|extent| extent.meets(from, to)) {
            return false;
        }
        let mut matched = false;
        Buffer::of(ctx, other).each(from, to, self.alone[other], |ctx, partner| {
            matched = true;
            let mut sides = [Some(value); 2];
            sides[other] = Some(partner.value);
            let time = time.max(partner.time);
            ctx.to(0).timestamp(time).write(|out| self.writer.write(out, sides));
        });
        matched
    }

    fn emit_alone(&self, side: usize, value: &[u8], ctx: &mut Context<'_, '_>) {
        let mut sides = [None; 2];
        sides[side] = Some(value);
        ctx.to(0).write(|out| self.writer.write(out, sides));
    }

    /// How long after its event time a record is kept.
    fn kept_ms(&self, side: usize) -> i64 {
        let Bounds { before_ms, after_ms } = self.bounds;
        let later = if side == LEFT { after_ms } else { before_ms };
        later.saturating_add(self.lateness_ms)
    }

    /// The watermark at which no partner of a record can come any more: that of the latest partner
    /// that it could have, plus the lateness.
    fn done_at(&self, side: usize, time: i64) -> i64 {
        time.saturating_add(self.kept_ms(side))
    }

    /// The latest event time of a record that is done with at a watermark.
    fn last_done(&self, side: usize, watermark: i64) -> i64 {
        match watermark {
            // Also what would be kept beyond the end of time.
            WATERMARK_END => i64::MAX,
            _ => watermark.saturating_sub(self.kept_ms(side)),
        }
    }

    /// When the timer is to see to a record of this time.
    fn timer_at(&self, side: usize, time: i64) -> i64 {
        let done = self.done_at(side, time);
        if self.alone[side] {
            return done;
        }
        // Rounded up: nothing comes out, and whoever is in time does not look at what is done with.
        let over = done.rem_euclid(self.grain_ms);
        if over == 0 { done } else { done.saturating_add(self.grain_ms - over) }
    }

    /// When the timer of a key is to run next.
    fn due(&self, state: &Buffers) -> Option<i64> {
        let due = |side: usize| state.sides[side].map(|extent| self.timer_at(side, extent.first));
        due(LEFT).into_iter().chain(due(RIGHT)).min()
    }

    fn late(&self, side: usize, time: i64, watermark: i64) -> Rejection {
        Rejection::late(format!(
            "the record of input {:?} has event time {time}, {} ms behind the watermark {watermark}; \
             the lateness is {} ms",
            self.names[side],
            watermark.saturating_sub(time),
            self.lateness_ms
        ))
    }
}

fn ports(left: &str, right: &str) -> Ports {
    let input =
        |name: &str, summary: &str| InputPort { name: name.into(), summary: summary.into() };
    Ports {
        inputs: vec![input(left, "The left records."), input(right, "The right records.")],
        outputs: vec![OutputPort {
            name: "out".into(),
            summary: "The pairs, and the records without a partner where they are wanted.".into(),
            ..OutputPort::default()
        }],
    }
}

wasmill_sdk::export!(keyed Join);
