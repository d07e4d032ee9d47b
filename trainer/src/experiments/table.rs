//! An experiment's table: figures of several seeds with their spread, beside the paper's, and everything they depend on.

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A share, as percent with one decimal.
    Percent,
    /// With so many decimals.
    Decimals(u8),
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Unit::Percent => format!("{:.1}", 100.0 * value),
            Unit::Decimals(decimals) => format!("{value:.*}", usize::from(decimals)),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Unit::Percent => ", %",
            Unit::Decimals(_) => "",
        }
    }
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// What it is called.
    pub name: String,
    /// How it is written.
    pub unit: Unit,
}

impl Column {
    /// A share.
    pub fn percent(name: impl Into<String>) -> Column {
        Column { name: name.into(), unit: Unit::Percent }
    }

    /// A number with so many decimals.
    pub fn number(name: impl Into<String>, decimals: u8) -> Column {
        Column { name: name.into(), unit: Unit::Decimals(decimals) }
    }
}

/// One figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Of each seed; none where there is nothing to measure.
    pub values: Vec<f64>,
    /// The paper's, in the column's own unit (a share for percent). Only of the same data, whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paper: Option<f64>,
}

impl Cell {
    /// Of seeds.
    pub fn of(values: Vec<f64>) -> Cell {
        Cell { values, paper: None }
    }

    /// With the paper's figure, in percent as the paper has it.
    pub fn beside(self, percent: f64) -> Cell {
        Cell { paper: Some(percent / 100.0), ..self }
    }

    /// What this is more than another, seed by seed.
    pub fn minus(&self, other: &Cell) -> Cell {
        Cell::of(self.values.iter().zip(&other.values).map(|(a, b)| a - b).collect())
    }

    /// Mean over the seeds.
    pub fn mean(&self) -> Option<f64> {
        (!self.values.is_empty()).then(|| self.values.iter().sum::<f64>() / self.values.len() as f64)
    }

    /// Sample standard deviation over two seeds or more.
    pub fn spread(&self) -> Option<f64> {
        let mean = self.mean().filter(|_| self.values.len() > 1)?;
        let squares: f64 = self.values.iter().map(|value| (value - mean).powi(2)).sum();
        Some((squares / (self.values.len() - 1) as f64).sqrt())
    }

    fn text(&self, unit: Unit) -> String {
        let mean = self.mean().map_or("–".into(), |mean| unit.text(mean));
        self.spread().map_or(mean.clone(), |spread| format!("{mean} ± {}", unit.text(spread)))
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// A figure for each column.
    pub cells: Vec<Cell>,
}

impl Row {
    /// A row of figures.
    pub fn new(name: impl Into<String>, cells: Vec<Cell>) -> Row {
        Row { name: name.into(), cells }
    }
}

/// A table, and what its figures depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Its file's name without an ending.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// Above the rows' names.
    pub head: String,
    /// What is measured.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Row>,
    /// Scale, data, seeds and whatever else the figures depend on, with their names.
    pub facts: Vec<(String, String)>,
    /// What a reader has to know.
    pub notes: Vec<String>,
    /// Pictures beside it: what they show, and their files in the experiment's folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<(String, String)>,
}

impl Table {
    /// Names of the columns and text of the rows; the paper's figures stand in columns of their own.
    pub fn texts(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let with_paper: Vec<bool> = (0..self.columns.len())
            .map(|c| self.rows.iter().any(|row| row.cells.get(c).is_some_and(|cell| cell.paper.is_some())))
            .collect();
        let mut heads = vec![self.head.clone()];
        for (column, paper) in self.columns.iter().zip(&with_paper) {
            heads.push(format!("{}{}", column.name, column.unit.name()));
            if *paper {
                heads.push("paper".into());
            }
        }
        let rows = self.rows.iter().map(|row| {
            let mut texts = vec![row.name.clone()];
            for ((column, paper), cell) in self.columns.iter().zip(&with_paper).zip(&row.cells) {
                texts.push(cell.text(column.unit));
                if *paper {
                    texts.push(cell.paper.map_or("–".into(), |value| column.unit.text(value)));
                }
            }
            texts
        });
        (heads, rows.collect())
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let (heads, rows) = self.texts();
        let width = |c: usize| {
            let cells = rows.iter().filter_map(|row| row.get(c)).chain(heads.get(c));
            cells.map(|text| text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let line = |cells: &[String]| {
            let cells = cells.iter().zip(&widths).enumerate().map(|(c, (text, width))| {
                if c == 0 { format!("{text:<width$}") } else { format!("{text:>width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let mut text = format!("{}\n\n{}\n", self.title, line(&heads));
        for row in &rows {
            let _ = writeln!(text, "{}", line(row));
        }
        text.push('\n');
        for (name, fact) in &self.facts {
            let _ = writeln!(text, "{name}: {fact}");
        }
        self.notes.iter().for_each(|note| {
            let _ = writeln!(text, "- {note}");
        });
        text
    }

    /// For a README.
    pub fn markdown(&self) -> String {
        let (heads, rows) = self.texts();
        let cell = |text: &String| text.replace('|', "\\|");
        let line =
            |cells: &[String]| format!("| {} |\n", cells.iter().map(cell).collect::<Vec<_>>().join(" | "));
        let mut text = format!("## {}\n\n{}", self.title, line(&heads));
        let rules = (0..heads.len()).map(|c| if c == 0 { "---" } else { "---:" });
        let _ = writeln!(text, "| {} |", rules.collect::<Vec<_>>().join(" | "));
        rows.iter().for_each(|row| text.push_str(&line(row)));
        text.push('\n');
        for (name, fact) in &self.facts {
            let _ = writeln!(text, "- {name}: {fact}");
        }
        self.notes.iter().for_each(|note| {
            let _ = writeln!(text, "- {note}");
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_their_spread_and_the_paper_s_stand_apart() {
        let table = Table {
            name: "t".into(),
            title: "A table".into(),
            head: "model".into(),
            columns: vec![Column::percent("right"), Column::number("noise error", 3)],
            rows: vec![
                Row::new(
                    "one | two",
                    vec![Cell::of(vec![0.9, 0.92, 0.94]).beside(95.5), Cell::of(vec![0.25])],
                ),
                Row::new("other", vec![Cell::of(vec![0.5]), Cell::default()]),
            ],
            facts: vec![("seeds".into(), "3".into())],
            notes: vec!["a note".into()],
            pictures: Vec::new(),
        };
        let (heads, rows) = table.texts();
        assert_eq!(heads, ["model", "right, %", "paper", "noise error"]);
        assert_eq!(rows[0], ["one | two", "92.0 ± 2.0", "95.5", "0.250"]);
        assert_eq!(rows[1], ["other", "50.0", "–", "–"]);
        let text = table.text();
        assert!(text.contains("one | two  92.0 ± 2.0   95.5        0.250\n"), "{text}");
        let markdown = table.markdown();
        assert!(
            markdown.contains("| --- | ---: | ---: | ---: |\n| one \\| two | 92.0 ± 2.0 |"),
            "{markdown}"
        );
        assert!(markdown.ends_with("- seeds: 3\n- a note\n"), "{markdown}");
        let written = serde_json::to_string(&table).unwrap();
        assert_eq!(serde_json::from_str::<Table>(&written).unwrap(), table);
    }
}
