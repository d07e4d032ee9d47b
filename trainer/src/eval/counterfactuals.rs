//! Counterfactuals of many test images, measured: whether they reach their target, how much they change and where, how soon
//! that decides (COUT), what they cost, and whether a judge that never guides believes them.

use super::chosen::{Chosen, Towards};
use super::comparison::{Comparison, Earlier, Side};
use super::figures::{self, FIGURES};
use super::judge::{Judge, Likeness};
use super::outcome::{Examiner, Outcome, Outcomes};
use super::{Measured, Task};
use crate::cli::Eval;
use crate::cli::how::{self, MethodKind};
use crate::io::session::Session;
use crate::metrics::statistics::Mean;
use clap::ValueEnum as _;
use duet::explain::{ExplainOptions, Explainer};
use duet::model::ModelConfig;
use duet::{Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What counterfactuals are compared with.
pub enum Against {
    /// The same images by a method's defaults.
    Method(ExplainOptions),
    /// An earlier run.
    Earlier(Earlier),
}

impl Against {
    /// Of what the command line says: a method's name, or a file. The method's noise is of the seed of `options`.
    fn named(text: &str, options: &ExplainOptions, judge: &Judge) -> Result<Against> {
        let defaults = match MethodKind::from_str(text, false) {
            Ok(MethodKind::Local) => ExplainOptions::default(),
            Ok(MethodKind::Paper) => ExplainOptions::paper(),
            Err(_) => return Earlier::read(Path::new(text), &judge.identity).map(Against::Earlier),
        };
        let ExplainOptions { seed, force, .. } = *options;
        Ok(Against::Method(ExplainOptions { seed, force, ..defaults }))
    }
}

/// The counterfactuals that a command line asks for.
pub struct Wanted {
    towards: Towards,
    options: ExplainOptions,
    judge: Option<Judge>,
    against: Option<Against>,
}

impl Wanted {
    /// Reads and checks all that does not depend on data; `None` where none are asked for.
    ///
    /// # Errors
    /// A bad target or option; a judge that cannot judge; a bad earlier run; device errors.
    pub fn of(session: &Session, options: &Eval) -> Result<Option<Wanted>> {
        if options.counterfactuals == 0 {
            let Some(judge) = &options.judge else { return Ok(None) };
            let detail =
                format!("{} has nothing to judge: ask for --counterfactuals as well", judge.display());
            return Err(Error::config("judge", detail));
        }
        session.checkpoint.require_denoising()?;
        let towards = Towards::named(session.config(), &options.which.to)?;
        let explain = options.how.options(None)?;
        let open = |path| Judge::open(session, &options.model.model, path);
        let judge = options.judge.as_deref().map(open).transpose()?;
        let against = match (&options.against, &judge) {
            (Some(text), Some(judge)) => Some(Against::named(text, &explain, judge)?),
            _ => None,
        };
        Ok(Some(Wanted { towards, options: explain, judge, against }))
    }
}

/// One way to explain, with all its figures.
struct Way {
    options: ExplainOptions,
    /// Steps of a chain and of the whole one.
    steps: [usize; 2],
    outcomes: Outcomes,
    means: Vec<Option<Mean>>,
    /// In the judge's features.
    frechet: Option<f64>,
}

impl Way {
    fn json(&self) -> Value {
        let ExplainOptions { method, noise, respacing, seed, .. } = &self.options;
        json!({
            "method": {
                "name": method.name(), "words": how::words(&self.options), "noise": noise, "respacing": respacing,
                "steps": self.steps[0], "chain_steps": self.steps[1], "seed": seed.0,
            },
            "figures": figures::by_key(&self.means), "frechet": self.frechet,
            "seconds_per_image": self.outcomes.seconds, "rows": self.outcomes.rows,
        })
    }

    /// For people.
    fn words(&self) -> String {
        let [steps, chain] = self.steps;
        format!("{}; {steps} of {chain} steps, seed {}", how::words(&self.options), self.options.seed.0)
    }

    fn sides(&self) -> Vec<Side> {
        self.outcomes.rows.iter().map(Side::from).collect()
    }
}

/// The images of one run, what measures them, and what they should look like.
struct Bench<'a> {
    session: &'a Session,
    chosen: Chosen,
    examiner: Examiner<'a>,
    likeness: Option<(&'a Judge, Likeness)>,
    batch: usize,
    quiet: bool,
}

impl Bench<'_> {
    /// Explains one way.
    fn run(&self, options: &ExplainOptions) -> Result<Way> {
        let (weights, diffusion) = (&self.session.weights, &self.session.checkpoint.diffusion);
        let batch = self.batch.min(self.chosen.len()).max(1);
        let new = Explainer::fitting(weights, diffusion, batch, options, self.session.set);
        let mut explainer = pollster::block_on(new)?;
        let outcomes = self.examiner.run(&mut explainer, &self.chosen, options.seed, self.quiet)?;
        Ok(Way {
            options: options.clone(),
            steps: [explainer.steps(), explainer.chain_steps()],
            means: figures::means(outcomes.rows.iter()),
            frechet: self.frechet(&outcomes.counterfactuals)?,
            outcomes,
        })
    }

    /// How far images are from those of the target classes; `None` without a judge, and of a single image.
    fn frechet(&self, images: &[f32]) -> Result<Option<f64>> {
        match &self.likeness {
            Some((judge, likeness)) if self.chosen.len() > 1 => likeness.distance(judge, images).map(Some),
            _ => Ok(None),
        }
    }
}

