//! Pictures that are given: what became of each, a strip of all, a report where one is asked for.

use super::{chain, explainer, judge, settings, shows_noised, targets};
use crate::cli::{Cli, Explain};
use crate::data::{INDEX, Prepared, load_image, true_class};
use crate::eval::explanations::{Noise, Verdict, explain_towards, steps, targets as chosen};
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
use duet::Result;
use duet::explain::{Explanation, Variants};
use duet::model::{Head, ModelConfig, Target};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Picture that is written unless another is named.
const PICTURE: &str = "explanation.png";

/// Sees that the picture and the report can be written and replace nothing that is read.
fn check_outputs(arguments: &Cli, options: &Explain, out: &Path, images: &[PathBuf]) -> Result<()> {
    let mut outputs: Vec<(Kind, &Path)> = vec![(Kind::Picture, out)];
    outputs.extend(options.report.as_deref().map(|path| (Kind::Report, path)));
    let lists: Vec<PathBuf> = images.iter().map(|image| image.with_file_name(INDEX)).collect();
    let more = [
        Some(&options.model.model),
        options.mask.as_ref(),
        options.judge.as_ref(),
        arguments.tuning.as_ref(),
    ];
    let inputs = images.iter().chain(&lists).chain(more.into_iter().flatten());
    files::check(&outputs, &inputs.map(PathBuf::as_path).collect::<Vec<_>>())
}

/// Everything that was made of the images that could be read.
struct Results {
    paths: Vec<PathBuf>,
    /// \[N,C,H,W\] in −1..1.
    images: Vec<f32>,
    remarks: Vec<Remarks>,
    made: Vec<Variants>,
    rows: Vec<Row>,
    names: Names,
    method: &'static str,
    noised: bool,
}

impl Results {
    /// The answer that is shown for each image.
    fn best(&self) -> impl Iterator<Item = &Explanation> {
        self.made.iter().filter_map(|made| made.answers.first())
    }

    fn original(&self, index: usize) -> &[f32] {
        let len = self.images.len() / self.paths.len().max(1);
        &self.images[index * len..][..len]
    }

    fn several(&self) -> bool {
        self.made.iter().any(|made| made.answers.len() > 1)
    }

    /// A strip of each image: original, counterfactual, difference and what else there is.
    fn save_strips(&self, grid: Grid, path: &Path) -> Result<()> {
        let stability = || self.made.iter().map(|made| made.stability.as_slice()).collect::<Vec<_>>();
        let original = (0..self.paths.len()).map(|index| self.original(index)).collect();
        let mut columns = vec![Column::new("original", Palette::Image, original)];
        if self.noised {
            let noised = self.best().map(|one| one.noised.as_slice()).collect();
            columns.push(Column::new("noised", Palette::Image, noised));
        }
        let counterfactual = self.best().map(|one| one.counterfactual.as_slice()).collect();
        columns.push(Column::new("counterfactual", Palette::Image, counterfactual));
        let difference = self.best().map(|one| one.difference.as_slice()).collect();
        let solid = if self.several() { stability() } else { Vec::new() };
        columns.push(Column { solid, ..Column::new("difference", Palette::Difference, difference) });
        if self.several() {
            columns.push(Column::new("stability", Palette::Share, stability()));
        }
        grid.save_strips(
            path,
            &self.rows.iter().map(|row| row.lines(&self.names)).collect::<Vec<_>>(),
            &columns,
        )
    }

    fn cards(&self, settings: &Settings, config: &ModelConfig, path: &Path) -> Result<Vec<Card>> {
        let grid = Grid { channels: config.in_channels, size: config.image_size, scale: 1 };
        let all = self.rows.iter().zip(self.made.iter().zip(self.best())).enumerate();
        let card = |(index, (row, (made, one))): (usize, (&Row, (&Variants, &Explanation)))| {
            let images = Images {
                original: self.original(index),
                counterfactual: &one.counterfactual,
                noised: self.noised.then_some(one.noised.as_slice()),
                stability: (made.answers.len() > 1).then_some(made.stability.as_slice()),
            };
            let file = self.paths[index].file_name().unwrap_or(self.paths[index].as_os_str());
            let row = Row { image: file.to_string_lossy().into_owned(), ..row.clone() };
            Card::new(path, grid, settings, row, images)
        };
        all.map(card).collect()
    }

