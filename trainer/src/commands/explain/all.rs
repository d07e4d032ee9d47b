//! A whole data set: the tree that other people's evaluations read, a summary, a report.

use super::{chain, explainer, judge, settings, shows_noised, targets};
use crate::cli::{Cli, Explain};
use crate::data::{Dataset, load_image, true_class};
use crate::eval::explanations::{Noise, explain_towards, targets as chosen};
use crate::eval::judge::Judge;
use crate::eval::row::{Names, Row, ask, percent};
use crate::io::files::{self, Kind};
use crate::io::given::preparation;
use crate::io::output::{progress, say, tell};
use crate::io::pictures;
use crate::io::render::Grid;
use crate::io::session::{Session, interrupted, watch_interrupts};
use crate::report::card::{Card, Images};
use crate::report::page::{Settings, page};
use crate::report::summary::summary;
use crate::report::tree::{Part, Parts, Record, Tree};
use duet::explain::{ExplainOptions, Explainer, Explanation, Variants};
use duet::model::{Head, Labels, Target, UNLABELLED};
use duet::{Error, Result};
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Batches between two times that what was made is written: an interruption loses no more.
const BATCHES: usize = 4;
const REPORT: &str = "report.html";
const SUMMARY: &str = "summary.json";

/// What images are.
enum Truths {
    Classes(Vec<usize>),
    /// Of each label, row after row.
    Labels(Vec<bool>),
}

/// The images to explain.
struct Source {
    /// What they are called.
    names: Vec<String>,
    /// By which numbers their files are called.
    numbers: Vec<usize>,
    /// Grey levels \[N,C,H,W\].
    levels: Vec<u8>,
    truths: Truths,
    classes: usize,
}

impl Source {
    fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The images from `first` on, at most `count`, in −1..1.
    fn images(&self, first: usize, count: usize) -> Vec<f32> {
        let len = self.levels.len() / self.len().max(1);
        let levels = self.levels.iter().skip(first * len).take(count * len);
        levels.copied().map(duet::picture::value).collect()
    }

    /// The class of an image; of several labels whether it has the one of `class`.
    fn truth(&self, index: usize, class: usize) -> usize {
        match &self.truths {
            Truths::Classes(classes) => classes[index],
            Truths::Labels(labels) => usize::from(labels[index * self.classes + class]),
        }
    }

    /// The same for people.
    fn words(&self, index: usize, names: &Names) -> String {
        match &self.truths {
            Truths::Classes(classes) => names.name(classes[index]).to_owned(),
            Truths::Labels(labels) => {
                let row = &labels[index * self.classes..][..self.classes];
                names.decision(&row.iter().map(|has| f32::from(u8::from(*has))).collect::<Vec<_>>())
            }
        }
    }

    /// A hash of all of it.
    fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.levels);
        for (index, number) in self.numbers.iter().enumerate() {
            hasher.update(&(*number as u64).to_le_bytes());
            let truths = match &self.truths {
                Truths::Classes(_) => 1,
                Truths::Labels(_) => self.classes,
            };
            (0..truths).for_each(|class| {
                hasher.update(&(self.truth(index, class) as u64).to_le_bytes());
            });
        }
        format!("blake3:{}", hasher.finalize().to_hex())
    }

    /// Of test images.
    fn of_data(test: &Dataset, count: usize) -> Source {
        let rows = test.spread(if count == 0 { test.len() } else { count });
        let known = |row: &usize| match &test.labels {
            Labels::Classes(classes) => classes[*row] != UNLABELLED,
            Labels::MultiLabel(_) => true,
        };
        let rows: Vec<usize> = rows.into_iter().filter(known).collect();
        let classes = test.class_names.len();
        let truths = match &test.labels {
            Labels::Classes(list) => Truths::Classes(rows.iter().map(|row| list[*row] as usize).collect()),
            Labels::MultiLabel(list) => {
                let row = |row: &usize| list[row * classes..][..classes].iter().map(|label| *label > 0.5);
                Truths::Labels(rows.iter().flat_map(row).collect())
            }
        };
        let levels = rows.iter().flat_map(|row| test.image(*row)).copied().collect();
        let names = rows.iter().map(|row| format!("test image {row}")).collect();
        Source { names, numbers: rows, levels, truths, classes }
    }

    /// Of pictures in files, whose classes must be known.
    fn of_pictures(session: &Session, options: &Explain) -> Result<Source> {
        let (config, preparation) = (session.config(), preparation(session, &options.picture.reading));
        let given = pictures::expand(&options.images)?;
        let classes = config.num_classes;
        let (mut names, mut levels, mut truths) = (Vec::new(), Vec::new(), Vec::new());
        for path in &given {
            let class = true_class(path, config)?.and_then(|name| config.named_class(&name));
            truths.push(class.ok_or_else(|| Error::Data {
                path: path.clone(),
                detail: "its class is not known, and --all sorts images by whether they are decided rightly: put it into \
                         a folder called as its class, or list it in an index.json"
                    .into(),
            })?);
            levels.extend(load_image(path, &preparation)?.levels);
            let file = path.file_name().unwrap_or(path.as_os_str());
            names.push(file.to_string_lossy().into_owned());
        }
        let truths = match config.head {
            Head::Multiclass => Truths::Classes(truths),
            Head::MultiLabel => Truths::Labels(
                truths.iter().flat_map(|class| (0..classes).map(move |label| label == *class)).collect(),
            ),
        };
        Ok(Source { numbers: (0..given.len()).collect(), names, levels, truths, classes })
    }
}

