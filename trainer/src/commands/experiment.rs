//! `duet experiment`: the paper's experiments and what its readers ask, from the trainings to a table.

use crate::cli::{Cli, Experiment};
use crate::experiments::{EXPERIMENTS, chosen, missing, report, run as run_one};
use crate::io::output::{say, tell};
use crate::io::session::watch_interrupts;
use duet::Result;

/// Runs the command.
///
/// # Errors
/// Names, settings or data that are wrong; what a training says is wrong; files that cannot be written.
pub fn run(arguments: &Cli, options: &Experiment) -> Result<()> {
    if options.names == ["list"] {
        list(arguments.json);
        return Ok(());
    }
    if options.names == ["report"] {
        return say_report(arguments, options);
    }
    let entries = chosen(&options.names)?;
    watch_interrupts()?;
    for entry in entries {
        let lacks = missing(options, entry)?;
        if !lacks.is_empty() && !options.names.iter().any(|name| name == entry.name) {
            let places: Vec<String> = lacks.iter().map(|path| path.display().to_string()).collect();
            tell!("duet: {} is left out: there is no {}", entry.name, places.join(", "));
            continue;
        }
        for table in run_one(arguments, options, entry)? {
            if arguments.json {
                say!("{}", serde_json::json!(table));
            } else {
                say!("{}", table.text());
            }
        }
    }
    say_report(arguments, options)
}

fn say_report(arguments: &Cli, options: &Experiment) -> Result<()> {
    let path = report(&options.out)?;
    if arguments.json {
        say!("{}", serde_json::json!({ "report": path.display().to_string() }));
    } else {
        say!("wrote {}", path.display());
    }
    Ok(())
}

fn list(json: bool) {
    for entry in &EXPERIMENTS {
        if json {
            say!("{}", serde_json::json!({ "name": entry.name, "about": entry.about }));
        } else {
            say!("{:<16} {}", entry.name, entry.about);
        }
    }
}
