//! `duet data info`: what a data set holds.

use super::sheet;
use crate::cli::{Cli, DataInfo, is_recipe_name};
use crate::data::{
    Copies, DataKind, DataSpec, Dataset, Looks, Split, Spread, by_class, copies_in, copies_within, guess,
    looks, shape, spread,
};
use crate::io::data::Reader;
use crate::io::files::{self, Kind};
use crate::io::output::say;
use crate::recipe::Recipe;
use duet::model::Labels;
use duet::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;

/// Pairs of equal images that are listed for machines, of each kind.
const MOST_PAIRS: usize = 1000;

/// Which data are looked at, and how.
struct Source {
    spec: DataSpec,
    /// What told the kind, where nobody said it.
    sign: Option<String>,
    channels: usize,
    size: usize,
}

/// What is found out.
struct Found {
    parts: Vec<(&'static str, Dataset)>,
    counts: Vec<Vec<usize>>,
    copies: Vec<(String, Copies)>,
    spread: Vec<Spread>,
    looks: Option<Looks>,
    /// Whether images of three channels are grey in all pixels.
    all_grey: bool,
}

/// Runs the command.
///
/// # Errors
/// A source that is not there or not known; bad data; a sheet that cannot be written.
pub fn run(arguments: &Cli, options: &DataInfo) -> Result<()> {
    let source = source(options)?;
    if let Some(path) = &options.sheet {
        files::check(&[(Kind::Picture, path)], &[&options.source])?;
        if source.spec.kind.is_folder() {
            files::check_apart(path.parent().unwrap_or(Path::new("")), &source.spec.path)?;
        }
    }
    let split = Reader::of(arguments).load(&source.spec, source.channels, source.size)?;
    if let Some(path) = &options.sheet {
        sheet::draw(path, &split.train, options.count)?;
    }
    let looks = looks(&source.spec)?;
    let summary = split.summary.clone();
    let found = find(split, looks);
    if arguments.json {
        say!("{}", json_of(&source, &found, summary.json(), options));
        return Ok(());
    }
    told(&source, &found);
    summary.notes.iter().for_each(|note| say!("note: {note}"));
    let passed_over = summary.passed_over.words();
    if !passed_over.is_empty() {
        say!("passed over: {passed_over}");
    }
    summary.warnings.iter().for_each(|warning| say!("warning: {warning}"));
    if let Some(path) = &options.sheet {
        say!("wrote {}", path.display());
    }
    Ok(())
}

/// Which data the command line means.
fn source(options: &DataInfo) -> Result<Source> {
    let path = &options.source;
    if !path.exists() {
        return Err(Error::Data { path: path.clone(), detail: "is not there".into() });
    }
    if path.is_file() && is_recipe_name(path) {
        if options.kind.is_some() {
            return Err(Error::config(
                "kind",
                "is what the recipe says: leave it out, or give the data's folder",
            ));
        }
        let recipe = Recipe::load(path)?;
        let (channels, size) = (recipe.model.in_channels, recipe.model.image_size);
        return sized(options, recipe.data, None, || Ok([channels, size]));
    }
    // Files are read by their folder: those of a part lie beside each other.
    let folder = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(Path::new("")) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let (kind, sign) = match &options.kind {
        Some(name) => (DataKind::named(name)?, None),
        None => {
            let guess = guess(folder)?;
            (guess.kind, Some(guess.sign))
        }
    };
    let mut spec = DataSpec::new(kind, folder);
    spec.set_path(folder);
    let own = spec.clone();
    sized(options, spec, sign, || shape(&own))
}

/// The same with the size that is asked for, or its own.
fn sized(
    options: &DataInfo,
    spec: DataSpec,
    sign: Option<String>,
    own: impl FnOnce() -> Result<[usize; 2]>,
) -> Result<Source> {
    let [channels, size] = match (options.channels, options.size) {
        (Some(channels), Some(size)) => [channels, size],
        (channels, size) => {
            let [own_channels, own_size] = own()?;
            [channels.unwrap_or(own_channels), size.unwrap_or(own_size)]
        }
    };
    if ![1, 3].contains(&channels) {
        return Err(Error::config("channels", format!("must be 1 (grey) or 3 (colour), is {channels}")));
    }
    Ok(Source { spec, sign, channels, size })
}

fn find(split: Split, looks: Option<Looks>) -> Found {
    let mut parts = vec![("train", split.train)];
    parts.extend(split.validation.map(|part| ("validation", part)));
    parts.push(("test", split.test));
    let mut copies = Vec::new();
    for (i, (name, part)) in parts.iter().enumerate() {
        copies.push((format!("within {name}"), copies_within(part)));
        let earlier = parts.iter().take(i);
        copies.extend(earlier.map(|(other, of)| (format!("{name} in {other}"), copies_in(part, of))));
    }
    let train = parts.first().map(|(_, train)| train);
    let spread = train.map(spread).unwrap_or_default();
    let all_grey = parts.iter().all(|(_, part)| is_grey(part));
    Found {
        counts: parts.iter().map(|(_, part)| by_class(part)).collect(),
        parts,
        copies,
        spread,
        looks,
        all_grey,
    }
}

/// Whether images of three channels have no colour anywhere.
fn is_grey(set: &Dataset) -> bool {
    let plane = set.size * set.size;
    set.channels == 3
        && set.each().all(|image| {
            let (red, rest) = image.split_at(plane);
            let (green, blue) = rest.split_at(plane);
            red == green && green == blue
        })
}

/// The most frequent and the rarest class of the training images, by name and number; `None` where there is but one class.
fn balance(found: &Found) -> Option<[(&str, usize); 2]> {
    let ((_, train), counts) = (found.parts.first()?, found.counts.first()?);
    let counts = || train.class_names.iter().map(String::as_str).zip(counts.iter().copied());
    let largest = counts().max_by_key(|(_, images)| *images)?;
    let smallest = counts().min_by_key(|(_, images)| *images)?;
    (train.class_names.len() > 1).then_some([largest, smallest])
}

/// The largest class divided by the smallest; `None` where that has no image.
fn ratio([(_, largest), (_, smallest)]: [(&str, usize); 2]) -> Option<f64> {
    (smallest > 0).then(|| largest as f64 / smallest as f64)
}

fn told(source: &Source, found: &Found) {
    let Source { spec, sign, channels, size } = source;
    let guessed = sign.as_ref().map_or_else(String::new, |sign| format!(" (guessed: {sign})"));
    say!("{}: {}{guessed}; images of {channels}×{size}×{size}", spec.path.display(), spec.kind.name());
    if sign.is_some() && spec.kind.name() == "idx" {
        say!("its classes are numbered; --kind mnist or --kind fashion-mnist names them");
    }
    table(found);
    let labelled = found.parts.iter().any(|(_, part)| matches!(part.labels, Labels::MultiLabel(_)));
    let what = if labelled { "label" } else { "class" };
    if let Some(pair @ [(largest, most), (smallest, least)]) = balance(found) {
        let between = format!("{largest:?} {most}, {smallest:?} {least}");
        match ratio(pair) {
            Some(ratio) => say!(
                "balance: the largest {what} has {ratio:.2} times the training images of the smallest ({between})"
            ),
            None => say!("balance: a {what} has no training images ({between})"),
        }
    }
    if let Some(looks) = &found.looks {
        pictures(looks);
    }
    let numbers = |of: fn(&Spread) -> f64| {
        found.spread.iter().map(|channel| format!("{:.4}", of(channel))).collect::<Vec<_>>().join(" ")
    };
    let [mean, deviation] = [numbers(|channel| channel.mean), numbers(|channel| channel.deviation)];
    say!("levels of the training images, 0 black to 1 white: mean {mean}, standard deviation {deviation}");
    if found.all_grey {
        say!("all images are grey: --channels 1 (in_channels = 1 in a recipe) holds the same");
    }
    for (place, copies) in &found.copies {
        let count = copies.pairs.len();
        let of_other = match copies.of_other_label {
            0 => String::new(),
            other => format!(", {other} of them of another {what}"),
        };
        let example = copies
            .pairs
            .first()
            .map_or_else(String::new, |[row, other]| format!(" (the first: {row} is {other}, from 0)"));
        say!("copies {place}: {count}{of_other}{example}");
    }
}

/// Images by class and part.
fn table(found: &Found) {
    let names = found.parts.first().map_or(&[][..], |(_, part)| &part.class_names);
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("images".len());
    let row = |name: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>12}")).collect();
        say!("{name:<width$}{cells}");
    };
    row("", found.parts.iter().map(|(name, _)| (*name).to_owned()).collect());
    row("images", found.parts.iter().map(|(_, part)| part.len().to_string()).collect());
    for (class, name) in names.iter().enumerate() {
        let of = |counts: &Vec<usize>| counts.get(class).copied().unwrap_or_default().to_string();
        row(name, found.counts.iter().map(of).collect());
    }
}

