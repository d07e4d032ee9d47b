//! The command `duet`: train joint diffusion models, classify, sample, explain.

mod cli;
mod commands;
mod data;
mod output;
mod recipe;
mod render;
mod session;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
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
