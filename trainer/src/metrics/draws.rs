//! Random choices of measures, by a seed that stands beside the figure: the same on every machine.

use duet::rng::{Seed, block};

/// The stream of random numbers that measures draw from, which nothing else does.
const STREAM: u32 = 0x4D45_5452;

/// Numbers drawn one after the other.
pub(super) struct Draws {
    seed: Seed,
    /// What they are for.
    purpose: [u32; 2],
    drawn: u32,
    words: [u32; 4],
}

impl Draws {
    /// Numbers for the `run`-th choice of a kind; those of other kinds and runs are independent of them.
    pub(super) fn new(seed: Seed, kind: u32, run: u32) -> Draws {
        Draws { seed, purpose: [kind, run], drawn: 0, words: [0; 4] }
    }

    fn word(&mut self) -> u32 {
        let lane = (self.drawn % 4) as usize;
        if lane == 0 {
            let [kind, run] = self.purpose;
            self.words = block(self.seed, STREAM, kind, run, self.drawn / 4);
        }
        self.drawn = self.drawn.wrapping_add(1);
        self.words[lane]
    }

    /// A whole number below `bound`, of up to 2³² (its bias is below `bound` / 2³²).
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u64::from(self.word()) * bound as u64) >> 32) as usize
    }

    /// Uniform in 0..1.
    pub(super) fn unit(&mut self) -> f64 {
        f64::from(self.word()) / 4_294_967_296.0
    }

    /// `count` different whole numbers below `of`, in random order; all of them where there are not more.
    pub(super) fn choose(&mut self, count: usize, of: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..of).collect();
        let count = count.min(of);
        for i in 0..count {
            let j = i + self.below(of - i);
            all.swap(i, j);
        }
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_the_seed_s_and_different_ones() {
        let choose = |seed, kind, run| Draws::new(Seed(seed), kind, run).choose(7, 20);
        let first = choose(1, 0, 0);
        assert_eq!(first, choose(1, 0, 0));
        for other in [choose(2, 0, 0), choose(1, 1, 0), choose(1, 0, 1)] {
            assert_ne!(first, other);
        }
        let mut all = Draws::new(Seed(3), 0, 0).choose(99, 20);
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>());
        // Each of ten numbers is drawn about equally often: four standard deviations around 2,000 of 20,000.
        let mut draws = Draws::new(Seed(4), 0, 0);
        let mut counts = [0; 10];
        (0..20_000).for_each(|_| counts[draws.below(10)] += 1);
        assert!(counts.iter().all(|count| (1830..2170).contains(count)), "{counts:?}");
        let mean = (0..20_000).map(|_| draws.unit()).sum::<f64>() / 20_000.0;
        assert!((mean - 0.5).abs() < 4.0 * (1.0f64 / 12.0 / 20_000.0).sqrt(), "{mean}");
    }
}
