//! `duet explain`: what would have to change for the decision to change?

use crate::cli::how::words;
use crate::cli::{Cli, Explain};
use crate::data::{INDEX, Prepared, load_image, true_class};
use crate::eval::explanations::{Made, Verdict, explain_all, shares};
use crate::io::files::{self, Kind};
use crate::io::given::{Remarks, hint_unknown, preparation};
use crate::io::output::say;
use crate::io::pictures::{self, Failures, Pictures};
use crate::io::render::{Grid, Palette};
use crate::io::session::{Session, watch_interrupts};
use crate::report::page::{Card, Settings, page};
use duet::explain::{ExplainOptions, Explainer, Explanation};
use duet::model::{Head, ModelConfig, Target, argmax};
use duet::picture::Preparation;
use duet::{Error, Result};
use std::path::{Path, PathBuf};

/// Instead of a class: the second most probable one of each image.
const SECOND: &str = "second";

/// A grey picture as the share by which each pixel may change, fitted as the images are. What is transparent may not.
fn load_mask(path: &Path, images: &Preparation) -> Result<Vec<f32>> {
    let mask = load_image(path, &Preparation { fit: images.fit, ..Preparation::new(1, images.size) })?;
    Ok(mask.values().map(|v| (0.5 * (v + 1.0)).clamp(0.0, 1.0)).collect())
}

/// A class that was asked for, or a label with its sign; `None`: each image's second.
fn wanted_class(config: &ModelConfig, text: &str) -> Result<Option<Target>> {
    match config.find_class(text) {
        Err(_) if text.trim() == SECOND && config.head == Head::Multiclass && config.num_classes > 1 => {
            Ok(None)
        }
        // A class may be called so itself.
        Err(error) => {
            let signed = [('+', true), ('-', false), ('−', false)];
            let found = signed.into_iter().find_map(|(sign, present)| {
                let name = text.trim().strip_prefix(sign)?;
                Some(config.find_class(name).map(|class| Target { class, present }))
            });
            let target = found.unwrap_or(Err(error))?;
            // Here, where the option can be named.
            if !target.present && config.head == Head::Multiclass {
                let detail = format!(
                    "{text:?} takes a label away, but an image of this model has one class: name the class it is to become"
                );
                return Err(Error::config("to", detail));
            }
            Ok(Some(target))
        }
        Ok(class) => Ok(Some(class.into())),
    }
}

/// The target for each of `count` images.
fn wanted_classes(config: &ModelConfig, options: &Explain, count: usize) -> Result<Vec<Option<Target>>> {
    let parts = options.to.iter().flat_map(|text| config.split_classes(text));
    let named: Vec<_> = parts.map(|name| wanted_class(config, name)).collect::<Result<_>>()?;
    match named[..] {
        [one] => Ok(vec![one; count]),
        _ if named.len() == count => Ok(named),
        _ => {
            let detail = format!("{} classes for {count} images: give one, or one for each", named.len());
            Err(Error::config("to", detail))
        }
    }
}

/// Sees that the picture and the report can be written and replace nothing that is read.
fn check_outputs(arguments: &Cli, options: &Explain, images: &[PathBuf]) -> Result<()> {
    let mut outputs: Vec<(Kind, &Path)> = vec![(Kind::Picture, &options.out)];
    outputs.extend(options.report.as_deref().map(|path| (Kind::Report, path)));
    let lists: Vec<PathBuf> = images.iter().map(|image| image.with_file_name(INDEX)).collect();
    let more = [Some(&options.model.model), options.mask.as_ref(), arguments.tuning.as_ref()];
    let inputs = images.iter().chain(&lists).chain(more.into_iter().flatten());
    files::check(&outputs, &inputs.map(PathBuf::as_path).collect::<Vec<_>>())
}

/// Runs the command.
///
/// # Errors
/// A bad checkpoint, class or chain; device errors; a file that cannot be written; images that cannot be read, after all
/// others were explained.
pub fn run(arguments: &Cli, options: &Explain) -> Result<()> {
    let given = pictures::expand(&options.images)?;
    check_outputs(arguments, options, &given)?;
    let session = Session::open(arguments, &options.model)?;
    session.checkpoint.require_denoising()?;
    let config = session.config();
    let wanted = wanted_classes(config, options, given.len())?;
    let grid = Grid::for_strips(config.in_channels, config.image_size, given.len())?;
    let preparation = preparation(&session, &options.picture);
    let Pictures { read, good, bad } = pictures::read(&given, |path| load_image(path, &preparation));
    let images: Vec<f32> = read.iter().flat_map(Prepared::values).collect();
    let mut failures = Failures::new(given.len(), arguments.json);
    let unread: Vec<_> = bad.into_iter().map(|(i, error)| failures.add(&given[i], error)).collect();
    if failures.all() {
        return failures.outcome();
    }
    let wanted: Vec<_> = good.iter().map(|i| wanted[*i]).collect();
    let paths: Vec<PathBuf> = good.iter().map(|i| given[*i].clone()).collect();
    let truths: Vec<_> = paths.iter().map(|path| true_class(path, config)).collect::<Result<_>>()?;
    watch_interrupts()?;
    let mask = options.mask.as_deref().map(|path| load_mask(path, &preparation)).transpose()?;
    let explain = options.how.options(mask)?;
    let (diffusion, batch) = (&session.checkpoint.diffusion, options.batch.min(paths.len()));
    let new = Explainer::fitting(&session.weights, diffusion, batch, &explain, session.set);
    let mut explainer = pollster::block_on(new)?;
    let remarks = Remarks::of(&session, &options.picture, &preparation, &read)?;
    let made = explain_all(&mut explainer, &images, &wanted, explain.seed, arguments.json)?;
    session.close();
    let gather =
        |of: fn(&Explanation) -> &Vec<f32>| made.all.iter().flat_map(of).copied().collect::<Vec<f32>>();
    let strips =
        [gather(|one| &one.noised), gather(|one| &one.counterfactual), gather(|one| &one.difference)];
    let [noised, counterfactual, difference] = &strips;
    grid.save_strips(&options.out, [&images, noised, counterfactual, difference])?;
    if let Some(path) = &options.report {
        let settings = settings(&session, options, &explain, &explainer);
        let cards = cards(&session, &paths, &images, &made, &truths, &remarks, path)?;
        Kind::Report.write(path, page(&settings, &cards).as_bytes())?;
    }
    if !arguments.json {
        hint_unknown(&session, &options.picture);
    }
    print(arguments, options, config, (&paths, &truths, &remarks), &made, unread)?;
    failures.outcome()
}