/// Rows of one decision about the image and one target.
type Pairs<'a> = BTreeMap<(usize, usize), Vec<&'a Outcome>>;

fn pairs(rows: &[Outcome]) -> Pairs<'_> {
    let mut pairs = Pairs::new();
    for row in rows {
        pairs.entry((row.before, row.target)).or_default().push(row);
    }
    pairs
}

/// Everything about counterfactuals.
pub(super) fn measure(task: &Task<'_>) -> Result<Measured> {
    let Some(wanted) = task.wanted else {
        return Ok(Measured::new(json!({ "counterfactuals": null }), Vec::new()));
    };
    let (session, options, judge) = (task.session, task.options, wanted.judge.as_ref());
    let (count, skip) = (options.counterfactuals, options.which.skip);
    let chosen = Chosen::new(session, &task.split.test, count, skip, wanted.towards)?;
    let likeness = |judge: &'_ Judge| judge.likeness(&task.split.train, &chosen.targets);
    let likeness = match judge {
        Some(judge) => Some((judge, likeness(judge)?)),
        None => None,
    };
    let examiner = Examiner::new(session, judge, true)?;
    let bench = Bench { session, chosen, examiner, likeness, batch: options.batch, quiet: task.quiet };
    let way = bench.run(&wanted.options)?;
    let other = match &wanted.against {
        Some(Against::Method(options)) => Some(bench.run(options)?),
        _ => None,
    };
    let compared = match (&wanted.against, &other) {
        (Some(Against::Earlier(then)), _) => {
            Some((then.method.clone(), Comparison::of(&way.sides(), &then.sides)?))
        }
        (_, Some(other)) => Some((how::words(&other.options), Comparison::of(&way.sides(), &other.sides())?)),
        _ => None,
    };
    let originals = bench.frechet(&bench.chosen.images)?;
    let report = Report { task, wanted, bench: &bench, way, other, compared, originals };
    Ok(Measured::new(json!({ "counterfactuals": report.json() }), report.lines()))
}

/// All that was found.
struct Report<'a> {
    task: &'a Task<'a>,
    wanted: &'a Wanted,
    bench: &'a Bench<'a>,
    way: Way,
    other: Option<Way>,
    compared: Option<(String, Comparison)>,
    /// Fréchet distance of the images as they are.
    originals: Option<f64>,
}

