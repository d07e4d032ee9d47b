//! Measured choices as JSON: what `duet tune` writes and devices are opened with.
//!
//! ```json
//! {
//!   "format": 1,
//!   "adapter": "llvmpipe",
//!   "measured": "how, on what and when, in words",
//!   "otherwise": "direct",
//!   "choices": [
//!     {
//!       "operation": "conv_forward",
//!       "shape": {"batch": 8, "height": 28, "width": 28, "in_channels": 32, "out_channels": 32, "stride": 1},
//!       "family": "tiled", "direct_ms": 1.9, "tiled_ms": 0.6
//!     }
//!   ]
//! }
//! ```
//!
//! `otherwise` is for shapes that are not listed; without it the rules decide. The times are for the reader.

use super::{Family, Key, KeyKind};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Number of the format this version writes, and the only one it reads.
pub const FORMAT: u32 = 1;

/// Tables for adapters whose name contains their `adapter`.
const SHIPPED: [(&str, &str); 2] = [
    ("src/families/tuned/llvmpipe.json", include_str!("tuned/llvmpipe.json")),
    ("src/families/tuned/swiftshader.json", include_str!("tuned/swiftshader.json")),
];

/// One shape with its faster family.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Operation and shape.
    pub key: Key,
    /// What runs.
    pub family: Family,
    /// Milliseconds of the direct family, where known.
    pub direct_ms: Option<f64>,
    /// Milliseconds of the tiled family, where known.
    pub tiled_ms: Option<f64>,
    /// Milliseconds of the family of subgroups, where known.
    pub subgroup_ms: Option<f64>,
    /// Milliseconds of the family of matrices, where known.
    pub cooperative_ms: Option<f64>,
}

/// The choices measured on one kind of adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    /// Text that the adapter's name contains (case-insensitive).
    pub adapter: String,
    /// How it was measured, in words.
    pub measured: String,
    /// What runs shapes that are not listed; `None`: the rules decide.
    pub otherwise: Option<Family>,
    /// Shapes.
    pub choices: Vec<Measured>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    adapter: String,
    measured: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    otherwise: Option<Family>,
    choices: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    operation: KeyKind,
    shape: BTreeMap<String, usize>,
    family: Family,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    direct_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tiled_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subgroup_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cooperative_ms: Option<f64>,
}

impl Tuning {
    /// The table that comes with the library for the adapter `name`.
    pub fn shipped(name: &str) -> Option<Tuning> {
        let mut tables = SHIPPED.iter().filter_map(|(path, text)| Tuning::parse(Path::new(path), text).ok());
        tables.find(|table| table.fits(name))
    }

    /// Whether the table was measured on adapters like `name`.
    pub fn fits(&self, name: &str) -> bool {
        name.to_lowercase().contains(&self.adapter.to_lowercase())
    }

    /// Reads a table file.
    ///
    /// # Errors
    /// [`Error::Config`] naming the file and the field.
    pub fn read(path: &Path) -> Result<Tuning> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::config(name_of(path), e.to_string()))?;
        Tuning::parse(path, &text)
    }

    /// Reads a table from `text`; `path` names it in errors.
    ///
    /// # Errors
    /// [`Error::Config`] naming the file and the field.
    pub fn parse(path: &Path, text: &str) -> Result<Tuning> {
        let wrong = |detail: String| Error::config(name_of(path), detail);
        let file: File = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if file.format != FORMAT {
            return Err(wrong(format!("format: is {}, this version reads {FORMAT}", file.format)));
        }
        if file.adapter.trim().is_empty() {
            return Err(wrong("adapter: must be part of an adapter's name".into()));
        }
        let mut choices = Vec::new();
        for (number, row) in file.choices.into_iter().enumerate() {
            let at = format!("choices[{number}]");
            let names = row.operation.dimensions();
            if let Some(other) = row.shape.keys().find(|name| !names.contains(&name.as_str())) {
                let detail = format!("{at}.shape.{other}: {} has {}", row.operation.name(), names.join(", "));
                return Err(wrong(detail));
            }
            let mut shape = Vec::new();
            for name in names {
                match row.shape.get(*name) {
                    Some(value) if *value > 0 || name.starts_with("padding") => shape.push(*value),
                    Some(_) => return Err(wrong(format!("{at}.shape.{name}: must be at least 1"))),
                    None => return Err(wrong(format!("{at}.shape.{name}: is missing"))),
                }
            }
            let key = Key { operation: row.operation, shape };
            let Row { family, direct_ms, tiled_ms, subgroup_ms, cooperative_ms, .. } = row;
            if !family.has(&key) {
                return Err(wrong(format!("{at}.family: there is no {family} kernel for {key}")));
            }
            choices.push(Measured { key, family, direct_ms, tiled_ms, subgroup_ms, cooperative_ms });
        }
        let File { adapter, measured, otherwise, .. } = file;
        Ok(Tuning { adapter, measured, otherwise, choices })
    }

    /// The table as text.
    pub fn to_json(&self) -> String {
        let row = |measured: &Measured| Row {
            operation: measured.key.operation,
            shape: measured
                .key
                .operation
                .dimensions()
                .iter()
                .zip(&measured.key.shape)
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect(),
            family: measured.family,
            direct_ms: measured.direct_ms,
            tiled_ms: measured.tiled_ms,
            subgroup_ms: measured.subgroup_ms,
            cooperative_ms: measured.cooperative_ms,
        };
        let file = File {
            format: FORMAT,
            adapter: self.adapter.clone(),
            measured: self.measured.clone(),
            otherwise: self.otherwise,
            choices: self.choices.iter().map(row).collect(),
        };
        // A struct of plain values always serializes.
        let mut text = serde_json::to_string_pretty(&file).unwrap_or_default();
        text.push('\n');
        text
    }
}

fn name_of(path: &Path) -> String {
    format!("tuning table {}", path.display())
}
