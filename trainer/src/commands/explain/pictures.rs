//! Pictures that are given: what became of each, a strip of all, a report where one is asked for.

use super::{NAME, chain, explainer, identity, judge, settings, shows_noised, targets};
use crate::cli::{Cli, Explain, Merge, Shard};
use crate::data::{INDEX, Prepared, load_image, true_class};
use crate::eval::explanations::{Noise, Verdict, explain_towards, group, steps, targets as chosen};
use crate::eval::judge::{Identity as Who, Judge};
use crate::eval::row::{Names, Row, ask, percent};
use crate::io::files::{self, Kind};
use crate::io::given::{Remarks, hint_unknown, preparation};
use crate::io::output::say;
use crate::io::pictures::{self, Failures, Pictures};
use crate::io::render::{Grid, Palette};
use crate::io::session::{Session, watch_interrupts};
use crate::io::strips::Column;
use crate::report::card::{Card, Images};
use crate::report::page::{Settings, page};
use crate::shard::{Gathered, Part, Table, Target as Place};
use duet::explain::{ExplainOptions, Explainer, Explanation};
use duet::model::{Head, Target};
use duet::picture::{Preparation, value};
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Picture that is written unless another is named.
const PICTURE: &str = "explanation.png";

/// What is written.
struct ExplanationFiles {
    picture: PathBuf,
    report: Option<PathBuf>,
}

impl ExplanationFiles {
    /// Sees that it can be, and replaces nothing that is read.
    fn check(&self, inputs: &[&Path]) -> Result<()> {
        let mut outputs: Vec<(Kind, &Path)> = vec![(Kind::Picture, &self.picture)];
        outputs.extend(self.report.as_deref().map(|path| (Kind::Report, path)));
        files::check(&outputs, inputs)
    }
}

/// Sees that nothing which is read is replaced.
fn check_outputs(
    arguments: &Cli,
    options: &Explain,
    outputs: &ExplanationFiles,
    images: &[PathBuf],
) -> Result<()> {
    let lists: Vec<PathBuf> = images.iter().map(|image| image.with_file_name(INDEX)).collect();
    let more = [
        Some(&options.model.model),
        options.mask.as_ref(),
        options.judge.as_ref(),
        arguments.tuning.as_ref(),
    ];
    let inputs = images.iter().chain(&lists).chain(more.into_iter().flatten());
    outputs.check(&inputs.map(PathBuf::as_path).collect::<Vec<_>>())
}

/// What is known of all pictures beside what became of each.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Facts {
    settings: Settings,
    judge: Option<Who>,
    channels: usize,
    size: usize,
    noised: bool,
    /// Pictures that were given.
    given: usize,
    /// Those that could be read.
    paths: Vec<String>,
    /// In the place of the others in results as JSON: their names and why.
    unread: Vec<(String, String)>,
}

impl Facts {
    const NAME: &str = "explanations";

    /// How a strip of each picture is drawn.
    ///
    /// # Errors
    /// More pictures than fit.
    fn grid(&self) -> Result<Grid> {
        let columns = 3 + usize::from(self.noised) + usize::from(self.settings.variants > 1);
        let labels = longest(&self.settings.names);
        Grid::for_strips(self.channels, self.size, self.given, columns, &labels)
    }
}

/// What became of each picture.
const TABLE: &str = "explanations";

/// Everything that was made of the images that could be read.
struct Results {
    facts: Facts,
    remarks: Vec<Remarks>,
    rows: Vec<Row>,
    /// Of all images \[N,C,H,W\]: as they were, in −1..1.
    originals: Vec<f32>,
    counterfactuals: Vec<f32>,
    differences: Vec<f32>,
    /// Where chains began, of the method that shows it.
    noised: Vec<f32>,
}

impl Results {
    /// Of a table of all images.
    fn of(facts: Facts, table: &mut Table) -> Result<Results> {
        let len = facts.channels * facts.size * facts.size;
        let (levels, width) = table.bytes("original")?;
        let (counterfactuals, _) = table.f32s("counterfactual")?;
        let (differences, _) = table.f32s("difference")?;
        let noised = if facts.noised { table.f32s("noised")?.0 } else { Vec::new() };
        let mut wide = vec![&counterfactuals, &differences];
        wide.extend(facts.noised.then_some(&noised));
        let wide = wide.iter().all(|values| values.len() == levels.len());
        if width != len || !wide || facts.paths.len() != table.len() {
            return Err(Error::config("shards", "hold pictures of another size or number than they say"));
        }
        Ok(Results {
            remarks: table.rows("remarks")?,
            rows: table.rows("rows")?,
            originals: levels.into_iter().map(value).collect(),
            counterfactuals,
            differences,
            noised,
            facts,
        })
    }

