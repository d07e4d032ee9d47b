//! Rows of a part's images, column by column.

use crate::data::Array;
use duet::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;

/// What a column holds of its rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    Bytes(Vec<u8>),
    /// A value of JSON for each row.
    Rows(Vec<Value>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::F64(values) => values.len(),
            Values::I64(values) => values.len(),
            Values::Bytes(values) => values.len(),
            Values::Rows(values) => values.len(),
        }
    }

    /// Adds those of the next part; `false` where they are of another kind.
    fn append(&mut self, other: Values) -> bool {
        match (self, other) {
            (Values::F32(all), Values::F32(more)) => all.extend(more),
            (Values::F64(all), Values::F64(more)) => all.extend(more),
            (Values::I64(all), Values::I64(more)) => all.extend(more),
            (Values::Bytes(all), Values::Bytes(more)) => all.extend(more),
            (Values::Rows(all), Values::Rows(more)) => all.extend(more),
            _ => return false,
        }
        true
    }
}

/// A column: `width` values of each row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    pub width: usize,
    pub values: Values,
}

impl Column {
    /// As an array of a file: \[rows,width\], of JSON its text.
    pub fn array(&self, rows: usize) -> Result<Array> {
        let shape = [rows, self.width];
        Ok(match &self.values {
            Values::F32(values) => Array::of_f32(&shape, values),
            Values::F64(values) => Array::of_f64(&shape, values),
            Values::I64(values) => Array::of_labels(&shape, values),
            Values::Bytes(values) => Array::of_bytes(&shape, values.clone()),
            Values::Rows(values) => {
                let text =
                    serde_json::to_vec(values).map_err(|error| Error::config("json", error.to_string()))?;
                Array::of_bytes(&[text.len()], text)
            }
        })
    }

    /// Of an array of a file, `json` where it is a text.
    ///
    /// # Errors
    /// In words: an array of another type or shape.
    pub fn of(array: &Array, rows: usize, json: bool) -> std::result::Result<Column, String> {
        let kind = array.header.kind.as_str();
        if json {
            let [_] = array.header.shape[..] else {
                return Err(format!("has the shape {:?}", array.header.shape));
            };
            let values: Vec<Value> =
                serde_json::from_slice(&array.bytes).map_err(|error| error.to_string())?;
            if kind != "|u1" || values.len() != rows {
                return Err(format!(
                    "holds {} rows of the type {kind:?}, not {rows} of \"|u1\"",
                    values.len()
                ));
            }
            return Ok(Column { width: 1, values: Values::Rows(values) });
        }
        let &[there, width] = array.header.shape.as_slice() else {
            return Err(format!("has the shape {:?}; a table has two sides", array.header.shape));
        };
        if there != rows {
            return Err(format!("holds {there} rows, not {rows}"));
        }
        let values = match kind {
            "<f4" => Values::F32(words(&array.bytes).map(f32::from_le_bytes).collect()),
            "<f8" => Values::F64(words(&array.bytes).map(f64::from_le_bytes).collect()),
            "<i8" => Values::I64(words(&array.bytes).map(i64::from_le_bytes).collect()),
            "|u1" => Values::Bytes(array.bytes.clone()),
            _ => return Err(format!("is of the type {kind:?}")),
        };
        Ok(Column { width, values })
    }
}

/// Bytes as numbers of `N` bytes.
fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// Columns of rows that lie side by side among all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub(super) total: usize,
    pub(super) range: Range<usize>,
    pub(super) columns: BTreeMap<String, Column>,
}

fn wrong(name: &str, detail: impl std::fmt::Display) -> Error {
    Error::config("shard", format!("the column {name:?} {detail}"))
}

impl Table {
    /// Rows `range` of `total`, without columns yet.
    pub fn new(total: usize, range: Range<usize>) -> Table {
        Table { total, range, columns: BTreeMap::new() }
    }

    /// Rows there are of all parts.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Rows that it has.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Whether there is a column of this name.
    pub fn has(&self, name: &str) -> bool {
        self.columns.contains_key(name)
    }

