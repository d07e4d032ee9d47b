//! Where in its pictures a data set has what its labels name: boxes, in pixels of the model's images.

use super::celeba::{self, Part};
use super::foreign::foreign;
use super::{DataSpec, bad, whole};
use duet::Result;
use duet::picture::{Fit, Preparation};
use std::collections::HashMap;
use std::path::Path;

/// Name of the table in a data set's folder.
const BOXES: &str = "boxes.txt";

/// One thing in an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Boxed {
    /// The label's name.
    pub label: String,
    /// Left, top, right and bottom edge in the model's pixels, within the image.
    pub edges: [f64; 4],
}

/// The boxes of each image that is tested on, in the images' order; of a kind of data that has boxes.
///
/// # Errors
/// [`duet::Error::Data`] for data without boxes, or a table that is damaged, naming file and line.
pub fn boxes(spec: &DataSpec, size: usize) -> Result<Vec<Vec<Boxed>>> {
    let held_out = match spec.kind.name() {
        "celeba" => Part::Test,
        "celeba-validation" => Part::Validation,
        other => {
            return Err(bad(
                &spec.path,
                format!("of the kind {other:?} has no boxes; \"celeba\" may have some"),
            ));
        }
    };
    let files = celeba::files(spec, held_out)?;
    let path = spec.path.join(BOXES);
    let bytes = whole(&path).map_err(|e| bad(&path, format!("cannot be read: {e}")))?;
    if let Some(word) = foreign(&bytes) {
        return Err(bad(&path, word));
    }
    let text = String::from_utf8(bytes).map_err(|_| bad(&path, "is no text in UTF-8"))?;
    let table = table(&text).map_err(|detail| bad(&path, detail))?;
    let preparation = spec.preparation(3, size);
    let of = |file: &Path| -> Result<Vec<Boxed>> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let found = table.get(name.as_ref()).ok_or_else(|| bad(&path, format!("has no line for {name}")))?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let sides = sides(file).map_err(|e| bad(file, format!("has no size: {e}")))?;
        Ok(found.iter().filter_map(|(label, edges)| seen(label, *edges, sides, &preparation)).collect())
    };
    files.iter().map(|file| of(file)).collect()
}

/// Width and height of a picture, whatever its name ends in.
fn sides(file: &Path) -> image::ImageResult<(u32, u32)> {
    image::ImageReader::open(file)?.with_guessed_format()?.into_dimensions()
}

/// A label's name and its box in the picture's own pixels.
type Named<'a> = (&'a str, [f64; 4]);

/// The boxes of each picture.
fn table(text: &str) -> std::result::Result<HashMap<&str, Vec<Named<'_>>>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut table = HashMap::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let mut fields = line.split_whitespace();
        let file = fields.next().unwrap_or_default();
        // Which picture it was cut from, and where: for people.
        let boxes = fields.skip(3).map(|field| {
            boxed(field)
                .ok_or_else(|| format!("line {number}: {field:?} is no box as in \"Name:x0,y0,x1,y1\""))
        });
        let boxes = boxes.collect::<std::result::Result<Vec<_>, String>>()?;
        if table.insert(file, boxes).is_some() {
            return Err(format!("line {number}: {file} is there twice"));
        }
    }
    Ok(table)
}

fn boxed(field: &str) -> Option<Named<'_>> {
    let (label, numbers) = field.split_once(':')?;
    let numbers: Vec<f64> = numbers.split(',').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let edges @ [left, top, right, bottom] = numbers.try_into().ok()?;
    let sound = edges.iter().all(|edge: &f64| edge.is_finite()) && left < right && top < bottom;
    (sound && !label.is_empty()).then_some((label, edges))
}

/// A box as the model's images show it; `None` where nothing of it is seen.
fn seen(label: &str, edges: [f64; 4], sides: (u32, u32), preparation: &Preparation) -> Option<Boxed> {
    let sides = [sides.0, sides.1].map(f64::from);
    let [size, before] = preparation.inside().map(|pixels| pixels as f64);
    let (short, long) = (sides[0].min(sides[1]), sides[0].max(sides[1]));
    // What of each side becomes the image's, as far beyond the picture as it is padded.
    let window = match preparation.fit {
        Fit::Crop => [short; 2],
        Fit::Pad => [long; 2],
        Fit::Stretch => sides,
    };
    let place = |edge: f64, axis: usize| {
        let from = (sides[axis] - window[axis]) / 2.0;
        before + ((edge - from) * size / window[axis]).clamp(0.0, size)
    };
    let [left, top, right, bottom] = edges;
    let edges = [place(left, 0), place(top, 1), place(right, 0), place(bottom, 1)];
    let visible = edges[0] < edges[2] && edges[1] < edges[3];
    visible.then(|| Boxed { label: label.to_owned(), edges })
}
