//! `duet place`: whether explanations of labels change what the data's boxes say is there.

use crate::cli::how::words;
use crate::cli::{Cli, Place};
use crate::data::boxes;
use crate::eval::place::{Found, Way, place};
use crate::io::files::{self, Kind};
use crate::io::output::say;
use crate::io::render::{Grid, Outlined};
use crate::io::session::{Session, watch_interrupts};
use duet::Result;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Images of each label and way in the picture.
const SHOWN: usize = 12;
/// Screen pixels per pixel of an image, at least: boxes are lines between its pixels.
const SCALE: usize = 128;

/// Runs the command.
///
/// # Errors
/// A bad checkpoint, data without boxes; device errors; a picture that cannot be written.
pub fn run(arguments: &Cli, options: &Place) -> Result<()> {
    let inputs = [Some(&options.model.model), options.data.recipe.as_ref(), arguments.tuning.as_ref()];
    let inputs: Vec<&Path> = inputs.into_iter().flatten().map(PathBuf::as_path).collect();
    files::check(&[(Kind::Picture, &options.out)], &inputs)?;
    let session = Session::open(arguments, &options.model)?;
    session.checkpoint.require_denoising()?;
    let spec = session.data_spec(&options.data)?;
    let size = session.config().image_size;
    let boxes = boxes(&spec, size)?;
    let test = session.data(&options.data)?.test;
    watch_interrupts()?;
    let found = place(&session, options, &test, &boxes, arguments.json)?;
    session.close();
    let len = test.image_len();
    let rows: Vec<usize> = (0..test.len()).collect();
    let images = test.images_f32(&rows);
    let mut groups = Vec::new();
    for (one, way) in found.iter().flat_map(|one| one.ways.iter().map(move |way| (one, way))) {
        let shown = way.placed.iter().filter(|placed| placed.made.reached).take(SHOWN);
        let outlined = shown.map(|placed| Outlined {
            original: &images[placed.row * len..(placed.row + 1) * len],
            counterfactual: &placed.made.counterfactual,
            difference: &placed.made.difference,
            own: &placed.own,
            others: &placed.others,
        });
        groups.push((title(&session, one, way), outlined.collect()));
    }
    let scale = SCALE.div_ceil(size.max(1)).max(1) as u32;
    let grid = Grid { channels: test.channels, size, scale };
    grid.save_placed(&options.out, &groups)?;
    let how = words(&options.how.options(None)?);
    if arguments.json {
        let label = |one: &Found| {
            json!({
                "label": session.config().class_name(one.label), "boxes": one.boxes, "box_pixels": one.box_pixels,
                "removed": one.ways[0].figures, "added": one.ways[1].figures,
            })
        };
        let labels: Vec<_> = found.iter().map(label).collect();
        let picture = options.out.display().to_string();
        say!("{}", json!({"test_images": test.len(), "how": how, "labels": labels, "picture": picture}));
        return Ok(());
    }
    say!(
        "{how}; of {} test images; figures of those explained as asked, means ± standard errors",
        test.len()
    );
    for one in &found {
        for way in &one.ways {
            say!("{}", title(&session, one, way));
            way.lines(one.box_pixels).iter().for_each(|line| say!("  {line}"));
        }
    }
    say!("wrote {}: boxes of the label green, others' grey", options.out.display());
    Ok(())
}

fn title(session: &Session, found: &Found, way: &Way) -> String {
    let done = if way.target.present { "added" } else { "removed" };
    format!("{} {done}", session.config().class_name(found.label))
}
