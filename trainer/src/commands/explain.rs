//! `duet explain`: what would have to change for the decision to change?

use crate::cli::{Cli, Explain};
use crate::data::load_image;
use crate::output::progress;
use crate::render::Grid;
use crate::session::{Session, chain, class_name, find_class, guidance, interrupted, watch_interrupts};
use duet::diffusion::{ExplainOptions, Explainer};
use duet::infer::argmax;
use duet::rng::Seed;
use duet::{Error, Result};

/// A grey picture as the share by which each pixel may change.
fn load_mask(path: &std::path::Path, size: usize) -> Result<Vec<f32>> {
    Ok(load_image(path, 1, size)?.iter().map(|v| (0.5 * (v + 1.0)).clamp(0.0, 1.0)).collect())
}

/// Runs the command.
///
/// # Errors
/// A bad checkpoint, image, class or chain; device errors; a picture that cannot be written.
pub fn run(arguments: &Cli, options: &Explain) -> Result<()> {
    let session = Session::open(arguments, &options.model)?;
    let config = session.config().clone();
    let count = options.images.len();
    let named: Vec<usize> = options.to.iter().map(|name| find_class(&config, name)).collect::<Result<_>>()?;
    let wanted: Vec<usize> = match named[..] {
        [one] => vec![one; count],
        _ if named.len() == count => named,
        _ => {
            let detail = format!("{} classes for {count} images: give one, or one for each", named.len());
            return Err(Error::config("to", detail));
        }
    };
    let mut images = Vec::new();
    for path in &options.images {
        images.extend(load_image(path, config.in_channels, config.image_size)?);
    }
    watch_interrupts()?;
    let explain = ExplainOptions {
        noise: options.way.noise,
        respacing: options.chain.steps.clone(),
        alpha: options.way.alpha,
        guidance: guidance(&options.chain),
        chain: chain(&options.chain),
        clip: !options.chain.no_clip,
        seed: Seed(options.chain.seed),
        force: options.chain.force,
        mask: options.mask.as_deref().map(|path| load_mask(path, config.image_size)).transpose()?,
    };
    let diffusion = &session.checkpoint.diffusion;
    let explainer = Explainer::new(&session.weights, diffusion, count, &explain, session.set);
    let explainer = pollster::block_on(explainer)?;
    let targets = pollster::block_on(explainer.targets(&images, &wanted))?;
    let bar = progress(
        explainer.steps() as u64,
        0,
        "explaining {wide_bar} {pos}/{len} steps {eta}",
        arguments.json,
    );
    let explanation = pollster::block_on(explainer.explain(&images, &targets, 0, |_, _| {
        bar.inc(1);
        !interrupted()
    }))?;
    bar.finish_and_clear();
    session.close();
    if explanation.counterfactual.iter().any(|v| !v.is_finite()) {
        let detail = "the counterfactual became NaN; try a smaller --alpha".to_owned();
        return Err(Error::NotFinite { detail });
    }
    let grid = Grid { channels: config.in_channels, size: config.image_size, scale: 4 };
    grid.save_strips(
        &options.out,
        [&images, &explanation.noised, &explanation.counterfactual, &explanation.difference],
    )?;
    let classes = config.num_classes;
    let (was, is) = (argmax(&explanation.before, classes), argmax(&explanation.after, classes));
    let mut report = Vec::new();
    for (i, (path, &target)) in options.images.iter().zip(&wanted).enumerate() {
        let (before, after) =
            (&explanation.before[i * classes..][..classes], &explanation.after[i * classes..][..classes]);
        if arguments.json {
            let curve: Vec<f32> = explanation.curve.iter().map(|step| step[i]).collect();
            report.push(serde_json::json!({
                "image": path.display().to_string(), "target": target, "before": before, "after": after,
                "decision_before": was[i], "decision_after": is[i], "target_probability_by_step": curve,
            }));
            continue;
        }
        let name = |c: usize| class_name(&config, c);
        println!("{}:", path.display());
        println!(
            "  before  {} {:.1} %, {} {:.1} %",
            name(was[i]),
            100.0 * before[was[i]],
            name(target),
            100.0 * before[target]
        );
        println!(
            "  after   {} {:.1} %, {} {:.1} %",
            name(is[i]),
            100.0 * after[is[i]],
            name(target),
            100.0 * after[target]
        );
    }
    if arguments.json {
        let picture = options.out.display().to_string();
        println!("{}", serde_json::json!({"picture": picture, "explanations": report}));
    } else {
        println!("wrote {}", options.out.display());
    }
    Ok(())
}
