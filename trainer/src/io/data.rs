//! Data sets as commands read them: pictures kept decoded in the user's cache, and a bar while that takes its time.

use super::output::{progress, tell};
use super::session::{cache_folder, ignore_full_files, interrupted};
use crate::cli::Cli;
use crate::data::{Cache, DataSpec, Reading, Split, Told, load_by};
use duet::Result;
use indicatif::ProgressBar;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Folder of decoded pictures within that of everything that is kept.
const PICTURES: &str = "pictures";

/// Reads data sets for a command.
pub struct Reader {
    /// Where decoded pictures are kept; `None`: nowhere.
    pub cache: Option<Cache>,
    json: bool,
}

impl Reader {
    /// As the command line asks for it: the cache of `--cache`, or that of the user, or none.
    pub fn of(arguments: &Cli) -> Reader {
        let given = arguments.cache.as_deref().filter(|folder| !folder.as_os_str().is_empty());
        let folder = given.map(Path::to_owned).or_else(|| Some(cache_folder()?.join(PICTURES)));
        let folder = folder.filter(|_| !arguments.no_cache);
        Reader { cache: folder.map(|folder| Cache::new(&folder)), json: arguments.json }
    }

    /// Whether what is told is JSON.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Loads data as images of so many channels and pixels a side. What is wrong with the cache is told, each thing once.
    ///
    /// # Errors
    /// As [`load_by`]; [`duet::Error::Aborted`] after Ctrl-C, where that is watched.
    pub fn load(&self, spec: &DataSpec, channels: usize, size: usize) -> Result<Split> {
        let shown = Mutex::new(ProgressBar::hidden());
        let bar = || shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let begin = |what: &str, pictures: usize| {
            tracing::debug!(pictures, "{what}");
            let template = format!("{what} pictures {{wide_bar}} {{pos}}/{{len}} {{per_sec}} ETA {{eta}}");
            let next = progress(pictures as u64, 0, &template, self.json);
            let before = std::mem::replace(&mut *shown.lock().unwrap_or_else(PoisonError::into_inner), next);
            before.finish_and_clear();
        };
        let listener = |told: Told<'_>| {
            match told {
                Told::Reading(pictures) => begin("reading", pictures),
                Told::Decoding(pictures) => begin("decoding", pictures),
                Told::One => bar().inc(1),
                Told::Warning(text) => bar().suspend(|| warn_once(self.json, text)),
            }
            if interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        ignore_full_files();
        let reading = Reading { cache: self.cache.as_ref(), listener: Some(&listener) };
        let split = load_by(spec, channels, size, reading);
        bar().finish_and_clear();
        split
    }
}

/// Tells a warning that was not told before.
fn warn_once(json: bool, text: &str) {
    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut before = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if before.iter().any(|told| told == text) {
        return;
    }
    before.push(text.to_owned());
    if json {
        tell!("{}", serde_json::json!({ "warning": text }));
    } else {
        tell!("duet: warning: {text}");
    }
}