    fn with(mut self, name: &str, values: Values) -> Result<Table> {
        let (rows, len) = (self.len(), values.len());
        if !len.is_multiple_of(rows.max(1)) || (rows == 0 && len > 0) {
            return Err(wrong(name, format!("has {len} values of {rows} rows")));
        }
        self.columns.insert(name.to_owned(), Column { width: len / rows.max(1), values });
        Ok(self)
    }

    /// Adds a column \[rows,width\].
    ///
    /// # Errors
    /// [`Error::Config`] for no whole rows.
    pub fn with_f32(self, name: &str, values: Vec<f32>) -> Result<Table> {
        self.with(name, Values::F32(values))
    }

    /// As [`Table::with_f32`].
    ///
    /// # Errors
    /// As it.
    pub fn with_f64(self, name: &str, values: Vec<f64>) -> Result<Table> {
        self.with(name, Values::F64(values))
    }

    /// As [`Table::with_f32`].
    ///
    /// # Errors
    /// As it.
    pub fn with_whole(self, name: &str, values: Vec<i64>) -> Result<Table> {
        self.with(name, Values::I64(values))
    }

    /// As [`Table::with_f32`].
    ///
    /// # Errors
    /// As it.
    pub fn with_bytes(self, name: &str, values: Vec<u8>) -> Result<Table> {
        self.with(name, Values::Bytes(values))
    }

    /// Adds a column of one value of any kind for each row, which a file holds as JSON; `f64` and `f32` come back as the same bits.
    ///
    /// # Errors
    /// [`Error::Config`] for more or fewer than one, or what is no JSON.
    pub fn with_rows<T: Serialize>(self, name: &str, values: &[T]) -> Result<Table> {
        if values.len() != self.len() {
            return Err(wrong(name, format!("has {} values of {} rows", values.len(), self.len())));
        }
        let values = values.iter().map(serde_json::to_value).collect::<std::result::Result<_, _>>();
        self.with(name, Values::Rows(values.map_err(|error| wrong(name, error))?))
    }

    fn take(&mut self, name: &str) -> Result<Column> {
        match self.columns.remove(name) {
            Some(column) => Ok(column),
            // A table without rows was never asked what its columns are.
            None if self.is_empty() => Ok(Column { width: 0, values: Values::Rows(Vec::new()) }),
            None => Err(wrong(name, "is missing")),
        }
    }

    /// The column that `of` knows, and the width of a row; one without rows is of any kind.
    fn numbers<T>(
        &mut self,
        name: &str,
        kind: &str,
        of: impl FnOnce(Values) -> Option<Vec<T>>,
    ) -> Result<(Vec<T>, usize)> {
        let Column { values, width } = self.take(name)?;
        let is_empty = values.len() == 0;
        match of(values) {
            Some(values) => Ok((values, width)),
            None if is_empty => Ok((Vec::new(), 0)),
            None => Err(wrong(name, format!("holds no {kind}"))),
        }
    }

    /// Takes a column out: its values and the width of a row.
    ///
    /// # Errors
    /// [`Error::Config`] for one that is missing or of another kind.
    pub fn f32s(&mut self, name: &str) -> Result<(Vec<f32>, usize)> {
        self.numbers(name, "numbers of 32 bits", |values| match values {
            Values::F32(values) => Some(values),
            _ => None,
        })
    }

    /// As [`Table::f32s`].
    ///
    /// # Errors
    /// As it.
    pub fn f64s(&mut self, name: &str) -> Result<(Vec<f64>, usize)> {
        self.numbers(name, "numbers of 64 bits", |values| match values {
            Values::F64(values) => Some(values),
            _ => None,
        })
    }

    /// As [`Table::f32s`].
    ///
    /// # Errors
    /// As it.
    pub fn whole(&mut self, name: &str) -> Result<(Vec<i64>, usize)> {
        self.numbers(name, "whole numbers", |values| match values {
            Values::I64(values) => Some(values),
            _ => None,
        })
    }

    /// As [`Table::f32s`].
    ///
    /// # Errors
    /// As it.
    pub fn bytes(&mut self, name: &str) -> Result<(Vec<u8>, usize)> {
        self.numbers(name, "bytes", |values| match values {
            Values::Bytes(values) => Some(values),
            _ => None,
        })
    }

