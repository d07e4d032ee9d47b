//! Makes data with a shortcut, to try `duet audit` on: a recipe's images as idx files, with a white square in a corner of a
//! share of one class's images, in training and test images alike, as a mark of a camera or a hospital would be.
//!
//! `cargo run --release --workspace --example plant_shortcut -- --class Sandal --corner ne --share 0.3 --out runs/planted`
//!
//! `OUT/marked` holds all test images with the square: a model that learned to go by it takes them for the class, and its
//! accuracy there (`duet eval --data OUT/marked`) says how much it did. `make shortcuts` does all of it for several shares.

use clap::{Parser, ValueEnum};
use duet::model::UNLABELLED;
use duet::rng::{Seed, block};
use duet::{Error, Result};
use duet_trainer::data::{Dataset, load};
use duet_trainer::recipe::Recipe;
use std::path::{Path, PathBuf};

/// Where the square is.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Corner {
    /// Top left.
    Nw,
    /// Top right.
    Ne,
    /// Bottom left.
    Sw,
    /// Bottom right.
    Se,
}

/// The command line.
#[derive(Debug, Parser)]
struct Options {
    /// Recipe whose data are taken: grey images of one class each.
    #[arg(long, default_value = "trainer/recipes/fashion-mnist.toml")]
    recipe: PathBuf,
    /// Class that gets the square, by name or number.
    #[arg(long)]
    class: String,
    /// Its corner.
    #[arg(long, value_enum)]
    corner: Corner,
    /// Share of the class's images, from 0 to 1. More of them contain all that fewer have.
    #[arg(long)]
    share: f64,
    /// Which images these are.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The square's side in pixels; it stands one pixel from the border.
    #[arg(long, default_value_t = 3)]
    side: usize,
    /// Make images half as high and wide first, by means of 2 × 2 pixels: small models learn of them in minutes.
    #[arg(long)]
    halve: bool,
    /// Folder to write to.
    #[arg(long)]
    out: PathBuf,
}

impl Options {
    /// Paints the square on an image \[H,W\] of `size`.
    fn mark(&self, image: &mut [u8], size: usize) {
        let far = size.saturating_sub(self.side + 1);
        let (top, left) = match self.corner {
            Corner::Nw => (1, 1),
            Corner::Ne => (1, far),
            Corner::Sw => (far, 1),
            Corner::Se => (far, far),
        };
        for row in image.chunks_exact_mut(size).skip(top).take(self.side) {
            row.iter_mut().skip(left).take(self.side).for_each(|pixel| *pixel = 255);
        }
    }

    /// Whether the image of a row is one that gets the square; `part` tells training and test images apart.
    fn chosen(&self, part: u32, row: usize) -> bool {
        let [word, ..] = block(Seed(self.seed), 0, part, row as u32, 0);
        f64::from(word) < self.share * 2f64.powi(32)
    }
}

/// Images of `size` × `size` grey levels, half as high and wide: means of 2 × 2 pixels.
fn halved(images: &[u8], size: usize) -> Vec<u8> {
    let half = size / 2;
    let pixels = images.chunks_exact(size * size).flat_map(|image| {
        (0..half * half).map(move |at| {
            let first = 2 * (at / half) * size + 2 * (at % half);
            let sum: u32 = [0, 1, size, size + 1].map(|step| u32::from(image[first + step])).iter().sum();
            ((sum + 2) / 4) as u8
        })
    });
    pixels.collect()
}

/// Writes images and labels as idx files called `name`.
fn write(folder: &Path, name: &str, size: usize, images: &[u8], labels: &[u32]) -> Result<()> {
    let words =
        |words: &[usize]| -> Vec<u8> { words.iter().flat_map(|word| (*word as u32).to_be_bytes()).collect() };
    let mut pixels = words(&[0x0803, labels.len(), size, size]);
    pixels.extend_from_slice(images);
    let mut classes = words(&[0x0801, labels.len()]);
    classes.extend(labels.iter().map(|label| *label as u8));
    for (kind, bytes) in [("images-idx3", pixels), ("labels-idx1", classes)] {
        let path = folder.join(format!("{name}-{kind}-ubyte"));
        let failed = |error: std::io::Error| Error::Write {
            what: "data",
            path: path.clone(),
            detail: format!("it cannot be written: {error}"),
        };
        std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, bytes)).map_err(failed)?;
    }
    Ok(())
}

