//! Steps that fit the device: where it cannot hold a batch at once, the batch is cut into micro-batches.

use super::{labelled, warn};
use crate::recipe::Recipe;
use duet::checkpoint::Checkpoint;
use duet::gpu::Device;
use duet::model::JointModel;
use duet::train::{TrainOptions, Trainer};
use duet::{Error, Result};
use std::sync::Arc;

/// Where a checkpoint notes into how many micro-batches a step was cut for the device.
pub const CUT: &str = "cut_into_micro_batches";

/// The trainer of a run that begins with a checkpoint, or anew, and into how many micro-batches each step is cut where that is
/// not the recipe's number. A run that goes on keeps its cut, whatever the device, for its bits: sums are added up in another
/// order, and BatchNorm in training sees a micro-batch.
///
/// # Errors
/// As [`Trainer::new`], where not even the smallest micro-batches fit.
pub fn trainer(
    device: &Device,
    recipe: &Recipe,
    begin: Option<&Checkpoint>,
    json: bool,
) -> Result<(Trainer, Option<usize>)> {
    let noted = begin.and_then(|checkpoint| checkpoint.training.as_ref());
    let noted = noted.and_then(|state| state.recipe.get(CUT)).and_then(serde_json::Value::as_u64);
    let mut options = recipe.options();
    let noted = noted.and_then(|parts| usize::try_from(parts).ok());
    // Of another batch, where that was meant, the cut is found anew.
    if let Some(parts) = noted.filter(|parts| *parts > 0 && options.batch_size.is_multiple_of(*parts)) {
        options.micro_batches = parts;
    }
    loop {
        let made = pollster::block_on(make(device, recipe, begin, &options));
        let (batch, parts) = (options.batch_size, options.micro_batches);
        let error = match made {
            Ok(trainer) => {
                let cut = (parts != recipe.train.micro_batches).then_some(parts);
                if cut.is_some() {
                    let detail = format!("a batch of {batch} is more than the device holds at once");
                    warn(json, &format!("{detail}: each step is cut into {parts} micro-batches"));
                }
                return Ok((trainer, cut));
            }
            Err(error) => error,
        };
        let pairs = options.augment.mixup.is_some();
        options.micro_batches = more_parts(&error, batch, parts, pairs).ok_or(error)?;
    }
}

/// The trainer that `options` ask for, of the recipe's terms.
async fn make(
    device: &Device,
    recipe: &Recipe,
    begin: Option<&Checkpoint>,
    options: &TrainOptions,
) -> Result<Trainer> {
    let model = Arc::new(JointModel::new(&recipe.model)?);
    let (terms, without) = labelled::terms(&model, &recipe.diffusion, recipe, options)?;
    let mut trainer = match begin {
        Some(checkpoint) => Trainer::resume_of(device, checkpoint, options, &terms).await?,
        None => Trainer::new_of(device, model, &recipe.diffusion, options, &terms).await?,
    };
    if let Some((prefix, rest)) = without {
        trainer.allow_without(prefix, &rest).await?;
    }
    Ok(trainer)
}

/// The least number of micro-batches, of 2 images or more, that may fit where `parts` did not; of whole `pairs` where images are
/// mixed in pairs.
fn more_parts(error: &Error, batch: usize, parts: usize, pairs: bool) -> Option<usize> {
    let most = error.smaller_batch(batch.checked_div(parts)?)?;
    let divides = |parts: usize| batch.is_multiple_of(if pairs { 2 * parts } else { parts });
    (parts + 1..=batch / 2).find(|parts| divides(*parts) && batch / parts <= most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::gpu::DeviceOptions;
    use std::path::Path;

    #[test]
    fn a_batch_that_does_not_fit_is_cut_and_a_run_that_goes_on_keeps_its_cut() {
        let text = "[data]\nkind = \"idx\"\npath = \"x\"\n[model]\nimage_size = 8\nnum_channels = 8\nnum_res_blocks = 1\n\
                    channel_mult = [1, 2]\nattention_resolutions = []\nnum_groups = 4\nnum_classes = 2\n\
                    [train]\nbatch_size = 512\n";
        let recipe = Recipe::parse(text, Path::new("recipe.toml")).unwrap();
        let open = |max_binding| {
            let options = DeviceOptions { max_binding, ..DeviceOptions::default() };
            pollster::block_on(Device::open(&options)).unwrap()
        };
        let (small, large) = (open(600 << 10), open(0));
        let (whole, none) = trainer(&large, &recipe, None, true).unwrap();
        assert_eq!(none, None);
        let (cut, parts) = trainer(&small, &recipe, None, true).unwrap();
        let parts = parts.expect("more than one");
        assert!((2..=256).contains(&parts) && 512 % parts == 0, "{parts}");
        // The optimizer's memory is the same; of activations there is less.
        assert!(
            cut.plans()[0].require("x_start").unwrap().bytes()
                < whole.plans()[0].require("x_start").unwrap().bytes()
        );
        let mut saved = pollster::block_on(cut.checkpoint()).unwrap();
        saved.training.as_mut().unwrap().recipe = serde_json::json!({ CUT: parts });
        for device in [&small, &large] {
            assert_eq!(trainer(device, &recipe, Some(&saved), true).unwrap().1, Some(parts));
        }
        // A device that cannot hold two images says what it needs.
        let tiny = open(4 << 10);
        let error = trainer(&tiny, &recipe, None, true).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::LimitTooSmall { .. }), "{error}");
    }

    #[test]
    fn parts_divide_the_batch() {
        let error = Error::LimitTooSmall { limit: "maxStorageBufferBindingSize", need: 300, have: 100 };
        assert_eq!(more_parts(&error, 12, 1, false), Some(3));
        assert_eq!(more_parts(&error, 10, 1, false), Some(5), "4 images at most");
        assert_eq!(more_parts(&error, 7, 1, false), None, "only single images would divide it");
        assert_eq!(more_parts(&Error::Aborted, 12, 1, false), None);
        assert_eq!(more_parts(&error, 9, 1, false), Some(3));
        assert_eq!(more_parts(&error, 18, 1, false), Some(3));
        assert_eq!(more_parts(&error, 18, 1, true), Some(3));
        assert_eq!(more_parts(&error, 30, 1, true), Some(3));
        assert_eq!(more_parts(&error, 45, 1, true), None, "no pairs divide it");
    }
}
