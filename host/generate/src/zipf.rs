//! Draws ranks by Zipf's law in constant time, with Vose's alias method. Invariant: rank k (from 0)
//! comes up in proportion to 1 / (k + 1).

use crate::random::Random;

/// A table to draw from.
#[derive(Debug, Clone)]
pub struct Zipf {
    /// For each column the share of its own rank, in 2^-32, and the rank of the rest.
    columns: Vec<(u32, u32)>,
}

impl Zipf {
    /// For ranks below `ranks`, which is not 0.
    pub fn new(ranks: u32) -> Self {
        let sum: f64 = (1..=ranks).map(|k| 1.0 / f64::from(k)).sum();
        let mean = sum / f64::from(ranks);
        let mut weights: Vec<f64> = (1..=ranks).map(|k| 1.0 / f64::from(k) / mean).collect();
        // Weights fall, so those above 1 come first: the poor are filled up from the rich.
        let mut columns: Vec<(u32, u32)> = (0..ranks).map(|rank| (u32::MAX, rank)).collect();
        let (mut poor, mut rich): (Vec<u32>, Vec<u32>) =
            (0..ranks).partition(|rank| weights[*rank as usize] < 1.0);
        while let (Some(p), Some(r)) = (poor.pop(), rich.last().copied()) {
            let share = weights[p as usize];
            columns[p as usize] = ((share * 4_294_967_296.0) as u32, r);
            weights[r as usize] -= 1.0 - share;
            if weights[r as usize] < 1.0 {
                rich.pop();
                poor.push(r);
            }
        }
        Self { columns }
    }

    /// Draws a rank.
    #[inline]
    pub fn draw(&self, random: &mut Random) -> u32 {
        let bits = random.next();
        let column = (((bits >> 32) * self.columns.len() as u64) >> 32) as u32;
        let (share, other) = self.columns[column as usize];
        if bits as u32 <= share { column } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_come_up_by_zipfs_law() {
        let zipf = Zipf::new(100);
        let mut random = Random::new(7);
        let mut counts = [0u32; 100];
        const DRAWS: u32 = 1_000_000;
        for _ in 0..DRAWS {
            counts[zipf.draw(&mut random) as usize] += 1;
        }
        let sum: f64 = (1..=100).map(|k| 1.0 / f64::from(k)).sum();
        for (k, count) in counts.iter().enumerate() {
            let expected = f64::from(DRAWS) / sum / (k + 1) as f64;
            let off = (f64::from(*count) - expected).abs();
            assert!(off < 5.0 * expected.sqrt(), "rank {k}: {count}, expected {expected:.0}");
        }
    }

    #[test]
    fn one_rank_always_comes_up() {
        let mut random = Random::new(7);
        assert!((0..100).all(|_| Zipf::new(1).draw(&mut random) == 0));
    }
}
