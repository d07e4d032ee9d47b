//! Counterfactuals of many test images, measured: whether they reach their target, how much they change and where, how soon
//! that decides (COUT), what they cost, and whether a judge that never guides believes them.

use super::chosen::{Chosen, Towards};
use super::comparison::{Comparison, Earlier, Side};
use super::explanations::group;
use super::figures::{self, FIGURES};
use super::judge::{Identity, Judge, Likes};
use super::outcome::{Examiner, Outcome, Run};
use super::{Ground, Measured, Task};
use crate::cli::Eval;
use crate::cli::how::{self, MethodKind};
use crate::io::session::Session;
use crate::metrics::frechet::{Gaussian, Reference};
use crate::metrics::statistics::Mean;
use crate::shard::{Part, Table};
use clap::ValueEnum as _;
use duet::explain::{ExplainOptions, Explainer};
use duet::model::ModelConfig;
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
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

/// How one way to explain makes counterfactuals, as it stands beside its figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Method {
    name: String,
    words: String,
    noise: f64,
    respacing: String,
    /// Steps of a chain.
    steps: usize,
    /// Steps of the whole one.
    chain_steps: usize,
    seed: u64,
}

/// One way to explain, with all its figures.
struct Way {
    method: Method,
    rows: Vec<Outcome>,
    seconds: f64,
    means: Vec<Option<Mean>>,
    /// In the judge's features.
    frechet: Option<f64>,
}

impl Way {
    fn json(&self) -> Value {
        json!({
            "method": self.method, "figures": figures::by_key(&self.means), "frechet": self.frechet,
            "seconds_per_image": self.seconds, "rows": self.rows,
        })
    }

    /// For people.
    fn words(&self) -> String {
        let Method { words, steps, chain_steps, seed, .. } = &self.method;
        format!("{words}; {steps} of {chain_steps} steps, seed {seed}")
    }

    fn sides(&self) -> Vec<Side> {
        self.rows.iter().map(Side::from).collect()
    }
}

/// Tables: of the images as they are, of each way to explain them, of the training images that they should look like.
const ORIGINALS: &str = "originals";
const WAYS: [&str; 2] = ["counterfactuals", "against"];
const LIKES: &str = "training";
/// What is known of all of them; of whom they are compared with.
const FACTS: &str = "counterfactuals";
/// The judge's features, in every table.
const FEATURES: &str = "features";

/// What figures need beside the rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Facts {
    per_class: usize,
    skip: f64,
    /// What images are moved to, in words.
    towards: String,
    /// Of one or two ways.
    methods: Vec<Method>,
    judge: Option<Identity>,
    likes: Option<Likes>,
    earlier: Option<Earlier>,
}

/// Explains a part of the chosen images in one way: a table of what came of each.
fn explain(
    task: &Task<'_>,
    examiner: &Examiner<'_>,
    chosen: &Chosen,
    judge: Option<&Judge>,
    options: &ExplainOptions,
) -> Result<(Method, Table)> {
    let session = task.session;
    let (weights, diffusion) = (&session.weights, &session.checkpoint.diffusion);
    let batch = task.options.batch.min(chosen.len()).max(1);
    let new = Explainer::fitting(weights, diffusion, batch, options, session.set);
    let mut explainer = pollster::block_on(new)?;
    let range = task.shard.range(chosen.len(), group(batch, 1));
    let run = Run { seed: options.seed, first: range.start, batch, quiet: task.quiet };
    let found = examiner.run(&mut explainer, &chosen.part(range.clone()), run)?;
    let method = Method {
        name: options.method.name().to_owned(),
        words: how::words(options),
        noise: options.noise,
        respacing: options.respacing.clone(),
        steps: explainer.steps(),
        chain_steps: explainer.chain_steps(),
        seed: options.seed.0,
    };
    let seconds = vec![found.seconds; range.len()];
    let table =
        Table::new(chosen.len(), range).with_rows("rows", &found.rows)?.with_f64("seconds", seconds)?;
    Ok((method, with_features(table, judge, &found.counterfactuals)?))
}