impl Report<'_> {
    fn config(&self) -> &ModelConfig {
        self.task.session.config()
    }

    fn json(&self) -> Value {
        let name = |class: usize| self.config().class_name(class);
        let pairs = pairs(&self.way.outcomes.rows);
        let pairs: Vec<Value> = pairs
            .iter()
            .map(|((from, to), rows)| {
                let means = figures::means(rows.iter().copied());
                json!({
                    "from": from, "to": to, "from_name": name(*from), "to_name": name(*to), "images": rows.len(),
                    "figures": figures::by_key(&means),
                })
            })
            .collect();
        let judge = self.bench.likeness.as_ref().map(|(judge, likeness)| {
            json!({
                "identity": judge.identity, "training_images": likeness.images, "frechet_originals": self.originals,
            })
        });
        let against = self.compared.as_ref().map(|(words, comparison)| {
            json!({ "words": words, "comparison": comparison, "way": self.other.as_ref().map(Way::json) })
        });
        let mut all = self.way.json();
        let options = self.task.options;
        let more = json!({
            "images": self.bench.chosen.len(), "per_class": options.counterfactuals, "skip": options.which.skip,
            "towards": self.wanted.towards.words(self.config()), "pairs": pairs, "judge": judge, "against": against,
        });
        if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
            all.extend(more);
        }
        all
    }

    fn lines(&self) -> Vec<String> {
        let options = self.task.options;
        let skipped = match options.which.skip {
            0.0 => String::new(),
            skip => format!(" after the first {:.1} % of the test images", 100.0 * skip),
        };
        let mut lines = vec![format!(
            "{} counterfactuals, up to {} of each class{skipped}, towards {}",
            self.bench.chosen.len(),
            options.counterfactuals,
            self.wanted.towards.words(self.config())
        )];
        let ways: Vec<&Way> = std::iter::once(&self.way).chain(&self.other).collect();
        lines.extend(ways.iter().map(|way| format!("  {}", way.words())));
        if let Some((judge, _)) = &self.bench.likeness {
            lines.push(format!("  judge, which never guides: {}", judge.identity.words()));
        }
        lines.extend(self.table(&ways));
        if let Some((words, comparison)) = &self.compared {
            lines.push(format!("against {words}:"));
            lines.push(format!("  {}", comparison.words()));
        }
        lines.extend(self.pair_table());
        lines
    }

    /// All figures with their standard errors, a column for each way.
    fn table(&self, ways: &[&Way]) -> Vec<String> {
        let mut rows: Vec<(String, Vec<String>)> = Vec::new();
        let head = ways.iter().map(|way| way.options.method.name().to_owned()).collect();
        rows.push(("mean ± standard error".into(), head));
        for (place, figure) in FIGURES.iter().enumerate() {
            let cell = |way: &&Way| {
                way.means[place].as_ref().map(|mean| {
                    let part = if mean.count == self.bench.chosen.len() {
                        String::new()
                    } else {
                        format!(" of {}", mean.count)
                    };
                    format!("{}{part}", figure.form.with_error(mean))
                })
            };
            let cells: Vec<Option<String>> = ways.iter().map(cell).collect();
            if cells.iter().any(Option::is_some) {
                let cells = cells.into_iter().map(|cell| cell.unwrap_or("–".into())).collect();
                rows.push((figure.words.into(), cells));
            }
        }
        rows.push((
            "seconds an image".into(),
            ways.iter().map(|way| format!("{:.2}", way.outcomes.seconds)).collect(),
        ));
        if let (Some((_, likeness)), Some(originals)) = (&self.bench.likeness, self.originals) {
            let distance = |way: &&Way| way.frechet.map_or("–".into(), |distance| format!("{distance:.3}"));
            rows.push(("Fréchet distance to the target classes".into(), ways.iter().map(distance).collect()));
            let words = format!("  of the originals; {} training images", likeness.images);
            rows.push((words, ways.iter().map(|_| format!("{originals:.3}")).collect()));
        }
        let wide = |text: &String| text.chars().count();
        let first = rows.iter().map(|(words, _)| wide(words)).max().unwrap_or(0);
        let others = rows.iter().flat_map(|(_, cells)| cells).map(wide).max().unwrap_or(0);
        let line = |(words, cells): (String, Vec<String>)| {
            let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:<others$}")).collect();
            format!("  {words:<first$}  {}", cells.join("  ")).trim_end().to_owned()
        };
        rows.into_iter().map(line).collect()
    }

    /// What tells class pairs apart; `--json` has all figures of each.
    fn pair_table(&self) -> Vec<String> {
        const COLUMNS: [(&str, &str); 8] = [
            ("reached", "reached"),
            ("reached_first", "first"),
            ("changed_correct", "flips, correct"),
            ("changed_incorrect", "incorrect"),
            ("mean_change", "mean |Δ|"),
            ("changed_pixels", "over 0.1"),
            ("cout", "COUT"),
            ("judge_agrees", "judge"),
        ];
        let pairs = pairs(&self.way.outcomes.rows);
        let name = |(from, to): &(usize, usize)| {
            let [from, to] = [from, to].map(|class| self.config().class_name(*class));
            format!("{from} → {to}")
        };
        let names: Vec<String> = pairs.keys().map(name).collect();
        let wide = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(20);
        let columns: Vec<(&str, &str)> =
            COLUMNS.into_iter().filter(|(key, _)| figures::mean_of(&self.way.means, key).is_some()).collect();
        let head: Vec<String> = columns.iter().map(|(_, title)| format!("{title:>9}")).collect();
        let mut lines = vec![format!("  {:<wide$} {:>6} {}", "decision → target", "images", head.join(" "))];
        for (name, rows) in names.iter().zip(pairs.values()) {
            let means = figures::means(rows.iter().copied());
            let cell = |(key, title): &(&str, &str)| {
                let width = title.chars().count().max(9);
                format!("{:>width$}", figures::short(&means, key))
            };
            let cells: Vec<String> = columns.iter().map(cell).collect();
            lines.push(format!("  {name:<wide$} {:>6} {}", rows.len(), cells.join(" ")));
        }
        lines
    }
}
