//! `duet sample`: mixtures and labels, ways from one class to another, inpainting, pictures to stay near, files for evaluators.

use super::explaining::labelled;
use super::preparation::demo;
use super::{Project, fails, ok};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

/// What a command says, and the picture that it writes.
fn sampled(project: &Project, more: &[&str]) -> (Value, image::GrayImage) {
    let (model, out) = (project.text("run/checkpoint.safetensors"), project.text("samples.png"));
    let sample = ["--json", "sample", "--model", &model, "--steps", "4", "--force", "--out", &out];
    let said = serde_json::from_str(&ok(&[&sample[..], more].concat())).unwrap();
    (said, image::open(&out).unwrap().to_luma8())
}

/// Image `column` of row `row` of a picture of `rows` rows, 8 pixels a side drawn as 2 × 2 each.
fn cell(picture: &image::GrayImage, columns: u32, column: u32, row: u32) -> Vec<u8> {
    let left = picture.width() - columns * 18 + column * 18;
    let top = row * 18 + 2;
    (0..64).map(|at| picture.get_pixel(left + 2 * (at % 8), top + 2 * (at / 8)).0[0]).collect()
}

fn distance(a: &[u8], b: &[u8]) -> u64 {
    a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum()
}

#[test]
fn rows_are_mixtures_and_ways_from_one_class_to_another() {
    let project = Project::new();
    project.train("run", &[]);
    let calm = ["--eta", "0", "-n", "5"];
    let (said, picture) =
        sampled(&project, &[&calm[..], &["--class", "dark,light", "--between", "dark,light"]].concat());
    let rows = said["classes"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!((&rows[2]["from"]["dark"], &rows[2]["to"]["dark"]), (&1.0.into(), &0.0.into()));
    assert_eq!(rows[2]["probabilities"].as_array().unwrap().len(), 5);
    let way: Vec<Vec<u8>> = (0..5).map(|column| cell(&picture, 5, column, 2)).collect();
    let mixed: [&[&str]; 2] = [&["--toward", "dark"], &["--toward", "light=0.5,dark=0.5"]];
    let (_, alone) = sampled(&project, &[&calm[..], mixed[1], &["--between", "dark,light"]].concat());
    let middle = cell(&alone, 5, 2, 1);
    let (_, again) =
        sampled(&project, &[&calm[..], mixed[1], &["--between", "dark,light", "--batch", "3"]].concat());
    assert_eq!(middle, cell(&again, 5, 2, 1), "whatever the batch");
    assert!(way.windows(2).all(|pair| pair[0] != pair[1]), "each step changes it");
    let far = distance(&way[0], &way[4]);
    assert!(way.windows(2).all(|pair| distance(&pair[0], &pair[1]) < far), "and by less than the whole way");
    // Noise from one to another: the ends are the images that there are without.
    let (_, plain) = sampled(&project, &[&calm[..], mixed[0]].concat());
    let (_, through) = sampled(&project, &[&calm[..], mixed[0], &["--interpolate"]].concat());
    for end in [0, 4] {
        assert_eq!(cell(&plain, 5, end, 0), cell(&through, 5, end, 0));
    }
    assert!((1..4).all(|column| cell(&plain, 5, column, 0) != cell(&through, 5, column, 0)));

    let model = project.text("run/checkpoint.safetensors");
    let refused = |more: &[&str], words: &[&str]| {
        fails(&[&["sample", "--model", &model, "--steps", "4", "--force"][..], more].concat(), words);
    };
    refused(&["--between", "dark,light"], &["between", "adds no noise", "--eta 0"]);
    refused(&["--interpolate"], &["interpolate", "dpm++"]);
    refused(&["--interpolate", "--eta", "0", "-n", "1"], &["count", "at least 2"]);
    refused(&["--toward", "dark=0.5", "--guidance", "none"], &["toward", "guidance"]);
    refused(&["--toward", "grey=1"], &["\"grey\"", "dark"]);
}

#[test]
fn labels_are_asked_for_together_and_others_are_left_to_the_model() {
    let project = labelled();
    let (said, _) = sampled(&project, &["-n", "2", "--alpha", "1", "--toward", "-WBC,+high=0.5"]);
    let row = &said["classes"][0];
    assert_eq!(row["toward"], serde_json::json!({"WBC": 0.0, "+high": 0.5}));
    assert!(row["recognised"].as_u64().unwrap() <= 2, "{row}");
    let (said, _) = sampled(&project, &["-n", "1", "--alpha", "1"]);
    assert_eq!(said["classes"].as_array().unwrap().len(), 3, "each label by itself: {said}");
}

#[test]
fn parts_of_a_picture_are_made_anew_and_pictures_stay_near_another() {
    let project = Project::new();
    project.train("run", &[]);
    let (picture, mask) = (project.text("data/light/3.png"), project.text("mask.png"));
    image::GrayImage::from_fn(8, 8, |x, _| image::Luma([if x < 4 { 255 } else { 0 }])).save(&mask).unwrap();
    let given: Vec<u8> = image::open(&picture).unwrap().to_luma8().into_raw();
    let half = |image: &[u8], left: bool| -> Vec<u8> {
        image.iter().enumerate().filter(|(at, _)| (at % 8 < 4) == left).map(|(_, level)| *level).collect()
    };
    let inpaint = ["-n", "2", "--alpha", "1", "--inpaint", &picture, "--mask", &mask];
    for solver in ["ddim", "dpm++", "dpm++sde"] {
        let (_, made) = sampled(&project, &[&inpaint[..], &["--sampler", solver]].concat());
        for column in 0..2 {
            let made = cell(&made, 2, column, 1);
            assert_eq!(half(&made, false), half(&given, false), "{solver}: what is kept is kept");
            assert_ne!(half(&made, true), half(&given, true), "{solver}: the rest is new");
        }
    }
    // Near a picture by a model that has learnt what pictures are.
    let (shipped, shoe) = (demo("model.safetensors"), demo("images/00009.png"));
    let (shipped, shoe) = (shipped.to_string_lossy(), shoe.to_string_lossy());
    let out = project.text("near.png");
    let near = |weight: &str| {
        let sample =
            ["--json", "sample", "--model", &shipped, "--class", "Sneaker", "--steps", "8", "-n", "4"];
        let said = ok(&[&sample[..], &["--near", &shoe, "--nearness", weight, "--out", &out]].concat());
        let said: Value = serde_json::from_str(&said).unwrap();
        let all = said["classes"][0]["distances"].as_array().unwrap().iter();
        all.map(|d| d.as_f64().unwrap()).sum::<f64>()
    };
    let (free, held) = (near("0"), near("2"));
    assert!(held < 0.9 * free, "{free} {held}");

    let model = project.text("run/checkpoint.safetensors");
    let black = project.text("black.png");
    image::GrayImage::new(8, 8).save(&black).unwrap();
    let refused = |more: &[&str], words: &[&str]| {
        fails(&[&["sample", "--model", &model, "--steps", "4", "--force"][..], more].concat(), words);
    };
    refused(&["--inpaint", &picture, "--mask", &black], &["mask", "nothing may change"]);
    refused(&["--inpaint", &picture, "--mask", &project.text("no.png")], &["no.png"]);
    refused(&["--inpaint", &picture, "--mask", &mask, "--out", &mask], &["mask.png", "replace"]);
    refused(&["--near", &picture, "--guidance", "none"], &["near", "guidance"]);
}

/// The arrays of a file: what follows each header, whose length NumPy's format says.
fn arrays(path: &Path) -> BTreeMap<String, (String, Vec<u8>)> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    let names: Vec<String> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    let read = |name: String| {
        let mut bytes = Vec::new();
        archive.by_name(&name).unwrap().read_to_end(&mut bytes).unwrap();
        let start = 10 + usize::from(bytes[8]) + 256 * usize::from(bytes[9]);
        let data = bytes.split_off(start);
        (name, (String::from_utf8_lossy(&bytes[10..]).into_owned(), data))
    };
    names.into_iter().map(read).collect()
}

