//! How work ends that processes do each for itself, at very different times.

use super::Processes;
use crate::io::output::unmute;
use crate::io::session::interrupted;
use duet::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How long one that failed waits for the others to fail as well, as they do of what is wrong with all: the first one tells then. It
/// need not wait as long, for it is told anyway.
const PATIENCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// How often one that waits looks whether it is asked to stop.
const LOOK: Duration = Duration::from_millis(50);

impl Processes {
    /// As [`Processes::agree`], of processes that work for hours before they come here. One that failed, or that is asked to stop while it
    /// waits, does not wait for the others' end: it clears away by `clear`, tells what is wrong by `tell`, and ends; MPI ends the others.
    ///
    /// # Errors
    /// What is wrong, on all.
    pub fn settle<T>(
        &self,
        outcome: Result<T>,
        clear: impl FnOnce() + Send + 'static,
        tell: impl FnOnce(&str) + Send + 'static,
    ) -> Result<T> {
        if self.ranks.is_none() {
            return outcome;
        }
        let wrong = outcome.as_ref().err().map(ToString::to_string);
        let name = (!self.is_first()).then(|| self.name());
        let (end, heard) = channel();
        let settled = Arc::new(AtomicBool::new(false));
        let ours = Arc::clone(&settled);
        thread::spawn(move || {
            let failed = wrong.is_some();
            if !failed && !asked(&heard) {
                return;
            }
            let [short, long] = PATIENCE;
            let patience = if name.is_none() { short } else { long };
            // What one that succeeded has done may still be wanted.
            let mut clear = Some(clear);
            if failed && let Some(clear) = clear.take() {
                clear();
            }
            if heard.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
                || ours.swap(true, Ordering::SeqCst)
            {
                return;
            }
            if let Some(clear) = clear.take() {
                clear();
            }
            let wrong = wrong.unwrap_or_else(|| duet::Error::Aborted.to_string());
            unmute();
            tell(&name.map_or(wrong.clone(), |name| format!("mpi: {name}: {wrong}")));
            std::process::exit(1);
        });
        let agreed = self.agree(outcome);
        if settled.swap(true, Ordering::SeqCst) {
            // The other thread is ending the process.
            loop {
                thread::park();
            }
        }
        // Dropped where it failed.
        let _ = end.send(());
        agreed
    }
}

/// Waits until it is asked to stop; `false`: it is over before.
fn asked(heard: &Receiver<()>) -> bool {
    loop {
        match heard.recv_timeout(LOOK) {
            Err(RecvTimeoutError::Timeout) if interrupted() => return true,
            Err(RecvTimeoutError::Timeout) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::processes::tests::group;
    use duet::Error;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    #[test]
    fn what_all_find_wrong_is_told_by_none_alone() {
        let (cleared, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        for failing in [0, 1, 3] {
            let said = group(3, |processes| {
                let outcome = match processes.local() < failing {
                    true => Err(Error::config("model", "is bad")),
                    false => Ok(()),
                };
                let (cleared, told) = (Arc::clone(&cleared), Arc::clone(&told));
                let clear = move || {
                    cleared.fetch_add(1, Ordering::SeqCst);
                };
                let tell = move |text: &str| told.lock().unwrap().push(text.to_owned());
                processes.settle(outcome, clear, tell).is_err()
            });
            assert_eq!(said, [failing > 0; 3]);
        }
        assert_eq!(told.lock().unwrap().len(), 0);
    }
}
