//! `duet sample`: a grid of generated images, a row per class.

use crate::cli::{Cli, Sample};
use crate::io::output::progress;
use crate::io::render::Grid;
use crate::io::session::{Session, go_on, guidance, solver, watch_interrupts};
use duet::infer::ImageClassifier;
use duet::model::argmax;
use duet::model::{Head, Labels};
use duet::rng::Seed;
use duet::sampling::{ChainOptions, Finish, Guidance, Sampler, StepSpec, Watch};
use duet::{Error, Result};

/// Runs the command.
///
/// # Errors
/// A bad checkpoint, class or chain; device errors; a picture that cannot be written.
pub fn run(arguments: &Cli, options: &Sample) -> Result<()> {
    if options.count == 0 {
        return Err(Error::config("count", "must be at least 1"));
    }
    let session = Session::open(arguments, &options.model)?;
    let config = session.config().clone();
    let guided = guidance(&options.chain);
    if config.head == Head::MultiLabel && guided != Guidance::None {
        return Err(Error::config("guidance", "a multi-label model has no single class to move to"));
    }
    let classes: Vec<usize> = if options.class.is_empty() {
        (0..config.num_classes).collect()
    } else {
        options.class.iter().map(|c| config.find_class(c)).collect::<Result<_>>()?
    };
    watch_interrupts()?;
    let spec = StepSpec {
        solver: solver(&options.chain)?,
        guidance: guided,
        clip: !options.chain.no_clip,
        force: options.chain.force,
        ..StepSpec::new(options.count)
    };
    let diffusion = &session.checkpoint.diffusion;
    let sampler = Sampler::new(&session.weights, diffusion, &options.chain.steps, spec, session.set);
    let sampler = pollster::block_on(sampler)?;
    let classifier = ImageClassifier::new(&session.weights, options.count, session.set);
    let finish = Finish::new(&session.weights, &sampler, pollster::block_on(classifier)?);
    let finish = pollster::block_on(finish)?;
    let steps = sampler.schedule().len();
    let bar = progress(
        (steps * classes.len()) as u64,
        0,
        "sampling {wide_bar} {pos}/{len} steps {eta}",
        arguments.json,
    );
    let mut rows = Vec::new();
    let mut recognised = Vec::new();
    for (number, class) in classes.iter().enumerate() {
        let first_row = (number * options.count) as u32;
        let seed = Seed(options.chain.seed);
        sampler.start_from_noise(seed, first_row)?;
        let labels = Labels::Classes(vec![*class as u32; options.count]);
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
        let right = argmax(&made.logits, config.num_classes)?.iter().filter(|a| *a == class).count();
        recognised.push((*class, right));
        rows.push(made.images);
    }
    bar.finish_and_clear();
    session.close();
    let names: Vec<String> = classes.iter().map(|c| config.class_name(*c)).collect();
    let grid = Grid { channels: config.in_channels, size: config.image_size, scale: 2 };
    grid.save_rows(&options.out, &rows, &names)?;
    if arguments.json {
        let list: Vec<_> = recognised
            .iter()
            .map(|(c, right)| serde_json::json!({"class": c, "images": options.count, "recognised": right}))
            .collect();
        println!("{}", serde_json::json!({"picture": options.out.display().to_string(), "classes": list}));
        return Ok(());
    }
    for ((_, right), name) in recognised.iter().zip(&names) {
        println!("{name}: the classifier recognises {right} of {}", options.count);
    }
    println!("wrote {}", options.out.display());
    Ok(())
}
