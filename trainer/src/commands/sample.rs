//! `duet sample`: a grid of generated images, a row per class.

use crate::cli::{Cli, Sample};
use crate::io::files::{self, Kind};
use crate::io::output::{progress, say};
use crate::io::render::Grid;
use crate::io::session::{Session, go_on, guidance, solver, watch_interrupts};
use duet::infer::ImageClassifier;
use duet::model::argmax;
use duet::model::{Head, Labels};
use duet::rng::Seed;
use duet::sampling::{ChainOptions, Finish, Guidance, Sampler, StepSpec, Watch};
use duet::{Error, Result};
use std::path::{Path, PathBuf};

/// Runs the command.
///
/// # Errors
/// A bad checkpoint, class or chain; device errors; a picture that cannot be written.
pub fn run(arguments: &Cli, options: &Sample) -> Result<()> {
    let inputs = [Some(&options.model.model), arguments.tuning.as_ref()].into_iter().flatten();
    let inputs: Vec<&Path> = inputs.map(PathBuf::as_path).collect();
    files::check(&[(Kind::Picture, &options.out)], &inputs)?;
    let session = Session::open(arguments, &options.model)?;
    session.checkpoint.require_denoising()?;
    let config = session.config().clone();
    let guided = guidance(&options.chain);
    if config.head == Head::MultiLabel && guided != Guidance::None {
        return Err(Error::config("guidance", "a multi-label model has no single class to move to"));
    }
    let classes: Vec<usize> = if options.class.is_empty() {
        (0..config.num_classes).collect()
    } else {
        config.find_classes(&options.class)?
    };
    let names: Vec<String> = classes.iter().map(|c| config.class_name(*c)).collect();
    let grid = Grid { channels: config.in_channels, size: config.image_size, scale: 2 };
    let most = grid.most_columns(classes.len(), &names);
    if options.count > most {
        let detail =
            format!("must be at most {most}, or the picture becomes too large; is {}", options.count);
        return Err(Error::config("count", detail));
    }
    watch_interrupts()?;
    let spec = StepSpec {
        solver: solver(&options.chain)?,
        guidance: guided,
        clip: !options.chain.no_clip,
        force: options.chain.force,
        ..StepSpec::new(options.batch.min(options.count))
    };
    let diffusion = &session.checkpoint.diffusion;
    let sampler = Sampler::fitting(&session.weights, diffusion, &options.chain.steps, spec, session.set);
    let sampler = pollster::block_on(sampler)?;
    let batch = sampler.batch();
    let classifier = ImageClassifier::new(&session.weights, batch, session.set);
    let finish = Finish::new(&session.weights, &sampler, pollster::block_on(classifier)?);
    let finish = pollster::block_on(finish)?;
    let steps = sampler.schedule().len();
    let bar = progress(
        (steps * classes.len() * options.count.div_ceil(batch)) as u64,
        0,
        "sampling {wide_bar} {pos}/{len} steps {eta}",
        arguments.json,
    );
    let mut rows = Vec::new();
    let mut recognised = Vec::new();
    for (number, class) in classes.iter().enumerate() {
        let (mut images, mut right) = (Vec::new(), 0);
        for first in (0..options.count).step_by(batch) {
            // The last batch is filled up with images that are dropped.
            let kept = batch.min(options.count - first);
            let first_row = (number * options.count + first) as u32;
            let seed = Seed(options.chain.seed);
            sampler.start_from_noise(seed, first_row)?;
            let labels = Labels::Classes(vec![*class as u32; batch]);
            let chain = ChainOptions { seed, first_row, labels, alpha: options.alpha };
            let mut step = |_| {
                bar.inc(1);
                go_on()
            };
            pollster::block_on(sampler.run(steps, &chain, Watch::Progress(&mut step)))?;
            let made = pollster::block_on(finish.read())?;
            if made.images.iter().any(|v| !v.is_finite()) {
                let detail = format!("sampling class {class} gave NaN; try a smaller --alpha");
                return Err(Error::NotFinite { detail });
            }
            let decisions = argmax(&made.logits, config.num_classes)?;
            right += decisions.iter().take(kept).filter(|a| *a == class).count();
            images.extend_from_slice(&made.images[..kept * config.images(1).image_len()]);
        }
        recognised.push((*class, right));
        rows.push(images);
    }
    bar.finish_and_clear();
    session.close();
    grid.save_rows(&options.out, &rows, &names)?;
    if arguments.json {
        let list: Vec<_> = recognised
            .iter()
            .map(|(c, right)| serde_json::json!({"class": c, "images": options.count, "recognised": right}))
            .collect();
        say!("{}", serde_json::json!({"picture": options.out.display().to_string(), "classes": list}));
        return Ok(());
    }
    for ((_, right), name) in recognised.iter().zip(&names) {
        say!("{name}: the classifier recognises {right} of {}", options.count);
    }
    say!("wrote {}", options.out.display());
    Ok(())
}
