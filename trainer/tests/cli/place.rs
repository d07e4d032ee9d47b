//! `duet place`: whether explanations change what boxes say is there.

use super::{duet, fails, ok};
use serde_json::Value;
use std::path::Path;

/// Sixty pictures of 16 × 16 pixels in CelebA's layout: a third have a bright square of 8 × 8 in one of two corners, with a box;
/// half are red all over, which has none.
fn data(home: &Path) {
    let pictures = home.join("img_align_celeba");
    std::fs::create_dir(&pictures).unwrap();
    let (mut labels, mut parts, mut boxes) = ("60\nspot red \n".to_owned(), String::new(), String::new());
    for i in 0..60u32 {
        let (spot, red) = (i % 3 == 0, i % 2 == 0);
        let at = if i % 4 < 2 { 0 } else { 8 };
        let picture = image::RgbImage::from_fn(16, 16, |x, y| {
            let bright = spot && (at..at + 8).contains(&x) && (at..at + 8).contains(&y);
            let level = if bright { 250 } else { 20 + (x * 3 + y * i) as u8 % 12 };
            image::Rgb([if red { level.max(90) } else { level }, level, level])
        });
        let name = format!("{i:06}.png");
        picture.save(pictures.join(&name)).unwrap();
        let sign = |holds| if holds { "1" } else { "-1" };
        labels += &format!("{name} {} {}\n", sign(spot), sign(red));
        parts += &format!("{name} {}\n", if i < 36 { 0 } else { 2 });
        let spot = if spot { format!(" spot:{at},{at},{0},{0}", at + 8) } else { String::new() };
        boxes += &format!("{name} made 0 0{spot}\n");
    }
    std::fs::write(home.join("list_attr_celeba.txt"), labels).unwrap();
    std::fs::write(home.join("list_eval_partition.txt"), parts).unwrap();
    std::fs::write(home.join("boxes.txt"), boxes).unwrap();
}

#[test]
fn what_changes_is_compared_with_the_boxes() {
    let home = tempfile::tempdir().unwrap();
    let text = |name: &str| home.path().join(name).to_string_lossy().into_owned();
    std::fs::create_dir(home.path().join("data")).unwrap();
    data(&home.path().join("data"));
    let recipe = "[data]\nkind = \"celeba\"\npath = \"data\"\n[model]\nimage_size = 8\nin_channels = 3\nnum_channels = 8\n\
                  num_res_blocks = 1\nchannel_mult = [1, 2]\nnum_groups = 4\nnum_heads = 2\nnum_classes = 2\n\
                  head = \"multi_label\"\nclassifier_dropout = 0.0\n[train]\nsteps = 240\nbatch_size = 8\nlearning_rate = 4e-3\n\
                  ema_rate = 0.8\nclassifier_loss_scaling = 1.0\nclassifier_input = \"both\"\nlog_every = 60\nsave_every = 200\n\
                  eval_every = 0\nsample_every = 0\nsample_steps = \"2\"\n";
    std::fs::write(home.path().join("recipe.toml"), recipe).unwrap();
    ok(&["train", &text("recipe.toml"), "--out", &text("run")]);
    let (model, out) = (text("run/checkpoint.safetensors"), text("place.png"));
    let arguments = ["place", "--model", &model, "--steps", "20", "--strength", "1.5", "--out", &out];
    let found: Value = serde_json::from_str(&ok(&[&["--json"], &arguments[..]].concat())).unwrap();
    // Only one of the labels has boxes: 8 in the test images, each 8 × 8 of 16 × 16 pixels, 4 × 4 to the model.
    let labels = found["labels"].as_array().unwrap();
    assert!(labels.len() == 1 && labels[0]["label"] == "spot" && found["test_images"] == 24, "{found}");
    assert_eq!((&labels[0]["boxes"], &labels[0]["box_pixels"]), (&8.into(), &16.0.into()));
    let (removed, added) = (&labels[0]["removed"], &labels[0]["added"]);
    assert!(removed["images"].as_u64().unwrap() >= 4 && added["images"].as_u64().unwrap() >= 4, "{found}");
    assert!(removed["reached"]["mean"].as_f64().unwrap() > 0.0, "{found}");
    // A quarter of the picture, and a spot is taken away where it is.
    assert_eq!(removed["area"]["mean"], 0.25, "{found}");
    assert!(removed["inside"]["mean"].as_f64().unwrap() > 0.5, "{found}");
    // In two corners: in the other corner's box there is less of it.
    let elsewhere = &removed["inside_another_s"]["mean"];
    assert!(elsewhere.is_null() || elsewhere.as_f64() < removed["inside"]["mean"].as_f64(), "{found}");
    assert_eq!((&added["inside"], &added["area"], &added["hit"]), (&Value::Null, &Value::Null, &Value::Null));
    assert!(image::open(&out).unwrap().height() > 2 * 3 * 128);

    let first = ok(&[&arguments[..], &["-n", "2", "--label", "Spot"]].concat());
    for words in ["spot removed", "2 images, reached", "their area 25.0 %", "spot added", "is not judged"] {
        assert!(first.contains(words), "{words}: {first}");
    }
    fails(&[&arguments[..], &["--label", "red"]].concat(), &["label", "\"red\" has no box"]);
    fails(&[&arguments[..], &["--label", "blue"]].concat(), &["blue"]);
    std::fs::remove_file(home.path().join("data/boxes.txt")).unwrap();
    fails(&arguments, &["boxes.txt", "cannot be read"]);
    let multiclass = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/demo/public/model.safetensors");
    let output = duet(&["place", "--model", multiclass, "--data", &text("data"), "--out", &out]);
    assert_eq!(output.status.code(), Some(1));
}
