//! The command `duet`: train joint diffusion models, classify, sample, explain.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use clap::Parser as _;
use duet_trainer::{cli, commands, io::output};
use std::io::{ErrorKind, IsTerminal as _};
use std::process::ExitCode;

/// Mesa's layer that sorts devices asks Wayland for the display's GPU and complains on stderr where there is no session
/// to ask. Devices are chosen here by their kind, so it is not needed then.
#[cfg(target_os = "linux")]
fn quiet_device_selection() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() && std::env::var_os("NODEVICE_SELECT").is_none() {
        // SAFETY: the first thing `main` does; no other thread exists that could read the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

/// Exit code of a command line that cannot be understood, as is usual; everything else that fails ends with 1.
const USAGE: u8 = 2;

/// Exit code of an audit that found a shortcut, so that a script can refuse the model.
const FOUND: u8 = 3;

/// Prints help, a version or what is wrong with the command line.
fn explain(parsed: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|argument| argument == "--json");
    if parsed.use_stderr() {
        if json {
            let text = parsed.render().to_string();
            output::error(text.trim_start_matches("error: ").trim_end(), true);
        } else {
            // Where this fails there is nobody to tell.
            let _ = parsed.print();
        }
        return ExitCode::from(USAGE);
    }
    if json {
        let what = if parsed.kind() == clap::error::ErrorKind::DisplayVersion { "version" } else { "help" };
        output::line(format_args!("{}", serde_json::json!({ what: parsed.render().to_string().trim_end() })));
        return ended(true);
    }
    match parsed.print() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            output::error(&format!("cannot write to standard output: {error}"), false);
            ExitCode::FAILURE
        }
        _ => ended(false),
    }
}

/// The exit code of a command that did what it should, if what it printed could be written.
fn ended(json: bool) -> ExitCode {
    match output::finish() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error, json);
            ExitCode::FAILURE
        }
    }
}

/// Begins to log on stderr, in colours only where a terminal shows them.
fn log(verbose: bool) {
    let level = if verbose { "debug" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| output::Log)
        .with_ansi(!plain && std::io::stderr().is_terminal())
        // It would be told on stderr, by a macro that panics when that is closed.
        .log_internal_errors(false)
        .init();
}

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    quiet_device_selection();
    let mut arguments = match cli::Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    log(arguments.verbose);
    match commands::run(&mut arguments) {
        Ok(answer) => match ended(arguments.json) {
            code if code == ExitCode::SUCCESS && answer == commands::Answer::Found => ExitCode::from(FOUND),
            code => code,
        },
        Err(error) => {
            output::error(&error.to_string(), arguments.json);
            // What could not be printed is told as well.
            ended(arguments.json);
            ExitCode::FAILURE
        }
    }
}
