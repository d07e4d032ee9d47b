//! A whole data set: the tree that other people's evaluations read, a summary, a report.

use super::source::Source;
use super::{ALL, chain, explainer, judge, settings, shows_noised, targets};
use crate::cli::{Cli, Explain, Merge, Shard};
use crate::eval::explanations::{Noise, explain_towards, group, targets as chosen};
use crate::eval::judge::{Identity as Who, Judge};
use crate::eval::row::{Names, Row, ask, percent};
use crate::io::files::{self, Kind};
use crate::io::given::preparation;
use crate::io::output::{progress, say, tell};
use crate::io::render::Grid;
use crate::io::session::{Session, interrupted, watch_interrupts};
use crate::report::card::{Card, Images};
use crate::report::page::{Settings, page};
use crate::report::records::Record;
use crate::report::summary::summary;
use crate::report::tree::{Part as Picture, Parts, Tree};
use crate::shard::{Gathered, Part, Table, Target as Place};
use duet::explain::{ExplainOptions, Explainer, Explanation, Variants};
use duet::model::Target;
use duet::{Error, Result};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

const REPORT: &str = "report.html";
const SUMMARY: &str = "summary.json";

/// What must be the same for a tree to be completed, as it is written beside it.
fn settings_of(
    options: &Explain,
    session: &Session,
    source: &Source,
    explain: &ExplainOptions,
    judge: Option<&Judge>,
) -> Result<Map<String, Value>> {
    let path = &options.model.model;
    let bytes = std::fs::read(path).map_err(|error| Error::Checkpoint {
        path: path.clone(),
        detail: format!("cannot be read: {error}"),
    })?;
    let hash = |mask: &Vec<f32>| format!("blake3:{}", blake3::hash(bytemuck::cast_slice(mask)).to_hex());
    let value = json!({
        "model": format!("blake3:{}", blake3::hash(&bytes).to_hex()),
        "data": source.fingerprint(),
        "images": source.len(),
        "weights": format!("{:?}", session.set),
        "to": options.to,
        "method": format!("{:?}", explain.method),
        "noise": explain.noise,
        "steps": explain.respacing,
        "seed": explain.seed.0,
        "variants": options.variants,
        "mask": explain.mask.as_ref().map(hash),
        "judge": judge.map(|judge| judge.identity.fingerprint.clone()),
        "typicality": !options.picture.no_typicality,
    });
    Ok(value.as_object().cloned().unwrap_or_default())
}

/// What runs over the images.
struct Runner<'a> {
    session: &'a Session,
    options: &'a Explain,
    explain: &'a ExplainOptions,
    explainer: Explainer,
    judge: Option<Judge>,
    source: Source,
    wanted: Vec<Option<Target>>,
    names: Names,
}

/// What is told of an image that is what it was to become: nothing was done.
fn as_it_is(image: &[f32], target: Target, before: &[f32]) -> Variants {
    Variants { answers: vec![Explanation::unchanged(image, target, before)], stability: Vec::new() }
}

