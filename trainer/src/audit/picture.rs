//! Heat maps of where changes fall, a row for each class, with flagged places outlined.

use super::evidence::Direction;
use super::run::ClassAudit;
use crate::io::render::{Grid, Palette, Sheet};
use duet::Result;
use duet::model::ModelConfig;
use std::path::Path;

/// Screen pixels per pixel of images of 28 pixels; larger ones are drawn smaller.
const SCALE: usize = 5;
/// Titles of the columns.
const COLUMNS: [&str; 2] = ["towards it", "away from it"];

/// Which of a place's pixels lie at its edge is left to the outline: `true` inside.
fn inside(pixels: &[usize], plane: usize) -> Vec<bool> {
    let mut inside = vec![false; plane];
    pixels.iter().for_each(|pixel| inside[*pixel] = true);
    inside
}

/// Saves the maps. All are drawn at one scale, whose darkest is the largest change of any.
///
/// # Errors
/// [`duet::Error::Write`] where the file cannot be written; [`duet::Error::Config`] for more classes than fit.
pub fn save(path: &Path, config: &ModelConfig, audits: &[ClassAudit]) -> Result<()> {
    let size = config.image_size;
    let plane = size * size;
    let scale = (28 * SCALE / size).clamp(1, SCALE) as u32;
    let grid = Grid { channels: 1, size, scale };
    let names: Vec<String> = audits.iter().map(|audit| config.class_name(audit.class)).collect();
    let mut sheet = Sheet::new(grid, &names, &COLUMNS)?;
    let directions = [Direction::Toward, Direction::Away];
    let all = audits.iter().flat_map(|audit| directions.map(|direction| &audit.evidence(direction).mean));
    let largest = all.flatten().copied().fold(f32::MIN_POSITIVE, f32::max);
    for (row, audit) in (0u32..).zip(audits) {
        for (column, direction) in (0u32..).zip(directions) {
            let heat: Vec<f32> =
                audit.evidence(direction).mean.iter().map(|change| change / largest).collect();
            sheet.draw([column, row], &heat, Palette::Difference);
            for finding in audit.findings.iter().filter(|finding| finding.direction == direction) {
                sheet.outline([column, row], &inside(&finding.spot.pixels, plane));
            }
        }
    }
    sheet.save(path)
}
