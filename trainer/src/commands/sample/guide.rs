//! How each image of a chain is told what it is to be, and where its noise begins.

use super::goals::{Goal, Row};
use crate::cli::Sample;
use crate::io::session::guidance;
use duet::model::{Head, Labels, ModelConfig};
use duet::rng::Seed;
use duet::sampling::{Attributes, Class, Guidance, Mixture, Near, Objective, Sampler, slerp};
use duet::{Error, Result};

/// What guidance descends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// Of one class each.
    Class,
    /// Of shares of classes.
    Mixture,
    /// Of what is said of labels.
    Attributes,
}

/// What images are guided by.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    /// `None`: they are not guided.
    loss: Option<Loss>,
    near: bool,
}

impl Aim {
    /// What these rows ask for.
    ///
    /// # Errors
    /// Options that need guidance where there is none.
    pub fn of(config: &ModelConfig, options: &Sample, rows: &[Row]) -> Result<Aim> {
        let near = options.near.is_some();
        if guidance(&options.chain) == Guidance::None {
            let asked = [
                ("toward", !options.toward.is_empty()),
                ("between", !options.between.is_empty()),
                ("near", near),
            ];
            if let Some((name, _)) = asked.iter().find(|(_, asked)| *asked) {
                return Err(Error::config(*name, "needs guidance; --guidance none has none"));
            }
            return Ok(Aim { loss: None, near });
        }
        let loss = match config.head {
            Head::MultiLabel => Loss::Attributes,
            Head::Multiclass if rows.iter().all(|row| row.class().is_some()) => Loss::Class,
            Head::Multiclass => Loss::Mixture,
        };
        Ok(Aim { loss: Some(loss), near })
    }

    /// As the sampler has it.
    pub fn objectives(&self) -> Vec<&'static dyn Objective> {
        let of_classifier: &'static dyn Objective = match self.loss {
            Some(Loss::Mixture) => &Mixture,
            Some(Loss::Attributes) => &Attributes,
            Some(Loss::Class) | None => &Class,
        };
        if self.near { vec![of_classifier, &Near] } else { vec![of_classifier] }
    }
}

/// Tells a chain what its images are to be.
pub struct Guide<'a> {
    sampler: &'a Sampler,
    rows: &'a [Row],
    classes: usize,
    /// Images of a row.
    count: usize,
    target: Aim,
    /// Noise of the first and the last image of each row that is a way from one to the other; of the others none.
    noise: Vec<Option<[Vec<f32>; 2]>>,
}

impl<'a> Guide<'a> {
    /// Tells `sampler` what is the same for all chains, and makes the noises that ways begin and end with.
    ///
    /// # Errors
    /// A chain that adds noise where a way needs one that adds none; device errors.
    pub fn new(
        sampler: &'a Sampler,
        config: &ModelConfig,
        options: &Sample,
        rows: &'a [Row],
        target: Aim,
        near: Option<&[f32]>,
    ) -> Result<Guide<'a>> {
        if let Some(near) = near {
            sampler.set_input("near", &near.repeat(sampler.batch()))?;
            sampler.set_input("nearness", &vec![options.nearness; sampler.batch()])?;
        }
        let count = options.count;
        let mut noise = Vec::new();
        for (number, row) in rows.iter().enumerate() {
            if !(options.interpolate || row.changes()) {
                noise.push(None);
                continue;
            }
            let option = if options.interpolate { "interpolate" } else { "between" };
            if count < 2 {
                return Err(Error::config(
                    "count",
                    format!("must be at least 2 with --{option}, is {count}"),
                ));
            }
            without_noise(sampler, option)?;
            let seed = Seed(options.chain.seed);
            let first = begin(sampler, seed, number * count)?;
            let last = match options.interpolate {
                true => begin(sampler, seed, number * count + count - 1)?,
                false => first.clone(),
            };
            noise.push(Some([first, last]));
        }
        Ok(Guide { sampler, rows, classes: config.num_classes, count, target, noise })
    }

    /// How far through its row an image is, 0 to 1.
    fn share(&self, number: usize) -> f32 {
        (number % self.count) as f32 / (self.count.max(2) - 1) as f32
    }

    fn goal(&self, number: usize) -> Goal {
        self.rows[number / self.count].at(self.share(number))
    }

    /// Tells the chain of these images what they are to be; where they are on a way their noise is put in the place of what is there.
    ///
    /// # Errors
    /// Device errors.
    pub fn prepare(&self, numbers: &[usize]) -> Result<Labels> {
        if numbers.iter().any(|number| self.noise[number / self.count].is_some()) {
            let mut images = pollster::block_on(self.sampler.get_images())?;
            let len = images.len() / numbers.len().max(1);
            for (number, image) in numbers.iter().zip(images.chunks_mut(len)) {
                if let Some([first, last]) = &self.noise[number / self.count] {
                    image.copy_from_slice(&slerp(first, last, self.share(*number))?);
                }
            }
            self.sampler.set_images(&images)?;
        }
        let goals: Vec<Goal> = numbers.iter().map(|number| self.goal(*number)).collect();
        let table = |of: fn(f32) -> f32| {
            let mut table = vec![0.0; goals.len() * self.classes];
            for (row, goal) in table.chunks_mut(self.classes).zip(&goals) {
                goal.iter().for_each(|(class, wanted)| row[*class] = of(*wanted));
            }
            table
        };
        match self.target.loss {
            Some(Loss::Mixture) => self.sampler.set_input("shares", &table(|share| share))?,
            Some(Loss::Attributes) => {
                self.sampler.set_input("attributes", &table(|wanted| wanted))?;
                self.sampler.set_input("attribute_weights", &table(|_| 1.0))?;
            }
            Some(Loss::Class) => {
                let classes = goals.iter().map(|goal| goal.first().map_or(0, |(class, _)| *class as u32));
                return Ok(Labels::Classes(classes.collect()));
            }
            None => {}
        }
        Ok(Labels::Classes(Vec::new()))
    }
}

/// The noise \[C,H,W\] that the image of this number begins with.
fn begin(sampler: &Sampler, seed: Seed, number: usize) -> Result<Vec<f32>> {
    sampler.start_from_noise(seed, number as u32)?;
    let mut images = pollster::block_on(sampler.get_images())?;
    images.truncate(images.len() / sampler.batch());
    Ok(images)
}

/// Refuses a chain that adds noise on its way, which belongs to each image and would hide what lies between two of them.
fn without_noise(sampler: &Sampler, option: &str) -> Result<()> {
    let steps = sampler.schedule().len();
    for index in 0..steps {
        let before = (index + 1 < steps).then_some(index + 1);
        if sampler.coefficients(index, before, 1.0)?.noise != 0.0 {
            let detail = "needs a chain that adds no noise: --eta 0, or --sampler dpm++";
            return Err(Error::config(option, detail));
        }
    }
    Ok(())
}