impl Runner<'_> {
    /// Whether an image of these probabilities is what it is to become.
    fn is_already(&self, target: Target, before: &[f32]) -> Result<bool> {
        Ok(self.names.head.decisions(before)?.get(target.class) == Some(&target.present))
    }

    /// Explains those of `count` images from `first` on that are not in the tree yet, and writes them.
    fn explain(&mut self, tree: &mut Tree, first: usize, count: usize) -> Result<()> {
        let missing = |index: &usize| !tree.done.contains_key(&self.source.numbers[first + index]);
        let missing: Vec<usize> = (0..count).filter(missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let images = self.source.images(first, count);
        let len = images.len() / count;
        let before = pollster::block_on(self.explainer.probabilities(&images))?;
        let targets = chosen(&self.wanted[first..first + count], &before)?;
        let before: Vec<&[f32]> = before.chunks_exact(self.source.classes.max(1)).collect();
        let mut towards = Vec::new();
        for index in &missing {
            if !self.is_already(targets[*index], before[*index])? {
                towards.push((*index, targets[*index]));
            }
        }
        let typicality = match self.options.picture.no_typicality {
            true => None,
            false => {
                let all = group(self.options.batch, self.options.variants).min(self.source.len());
                self.session.typicality(&images, all)?
            }
        };
        // An image keeps its noise whatever was made before.
        let noise =
            Noise { seed: self.explain.seed, variants: self.options.variants, first_row: first as u32 };
        let begin = Instant::now();
        let hidden = ProgressBar::hidden();
        let made = match towards.is_empty() {
            true => Vec::new(),
            false => explain_towards(&mut self.explainer, &images, &towards, noise, &hidden)?,
        };
        let seconds = begin.elapsed().as_secs_f64() / made.len().max(1) as f64;
        let mut made: BTreeMap<usize, Variants> = towards.iter().map(|(index, _)| *index).zip(made).collect();
        for index in &missing {
            let image = &images[index * len..][..len];
            made.entry(*index).or_insert_with(|| as_it_is(image, targets[*index], before[*index]));
        }
        let pixels = self.explainer.pixels();
        let mut rows = Vec::new();
        let mut counterfactuals = Vec::new();
        for (index, made) in &made {
            let at = first + index;
            let truth = Some(self.source.words(at, &self.names));
            let row = Row::of(self.source.names[at].clone(), truth, made, &self.names, pixels, seconds)?;
            let typicality = typicality.as_ref().and_then(|all| all.get(*index)).copied().map(Into::into);
            rows.push(Row { typicality, ..row });
            counterfactuals.extend(made.answers.iter().take(1).flat_map(|one| &one.counterfactual).copied());
        }
        if let Some(judge) = &self.judge {
            ask(judge, &self.names, &mut rows, &counterfactuals)?;
        }
        for ((index, made), row) in made.iter().zip(rows) {
            let at = first + index;
            let truth = self.source.truth(at, row.target);
            let record = Record::of(self.source.numbers[at], self.names.head, truth, row);
            let Some(one) = made.answers.first() else { continue };
            let parts = Parts {
                original: &images[index * len..][..len],
                counterfactual: &one.counterfactual,
                noised: &one.noised,
                difference: &one.difference,
                stability: (made.answers.len() > 1).then_some(made.stability.as_slice()),
            };
            let had_to_change = !record.row.already;
            tree.add(record, had_to_change.then_some(&parts))?;
        }
        Ok(())
    }
}

/// The cards of a tree, from its files: the same whether it was made at once or completed.
fn cards(tree: &Tree, settings: &Settings, grid: Grid, noised: bool) -> Result<Vec<Card>> {
    let path = tree.results().join(REPORT);
    let changed = tree.done.values().filter(|record| !record.row.already);
    let card = |record: &Record| {
        let read = |part| tree.read(record, part);
        let (original, counterfactual) = (read(Picture::Original)?, read(Picture::Counterfactual)?);
        let noised = noised.then(|| read(Picture::Noised)).transpose()?;
        let stability = (!record.row.variants.is_empty()).then(|| read(Picture::Stability)).transpose()?;
        let stability: Option<Vec<f32>> =
            stability.map(|map| map.into_iter().map(|value| 0.5 * (value + 1.0)).collect());
        let images = Images {
            original: &original,
            counterfactual: &counterfactual,
            noised: noised.as_deref(),
            stability: stability.as_deref(),
        };
        Card::new(&path, grid, settings, record.row.clone(), images)
    };
    changed.map(card).collect()
}

