//! `duet eval`: every metric of a model on the test set.

use crate::cli::{Cli, Eval, FeatureChoice, Shard};
use crate::eval::counterfactuals::Wanted;
use crate::eval::{Ground, MEASURES, Measure, Measured, Task};
use crate::io::output::{self, say};
use crate::io::session::Session;
use crate::shard::{Gathered, Identity, Part, Target};
use duet::Result;
use serde_json::Value;
use std::path::Path;

/// What parts of it are called.
pub const NAME: &str = "eval";

/// Runs the command.
///
/// # Errors
/// A bad checkpoint, judge or data; device errors.
pub fn run(arguments: &Cli, options: &Eval) -> Result<()> {
    let target = Target::of(&options.shard, NAME)?;
    let session = Session::open(arguments, &options.model)?;
    // What is wrong with a judge is said before data are read and minutes spent.
    let wanted = Wanted::of(&session, options)?;
    let split = session.data(&options.data)?;
    let (wanted, quiet) = (wanted.as_ref(), arguments.json);
    let shard = target.as_ref().map_or(Shard::WHOLE, |target| target.shard);
    let task = Task { session: &session, options, split: &split, wanted, quiet, shard };
    let mut part = Part::default();
    Ground::note(&task, &mut part)?;
    let Some(target) = target else {
        return tell(quiet, |measure| {
            (measure.rows)(&task, &mut part)?;
            (measure.figures)(&mut part, quiet)
        });
    };
    let identity = identity(arguments, options, &task)?;
    MEASURES.iter().try_for_each(|measure| (measure.rows)(&task, &mut part))?;
    session.close();
    target.write(arguments, &session, identity, Value::Null, &part)
}

/// Tells what parts measured.
///
/// # Errors
/// Parts without what they should hold; figures that there are none of.
pub fn merge(arguments: &Cli, mut all: Gathered) -> Result<()> {
    tell(arguments.json, |measure| (measure.figures)(&mut all.part, arguments.json))
}

/// Tells what each measure finds, one after the other.
fn tell(json: bool, mut found: impl FnMut(&Measure) -> Result<Measured>) -> Result<()> {
    let mut row = serde_json::Map::new();
    for measure in &MEASURES {
        if output::failed() {
            return Ok(());
        }
        let measured = found(measure)?;
        if !json {
            measured.lines.iter().for_each(|line| say!("{line}"));
        }
        row.extend(measured.fields);
    }
    if json {
        say!("{}", Value::Object(row));
    }
    Ok(())
}

/// What the figures of all parts are of.
fn identity(arguments: &Cli, options: &Eval, task: &Task<'_>) -> Result<Identity> {
    let (session, split) = (task.session, task.split);
    let (features, network) = match &options.more.features {
        FeatureChoice::Own => ("own", None),
        FeatureChoice::Inception(file) => ("inception", Some(file)),
        FeatureChoice::Lenet(file) => ("lenet", Some(file)),
    };
    let identity = Identity::new(NAME, arguments, options)?
        .with_file("model", Some(&options.model.model))?
        .with("weights", format!("{:?}", session.set))
        .with_data("data", &split.test)
        .with_file("judge", options.judge.as_deref())?
        .with("features", features)
        .with_file("network of features", network.map(|file| file.as_path()))?
        .with_file("samples-npz", options.more.samples_npz.as_deref())?
        .with_file("reference", options.more.reference.as_deref())?;
    let identity = match options.against.as_deref().map(Path::new) {
        Some(file) if file.is_file() => identity.with_file("against", Some(file))?,
        method => identity.with("against", method.map(|method| method.display().to_string())),
    };
    // Only a judge looks at training images.
    Ok(if options.judge.is_some() { identity.with_data("training data", &split.train) } else { identity })
}
