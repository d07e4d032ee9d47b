//! `duet study`: what the step size of guidance does. Precision and recall of the generated images, the probability of
//! the class along the chain, and the images themselves, as in Figures 4 to 6 of the paper.

use crate::cli::{Cli, Study};
use crate::data::Dataset;
use crate::eval::chains::Chains;
use crate::eval::likeness::Real;
use crate::io::output::{progress, say};
use crate::io::session::{Session, go_on, watch_interrupts};
use crate::report::study::{Outcome, StudyFiles};
use duet::model::Head;
use duet::{Error, Result};

fn check(session: &Session, options: &Study) -> Result<()> {
    let config = session.config();
    if config.head != Head::Multiclass {
        return Err(Error::config("head", "a study needs a model with one class per image"));
    }
    for (name, value) in [("per_class", options.per_class), ("batch", options.batch)] {
        if value == 0 {
            return Err(Error::config(name, "must be at least 1"));
        }
    }
    let samples = options.per_class * config.num_classes;
    if options.neighbours == 0 || options.neighbours >= samples {
        let detail = format!("must be from 1 to {}, is {}", samples.saturating_sub(1), options.neighbours);
        return Err(Error::config("neighbours", detail));
    }
    if let Some(bad) = options.step_sizes.iter().find(|alpha| !alpha.is_finite()) {
        return Err(Error::config("step_sizes", format!("must be finite, one is {bad}")));
    }
    Ok(())
}

/// Images of the test set: those to compare with, and as many others where there are enough.
fn real_images(session: &Session, options: &Study, test: &Dataset) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
    let (count, classes) = (options.per_class, session.config().num_classes);
    let rows = test.of_each_class(0..count)?;
    let truths = test.classes()?;
    for class in 0..classes {
        let found = rows.iter().filter(|row| truths[**row] as usize == class).count();
        if found < count {
            let name = session.config().class_name(class);
            let detail = format!("is {count}, but there are only {found} test images of the class {name}");
            return Err(Error::config("per_class", detail));
        }
    }
    if rows.len() != count * classes {
        return Err(Error::config("num_classes", format!("is {classes}, but the data have more classes")));
    }
    let others = test.of_each_class(count..2 * count)?;
    let others = (others.len() == rows.len()).then(|| test.images_f32(&others));
    Ok((test.images_f32(&rows), others))
}

/// Runs the command.
///
/// # Errors
/// A bad checkpoint, data, chain or option; device errors; files that cannot be written.
pub fn run(arguments: &Cli, options: &Study) -> Result<()> {
    let session = Session::open(arguments, &options.model)?;
    check(&session, options)?;
    let split = session.data(&options.data)?;
    let (real, others) = real_images(&session, options, &split.test)?;
    let len = split.test.image_len();
    let mut alphas = options.step_sizes.clone();
    alphas.sort_by(f32::total_cmp);
    alphas.dedup();
    std::fs::create_dir_all(&options.out)
        .map_err(|e| Error::Data { path: options.out.clone(), detail: format!("cannot be created: {e}") })?;
    watch_interrupts()?;
    let chains = Chains::new(&session, options)?;
    let real = Real::new(real, len, &chains, options.neighbours)?;
    let reference = others.map(|images| real.compare(images, len, &chains)).transpose()?;
    let mut files = StudyFiles::new(&session, options, &chains, reference);
    let total = (chains.work() * alphas.len()) as u64;
    let bar = progress(total, 0, "{msg} {wide_bar} {pos}/{len} steps {eta}", arguments.json);
    for alpha in alphas {
        bar.set_message(format!("α = {alpha}"));
        let made = chains.generate(alpha, || {
            bar.inc(1);
            go_on()
        })?;
        let quality = real.compare(made.images.clone(), len, &chains)?;
        let line = format!(
            "alpha {alpha}: precision {:.3}, recall {:.3} (pixels {:.3}, {:.3}); {} of {} recognised",
            quality.model.precision,
            quality.model.recall,
            quality.pixels.precision,
            quality.pixels.recall,
            made.recognised,
            chains.labels().len()
        );
        files.add(Outcome { made, quality });
        // After each step size, so that one that is interrupted leaves those before it.
        files.write()?;
        if !arguments.json {
            bar.suspend(|| say!("{line}"));
        }
    }
    bar.finish_and_clear();
    session.close();
    if arguments.json {
        say!("{}", files.json());
    } else {
        say!("wrote tables, plots and pictures to {}", options.out.display());
    }
    Ok(())
}
