//! The command `duet`: train joint diffusion models, classify, sample, explain.

use clap::Parser as _;
use duet_trainer::{cli, commands};
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

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    quiet_device_selection();
    let arguments = cli::Cli::parse();
    let level = if arguments.verbose { "debug" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match commands::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if arguments.json {
                let text = serde_json::json!({ "error": error.to_string() });
                eprintln!("{text}");
            } else {
                eprintln!("duet: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
