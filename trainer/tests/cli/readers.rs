//! Training on each published data set's files, tiny ones made here in the official layout: the command reads, fits, splits and
//! learns from them, and a model keeps how its pictures became its size.

use super::{fails, ok, weights};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

/// A folder of data with a recipe of a tiny model.
struct Case {
    home: tempfile::TempDir,
}

impl Case {
    fn new() -> Case {
        Case { home: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// A file of the data.
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path("data").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn recipe(&self, kind: &str, data: &str, channels: usize, classes: usize) {
        let recipe = format!(
            "[data]\nkind = {kind:?}\npath = \"data\"\n{data}\n\
             [model]\nimage_size = 8\nin_channels = {channels}\nnum_channels = 8\nnum_res_blocks = 1\nchannel_mult = [1, 2]\n\
             num_groups = 4\nattention_resolutions = []\nnum_classes = {classes}\n\
             [train]\nsteps = 2\nbatch_size = 4\neval_every = 1\nsample_every = 0\nsample_steps = \"2\"\nlog_every = 1\n\
             classifier_input = \"both\"\n"
        );
        std::fs::write(self.path("recipe.toml"), recipe).unwrap();
    }

    /// Trains two steps; what the command said.
    fn train(&self) -> String {
        ok(&["train", &self.text("recipe.toml"), "--out", &self.text("run")])
    }

    /// Trains, and finds these words in what is said of the data.
    fn says(&self, words: &[&str]) {
        let output = self.train();
        let line = output.lines().next().unwrap();
        for word in words {
            assert!(line.contains(word), "{word}: {line}");
        }
        assert!(output.contains("step 2 of 2") && output.contains("test accuracy"), "{output}");
        assert_eq!(weights(&self.path("run/checkpoint.safetensors")).training.unwrap().step, 2);
    }
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Numbers that differ from image to image.
fn noise(count: usize) -> Vec<u8> {
    (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn mnist() {
    let case = Case::new();
    let idx = |words: &[u32], data: &[u8]| -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).chain(data.iter().copied()).collect()
    };
    for (part, count) in [("train", 8u32), ("t10k", 4)] {
        let labels: Vec<u8> = (0..count as u8).collect();
        case.write(
            &format!("{part}-images-idx3-ubyte.gz"),
            gz(&idx(&[0x803, count, 6, 6], &noise(36 * count as usize))),
        );
        case.write(&format!("{part}-labels-idx1-ubyte.gz"), gz(&idx(&[0x801, count], &labels)));
    }
    case.recipe("mnist", "pad_to = 8", 1, 10);
    case.says(&["12 images of 10 classes", "4 of them to test on", "in the middle of the ground"]);
    // A picture of the data's size is padded as training did it, and so is one of twice that size.
    let model = case.text("run/checkpoint.safetensors");
    assert_eq!(weights(Path::new(&model)).pictures.resize_to, Some(6));
    let pixels = noise(36);
    let small = image::GrayImage::from_vec(6, 6, pixels.clone()).unwrap();
    let padded = image::GrayImage::from_fn(8, 8, |x, y| match (x.checked_sub(1), y.checked_sub(1)) {
        (Some(x), Some(y)) if x < 6 && y < 6 => *small.get_pixel(x, y),
        _ => image::Luma([0]),
    });
    small.save(case.path("small.png")).unwrap();
    let levels =
        duet_trainer::data::load_image(&case.path("small.png"), &weights(Path::new(&model)).preparation());
    assert_eq!(levels.unwrap().levels, padded.into_raw());
    let info = ok(&["info", &model]);
    assert!(info.contains("resized to 6"), "{info}");
    // The same data measured by the model's own file.
    let measured = ok(&["eval", "--model", &model, "--images", "4", "--loss-images", "0"]);
    assert!(measured.contains("accuracy"), "{measured}");
}

#[test]
fn usps_in_both_forms() {
    let line = |digit: u8, image: &[u8]| {
        let values = image.iter().map(|level| format!(" {:.4}", f32::from(*level) / 127.5 - 1.0));
        format!("{digit}.0000{}\n", values.collect::<String>())
    };
    let levels = noise(256 * 12);
    let lines: Vec<String> = levels.chunks(256).zip(0..).map(|(image, i)| line(i % 10, image)).collect();
    let case = Case::new();
    case.write("zip.train.gz", gz(lines[..8].concat().as_bytes()));
    case.write("zip.test.gz", gz(lines[8..].concat().as_bytes()));
    case.recipe("usps", "resize = \"bilinear\"", 1, 10);
    case.says(&["12 images of 10 classes", "images of 1×16×16 become 1×8×8 (resized: bilinear)"]);
    let pictures = weights(&case.path("run/checkpoint.safetensors")).pictures;
    assert_eq!((pictures.resize.name(), pictures.resize_to), ("bilinear", None));

    let sparse = |digit: u8, image: &[u8]| {
        let values = image.iter().zip(1..).map(|(v, i)| format!(" {i}:{:.6}", f32::from(*v) / 127.5 - 1.0));
        format!("{}{}\n", digit + 1, values.collect::<String>())
    };
    let case = Case::new();
    let lines: Vec<String> = levels.chunks(256).zip(0..).map(|(image, i)| sparse(i % 10, image)).collect();
    let mut bz2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz2.write_all(lines[..8].concat().as_bytes()).unwrap();
    case.write("usps.bz2", bz2.finish().unwrap());
    case.write("usps.t", lines[8..].concat());
    case.recipe("usps", "resize_to = 6", 3, 10);
    case.says(&["12 images of 10 classes", "images of 1×16×16 become 3×8×8"]);
}

#[test]
fn optdigits_of_one_part() {
    let case = Case::new();
    let levels = noise(64 * 40);
    let line = |(image, digit): (&[u8], usize)| {
        let counts: String = image.iter().map(|level| format!("{},", level % 17)).collect();
        format!("{counts}{}\n", digit % 10)
    };
    let lines: String = levels.chunks(64).zip(0..).map(line).collect();
    case.write("digits.csv.gz", gz(lines.as_bytes()));
    case.recipe("optdigits", "test_share = 0.3", 1, 10);
    case.says(&["40 images of 10 classes", "are held out by their contents"]);
}

#[test]
fn cifar() {
    let records = |labels: &[&[u8]]| -> Vec<u8> {
        let image = |n: usize| noise(3072 * (n + 1))[3072 * n..].to_vec();
        labels.iter().enumerate().flat_map(|(n, labels)| [labels.to_vec(), image(n)].concat()).collect()
    };
    let case = Case::new();
    let ten: Vec<[u8; 1]> = (0..8).map(|i| [i]).collect();
    let ten: Vec<&[u8]> = ten.iter().map(|label| &label[..]).collect();
    case.write("data_batch_1.bin", records(&ten));
    case.write("test_batch.bin", records(&ten[..3])[..].iter().map(|v| v ^ 1).collect::<Vec<u8>>());
    case.recipe("cifar10", "", 3, 10);
    case.says(&["11 images of 10 classes (airplane 2, automobile 2", "3 of them to test on"]);
    let whole = std::fs::read(case.path("data/data_batch_1.bin")).unwrap();
    case.write("data_batch_1.bin", &whole[..whole.len() - 1]);
    let again = ["train", &case.text("recipe.toml"), "--out", &case.text("again")];
    fails(&again, &["data_batch_1.bin", "has 24583 bytes: 7 records of 3073 and 3072 more"]);

    let case = Case::new();
    let hundred: Vec<[u8; 2]> = (0..8).map(|i| [i, 12 * i]).collect();
    let hundred: Vec<&[u8]> = hundred.iter().map(|labels| &labels[..]).collect();
    case.write("cifar-100-binary/train.bin", records(&hundred));
    case.write("cifar-100-binary/test.bin", records(&[&[19, 99]]));
    case.recipe("cifar100", "labels = \"coarse\"", 3, 20);
    case.says(&["9 images of 20 classes (aquatic_mammals 1, fish 1"]);
}

#[test]
fn svhn() {
    fn element(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }
    let array = |name: &str, dimensions: &[u32], data: &[u8]| {
        let dimensions: Vec<u8> = dimensions.iter().flat_map(|side| side.to_le_bytes()).collect();
        let parts =
            [element(6, &[9, 0, 0, 0, 0, 0, 0, 0]), element(5, &dimensions), element(1, name.as_bytes())];
        let matrix = element(14, &[parts.concat(), element(2, data)].concat());
        let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(&matrix).unwrap();
        let packed = packer.finish().unwrap();
        [15u32.to_le_bytes().to_vec(), (packed.len() as u32).to_le_bytes().to_vec(), packed].concat()
    };
    let case = Case::new();
    for (part, labels) in [("train", &[1u8, 2, 3, 4, 10, 10][..]), ("test", &[9, 10])] {
        let count = labels.len() as u32;
        let mut file = b"MATLAB 5.0 MAT-file".to_vec();
        file.resize(124, b' ');
        file.extend([0, 1, b'I', b'M']);
        file.extend(array("X", &[32, 32, 3, count], &noise(3072 * labels.len())));
        file.extend(array("y", &[count, 1], labels));
        case.write(&format!("{part}_32x32.mat"), file);
    }
    case.recipe("svhn", "", 3, 10);
    case.says(&["8 images of 10 classes (0 3, 1 1, 2 1", "2 of them to test on", "3×32×32 become 3×8×8"]);
}

#[test]
fn npz() {
    let npy = |kind: &str, shape: &str, data: &[u8]| {
        let text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
        [b"\x93NUMPY\x01\0", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), data].concat()
    };
    let case = Case::new();
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let labels: Vec<u8> = (0..16).map(|i| i % 2).collect();
    for (name, array) in [
        ("arr_0.npy", npy("|u1", "(16, 10, 10, 3)", &noise(4800))),
        ("arr_1.npy", npy("|u1", "(16,)", &labels)),
    ] {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(&array).unwrap();
    }
    case.write("all.npz", archive.finish().unwrap().into_inner());
    case.recipe("npz", "test_share = 0.3", 1, 2);
    case.says(&["16 images of 2 classes (0 8, 1 8)", "images of 3×10×10 become 1×8×8"]);
}

/// Cells of eight patients, by slides.
fn cells(case: &Case) {
    let classes = [("Parasitized", "parasitized"), ("Uninfected", "uninfected")];
    for ((folder, table), shade) in classes.into_iter().zip([40u8, 160]) {
        let mut text = String::new();
        for slide in 1..=8u8 {
            let names: Vec<String> =
                (0..2).map(|cell| format!("C{slide}P{slide}ThinF_IMG_1_cell_{}.png", shade + cell)).collect();
            for (name, cell) in names.iter().zip(0u8..) {
                let path = case.path("data/cell_images").join(folder);
                std::fs::create_dir_all(&path).unwrap();
                let level = image::Rgb([shade + slide, 10 * cell, slide]);
                image::RgbImage::from_pixel(9, 7, level).save(path.join(name)).unwrap();
            }
            text += &format!("C{slide}P{slide}ThinF,\"['{}', '{}']\",,\r\n", names[0], names[1]);
        }
        case.write(&format!("patientid_cellmapping_{table}.csv"), text);
    }
}

#[test]
fn malaria_and_what_is_looked_at_during_training() {
    let case = Case::new();
    cells(&case);
    case.recipe("malaria", "test_share = 0.25\nvalidation_share = 0.4", 3, 2);
    let output = case.train();
    for word in [
        "32 images of 2 classes (Parasitized 16, Uninfected 16)",
        "8 of them to test on, 8 to choose settings by",
        "2 of 8 patients are tested on",
    ] {
        assert!(output.lines().next().unwrap().contains(word), "{word}: {output}");
    }
    // The test images are looked at when the run is over, and chose nothing.
    let step = |step: &str| output.lines().filter(|line| line.starts_with(step)).collect::<String>();
    let (first, last) = (step("step 1 "), step("step 2 "));
    assert!(first.contains("validation accuracy") && !first.contains("test accuracy"), "{output}");
    assert!(last.contains("test accuracy"), "{output}");
    let refused = ["train", &case.text("recipe.toml"), "--out", &case.text("other")];
    std::fs::remove_file(case.path("data/patientid_cellmapping_uninfected.csv")).unwrap();
    fails(&refused, &["patientid_cellmapping_uninfected.csv", "on both sides"]);
}

#[test]
fn folders_are_split_by_what_a_pattern_finds() {
    let case = Case::new();
    for (class, shade) in [("dark", 20u8), ("light", 200)] {
        let folder = case.path("data").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..12u8 {
            let path = folder.join(format!("scene{}-{i}.png", i / 3));
            image::GrayImage::from_pixel(8, 8, image::Luma([shade + i])).save(path).unwrap();
        }
    }
    case.recipe("folder", "test_share = 0.25\ngroup = \"scene([0-9]+)-\"", 1, 2);
    case.says(&["24 images of 2 classes (dark 12, light 12), 6 of them to test on"]);
    let refused = |data: &str, words: &[&str]| {
        case.recipe("folder", data, 1, 2);
        fails(&["train", &case.text("recipe.toml"), "--out", &case.text("other")], words);
    };
    refused("group = \"take([0-9]+)\"", &["finds nothing in", "scene0-0.png", "and 21 more"]);
    refused("group = \"scene\"", &["recipe.toml", "data.group", "parentheses"]);
    refused("validation_share = 1.0", &["data.validation_share", "below 1"]);
    refused("resize_to = 9", &["resize_to", "from 1 to the model's 8"]);
    refused("pad_to = 8\nresize_to = 6", &["data.resize_to", "one of them"]);
    refused("resize = \"nearest\"", &["nearest", "bilinear"]);
}
