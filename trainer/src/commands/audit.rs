//! `duet audit`: does the classifier go by shortcuts?

use super::Answer;
use crate::audit::evidence::Direction;
use crate::audit::flag::Rule;
use crate::audit::picture;
use crate::audit::run::{Audited, ClassAudit, Finding, Proof};
use crate::cli::how::words;
use crate::cli::{Audit, Cli, SplitKind};
use crate::data::{Dataset, Prepared, load_image};
use crate::io::files::{self, Kind};
use crate::io::given::preparation;
use crate::io::output::{say, tell};
use crate::io::pictures::{self, Failures, Pictures};
use crate::io::session::{Session, watch_interrupts};
use duet::explain::{ExplainOptions, Explainer, Method};
use duet::model::{Labels, ModelConfig};
use duet::{Error, Result};
use std::path::{Path, PathBuf};

/// Strength of the one rung, unless another one is asked for.
const STRENGTH: f32 = 1.0;
/// Images of each class that patches are pasted into, as many as the data have beside those that are explained.
const OTHERS: usize = 20;

/// Images to explain, and images to paste into.
struct Images {
    explained: Vec<f32>,
    others: Vec<f32>,
}

/// Sees that the picture can be written and replaces nothing that is read.
fn check_outputs(arguments: &Cli, options: &Audit, images: &[PathBuf]) -> Result<()> {
    let more = [Some(&options.model.model), options.data.recipe.as_ref(), arguments.tuning.as_ref()];
    let inputs: Vec<&Path> = images.iter().chain(more.into_iter().flatten()).map(PathBuf::as_path).collect();
    files::check(&[(Kind::Picture, &options.out)], &inputs)
}

/// The classes that are asked for, in the model's order.
fn targets(config: &ModelConfig, options: &Audit) -> Result<Vec<usize>> {
    let mut classes = match options.to.is_empty() {
        true => (0..config.num_classes).collect(),
        false => config.find_classes(&options.to)?,
    };
    classes.sort_unstable();
    classes.dedup();
    if classes.len() < 2 {
        let detail = "needs at least two classes: what changes towards one is compared with the others";
        return Err(Error::config("to", detail));
    }
    Ok(classes)
}

/// How counterfactuals are made: with one strength for all images, for their maps to be compared.
fn explain_options(options: &Audit) -> Result<ExplainOptions> {
    let mut explain = options.how.options(None)?;
    if let Method::Local(local) = &mut explain.method {
        local.ladder = vec![options.how.strength.unwrap_or(STRENGTH)];
    }
    Ok(explain)
}

/// Images of the data: the first ones of each class (of several labels from all over the data), and the next ones.
fn of_data(set: &Dataset, per_class: usize) -> Result<Images> {
    let (explained, mut others) = match &set.labels {
        Labels::Classes(_) => {
            (set.of_each_class(0..per_class)?, set.of_each_class(per_class..per_class + OTHERS)?)
        }
        Labels::MultiLabel(_) => {
            let count = per_class * set.class_names.len();
            let rows = set.spread(count + OTHERS * set.class_names.len());
            let step = (rows.len() / count.max(1)).max(1);
            let chosen = |at: usize| at.is_multiple_of(step) && at / step < count;
            let (explained, others): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|at| chosen(*at));
            [explained, others].map(|part| part.into_iter().map(|at| rows[at]).collect::<Vec<_>>()).into()
        }
    };
    if others.is_empty() {
        others.clone_from(&explained);
    }
    Ok(Images { explained: set.images_f32(&explained), others: set.images_f32(&others) })
}

/// The images that are asked for, and what of them could not be read.
fn images(
    arguments: &Cli,
    options: &Audit,
    session: &Session,
    given: &[PathBuf],
) -> Result<(Images, Failures)> {
    let mut failures = Failures::new(given.len(), arguments.json);
    if given.is_empty() {
        let split = session.data(&options.data)?;
        let set = match options.split {
            SplitKind::Train => &split.train,
            SplitKind::Test => &split.test,
        };
        return Ok((of_data(set, options.per_class)?, failures));
    }
    let preparation = preparation(session, &options.picture.reading);
    let Pictures { read, bad, .. } = pictures::read(given, |path| load_image(path, &preparation));
    for (at, error) in bad {
        failures.add(&given[at], error);
    }
    let explained: Vec<f32> = read.iter().flat_map(Prepared::values).collect();
    Ok((Images { others: explained.clone(), explained }, failures))
}

/// Runs the command.
///
/// # Errors
/// A bad checkpoint, data, class or chain; device errors; a picture that cannot be written; images that cannot be read, after
/// all others were used.
pub fn run(arguments: &Cli, options: &Audit) -> Result<Answer> {
    let given = pictures::expand(&options.images)?;
    check_outputs(arguments, options, &given)?;
    let session = Session::open(arguments, &options.model)?;
    let (config, explain) = (session.config(), explain_options(options)?);
    let targets = targets(config, options)?;
    let (images, failures) = images(arguments, options, &session, &given)?;
    if !given.is_empty() && failures.all() {
        return failures.outcome().map(|()| Answer::Done);
    }
    watch_interrupts()?;
    let new = Explainer::fitting(
        &session.weights,
        &session.checkpoint.diffusion,
        options.batch,
        &explain,
        session.set,
    );
    let mut explainer = pollster::block_on(new)?;
    let audited = Audited {
        config,
        explained: &images.explained,
        others: &images.others,
        targets: &targets,
        seed: explain.seed,
        rule: Rule::default(),
        proof: Proof::default(),
        quiet: arguments.json,
    };
    let audits = audited.run(&mut explainer)?;
    session.close();
    picture::save(&options.out, config, &audits)?;
    let found = print(arguments, options, config, &audited, &words(&explain), &audits);
    failures.outcome()?;
    Ok(if found { Answer::Found } else { Answer::Done })
}

