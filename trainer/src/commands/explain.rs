//! `duet explain`: what would have to change for the decision to change?

use crate::cli::{Cli, Explain};
use crate::data::{load_image, true_class};
use crate::eval::explanations::{Made, explain_all};
use crate::io::render::{Grid, Palette};
use crate::io::session::{Session, guidance, solver, watch_interrupts};
use crate::report::page::{Card, Settings, page};
use duet::checkpoint::write_atomic;
use duet::explain::{ExplainOptions, Explainer};
use duet::model::argmax;
use duet::model::{Head, ModelConfig};
use duet::rng::Seed;
use duet::sampling::Guidance;
use duet::{Error, Result};
use std::path::Path;

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
fn wanted_classes(config: &ModelConfig, options: &Explain) -> Result<Vec<Option<usize>>> {
    let count = options.images.len();
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

/// Runs the command.
///
/// # Errors
/// A bad checkpoint, image, class or chain; device errors; a file that cannot be written.
pub fn run(arguments: &Cli, options: &Explain) -> Result<()> {
    if options.batch == 0 {
        return Err(Error::config("batch", "must be at least 1"));
    }
    let session = Session::open(arguments, &options.model)?;
    let config = session.config();
    let wanted = wanted_classes(config, options)?;
    let mut images = Vec::new();
    let mut truths = Vec::new();
    for path in &options.images {
        images.extend(load_image(path, config.in_channels, config.image_size)?);
        truths.push(true_class(path, &config.class_names)?);
    }
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
    let batch = options.batch.min(options.images.len());
    let new = Explainer::new(&session.weights, &session.checkpoint.diffusion, batch, &explain, session.set);
    let explainer = pollster::block_on(new)?;
    let made = explain_all(&explainer, &images, &wanted, batch, arguments.json)?;
    session.close();
    let grid = Grid { channels: config.in_channels, size: config.image_size, scale: 4 };
    let all = &made.all;
    grid.save_strips(&options.out, [&images, &all.noised, &all.counterfactual, &all.difference])?;
    if let Some(path) = &options.report {
        let settings = settings(&session, options, &explain, &explainer);
        let cards = cards(&session, options, &images, &made, &truths, path)?;
        write_atomic(path, page(&settings, &cards).as_bytes())?;
    }
    print(arguments, options, config, &made, &truths)
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
    options: &Explain,
    images: &[f32],
    made: &Made,
    truths: &[Option<String>],
    path: &Path,
) -> Result<Vec<Card>> {
    let config = session.config();
    let grid = Grid { channels: config.in_channels, size: config.image_size, scale: 1 };
    let (classes, len) = (config.num_classes, images.len() / truths.len());
    let (was, is) = (argmax(&made.all.before, classes)?, argmax(&made.all.after, classes)?);
    let card = |i: usize| {
        let png = |from: &[f32], palette| grid.encode_one(path, &from[i * len..][..len], palette);
        let all = &made.all;
        let difference = &all.difference[i * len..][..len];
        let file = options.images[i].file_name().unwrap_or(options.images[i].as_os_str());
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
    made: &Made,
    truths: &[Option<String>],
) -> Result<()> {
    let classes = config.num_classes;
    let all = &made.all;
    let (was, is) = (argmax(&all.before, classes)?, argmax(&all.after, classes)?);
    let report_file = options.report.as_ref().map(|path| path.display().to_string());
    let mut rows = Vec::new();
    for (i, (path, &target)) in options.images.iter().zip(&made.targets).enumerate() {
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
        println!("{}:", path.display());
        for (word, decision, row) in [("before", was[i], before), ("after ", is[i], after)] {
            let share = |c: usize| format!("{} {:.1} %", config.class_name(c), 100.0 * row[c]);
            let towards = if decision == target { String::new() } else { format!(", {}", share(target)) };
            println!("  {word}  {}{towards}", share(decision));
        }
    }
    let picture = options.out.display().to_string();
    if arguments.json {
        let json = serde_json::json!({"picture": picture, "report": report_file, "explanations": rows});
        println!("{json}");
        return Ok(());
    }
    println!("wrote {picture}");
    if let Some(file) = report_file {
        println!("wrote {file}");
    }
    Ok(())
}
