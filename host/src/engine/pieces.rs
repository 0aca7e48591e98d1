//! Pieces at random, for tests: with `WASMILL_PIECE_SEED` in the environment, what is read from outside
//! comes in pieces of random sizes, the same for a seed. Frames of topics, and with them all batches
//! downstream, are cut likewise.
//!
//! Invariant: without the variable pieces are as large as they may be.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// How large the next piece may be.
pub(super) struct Pieces(Option<u64>);

impl Pieces {
    /// Those of a task.
    pub(super) fn of(task: &str) -> Self {
        let seed =
            std::env::var("WASMILL_PIECE_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        Self(seed.map(|seed| hasher.hash_one((seed, task))))
    }

    /// How many records are to be read, of `most`: small pieces are as frequent as large ones.
    pub(super) fn next(&mut self, most: usize) -> usize {
        let Some(state) = &mut self.0 else { return most };
        // SplitMix64.
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let (size, within) = (z >> 32, z & 0xFFFF_FFFF);
        let most = (most as u64).max(1);
        let limit = (1 << (size % u64::from(u64::BITS - most.leading_zeros()) + 1)).min(most);
        (within % limit + 1) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::Pieces;

    #[test]
    fn pieces_are_of_all_sizes_and_the_same_for_a_seed() {
        let sizes = |seed| {
            let mut pieces = Pieces(Some(seed));
            (0..1_000).map(|_| pieces.next(1_000)).collect::<Vec<_>>()
        };
        let some = sizes(7);
        assert_eq!(some, sizes(7));
        assert_ne!(some, sizes(8));
        assert!(some.iter().all(|size| (1..=1_000).contains(size)));
        assert!(some.contains(&1) && some.iter().any(|size| *size > 700), "{some:?}");
        assert_eq!((Pieces(Some(1)).next(1), Pieces(None).next(1_000)), (1, 1_000));
    }
}
