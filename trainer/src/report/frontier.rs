//! The files of a frontier: a table as CSV and JSON, and a plot as SVG.

use super::plot::{Figure, Panel, Series};
use crate::eval::figures::FIGURES;
use crate::eval::frontier::{Point, WAYS};
use crate::io::files::Kind;
use duet::Result;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Names of all files.
pub const FILES: [&str; 3] = ["frontier.json", "frontier.csv", "frontier.svg"];
/// What lies across the plot.
const AMOUNT: &str = "mean_change";
/// What lies up in each of its panels.
const PANELS: [(&str, &str); 3] = [
    ("judge_probability", "judge's mean probability of the target"),
    ("judge_agrees", "share that the judge calls the target"),
    ("reached", "share that reaches the target"),
];
/// A colour for each way.
const COLOURS: [&str; WAYS.len()] = ["#2d5fd0", "#1f9d8b", "#c2622a", "#d3961c", "#8a3ffc", "#5b6472"];

/// All that is known so far.
pub struct FrontierFiles {
    /// Folder.
    pub out: PathBuf,
    /// What was asked for, as JSON.
    pub settings: Value,
    /// Way after way, each from its smallest strength to its largest.
    pub points: Vec<Point>,
}

impl FrontierFiles {
    /// Writes everything anew, each file as a whole.
    ///
    /// # Errors
    /// [`duet::Error`] naming a file that cannot be written.
    pub fn write(&self) -> Result<()> {
        let contents = [format!("{:#}\n", self.json()), self.table(), self.figure().svg()];
        let write = |(name, text): (&str, String)| Kind::Table.write(&self.out.join(name), text.as_bytes());
        FILES.into_iter().zip(contents).try_for_each(write)
    }

    /// All numbers.
    pub fn json(&self) -> Value {
        let ways: Vec<Value> =
            WAYS.iter().map(|way| json!({ "name": way.name, "words": way.words })).collect();
        let points: Vec<Value> = self.points.iter().map(Point::json).collect();
        json!({ "settings": self.settings, "ways": ways, "points": points })
    }

    /// A line a point: each figure with its standard error. What has none is empty.
    fn table(&self) -> String {
        let names = FIGURES.iter().map(|figure| format!(",{0},{0}_error", figure.key));
        let mut table = format!("way,strength,images{},seconds_per_image\n", names.collect::<String>());
        for point in &self.points {
            let images = point.mean(AMOUNT).map_or(0, |mean| mean.count);
            table += &format!("{},{},{images}", point.way.name, point.strength);
            for mean in &point.means {
                let cell = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
                let (value, error) = (mean.map(|mean| mean.mean), mean.and_then(|mean| mean.standard_error));
                table += &format!(",{},{}", cell(value), cell(error));
            }
            table += &format!(",{}\n", point.seconds);
        }
        table
    }

    fn figure(&self) -> Figure {
        let amount = |point: &Point| point.mean(AMOUNT).map_or(f64::NAN, |mean| mean.mean);
        let most = self.points.iter().map(amount).fold(0.0, f64::max);
        let panel = |(key, title): (&str, &str)| {
            let series = WAYS.iter().zip(COLOURS).filter_map(|(way, colour)| {
                let of_way = self.points.iter().filter(|point| point.way.name == way.name);
                let place =
                    |point: &Point| [amount(point), point.mean(key).map_or(f64::NAN, |mean| mean.mean)];
                let points: Vec<[f64; 2]> = of_way.map(place).collect();
                (!points.is_empty()).then(|| Series {
                    name: way.words.to_owned(),
                    points,
                    colour: colour.to_owned(),
                    dashed: false,
                    dots: true,
                })
            });
            Panel { title: title.to_owned(), series: series.collect() }
        };
        Figure {
            title: "What a judge that never guides makes of how much change".into(),
            x_label: "mean |Δ| of a value, as a share of its range".into(),
            // A little room behind the last point.
            x: [0.0, if most > 0.0 { 1.05 * most } else { 1.0 }],
            y: [0.0, 1.0],
            columns: PANELS.len(),
            size: [280.0, 240.0],
            panels: PANELS.map(panel).into_iter().collect(),
        }
    }
}