#[test]
fn evaluators_get_all_images_and_their_classes() {
    let project = Project::new();
    project.train("run", &[]);
    let npz = project.text("samples.npz");
    let (said, picture) = sampled(&project, &["-n", "40", "--npz", &npz]);
    assert_eq!(said["npz"], npz.as_str());
    let held = arrays(Path::new(&npz));
    let (head, images) = &held["arr_0.npy"];
    assert!(head.contains("'|u1'") && head.contains("(80, 8, 8, 1)"), "{head}");
    let (head, labels) = &held["arr_1.npy"];
    assert!(head.contains("'<i8'") && head.contains("(80,)"), "{head}");
    let labels: Vec<u8> = labels.chunks(8).map(|label| label[0]).collect();
    assert_eq!(labels, [[0; 40], [1; 40]].concat());
    for (column, row) in [(0, 0), (31, 0), (7, 1)] {
        let number = 40 * row + column;
        assert_eq!(images[64 * number..][..64], cell(&picture, 32, column as u32, row as u32));
    }
    // Of mixtures nobody can say which class they are.
    sampled(&project, &["-n", "2", "--npz", &npz, "--toward", "dark,light"]);
    assert_eq!(arrays(Path::new(&npz)).keys().collect::<Vec<_>>(), ["arr_0.npy"]);
    let model = project.text("run/checkpoint.safetensors");
    fails(&["sample", "--model", &model, "--npz", "samples.zip"], &["npz", "must end in .npz"]);
}

