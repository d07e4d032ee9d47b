//! How often a model calls pictures unlike its training data: test images as they are, changed in many ways, and images of
//! other data sets. A model's card shows the table.
//!
//! `cargo run --release --workspace --example unlike_pictures -- --model MODEL --also usps=FOLDER --also cifar10=FOLDER`
//!
//! The second number is the area under the ROC curve of the percentile against the test images as they are: a half where it
//! tells nothing. The model decides by one threshold and sees none of these images before.

use clap::Parser;
use duet::rng::{Seed, Stream, normal_fill, uniform};
use duet::typicality::Typicality;
use duet::{Duet, Error, Result};
use duet_trainer::data::{DataKind, DataSpec, load};
use duet_trainer::recipe::Recipe;
use std::path::{Path, PathBuf};

/// The command line.
#[derive(Debug, Parser)]
struct Options {
    /// The model: of grey images, with statistics of its training data (`duet export --recipe`).
    #[arg(long)]
    model: PathBuf,
    /// Recipe whose test images are taken.
    #[arg(long, default_value = "trainer/recipes/fashion-mnist.toml")]
    recipe: PathBuf,
    /// How many test images are taken as they are, evenly spread.
    #[arg(long, default_value_t = 2000)]
    count: usize,
    /// How many of each other kind.
    #[arg(long, default_value_t = 40)]
    others: usize,
    /// Another data set: its format as recipes call it, and its folder; often.
    #[arg(long, value_name = "FORMAT=FOLDER")]
    also: Vec<String>,
}

/// Images of one kind, one after the other, in −1..1.
struct Kind {
    name: String,
    images: Vec<f32>,
}

/// Square grey images of so many pixels a side, −1 black.
struct Images<'a> {
    size: usize,
    values: &'a [f32],
}

impl Images<'_> {
    fn each(&self, change: impl Fn(&[f32]) -> Vec<f32>) -> Vec<f32> {
        self.values.chunks_exact(self.size * self.size).flat_map(change).collect()
    }

    /// Each value changed.
    fn values(&self, change: impl Fn(f32) -> f32) -> Vec<f32> {
        self.values.iter().map(|value| change(*value)).collect()
    }

    /// Each pixel taken from another place, given as row and column; what lies outside is black.
    fn moved(&self, from: impl Fn(isize, isize) -> (isize, isize)) -> Vec<f32> {
        let size = self.size as isize;
        let inside = |at: isize| (0..size).contains(&at);
        self.each(|image| {
            let pixel = |at: isize| {
                let (row, column) = from(at / size, at % size);
                if inside(row) && inside(column) { image[(row * size + column) as usize] } else { -1.0 }
            };
            (0..size * size).map(pixel).collect()
        })
    }

    /// Each image at another size in the middle of black: means of what falls on a pixel.
    fn shrunk(&self, side: usize) -> Vec<f32> {
        let (size, first) = (self.size, (self.size - side) / 2);
        self.each(|image| {
            let mut made = vec![-1.0; size * size];
            for (row, column) in (0..side * side).map(|at| (at / side, at % side)) {
                let part = |at: usize| (at * size / side)..((at + 1) * size).div_ceil(side);
                let pixels: Vec<f32> =
                    part(row).flat_map(|y| part(column).map(move |x| image[y * size + x])).collect();
                made[(first + row) * size + first + column] =
                    pixels.iter().sum::<f32>() / pixels.len() as f32;
            }
            made
        })
    }
}

/// `count` numbers of 0..1; the streams of different `kind`s are different.
fn random(kind: u32, count: usize) -> Vec<f32> {
    let mut numbers = vec![0.0; count];
    uniform(Seed(0), Stream::Init, kind, 0, &mut numbers);
    numbers
}

/// Three straight strokes, two pixels thick, white on black.
fn strokes(size: usize, image: usize) -> Vec<f32> {
    let mut made = vec![-1.0; size * size];
    for ends in random(100 + image as u32, 12).chunks_exact(4) {
        let at = |from: f32, to: f32, share: f32| ((from + (to - from) * share) * (size - 2) as f32) as usize;
        for step in 0..=4 * size {
            let share = step as f32 / (4 * size) as f32;
            let (row, column) = (at(ends[0], ends[1], share), at(ends[2], ends[3], share));
            for (down, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                made[(row + down) * size + column + right] = 1.0;
            }
        }
    }
    made
}

/// All kinds made of `images`.
fn kinds(images: &Images<'_>) -> Vec<Kind> {
    let (size, pixels) = (images.size, images.size * images.size);
    let (last, quarter) = (size as isize - 1, size as isize / 4);
    let count = images.values.len() / pixels;
    let mut normal = vec![0.0; count * pixels];
    normal_fill(Seed(0), Stream::Init, 1, 0, &mut normal);
    let noised = images.values.iter().zip(&normal).map(|(v, n)| (v + n * 40.0 / 127.5).clamp(-1.0, 1.0));
    let kind = |name: &str, images: Vec<f32>| Kind { name: name.into(), images };
    vec![
        kind("the same, inverted (on white)", images.values(|v| -v)),
        kind("black; white", [vec![-1.0; pixels], vec![1.0; pixels]].concat()),
        kind("one grey level all over", (1..14).flat_map(|i| vec![i as f32 / 7.0 - 1.0; pixels]).collect()),
        kind("uniform noise", random(0, count * pixels).iter().map(|v| 2.0 * v - 1.0).collect()),
        kind("test images with noise (σ 40 of 255)", noised.collect()),
        kind("test images at half the size", images.shrunk(size / 2)),
        kind("test images of half the contrast", images.values(|v| 0.5 * v - 0.5)),
        kind("test images on dark grey (a quarter)", images.values(|v| v.max(-0.5))),
        kind("strokes at random", (0..count).flat_map(|image| strokes(size, image)).collect()),
        kind("test images moved by a quarter", images.moved(|row, column| (row, column - quarter))),
        kind("test images upside down", images.moved(|row, column| (last - row, column))),
        kind("test images on their side", images.moved(|row, column| (column, row))),
    ]
}