    /// Takes a column of [`Table::with_rows`] out.
    ///
    /// # Errors
    /// [`Error::Config`] for one that is missing or holds something else.
    pub fn rows<T: DeserializeOwned>(&mut self, name: &str) -> Result<Vec<T>> {
        match self.take(name)? {
            Column { values: Values::Rows(values), .. } => {
                let values =
                    values.into_iter().map(serde_json::from_value).collect::<std::result::Result<_, _>>();
                values.map_err(|error| wrong(name, format!("holds what it should not: {error}")))
            }
            _ => Err(wrong(name, "holds no rows of JSON")),
        }
    }

    /// Adds the rows that follow.
    ///
    /// # Errors
    /// In words: rows that do not follow, or other columns.
    pub(super) fn append(&mut self, next: Table) -> std::result::Result<(), String> {
        if (self.total, self.range.end) != (next.total, next.range.start) {
            return Err(format!(
                "rows {:?} of {} do not follow rows {:?} of {}",
                next.range, next.total, self.range, self.total
            ));
        }
        self.range.end = next.range.end;
        if next.is_empty() {
            return Ok(());
        }
        if self.range.start == next.range.start {
            self.columns = next.columns;
            return Ok(());
        }
        if !self.columns.keys().eq(next.columns.keys()) {
            return Err("its columns are not those of the parts before".into());
        }
        for ((name, all), (_, more)) in self.columns.iter_mut().zip(next.columns) {
            if all.width != more.width || !all.values.append(more.values) {
                return Err(format!("its column {name:?} is not of the kind of the parts before"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(range: Range<usize>) -> Table {
        let numbers = || range.clone().map(|row| row as f64);
        let pairs = numbers().flat_map(|row| [row as f32, 0.1]).collect();
        Table::new(5, range.clone())
            .with_f32("pairs", pairs)
            .and_then(|table| table.with_f64("thirds", numbers().map(|row| row / 3.0).collect()))
            .and_then(|table| {
                table.with_rows("texts", &numbers().map(|row| row.to_string()).collect::<Vec<_>>())
            })
            .unwrap()
    }

    #[test]
    fn parts_that_follow_each_other_are_the_whole() {
        let mut joined = table(0..0);
        for part in [0..2, 2..2, 2..3, 3..5] {
            joined.append(table(part)).unwrap();
        }
        assert_eq!(joined, table(0..5));
        assert_eq!(joined.f32s("pairs").unwrap(), (table(0..5).f32s("pairs").unwrap().0, 2));
        assert_eq!(joined.rows::<String>("texts").unwrap()[4], "4");
        assert!(joined.f32s("pairs").unwrap_err().to_string().contains("missing"));
        assert!(joined.f32s("thirds").unwrap_err().to_string().contains("32 bits"));
        let mut first = table(0..2);
        assert!(first.append(table(3..5)).unwrap_err().contains("do not follow"));
        let other = Table::new(5, 2..3).with_f32("pairs", vec![1.0]).unwrap();
        assert!(table(0..2).append(other).unwrap_err().contains("columns"));
        let mut wide = table(2..3);
        wide.columns.insert("pairs".into(), Column { width: 1, values: Values::F32(vec![0.0]) });
        assert!(table(0..2).append(wide).unwrap_err().contains("\"pairs\""));
    }

    #[test]
    fn a_column_is_an_array_and_back() {
        let all = table(0..5);
        for (name, column) in &all.columns {
            let json = matches!(column.values, Values::Rows(_));
            let array = column.array(5).unwrap();
            assert_eq!(&Column::of(&array, 5, json).unwrap(), column, "{name}");
            assert!(Column::of(&array, 4, json).is_err(), "{name}");
            assert!(Column::of(&array, 5, !json).is_err(), "{name}");
        }
        assert!(Table::new(3, 0..3).with_f32("x", vec![0.0; 4]).is_err());
        assert!(Table::new(3, 0..0).with_f32("x", vec![0.0]).is_err());
        assert!(Table::new(3, 0..3).with_rows("x", &[1]).is_err());
    }
}
