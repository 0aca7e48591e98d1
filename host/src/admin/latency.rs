//! How long something takes, counted in buckets.
//!
//! Invariant: every observation is in exactly one bucket, the first whose bound is not below it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The upper bounds of the buckets, in seconds; beyond the last there is one more.
pub const BOUNDS: [f64; 22] = [
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
    0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0,
];

/// Durations in buckets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many there were.
    pub count: u64,
    /// Their sum, in seconds.
    pub sum_seconds: f64,
    /// How many are in each bucket of [`BOUNDS`], and beyond; none at all while `count` is 0.
    pub buckets: Vec<u64>,
}

impl Latency {
    /// Counts one.
    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.buckets.resize(BOUNDS.len() + 1, 0);
        self.buckets[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        self.count += 1;
        self.sum_seconds += seconds;
    }

    /// About how many seconds a share `q`, 0 to 1, of them took at most: within the bucket, evenly
    /// spread. None when there are none; the last bound for those beyond it.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q.clamp(0.0, 1.0) * self.count as f64;
        let mut below = 0.0;
        for (i, inside) in self.buckets.iter().enumerate().filter(|(_, n)| **n > 0) {
            let inside = *inside as f64;
            if below + inside >= rank {
                let low = if i == 0 { 0.0 } else { BOUNDS.get(i - 1).copied()? };
                let Some(high) = BOUNDS.get(i) else { return BOUNDS.last().copied() };
                return Some(low + (high - low) * ((rank - below) / inside).clamp(0.0, 1.0));
            }
            below += inside;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(millis: impl IntoIterator<Item = u64>) -> Latency {
        let mut latency = Latency::default();
        millis.into_iter().for_each(|ms| latency.observe(Duration::from_millis(ms)));
        latency
    }

    #[test]
    fn without_observations_there_is_no_quantile() {
        assert_eq!(Latency::default().quantile(0.5), None);
    }

    #[test]
    fn what_takes_longer_than_the_last_bound_is_told_as_that() {
        let latency = of([100_000]);
        assert_eq!(latency.quantile(0.5), Some(30.0));
        assert_eq!(latency.buckets[BOUNDS.len()], 1);
    }

    proptest! {
        #[test]
        fn a_quantile_is_in_the_bucket_of_the_value_that_it_stands_for(
            mut millis in proptest::collection::vec(1u64..40_000, 1..200),
            percent in 1u64..=100,
        ) {
            let latency = of(millis.iter().copied());
            prop_assert_eq!(latency.buckets.iter().sum::<u64>(), latency.count);
            millis.sort_unstable();
            let rank = (millis.len() as u64 * percent).div_ceil(100) as usize - 1;
            let exact = Duration::from_millis(millis[rank]).as_secs_f64();
            let found = latency.quantile(percent as f64 / 100.0).unwrap();
            let bucket = |seconds: f64| BOUNDS.partition_point(|bound| *bound < seconds);
            // The value found may be the bound itself, also of rounding.
            let (exact, found) = (bucket(exact), bucket(found - 1e-9));
            prop_assert!(found <= exact && found + 1 >= exact.min(BOUNDS.len() - 1));
        }
    }
}
