//! The file of a part: a `.npz`, which any NumPy reads. `shard` is its header as JSON, `TABLE.COLUMN` an array \[rows,width\]; columns
//! of JSON are texts, a list with a value for each row.

use super::part::Part;
use super::table::{Column, Table, Values};
use crate::cli::{Assigned, Cli, Shard, ShardArgs};
use crate::data::{Array, Arrays, Dataset, pack, whole};
use crate::io::files::{Kind, check, make_folder};
use crate::io::output::say;
use crate::io::session::Session;
use crate::io::tuning;
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Number of the format this version writes, and the only one it reads.
const FORMAT: u32 = 1;
const HEADER: &str = "shard";
/// What stands in an identity for the version that computed.
const VERSION: &str = "version";

/// Where a table lies in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Layout {
    total: usize,
    first: usize,
    rows: usize,
    /// Names of its columns, and whether they are of JSON.
    columns: BTreeMap<String, bool>,
}

/// What must be the same in all parts: whose figures these are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The command.
    pub command: String,
    /// The model, the data and the options, by name. Of files it has their contents' hashes, not their paths.
    pub given: Map<String, Value>,
}

/// What is hashed of a file.
///
/// # Errors
/// [`Error::Data`] for one that cannot be read.
fn hash(path: &Path) -> Result<String> {
    let bytes = whole(path)
        .map_err(|error| Error::Data { path: path.to_owned(), detail: format!("cannot be read: {error}") })?;
    Ok(format!("blake3:{}", blake3::hash(&bytes).to_hex()))
}

impl Identity {
    /// Of a command and its options, whatever decides numbers.
    ///
    /// # Errors
    /// [`Error::Config`] for options that are no JSON object.
    pub fn new(command: &str, arguments: &Cli, options: impl Serialize) -> Result<Identity> {
        let value =
            serde_json::to_value(options).map_err(|error| Error::config("json", error.to_string()))?;
        let Value::Object(mut given) = value else { return Err(Error::config("json", "no object")) };
        given.insert("matmul-precision".into(), json!(format!("{:?}", arguments.matmul_precision)));
        given.insert(VERSION.into(), env!("CARGO_PKG_VERSION").into());
        Ok(Identity { command: command.to_owned(), given })
    }

    /// Adds what it depends on.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Identity {
        self.given.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a file, by its contents; of none nothing.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn with_file(self, name: &str, path: Option<&Path>) -> Result<Identity> {
        match path {
            None => Ok(self),
            Some(path) => Ok(self.with(name, hash(path)?)),
        }
    }

    /// Adds data, by their images and labels.
    #[must_use]
    pub fn with_data(self, name: &str, data: &Dataset) -> Identity {
        let fingerprint = data.fingerprint();
        self.with(name, fingerprint)
    }
}

/// What a file says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    format: u32,
    /// Which part: its number from 1 on, and how many there are.
    pub shard: [usize; 2],
    /// Whose figures these are.
    pub identity: Identity,
    /// Where the command was to write what is made of all parts.
    pub outputs: Map<String, Value>,
    /// Name of the device.
    pub adapter: String,
    /// That, its driver and tables of kernels, which decide the last bits.
    pub device: String,
    pub(super) facts: Map<String, Value>,
    tables: BTreeMap<String, Layout>,
}

/// The name of a part's file.
pub fn name(command: &str, shard: Shard) -> String {
    format!("{command}.{}-of-{}.npz", shard.number(), shard.of())
}

/// Where a part is to be written.
pub struct Target {
    /// Which.
    pub shard: Shard,
    path: PathBuf,
    /// Whether all parts are computed at once, by processes of which the first one merges them.
    pub together: bool,
}

impl Target {
    /// Of what the command line says, checked before hours are spent; `None`: everything is computed at once.
    ///
    /// # Errors
    /// As [`ShardArgs::which`]; [`Error::Write`] for a folder that cannot be made or written to.
    pub fn of(options: &ShardArgs, command: &str) -> Result<Option<Target>> {
        let Some(Assigned { shard, folder, together }) = options.which()? else { return Ok(None) };
        make_folder(&folder)?;
        let path = folder.join(name(command, shard));
        check(&[(Kind::Table, &path)], &[])?;
        Ok(Some(Target { shard, path, together }))
    }

    /// Whether this process makes of all parts what the command writes.
    pub fn merges(&self) -> bool {
        self.together && self.shard.number() == 1
    }

