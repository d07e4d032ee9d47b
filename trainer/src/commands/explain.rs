//! `duet explain`: what would have to change for the decision to change?

use crate::cli::{Cli, Explain};
use crate::data::{INDEX, load_image, true_class};
use crate::eval::explanations::{Made, explain_all};
use crate::io::files::{self, Kind};
use crate::io::output::say;
use crate::io::pictures::{self, Failures, Pictures};
use crate::io::render::{Grid, Palette};
use crate::io::session::{Session, guidance, solver, watch_interrupts};
use crate::report::page::{Card, Settings, page};
use duet::explain::{ExplainOptions, Explainer};
use duet::model::argmax;
use duet::model::{Head, ModelConfig};
use duet::rng::Seed;
use duet::sampling::Guidance;
use duet::{Error, Result};
use std::path::{Path, PathBuf};

/// Instead of a class: the second most probable one of each image.
const SECOND: &str = "second";

/// A grey picture as the share by which each pixel may change.
fn load_mask(path: &Path, size: usize) -> Result<Vec<f32>> {
    Ok(load_image(path, 1, size)?.iter().map(|v| (0.5 * (v + 1.0)).clamp(0.0, 1.0)).collect())
}

/// A class that was asked for; `None`: each image's second.
fn wanted_class(config: &ModelConfig, text: &str) -> Result<Option<usize>> {
    match config.find_class(text) {
        Err(_) if text.trim() == SECOND && config.head == Head::Multiclass && config.num_classes > 1 => {
            Ok(None)
        }
        found => found.map(Some),
    }
}

/// The class for each of `count` images.
fn wanted_classes(config: &ModelConfig, options: &Explain, count: usize) -> Result<Vec<Option<usize>>> {
    let named: Vec<_> = options.to.iter().map(|name| wanted_class(config, name)).collect::<Result<_>>()?;
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
    let config = session.config();
    let wanted = wanted_classes(config, options, given.len())?;
    let grid = Grid::for_strips(config.in_channels, config.image_size, given.len())?;
    let load = |path: &Path| load_image(path, config.in_channels, config.image_size);
    let Pictures { read, good, bad } = pictures::read(&given, load);
    let images = read.concat();
    let mut failures = Failures::new(given.len(), arguments.json);
    let unread: Vec<_> = bad.into_iter().map(|(i, error)| failures.add(&given[i], error)).collect();
    if failures.all() {
        return failures.outcome();
    }
    let wanted: Vec<_> = good.iter().map(|i| wanted[*i]).collect();
    let paths: Vec<PathBuf> = good.iter().map(|i| given[*i].clone()).collect();
    let truths: Vec<_> =
        paths.iter().map(|path| true_class(path, &config.class_names)).collect::<Result<_>>()?;
    watch_interrupts()?;
    let explain = ExplainOptions {
        noise: options.way.noise,
        respacing: options.chain.steps.clone(),
        alpha: options.way.alpha,
        guidance: guidance(&options.chain),
        solver: solver(&options.chain)?,
        clip: !options.chain.no_clip,
        seed: Seed(options.chain.seed),
        force: options.chain.force,
        mask: options.mask.as_deref().map(|path| load_mask(path, config.image_size)).transpose()?,
    };
    let batch = options.batch.min(paths.len());
    let new = Explainer::new(&session.weights, &session.checkpoint.diffusion, batch, &explain, session.set);
    let explainer = pollster::block_on(new)?;
    let made = explain_all(&explainer, &images, &wanted, batch, arguments.json)?;
    session.close();
    let all = &made.all;
    grid.save_strips(&options.out, [&images, &all.noised, &all.counterfactual, &all.difference])?;
    if let Some(path) = &options.report {
        let settings = settings(&session, options, &explain, &explainer);
        let cards = cards(&session, &paths, &images, &made, &truths, path)?;
        Kind::Report.write(path, page(&settings, &cards).as_bytes())?;
    }
    print(arguments, options, config, &paths, &made, &truths, unread);
    failures.outcome()
}