/// Adds what a judge sees in the images \[N,C,H,W\] of a table.
fn with_features(table: Table, judge: Option<&Judge>, images: &[f32]) -> Result<Table> {
    match judge {
        Some(judge) if !table.is_empty() => table.with_f32(FEATURES, judge.features(images)?),
        _ => Ok(table),
    }
}

/// Explains as many images as are asked for, in every way that is.
pub(super) fn rows(task: &Task<'_>, part: &mut Part) -> Result<()> {
    let Some(wanted) = task.wanted else {
        return part.state(FACTS, Value::Null);
    };
    let (session, options, judge) = (task.session, task.options, wanted.judge.as_ref());
    let (count, skip) = (options.counterfactuals, options.which.skip);
    // Which images, and towards what, is decided over all of them.
    let chosen = Chosen::new(session, &task.split.test, count, skip, wanted.towards)?;
    let likes = judge.map(|_| Likes::of(&task.split.train, &chosen.targets)).transpose()?;
    if let (Some(judge), Some(likes)) = (judge, &likes) {
        let range = task.shard.range(likes.rows.len(), 1);
        let images = task.split.train.images_f32(&likes.rows[range.clone()]);
        part.put(LIKES, with_features(Table::new(likes.rows.len(), range), Some(judge), &images)?);
        let range = task.shard.range(chosen.len(), 1);
        let images = chosen.part(range.clone()).images;
        part.put(ORIGINALS, with_features(Table::new(chosen.len(), range), Some(judge), &images)?);
    }
    let examiner = Examiner::new(session, judge, true)?;
    let other = match &wanted.against {
        Some(Against::Method(options)) => Some(options),
        _ => None,
    };
    let mut methods = Vec::new();
    for (name, options) in WAYS.into_iter().zip(std::iter::once(&wanted.options).chain(other)) {
        let (method, table) = explain(task, &examiner, &chosen, judge, options)?;
        part.put(name, table);
        methods.push(method);
    }
    let earlier = match &wanted.against {
        Some(Against::Earlier(earlier)) => Some(earlier.clone()),
        _ => None,
    };
    let facts = Facts {
        per_class: count,
        skip,
        towards: wanted.towards.words(session.config()),
        methods,
        judge: judge.map(|judge| judge.identity.clone()),
        likes,
        earlier,
    };
    part.state(FACTS, facts)
}

/// What images are to look like, in a judge's features, and how far the originals are from it.
struct Likeness {
    reference: Reference,
    columns: usize,
    /// Training images that were looked at.
    images: usize,
    /// Fréchet distance of the images as they are; `None` of a single one.
    originals: Option<f64>,
}

impl Likeness {
    fn of(likes: &Likes, part: &mut Part) -> Result<Likeness> {
        let (features, columns) = part.take(LIKES)?.f32s(FEATURES)?;
        let reference = likes.reference(&features, columns)?;
        let mut likeness = Likeness { reference, columns, images: likes.rows.len(), originals: None };
        likeness.originals = likeness.distance(&part.take(ORIGINALS)?.f32s(FEATURES)?.0)?;
        Ok(likeness)
    }

