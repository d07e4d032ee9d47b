//! `duet eval --metrics` with files of images, or of their moments, in the place of generated and real ones.

use super::{Project, fails, ok};
use duet_trainer::data::{Array, Arrays, pack};
use serde_json::Value;
use std::path::Path;

/// Images of 8×8 pixels as other programs save them.
fn images(count: usize, contrast: usize) -> Vec<u8> {
    let level = |i: usize, y: usize, x: usize| (i * 37 % 101 + (y * 3 + x * (i % 7)) * contrast) % 256;
    (0..count * 64).map(|at| level(at / 64, at / 8 % 8, at % 8) as u8).collect()
}

/// A file with these arrays.
fn npz(project: &Project, name: &str, arrays: &[(&str, Array)]) -> String {
    std::fs::write(project.path(name), pack(arrays).unwrap()).unwrap();
    project.text(name)
}

/// The value of a figure.
fn value(json: &Value, metric: &str) -> f64 {
    let figures = json["metrics"]["figures"].as_array().unwrap();
    let figure = figures.iter().find(|figure| figure["metric"] == metric);
    figure.unwrap_or_else(|| panic!("no {metric}: {json}"))["value"].as_f64().unwrap()
}

/// A project with a model, and the command that measures it, quickly.
fn model() -> (Project, Vec<String>) {
    let project = Project::new();
    project.train("run", &["--steps", "4"]);
    let [model, cache] = ["run/checkpoint.safetensors", "cache"].map(|name| project.text(name));
    let line = ["eval", "--model", &model, "--cache", &cache, "--loss-images", "0"];
    let quick = ["--nll-images", "2", "--nll-timesteps", "2"];
    (project, line.iter().chain(&quick).map(|word| (*word).to_owned()).collect())
}

const OF_GENERATED: [&str; 8] =
    ["fid", "sfid-spatial", "sfid-split", "is", "kid", "prd", "precision-recall", "density-coverage"];

#[test]
fn images_or_moments_of_files_are_measured() {
    let (project, line) = model();
    let real = npz(&project, "real.npz", &[("arr_0", Array::of_bytes(&[40, 8, 8, 1], images(40, 3)))]);
    // Labels beside them are no harm, and grey images need no channels.
    let made = [
        ("arr_0", Array::of_bytes(&[36, 8, 8], images(36, 11))),
        ("arr_1", Array::of_labels(&[36], &[1; 36])),
    ];
    let made = npz(&project, "made.npz", &made);
    let eval = |metrics: &str, samples: &str, reference: &str| -> Value {
        let line = line.iter().map(String::as_str);
        let more = ["--metrics", metrics, "--samples-npz", samples, "--reference", reference];
        let line: Vec<&str> = std::iter::once("--json").chain(line).chain(more).collect();
        serde_json::from_str(&ok(&line)).unwrap()
    };
    let all = eval("all", &made, &real);
    for metric in OF_GENERATED.iter().chain(&["ece", "nll"]) {
        assert!(value(&all, metric).is_finite(), "{metric}");
    }
    assert!(all["metrics"]["confusion"].is_object() && all["metrics"]["per_class"].is_array(), "{all}");
    let fid = &all["metrics"]["figures"][0];
    assert_eq!(fid["name"], "own-feature FID");
    let protocol = fid["protocol"].as_str().unwrap();
    assert!(
        protocol.contains("40 images of real.npz") && protocol.contains("36 generated of made.npz"),
        "{protocol}"
    );
    let notes = |json: &Value| json["metrics"]["notes"].to_string();
    assert!(notes(&all).contains("36 images are too large"), "{}", notes(&all));
    // The same images on both sides are as like as can be.
    let same = eval("fid,precision-recall,sfid-spatial", &real, &real);
    assert!(value(&same, "fid") < 1e-3 * value(&all, "fid"), "{same}");
    assert!(value(&same, "sfid-spatial") < 1e-3 * value(&all, "sfid-spatial"), "{same}");
    assert_eq!(value(&same, "precision-recall"), 1.0);

    // The real images' features were kept, once, and their file is a reference in turn: its moments give the same distances.
    let listed: Value =
        serde_json::from_str(&ok(&["--json", "data", "cache", "--cache", &project.text("cache")])).unwrap();
    let files = listed["files"].as_array().unwrap().iter().filter(|file| file["kind"] == "features");
    let files: Vec<&Value> = files.collect();
    let [kept] = &files[..] else { panic!("{listed}") };
    assert_eq!(kept["pictures"], 40, "{listed}");
    let moments = project.text("moments.npz");
    std::fs::copy(kept["file"].as_str().unwrap(), &moments).unwrap();
    let of_moments = eval("all", &made, &moments);
    for metric in ["fid", "sfid-spatial"] {
        let [of_images, of_moments] = [&all, &of_moments].map(|json| value(json, metric));
        assert!((of_moments / of_images - 1.0).abs() < 1e-4, "{metric}: {of_images}, {of_moments}");
    }
    assert_eq!(value(&of_moments, "is"), value(&all, "is"), "of the generated images alone");
    for metric in ["sfid-split", "kid", "prd", "precision-recall", "density-coverage"] {
        let note = format!("no {metric}: the reference holds no images, only their mean and covariance");
        assert!(notes(&of_moments).contains(&note), "{}", notes(&of_moments));
    }
    // Without spatial moments there is no distance of these either.
    let mut arrays = Arrays::open(Path::new(&moments)).unwrap();
    let pair = ["mu", "sigma"].map(|name| (name, arrays.get(name).unwrap()));
    let pooled = npz(&project, "pooled.npz", &pair);
    let of_pooled = eval("all", &made, &pooled);
    assert_eq!(value(&of_pooled, "fid"), value(&of_moments, "fid"));
    assert!(
        notes(&of_pooled).contains("no sfid-spatial: there are no spatial features"),
        "{}",
        notes(&of_pooled)
    );
    // What is asked for by name and cannot be had is an error.
    let refused = |metric: &str, words: &[&str]| {
        let more = ["--metrics", metric, "--samples-npz", &made, "--reference", &pooled];
        fails(&line.iter().map(String::as_str).chain(more).collect::<Vec<_>>(), words);
    };
    refused("kid", &["metrics: kid", "only their mean and covariance"]);
    refused("fid,sfid-spatial", &["metrics: sfid-spatial", "no spatial features"]);

    let cache = project.text("cache");
    let text = ok(&["data", "cache", "--cache", &cache]);
    assert!(
        text.contains("1 file of features of real images") && text.contains("features of 40 images"),
        "{text}"
    );
    ok(&["data", "cache", "--cache", &cache, "--clear"]);
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 0);
}