    /// The images one by one.
    fn each<'a>(&self, values: &'a [f32]) -> Vec<&'a [f32]> {
        values.chunks(self.facts.channels * self.facts.size * self.facts.size).collect()
    }

    fn several(&self) -> bool {
        self.facts.settings.variants > 1
    }

    /// A strip of each image: original, counterfactual, difference and what else there is.
    fn save_strips(&self, grid: Grid, path: &Path) -> Result<()> {
        let stability =
            || self.rows.iter().map(|row| row.stability.as_deref().unwrap_or(&[])).collect::<Vec<_>>();
        let mut columns = vec![Column::new("original", Palette::Image, self.each(&self.originals))];
        if self.facts.noised {
            columns.push(Column::new("noised", Palette::Image, self.each(&self.noised)));
        }
        columns.push(Column::new("counterfactual", Palette::Image, self.each(&self.counterfactuals)));
        let solid = if self.several() { stability() } else { Vec::new() };
        columns.push(Column {
            solid,
            ..Column::new("difference", Palette::Difference, self.each(&self.differences))
        });
        if self.several() {
            columns.push(Column::new("stability", Palette::Share, stability()));
        }
        let names = &self.facts.settings.names;
        grid.save_strips(path, &self.rows.iter().map(|row| row.lines(names)).collect::<Vec<_>>(), &columns)
    }

    fn cards(&self, path: &Path) -> Result<Vec<Card>> {
        let Facts { settings, channels, size, .. } = &self.facts;
        let grid = Grid { channels: *channels, size: *size, scale: 1 };
        let originals = self.each(&self.originals);
        let (counterfactuals, noised) = (self.each(&self.counterfactuals), self.each(&self.noised));
        let card = |(index, row): (usize, &Row)| {
            let images = Images {
                original: originals[index],
                counterfactual: counterfactuals[index],
                noised: self.facts.noised.then(|| noised[index]),
                stability: row.stability.as_deref(),
            };
            let file = Path::new(&row.image).file_name().map(|name| name.to_string_lossy().into_owned());
            Card::new(path, grid, settings, Row { image: file.unwrap_or_default(), ..row.clone() }, images)
        };
        self.rows.iter().enumerate().map(card).collect()
    }

    fn say(&self) {
        let names = &self.facts.settings.names;
        for ((path, remarks), row) in self.facts.paths.iter().zip(&self.remarks).zip(&self.rows) {
            say!("{path}:{}", remarks.words());
            remarks.hint(Path::new(path));
            let [before, after] = names.shares(row);
            say!("  before  {before}");
            say!("  after   {after}");
            say!("  {}", row.outcome(names));
            let change = percent(row.mean_change);
            let moved = match names.head {
                Head::Multiclass => String::new(),
                Head::MultiLabel => format!(", other labels moved: {}", row.others_moved),
            };
            let effort = row.effort(&self.facts.settings.method);
            let share = percent(row.changed_share);
            say!("  {effort}, mean change {change}, {share} of the pixels changed{moved}");
            if !row.variants.is_empty() {
                let of = row.variants.len();
                let reached = row.variants.iter().filter(|one| one.reached).count();
                let changes = row.variants.iter().map(|one| one.mean_change);
                let least = changes.clone().fold(f64::INFINITY, f64::min);
                let most = changes.fold(0.0, f64::max);
                let (least, most) = (percent(least), percent(most));
                say!("  variants: {reached} of {of} reached, mean change {least} to {most}");
            }
            if let Some(judgement) = row.judgement(names) {
                say!("  judge: {judgement}");
            }
        }
    }
}

/// The longest lines that can stand beside pictures of a model.
fn longest(names: &Names) -> Vec<String> {
    let arrows = (0..names.classes.len()).map(|class| names.arrow(Target::from(class)));
    arrows.chain(Verdict::Unchanged.lacking().map(str::to_owned)).collect()
}

