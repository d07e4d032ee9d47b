//! All that the command prints: results on standard output, messages and progress bars on standard error.
//!
//! Nothing else writes to either (lints forbid it), so that what happens to a line is decided here: printing never panics and
//! never ends what is being computed. A reader that has gone away (`duet … | head -1`) silences what follows; a device that is
//! full is remembered and told by [`finish`].

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use std::fmt::Arguments;
use std::io::{self, ErrorKind, IsTerminal as _, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Prints a line of results, as `println!` would: [`line`] of formatted text.
macro_rules! say {
    () => { $crate::io::output::line(format_args!("")) };
    ($($text:tt)*) => { $crate::io::output::line(format_args!($($text)*)) };
}
pub(crate) use say;

/// Tells something on standard error, as `eprintln!` would: [`message`] of formatted text.
macro_rules! tell {
    ($($text:tt)*) => { $crate::io::output::message(format_args!($($text)*)) };
}
pub(crate) use tell;

/// Why nothing more is printed.
#[derive(Debug)]
enum Failure {
    /// Nobody reads any more.
    Closed,
    /// The system's words.
    Refused(String),
}

/// Prints lines until one cannot be written.
struct Printer<W> {
    sink: Option<W>,
    failure: Option<Failure>,
}

impl<W: Write> Printer<W> {
    fn attempt(&mut self, make: fn() -> W, write: impl FnOnce(&mut W) -> io::Result<()>) {
        if self.failure.is_some() {
            return;
        }
        if let Err(error) = write(self.sink.get_or_insert_with(make)) {
            self.failure = Some(match error.kind() {
                ErrorKind::BrokenPipe => Failure::Closed,
                _ => Failure::Refused(error.to_string()),
            });
        }
    }

    fn outcome(&self) -> Result<(), String> {
        match &self.failure {
            None | Some(Failure::Closed) => Ok(()),
            Some(Failure::Refused(why)) => Err(format!("cannot write to standard output: {why}")),
        }
    }
}

static RESULTS: Mutex<Printer<Stdout>> = Mutex::new(Printer { sink: None, failure: None });

fn results() -> MutexGuard<'static, Printer<Stdout>> {
    // A printer whose thread panicked is as good as before.
    RESULTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a line that is held back belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Results,
    Messages,
}

/// Lines held back while the terminal shows something else; `None`: none are.
static HELD: Mutex<Option<Vec<(Stream, String)>>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Vec<(Stream, String)>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds back what is printed on a terminal from now on, until [`release`].
pub fn hold() {
    held().get_or_insert_default();
}

/// The last `count` lines that are held back, the oldest first.
pub fn latest(count: usize) -> Vec<String> {
    let held = held();
    let lines = held.as_deref().unwrap_or_default();
    lines.iter().skip(lines.len().saturating_sub(count)).map(|(_, text)| text.clone()).collect()
}

/// Prints what was held back, and holds nothing back any more.
pub fn release() {
    // The lock is given back before anything is printed.
    let lines = held().take();
    for (stream, text) in lines.into_iter().flatten() {
        match stream {
            Stream::Results => line(format_args!("{text}")),
            Stream::Messages => message(format_args!("{text}")),
        }
    }
}

/// Holds a line back where that is wanted; gives it back otherwise.
fn kept(stream: Stream, text: String) -> Option<String> {
    match held().as_mut() {
        Some(lines) => {
            lines.push((stream, text));
            None
        }
        None => Some(text),
    }
}

/// Whether this process prints nothing: another one tells the same.
static MUTED: AtomicBool = AtomicBool::new(false);

/// Prints nothing from now on, until [`unmute`].
pub fn mute() {
    MUTED.store(true, Ordering::Relaxed);
}

/// Prints again.
pub fn unmute() {
    MUTED.store(false, Ordering::Relaxed);
}

fn is_muted() -> bool {
    MUTED.load(Ordering::Relaxed)
}

/// Prints a line of results. What fails is remembered for [`finish`]; nothing is printed after it.
pub fn line(text: Arguments<'_>) {
    if is_muted() {
        return;
    }
    let Some(text) = kept(Stream::Results, text.to_string()) else { return };
    results().attempt(io::stdout, |out| writeln!(out, "{}", Plain(&text)));
}

