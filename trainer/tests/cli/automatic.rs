//! Data without a recipe: one command to a model and a report.

use super::{duet, fails, weights};
use std::path::{Path, PathBuf};

/// Pictures in colour of three classes, of unequal numbers, two of them damaged.
fn folder(home: &Path) -> PathBuf {
    let data = home.join("my pictures");
    for (class, count, colour) in
        [("leaf", 30u8, [40, 160, 60]), ("sky", 12, [70, 110, 220]), ("rust", 8, [170, 80, 40])]
    {
        let path = data.join(class);
        std::fs::create_dir_all(&path).unwrap();
        for i in 0..count {
            let picture = image::RgbImage::from_fn(44, 36, |x, y| {
                image::Rgb(
                    colour.map(|level: u8| level.saturating_add((x * 2 + y * u32::from(i)) as u8 % 35)),
                )
            });
            picture.save(path.join(format!("{i}.png"))).unwrap();
        }
    }
    let whole = std::fs::read(data.join("leaf/3.png")).unwrap();
    std::fs::write(data.join("leaf/cut.png"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(data.join("sky/page.jpg"), "<!doctype html><p>Not found").unwrap();
    data
}

#[test]
fn a_folder_of_pictures_becomes_a_model_and_a_report() {
    let home = tempfile::tempdir().unwrap();
    let (data, run) = (folder(home.path()), home.path().join("run"));
    let (data, out) = (data.to_str().unwrap(), run.to_str().unwrap());
    let kept = home.path().join("kept");
    let arguments = [
        "train",
        data,
        "--out",
        out,
        "--verbose",
        "--cache",
        kept.to_str().unwrap(),
        "--preset",
        "tiny",
        "--set",
        "train.steps=4",
        "--set",
        "model.num_channels=8",
    ];
    let output = duet(&arguments);
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{error}");
    for word in [
        "folder: it holds 3 folders; ",
        "training images in colour",
        "8 wide: as asked for",
        "32×32: the pictures' shorter side is 36 pixels",
        "4 of 16 images: as asked for",
        "50 images of 3 classes (leaf 30, rust 8, sky 12)",
        "step 4 of 4",
        "test accuracy",
        "report.html",
        "duet serve ",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    // Both damaged pictures are named, and left out.
    for word in ["2 of 52 pictures cannot be read", "leaf/cut.png", "sky/page.jpg", "passed over"] {
        assert!(error.contains(word), "{word}: {error}");
    }
    // Once for the choice and for the run, which have the same size.
    assert_eq!(error.matches("decoding pictures=52").count(), 1, "{error}");
    let report = std::fs::read_to_string(run.join("report.html")).unwrap();
    for word in
        ["What was learnt from my pictures", "leaf/cut.png", "What would have to change?", "data:image/png"]
    {
        assert!(report.contains(word), "{word}");
    }
    assert!(image::open(run.join("counterfactuals.png")).unwrap().width() > 100);
    let checkpoint = weights(&run.join("checkpoint.safetensors"));
    assert_eq!((checkpoint.model.num_channels, checkpoint.model.in_channels), (8, 3));
    // The recipe beside it is what was trained, and goes on alone.
    let recipe = std::fs::read_to_string(run.join("recipe.toml")).unwrap();
    assert!(
        recipe.starts_with("# Found by `duet train`") && recipe.contains("# network: 8 wide"),
        "{recipe}"
    );
    let again = duet(&["train", data, "--out", out]);
    assert_eq!(again.status.code(), Some(1));
    let more = duet(&["--json", "train", data, "--out", out, "--resume", "--override", "--steps", "5"]);
    let text = String::from_utf8_lossy(&more.stdout);
    assert!(more.status.success() && text.contains("\"serve\":"), "{text}");
    assert_eq!(weights(&run.join("checkpoint.safetensors")).training.unwrap().step, 5);
}

#[test]
fn what_cannot_be_trained_on_is_told_before_anything_is_made() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_string_lossy().into_owned();
    let (empty, run, recipe) = (path("empty"), path("run"), path("recipe.toml"));
    std::fs::create_dir(&empty).unwrap();
    std::fs::write(&recipe, "[data]\nkind = \"idx\"\npath = \"empty\"\n[model]\n").unwrap();
    fails(&["train", &empty, "--out", &run], &["empty", "is not known by its files"]);
    fails(&["train", &path("none"), "--out", &run], &["none", "is not there", "or a recipe (.toml, .json)"]);
    let archive = path("numbers.npz");
    std::fs::write(&archive, b"PK\x03\x04\xff\xfe").unwrap();
    fails(&["train", &archive, "--out", &run], &["numbers.npz", "give the folder that they lie in"]);
    fails(&["train", &recipe, "--out", &run, "--preset", "tiny"], &["preset", "is a recipe already"]);
    fails(&["train", &empty, "--out", &run, "--data", &empty], &["data", "is data already"]);
    fails(&["train", &recipe, "--out", &run, "--set", "train.stepz=5"], &["set", "stepz"]);
    fails(&["train", &empty, "--recipe", &recipe, "--out", &run], &["empty", "train-images"]);
    assert!(!Path::new(&run).join("recipe.toml").exists());
    let inside = path("empty/run");
    std::fs::create_dir(path("empty/class")).unwrap();
    fails(&["train", &empty, "--out", &inside], &["run"]);
}