    fn say(&self) {
        for ((path, remarks), row) in self.paths.iter().zip(&self.remarks).zip(&self.rows) {
            say!("{}:{}", path.display(), remarks.words());
            remarks.hint(path);
            let [before, after] = self.names.shares(row);
            say!("  before  {before}");
            say!("  after   {after}");
            say!("  {}", row.outcome(&self.names));
            let change = percent(row.mean_change);
            let moved = match self.names.head {
                Head::Multiclass => String::new(),
                Head::MultiLabel => format!(", other labels moved: {}", row.others_moved),
            };
            let effort = row.effort(self.method);
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
            if let Some(judgement) = row.judgement(&self.names) {
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
    let out = options.out.clone().unwrap_or_else(|| PathBuf::from(PICTURE));
    let given = pictures::expand(&options.images)?;
    check_outputs(arguments, options, &out, &given)?;
    let session = Session::open(arguments, &options.model)?;
    session.checkpoint.require_denoising()?;
    let (config, names) = (session.config(), Names::of(session.config()));
    let wanted = targets::wanted(config, options, given.len())?;
    let preparation = preparation(&session, &options.picture.reading);
    let explain = chain(options, &preparation)?;
    let columns = 3 + usize::from(shows_noised(&explain)) + usize::from(options.variants > 1);
    let grid =
        Grid::for_strips(config.in_channels, config.image_size, given.len(), columns, &longest(&names))?;
    let judge = judge(&session, options)?;
    let Pictures { read, good, bad } = pictures::read(&given, |path| load_image(path, &preparation));
    let images: Vec<f32> = read.iter().flat_map(Prepared::values).collect();
    let mut failures = Failures::new(given.len(), arguments.json);
    let unread: Vec<_> = bad.into_iter().map(|(i, error)| failures.add(&given[i], error)).collect();
    if failures.all() {
        return failures.outcome();
    }
    let wanted: Vec<_> = good.iter().map(|i| wanted[*i]).collect();
    let paths: Vec<PathBuf> = good.iter().map(|i| given[*i].clone()).collect();
    let truths: Vec<_> = paths.iter().map(|path| true_class(path, config)).collect::<Result<_>>()?;
    watch_interrupts()?;
    let mut explainer = explainer(&session, &explain, options.batch.min(paths.len() * options.variants))?;
    let remarks = Remarks::of(&session, &options.picture, &preparation, &read)?;

    let before = pollster::block_on(explainer.probabilities(&images))?;
    let towards: Vec<(usize, Target)> = chosen(&wanted, &before)?.into_iter().enumerate().collect();
    let noise = Noise { seed: explain.seed, variants: options.variants, first_row: 0 };
    let (bar, begin) = (steps(arguments.json), Instant::now());
    let made = explain_towards(&mut explainer, &images, &towards, noise, &bar)?;
    bar.finish_and_clear();
    let seconds = begin.elapsed().as_secs_f64() / paths.len() as f64;

    let pixels = config.image_size * config.image_size;
    let mut rows = Vec::new();
    for (i, (made, truth)) in made.iter().zip(truths).enumerate() {
        let image = paths[i].display().to_string();
        let row = Row::of(image, truth, made, &names, pixels, seconds)?;
        rows.push(Row { typicality: remarks[i].typicality.map(Into::into), ..row });
    }
    let method = explain.method.name();
    let noised = shows_noised(&explain);
    let mut results = Results { paths, images, remarks, made, rows, names, method, noised };
    if let Some(judge) = &judge {
        let counterfactuals: Vec<f32> = results.best().flat_map(|one| &one.counterfactual).copied().collect();
        ask(judge, &results.names, &mut results.rows, &counterfactuals)?;
    }
    session.close();
    results.save_strips(grid, &out)?;
    if let Some(path) = &options.report {
        let settings = settings(&session, options, &explain, &explainer, judge.as_ref());
        let cards = results.cards(&settings, config, path)?;
        Kind::Report.write(path, page(&settings, &cards).as_bytes())?;
    }
    let (picture, report) = (out.display(), options.report.as_ref().map(|path| path.display().to_string()));
    if arguments.json {
        let row = |(row, remarks): (&Row, &Remarks)| -> Result<serde_json::Value> {
            let mut json = serde_json::json!(row);
            remarks.add_to(&mut json)?;
            Ok(json)
        };
        let mut all: Vec<_> = results.rows.iter().zip(&results.remarks).map(row).collect::<Result<_>>()?;
        all.extend(unread);
        let judge = judge.map(|judge| judge.identity);
        let json = serde_json::json!({
            "picture": picture.to_string(), "report": report, "method": method, "seconds_per_image": seconds,
            "judge": judge, "explanations": all,
        });
        say!("{json}");
        return failures.outcome();
    }
    hint_unknown(&session, &options.picture);
    results.say();
    if let Some(judge) = &judge {
        say!("the judge, which never guides: {}", judge.identity.words());
    }
    say!("{seconds:.2} s per image");
    say!("wrote {picture}");
    if let Some(file) = report {
        say!("wrote {file}");
    }
    failures.outcome()
}
