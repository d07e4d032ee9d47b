//! The files of a study: tables as CSV and JSON, plots as SVG, pictures as PNG.

use super::plot::{Figure, Panel, Series, rising};
use crate::cli::Study;
use crate::eval::chains::{Chains, Generated};
use crate::eval::likeness::Qualities;
use crate::io::files::Kind;
use crate::io::render::Grid;
use crate::io::session::Session;
use crate::metrics::manifold::Quality;
use duet::Result;
use duet::model::ModelConfig;
use serde_json::{Value, json};
use std::path::PathBuf;

/// One space of both.
type Pick = fn(&Qualities) -> &Quality;

/// Most images of a class in a row of its picture.
const ROW: usize = 10;

/// One step size's images and their quality.
pub struct Outcome {
    /// What was generated.
    pub made: Generated,
    /// Compared with the real images.
    pub quality: Qualities,
}

/// All that is known so far.
pub struct StudyFiles {
    out: PathBuf,
    settings: Value,
    /// The classes studied: number in the model and name.
    classes: Vec<(usize, String)>,
    labels: Vec<usize>,
    timesteps: Vec<f32>,
    reference: Option<Qualities>,
    grid: Grid,
    outcomes: Vec<Outcome>,
}

fn mean(values: impl Iterator<Item = f32>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), v| (sum + f64::from(v), count + 1));
    sum / count.max(1) as f64
}

/// A file name of a class's name.
fn slug(name: &str) -> String {
    name.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect()
}

/// Files with numbers, and drawings of them.
const TABLES: [&str; 6] = [
    "study.json",
    "precision_recall.csv",
    "probability.csv",
    "precision_recall.svg",
    "probability.svg",
    "probability_by_class.svg",
];
/// The picture of all classes.
const SAMPLES: &str = "samples.png";

/// The picture of one class.
fn class_picture(class: usize, name: &str) -> String {
    format!("samples_{class}_{}.png", slug(name))
}

impl StudyFiles {
    /// Of no step size yet; `reference` is the quality of other real images.
    pub fn new(
        session: &Session,
        options: &Study,
        chains: &Chains,
        reference: Option<Qualities>,
    ) -> StudyFiles {
        let config = session.config();
        let settings = json!({
            "model": options.model.model.display().to_string(),
            "per_class": options.per_class,
            "steps": chains.timesteps().len() - 1,
            "respacing": options.chain.steps,
            "chain": options.chain.sampler,
            "eta": options.chain.eta,
            "guidance": format!("{:?}", crate::io::session::guidance(&options.chain)),
            "clip": !options.chain.no_clip,
            "seed": options.chain.seed,
            "neighbours": options.neighbours,
        });
        StudyFiles {
            out: options.out.clone(),
            settings,
            classes: chains.classes().map(|c| (c, config.class_name(c))).collect(),
            labels: chains.labels().to_vec(),
            timesteps: chains.timesteps(),
            reference,
            grid: Grid { channels: config.in_channels, size: config.image_size, scale: 2 },
            outcomes: Vec::new(),
        }
    }

    /// Names of all files that [`StudyFiles::write`] writes for a model.
    pub fn names(config: &ModelConfig) -> Vec<String> {
        let of_class = |class| class_picture(class, &config.class_name(class));
        TABLES
            .into_iter()
            .chain([SAMPLES])
            .map(str::to_owned)
            .chain((0..config.num_classes).map(of_class))
            .collect()
    }

    /// Takes up a step size.
    pub fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// Writes everything anew, each file as a whole.
    ///
    /// # Errors
    /// [`duet::Error`] naming a file that cannot be written.
    pub fn write(&self) -> Result<()> {
        let text = |name: &str, text: String| Kind::Table.write(&self.out.join(name), text.as_bytes());
        let contents = [
            format!("{:#}\n", self.json()),
            self.quality_table(),
            self.curve_table(),
            self.quality_figure().svg(),
            self.curve_figure().svg(),
            self.class_figure().svg(),
        ];
        TABLES.into_iter().zip(contents).try_for_each(|(name, contents)| text(name, contents))?;
        let names: Vec<String> = self.outcomes.iter().map(|o| format!("alpha {}", o.made.alpha)).collect();
        self.grid.save_rows(&self.out.join(SAMPLES), &self.pictures(None), &names)?;
        for (class, name) in &self.classes {
            let path = self.out.join(class_picture(*class, name));
            self.grid.save_rows(&path, &self.pictures(Some(*class)), &names)?;
        }
        Ok(())
    }

    /// A row of images per step size: the first ones of a class, or the first of each.
    fn pictures(&self, class: Option<usize>) -> Vec<Vec<f32>> {
        let chosen: Vec<usize> = match class {
            Some(class) => (0..self.labels.len()).filter(|i| self.labels[*i] == class).take(ROW).collect(),
            None => {
                (0..self.labels.len()).filter(|i| *i == 0 || self.labels[*i] != self.labels[i - 1]).collect()
            }
        };
        let len = self.grid.channels * self.grid.size * self.grid.size;
        let row =
            |o: &Outcome| chosen.iter().flat_map(|i| &o.made.images[i * len..][..len]).copied().collect();
        self.outcomes.iter().map(row).collect()
    }

    /// Mean probability of the class before each step and at the end: of one class's images or of all.
    fn curve(&self, made: &Generated, class: Option<usize>) -> Vec<f64> {
        let wanted = |label: usize| class.is_none_or(|class| class == label);
        made.curve
            .iter()
            .map(|step| mean(step.iter().zip(&self.labels).filter(|(_, l)| wanted(**l)).map(|(p, _)| *p)))
            .collect()
    }

