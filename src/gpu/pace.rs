//! How many dispatches one submission holds: few enough that none keeps a GPU for so long that its system takes it for hung and
//! resets it (Windows after two seconds). What a dispatch takes is learned from what has run.

use super::device::lock;
use std::sync::Mutex;
use std::time::Instant;

/// Dispatches of a submission before anything was measured, and at least.
const UNKNOWN: usize = 1024;
const LEAST: usize = 8;
/// Dispatches that a measurement needs: of fewer, the way there and back decides.
const MEASURED: usize = 32;

/// What is known of a device's speed.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Seconds that a submission may take; infinite: as long as it likes.
    seconds: f64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the device was handed something after it had been idle, and how many dispatches since.
    since: Option<(Instant, usize)>,
    /// Seconds of a dispatch; 0: not known.
    per_dispatch: f64,
}

impl Pace {
    pub(super) fn new(seconds: f64) -> Pace {
        Pace { seconds, state: Mutex::default() }
    }

    /// Dispatches that one submission may hold.
    pub(super) fn limit(&self) -> usize {
        if self.seconds.is_infinite() {
            return usize::MAX;
        }
        match lock(&self.state).per_dispatch {
            0.0 => UNKNOWN,
            per_dispatch => ((self.seconds / per_dispatch) as usize).max(LEAST),
        }
    }

    /// Notes a submission.
    pub(super) fn submitted(&self, dispatches: usize) {
        let mut state = lock(&self.state);
        let (begin, before) = state.since.unwrap_or((Instant::now(), 0));
        state.since = Some((begin, before + dispatches));
    }

    /// Notes that all of them have run. A host that came late to see it makes the device look slower than it is, by which the next
    /// submissions are too short; what was learned so is halved each time.
    pub(super) fn idle(&self) {
        let mut state = lock(&self.state);
        if let Some((begin, dispatches)) = state.since.take()
            && dispatches >= MEASURED
        {
            let measured = begin.elapsed().as_secs_f64() / dispatches as f64;
            state.per_dispatch = measured.max(state.per_dispatch / 2.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn run(pace: &Pace, dispatches: usize, milliseconds: u64) {
        pace.submitted(dispatches);
        std::thread::sleep(Duration::from_millis(milliseconds));
        pace.idle();
    }

    #[test]
    fn submissions_shrink_where_dispatches_are_slow_and_grow_again() {
        let pace = Pace::new(0.1);
        assert_eq!(pace.limit(), UNKNOWN);
        run(&pace, MEASURED - 1, 1);
        assert_eq!(pace.limit(), UNKNOWN, "too few to measure");
        // A millisecond each, or more on a busy machine.
        run(&pace, 40, 40);
        let slow = pace.limit();
        assert!((LEAST..=100).contains(&slow), "{slow}");
        run(&pace, 100_000, 1);
        assert!(pace.limit() >= 2 * slow - 1 && pace.limit() <= 200, "{}", pace.limit());
        (0..20).for_each(|_| run(&pace, 100_000, 1));
        assert!(pace.limit() > 1000, "{}", pace.limit());
        assert_eq!(Pace::new(f64::INFINITY).limit(), usize::MAX);
        let slowest = Pace::new(1e-9);
        run(&slowest, MEASURED, 5);
        assert_eq!(slowest.limit(), LEAST);
    }
}