/// Explains the pictures given.
///
/// # Errors
/// As the command.
pub fn run(arguments: &Cli, options: &Explain) -> Result<()> {
    let picture = options.out.clone().unwrap_or_else(|| PathBuf::from(PICTURE));
    let outputs = ExplanationFiles { picture, report: options.report.clone() };
    let target = Place::of(&options.shard, NAME)?;
    let given = pictures::expand(&options.images)?;
    // In parts only `duet merge` writes them, or the first of several processes.
    if target.as_ref().is_none_or(Place::merges) {
        check_outputs(arguments, options, &outputs, &given)?;
    }
    let session = Session::open(arguments, &options.model)?;
    session.checkpoint.require_denoising()?;
    let config = session.config();
    let wanted = targets::wanted(config, options, given.len())?;
    let preparation = preparation(&session, &options.picture.reading);
    let explain = chain(options, &preparation)?;
    let noised = shows_noised(&explain);
    let columns = 3 + usize::from(noised) + usize::from(options.variants > 1);
    let labels = longest(&Names::of(config));
    Grid::for_strips(config.in_channels, config.image_size, given.len(), columns, &labels)?;
    let judge = judge(&session, options)?;
    let Pictures { read, good, bad } = pictures::read(&given, |path| load_image(path, &preparation));
    let name = |path: &PathBuf| path.display().to_string();
    let mut failures = Failures::new(given.len(), arguments.json);
    let mut unread = Vec::new();
    // Of several processes the one that merges tells them, unless that is all there is to tell.
    let told = good.is_empty() || target.as_ref().is_none_or(|target| !target.together);
    for (index, error) in bad {
        let detail = match &error {
            Error::Data { detail, .. } => detail.clone(),
            other => other.to_string(),
        };
        unread.push((name(&given[index]), detail));
        if told {
            failures.add(&given[index], error);
        }
    }
    if failures.all() {
        return failures.outcome();
    }
    let explained = Explained {
        paths: good.iter().map(|i| given[*i].clone()).collect(),
        wanted: good.iter().map(|i| wanted[*i]).collect(),
        read,
    };
    let identity = match &target {
        None => None,
        Some(_) => {
            Some(identity(arguments, options, &session, NAME)?.with("pictures", explained.fingerprint()))
        }
    };
    watch_interrupts()?;
    let total = explained.paths.len();
    let mut explainer = explainer(&session, &explain, options.batch.min(total * options.variants))?;
    let shard = target.as_ref().map_or(Shard::WHOLE, |target| target.shard);
    let range = shard.range(total, group(options.batch, options.variants));
    let work = Work { arguments, options, session: &session, explain: &explain, judge: judge.as_ref() };
    let mut table = work.table(&mut explainer, &explained, &preparation, range)?;
    session.close();
    let facts = Facts {
        settings: settings(&session, options, &explain, &explainer, judge.as_ref()),
        judge: judge.map(|judge| judge.identity),
        channels: config.in_channels,
        size: config.image_size,
        noised,
        given: given.len(),
        paths: explained.paths.iter().map(name).collect(),
        unread,
    };
    if let (Some(target), Some(identity)) = (target, identity) {
        // Which device it was stands in the part's header; another one may compute another part.
        let settings = Settings { device: String::new(), ..facts.settings.clone() };
        let mut part = Part::default();
        part.state(Facts::NAME, Facts { settings, ..facts })?;
        part.put(TABLE, table);
        let outputs = json!({ "out": outputs.picture, "report": outputs.report });
        if target.merges() && !arguments.json {
            hint_unknown(&session, &options.picture);
        }
        return target.write(arguments, &session, identity, outputs, &part);
    }
    if !arguments.json {
        hint_unknown(&session, &options.picture);
    }
    finish(arguments, &outputs, Results::of(facts, &mut table)?)?;
    failures.outcome()
}

/// Makes the picture and the report of explanations that were made in parts.
///
/// # Errors
/// Files that cannot be written; pictures that could not be read, as the command ends with them.
pub fn merge(arguments: &Cli, options: &Merge, mut all: Gathered) -> Result<()> {
    let picture = all.output("out", options.out.as_deref()).unwrap_or_else(|| PathBuf::from(PICTURE));
    let outputs = ExplanationFiles { picture, report: all.output("report", options.report.as_deref()) };
    let inputs = options.shards.iter().filter(|path| path.is_file());
    outputs.check(&inputs.map(PathBuf::as_path).collect::<Vec<_>>())?;
    let mut facts: Facts = all.part.fact(Facts::NAME)?;
    facts.settings.device = all.adapters.clone();
    let mut failures = Failures::new(facts.given, arguments.json);
    for (path, detail) in &facts.unread {
        let path = PathBuf::from(path);
        failures.add(&path, Error::Data { path: path.clone(), detail: detail.clone() });
    }
    finish(arguments, &outputs, Results::of(facts, &mut all.part.take(TABLE)?)?)?;
    failures.outcome()
}

/// The pictures that could be read.
struct Explained {
    paths: Vec<PathBuf>,
    read: Vec<Prepared>,
    /// What each is to become; `None`: its second class.
    wanted: Vec<Option<Target>>,
}

impl Explained {
    /// A hash of what is in them.
    fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        self.read.iter().for_each(|picture| {
            hasher.update(&picture.levels);
        });
        format!("blake3:{}", hasher.finalize().to_hex())
    }
}

