//! What processes that train together agree upon after each step, and what their exchange costs.

use crate::processes::Processes;
use duet::Result;
use duet::train::{Ranks, Traffic};

/// Figures of the exchange: bytes that a process sends in a step, seconds of a step in which it exchanges, and the share of these in
/// which it computes all the same.
pub const EXCHANGE: [&str; 3] = ["exchange_bytes", "exchange_seconds", "exchange_overlap"];

/// What somebody or the clock asks for. Processes stop together, and go by one clock: the first one's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// To end after this step: Ctrl-C, or a signal to any of them.
    pub stop: bool,
    /// The minutes of this part of the run are over.
    pub minutes: bool,
    /// The time of the whole run is.
    pub time: bool,
    /// For a checkpoint.
    pub save: bool,
    /// For samples.
    pub sample: bool,
    /// How much of the time of the whole run is used.
    pub share_of_time: f64,
}

impl Asked {
    fn to_bytes(self) -> Vec<u8> {
        let Asked { stop, minutes, time, save, sample, share_of_time } = self;
        let flags = [stop, minutes, time, save, sample].map(u8::from);
        flags.into_iter().chain(share_of_time.to_le_bytes()).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Asked> {
        let (&[stop, minutes, time, save, sample], share) = bytes.split_first_chunk()?;
        let share_of_time = f64::from_le_bytes(share.try_into().ok()?);
        let [stop, minutes, time, save, sample] = [stop, minutes, time, save, sample].map(|flag| flag == 1);
        Some(Asked { stop, minutes, time, save, sample, share_of_time })
    }

    /// What holds for all.
    ///
    /// # Errors
    /// What the exchange reports.
    pub fn agreed(self, processes: &Processes) -> Result<Asked> {
        let Some(ranks) = processes.ranks() else { return Ok(self) };
        let own = self.to_bytes();
        let len = own.len();
        let all = ranks.gather_equal(own)?;
        let mut all = all.chunks_exact(len).filter_map(Asked::from_bytes);
        let first = all.next().unwrap_or(self);
        Ok(Asked { stop: first.stop || all.any(|other| other.stop), ..first })
    }
}

/// What the exchange costs.
#[derive(Debug)]
pub struct Efficiency {
    processes: usize,
    /// Of the steps since the last look, and of all.
    last: (Traffic, u64),
    all: (Traffic, u64),
}

impl Efficiency {
    /// Of these processes.
    pub fn of(processes: &Processes) -> Efficiency {
        let none = (Traffic::default(), 0);
        Efficiency { processes: processes.count(), last: none, all: none }
    }

    /// Looks at what was exchanged in the last `steps`.
    pub fn look(&mut self, ranks: Option<&Ranks>, steps: u64) {
        let Some(ranks) = ranks else { return };
        let of = ranks.traffic();
        self.last = (of, steps);
        let (all, done) = &mut self.all;
        all.bytes += of.bytes;
        all.calls += of.calls;
        all.seconds += of.seconds;
        all.waited += of.waited;
        *done += steps;
    }

    /// The figures of the last look; none of one process.
    pub fn last(&self) -> Option<[(&'static str, f64); 3]> {
        figures(&self.last).filter(|_| self.processes > 1)
    }

    /// In words, what all steps cost; nothing of one process.
    pub fn text(&self) -> String {
        let Some([(_, bytes), (_, seconds), (_, overlap)]) =
            figures(&self.all).filter(|_| self.processes > 1)
        else {
            return String::new();
        };
        format!(
            "; {} processes, each sent {} in {:.1} ms a step, {:.0} % of it while it computed",
            self.processes,
            crate::io::output::bytes(bytes as u64),
            1e3 * seconds,
            100.0 * overlap
        )
    }

    /// The same for machines; `None`: of one process.
    pub fn json(&self) -> Option<serde_json::Value> {
        let figures = figures(&self.all).filter(|_| self.processes > 1)?;
        let mut fields: serde_json::Map<String, serde_json::Value> =
            figures.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        fields.insert("processes".into(), self.processes.into());
        Some(fields.into())
    }
}

fn figures((traffic, steps): &(Traffic, u64)) -> Option<[(&'static str, f64); 3]> {
    let each = |of: f64| of / *steps as f64;
    let [bytes, seconds, overlap] = EXCHANGE;
    let values =
        [(bytes, each(traffic.bytes as f64)), (seconds, each(traffic.seconds)), (overlap, traffic.overlap())];
    (*steps > 0).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::train::Threads;

    const QUIET: Asked =
        Asked { stop: false, minutes: false, time: false, save: false, sample: false, share_of_time: 0.25 };

    #[test]
    fn any_process_may_stop_all_and_the_first_one_s_clock_counts() {
        let asked = std::thread::scope(|scope| {
            let start = |place: Threads| {
                scope.spawn(move || {
                    let ranks = Ranks::new(place).unwrap();
                    let rank = ranks.rank();
                    let own = Asked { stop: rank == 2, minutes: rank == 1, save: rank == 0, ..QUIET };
                    let own = Asked { share_of_time: rank as f64, ..own };
                    own.agreed(&Processes::of(ranks, rank, String::new())).unwrap()
                })
            };
            let threads: Vec<_> = Threads::group(3).into_iter().map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let want = Asked { stop: true, save: true, share_of_time: 0.0, ..QUIET };
        assert_eq!(asked, [want; 3]);
        assert_eq!(QUIET.agreed(&Processes::alone()).unwrap(), QUIET);
    }

    #[test]
    fn what_the_exchange_costs_is_told_by_step() {
        let traffic = Traffic { bytes: 4 << 20, calls: 8, seconds: 0.02, waited: 0.005 };
        let of = Efficiency { processes: 4, last: (traffic, 2), all: (traffic, 2) };
        assert_eq!(of.last().unwrap().map(|(_, value)| value), [2_097_152.0, 0.01, 0.75]);
        assert_eq!(
            of.text(),
            "; 4 processes, each sent 2.00 MiB in 10.0 ms a step, 75 % of it while it computed"
        );
        assert_eq!(of.json().unwrap()["processes"], 4);
        let alone = Efficiency::of(&Processes::alone());
        assert!(alone.last().is_none() && alone.text().is_empty() && alone.json().is_none());
    }
}