/// A place in words: "rows 1 to 3, columns 24 to 26".
fn place(pixels: &[usize], width: usize) -> String {
    let range = |name: &str, of: &dyn Fn(usize) -> usize| {
        let low = pixels.iter().map(|p| of(*p)).min().unwrap_or(0);
        let high = pixels.iter().map(|p| of(*p)).max().unwrap_or(0);
        format!("{name} {low} to {high}")
    };
    format!("{}, {}", range("rows", &|p| p / width), range("columns", &|p| p % width))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// What is said of a flagged place.
fn finding_words(finding: &Finding, name: &str, width: usize) -> String {
    let Finding { direction, spot, flips, shortcut } = finding;
    let way = match direction {
        Direction::Toward => "towards it",
        Direction::Away => "away from it",
    };
    let verdict = if *shortcut { "SHORTCUT" } else { "no shortcut" };
    format!(
        "  {name}: {verdict}: {} ({} pixels) change {way} in {} of the images; pasted into {} others it makes {} of them {name} \
         (other patches {}, the same patch elsewhere {})",
        place(&spot.pixels, width),
        spot.pixels.len(),
        percent(f64::from(spot.share)),
        flips.images,
        percent(flips.patch),
        percent(flips.elsewhere),
        percent(flips.moved),
    )
}

/// Prints everything; whether a shortcut was found.
fn print(
    arguments: &Cli,
    options: &Audit,
    config: &ModelConfig,
    audited: &Audited<'_>,
    how: &str,
    audits: &[ClassAudit],
) -> bool {
    let (size, picture) = (config.image_size, options.out.display().to_string());
    let count = audited.explained.len() / (config.in_channels * size * size);
    let guilty: Vec<&ClassAudit> =
        audits.iter().filter(|audit| audit.findings.iter().any(|finding| finding.shortcut)).collect();
    let few: Vec<String> = audits
        .iter()
        .filter(|audit| audit.toward.images < audited.rule.images)
        .map(|audit| config.class_name(audit.class))
        .collect();
    let verdict = if guilty.is_empty() {
        "no shortcut found".to_owned()
    } else {
        let names: Vec<String> = guilty.iter().map(|audit| config.class_name(audit.class)).collect();
        format!("SHORTCUT: a small place alone makes images of other classes {}", names.join(", "))
    };
    if arguments.json {
        let classes: Vec<_> = audits
            .iter()
            .map(|audit| {
                let side = |direction| {
                    let evidence = audit.evidence(direction);
                    serde_json::json!({
                        "images": evidence.images, "reached": evidence.reached, "mean_change": evidence.mean,
                        "spread": evidence.spread, "share": evidence.share,
                    })
                };
                serde_json::json!({
                    "class": audit.class, "name": config.class_name(audit.class),
                    "toward": side(Direction::Toward), "away": side(Direction::Away), "findings": audit.findings,
                })
            })
            .collect();
        let shortcuts: Vec<usize> = guilty.iter().map(|audit| audit.class).collect();
        let json = serde_json::json!({
            "picture": picture, "images": count, "size": size, "how": how, "rule": audited.rule,
            "proof": audited.proof, "classes": classes, "shortcuts": shortcuts, "verdict": verdict,
        });
        say!("{json}");
        return !guilty.is_empty();
    }
    say!("{count} images towards {} classes ({how})", audits.len());
    let width = audits.iter().map(|audit| config.class_name(audit.class).chars().count()).max().unwrap_or(0);
    say!(
        "{:width$}  explained  reached  mean change  flagged  makes the class  other patches  elsewhere",
        "class"
    );
    for audit in audits {
        let mean = |map: &[f32]| map.iter().sum::<f32>() / map.len().max(1) as f32;
        let worst = audit.findings.iter().max_by(|a, b| a.flips.patch.total_cmp(&b.flips.patch));
        let rates = worst.map_or_else(
            || format!("{:>15}  {:>13}  {:>9}", "–", "–", "–"),
            |finding| {
                let Finding { flips, .. } = finding;
                let [patch, others, moved] = [flips.patch, flips.elsewhere, flips.moved].map(percent);
                format!("{patch:>15}  {others:>13}  {moved:>9}")
            },
        );
        say!(
            "{:width$}  {:>9}  {:>7}  {:>11}  {:>7}  {rates}",
            config.class_name(audit.class),
            audit.toward.images,
            audit.toward.reached,
            percent(f64::from(mean(&audit.toward.mean))),
            audit.findings.len(),
        );
    }
    for audit in audits {
        for finding in &audit.findings {
            say!("{}", finding_words(finding, &config.class_name(audit.class), size));
        }
    }
    if !few.is_empty() {
        tell!(
            "duet: too few images to judge {}: fewer than {} are not of the class already",
            few.join(", "),
            audited.rule.images
        );
    }
    say!("{verdict}");
    say!("wrote {picture}");
    !guilty.is_empty()
}
