//! `duet frontier`: every way to explain at several strengths, a judge's probability of the target against how much changed.

use crate::cli::{Cli, Frontier};
use crate::eval::chosen::{Chosen, Towards};
use crate::eval::frontier::{Point, Runner, ways};
use crate::eval::judge::Judge;
use crate::eval::outcome::Examiner;
use crate::io::files::{self, Kind};
use crate::io::output::{self, say};
use crate::io::session::{Session, watch_interrupts};
use crate::report::frontier::{FILES, FrontierFiles};
use duet::Result;
use duet::rng::Seed;
use serde_json::json;
use std::path::Path;

/// Makes the folder and sees that what goes there can be written and replaces nothing that is read.
fn check_outputs(arguments: &Cli, options: &Frontier, session: &Session) -> Result<()> {
    let data = session.data_spec(&options.data)?;
    if data.kind.is_folder() {
        files::check_apart(&options.out, &data.path)?;
    }
    files::make_folder(&options.out)?;
    let paths = FILES.map(|name| options.out.join(name));
    let outputs: Vec<(Kind, &Path)> = paths.iter().map(|path| (Kind::Table, path.as_path())).collect();
    let inputs = [
        Some(&options.model.model),
        Some(&options.judge),
        options.data.recipe.as_ref(),
        arguments.tuning.as_ref(),
    ];
    let inputs: Vec<&Path> = inputs.into_iter().flatten().map(|path| path.as_path()).collect();
    files::check(&outputs, &inputs)
}

fn line(point: &Point) -> String {
    let mean = |key| point.mean(key).map_or(f64::NAN, |mean| mean.mean);
    let error = point.mean("judge_probability").and_then(|mean| mean.standard_error).unwrap_or(f64::NAN);
    format!(
        "{:<16} {:>6}: mean |Δ| {:.4}, judge's probability {:.3} ± {error:.3}, judge says the target {:.1} %, reached {:.1} %",
        point.way.name,
        point.strength,
        mean("mean_change"),
        mean("judge_probability"),
        100.0 * mean("judge_agrees"),
        100.0 * mean("reached"),
    )
}

/// Runs the command.
///
/// # Errors
/// A bad checkpoint, judge, data or option; device errors; files that cannot be written.
pub fn run(arguments: &Cli, options: &Frontier) -> Result<()> {
    let ways = ways(&options.way)?;
    let session = Session::open(arguments, &options.model)?;
    session.checkpoint.require_denoising()?;
    let towards = Towards::named(session.config(), &options.which.to)?;
    let judge = Judge::open(&session, &options.model.model, &options.judge)?;
    check_outputs(arguments, options, &session)?;
    let split = session.data(&options.data)?;
    let chosen = Chosen::new(&session, &split.test, options.per_class, options.which.skip, towards)?;
    watch_interrupts()?;
    let settings = json!({
        "model": options.model.model.display().to_string(), "judge": judge.identity, "images": chosen.len(),
        "per_class": options.per_class, "skip": options.which.skip, "towards": towards.words(session.config()),
        "noise": options.noise, "seed": options.seed,
    });
    if !arguments.json {
        say!("{} images towards {}", chosen.len(), towards.words(session.config()));
        say!("judge, which never guides: {}", judge.identity.words());
    }
    let mut files = FrontierFiles { out: options.out.clone(), settings, points: Vec::new() };
    let mut runner = Runner {
        session: &session,
        examiner: Examiner::new(&session, Some(&judge), false)?,
        chosen: &chosen,
        batch: options.batch,
        quiet: arguments.json,
        explainer: None,
    };
    for (way, strengths) in ways {
        for strength in strengths {
            let explain = way.options(strength, options.noise, Seed(options.seed), options.force);
            let point = runner.run(way, &explain, strength)?;
            if !arguments.json {
                say!("{}", line(&point));
            }
            files.points.push(point);
            // After each point, so that a run that is interrupted leaves those before it.
            files.write()?;
            if output::failed() {
                return Ok(());
            }
        }
    }
    session.close();
    if arguments.json {
        say!("{}", files.json());
    } else {
        say!("wrote table and plot to {}", options.out.display());
    }
    Ok(())
}