/// What is in the tree, in lines.
fn say_summary(made: &Value, judge: Option<&Who>) {
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let count = |part: &str| number(&made[part]["images"]);
    let reached = |part: &str| (number(&made[part]["reached"]) * count(part)).round();
    say!(
        "{} images explained: {} reached their target ({}); of {} decided rightly {}, of {} wrongly {}",
        count("all"),
        reached("all"),
        percent(number(&made["all"]["reached"])),
        count("correct"),
        reached("correct"),
        count("incorrect"),
        reached("incorrect")
    );
    if number(&made["already"]) > 0.0 {
        say!("{} were of the target already: nothing was made of them", made["already"]);
    }
    if let Some(judge) = judge {
        let share = percent(number(&made["all"]["judge_agrees"]));
        say!("the judge, which never guides, says the target of {share}: {}", judge.words());
    }
    say!(
        "mean change {}, {} of the pixels changed; {:.2} s per image",
        percent(number(&made["all"]["mean_change"])),
        percent(number(&made["all"]["changed_share"])),
        number(&made["seconds_per_image"])
    );
}

/// Sees that results do not go where data are read.
fn check_folder(session: &Session, options: &Explain, root: &Path) -> Result<()> {
    if !options.images.is_empty() {
        let folders = options.images.iter().filter(|path| path.is_dir());
        return folders.into_iter().try_for_each(|folder| files::check_apart(root, folder));
    }
    let data = session.data_spec(&options.data)?;
    if data.kind.is_folder() { files::check_apart(root, &data.path) } else { Ok(()) }
}

/// What is known of all images beside what became of each.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Facts {
    settings: Settings,
    judge: Option<Who>,
    identity: Map<String, Value>,
    experiment: String,
    grid: Grid,
    noised: bool,
    /// Images that are to be explained.
    count: usize,
}

impl Facts {
    const NAME: &str = "explanations";
}

/// What became of each image.
const TABLE: &str = "explanations";

/// Explains a data set.
///
/// # Errors
/// As the command; [`Error::Aborted`] after Ctrl-C, when what is done is written.
pub fn run(arguments: &Cli, options: &Explain) -> Result<()> {
    let root = options.out.as_deref().unwrap_or(Path::new("."));
    let target = Place::of(&options.shard, ALL)?;
    let session = Session::open(arguments, &options.model)?;
    session.checkpoint.require_denoising()?;
    let (config, names) = (session.config(), Names::of(session.config()));
    check_folder(&session, options, root)?;
    let explain = chain(options, &preparation(&session, &options.picture.reading))?;
    let judge = judge(&session, options)?;
    let source = match options.images.is_empty() {
        true => Source::of_data(&session.data(&options.data)?.test, options.count),
        false => Source::of_pictures(&session, options)?,
    };
    if source.len() == 0 {
        return Err(Error::config("data", "hold no image whose class is known"));
    }
    let wanted = targets::wanted(config, options, source.len())?;
    let grid = Grid { channels: config.in_channels, size: config.image_size, scale: 1 };
    let identity = settings_of(options, &session, &source, &explain, judge.as_ref())?;
    watch_interrupts()?;
    let count = source.len();
    let explainer = explainer(&session, &explain, options.batch.min(count * options.variants))?;
    let shard = target.as_ref().map(|target| target.shard);
    let mut tree = Tree::open_part(root, &options.experiment, grid, &identity, shard)?;
    let chunk = group(options.batch, options.variants);
    let range = shard.unwrap_or(Shard::WHOLE).range(count, chunk);
    // Processes that were started together tell of all of them what each of their own.
    let together = target.as_ref().is_some_and(|target| target.together);
    let of = if together { count } else { range.len() };
    let own: BTreeSet<usize> = source.numbers[range.clone()].iter().copied().collect();
    if !together {
        tree.done.retain(|number, _| own.contains(number));
    }
    if !tree.done.is_empty() && !arguments.json {
        let (folder, done) = (tree.results().display(), tree.done.len());
        let others = if done < of { "the others are made now" } else { "nothing is left to do" };
        tell!("duet: {folder}: {done} of {of} images are there, {others}");
    }
    tree.done.retain(|number, _| own.contains(number));
    let of = range.len();
    let mut runner =
        Runner { session: &session, options, explain: &explain, explainer, judge, source, wanted, names };
    let bar = progress(of as u64, 0, "explaining {wide_bar} {pos}/{len} images {eta}", arguments.json);
    let mut outcome = Ok(());
    for first in range.clone().step_by(chunk) {
        let end = range.end.min(first + chunk);
        outcome = runner.explain(&mut tree, first, end - first);
        if outcome.is_err() {
            break;
        }
        bar.set_position((end - range.start) as u64);
    }
    bar.finish_and_clear();
    session.close();
    if interrupted() && !arguments.json {
        let (done, whose) = (tree.done.len(), if together { " of the first process" } else { "" });
        tell!("duet: {done} of {of} images{whose} are done; the same command completes them");
    }
    let settings = settings(&session, options, &explain, &runner.explainer, runner.judge.as_ref());
    let facts = Facts {
        settings,
        judge: runner.judge.as_ref().map(|judge| judge.identity.clone()),
        identity,
        experiment: options.experiment.clone(),
        grid,
        noised: shows_noised(&explain),
        count,
    };
    let Some(target) = target else {
        // What is done stays and can be seen, whatever ended it.
        finish(arguments, &tree, &facts)?;
        return outcome;
    };
    outcome?;
    let numbers = &runner.source.numbers[range.clone()];
    let records: Vec<&Record> = numbers.iter().filter_map(|number| tree.done.get(number)).collect();
    let settings = Settings { device: String::new(), ..facts.settings.clone() };
    let mut part = Part::default();
    part.put(TABLE, Table::new(count, range).with_rows("rows", &records)?);
    part.state(Facts::NAME, Facts { settings, ..facts })?;
    let of = super::identity(arguments, options, &session, ALL)?.with("data", runner.source.fingerprint());
    target.write(arguments, &session, of, json!({ "out": root }), &part)
}

