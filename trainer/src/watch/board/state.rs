//! What the dashboard shows.

use super::Samples;
use duet::checkpoint::Figures;
use std::time::{Duration, Instant};

/// Most points of the curves; beyond them every second one is dropped.
const MOST_POINTS: usize = 4000;
/// What stands before the timestep in the names of accuracies on noised images.
const BY_NOISE: &str = "_accuracy_t";

/// How far a run is, and what was seen of it.
pub struct State {
    /// What is trained, and where to.
    pub title: String,
    /// Steps in all.
    pub steps: u64,
    /// Steps done.
    pub step: u64,
    /// Steps that were done when this process began.
    pub first: u64,
    /// When it began.
    pub started: Instant,
    /// What the run took before.
    pub before: Duration,
    /// The time after which it ends.
    pub max_time: Option<Duration>,
    /// Figures by step.
    pub history: Vec<Figures>,
    /// Bytes on the device.
    pub memory: u64,
    /// The samples drawn last, and after which step.
    pub samples: Option<(u64, Samples)>,
    /// The step of the newest checkpoint.
    pub saved: Option<u64>,
    /// The best figure so far.
    pub best: String,
    /// What is being done besides steps, or was asked for.
    pub note: String,
}

impl State {
    /// Adds what was seen after a step.
    pub fn add(&mut self, figures: Figures) {
        // What an evaluation found of the same step comes with the same figures again.
        self.history.retain(|other| other.step != figures.step);
        self.history.push(figures);
        if self.history.len() > MOST_POINTS {
            let mut number = 0;
            self.history.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
    }

    /// The newest value of a figure.
    pub fn newest(&self, name: &str) -> Option<f64> {
        self.history.iter().rev().find_map(|figures| figures.values.get(name)).copied()
    }

    /// Values of a figure by step.
    pub fn curve(&self, name: &str) -> Vec<(f64, f64)> {
        let points = self.history.iter();
        points.filter_map(|figures| Some((figures.step as f64, *figures.values.get(name)?))).collect()
    }

    /// The newest accuracy, with the name of the part it was measured on.
    pub fn accuracy(&self) -> Option<(&str, f64)> {
        let mut values = self.history.iter().rev().flat_map(|figures| &figures.values);
        values.find_map(|(name, value)| Some((name.strip_suffix("_accuracy")?, *value)))
    }

    /// The newest accuracies by timestep.
    pub fn accuracy_by_noise(&self) -> Vec<(usize, f64)> {
        let of = |figures: &Figures| {
            let mut list: Vec<(usize, f64)> = figures
                .values
                .iter()
                .filter_map(|(name, value)| Some((name.split_once(BY_NOISE)?.1.parse().ok()?, *value)))
                .collect();
            list.sort_by_key(|(t, _)| *t);
            list
        };
        self.history.iter().rev().map(of).find(|list| !list.is_empty()).unwrap_or_default()
    }

    /// Time the run took so far, this process and those before.
    pub fn used(&self) -> Duration {
        self.before.saturating_add(self.started.elapsed())
    }

    /// Time that is left, at the pace so far; `None` before the first step.
    pub fn left(&self) -> Option<Duration> {
        let done = self.step.saturating_sub(self.first);
        let by_time = self.max_time.map(|limit| limit.saturating_sub(self.used()));
        let left = self.steps.saturating_sub(self.step) as f64;
        let seconds = (done > 0).then(|| self.started.elapsed().as_secs_f64() / done as f64 * left);
        let by_steps = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match (by_steps, by_time) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The share of the run that is done.
    pub fn share(&self) -> f64 {
        let by_steps = self.step as f64 / self.steps.max(1) as f64;
        let by_time = self.max_time.map_or(0.0, |limit| self.used().as_secs_f64() / limit.as_secs_f64());
        by_steps.max(by_time).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn state() -> State {
        State {
            title: "fashion-mnist → runs/fashion".into(),
            steps: 1000,
            step: 250,
            first: 50,
            started: Instant::now(),
            before: Duration::from_secs(100),
            max_time: None,
            history: Vec::new(),
            memory: 123 << 20,
            samples: None,
            saved: None,
            best: String::new(),
            note: String::new(),
        }
    }

    pub fn figures(step: u64, values: &[(&str, f64)]) -> Figures {
        Figures { step, values: values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect() }
    }

    #[test]
    fn the_newest_figures_are_found() {
        let mut state = state();
        state.add(figures(10, &[("loss", 2.0)]));
        state.add(figures(20, &[("loss", 1.0)]));
        let eval =
            [("loss", 1.0), ("test_accuracy", 0.5), ("test_accuracy_t875", 0.2), ("test_accuracy_t125", 0.4)];
        state.add(figures(20, &eval));
        state.add(figures(30, &[("loss", 0.5)]));
        assert_eq!(state.curve("loss"), [(10.0, 2.0), (20.0, 1.0), (30.0, 0.5)]);
        assert_eq!((state.newest("loss"), state.newest("vb")), (Some(0.5), None));
        assert_eq!(state.accuracy(), Some(("test", 0.5)));
        assert_eq!(state.accuracy_by_noise(), [(125, 0.4), (875, 0.2)]);
        for step in 31..10_000 {
            state.add(figures(step, &[("loss", 0.1)]));
        }
        assert!(state.history.len() <= MOST_POINTS && state.history[0].step == 10);
    }

    #[test]
    fn what_is_left_is_the_less_of_steps_and_time() {
        let mut state = state();
        state.started = Instant::now().checked_sub(Duration::from_secs(20)).unwrap();
        // 200 steps took 20 s, 750 are left.
        assert!((state.left().unwrap().as_secs_f64() - 75.0).abs() < 1.0);
        assert!((state.share() - 0.25).abs() < 1e-9);
        state.max_time = Some(Duration::from_secs(150));
        assert!((state.left().unwrap().as_secs_f64() - 30.0).abs() < 1.0);
        assert!((state.share() - 0.8).abs() < 0.01);
        state.step = state.first;
        assert!((state.left().unwrap().as_secs_f64() - 30.0).abs() < 1.0);
        state.max_time = None;
        assert_eq!(state.left(), None);
    }
}
