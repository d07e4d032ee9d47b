//! A recipe for a folder of data: looked at, loaded once, measured for some steps.

use crate::automatic::{Budget, Choice, Facts, choose, measure};
use crate::cli::{Cli, Train};
use crate::data::{Damaged, DataSpec, look};
use crate::io::data::Reader;
use crate::io::output::{bytes, say, short, tell, time};
use crate::io::session::open_device;
use crate::recipe::{Recipe, TimeSpan};
use duet::model::Head;
use duet::{Error, Result};
use std::path::Path;

/// Share of the training images that are looked at along the way, so that the test images choose nothing.
const VALIDATION_SHARE: f64 = 0.1;
/// Images from which on that is one of them.
const ENOUGH: usize = 50;

/// What was chosen, and why.
pub struct Plan {
    /// The choice.
    pub choice: Choice,
    facts: Facts,
    /// What told the format.
    because: String,
    measured: f64,
}

/// Looks at the folder, measures this device and chooses.
///
/// # Errors
/// Data that are none; device errors.
pub fn plan(arguments: &Cli, options: &Train) -> Result<Plan> {
    let found = look(&options.source)?;
    let asked: Option<TimeSpan> = options
        .max_time
        .as_ref()
        .map(|text| text.parse())
        .transpose()
        .map_err(|detail: String| Error::config("max_time", detail))?;
    let path = std::path::absolute(&options.source).unwrap_or_else(|_| options.source.clone());
    let mut spec = DataSpec { path, ..found.spec.clone() };
    if spec.kind.may_have_damaged() {
        // A broken picture is no reason to keep somebody from a first model; it is named.
        spec.damaged = Damaged::PassOver;
    }
    if !arguments.json {
        tell!("duet: looking at {}", options.source.display());
    }
    // The smallest network's size, in which it is measured; how many images there are is known after that.
    let guess =
        Facts { images: 0, classes: 2, head: Head::Multiclass, channels: found.channels, side: found.side };
    let size = guess.natural_size().min(32);
    let split = Reader::of(arguments).load(&spec, found.channels, size)?;
    let whole = split.train.len() + split.test.len();
    let facts = Facts::of(&found, &split.train);
    spec.test_share = Facts::test_share(whole);
    if facts.images >= ENOUGH {
        spec.validation_share = VALIDATION_SHARE;
    }
    let smallest = facts.networks().swap_remove(0);
    let device = open_device(arguments)?;
    let speed = measure(&device, &smallest, &split.train)?;
    device.save_pipeline_cache();
    let budget = Budget::of(asked.map(|span| span.duration()), options.preset, facts.images);
    let choice = choose(&spec, &facts, &speed, options.preset, budget)?;
    Ok(Plan { choice, facts, because: found.because, measured: speed.images_per_second })
}

impl Plan {
    /// The recipe as a file that says why it is so.
    ///
    /// # Errors
    /// A recipe that cannot be written as TOML.
    pub fn recipe_text(&self, recipe: &Recipe) -> Result<String> {
        let text = toml::to_string(recipe).map_err(|error| Error::config("recipe", error.to_string()))?;
        let reasons = self.reasons(recipe);
        let reasons: Vec<String> =
            reasons.iter().map(|(name, reason)| format!("# {name}: {reason}\n")).collect();
        Ok(format!(
            "# Found by `duet train`; change what you like and give it to `duet train` again.\n{}\n{text}",
            reasons.concat()
        ))
    }

    /// What was chosen, and why.
    fn reasons(&self, recipe: &Recipe) -> Vec<(&'static str, String)> {
        let (choice, facts) = (&self.choice, &self.facts);
        let (model, train) = (&recipe.model, &recipe.train);
        let colour = if facts.channels == 3 { "in colour" } else { "in grey" };
        let same =
            (train.steps, train.batch_size) == (choice.recipe.train.steps, choice.recipe.train.batch_size);
        let steps = if same { format!(": {}", choice.steps) } else { ": as asked for".into() };
        let mut reasons = vec![
            (
                "data",
                format!(
                    "{}: {}; {} training images {colour}",
                    recipe.data.kind.name(),
                    self.because,
                    facts.images
                ),
            ),
            ("size", format!("{0}×{0}: {1}", model.image_size, choice.size)),
            (
                "network",
                match *model == choice.recipe.model {
                    true => {
                        let parameters = short(choice.parameters as f64);
                        format!("{} wide, {parameters} parameters: {}", model.num_channels, choice.network)
                    }
                    false => format!("{} wide: as asked for", model.num_channels),
                },
            ),
            ("steps", format!("{} of {} images{steps}", train.steps, train.batch_size)),
        ];
        if same && *model == choice.recipe.model {
            let time = format!(
                "about {} at {:.0} images/s, by {:.0} measured of the smallest network; then samples and a report",
                time(choice.seconds),
                choice.speed,
                self.measured
            );
            reasons
                .extend([("time", time), ("memory", format!("about {} on the device", bytes(choice.bytes)))]);
        }
        reasons
    }

    /// Prints what was chosen.
    pub fn say(&self, json: bool, recipe: &Recipe, file: &Path) {
        let (choice, path) = (&self.choice, file.display());
        if json {
            let reasons: serde_json::Map<String, serde_json::Value> = self
                .reasons(recipe)
                .into_iter()
                .map(|(name, reason)| (name.to_owned(), reason.into()))
                .collect();
            let line = serde_json::json!({ "chosen": {
                "recipe": path.to_string(), "why": reasons, "seconds": choice.seconds, "bytes": choice.bytes,
                "images_per_second": choice.speed,
            }});
            say!("{line}");
            return;
        }
        say!("found for these data:");
        for (name, reason) in self.reasons(recipe) {
            say!("  {name:<8} {reason}");
        }
        say!("  {:<8} {path}; --set NAME=VALUE, --preset and --max-time ask for something else", "recipe");
    }
}