/// What Python says of a script.
fn python(script: &str, arguments: &[&str]) -> String {
    let python = std::env::var("DUET_PYTORCH").expect("DUET_PYTORCH names a Python with NumPy");
    let said = Command::new(python).args([&["-c", script][..], arguments].concat()).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

#[test]
#[ignore = "needs Python with NumPy, which DUET_PYTORCH names"]
fn numpy_reads_what_is_written_and_writes_what_is_read() {
    let project = Project::new();
    project.train("run", &[]);
    let at = |name: &str| project.text(name);
    let (npz, model) = (at("samples.npz"), at("run/checkpoint.safetensors"));
    sampled(&project, &["-n", "3", "--npz", &npz]);
    let script = "\
import sys, numpy
held = numpy.load(sys.argv[1])
images, labels = held['arr_0'], held['arr_1']
print(images.dtype, images.shape, int(images.astype(int).sum()), labels.dtype, labels.tolist())
numpy.savez_compressed(sys.argv[2], arr_0=numpy.flip(images, 2))";
    let said = python(script, &[&npz, &at("flipped.npz")]);
    let sum: u64 = arrays(Path::new(&npz))["arr_0.npy"].1.iter().map(|level| u64::from(*level)).sum();
    assert_eq!(said, format!("uint8 (6, 8, 8, 1) {sum} int64 [0, 0, 0, 1, 1, 1]"));
    // A reference batch of NumPy's, and one of its statistics alone: those that are kept of the test images.
    let cache = at("cache");
    let distance = |more: &[&str]| {
        let eval =
            ["--json", "--cache", &cache, "eval", "--model", &model, "--images", "2", "--loss-images", "0"];
        let said = ok(&[&eval[..], &["--metrics", "fid", "--samples-npz", &npz], more].concat());
        let said: Value = serde_json::from_str(&said).unwrap();
        said["metrics"]["figures"][0]["value"].as_f64().unwrap()
    };
    assert!(distance(&["--reference", &at("flipped.npz")]) > 0.0);
    let from_images = distance(&[]);
    let script = "\
import sys, glob, numpy
[kept] = [numpy.load(f) for f in glob.glob(sys.argv[1] + '/**/*.features.npz', recursive=True)
          if numpy.load(f)['pooled'].shape[0] == 12]
numpy.testing.assert_allclose(numpy.cov(kept['pooled'].astype(float), rowvar=False), kept['sigma'], rtol=1e-6, atol=1e-9)
numpy.savez(sys.argv[2], mu=kept['mu'], sigma=kept['sigma'])";
    python(script, &[&cache, &at("statistics.npz")]);
    let from_statistics = distance(&["--reference", &at("statistics.npz")]);
    assert!((from_images - from_statistics).abs() < 1e-6 * from_images, "{from_images} {from_statistics}");
}
