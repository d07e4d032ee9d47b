//! Where a run shows how far it is.

use crate::io::output::progress;
use indicatif::ProgressBar;

/// A progress bar on a terminal; lines are printed elsewhere.
pub struct View {
    bar: ProgressBar,
}

impl View {
    /// Of a run of `steps` steps, `done` of which are done.
    pub fn open(steps: u64, done: u64, json: bool) -> View {
        let template = "{elapsed_precise} {wide_bar} {pos}/{len} {msg} ETA {eta}";
        View { bar: progress(steps, done, template, json) }
    }

    /// Another step is done.
    pub fn stepped(&self) {
        self.bar.inc(1);
    }

    /// Shows the figures of a step, as text.
    pub fn show(&self, text: String) {
        self.bar.set_message(text);
    }

    /// Whether every look at the run is worth a line, for there is nothing else to see.
    pub fn wants_lines(&self) -> bool {
        self.bar.is_hidden()
    }

    /// Prints while the view is out of the way.
    pub fn print(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// Ends the view.
    pub fn close(self) {
        self.bar.finish_and_clear();
    }
}
