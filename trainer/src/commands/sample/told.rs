//! What is told of generated images: what the classifier takes them for, and how far they are from the picture they were to stay near.

use super::goals::Row;
use duet::Result;
use duet::model::{Head, ModelConfig};
use serde_json::{Value, json};

/// Mean squared distance of an image from a picture, both in −1..1.
pub fn distance(image: &[f32], picture: &[f32]) -> f64 {
    let squares = image.iter().zip(picture).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    squares.sum::<f64>() / image.len().max(1) as f64
}

/// What is told of one row.
#[derive(Clone, Debug, Default)]
struct OfRow {
    /// Images that are what they were to be.
    recognised: usize,
    /// Of each image the probability of each class or label that the row is about.
    probabilities: Vec<Vec<f32>>,
    /// Of each image the mean squared distance from the picture to stay near, in −1..1.
    distances: Vec<f64>,
}

/// What is told of all of them.
pub struct Told<'a> {
    config: &'a ModelConfig,
    rows: &'a [Row],
    count: usize,
    near: bool,
    found: Vec<OfRow>,
}

impl<'a> Told<'a> {
    /// Nothing yet, of `count` images of each row, which were to stay near a picture or not.
    pub fn new(config: &'a ModelConfig, rows: &'a [Row], count: usize, near: bool) -> Told<'a> {
        Told { config, rows, count, near, found: vec![OfRow::default(); rows.len()] }
    }

    /// Takes up the image of a number by its probabilities \[K\] and, where it was to stay near a picture, its distance from that.
    ///
    /// # Errors
    /// Probabilities that are none.
    pub fn add(&mut self, number: usize, seen: &[f32], distance: Option<&f64>) -> Result<()> {
        let head = self.config.head;
        let (row, found) = (&self.rows[number / self.count], &mut self.found[number / self.count]);
        let decided = head.decisions(seen)?;
        let wanted = |(class, wanted): &(usize, f32)| decided[*class] == (*wanted > 0.5);
        let right = match (head, row.class()) {
            (Head::Multiclass, Some(class)) => decided[class],
            (Head::Multiclass, None) => false,
            (Head::MultiLabel, _) => row.ends[0].iter().all(wanted),
        };
        found.recognised += usize::from(right);
        found.probabilities.push(row.about().into_iter().map(|class| seen[class]).collect());
        found.distances.extend(distance);
        Ok(())
    }

    /// Whether it is told of a row how many of its images are what they were to be.
    fn counted(&self, row: &Row) -> bool {
        !row.changes() && (self.config.head == Head::MultiLabel || row.class().is_some())
    }

    /// A line for each row.
    pub fn lines(&self) -> Vec<String> {
        self.rows.iter().zip(&self.found).map(|(row, found)| self.line(row, found)).collect()
    }

    fn line(&self, row: &Row, found: &OfRow) -> String {
        let percent = |p: f64| format!("{:.0} %", 100.0 * p);
        let told = if self.counted(row) {
            format!("the classifier recognises {} of {}", found.recognised, self.count)
        } else if row.changes() {
            // What the way leads to is the last one named.
            let last = found.probabilities.iter().filter_map(|one| one.last());
            let shares: Vec<String> = last.map(|p| percent(f64::from(*p))).collect();
            let name = row.about().last().map_or(String::new(), |class| self.config.class_name(*class));
            format!("the classifier says {name} with {}", shares.join(", "))
        } else {
            let each = row.about().into_iter().zip(means(&found.probabilities));
            let each: Vec<String> =
                each.map(|(class, p)| format!("{} {}", self.config.class_name(class), percent(p))).collect();
            format!("the classifier says, in the mean, {}", each.join(", "))
        };
        let near = match found.distances.len() {
            0 => String::new(),
            all => {
                let mean = found.distances.iter().sum::<f64>() / all as f64;
                format!("; mean squared distance from the picture {mean:.4}")
            }
        };
        format!("{}: {told}{near}", row.name)
    }

    /// The same for machines.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().zip(&self.found).map(|(row, found)| {
            let mut object = json!({ "name": row.name, "images": self.count });
            if let Some(class) = row.class() {
                object["class"] = json!(class);
            }
            if self.counted(row) {
                object["recognised"] = json!(found.recognised);
            }
            let goal = |end: &[(usize, f32)]| -> Value {
                end.iter().map(|(class, wanted)| (self.config.class_name(*class), json!(wanted))).collect()
            };
            if row.changes() {
                object["from"] = goal(&row.ends[0]);
                object["to"] = goal(&row.ends[1]);
            } else {
                object["toward"] = goal(&row.ends[0]);
            }
            let names: Vec<String> =
                row.about().into_iter().map(|class| self.config.class_name(class)).collect();
            let each = found
                .probabilities
                .iter()
                .map(|one| -> Value { names.iter().cloned().zip(one.iter().map(|p| json!(p))).collect() });
            object["probabilities"] = each.collect();
            if self.near {
                object["distances"] = json!(found.distances);
            }
            object
        });
        json!({ "classes": rows.collect::<Value>() })
    }
}

/// Means of the columns.
fn means(rows: &[Vec<f32>]) -> Vec<f64> {
    let columns = rows.first().map_or(0, Vec::len);
    let mean = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|p| f64::from(*p)).sum::<f64>() / rows.len() as f64
    };
    (0..columns).map(mean).collect()
}
