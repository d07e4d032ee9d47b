//! `duet eval`: every metric of a model on the test set.

use crate::cli::{Cli, Eval};
use crate::eval::MEASURES;
use crate::io::output::{self, say};
use crate::io::session::Session;
use duet::Result;

/// Runs the command.
///
/// # Errors
/// A bad checkpoint or data; device errors.
pub fn run(arguments: &Cli, options: &Eval) -> Result<()> {
    let session = Session::open(arguments, &options.model)?;
    let split = session.data(&options.data)?;
    let mut row = serde_json::Map::new();
    for measure in MEASURES {
        if output::failed() {
            return Ok(());
        }
        let measured = measure(&session, options, &split.test, arguments.json)?;
        if !arguments.json {
            measured.lines.iter().for_each(|line| say!("{line}"));
        }
        row.extend(measured.fields);
    }
    session.close();
    if arguments.json {
        say!("{}", serde_json::Value::Object(row));
    }
    Ok(())
}
