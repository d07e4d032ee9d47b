//! The files of a comparison of solvers: tables as CSV, JSON and Markdown, a plot as SVG, a picture as PNG.

use super::plot::{Figure as Plot, Panel, Series, rising};
use crate::eval::solvers::{FIGURES, Figure, Found, Row};
use crate::io::files::Kind;
use crate::io::render::Grid;
use crate::metrics::statistics::Mean;
use duet::Result;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Names of all files.
pub const FILES: [&str; 5] =
    ["solvers.json", "solvers.csv", "solvers.md", "solvers_probability.svg", "solvers.png"];
/// Images in a row of the picture, about.
const ROW: usize = 20;
/// What the row of real images is called.
const REAL: &str = "other test images";

/// All that is known so far.
pub struct SolverFiles {
    /// Folder.
    pub out: PathBuf,
    /// What was asked for, as JSON.
    pub settings: Value,
    /// The same in a sentence, for the table that people read.
    pub words: String,
    /// Class of each image of a row.
    pub labels: Vec<usize>,
    /// What is found of other real images.
    pub reference: Option<Found>,
    /// How images are drawn.
    pub grid: Grid,
    /// The entries, in the order they were given.
    pub rows: Vec<Row>,
}

/// "0.912 ± 0.004".
fn cell(mean: Option<Mean>, digits: usize, sign: bool) -> String {
    let Some(Mean { mean, standard_error, .. }) = mean else { return "–".into() };
    let error = standard_error.map_or(String::new(), |error| format!(" ± {error:.digits$}"));
    // A minus as it is printed, of the same width as a plus.
    let number = format!("{:.digits$}", mean.abs());
    let mark = match (mean < 0.0 && number.contains(|c| ('1'..='9').contains(&c)), sign) {
        (true, _) => "−",
        (false, true) => "+",
        (false, false) => "",
    };
    format!("{mark}{number}{error}")
}

/// A line of a Markdown table.
fn line(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().collect();
    format!("| {} |\n", cells.join(" | "))
}

impl SolverFiles {
    /// Writes everything anew, each file as a whole.
    ///
    /// # Errors
    /// [`duet::Error`] naming a file that cannot be written.
    pub fn write(&self) -> Result<()> {
        let [json, csv, markdown, plot, picture] = FILES.map(|name| self.out.join(name));
        Kind::Table.write(&json, format!("{:#}\n", self.json()).as_bytes())?;
        Kind::Table.write(&csv, self.table().as_bytes())?;
        Kind::Table.write(&markdown, self.markdown().as_bytes())?;
        Kind::Table.write(&plot, self.plot().svg().as_bytes())?;
        // The font of pictures has no Greek.
        let names = self.rows.iter().map(|row| row.entry.words().replace('η', "eta"));
        let names: Vec<String> = names.collect();
        self.grid.save_rows(&picture, &self.pictures(), &names)
    }

    /// The first images of each class, the same noise in each column.
    fn pictures(&self) -> Vec<Vec<f32>> {
        let mut classes = self.labels.clone();
        classes.dedup();
        let each = (ROW / classes.len().max(1)).max(1);
        let rank = |i: usize| self.labels[..i].iter().rev().take_while(|l| **l == self.labels[i]).count();
        let chosen: Vec<usize> = (0..self.labels.len()).filter(|i| rank(*i) < each).collect();
        let len = self.grid.channels * self.grid.size * self.grid.size;
        let of = |row: &Row| chosen.iter().flat_map(|i| &row.images[i * len..][..len]).copied().collect();
        self.rows.iter().map(of).collect()
    }