/// What explains.
struct Work<'a> {
    arguments: &'a Cli,
    options: &'a Explain,
    session: &'a Session,
    explain: &'a ExplainOptions,
    judge: Option<&'a Judge>,
}

impl Work<'_> {
    /// Explains the pictures `range` of all that could be read. A picture's noise is that of its place among these.
    fn table(
        &self,
        explainer: &mut Explainer,
        all: &Explained,
        preparation: &Preparation,
        range: Range<usize>,
    ) -> Result<Table> {
        let &Work { arguments, options, session, explain, judge } = self;
        let (config, names) = (session.config(), Names::of(session.config()));
        let (read, paths) = (&all.read[range.clone()], &all.paths[range.clone()]);
        let truths: Vec<_> = paths.iter().map(|path| true_class(path, config)).collect::<Result<_>>()?;
        let remarks = Remarks::of(session, &options.picture, preparation, read, all.read.len())?;
        let images: Vec<f32> = read.iter().flat_map(Prepared::values).collect();
        let before = pollster::block_on(explainer.probabilities(&images))?;
        let towards = chosen(&all.wanted[range.clone()], &before)?;
        let (bar, begin) = (steps(arguments.json), Instant::now());
        let (len, group) = (config.images(1).image_len(), group(options.batch, options.variants));
        let mut made = Vec::with_capacity(read.len());
        for (number, part) in towards.chunks(group).enumerate() {
            let first = number * group;
            let towards: Vec<(usize, Target)> = part.iter().copied().enumerate().collect();
            let first_row = (range.start + first) as u32;
            let noise = Noise { seed: explain.seed, variants: options.variants, first_row };
            let images = &images[first * len..][..part.len() * len];
            made.extend(explain_towards(explainer, images, &towards, noise, &bar)?);
        }
        bar.finish_and_clear();
        let seconds = begin.elapsed().as_secs_f64() / paths.len().max(1) as f64;
        let pixels = config.image_size * config.image_size;
        let mut rows = Vec::new();
        for (i, (made, truth)) in made.iter().zip(truths).enumerate() {
            let image = paths[i].display().to_string();
            let row = Row::of(image, truth, made, &names, pixels, seconds)?;
            rows.push(Row { typicality: remarks[i].typicality.map(Into::into), ..row });
        }
        let of = |part: fn(&Explanation) -> &Vec<f32>| -> Vec<f32> {
            made.iter().filter_map(|made| made.answers.first()).flat_map(part).copied().collect()
        };
        let counterfactuals = of(|one| &one.counterfactual);
        if let (Some(judge), false) = (judge, rows.is_empty()) {
            ask(judge, &names, &mut rows, &counterfactuals)?;
        }
        let levels = read.iter().flat_map(|picture| picture.levels.iter().copied()).collect();
        let table = Table::new(all.read.len(), range)
            .with_rows("rows", &rows)?
            .with_rows("remarks", &remarks)?
            .with_bytes("original", levels)?
            .with_f32("counterfactual", counterfactuals)?
            .with_f32("difference", of(|one| &one.difference))?;
        if shows_noised(explain) { table.with_f32("noised", of(|one| &one.noised)) } else { Ok(table) }
    }
}

/// Draws and tells what became of all pictures.
fn finish(arguments: &Cli, outputs: &ExplanationFiles, results: Results) -> Result<()> {
    let facts = &results.facts;
    let seconds = results.rows.iter().map(|row| row.seconds).sum::<f64>() / results.rows.len().max(1) as f64;
    results.save_strips(facts.grid()?, &outputs.picture)?;
    if let Some(path) = &outputs.report {
        let cards = results.cards(path)?;
        Kind::Report.write(path, page(&facts.settings, &cards).as_bytes())?;
    }
    let picture = outputs.picture.display();
    let report = outputs.report.as_ref().map(|path| path.display().to_string());
    if arguments.json {
        let row = |(row, remarks): (&Row, &Remarks)| -> Result<serde_json::Value> {
            let mut json = json!(row);
            remarks.add_to(&mut json)?;
            Ok(json)
        };
        let mut all: Vec<_> = results.rows.iter().zip(&results.remarks).map(row).collect::<Result<_>>()?;
        all.extend(facts.unread.iter().map(|(image, error)| json!({ "image": image, "error": error })));
        let json = json!({
            "picture": picture.to_string(), "report": report, "method": facts.settings.method,
            "seconds_per_image": seconds, "judge": facts.judge, "explanations": all,
        });
        say!("{json}");
        return Ok(());
    }
    results.say();
    if let Some(judge) = &facts.judge {
        say!("the judge, which never guides: {}", judge.words());
    }
    say!("{seconds:.2} s per image");
    say!("wrote {picture}");
    if let Some(file) = report {
        say!("wrote {file}");
    }
    Ok(())
}
