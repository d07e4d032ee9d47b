//! Steps that fit the device: where it cannot hold a batch at once, the batch is cut into micro-batches.

use super::{labelled, warn};
use crate::processes::Processes;
use crate::recipe::{LabelledBy, Recipe};
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
/// Of several processes each has micro-batches to compute: a step is cut into as many as there are processes, or a multiple of it,
/// which all of their devices can hold. A run that goes on among others keeps its cut, too, where that gives everybody something to
/// do.
///
/// # Errors
/// As [`Trainer::new`], where not even the smallest micro-batches fit; a batch that cannot be cut so.
pub fn trainer(
    device: &Device,
    recipe: &Recipe,
    begin: Option<&Checkpoint>,
    processes: &Processes,
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
    let goes_on = begin.is_some_and(|checkpoint| checkpoint.training.is_some());
    let before = options.micro_batches;
    let each = processes.agree(shared(&mut options, recipe, goes_on, processes.count()))?;
    if goes_on && options.micro_batches != before {
        let (parts, count) = (options.micro_batches, processes.count());
        let detail = format!(
            "{count} processes need as many micro-batches: from here on each step is cut into {parts} instead of {before}, and has \
             other bits than it would have had"
        );
        warn(json, &detail);
    }
    loop {
        let made = pollster::block_on(make(device, recipe, begin, &options));
        let (batch, parts) = (options.batch_size, options.micro_batches);
        let pairs = options.augment.mixup.is_some();
        let wanted = match &made {
            Ok(_) => Some(parts),
            Err(error) => more_parts(error, batch, parts, pairs, each),
        };
        // What one device cannot hold is cut for all.
        let most = processes.most(wanted.unwrap_or(0))?;
        let made = processes.agree(match (made, wanted) {
            (Err(error), None) => Err(error),
            (made, _) => Ok(made.ok()),
        })?;
        match made {
            Some(mut trainer) if most == parts => {
                let cut = (parts != recipe.train.micro_batches).then_some(parts);
                tell_cut(batch, parts, cut.is_some() && before != parts, processes.count(), json);
                if let Some(ranks) = processes.ranks() {
                    let joined = pollster::block_on(trainer.train_among(ranks.clone()));
                    processes.agree(joined)?;
                }
                return Ok((trainer, cut));
            }
            _ => options.micro_batches = most,
        }
    }
}

/// Cuts a step so that each of `count` processes has something to do; gives the number that micro-batches are to be a multiple of.
fn shared(options: &mut TrainOptions, recipe: &Recipe, goes_on: bool, count: usize) -> Result<usize> {
    if count == 1 {
        return Ok(1);
    }
    if recipe.train.labelled_by == LabelledBy::ReferenceBuffer && recipe.train.has_few_labels() {
        let detail = "has steps of any number of images, which processes cannot share: train with one process, or another labelled_by";
        return Err(Error::config("train.labelled_by", detail));
    }
    let (batch, before) = (options.batch_size, options.micro_batches.max(1));
    if goes_on && before >= count {
        return Ok(1);
    }
    let pairs = options.augment.mixup.is_some();
    let cut = |count: usize| {
        let parts = (before.div_ceil(count)..=batch / count / 2).map(|times| times * count);
        parts.into_iter().find(|parts| divides(batch, *parts, pairs))
    };
    match cut(count) {
        Some(parts) => {
            options.micro_batches = parts;
            Ok(count)
        }
        None => {
            let fitting: Vec<String> = (2..=batch / 2)
                .filter(|count| cut(*count).is_some())
                .map(|count| count.to_string())
                .collect();
            let detail = format!(
                "{batch} images cannot be cut into equal micro-batches of at least two{} for {count} processes: give a batch that is a \
                 multiple of {}, or use as many processes: {}",
                if pairs { " and an even number" } else { "" },
                2 * count,
                if fitting.is_empty() { "1".to_owned() } else { fitting.join(", ") }
            );
            Err(Error::config("train.batch_size", detail))
        }
    }
}

/// Whether a batch can be cut into so many equal parts, of whole `pairs` where images are mixed in pairs.
fn divides(batch: usize, parts: usize, pairs: bool) -> bool {
    parts > 0 && batch.is_multiple_of(if pairs { 2 * parts } else { parts })
}