/// The first test images of another data set, as large as the model's, and at 5/7 of that on black: 20 of 28 pixels.
fn also(given: &str, count: usize, size: usize) -> Result<Vec<Kind>> {
    let (format, folder) = given.split_once('=').ok_or_else(|| {
        Error::config("also", format!("must be FORMAT=FOLDER, as in usps=data/usps; is {given}"))
    })?;
    let spec = DataSpec::new(DataKind::named(format)?, Path::new(folder));
    let set = load(&spec, 1, size)?.test;
    let values = set.images_f32(&spread(set.len(), count));
    let small = Images { size, values: &values }.shrunk(size * 5 / 7);
    let name = |how: &str| format!("{format}'s test images, {how}");
    Ok(vec![
        Kind { name: name("as large as the image"), images: values },
        Kind { name: name("5/7 as large, on black"), images: small },
    ])
}

/// `count` of `all`, evenly spread.
fn spread(all: usize, count: usize) -> Vec<usize> {
    (0..count.min(all)).map(|at| at * all / count.min(all)).collect()
}

/// The chance that a number of `high` is the larger one of a pair; of equal ones a half.
fn area(high: &[Typicality], low: &[Typicality]) -> f64 {
    let pairs = high.iter().flat_map(|h| low.iter().map(move |l| (h.percentile, l.percentile)));
    let wins = pairs.map(|(h, l)| if h > l { 1.0 } else { f64::from(u8::from(h == l)) / 2.0 });
    wins.sum::<f64>() / (high.len() * low.len()) as f64
}

fn measure(options: &Options) -> Result<()> {
    let recipe = Recipe::load(&options.recipe)?;
    let mut duet = pollster::block_on(Duet::load(&options.model))?;
    let (channels, size) = (duet.config().in_channels, duet.config().image_size);
    if channels != 1 {
        return Err(Error::config("model", "must be of grey images"));
    }
    let test = load(&recipe.data, channels, size)?.test;
    let some = test.images_f32(&spread(test.len(), options.others));
    let mut kinds = kinds(&Images { size, values: &some });
    for given in &options.also {
        kinds.extend(also(given, options.others, size)?);
    }
    let mut look = |images: &[f32]| {
        let found = pollster::block_on(duet.typicality(images))?;
        found.ok_or_else(|| Error::config("model", "has no statistics of its training data"))
    };
    let plain = look(&test.images_f32(&spread(test.len(), options.count)))?;
    println!("| Pictures | number | called unlike | AUROC against test images |\n|---|---|---|---|");
    let share = |found: &[Typicality]| {
        100.0 * found.iter().filter(|found| found.unlike).count() as f64 / found.len() as f64
    };
    println!("| official test images | {} | {:.1} % | |", plain.len(), share(&plain));
    for kind in kinds {
        let found = look(&kind.images)?;
        let (count, area) = (found.len(), area(&found, &plain));
        println!("| {} | {count} | {:.0} % | {area:.3} |", kind.name, share(&found));
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    match measure(&Options::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("unlike_pictures: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_what_their_names_say() {
        let size = 8;
        let mut image = vec![-1.0; 64];
        image[2 * size + 5] = 1.0;
        let made = kinds(&Images { size, values: &image });
        let of = |name: &str| &made.iter().find(|kind| kind.name.contains(name)).unwrap().images;
        let lit = |name: &str| of(name).iter().position(|v| *v == 1.0).map(|at| (at / size, at % size));
        assert_eq!(lit("moved by a quarter"), Some((2, 7)));
        assert_eq!(lit("upside down"), Some((5, 5)));
        assert_eq!(lit("on their side"), Some((5, 2)));
        assert_eq!(of("inverted")[2 * size + 5], -1.0);
        assert_eq!((of("half the contrast")[0], of("dark grey")[0]), (-1.0, -0.5));
        // A pixel of four is what is left of it.
        assert_eq!(of("half the size")[(2 + 1) * size + 2 + 2], -0.5);
        assert_eq!(of("one grey level").len(), 13 * 64);
        assert!(made.iter().all(|kind| kind.images.iter().all(|v| (-1.0..=1.0).contains(v))));
        assert!(strokes(size, 0) != strokes(size, 1) && strokes(size, 0).contains(&1.0));
    }

    #[test]
    fn areas_count_equal_ones_half() {
        let of = |percentiles: &[f64]| -> Vec<Typicality> {
            percentiles.iter().map(|p| Typicality { percentile: *p, unlike: *p > 99.0 }).collect()
        };
        assert_eq!(area(&of(&[3.0, 100.0]), &of(&[1.0, 2.0])), 1.0);
        assert_eq!(area(&of(&[2.0]), &of(&[1.0, 2.0, 2.0, 3.0])), 0.5);
        assert_eq!(spread(10, 4), [0, 2, 5, 7]);
        assert_eq!(spread(3, 4), [0, 1, 2]);
    }

    #[test]
    fn what_is_given_besides_is_checked() {
        assert!(also("usps", 4, 28).err().unwrap().to_string().contains("FORMAT=FOLDER"));
        assert!(also("nothing=here", 4, 28).err().unwrap().to_string().contains("there is no"));
    }
}
