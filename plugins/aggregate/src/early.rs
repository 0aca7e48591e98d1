//! Results of windows that are still open.
//!
//! They come at the instants just before the multiples of `emit-every`, each time that records of the
//! key have been counted since the last. Invariant: an early result holds what was counted at
//! watermarks before its instant, and comes after the window's first instant and before its close.

use wasmill_sdk::prelude::{Context, State};
use wasmill_sdk::window::Window;

use crate::{Aggregate, EARLY, KeyState};

/// The first instant after `time` behind which a multiple of `every` begins, both in ms.
fn next_instant(every: i64, time: i64) -> Option<i64> {
    let multiple = time.checked_add(1)?.div_euclid(every).checked_add(1)?.checked_mul(every)?;
    multiple.checked_sub(1)
}

impl Aggregate {
    /// Sets the timer for early results after a record was counted at a watermark.
    ///
    /// Until it has run, records of the key at later watermarks set it to the same instant; it moves
    /// only with the start of the first window, before which there is nothing to emit.
    pub(crate) fn set_early(&self, state: &KeyState, watermark: i64, ctx: &mut Context<'_, '_>) {
        if let Some((first, _)) = state.open.first() {
            self.set_early_after(watermark.max(first.start), state, ctx);
        }
    }

    fn set_early_after(&self, time: i64, state: &KeyState, ctx: &mut Context<'_, '_>) {
        let Some(every) = self.config.emit_every else { return };
        let last = state.open.last().map(|(window, _)| window);
        let open = |instant: &i64| last.is_some_and(|window| !self.is_closed(*window, *instant));
        if let Some(instant) = next_instant(every.ms(), time).filter(open) {
            ctx.set_timer(EARLY, instant);
        }
    }

    /// Emits what the open windows of a key have so far.
    pub(crate) fn emit_early(
        &self,
        instant: i64,
        key: &str,
        state: &State<KeyState>,
        ctx: &mut Context<'_, '_>,
    ) {
        if self.config.emit_every.is_none() {
            // Set before the setting went away.
            return;
        }
        for (window, tally) in &state.open {
            if window.start < instant && !self.is_closed(*window, instant) {
                ctx.to(0).write(|out| tally.write(out, *window, key, Some(false)));
            }
        }
        // Records of windows that are ahead have come before their time.
        if let Some((ahead, _)) = state.open.iter().find(|(window, _)| window.start >= instant) {
            self.set_early_after(ahead.start, state, ctx);
        }
    }

    fn is_closed(&self, window: Window, instant: i64) -> bool {
        window.is_late(self.config.lateness.ms(), instant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_lie_just_before_the_multiples_also_before_the_epoch() {
        for (time, instant) in [(-11, -1), (-2, -1), (-1, 9), (0, 9), (8, 9), (9, 19)] {
            assert_eq!(next_instant(10, time), Some(instant), "after {time}");
        }
        assert_eq!(next_instant(1, 4), Some(5));
        assert_eq!(next_instant(10, i64::MAX - 1), None);
        assert_eq!(next_instant(i64::MAX, i64::MAX), None);
    }
}