fn settings(
    session: &Session,
    options: &Explain,
    explain: &ExplainOptions,
    explainer: &Explainer,
) -> Settings {
    let config = session.config();
    let guidance = match explain.guidance {
        Guidance::Representation => "Algorithm 1",
        Guidance::Gradient => "gradient on the image",
        Guidance::None => "no guidance",
    };
    let model = options.model.model.file_name().unwrap_or(options.model.model.as_os_str());
    Settings {
        model: model.to_string_lossy().into_owned(),
        noise: explain.noise,
        alpha: explain.alpha,
        steps: [explainer.steps(), explainer.chain_steps()],
        seed: options.chain.seed,
        chain: format!("{}; {guidance}", explain.solver),
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
    path: &Path,
) -> Result<Vec<Card>> {
    let config = session.config();
    let grid = Grid { channels: config.in_channels, size: config.image_size, scale: 1 };
    let (classes, len) = (config.num_classes, images.len() / truths.len());
    let (was, is) = (argmax(&made.all.before, classes), argmax(&made.all.after, classes));
    let card = |i: usize| {
        let png = |from: &[f32], palette| grid.encode_one(path, &from[i * len..][..len], palette);
        let all = &made.all;
        let difference = &all.difference[i * len..][..len];
        let file = paths[i].file_name().unwrap_or(paths[i].as_os_str());
        Ok(Card {
            name: file.to_string_lossy().into_owned(),
            truth: truths[i].clone(),
            target: made.targets[i],
            decisions: [was[i], is[i]],
            probabilities: [&all.before, &all.after].map(|p| p[i * classes..][..classes].to_vec()),
            pictures: [
                png(images, Palette::Image)?,
                png(&all.noised, Palette::Image)?,
                png(&all.counterfactual, Palette::Image)?,
                png(&all.difference, Palette::Difference)?,
            ],
            change: difference.iter().map(|d| f64::from(d.abs()) / 2.0).sum::<f64>() / len as f64,
            seconds: made.seconds[i],
        })
    };
    (0..truths.len()).map(card).collect()
}

fn print(
    arguments: &Cli,
    options: &Explain,
    config: &ModelConfig,
    paths: &[PathBuf],
    made: &Made,
    truths: &[Option<String>],
    unread: Vec<serde_json::Value>,
) {
    let classes = config.num_classes;
    let all = &made.all;
    let (was, is) = (argmax(&all.before, classes), argmax(&all.after, classes));
    let report_file = options.report.as_ref().map(|path| path.display().to_string());
    let mut rows = Vec::new();
    for (i, (path, &target)) in paths.iter().zip(&made.targets).enumerate() {
        let [before, after] = [&all.before, &all.after].map(|p| &p[i * classes..][..classes]);
        if arguments.json {
            let curve: Vec<f32> = all.curve.iter().map(|step| step[i]).collect();
            rows.push(serde_json::json!({
                "image": path.display().to_string(), "true_class": truths[i], "target": target,
                "before": before, "after": after, "decision_before": was[i], "decision_after": is[i],
                "target_probability_by_step": curve, "seconds": made.seconds[i],
            }));
            continue;
        }
        say!("{}:", path.display());
        for (word, decision, row) in [("before", was[i], before), ("after ", is[i], after)] {
            let share = |c: usize| format!("{} {:.1} %", config.class_name(c), 100.0 * row[c]);
            let towards = if decision == target { String::new() } else { format!(", {}", share(target)) };
            say!("  {word}  {}{towards}", share(decision));
        }
    }
    let picture = options.out.display().to_string();
    if arguments.json {
        rows.extend(unread);
        let json = serde_json::json!({"picture": picture, "report": report_file, "explanations": rows});
        say!("{json}");
        return;
    }
    say!("wrote {picture}");
    if let Some(file) = report_file {
        say!("wrote {file}");
    }
}
