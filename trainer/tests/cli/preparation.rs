//! What a picture becomes and what is said of it: ground, fit, inversion, likeness to the training data.

use super::{Project, duet, fails, ok, weights};
use duet::picture::{Fit, Pictures};
use serde_json::Value;
use std::path::{Path, PathBuf};

pub(crate) fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/demo/public").join(name)
}

/// The one row of a command that prints JSON, after the arguments of every such call.
fn json(arguments: &[&str]) -> Value {
    let all: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
    serde_json::from_str(&ok(&all)).unwrap()
}

#[test]
fn a_garment_on_white_is_said_to_be_unlike_the_data_and_inverted_it_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let model = demo("model.safetensors").to_string_lossy().into_owned();
    let on_black = demo("images/00009.png").to_string_lossy().into_owned();
    let on_white = folder.path().join("sneaker.png").to_string_lossy().into_owned();
    let mut picture = image::open(&on_black).unwrap().into_luma8();
    image::imageops::invert(&mut picture);
    picture.save(&on_white).unwrap();

    let output = duet(&["classify", "--model", &model, &on_white, &on_black]);
    let (text, hints) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("— unlike the training data (beyond"), "{text}");
    assert!(lines[1].contains("Sneaker 99") && !lines[1].contains("unlike"), "{text}");
    let hint = "sneaker.png: the corners are light, the model's ground is black: try --invert";
    assert_eq!(hints.lines().filter(|line| line.starts_with("duet:")).count(), 1, "{hints}");
    assert!(hints.contains(hint), "{hints}");

    let rows = json(&["classify", "--model", &model, &on_white, &on_black]);
    assert_eq!((&rows[0]["typicality"]["unlike"], &rows[0]["opposite_ground"]), (&true.into(), &true.into()));
    assert_eq!(
        (&rows[1]["typicality"]["unlike"], &rows[1]["opposite_ground"]),
        (&false.into(), &false.into())
    );
    assert!(rows[0]["typicality"]["percentile"].as_f64().unwrap() > 99.0, "{rows}");
    let inverted = json(&["classify", "--model", &model, "--invert", &on_white]);
    assert_eq!(inverted[0]["classes"], rows[1]["classes"], "the same picture, the same answer");
    assert_eq!(inverted[0]["typicality"], rows[1]["typicality"]);
    let quiet = json(&["classify", "--model", &model, "--no-typicality", &on_white]);
    assert!(quiet[0]["typicality"].is_null(), "{quiet}");

    let [strip, report] =
        ["strip.png", "report.html"].map(|name| folder.path().join(name).to_string_lossy().into_owned());
    let explain =
        ["explain", "--model", &model, "--steps", "5", "--out", &strip, "--report", &report, &on_white];
    let output = duet(&explain);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().next().unwrap().contains("sneaker.png: — unlike the training data"), "{text}");
    assert!(String::from_utf8(output.stderr).unwrap().contains(hint));
    let page = std::fs::read_to_string(&report).unwrap();
    assert_eq!(page.matches("unlike the training data (beyond").count(), 1);
    let mut arguments = explain.to_vec();
    arguments.push("--invert");
    let made = json(&arguments);
    let row = &made["explanations"][0];
    assert_eq!((&row["decision_before"], &row["typicality"]["unlike"]), (&7.into(), &false.into()), "{made}");
    assert!(!std::fs::read_to_string(&report).unwrap().contains("unlike the training data (beyond"));
}

#[test]
fn a_model_keeps_the_ground_the_fit_and_the_statistics_of_its_data() {
    let project = Project::new();
    // 136 training images or more: enough for statistics.
    for (class, shade) in [("dark", 20u8), ("light", 220)] {
        for i in 24..90u8 {
            let pixel = |x: u32, y: u32| image::Luma([shade + (x as u8 * 2 + y as u8 * i) % 16]);
            let path = project.path("data").join(class).join(format!("{i}.png"));
            image::GrayImage::from_fn(8, 8, pixel).save(path).unwrap();
        }
    }
    let recipe = project.path("recipe.toml");
    let text = std::fs::read_to_string(&recipe).unwrap();
    std::fs::write(&recipe, text.replacen("test_share", "ground = 255\nfit = \"pad\"\ntest_share", 1))
        .unwrap();
    project.train("run", &["--steps", "2"]);
    let (model, recipe) = (project.text("run/checkpoint.safetensors"), recipe.to_string_lossy().into_owned());
    let pictures = Pictures { ground: 255, fit: Fit::Pad, ..Pictures::default() };
    assert_eq!(weights(Path::new(&model)).pictures, pictures);

    // Three pixels of four are transparent: the model's ground shows, and padding is that ground too.
    let wide = project.text("wide.png");
    let pixel = |x: u32, _| image::Rgba([0, 0, 0, if x.is_multiple_of(4) { 255 } else { 0 }]);
    image::RgbaImage::from_fn(8, 4, pixel).save(&wide).unwrap();
    let square = project.text("square.png");
    let pixel =
        |x: u32, y: u32| image::Luma([if x.is_multiple_of(4) && (2..6).contains(&y) { 0 } else { 255 }]);
    image::GrayImage::from_fn(8, 8, pixel).save(&square).unwrap();
    let rows = json(&["classify", "--model", &model, &wide, &square]);
    assert_eq!(rows[0]["classes"], rows[1]["classes"], "the same picture");
    assert_eq!((&rows[0]["cut_off"], &rows[0]["typicality"]), (&0.0.into(), &Value::Null));
    let output = duet(&["--verbose", "classify", "--model", &model, "--fit", "crop", &wide]);
    let hints = String::from_utf8(output.stderr).unwrap();
    assert!(hints.contains("wide.png: 50 % of the picture was cut off; --fit pad keeps all"), "{hints}");
    assert!(hints.contains("has no statistics of its training data"), "{hints}");
    let other = json(&["classify", "--model", &model, "--fit", "stretch", &wide]);
    assert_ne!(other[0]["classes"], rows[0]["classes"]);
    let refused = duet(&["classify", "--model", &model, "--fit", "squeeze", &wide]);
    assert!(String::from_utf8(refused.stderr).unwrap().contains("crop, pad, stretch"));

    let (plain, shipped) = (project.text("plain.safetensors"), project.text("shipped.safetensors"));
    let said = ok(&["export", "--model", &model, "--out", &plain]);
    assert!(said.contains("without statistics") && weights(Path::new(&plain)).typicality.is_none(), "{said}");
    let said = ok(&[
        "export",
        "--model",
        &model,
        "--out",
        &shipped,
        "--recipe",
        &recipe,
        "--typicality-images",
        "110",
    ]);
    assert!(said.contains("statistics of 110 training images"), "{said}");
    let [without, with] = [&plain, &shipped].map(|path| weights(Path::new(path)));
    assert_eq!((with.typicality.as_ref().unwrap().images(), with.pictures), (110, pictures));
    assert_eq!(with.weights, without.weights);
    let row = json(&["classify", "--model", &shipped, &project.text("data/light/30.png")]);
    assert!(row[0]["typicality"]["percentile"].is_number(), "{row}");
    // Once measured, they stay with the weights.
    let again = project.text("again.safetensors");
    ok(&["export", "--model", &shipped, "--out", &again]);
    assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(&shipped).unwrap());
    let few =
        ["export", "--model", &model, "--out", &again, "--recipe", &recipe, "--typicality-images", "99"];
    fails(&few, &["typicality-images", "100", "99"]);
}
