//! How long steps wait for data at most: the time in which batches are put together, of which the device may work.

use std::time::Duration;

/// The figure of what share of the time went into putting batches together.
pub const DATA_SHARE: &str = "data_share";
/// A share from which on that is told.
const MUCH: f64 = 0.05;
/// What takes less time in all is not worth a word.
const SHORT: Duration = Duration::from_secs(1);

/// Where the time of steps went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Into batches.
    pub batching: Duration,
    /// In all.
    pub all: Duration,
}

impl Spent {
    /// Share of the time that went into batches, 0 to 1; not more than that the device waits for data.
    pub fn data_share(&self) -> f64 {
        let all = self.all.as_secs_f64();
        if all > 0.0 { (self.batching.as_secs_f64() / all).min(1.0) } else { 0.0 }
    }
}

/// Tells once that much of the time goes into data.
#[derive(Debug, Default)]
pub struct Waiting {
    spent: Spent,
    told: bool,
}

impl Waiting {
    /// Adds the time of some steps; what to tell, once. `in_file`: whether images are read from a file of the cache.
    pub fn add(&mut self, of: Spent, in_file: bool) -> Option<String> {
        self.spent.batching += of.batching;
        self.spent.all += of.all;
        let share = self.spent.data_share();
        if self.told || share <= MUCH || self.spent.batching < SHORT {
            return None;
        }
        self.told = true;
        let help = match in_file {
            true => {
                "a faster disk for the decoded pictures (--cache), more memory or a smaller model.image_size helps"
            }
            false => "other programs may take the processor",
        };
        let share = 100.0 * share;
        Some(format!("{share:.0} % of the time goes into putting batches together ({DATA_SHARE}): {help}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(batching: u64, all: u64) -> Spent {
        Spent { batching: Duration::from_millis(batching), all: Duration::from_millis(all) }
    }

    #[test]
    fn much_waiting_is_told_once_and_a_moment_is_not() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.add(spent(900, 1000), true), None, "less than a second");
        let text = waiting.add(spent(200, 1000), true).unwrap();
        assert!(text.starts_with("55 % of the time") && text.contains("--cache"), "{text}");
        assert_eq!(waiting.add(spent(900, 1000), true), None, "twice");
        let mut waiting = Waiting::default();
        assert_eq!(waiting.add(spent(4_900, 100_000), false), None, "less than a twentieth");
        assert!(waiting.add(spent(5_100, 100_000), false).is_none() && !waiting.told);
        assert!(waiting.add(spent(9_000, 100_000), false).unwrap().contains("other programs"));
        assert_eq!((spent(0, 0).data_share(), spent(1, 4).data_share()), (0.0, 0.25));
    }
}
