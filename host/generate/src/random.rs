//! Random numbers that never change: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom
//! number generators", 2014). Invariant: a seed gives the same numbers for ever.

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[inline]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`, by multiplication (Lemire); its bias is below `end` / 2^32.
    #[inline]
    pub fn below(&mut self, end: u32) -> u32 {
        (((self.next() >> 32) * u64::from(end)) >> 32) as u32
    }

    /// Whether something happens that has a probability of `odds` / 2^32.
    #[inline]
    pub fn happens(&mut self, odds: Odds) -> bool {
        self.next() >> 32 < odds.0
    }
}

/// A probability in units of 2^-32, so that 1 is certain.
#[derive(Debug, Clone, Copy)]
pub struct Odds(u64);

impl Odds {
    /// From a share of 0 to 1.
    pub fn of(share: f64) -> Self {
        Self((share * 4_294_967_296.0) as u64)
    }
}

/// Mixes 64 bits: the finalizer of SplitMix64.
#[inline]
pub fn mix(bits: u64) -> u64 {
    let bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_that_of_splitmix64() {
        let mut random = Random::new(1_234_567);
        let numbers: [u64; 5] = std::array::from_fn(|_| random.next());
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821,
            ]
        );
    }

    #[test]
    fn shares_of_none_and_all_are_exact() {
        let mut random = Random::new(1);
        assert!((0..10_000).all(|_| random.happens(Odds::of(1.0))));
        assert!(!(0..10_000).any(|_| random.happens(Odds::of(0.0))));
    }
}