    /// Where.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the part, as a whole or not at all.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(
        &self,
        arguments: &Cli,
        session: &Session,
        identity: Identity,
        outputs: Value,
        part: &Part,
    ) -> Result<()> {
        let Part { facts, tables } = part;
        let layout = |table: &Table| Layout {
            total: table.total,
            first: table.range.start,
            rows: table.len(),
            columns: columns(table).map(|(name, column)| (name.clone(), is_json(column))).collect(),
        };
        let header = Header {
            format: FORMAT,
            shard: [self.shard.number(), self.shard.of()],
            identity,
            outputs: outputs.as_object().cloned().unwrap_or_default(),
            adapter: session.weights.device().info().name.clone(),
            device: device(arguments, session)?,
            facts: facts.clone(),
            tables: tables.iter().map(|(name, table)| (name.clone(), layout(table))).collect(),
        };
        let text = serde_json::to_vec(&header).map_err(|error| Error::config("json", error.to_string()))?;
        let mut arrays = vec![(HEADER.to_owned(), Array::of_bytes(&[text.len()], text))];
        for (of, table) in tables {
            for (name, column) in columns(table) {
                arrays.push((format!("{of}.{name}"), column.array(table.len())?));
            }
        }
        let arrays: Vec<(&str, Array)> =
            arrays.iter().map(|(name, array)| (name.as_str(), array.clone())).collect();
        Kind::Table.write(&self.path, &pack(&arrays)?)?;
        if self.together {
            // What is made of it is told.
            return Ok(());
        }
        let path = self.path.display();
        if arguments.json {
            say!("{}", json!({ "shard": path.to_string(), "part": header.shard }));
        } else {
            say!("wrote {path}: part {} of {}", self.shard.number(), self.shard.of());
        }
        Ok(())
    }
}

/// The columns that are written: those of rows that are there.
fn columns(table: &Table) -> impl Iterator<Item = (&String, &Column)> {
    table.columns.iter().filter(|_| !table.is_empty())
}

fn is_json(column: &Column) -> bool {
    matches!(column.values, Values::Rows(_))
}

/// What decides the last bits: the device, its driver, and which kernels are chosen there.
fn device(arguments: &Cli, session: &Session) -> Result<String> {
    let info = session.weights.device().info();
    let tables: String = tuning::tables(arguments)?.iter().map(|table| table.to_json()).collect();
    let kernels = if tables.is_empty() {
        String::new()
    } else {
        format!(", kernels by tables {}", &blake3::hash(tables.as_bytes()).to_hex()[..12])
    };
    Ok(format!("{} ({}, {}){kernels}", info.name, info.backend, info.driver))
}

/// Reads the file of a part.
///
/// # Errors
/// [`Error::Data`] naming a file that is none, is cut short, or of another version.
pub(super) fn read(path: &Path) -> Result<(Header, Part)> {
    let mut arrays = Arrays::open(path)?;
    let bad = |detail: String| Error::Data { path: path.to_owned(), detail };
    if !arrays.has(HEADER) {
        return Err(bad("is no part that --shard writes".into()));
    }
    let text = arrays.get(HEADER)?;
    let header: Value = serde_json::from_slice(&text.bytes)
        .map_err(|error| arrays.wrong(HEADER, format!("is no JSON: {error}")))?;
    let [format, version] = [&header["format"], &header["identity"]["given"][VERSION]];
    if format != FORMAT || version != env!("CARGO_PKG_VERSION") {
        return Err(bad(format!(
            "was written by version {version} (format {format}), this is {:?} (format {FORMAT}): rows of one version are merged by it",
            env!("CARGO_PKG_VERSION")
        )));
    }
    let mut header: Header = serde_json::from_value(header).map_err(|error| arrays.wrong(HEADER, error))?;
    let [number, of] = header.shard;
    if Shard::new(number, of).is_none() {
        return Err(arrays.wrong(HEADER, format!("part {number} of {of}")));
    }
    let mut part = Part { facts: std::mem::take(&mut header.facts), ..Part::default() };
    for (of, Layout { total, first, rows, columns }) in &header.tables {
        let end = first.checked_add(*rows).filter(|end| end <= total);
        let end = end.ok_or_else(|| arrays.wrong(of, format!("{rows} rows from {first} on, of {total}")))?;
        let mut table = Table::new(*total, *first..end);
        for (column, json) in columns {
            let name = format!("{of}.{column}");
            let found = Column::of(&arrays.get(&name)?, *rows, *json);
            table.columns.insert(column.clone(), found.map_err(|detail| arrays.wrong(&name, detail))?);
        }
        part.put(of, table);
    }
    Ok((header, part))
}
