//! `duet eval`: every metric of a model on the test set.

use crate::cli::{Cli, Eval};
use crate::eval::counterfactuals::Wanted;
use crate::eval::{MEASURES, Task};
use crate::io::output::{self, say};
use crate::io::session::Session;
use duet::Result;

/// Runs the command.
///
/// # Errors
/// A bad checkpoint, judge or data; device errors.
pub fn run(arguments: &Cli, options: &Eval) -> Result<()> {
    let session = Session::open(arguments, &options.model)?;
    // What is wrong with a judge is said before data are read and minutes spent.
    let wanted = Wanted::of(&session, options)?;
    let split = session.data(&options.data)?;
    let task =
        Task { session: &session, options, split: &split, wanted: wanted.as_ref(), quiet: arguments.json };
    let mut row = serde_json::Map::new();
    for measure in MEASURES {
        if output::failed() {
            return Ok(());
        }
        let measured = measure(&task)?;
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
