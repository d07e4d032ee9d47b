//! `duet study --solvers`: what solvers make of the same noise in how many steps.

use super::{TestImages, check, check_outputs, read};
use crate::cli::{Cli, Study};
use crate::eval::judge::Judge;
use crate::eval::likeness::Real;
use crate::eval::solvers::{self, Entry, Row, Viewer};
use crate::io::output::{progress, say};
use crate::io::render::Grid;
use crate::io::session::{Session, go_on, guidance, watch_interrupts};
use crate::report::solvers::{FILES, SolverFiles};
use duet::rng::Seed;
use duet::sampling::Guidance;
use duet::{Error, Result};
use serde_json::json;

/// How it was measured, in a sentence.
fn words(options: &Study, alpha: f32, images: usize, judge: Option<&Judge>) -> String {
    let Study { chain, per_class, neighbours, seeds, .. } = options;
    let steered = match guidance(chain) {
        Guidance::Representation => format!("guided by Algorithm 1 with α = {alpha}"),
        Guidance::Gradient => format!("guided by Eq. 12 with the scale {alpha}"),
        Guidance::None => "unguided".to_owned(),
    };
    let noise = match seeds {
        1 => format!("seed {}", chain.seed),
        _ => format!("each of the seeds {} to {}", chain.seed, chain.seed.wrapping_add(*seeds as u64 - 1)),
    };
    let judged = judge.map_or(String::new(), |judge| format!(" Judge: {}.", judge.identity.words()));
    format!(
        "{images} images ({per_class} of each class) of {noise}, the same noise for all solvers, {steered}, x0 {}clipped, against as many test \
         images; precision and recall with k = {neighbours}. ±: standard error, of shares recognised over the images, of everything else \
         over the seeds; of the differences always over the seeds. Time: seconds per image of the fastest batch, as a share of the first \
         row's.{judged}",
        if chain.no_clip { "not " } else { "" }
    )
}

/// A row as a line of text.
fn line(row: &Row) -> String {
    let mean = |key| solvers::FIGURES.iter().find(|f| f.key == key).and_then(|f| row.mean(f));
    let of = |key| mean(key).map_or(f64::NAN, |mean| mean.mean);
    let judged = mean("judged").map_or(String::new(), |m| format!(", by the judge {:.1} %", 100.0 * m.mean));
    format!(
        "{}: precision {:.3}, recall {:.3} (pixels {:.3}, {:.3}), Fréchet distance {:.2}; recognised {:.1} %{judged}; {:.3} s an image",
        row.entry.words(),
        of("model_precision"),
        of("model_recall"),
        of("pixels_precision"),
        of("pixels_recall"),
        of("frechet"),
        100.0 * of("recognised"),
        row.seconds,
    )
}

/// Runs the command.
///
/// # Errors
/// A bad entry, checkpoint, judge, data, chain or option; device errors; files that cannot be written.
pub fn run(arguments: &Cli, options: &Study) -> Result<()> {
    let entries: Vec<Entry> = solvers::entries(&options.solvers, options.chain.eta)?;
    let Some(alpha) = options.alpha() else {
        let detail = format!("must be one where solvers are compared, are {}", options.step_sizes.len());
        return Err(Error::config("step_sizes", detail));
    };
    let session = Session::open(arguments, &options.model)?;
    check(&session)?;
    solvers::check_steps(&entries, &session.checkpoint.diffusion)?;
    let judge = options.judge.as_ref().map(|path| Judge::open(&session, &options.model.model, path));
    let judge = judge.transpose()?;
    check_outputs(arguments, options, &session, &FILES.map(str::to_owned))?;
    let (TestImages { classes, real, others }, len) = read(arguments, options, &session)?;
    watch_interrupts()?;

    let config = session.config();
    let compile = |entry: &Entry| {
        solvers::chains(&session, entry, &options.chain, &classes, [options.per_class, options.batch])
    };
    let Some(first) = entries.first() else { return Ok(()) };
    let first = compile(first)?;
    let real = Real::new(real, len, &first, options.neighbours)?;
    let viewer = Viewer { real: &real, len, judge: judge.as_ref(), classes: config.num_classes };
    let reference = others.map(|(images, labels)| viewer.of_real(&first, &images, &labels)).transpose()?;
    let labels = first.labels().to_vec();
    // Every row's chains are its own, and lie on the device no longer than it is measured.
    drop(first);
    let settings = json!({
        "model": options.model.model.display().to_string(), "judge": judge.as_ref().map(|judge| &judge.identity),
        "per_class": options.per_class, "images": labels.len(), "seed": options.chain.seed, "seeds": options.seeds,
        "alpha": alpha, "guidance": format!("{:?}", guidance(&options.chain)), "clip": !options.chain.no_clip,
        "neighbours": options.neighbours, "classes": classes.iter().map(|c| config.class_name(*c)).collect::<Vec<_>>(),
    });
    let mut files = SolverFiles {
        out: options.out.clone(),
        settings,
        words: words(options, alpha, labels.len(), judge.as_ref()),
        labels,
        reference,
        grid: Grid { channels: config.in_channels, size: config.image_size, scale: 2 },
        rows: Vec::new(),
    };
    for entry in &entries {
        let chains = compile(entry)?;
        let template = format!("{} {{wide_bar}} {{pos}}/{{len}} steps {{eta}}", entry.words());
        let bar = progress((chains.work() * options.seeds) as u64, 0, &template, arguments.json);
        let seeds = (0..options.seeds as u64).map(|seed| Seed(options.chain.seed.wrapping_add(seed)));
        let row = solvers::measure((entry, &chains), &viewer, seeds, alpha, || {
            bar.inc(1);
            go_on()
        })?;
        bar.finish_and_clear();
        if !arguments.json {
            say!("{}", line(&row));
        }
        files.rows.push(row);
        // After each solver, so that a comparison that is interrupted leaves those before it.
        files.write()?;
    }
    session.close();
    if arguments.json {
        say!("{}", files.json());
    } else {
        say!("\n{}", files.markdown());
        say!("wrote tables, plot and picture to {}", options.out.display());
    }
    Ok(())
}
