//! Where a run shows how far it is: a dashboard, a progress bar, or lines alone.

use super::board::{Board, Samples, State};
use crate::io::output::progress;
use crate::io::terminal;
use duet::checkpoint::Figures;
use indicatif::ProgressBar;

/// What is shown of a run.
pub struct View {
    /// The whole terminal, where there is one.
    board: Option<Board>,
    /// Hidden where there is a board.
    bar: ProgressBar,
}

impl View {
    /// Of a run that is as far as `state` says. `plain`: without a dashboard; `json`: without anything but lines.
    pub fn open(state: State, plain: bool, json: bool) -> View {
        let template = "{elapsed_precise} {wide_bar} {pos}/{len} {msg} ETA {eta}";
        let (steps, step) = (state.steps, state.step);
        let board = match !plain && !json && terminal::is_there() {
            // Where it cannot be opened there is still the bar.
            true => Board::open(state).ok(),
            false => None,
        };
        View { bar: progress(steps, step, template, json || board.is_some()), board }
    }

    fn board(&self) -> Option<&Board> {
        self.board.as_ref().filter(|board| !board.is_gone())
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        if let Some(board) = self.board() {
            board.update(change);
        }
    }

    /// So many steps are done.
    pub fn stepped(&self, step: u64) {
        self.bar.set_position(step);
        self.update(|state| state.step = step);
    }

    /// Shows the figures of a step, as `text` where there is one line for them, and the bytes on the device.
    pub fn show(&self, figures: &Figures, text: String, memory: u64) {
        self.bar.set_message(text);
        self.update(|state| {
            state.add(figures.clone());
            state.memory = memory;
        });
    }

    /// A checkpoint of `step` was saved.
    pub fn saved(&self, step: u64) {
        self.update(|state| {
            state.saved = Some(step);
            state.note.clear();
        });
    }

    /// The best figure so far, in words.
    pub fn best(&self, text: String) {
        self.update(|state| state.best = text);
    }

    /// What is being done besides steps; empty: nothing.
    pub fn doing(&self, what: &str) {
        self.update(|state| state.note = what.into());
    }

    /// Samples drawn after a step.
    pub fn samples(&self, step: u64, samples: Samples) {
        self.update(|state| state.samples = Some((step, samples)));
    }

    /// Whether somebody asked for a checkpoint since the last call.
    pub fn asked_to_save(&self) -> bool {
        self.board().is_some_and(Board::asked_to_save)
    }

    /// Whether somebody asked for samples since the last call.
    pub fn asked_to_sample(&self) -> bool {
        self.board().is_some_and(Board::asked_to_sample)
    }

    /// Whether every look at the run is worth a line, for there is nothing else to see.
    pub fn wants_lines(&self) -> bool {
        self.board().is_none() && self.bar.is_hidden()
    }

    /// Prints while the view is out of the way. A dashboard holds back what is printed, and shows the end of it.
    pub fn print(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// Ends the view, and prints what was held back.
    pub fn close(self) {
        drop(self.board);
        self.bar.finish_and_clear();
    }
}