/// What the pictures are before they are resized.
fn pictures(looks: &Looks) {
    let Looks { pictures, unreadable, width, height, square, colour, endings } = looks;
    let sizes = if [width.least, height.least] == [width.most, height.most] {
        format!("all of {}×{} pixels", width.least, height.least)
    } else {
        format!(
            "{} to {} pixels wide (median {}), {} to {} high (median {}), {square} of them square",
            width.least, width.most, width.median, height.least, height.most, height.median
        )
    };
    let kind = |(ending, count): (&String, &usize)| match ending.as_str() {
        "" => format!("{count} without ending"),
        _ => format!("{count} .{ending}"),
    };
    let endings: Vec<String> = endings.iter().map(kind).collect();
    say!("pictures: {pictures} ({}), {sizes}; {colour} in colour", endings.join(", "));
    if *unreadable > 0 {
        say!("pictures whose header cannot be read: {unreadable}");
    }
}

fn json_of(source: &Source, found: &Found, summary: Value, options: &DataInfo) -> Value {
    let balance = balance(found).map(|pair @ [(largest, most), (smallest, least)]| {
        json!({
            "largest": {"name": largest, "train": most}, "smallest": {"name": smallest, "train": least}, "ratio": ratio(pair),
        })
    });
    let copies: Vec<Value> = found
        .copies
        .iter()
        .map(|(place, copies)| {
            let pairs: Vec<&[usize; 2]> = copies.pairs.iter().take(MOST_PAIRS).collect();
            json!({
                "place": place, "images": copies.pairs.len(), "of_other_label": copies.of_other_label, "pairs": pairs,
            })
        })
        .collect();
    let levels: Vec<Value> =
        found.spread.iter().map(|of| json!({"mean": of.mean, "deviation": of.deviation})).collect();
    let looks = found.looks.as_ref().map(|looks| {
        let range = |range: crate::data::Range| json!({"least": range.least, "median": range.median, "most": range.most});
        json!({
            "pictures": looks.pictures, "unreadable": looks.unreadable, "width": range(looks.width),
            "height": range(looks.height), "square": looks.square, "colour": looks.colour, "endings": looks.endings,
        })
    });
    json!({
        "path": source.spec.path, "kind": source.spec.kind.name(), "guessed_by": source.sign,
        "channels": source.channels, "size": source.size, "data": summary, "balance": balance, "levels": levels,
        "all_grey": found.all_grey, "copies": copies, "pictures": looks, "sheet": options.sheet,
    })
}
