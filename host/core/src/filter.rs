//! Which keys the store may hold: a Bloom filter, so that the first record of a new key costs no
//! look-up on disk (Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970).
//!
//! Invariant: it never says no of a key that was added.

/// Bits of a filter: 8 MiB, one wrong answer in a hundred at 7 million keys.
const BITS: u64 = 1 << 26;
/// Bits that are set for a key.
const PROBES: u64 = 4;

/// The keys that the store may hold.
#[derive(Debug)]
pub struct Filter(State);

#[derive(Debug)]
enum State {
    /// None was added.
    Empty,
    /// Any key may be there.
    All,
    /// The bits of those that were added.
    Bits(Vec<u64>),
}

impl Filter {
    /// Holds nothing.
    pub fn empty() -> Self {
        Self(State::Empty)
    }

    /// May hold everything: for a store whose keys were not seen.
    pub fn all() -> Self {
        Self(State::All)
    }

    /// Adds a key by its hash.
    pub fn add(&mut self, hash: u64) {
        if matches!(self.0, State::Empty) {
            self.0 = State::Bits(vec![0; (BITS / 64) as usize]);
        }
        if let State::Bits(bits) = &mut self.0 {
            for bit in probes(hash) {
                bits[(bit / 64) as usize] |= 1 << (bit % 64);
            }
        }
    }

    /// Whether a key may have been added.
    pub fn may_hold(&self, hash: u64) -> bool {
        match &self.0 {
            State::Empty => false,
            State::All => true,
            State::Bits(bits) => {
                probes(hash).all(|bit| bits[(bit / 64) as usize] & (1 << (bit % 64)) != 0)
            }
        }
    }
}

/// Double hashing after Kirsch and Mitzenmacher, 2006.
fn probes(hash: u64) -> impl Iterator<Item = u64> {
    let step = (hash >> 32) | 1;
    (0..PROBES).map(move |i| hash.wrapping_add(i.wrapping_mul(step)) % BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_and_little_else() {
        let mut filter = Filter::empty();
        let hash = |i: u64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31);
        assert!(!filter.may_hold(hash(1)));
        (0..100_000).for_each(|i| filter.add(hash(i)));
        assert!((0..100_000).all(|i| filter.may_hold(hash(i))));
        let wrong = (100_000..200_000).filter(|i| filter.may_hold(hash(*i))).count();
        assert!(wrong < 1_000, "{wrong} of 100,000");
        assert!(Filter::all().may_hold(7));
    }
}