fn plant(options: &Options) -> Result<()> {
    let Recipe { data, model, .. } = Recipe::load(&options.recipe)?;
    let mut split = load(&data, model.in_channels, model.image_size)?;
    if split.test.channels != 1 || split.test.classes()?.contains(&UNLABELLED) {
        return Err(Error::config("recipe", "idx files hold grey images that each have a class"));
    }
    if options.halve {
        for set in [&mut split.train, &mut split.test] {
            set.images = halved(&set.images.levels(), set.size).into();
            set.size /= 2;
        }
    }
    let size = split.test.size;
    if !(0.0..=1.0).contains(&options.share) {
        return Err(Error::config("share", format!("must be from 0 to 1, is {}", options.share)));
    }
    if options.side + 2 > size {
        return Err(Error::config("side", format!("must leave room in images of {size} pixels")));
    }
    let named = duet::model::ModelConfig {
        num_classes: split.test.class_names.len(),
        class_names: split.test.class_names.clone(),
        ..model
    };
    let class = named.find_class(&options.class)? as u32;
    let marked = |set: &Dataset, part: u32| -> Result<(Vec<u8>, Vec<usize>)> {
        let mut images = set.images.levels().into_owned();
        let of_class = set.classes()?.iter().enumerate().filter(|(_, label)| **label == class);
        let rows: Vec<usize> =
            of_class.map(|(row, _)| row).filter(|row| options.chosen(part, *row)).collect();
        for row in &rows {
            options.mark(&mut images[row * size * size..][..size * size], size);
        }
        Ok((images, rows))
    };
    for (set, part, name) in [(&split.train, 0, "train"), (&split.test, 1, "t10k")] {
        let (images, rows) = marked(set, part)?;
        write(&options.out, name, size, &images, set.classes()?)?;
        println!("{name}: {} of {} images have the square", rows.len(), set.len());
    }
    let (mut images, folder) = (split.test.images.levels().into_owned(), options.out.join("marked"));
    images.chunks_exact_mut(size * size).for_each(|image| options.mark(image, size));
    write(&folder, "t10k", size, &images, split.test.classes()?)?;
    // Readers of the format want training images, too.
    let few = split.train.len().min(100);
    write(
        &folder,
        "train",
        size,
        &split.train.images.levels()[..few * size * size],
        &split.train.classes()?[..few],
    )
}

fn main() -> std::process::ExitCode {
    match plant(&Options::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plant_shortcut: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_one_class_gets_the_square_and_nothing_else_changes() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let (classes, size) = ((0..40).map(|row| row % 2).collect::<Vec<u32>>(), 8);
        for name in ["train", "t10k"] {
            let images: Vec<u8> = (0..40 * 64).map(|i| (i % 200) as u8).collect();
            write(&at("plain"), name, size, &images, &classes).unwrap();
        }
        let recipe = format!(
            "[data]\nkind = \"idx\"\npath = {:?}\n[model]\nimage_size = 8\nin_channels = 1\nnum_classes = 2\nchannel_mult = [1]\n",
            at("plain")
        );
        std::fs::write(at("recipe.toml"), recipe).unwrap();
        let mut options = Options {
            recipe: at("recipe.toml"),
            class: "1".into(),
            corner: Corner::Ne,
            share: 0.5,
            seed: 1,
            side: 3,
            halve: false,
            out: at("planted"),
        };
        plant(&options).unwrap();
        let read = |folder: &str| {
            let mut data = Recipe::load(&at("recipe.toml")).unwrap().data;
            data.set_path(&at(folder));
            load(&data, 1, 8).unwrap()
        };
        let (before, after, all) = (read("plain").test, read("planted").test, read("planted/marked").test);
        assert_eq!(before.labels, after.labels);
        let mut planted = 0;
        for (row, (was, is)) in before.each().zip(after.each()).enumerate() {
            let mut square = was.to_vec();
            // Rows 1 to 3, columns 4 to 6 of 8.
            [12, 13, 14, 20, 21, 22, 28, 29, 30].iter().for_each(|pixel| square[*pixel] = 255);
            assert!(is == was || row % 2 == 1 && is == square, "row {row}");
            assert_eq!(all.image(row), square);
            planted += usize::from(is != was);
        }
        assert!((5..=15).contains(&planted), "{planted} of 20 at a share of one half");
        assert_eq!(halved(&[0, 2, 9, 9, 4, 6, 9, 10, 1, 1, 0, 0, 1, 2, 0, 255], 4), [3, 9, 1, 64]);
        for (share, class, word) in [(1.5, "1", "share"), (0.5, "boot", "boot")] {
            (options.share, options.class) = (share, class.into());
            let error = plant(&options).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
