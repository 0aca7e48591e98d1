//! Randomness from a seed (SplitMix64). Invariant: the same seed gives the same choices.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A source of choices.
#[derive(Debug, Clone)]
pub struct Random(u64);

/// The seed of a run: what `CHAOS_SEED` says, or a new one.
///
/// # Panics
/// Where `CHAOS_SEED` is no number.
pub fn seed() -> u64 {
    match std::env::var("CHAOS_SEED") {
        Ok(text) => text.parse().unwrap_or_else(|_| {
            panic!("CHAOS_SEED is {text:?}, expected a number from 0 to 2^64 - 1")
        }),
        // Short enough to be typed.
        Err(_) => RandomState::new().hash_one(0) >> 40,
    }
}

/// Spreads the bits of a number.
pub fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        let drawn = mix(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        drawn
    }

    /// A number from 0 to `end`, exclusive.
    ///
    /// # Panics
    /// Where `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        assert!(end > 0, "there is no number below 0");
        (self.number() % end as u64) as usize
    }

    /// True in so many of 100 cases.
    pub fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }

    /// A time from `from_ms` to `to_ms` milliseconds.
    pub fn time(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(from_ms + self.number() % (to_ms - from_ms + 1))
    }

    /// `count` different numbers below `of`, in any order.
    pub fn some(&mut self, count: usize, of: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..of).collect();
        for at in 0..of {
            all.swap(at, at + self.below(of - at));
        }
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_choices() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (random.below(1000), random.time(5, 500), random.some(2, 9), random.percent(50))
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