fn tell_cut(batch: usize, parts: usize, is_new: bool, count: usize, json: bool) {
    if count > 1 {
        let idle = (count - parts % count) % count;
        if idle > 0 {
            let detail = format!(
                "{parts} micro-batches among {count} processes: in a step's last round {idle} have nothing to do"
            );
            warn(json, &detail);
        }
    } else if is_new {
        let detail = format!("a batch of {batch} is more than the device holds at once");
        warn(json, &format!("{detail}: each step is cut into {parts} micro-batches"));
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
    let (terms, others) = labelled::terms(&model, &recipe.diffusion, recipe, options)?;
    let mut trainer = match begin {
        Some(checkpoint) => Trainer::resume_of(device, checkpoint, options, &terms).await?,
        None => Trainer::new_of(device, model, &recipe.diffusion, options, &terms).await?,
    };
    for terms in &others {
        trainer.allow_steps_of(terms).await?;
    }
    Ok(trainer)
}

/// The least number of micro-batches, of 2 images or more and a multiple of `each`, that may fit where `parts` did not; of whole
/// `pairs` where images are mixed in pairs.
fn more_parts(error: &Error, batch: usize, parts: usize, pairs: bool, each: usize) -> Option<usize> {
    let most = error.smaller_batch(batch.checked_div(parts)?)?;
    let fits =
        |parts: &usize| parts.is_multiple_of(each) && divides(batch, *parts, pairs) && batch / parts <= most;
    (parts + 1..=batch / 2).find(fits)
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
        let (small, large, alone) = (open(600 << 10), open(0), Processes::alone());
        let (whole, none) = trainer(&large, &recipe, None, &alone, true).unwrap();
        assert_eq!(none, None);
        let (cut, parts) = trainer(&small, &recipe, None, &alone, true).unwrap();
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
            assert_eq!(trainer(device, &recipe, Some(&saved), &alone, true).unwrap().1, Some(parts));
        }
        // A device that cannot hold two images says what it needs.
        let tiny = open(4 << 10);
        let error = trainer(&tiny, &recipe, None, &alone, true).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::LimitTooSmall { .. }), "{error}");
    }

    #[test]
    fn a_step_is_cut_for_as_many_processes_as_there_are() {
        let recipe = |more: &str| {
            let text = format!(
                "[data]\nkind = \"mnist\"\npath = \"x\"\n[model]\nnum_channels = 32\n[train]\nbatch_size = 24\n{more}"
            );
            Recipe::parse(&text, Path::new("recipe.toml")).unwrap()
        };
        let cut = |recipe: &Recipe, goes_on: bool, count: usize| {
            let mut options = recipe.options();
            shared(&mut options, recipe, goes_on, count).map(|each| (options.micro_batches, each))
        };
        let plain = recipe("");
        assert_eq!([1, 2, 3, 4, 12].map(|count| cut(&plain, false, count).unwrap().0), [1, 2, 3, 4, 12]);
        let more = recipe("micro_batches = 3\n");
        assert_eq!([1, 2, 3, 4].map(|count| cut(&more, false, count).unwrap().0), [3, 4, 3, 4]);
        // A run that goes on keeps its cut as long as there is something to do for all.
        assert_eq!([2, 3, 4].map(|count| cut(&more, true, count).unwrap()), [(3, 1), (3, 1), (4, 4)]);
        for count in [5, 7, 13, 24] {
            let error = cut(&plain, false, count).unwrap_err().to_string();
            let words = format!("multiple of {}, or use as many processes: 2, 3, 4, 6, 8, 12", 2 * count);
            assert!(error.contains("batch_size: 24 images") && error.contains(&words), "{error}");
        }
        let reference = recipe("labelled_share = 0.5\nlabelled_by = \"reference_buffer\"\n");
        assert!(cut(&reference, false, 2).unwrap_err().to_string().contains("labelled_by"));
        assert_eq!(cut(&reference, false, 1).unwrap(), (1, 1));
    }

    #[test]
    fn parts_divide_the_batch() {
        let error = Error::LimitTooSmall { limit: "maxStorageBufferBindingSize", need: 300, have: 100 };
        assert_eq!(more_parts(&error, 12, 1, false, 1), Some(3));
        assert_eq!(more_parts(&error, 10, 1, false, 1), Some(5), "4 images at most");
        assert_eq!(more_parts(&error, 7, 1, false, 1), None, "only single images would divide it");
        assert_eq!(more_parts(&Error::Aborted, 12, 1, false, 1), None);
        assert_eq!(more_parts(&error, 9, 1, false, 1), Some(3));
        assert_eq!(more_parts(&error, 18, 1, false, 1), Some(3));
        assert_eq!(more_parts(&error, 18, 1, true, 1), Some(3));
        assert_eq!(more_parts(&error, 30, 1, true, 1), Some(3));
        assert_eq!(more_parts(&error, 45, 1, true, 1), None, "no pairs divide it");
        assert_eq!(more_parts(&error, 48, 4, false, 4), Some(12), "4 images at most, for four processes");
    }
}