fn settings(
    session: &Session,
    options: &Explain,
    explain: &ExplainOptions,
    explainer: &Explainer,
) -> Settings {
    let config = session.config();
    let model = options.model.model.file_name().unwrap_or(options.model.model.as_os_str());
    Settings {
        model: model.to_string_lossy().into_owned(),
        noise: explain.noise,
        steps: [explainer.steps(), explainer.chain_steps()],
        seed: explain.seed.0,
        chain: words(explain),
        device: session.weights.device().info().name.clone(),
        class_names: (0..config.num_classes).map(|c| config.class_name(c)).collect(),
    }
}

fn cards(
    session: &Session,
    paths: &[PathBuf],
    images: &[f32],
    made: &Made,
    truths: &[Option<String>],
    remarks: &[Remarks],
    path: &Path,
) -> Result<Vec<Card>> {
    let config = session.config();
    let grid = Grid { channels: config.in_channels, size: config.image_size, scale: 1 };
    let (classes, len) = (config.num_classes, images.len() / truths.len());
    let card = |(i, one): (usize, &Explanation)| {
        let png = |image: &[f32], palette| grid.encode_one(path, image, palette);
        let file = paths[i].file_name().unwrap_or(paths[i].as_os_str());
        let [was, is] = [argmax(&one.before, classes)?, argmax(&one.after, classes)?];
        Ok(Card {
            name: file.to_string_lossy().into_owned(),
            truth: truths[i].clone(),
            typicality: remarks[i].typicality,
            target: one.target.class,
            decisions: [was[0], is[0]],
            verdict: Verdict::of(config.head, one)?,
            probabilities: [one.before.clone(), one.after.clone()],
            pictures: [
                png(&images[i * len..][..len], Palette::Image)?,
                png(&one.noised, Palette::Image)?,
                png(&one.counterfactual, Palette::Image)?,
                png(&one.difference, Palette::Difference)?,
            ],
            change: one.mean_change(),
            seconds: made.seconds,
        })
    };
    made.all.iter().enumerate().map(card).collect()
}

fn print(
    arguments: &Cli,
    options: &Explain,
    config: &ModelConfig,
    (paths, truths, remarks): (&[PathBuf], &[Option<String>], &[Remarks]),
    made: &Made,
    unread: Vec<serde_json::Value>,
) -> Result<()> {
    let classes = config.num_classes;
    let report_file = options.report.as_ref().map(|path| path.display().to_string());
    let mut rows = Vec::new();
    for (i, (path, one)) in paths.iter().zip(&made.all).enumerate() {
        let (before, after, target) = (&one.before, &one.after, one.target.class);
        let (was, is) = (argmax(before, classes)?[0], argmax(after, classes)?[0]);
        let verdict = Verdict::of(config.head, one)?;
        if arguments.json {
            let mut row = serde_json::json!({
                "image": path.display().to_string(), "true_class": truths[i], "target": target,
                "target_present": one.target.present,
                "target_name": config.class_name(target), "already": verdict == Verdict::Already,
                "reached": verdict == Verdict::Reached, "verdict": verdict,
                "before": before, "after": after, "decision_before": was, "decision_after": is,
                "target_probability_by_step": one.curve, "seconds": made.seconds,
                "strength": one.strength, "rung": one.rung, "chains": one.chains, "others_moved": one.moved,
                "mean_change": one.mean_change(),
            });
            remarks[i].add_to(&mut row)?;
            rows.push(row);
            continue;
        }
        say!("{}:{}", path.display(), remarks[i].words());
        remarks[i].hint(path);
        let [first, then] = shares(config, [target, was, is], before, after);
        say!("  before  {first}");
        say!("  after   {then}");
        let [target, was, is] = [target, was, is].map(|class| config.class_name(class));
        say!("  {}", verdict.words(&target, &was, &is));
    }
    let picture = options.out.display().to_string();
    if arguments.json {
        rows.extend(unread);
        let json = serde_json::json!({"picture": picture, "report": report_file, "explanations": rows});
        say!("{json}");
        return Ok(());
    }
    say!("wrote {picture}");
    if let Some(file) = report_file {
        say!("wrote {file}");
    }
    Ok(())
}
