//! `duet study`: what the step size of guidance does, or the solver and its number of steps. Precision and recall of the generated
//! images, the probability of the class along the chain, and the images themselves, as in Figures 4 to 6 of the paper.

mod solvers;

use crate::cli::{Cli, Study};
use crate::data::{Dataset, ending};
use crate::eval::chains::Chains;
use crate::eval::likeness::Real;
use crate::io::files::{self, Kind};
use crate::io::output::{progress, say};
use crate::io::session::{Session, go_on, watch_interrupts};
use crate::report::study::{Outcome, StudyFiles};
use duet::model::Head;
use duet::rng::Seed;
use duet::{Error, Result};
use std::path::Path;

fn check(session: &Session) -> Result<()> {
    session.checkpoint.require_denoising()?;
    let config = session.config();
    if config.head != Head::Multiclass {
        return Err(Error::config("head", "a study needs a model with one class per image"));
    }
    Ok(())
}

/// Makes the folder and sees that what goes there can be written and replaces nothing that is read.
fn check_outputs(arguments: &Cli, options: &Study, session: &Session, names: &[String]) -> Result<()> {
    let data = session.data_spec(&options.data)?;
    if data.kind.is_folder() {
        files::check_apart(&options.out, &data.path)?;
    }
    files::make_folder(&options.out)?;
    let paths: Vec<_> = names.iter().map(|name| options.out.join(name)).collect();
    let kind = |path: &Path| if ending(path) == "png" { Kind::Picture } else { Kind::Table };
    let outputs: Vec<(Kind, &Path)> = paths.iter().map(|path| (kind(path), path.as_path())).collect();
    let inputs = [
        Some(&options.model.model),
        options.judge.as_ref(),
        options.data.recipe.as_ref(),
        arguments.tuning.as_ref(),
    ];
    let inputs: Vec<&Path> = inputs.into_iter().flatten().map(|path| path.as_path()).collect();
    files::check(&outputs, &inputs)
}

/// What generated images are compared with.
struct TestImages {
    /// The model's classes that have test images: those that are studied.
    classes: Vec<usize>,
    /// As many images of each as are generated.
    real: Vec<f32>,
    /// As many others with their classes, where there are enough.
    others: Option<(Vec<f32>, Vec<usize>)>,
}

/// Images of the test set.
fn test_images(session: &Session, options: &Study, test: &Dataset) -> Result<TestImages> {
    let count = options.per_class;
    let rows = test.of_each_class(0..count)?;
    let truths = test.classes()?;
    let mut found = vec![0usize; session.config().num_classes];
    for row in &rows {
        found[truths[*row] as usize] += 1;
    }
    let classes: Vec<usize> = (0..found.len()).filter(|class| found[*class] > 0).collect();
    if let Some(class) = classes.iter().find(|class| found[**class] < count) {
        let (name, found) = (session.config().class_name(*class), found[*class]);
        let detail = format!("is {count}, but there are only {found} test images of the class {name}");
        return Err(Error::config("per_class", detail));
    }
    let samples = count * classes.len();
    if samples < 2 {
        let detail = "must be at least 2 where there are test images of one class alone";
        return Err(Error::config("per_class", detail));
    }
    if options.neighbours == 0 || options.neighbours >= samples {
        let detail = format!(
            "must be below the {samples} images compared (--per-class of each class), from 1 to {}, is {}",
            samples - 1,
            options.neighbours
        );
        return Err(Error::config("neighbours", detail));
    }
    let others = test.of_each_class(count..2 * count)?;
    let others = (others.len() == rows.len()).then(|| {
        let classes = others.iter().map(|row| truths[*row] as usize).collect();
        (test.images_f32(&others), classes)
    });
    Ok(TestImages { classes, real: test.images_f32(&rows), others })
}

/// The test images that are compared with, of the data that the command line names; which classes have none is told.
fn read(arguments: &Cli, options: &Study, session: &Session) -> Result<(TestImages, usize)> {
    let split = session.data(&options.data)?;
    let images = test_images(session, options, &split.test)?;
    if images.classes.len() < session.config().num_classes && !arguments.json {
        let names: Vec<String> =
            images.classes.iter().map(|class| session.config().class_name(*class)).collect();
        say!("only the classes with test images are studied: {}", names.join(", "));
    }
    Ok((images, split.test.image_len()))
}

/// Runs the command.
///
/// # Errors
/// A bad checkpoint, data, chain or option; device errors; files that cannot be written.
pub fn run(arguments: &Cli, options: &Study) -> Result<()> {
    if !options.solvers.is_empty() {
        return solvers::run(arguments, options);
    }
    let session = Session::open(arguments, &options.model)?;
    check(&session)?;
    check_outputs(arguments, options, &session, &StudyFiles::names(session.config()))?;
    let (TestImages { classes, real, others }, len) = read(arguments, options, &session)?;
    let alphas = options.alphas();
    watch_interrupts()?;
    let chains = Chains::new(&session, &options.chain, &classes, options.per_class, options.batch)?;
    let real = Real::new(real, len, &chains, options.neighbours)?;
    let reference = others.map(|(images, _)| real.compare(images, len, &chains)).transpose()?;
    let mut files = StudyFiles::new(&session, options, &chains, reference);
    let total = (chains.work() * alphas.len()) as u64;
    let bar = progress(total, 0, "{msg} {wide_bar} {pos}/{len} steps {eta}", arguments.json);
    for alpha in alphas {
        bar.set_message(format!("α = {alpha}"));
        let made = chains.generate(Seed(options.chain.seed), alpha, || {
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
