//! Other runs of this program: trainings, and commands whose answer is JSON. A process of its own gives back all memory of the
//! device, and its folder can be gone on with by hand.

use crate::cli::Cli;
use crate::io::session::interrupted;
use duet::{Error, Result};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// What is printed, line by line.
const LOG: &str = "log.jsonl";
/// What goes wrong.
const ERRORS: &str = "errors.txt";
/// How often it is asked whether to stop.
const WAIT: Duration = Duration::from_millis(200);

/// Runs `duet` with `words` until it ends or is to stop; each line of its answer is kept in `folder` and given to `heard`. Its
/// last line.
///
/// # Errors
/// What the process says is wrong; [`Error::Aborted`] where it was stopped; a folder that cannot be written to.
pub fn run(
    arguments: &Cli,
    words: &[String],
    folder: &Path,
    stop: &AtomicBool,
    mut heard: impl FnMut(&Value),
) -> Result<Value> {
    let failed = |path: &Path, error: std::io::Error| Error::Write {
        what: "log",
        path: path.to_owned(),
        detail: error.to_string(),
    };
    let (log_path, errors) = (folder.join(LOG), folder.join(ERRORS));
    let mut log = File::create(&log_path).map_err(|error| failed(&log_path, error))?;
    let said = File::create(&errors).map_err(|error| failed(&errors, error))?;
    let program = std::env::current_exe().map_err(|error| failed(Path::new("duet"), error))?;
    let mut command = Command::new(&program);
    command.arg("--json");
    if let Some(gpu) = &arguments.gpu {
        command.args(["--gpu", gpu]);
    }
    if let Some(table) = &arguments.tuning {
        command.arg("--tuning").arg(table);
    }
    if let Some(folder) = &arguments.cache {
        command.arg("--cache").arg(folder);
    }
    if arguments.no_cache {
        command.arg("--no-cache");
    }
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said);
    let mut child = Running(command.spawn().map_err(|error| failed(&program, error))?);
    let (sender, lines) = channel();
    if let Some(out) = child.0.stdout.take() {
        // Ends with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(std::io::Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    let (mut asked, mut last) = (false, Value::Null);
    loop {
        match lines.recv_timeout(WAIT) {
            Ok(line) => {
                writeln!(log, "{line}").map_err(|error| failed(&log_path, error))?;
                if let Ok(value) = serde_json::from_str(&line) {
                    heard(&value);
                    last = value;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if (interrupted() || stop.load(Relaxed)) && !asked {
            asked = true;
            child.stop();
        }
    }
    let status = child.0.wait().map_err(|error| failed(&program, error))?;
    if interrupted() || asked {
        return Err(Error::Aborted);
    }
    if status.success() {
        return Ok(last);
    }
    Err(Error::Data { path: folder.to_owned(), detail: reason(&errors, status.code()) })
}

/// What the process said last is wrong.
fn reason(errors: &PathBuf, code: Option<i32>) -> String {
    let text = std::fs::read_to_string(errors).unwrap_or_default();
    let of_line =
        |line: &str| Some(serde_json::from_str::<Value>(line).ok()?.get("error")?.as_str()?.to_owned());
    let said = text.lines().rev().find_map(of_line);
    let end = || text.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned);
    let code = || format!("ended with the code {}", code.map_or("none".into(), |code| code.to_string()));
    said.or_else(end).unwrap_or_else(code)
}

/// A process that does not outlive who waits for it.
struct Running(Child);

impl Running {
    /// Asks it to save and end.
    #[cfg(unix)]
    fn stop(&mut self) {
        use nix::sys::signal::{Signal, kill};
        if let Ok(id) = i32::try_from(self.0.id()) {
            // It may have ended by itself.
            let _ = kill(nix::unistd::Pid::from_raw(id), Signal::SIGINT);
        }
    }

    /// Elsewhere Ctrl-C reaches every process of a console.
    #[cfg(not(unix))]
    fn stop(&mut self) {}
}

impl Drop for Running {
    fn drop(&mut self) {
        // Where it has ended nothing is left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("errors.txt");
        std::fs::write(&path, "{\"warning\":\"w\"}\n{\"error\":\"no data\"}\n{\"warning\":\"x\"}\n").unwrap();
        assert_eq!(reason(&path, Some(1)), "no data");
        std::fs::write(&path, "some text\n\n").unwrap();
        assert_eq!(reason(&path, Some(1)), "some text");
        std::fs::write(&path, "").unwrap();
        assert_eq!(reason(&path, Some(7)), "ended with the code 7");
        assert_eq!(reason(&path, None), "ended with the code none");
    }
}
