//! What a recipe is to say, by what is known of data and device.

use crate::cli::Preset;
use crate::data::{DataSpec, Dataset, Look};
use crate::io::output::time;
use crate::recipe::{RateSchedule, Recipe, TrainRecipe};
use duet::Result;
use duet::diffusion::DiffusionConfig;
use duet::graph::PlanStats;
use duet::model::{Head, JointModel, Labels, ModelConfig};
use duet::train::{Augment, ClassifierInput, TrainSpec, train_plan};
use std::time::Duration;

/// How often each image is to be seen.
const TIMES: usize = 20;
/// Fewest and most images of a run in all: fewer teach nothing, more are worth a decision of their own.
const LEAST_SEEN: usize = 3_000;
const MOST_SEEN: usize = 200_000;
/// Time for data of one image; a minute more for each sixty.
const LEAST_SECONDS: u64 = 180;
const MOST_SECONDS: u64 = 7_200;
/// Time of the smallest choice.
const TINY_SECONDS: u64 = 90;
/// Pixels a side of the largest models.
const LARGEST: usize = 64;
/// Images a step.
pub(super) const BATCH: usize = 16;
/// Images a step of a device that does more than so many a second with the smallest network: it needs more to be busy.
const LARGE_BATCH: usize = 64;
const FAST: f64 = 400.0;

/// What is known of the data.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Training images.
    pub images: usize,
    /// Classes, or labels.
    pub classes: usize,
    /// Whether images have one class or any number of labels.
    pub head: Head,
    /// Channels: 1 or 3.
    pub channels: usize,
    /// Pixels of the pictures' shorter side.
    pub side: usize,
}

impl Facts {
    /// Of training images that were looked at.
    pub fn of(look: &Look, train: &Dataset) -> Facts {
        let head = match train.labels {
            Labels::Classes(_) => Head::Multiclass,
            Labels::MultiLabel(_) => Head::MultiLabel,
        };
        let (images, classes) = (train.len(), train.class_names.len());
        Facts { images, classes, head, channels: look.channels, side: look.side }
    }

    /// Pixels a side of a model that sees all that the pictures show, as far as models are large.
    pub fn natural_size(&self) -> usize {
        match self.side {
            0..=28 => 28,
            29..=40 => 32,
            _ => LARGEST,
        }
    }

    /// Share of the images to test on, where the data have no test images: few need a larger one to tell anything.
    pub fn test_share(images: usize) -> f64 {
        if images < 1_000 { 0.2 } else { 0.1 }
    }

    /// Networks from the smallest to the largest that so many images can teach.
    pub fn networks(&self) -> Vec<ModelConfig> {
        let natural = self.natural_size();
        let widest = match self.images {
            0..2_000 => 32,
            2_000..20_000 => 64,
            _ => 128,
        };
        let mut networks = vec![self.network(natural.min(32), 24)];
        networks
            .extend([24, 32, 64, 128].iter().filter(|w| **w <= widest).map(|w| self.network(natural, *w)));
        networks.dedup();
        networks
    }

    fn network(&self, size: usize, width: usize) -> ModelConfig {
        let wide = width >= 64;
        ModelConfig {
            image_size: size,
            in_channels: self.channels,
            num_channels: width,
            num_res_blocks: if width >= 128 { 3 } else { 1 },
            channel_mult: if size > 32 { vec![1, 2, 2, 2] } else { vec![1, 2, 2] },
            // Narrow networks are for devices on which attention at 16 pixels costs more than all convolutions.
            attention_resolutions: if wide {
                ModelConfig::default().attention_resolutions
            } else {
                Vec::new()
            },
            // Three channels a group or more: one alone would lose its mean.
            num_groups: if wide { 16 } else { 8 },
            num_classes: self.classes,
            head: self.head,
            classifier_dropout: 0.2,
            ..ModelConfig::default()
        }
    }
}

/// How long a run may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    seconds: f64,
    /// Whether somebody asked for it.
    pub asked: bool,
}

impl Budget {
    /// The time somebody asked for, or one that grows with the data.
    pub fn of(asked: Option<Duration>, preset: Option<Preset>, images: usize) -> Budget {
        let grown = (images as u64).clamp(LEAST_SECONDS, MOST_SECONDS);
        let own = if preset == Some(Preset::Tiny) { TINY_SECONDS } else { grown };
        Budget { seconds: asked.map_or(own as f64, |time| time.as_secs_f64()), asked: asked.is_some() }
    }
}

/// What a device does with a network.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// Training steps' images in a second.
    pub images_per_second: f64,
    /// Multiply-adds of a training step for each.
    pub work: f64,
}

/// A recipe, and why it is so.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The recipe.
    pub recipe: Recipe,
    /// Parameters of the network.
    pub parameters: usize,
    /// Time it should take.
    pub seconds: f64,
    /// Images a second that are expected.
    pub speed: f64,
    /// Bytes on the device.
    pub bytes: u64,
    /// Why the size is so.
    pub size: String,
    /// Why the network is so.
    pub network: String,
    /// Why there are so many steps.
    pub steps: String,
}

