//! Probes by timestep as a table (CSV) and as a picture (SVG).

use super::plot::{Figure, Panel, Series, rising};
use crate::eval::probes::{Row, Table, Told};
use std::fmt::Write as _;

/// Classes or labels whose lines one panel shows; of more each has a panel.
const LINES: usize = 10;
/// Colour of the mean.
const MEAN: &str = "#1f2530";

/// A field of CSV (RFC 4180).
fn field(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// The table as CSV: a line for each timestep with the accuracy, the balanced one, and the accuracy of each class; of labels each one's
/// accuracy, balanced accuracy and AUROC. What there is no value of is empty.
pub fn csv(table: &Table) -> String {
    let mut out = String::from("timestep,accuracy,balanced_accuracy");
    let endings: &[&str] = if table.labels { &[" accuracy", " balanced", " AUROC"] } else { &[""] };
    for name in &table.names {
        for ending in endings {
            let _ = write!(out, ",{}", field(&format!("{name}{ending}")));
        }
    }
    out.push('\n');
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.6}"));
    for row in &table.rows {
        let _ = write!(out, "{},{:.6},{}", row.timestep, row.accuracy, number(row.balanced));
        for told in &row.told {
            let values = [told.accuracy, told.balanced, told.auroc];
            for value in values.iter().take(endings.len()) {
                let _ = write!(out, ",{}", number(*value));
            }
        }
        out.push('\n');
    }
    out
}

/// The picture: timesteps from left to right, upwards the accuracy in percent, of labels the balanced one, which chance has at 50.
pub fn figure(table: &Table) -> Figure {
    let points = |value: &dyn Fn(&Row) -> Option<f64>| {
        let rows = table.rows.iter();
        rows.filter_map(|row| Some([row.timestep as f64, 100.0 * value(row)?])).collect::<Vec<_>>()
    };
    let of = |told: &Told| if table.labels { told.balanced } else { told.accuracy };
    let line = |(k, name): (usize, &String)| Series {
        name: name.clone(),
        points: points(&|row| row.told.get(k).and_then(of)),
        colour: rising(k as f64 / (table.names.len().max(2) - 1) as f64),
        dashed: false,
        dots: true,
    };
    let mean = Series {
        name: "mean".into(),
        points: points(&|row| row.balanced),
        colour: MEAN.into(),
        dashed: true,
        dots: false,
    };
    let lines = table.names.iter().enumerate().map(line);
    let many = table.names.len() > LINES;
    let panels = match many {
        false => vec![Panel { title: String::new(), series: lines.chain([mean]).collect() }],
        true => {
            let panel = |line: Series| {
                let (title, own) = (line.name.clone(), if table.labels { "label" } else { "class" });
                let line = Series { name: own.into(), colour: rising(0.2), ..line };
                Panel { title, series: vec![mean.clone(), line] }
            };
            lines.map(panel).collect()
        }
    };
    let what = if table.labels { "balanced accuracy of each label" } else { "accuracy of each class" };
    let last = table.rows.iter().map(|row| row.timestep).max().unwrap_or(1);
    Figure {
        title: format!("Linear probes by timestep: {what}, %"),
        x_label: "timestep".into(),
        x: [0.0, last as f64],
        y: [if table.labels { 40.0 } else { 0.0 }, 100.0],
        columns: if many { 4 } else { 1 },
        size: if many { [190.0, 110.0] } else { [560.0, 320.0] },
        panels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(names: usize, labels: bool) -> Table {
        let told = |accuracy, auroc| Told { accuracy, balanced: auroc, auroc, strength: 1.0 };
        let row = |timestep, accuracy: f64| Row {
            timestep,
            accuracy,
            balanced: Some(0.25),
            told: [told(Some(accuracy), None), told(None, Some(0.75))].repeat(names / 2),
        };
        let names = ["T-shirt, top", "a \"b\""].repeat(names / 2).into_iter().map(str::to_owned).collect();
        Table { names, labels, images: [1; 3], rows: vec![row(0, 1.0), row(100, 0.5)] }
    }

    #[test]
    fn a_table_is_lines_by_timestep() {
        let head = "timestep,accuracy,balanced_accuracy,\"T-shirt, top\",\"a \"\"b\"\"\"\n";
        let lines = "0,1.000000,0.250000,1.000000,\n100,0.500000,0.250000,0.500000,\n";
        assert_eq!(csv(&table(2, false)), format!("{head}{lines}"));
        let csv = csv(&table(2, true));
        assert!(csv.contains(",\"T-shirt, top accuracy\",\"T-shirt, top balanced\",\"T-shirt, top AUROC\","));
        assert!(csv.ends_with("\n100,0.500000,0.250000,0.500000,,,,0.750000,0.750000\n"), "{csv}");
    }

    #[test]
    fn a_picture_has_a_line_for_each_class_and_panels_for_many() {
        let few = figure(&table(2, false));
        assert_eq!((few.x, few.y, few.panels.len()), ([0.0, 100.0], [0.0, 100.0], 1));
        let series = &few.panels[0].series;
        assert_eq!(series[0].points, [[0.0, 100.0], [100.0, 50.0]]);
        assert_eq!((series[1].points.len(), series.len()), (0, 3), "no value, no point");
        assert_eq!(series[2].points, [[0.0, 25.0], [100.0, 25.0]]);
        let many = figure(&table(12, true));
        assert_eq!((many.panels.len(), many.panels[1].title.as_str()), (12, "a \"b\""));
        assert_eq!(many.panels[1].series[1].points, [[0.0, 75.0], [100.0, 75.0]]);
        assert!(many.svg().contains("balanced accuracy"));
    }
}