/// What must be the same for a tree to be completed, as it is written beside it.
fn identity(
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
            false => self.session.typicality(&images)?,
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
        let (original, counterfactual) = (read(Part::Original)?, read(Part::Counterfactual)?);
        let noised = noised.then(|| read(Part::Noised)).transpose()?;
        let stability = (!record.row.variants.is_empty()).then(|| read(Part::Stability)).transpose()?;
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
fn say_summary(made: &Value, judge: Option<&Judge>) {
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
        say!("the judge, which never guides, says the target of {share}: {}", judge.identity.words());
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

/// Explains a data set.
///
/// # Errors
/// As the command; [`Error::Aborted`] after Ctrl-C, when what is done is written.
pub fn run(arguments: &Cli, options: &Explain) -> Result<()> {
    let root = options.out.as_deref().unwrap_or(Path::new("."));
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
    let identity = identity(options, &session, &source, &explain, judge.as_ref())?;
    watch_interrupts()?;
    let count = source.len();
    let explainer = explainer(&session, &explain, options.batch.min(count * options.variants))?;
    let mut tree = Tree::open(root, &options.experiment, grid, &identity)?;
    if !tree.done.is_empty() && !arguments.json {
        let (folder, done) = (tree.results().display(), tree.done.len());
        let others = if done < count { "the others are made now" } else { "nothing is left to do" };
        tell!("duet: {folder}: {done} of {count} images are there, {others}");
    }
    let mut runner =
        Runner { session: &session, options, explain: &explain, explainer, judge, source, wanted, names };
    let bar = progress(count as u64, 0, "explaining {wide_bar} {pos}/{len} images {eta}", arguments.json);
    let chunk = (BATCHES * options.batch / options.variants).max(1);
    let mut outcome = Ok(());
    for first in (0..count).step_by(chunk) {
        outcome = runner.explain(&mut tree, first, chunk.min(count - first));
        if outcome.is_err() {
            break;
        }
        bar.set_position((first + chunk).min(count) as u64);
    }
    bar.finish_and_clear();
    session.close();
    // What is done stays and can be seen, whatever ended it.
    let settings = settings(&session, options, &explain, &runner.explainer, runner.judge.as_ref());
    let judge = runner.judge.as_ref().map(|judge| json!(judge.identity));
    let made =
        summary(tree.done.values(), count, &identity, judge, |class| runner.names.name(class).to_owned());
    let text =
        serde_json::to_string_pretty(&made).map_err(|error| Error::config("json", error.to_string()))?;
    let summary = tree.write(SUMMARY, Kind::Table, text.as_bytes())?;
    let cards = cards(&tree, &settings, grid, shows_noised(&explain))?;
    let report = tree.write(REPORT, Kind::Report, page(&settings, &cards).as_bytes())?;
    if interrupted() && !arguments.json {
        let done = tree.done.len();
        tell!("duet: {done} of {count} images are done; the same command completes them");
    }
    if arguments.json {
        let (summary, report) = (summary.display().to_string(), report.display().to_string());
        say!("{}", json!({"summary": summary, "report": report, "results": made}));
    } else {
        say_summary(&made, runner.judge.as_ref());
        say!("wrote {}", summary.display());
        say!("wrote {}", report.display());
    }
    outcome
}
