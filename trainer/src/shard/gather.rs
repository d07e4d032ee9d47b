//! All parts of a command, put together: each once, and all of the same.

use super::file::{Header, Identity, read};
use super::part::Part;
use crate::data::ending;
use crate::io::output::tell;
use duet::{Error, Result};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Longest text of a value in an error.
const SHOWN: usize = 120;

/// What all parts hold together.
#[derive(Debug)]
pub struct Gathered {
    /// Whose figures these are.
    pub identity: Identity,
    /// Where the first part was to write.
    pub outputs: Map<String, Value>,
    /// Names of the devices that computed, separated by commas.
    pub adapters: String,
    /// All rows.
    pub part: Part,
}

impl Gathered {
    /// Where something is to be written: as the command line of `duet merge` says, or else that of the parts.
    pub fn output(&self, name: &str, given: Option<&Path>) -> Option<PathBuf> {
        let noted = || self.outputs.get(name).and_then(Value::as_str).map(PathBuf::from);
        given.map(Path::to_owned).or_else(noted)
    }
}

/// The files that are meant: those given, and all `.npz` in folders that are given, by name.
fn expand(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in given {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let bad = |detail: String| Error::Data { path: path.clone(), detail };
        let entries = std::fs::read_dir(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
        let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        found.retain(|path| ending(path) == "npz");
        if found.is_empty() {
            return Err(bad("holds no .npz, which --shard writes".into()));
        }
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

fn short(value: Option<&Value>) -> String {
    let text = value.unwrap_or(&Value::Null).to_string();
    if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN).chain(['…']).collect() }
}

/// The first name under which both maps have something else.
fn difference<'a>(a: &'a Map<String, Value>, b: &'a Map<String, Value>) -> Option<&'a String> {
    a.keys().chain(b.keys()).find(|name| a.get(*name) != b.get(*name))
}

/// Refuses a part of something else than the first one.
fn compare(first: (&Path, &Header, &Part), other: (&Path, &Header, &Part)) -> Result<()> {
    let (path, header, part) = other;
    let (path_of_first, one, part_of_first) = first;
    let there = path_of_first.display();
    let bad = |detail: String| Err(Error::Data { path: path.to_owned(), detail });
    if header.identity.command != one.identity.command {
        let [is, was] = [header, one].map(|header| &header.identity.command);
        return bad(format!("is a part of duet {is}, {there} one of duet {was}: merge them one by one"));
    }
    if header.shard[1] != one.shard[1] {
        let [[_, is], [_, was]] = [header.shard, one.shard];
        return bad(format!(
            "is one of {is} parts, {there} one of {was}: parts of one division belong together"
        ));
    }
    let maps = [(&header.identity.given, &one.identity.given), (&part.facts, &part_of_first.facts)];
    for (is, was) in maps {
        if let Some(name) = difference(is, was) {
            let (is, was) = (short(is.get(name)), short(was.get(name)));
            return bad(format!("was made with another {name}: {is}, in {there} {was}"));
        }
    }
    Ok(())
}

/// Numbers of parts for people: "2, 3 and 5".
fn list(numbers: &[usize]) -> String {
    let shown: Vec<String> = numbers.iter().take(20).map(usize::to_string).collect();
    let more = numbers.len().saturating_sub(shown.len());
    match (shown.split_last(), more) {
        (Some((last, others)), 0) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        (_, 0) => shown.concat(),
        (_, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Reads all parts of a command and puts them together. What was computed on different devices is told.
///
/// # Errors
/// [`Error::Data`] naming a file that is no part, is damaged, is there twice, or is of another command, model, data or option, and
/// [`Error::Config`] naming the parts that are missing.
pub fn gather(given: &[PathBuf]) -> Result<Gathered> {
    let mut parts = Vec::new();
    for path in expand(given)? {
        let (header, part) = read(&path)?;
        parts.push((path, header, part));
    }
    parts.sort_by_key(|(_, header, _)| header.shard[0]);
    let (first, others) = parts.split_first().ok_or_else(|| Error::config("shard", "none is given"))?;
    for (path, header, part) in others {
        compare((&first.0, &first.1, &first.2), (path, header, part))?;
    }
    if let Some([a, b]) = parts.windows(2).find(|pair| pair[0].1.shard == pair[1].1.shard) {
        let [number, of] = b.1.shard;
        let detail = format!("is part {number} of {of}, as {} is: give one of them", a.0.display());
        return Err(Error::Data { path: b.0.clone(), detail });
    }
    let of = first.1.shard[1];
    let there: Vec<usize> = parts.iter().map(|(_, header, _)| header.shard[0]).collect();
    let missing: Vec<usize> = (1..=of).filter(|number| !there.contains(number)).collect();
    if !missing.is_empty() {
        let (what, each) = match missing.as_slice() {
            [_] => ("part", "it"),
            _ => ("parts", "each"),
        };
        let (numbers, command) = (list(&missing), &first.1.identity.command);
        let verb = if missing.len() == 1 { "is" } else { "are" };
        let detail = format!(
            "{what} {numbers} of {of} of duet {command} {verb} missing: run the command with --shard I/{of} for {each}"
        );
        return Err(Error::config("shards", detail));
    }
    tell_devices(&parts);
    join(parts)
}

/// Tells of parts that may differ in their last bits from those of one process.
fn tell_devices(parts: &[(PathBuf, Header, Part)]) {
    let mut devices: Vec<(&str, Vec<usize>)> = Vec::new();
    for (_, header, _) in parts {
        match devices.iter_mut().find(|(device, _)| *device == header.device) {
            Some((_, numbers)) => numbers.push(header.shard[0]),
            None => devices.push((&header.device, vec![header.shard[0]])),
        }
    }
    if devices.len() > 1 {
        let each: Vec<String> =
            devices.iter().map(|(device, numbers)| format!("{} by {device}", list(numbers))).collect();
        tell!(
            "duet: warning: parts were computed on different devices ({}): as good as one's, but not its bits",
            each.join("; ")
        );
    }
}

/// All rows of parts that are there and belong together.
fn join(parts: Vec<(PathBuf, Header, Part)>) -> Result<Gathered> {
    let mut all: Option<Gathered> = None;
    let mut adapters: Vec<&str> = parts.iter().map(|(_, header, _)| header.adapter.as_str()).collect();
    adapters.sort_unstable();
    adapters.dedup();
    let adapters = adapters.join(", ");
    for (path, Header { identity, outputs, .. }, part) in parts {
        let bad = |detail: String| Error::Data { path: path.clone(), detail };
        let Some(all) = &mut all else {
            if let Some((name, _)) = part.tables.iter().find(|(_, table)| table.range.start != 0) {
                return Err(bad(format!("its table {name:?} does not begin where the data do")));
            }
            all = Some(Gathered { identity, outputs, adapters: adapters.clone(), part });
            continue;
        };
        if !all.part.tables.keys().eq(part.tables.keys()) {
            return Err(bad("its tables are not those of the parts before".into()));
        }
        for (name, table) in part.tables {
            let whole =
                all.part.tables.get_mut(&name).ok_or_else(|| bad(format!("{name:?} is of no other part")))?;
            whole.append(table).map_err(|detail| bad(format!("{name}: {detail}")))?;
        }
    }
    let all = all.ok_or_else(|| Error::config("shard", "none is given"))?;
    match all.part.tables.iter().find(|(_, table)| table.range.end != table.total) {
        Some((name, table)) => {
            let detail =
                format!("all parts together have {} of {} rows of {name}", table.range.end, table.total);
            Err(Error::config("shards", detail))
        }
        None => Ok(all),
    }
}