/// Text whose control characters, as names of files and classes may hold them, are spelled out: a terminal would obey them.
struct Plain<'a>(&'a str);

impl std::fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '\n' | '\t' => write!(f, "{character}")?,
                control if control.is_control() => write!(f, "{}", control.escape_default())?,
                other => write!(f, "{other}")?,
            }
        }
        Ok(())
    }
}

/// Whether results no longer arrive anywhere: there is no use in computing what would only be printed.
pub fn failed() -> bool {
    results().failure.is_some()
}

/// How printing went in the end.
///
/// # Errors
/// What to tell where results could not be written. A reader that went away has what it wanted: that is none.
pub fn finish() -> Result<(), String> {
    let mut results = results();
    results.attempt(io::stdout, Write::flush);
    results.outcome()
}

/// Prints a line on standard error. Where even that fails there is nobody to tell.
pub fn message(text: Arguments<'_>) {
    if is_muted() {
        return;
    }
    let text = text.to_string();
    // A file that errors are led to shows nothing that they could disturb.
    let text = if io::stderr().is_terminal() { kept(Stream::Messages, text) } else { Some(text) };
    if let Some(text) = text {
        let _ = writeln!(io::stderr(), "{}", Plain(&text));
    }
}

/// Tells an error on stderr: as text, or with `--json` as one object.
pub fn error(text: &str, json: bool) {
    if json {
        message(format_args!("{}", serde_json::json!({ "error": text })));
    } else {
        message(format_args!("duet: {text}"));
    }
}

/// What is logged, as messages: whole lines of text.
pub struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if held().is_none() {
            // As it comes, colours included.
            return io::stderr().write(bytes);
        }
        message(format_args!("{}", String::from_utf8_lossy(bytes).trim_end()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A progress bar on stderr; hidden where stderr is no terminal or the output is for machines.
pub fn progress(steps: u64, done: u64, template: &str, json: bool) -> ProgressBar {
    if json || is_muted() || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(steps).with_position(done);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar.reset_eta();
    bar
}

/// 1.23 M, 4.50 G and the like: ours, since indicatif writes counts in full and prefixes bytes alone.
pub fn short(value: f64) -> String {
    let units = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")];
    let unit = units.iter().find(|(size, _)| value.abs() >= *size);
    match unit {
        Some((size, name)) => format!("{:.2}{name}", value / size),
        None => format!("{value:.0}"),
    }
}

/// Bytes as KiB, MiB, GiB; as text, because [`HumanBytes`] itself ignores a column's width.
pub fn bytes(value: u64) -> String {
    HumanBytes(value).to_string()
}

/// A span of time for people.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 90.0 * 60.0 => format!("{:.0} min", s / 60.0),
        s if s < 36.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.0} days", s / 86400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_say_them() {
        let all = [59.6, 160.0, 7_300.0, 1e6].map(time);
        assert_eq!(all, ["60 s", "3 min", "2.0 h", "12 days"]);
    }

    #[test]
    fn control_characters_of_names_are_spelled_out() {
        assert_eq!(Plain("a\u{1b}[31mb\r\u{7f}").to_string(), "a\\u{1b}[31mb\\r\\u{7f}");
        assert_eq!(Plain("Ä\tb\nc — 1 %").to_string(), "Ä\tb\nc — 1 %");
    }

    /// Takes so many bytes, then fails.
    struct Sink(usize, ErrorKind);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 < bytes.len() {
                return Err(self.1.into());
            }
            self.0 -= bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn printed(kind: ErrorKind) -> Printer<Sink> {
        let mut printer = Printer { sink: Some(Sink(5, kind)), failure: None };
        for text in [&b"abc\n"[..], b"def\n", b"\n"] {
            printer.attempt(|| unreachable!(), |sink| sink.write_all(text));
        }
        printer
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure_and_a_full_device_is_told() {
        let closed = printed(ErrorKind::BrokenPipe);
        assert!(closed.failure.is_some() && closed.outcome().is_ok());
        assert_eq!(closed.sink.unwrap().0, 1, "nothing is printed after a line that failed");
        let full = printed(ErrorKind::StorageFull).outcome().unwrap_err();
        assert!(full.starts_with("cannot write to standard output: "), "{full}");
        assert!(printed(ErrorKind::Other).outcome().is_err());
    }
}