/// Work and memory of a training step.
pub(super) fn cost(model: &ModelConfig, train: &TrainRecipe) -> Result<PlanStats> {
    let made = JointModel::new(model)?;
    let spec = TrainSpec::of(&train.options());
    Ok(train_plan(&made, &DiffusionConfig::default(), &spec)?.stats())
}

/// A network with its rates, and what training it should take.
struct Estimate {
    model: ModelConfig,
    train: TrainRecipe,
    bytes: u64,
    images_per_second: f64,
}

impl Estimate {
    fn of(model: ModelConfig, train: TrainRecipe, speed: &Speed) -> Result<Estimate> {
        let stats = cost(&model, &train)?;
        let work = stats.multiply_adds as f64 / train.batch_size as f64;
        let images_per_second = speed.images_per_second * speed.work / work;
        Ok(Estimate { model, train, bytes: stats.slot_bytes + stats.external_bytes, images_per_second })
    }

    /// The choice of it for so many steps, and why.
    fn chosen(self, data: &DataSpec, [size, network, steps]: [String; 3]) -> Result<Choice> {
        let Estimate { model, train, bytes, images_per_second } = self;
        Ok(Choice {
            parameters: JointModel::new(&model)?.params.parameter_count(),
            seconds: train.steps as f64 * train.batch_size as f64 / images_per_second,
            speed: images_per_second,
            bytes,
            size,
            network,
            steps,
            recipe: Recipe {
                data: data.clone(),
                model,
                diffusion: DiffusionConfig::default(),
                train,
                augment: Augment::default(),
            },
        })
    }
}

/// Chooses by what a device does with the first of [`Facts::networks`].
///
/// # Errors
/// A network that cannot be planned.
pub fn choose(
    data: &DataSpec,
    facts: &Facts,
    speed: &Speed,
    preset: Option<Preset>,
    budget: Budget,
) -> Result<Choice> {
    if preset == Some(Preset::Paper) {
        return paper(data, facts, speed);
    }
    let networks = facts.networks();
    let last = networks.len() - 1;
    let batch = if speed.images_per_second > FAST { LARGE_BATCH } else { BATCH };
    let batch = batch.min(facts.images.max(2));
    let most = if preset == Some(Preset::Small) { 10 * MOST_SEEN } else { MOST_SEEN };
    let wanted = (TIMES * facts.images).clamp(LEAST_SEEN, most);
    let fits = |images_per_second: f64| wanted as f64 / images_per_second <= budget.seconds;
    let estimate = |place: usize| {
        let model = networks[place].clone();
        let train = rates(&model, batch);
        Estimate::of(model, train, speed)
    };
    let mut place = match preset {
        Some(Preset::Tiny) => 0,
        Some(Preset::Small) => networks.iter().rposition(|model| model.num_channels <= 64).unwrap_or(0),
        Some(Preset::Paper) | None => last,
    };
    let mut found = estimate(place)?;
    // The largest that fits, or the smallest.
    while preset.is_none() && place > 0 && !fits(found.images_per_second) {
        place -= 1;
        found = estimate(place)?;
    }
    let images_per_second = found.images_per_second;
    let limited = preset != Some(Preset::Small) && !fits(images_per_second);
    let seen = if limited { (images_per_second * budget.seconds) as usize } else { wanted };
    let steps = (seen.div_ceil(batch) as u64).max(20);
    let natural = facts.natural_size();
    let size = match (found.model.image_size == natural, facts.side > LARGEST) {
        (true, false) => format!("the pictures' shorter side is {} pixels", facts.side),
        (true, true) => format!("the largest there is; the pictures' shorter side is {} pixels", facts.side),
        (false, _) => {
            format!("{natural}×{natural} would show more, and take longer than {}", time(budget.seconds))
        }
    };
    let network = match (preset, place == last) {
        (Some(Preset::Tiny), _) => "the smallest there is".into(),
        (Some(Preset::Small), _) => "for an evening on one GPU".into(),
        (_, true) => format!("as large as {} images can teach", facts.images),
        (_, false) => format!("as large as this device can train in {}", time(budget.seconds)),
    };
    let times = (steps as usize * batch) as f64 / facts.images.max(1) as f64;
    let more = if limited { ": what the time allows" } else { "" };
    found.train = paced(found.train, steps);
    found.chosen(data, [size, network, format!("each image is seen about {} times{more}", number(times))])
}

/// Rates for a network.
pub(super) fn rates(model: &ModelConfig, batch: usize) -> TrainRecipe {
    TrainRecipe {
        batch_size: batch,
        learning_rate: match model.num_channels {
            0..64 => 1e-3,
            64..128 => 5e-4,
            _ => 2e-4,
        },
        lr_schedule: RateSchedule::Cosine,
        weight_decay: 0.01,
        // The noised classifier makes guided samples and explanations possible.
        classifier_input: ClassifierInput::Both,
        classifier_loss_scaling: 0.1,
        ..TrainRecipe::default()
    }
}