#[test]
fn files_that_cannot_be_compared_are_refused_by_name() {
    let (project, line) = model();
    let whole = images(12, 3);
    let good = npz(&project, "good.npz", &[("arr_0", Array::of_bytes(&[12, 8, 8], whole.clone()))]);
    let floats: Vec<f32> = whole.iter().map(|level| f32::from(*level) / 255.0).collect();
    let bad = [
        ("floats.npz", vec![("arr_0", Array::of_f32(&[12, 8, 8], &floats))], &["arr_0", "<f4", "uint8"][..]),
        (
            "flat.npz",
            vec![("arr_0", Array::of_bytes(&[12, 64], whole.clone()))],
            &["arr_0", "[12, 64]", "[N,H,W]"],
        ),
        (
            "small.npz",
            vec![("arr_0", Array::of_bytes(&[48, 4, 4], whole.clone()))],
            &["arr_0", "4×4×1", "8×8×1"],
        ),
        (
            "colour.npz",
            vec![("arr_0", Array::of_bytes(&[4, 8, 8, 3], whole.clone()))],
            &["arr_0", "8×8×3", "8×8×1"],
        ),
        ("none.npz", vec![("arr_0", Array::of_bytes(&[0, 8, 8], Vec::new()))], &["arr_0", "0 images"]),
    ];
    let refused = |samples: &str, reference: &str, words: &[&str]| {
        let more = ["--metrics", "fid", "--samples-npz", samples, "--reference", reference];
        fails(&line.iter().map(String::as_str).chain(more).collect::<Vec<_>>(), words);
    };
    for (name, arrays, words) in &bad {
        let file = npz(&project, name, arrays);
        let words = [&[*name], *words].concat();
        refused(&file, &good, &words);
        refused(&good, &file, &words);
    }
    let labels = npz(&project, "labels.npz", &[("arr_1", Array::of_labels(&[12], &[0; 12]))]);
    refused(&labels, &good, &["labels.npz", "arr_0", "cannot be read"]);
    refused(&good, &labels, &["labels.npz", "mu", "cannot be read"]);
    let square = |side: usize| Array::of_f64(&[side, side], &vec![0.0; side * side]);
    let mean = |side: usize| Array::of_f64(&[side], &vec![0.0; side]);
    let half = npz(&project, "half.npz", &[("mu", mean(3))]);
    refused(&good, &half, &["half.npz", "sigma", "cannot be read"]);
    let apart = npz(&project, "apart.npz", &[("mu", mean(3)), ("sigma", square(4))]);
    refused(&good, &apart, &["apart.npz", "sigma", "mean of 3", "16 values"]);
    let other = npz(&project, "other.npz", &[("mu", mean(3)), ("sigma", square(3))]);
    refused(&good, &other, &["other.npz", "mu: of 3 numbers", "these features have"]);
    let text = npz(&project, "text.npz", &[("mu", Array::of_labels(&[3], &[0; 3])), ("sigma", square(3))]);
    refused(&good, &text, &["text.npz", "mu", "<i8", "float32 or float64"]);
    refused(&project.text("recipe.toml"), &good, &["recipe.toml"]);
    refused(&good, &project.text("nowhere.npz"), &["nowhere.npz", "cannot be read"]);
    refused(&project.text("run"), &good, &["run"]);
}