/// Completes a tree that was made in parts: its list, the summary, the report.
///
/// # Errors
/// A tree of something else, or that lacks pictures; files that cannot be written.
pub fn merge(arguments: &Cli, options: &Merge, mut all: Gathered) -> Result<()> {
    let root =
        all.output("out", options.out.as_deref()).ok_or_else(|| Error::config("out", "is not named"))?;
    let mut facts: Facts = all.part.fact(Facts::NAME)?;
    facts.settings.device = all.adapters.clone();
    let records: Vec<Record> = all.part.take(TABLE)?.rows("rows")?;
    let there = root.join("Results").join(&facts.experiment);
    if !there.is_dir() {
        let detail = "is not there: give the tree that the parts were written into as --out (of several machines put all folders \
                      of that name together)";
        return Err(Kind::Table.refuse(&there, detail));
    }
    let mut tree = Tree::open(&root, &facts.experiment, facts.grid, &facts.identity)?;
    for record in records {
        if !tree.done.contains_key(&record.number) {
            tree.add(record, None)?;
        }
    }
    finish(arguments, &tree, &facts)
}

/// Writes and tells what is in a tree.
fn finish(arguments: &Cli, tree: &Tree, facts: &Facts) -> Result<()> {
    let Facts { settings, judge, identity, count, noised, grid, .. } = facts;
    let of_judge = judge.as_ref().map(|judge| json!(judge));
    let name = |class| settings.names.name(class).to_owned();
    let made = summary(tree.done.values(), *count, identity, of_judge, name);
    let text =
        serde_json::to_string_pretty(&made).map_err(|error| Error::config("json", error.to_string()))?;
    let summary = tree.write(SUMMARY, Kind::Table, text.as_bytes())?;
    let cards = cards(tree, settings, *grid, *noised)?;
    let report = tree.write(REPORT, Kind::Report, page(settings, &cards).as_bytes())?;
    tree.tidy();
    if arguments.json {
        let (summary, report) = (summary.display().to_string(), report.display().to_string());
        say!("{}", json!({"summary": summary, "report": report, "results": made}));
    } else {
        say_summary(&made, judge.as_ref());
        say!("wrote {}", summary.display());
        say!("wrote {}", report.display());
    }
    Ok(())
}