    /// All numbers.
    pub fn json(&self) -> Value {
        let outcomes: Vec<Value> = self
            .outcomes
            .iter()
            .map(|Outcome { made, quality }| {
                let by_class: Vec<_> = self.classes.iter().map(|(c, _)| self.curve(made, Some(*c))).collect();
                json!({
                    "alpha": made.alpha, "quality": quality, "recognised": made.recognised,
                    "images": self.labels.len(), "probability": self.curve(made, None),
                    "probability_by_class": by_class,
                })
            })
            .collect();
        let names: Vec<&str> = self.classes.iter().map(|(_, name)| name.as_str()).collect();
        json!({
            "settings": self.settings, "classes": names, "timesteps": self.timesteps,
            "other_test_images": self.reference, "step_sizes": outcomes,
        })
    }

    fn quality_table(&self) -> String {
        let mut table = "alpha,features,precision,recall,recognised,images\n".to_owned();
        let mut add = |alpha: String, quality: &Qualities, recognised: String| {
            for (name, q) in [("model", quality.model), ("pixels", quality.pixels)] {
                let (precision, recall) = (q.precision, q.recall);
                let images = self.labels.len();
                table += &format!("{alpha},{name},{precision},{recall},{recognised},{images}\n");
            }
        };
        for outcome in &self.outcomes {
            add(outcome.made.alpha.to_string(), &outcome.quality, outcome.made.recognised.to_string());
        }
        if let Some(reference) = &self.reference {
            add("other test images".into(), reference, String::new());
        }
        table
    }

    fn curve_table(&self) -> String {
        let mut table = "alpha,class,step,timestep,probability\n".to_owned();
        for Outcome { made, .. } in &self.outcomes {
            let each = self.classes.iter().map(|(class, name)| (Some(*class), name.as_str()));
            for (class, name) in std::iter::once((None, "all")).chain(each) {
                let name = if name.contains([',', '"', '\n']) {
                    format!("\"{}\"", name.replace('"', "\"\""))
                } else {
                    name.to_owned()
                };
                for (step, (p, t)) in self.curve(made, class).iter().zip(&self.timesteps).enumerate() {
                    table += &format!("{},{name},{step},{t},{p:.6}\n", made.alpha);
                }
            }
        }
        table
    }

    /// Left and right end of an axis of step sizes.
    fn alpha_range(&self) -> [f64; 2] {
        let alphas = || self.outcomes.iter().map(|o| f64::from(o.made.alpha));
        let (low, high) = (alphas().fold(0.0, f64::min), alphas().fold(0.0, f64::max));
        [low, if high > low { high } else { low + 1.0 }]
    }

    fn quality_figure(&self) -> Figure {
        let range = self.alpha_range();
        let panel = |title: &str, value: fn(&Quality) -> f64| {
            let spaces: [(&str, &str, Pick); 2] =
                [("the model's features", "#2d5fd0", |q| &q.model), ("pixels", "#c2622a", |q| &q.pixels)];
            let mut series = Vec::new();
            for (name, colour, of) in spaces {
                let line = |name: String, points, dashed| Series {
                    name,
                    points,
                    colour: colour.to_owned(),
                    dashed,
                    dots: !dashed,
                };
                let points =
                    self.outcomes.iter().map(|o| [f64::from(o.made.alpha), value(of(&o.quality))]).collect();
                if let Some(reference) = &self.reference {
                    let at = value(of(reference));
                    let name = format!("other test images, {name}");
                    series.push(line(name, vec![[range[0], at], [range[1], at]], true));
                }
                series.push(line(name.to_owned(), points, false));
            }
            Panel { title: title.to_owned(), series }
        };
        Figure {
            title: "Precision and recall by step size".into(),
            x_label: "step size α".into(),
            x: range,
            y: [0.0, 1.0],
            columns: 2,
            size: [300.0, 200.0],
            panels: vec![panel("precision", |q| q.precision), panel("recall", |q| q.recall)],
        }
    }

    fn curves(&self, class: Option<usize>) -> Vec<Series> {
        let last = self.outcomes.len().saturating_sub(1).max(1) as f64;
        self.outcomes
            .iter()
            .enumerate()
            .map(|(i, Outcome { made, .. })| Series {
                name: format!("α = {}", made.alpha),
                points: self.curve(made, class).iter().enumerate().map(|(x, y)| [x as f64, *y]).collect(),
                colour: rising(i as f64 / last),
                dashed: false,
                dots: false,
            })
            .collect()
    }

    fn curve_figure(&self) -> Figure {
        Figure {
            title: "Probability of the wanted class along the chain".into(),
            x_label: "steps done, from noise to image".into(),
            x: [0.0, (self.timesteps.len() - 1) as f64],
            y: [0.0, 1.0],
            columns: 1,
            size: [560.0, 240.0],
            panels: vec![Panel { title: "mean of all classes".into(), series: self.curves(None) }],
        }
    }

    fn class_figure(&self) -> Figure {
        let panel =
            |(c, name): &(usize, String)| Panel { title: name.clone(), series: self.curves(Some(*c)) };
        Figure {
            title: "Probability of the wanted class along the chain, by class".into(),
            x_label: "steps done".into(),
            columns: 5,
            size: [120.0, 90.0],
            panels: self.classes.iter().map(panel).collect(),
            ..self.curve_figure()
        }
    }
}