    /// The figures that there are: without a judge none of its own.
    fn figures(&self) -> impl Iterator<Item = &'static Figure> {
        FIGURES.iter().filter(|figure| self.rows.first().is_some_and(|row| row.mean(figure).is_some()))
    }

    /// How long an image takes, of the first row's time.
    fn time(&self, row: &Row) -> f64 {
        row.seconds / self.rows.first().map_or(row.seconds, |first| first.seconds)
    }

    /// All numbers.
    pub fn json(&self) -> Value {
        let means = |mean: &dyn Fn(&Figure) -> Option<Mean>| -> Value {
            let each = self.figures().map(|figure| (figure.key.to_owned(), json!(mean(figure))));
            Value::Object(each.collect::<Map<_, _>>())
        };
        let rows = self.rows.iter().enumerate().map(|(number, row)| {
            let first = self.rows.first().filter(|_| number > 0);
            json!({
                "solver": row.entry.name, "eta": row.entry.eta, "steps": row.entry.steps, "words": row.entry.words(),
                "figures": means(&|figure| row.mean(figure)),
                "over_first": first.map(|first| means(&|figure| row.over(first, figure))),
                "seeds": row.seeds, "probability": row.curve, "timesteps": row.timesteps,
                "seconds_per_image": row.seconds, "time_of_first": self.time(row),
            })
        });
        let rows: Vec<Value> = rows.collect();
        json!({ "settings": self.settings, "solvers": rows, "other_test_images": self.reference })
    }

    /// A line a solver: each figure with its standard error. What has none is empty.
    fn table(&self) -> String {
        let names: String = self.figures().map(|figure| format!(",{0},{0}_error", figure.key)).collect();
        let mut table = format!("solver,eta,steps,seeds,images{names},seconds_per_image,time_of_first\n");
        let cell = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        for row in &self.rows {
            let (entry, seeds) = (&row.entry, row.seeds.len());
            let images: usize = row.seeds.iter().map(|found| found.images).sum();
            table += &format!("{},{},{},{seeds},{images}", entry.name, cell(entry.eta), entry.steps);
            for figure in self.figures() {
                let mean = row.mean(figure);
                let error = mean.and_then(|mean| mean.standard_error);
                table += &format!(",{},{}", cell(mean.map(|mean| mean.mean)), cell(error));
            }
            table += &format!(",{},{}\n", row.seconds, self.time(row));
        }
        if let Some(reference) = &self.reference {
            table += &format!("{REAL},,,,{}", reference.images);
            for figure in self.figures() {
                table += &format!(",{},", cell((figure.of)(reference)));
            }
            table += ",,\n";
        }
        table
    }

    /// What people read: the figures, then how much each is more than the first solver's on the same noise.
    pub fn markdown(&self) -> String {
        let head = |first: &str, last: Option<&str>| {
            let titles = self.figures().map(|figure| figure.title.to_owned());
            let cells: Vec<String> =
                std::iter::once(first.to_owned()).chain(titles).chain(last.map(str::to_owned)).collect();
            let rule = line(cells.iter().map(|_| "---".to_owned()));
            line(cells) + &rule.replace(' ', "")
        };
        let mut text = head("solver", Some("time"));
        for row in &self.rows {
            let figures = self.figures().map(|figure| cell(row.mean(figure), figure.digits, false));
            let time = format!("{:.2}", self.time(row));
            text += &line(std::iter::once(row.entry.words()).chain(figures).chain([time]));
        }
        if let Some(reference) = &self.reference {
            let alone = |figure: &Figure| {
                let mean = (figure.of)(reference)?;
                Some(Mean { mean, standard_error: None, count: 1 })
            };
            let figures = self.figures().map(|figure| cell(alone(figure), figure.digits, false));
            text += &line(std::iter::once(REAL.to_owned()).chain(figures).chain(["–".to_owned()]));
        }
        if let [first, others @ ..] = self.rows.as_slice()
            && !others.is_empty()
        {
            text += "\n";
            text += &head(&format!("more than {}", first.entry.words()), None);
            for row in others {
                let figures = self.figures().map(|figure| cell(row.over(first, figure), figure.digits, true));
                text += &line(std::iter::once(row.entry.words()).chain(figures));
            }
        }
        text + "\n" + &self.words + "\n"
    }

    fn plot(&self) -> Plot {
        let last = self.rows.len().saturating_sub(1).max(1) as f64;
        let series = |(number, row): (usize, &Row)| {
            let steps = row.curve.len().saturating_sub(1).max(1) as f64;
            let points = row.curve.iter().enumerate().map(|(step, p)| [step as f64 / steps, *p]);
            Series {
                name: row.entry.words(),
                points: points.collect(),
                colour: rising(number as f64 / last),
                dashed: false,
                dots: true,
            }
        };
        Plot {
            title: "Probability of the wanted class along the chain".into(),
            x_label: "share of the steps done, from noise to image".into(),
            x: [0.0, 1.0],
            y: [0.0, 1.0],
            columns: 1,
            size: [560.0, 240.0],
            panels: vec![Panel {
                title: "mean of all classes".into(),
                series: self.rows.iter().enumerate().map(series).collect(),
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_say_how_sure_a_number_is() {
        let of = |mean, standard_error| Some(Mean { mean, standard_error, count: 3 });
        assert_eq!(cell(of(0.9123, Some(0.0049)), 3, false), "0.912 ± 0.005");
        assert_eq!(cell(of(12.34, None), 1, true), "+12.3");
        assert_eq!(cell(of(-0.0123, Some(0.01)), 3, true), "−0.012 ± 0.010");
        assert_eq!(cell(of(-0.0001, None), 3, true), "+0.000", "nothing has no sign of its own");
        assert_eq!(cell(None, 3, true), "–");
    }
}