    /// How far images are, by their features \[N,columns\]; `None` of a single one.
    fn distance(&self, features: &[f32]) -> Result<Option<f64>> {
        if features.len() <= self.columns {
            return Ok(None);
        }
        self.reference.distance(&Gaussian::of(features, self.columns)?).map(Some)
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
pub(super) fn figures(part: &mut Part, _quiet: bool) -> Result<Measured> {
    let Some(facts) = part.fact::<Option<Facts>>(FACTS)? else {
        return Ok(Measured::new(json!({ "counterfactuals": null }), Vec::new()));
    };
    let config = Ground::of(part)?.config;
    let likeness = facts.likes.as_ref().map(|likes| Likeness::of(likes, part)).transpose()?;
    let mut ways = Vec::new();
    for (name, method) in WAYS.into_iter().zip(&facts.methods) {
        let mut table = part.take(name)?;
        let rows: Vec<Outcome> = table.rows("rows")?;
        let (seconds, _) = table.f64s("seconds")?;
        let frechet = match &likeness {
            Some(likeness) => likeness.distance(&table.f32s(FEATURES)?.0)?,
            None => None,
        };
        ways.push(Way {
            method: method.clone(),
            means: figures::means(rows.iter()),
            seconds: seconds.iter().sum::<f64>() / seconds.len().max(1) as f64,
            frechet,
            rows,
        });
    }
    let mut ways = ways.into_iter();
    let way = ways.next().ok_or_else(|| Error::config("counterfactuals", "are of no method"))?;
    let other = ways.next();
    let compared = match (&facts.earlier, &other) {
        (Some(then), _) => Some((then.method.clone(), Comparison::of(&way.sides(), &then.sides)?)),
        (_, Some(other)) => Some((other.method.words.clone(), Comparison::of(&way.sides(), &other.sides())?)),
        _ => None,
    };
    let report = Report { config, facts, likeness, way, other, compared };
    Ok(Measured::new(json!({ "counterfactuals": report.json() }), report.lines()))
}

/// All that was found.
struct Report {
    config: ModelConfig,
    facts: Facts,
    likeness: Option<Likeness>,
    way: Way,
    other: Option<Way>,
    compared: Option<(String, Comparison)>,
}

impl Report {
    fn json(&self) -> Value {
        let name = |class: usize| self.config.class_name(class);
        let pairs = pairs(&self.way.rows);
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
        let judge = self.facts.judge.as_ref().zip(self.likeness.as_ref()).map(|(identity, likeness)| {
            json!({
                "identity": identity, "training_images": likeness.images, "frechet_originals": likeness.originals,
            })
        });
        let against = self.compared.as_ref().map(|(words, comparison)| {
            json!({ "words": words, "comparison": comparison, "way": self.other.as_ref().map(Way::json) })
        });
        let mut all = self.way.json();
        let Facts { per_class, skip, towards, .. } = &self.facts;
        let more = json!({
            "images": self.way.rows.len(), "per_class": per_class, "skip": skip, "towards": towards, "pairs": pairs,
            "judge": judge, "against": against,
        });
        if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
            all.extend(more);
        }
        all
    }

    fn lines(&self) -> Vec<String> {
        let Facts { per_class, towards, .. } = &self.facts;
        let skipped = match self.facts.skip {
            0.0 => String::new(),
            skip => format!(" after the first {:.1} % of the test images", 100.0 * skip),
        };
        let mut lines = vec![format!(
            "{} counterfactuals, up to {per_class} of each class{skipped}, towards {towards}",
            self.way.rows.len(),
        )];
        let ways: Vec<&Way> = std::iter::once(&self.way).chain(&self.other).collect();
        lines.extend(ways.iter().map(|way| format!("  {}", way.words())));
        if let Some(judge) = &self.facts.judge {
            lines.push(format!("  judge, which never guides: {}", judge.words()));
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
        let head = ways.iter().map(|way| way.method.name.clone()).collect();
        rows.push(("mean ± standard error".into(), head));
        for (place, figure) in FIGURES.iter().enumerate() {
            let cell = |way: &&Way| {
                way.means[place].as_ref().map(|mean| {
                    let part = if mean.count == self.way.rows.len() {
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
            ways.iter().map(|way| format!("{:.2}", way.seconds)).collect(),
        ));
        if let Some((likeness, originals)) = self.likeness.as_ref().and_then(|l| Some((l, l.originals?))) {
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
        let pairs = pairs(&self.way.rows);
        let name = |(from, to): &(usize, usize)| {
            let [from, to] = [from, to].map(|class| self.config.class_name(*class));
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