/// The same with all that counts in steps.
fn paced(train: TrainRecipe, steps: u64) -> TrainRecipe {
    TrainRecipe {
        steps,
        warmup_steps: (steps / 10).min(100),
        // Averages over a tenth of a short run, over some hundred steps of a long one.
        ema_rate: if steps < 2_000 { 1.0 - 10.0 / steps.max(100) as f64 } else { 0.995 },
        log_every: (steps / 20).clamp(1, 50),
        eval_every: (steps / 5).max(20),
        sample_every: (steps / 3).max(500),
        save_every: (steps / 10).clamp(10, 500),
        ..train
    }
}

/// The paper's settings: what recipes that say nothing have.
fn paper(data: &DataSpec, facts: &Facts, speed: &Speed) -> Result<Choice> {
    let size = facts.natural_size();
    let (num_classes, head, in_channels) = (facts.classes, facts.head, facts.channels);
    let model = ModelConfig { image_size: size, in_channels, num_classes, head, ..ModelConfig::default() };
    let size = format!("the pictures' shorter side is {} pixels", facts.side);
    let why = [size, "the paper's".into(), "the reference's number".into()];
    Estimate::of(model, TrainRecipe::default(), speed)?.chosen(data, why)
}

/// A number with a digit behind the point where it is small.
fn number(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataKind;
    use std::path::Path;

    fn facts(images: usize, side: usize) -> Facts {
        Facts { images, classes: 3, head: Head::Multiclass, channels: 3, side }
    }

    /// A device that does so many images a second with the smallest network.
    fn chosen(facts: &Facts, images_per_second: f64, preset: Option<Preset>, asked: Option<u64>) -> Choice {
        let smallest = &facts.networks()[0];
        let work = cost(smallest, &rates(smallest, BATCH)).unwrap().multiply_adds as f64 / BATCH as f64;
        let data = DataSpec::new(DataKind::named("folder").unwrap(), Path::new("data"));
        let budget = Budget::of(asked.map(Duration::from_secs), preset, facts.images);
        let choice = choose(&data, facts, &Speed { images_per_second, work }, preset, budget).unwrap();
        choice.recipe.validate().unwrap();
        choice
    }

    fn shape(choice: &Choice) -> (usize, usize, usize) {
        let model = &choice.recipe.model;
        (model.image_size, model.num_channels, choice.recipe.train.batch_size)
    }

    #[test]
    fn slow_devices_and_few_images_get_small_networks() {
        let few = facts(160, 96);
        let slow = chosen(&few, 20.0, None, None);
        assert_eq!(shape(&slow), (32, 24, 16));
        assert_eq!(slow.recipe.train.steps, 200, "20 times 160 images");
        assert!(slow.seconds <= 180.0 && (slow.seconds - 160.0).abs() < 2.0, "{}", slow.seconds);
        // The same on a GPU sees more pixels, and no wider network than so few images teach.
        let fast = chosen(&few, 5_000.0, None, None);
        assert_eq!(shape(&fast), (64, 32, 64));
        assert!(slow.size.contains("64×64 would show more") && fast.size.contains("largest there is"));
    }

    #[test]
    fn many_images_get_what_the_time_allows() {
        let many = facts(60_000, 28);
        let slow = chosen(&many, 30.0, None, None);
        assert_eq!(shape(&slow), (28, 24, 16));
        let seen = slow.recipe.train.steps as f64 * 16.0;
        assert!((seen / (7_200.0 * 30.0)).clamp(0.9, 1.0) > 0.92, "two hours: {seen}");
        let asked = chosen(&many, 30.0, None, Some(600));
        assert_eq!(asked.recipe.train.steps, (600 * 30_u64).div_ceil(16));
        assert!(asked.steps.contains("what the time allows"));
        let gpu = chosen(&many, 20_000.0, None, None);
        assert_eq!((shape(&gpu).1, gpu.recipe.model.num_res_blocks), (128, 3));
        assert!(gpu.seconds <= 7_200.0);
    }

    #[test]
    fn presets_do_not_ask_the_device() {
        let many = facts(60_000, 32);
        for speed in [20.0, 20_000.0] {
            assert_eq!(shape(&chosen(&many, speed, Some(Preset::Tiny), None)).1, 24);
            assert_eq!(shape(&chosen(&many, speed, Some(Preset::Small), None)).1, 64);
            let paper = chosen(&many, speed, Some(Preset::Paper), None).recipe;
            assert_eq!(paper.train, TrainRecipe::default());
            assert_eq!((paper.model.num_channels, paper.model.num_res_blocks), (128, 3));
        }
        assert!(chosen(&many, 20.0, Some(Preset::Tiny), None).seconds <= 91.0);
    }

    #[test]
    fn a_handful_of_images_is_a_batch_of_its_own() {
        let handful = chosen(&facts(5, 16), 50.0, None, None);
        assert_eq!(shape(&handful), (28, 32, 5));
    }
}
