//! What a command knows after its rows were computed, of all images or of a part.

use super::table::Table;
use duet::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Rows of images, and what figures need beside them, which is the same in all parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// What figures need beside the rows.
    pub(super) facts: Map<String, Value>,
    pub(super) tables: BTreeMap<String, Table>,
}

impl Part {
    /// Notes a fact.
    ///
    /// # Errors
    /// [`Error::Config`] for what is no JSON.
    pub fn state(&mut self, name: &str, value: impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value)
            .map_err(|error| Error::config("shard", format!("{name}: {error}")))?;
        self.facts.insert(name.to_owned(), value);
        Ok(())
    }

    /// A fact.
    ///
    /// # Errors
    /// [`Error::Config`] for one that is missing or of another kind.
    pub fn fact<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let value = self.facts.get(name).cloned().unwrap_or(Value::Null);
        serde_json::from_value(value)
            .map_err(|error| Error::config("shard", format!("what it says of {name:?}: {error}")))
    }

    /// Puts a table in.
    pub fn put(&mut self, name: &str, table: Table) {
        self.tables.insert(name.to_owned(), table);
    }

    /// Whether there is a table of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }

    /// Takes a table out.
    ///
    /// # Errors
    /// [`Error::Config`] for one that is missing.
    pub fn take(&mut self, name: &str) -> Result<Table> {
        self.tables
            .remove(name)
            .ok_or_else(|| Error::config("shard", format!("the table {name:?} is missing")))
    }
}
