//! `duet audit`.

use super::{Project, duet, fails};

#[test]
fn an_audit_maps_every_class_and_its_exit_code_says_what_was_found() {
    let project = Project::new();
    project.train("run", &["--steps", "2"]);
    let (model, picture) = (project.text("run/checkpoint.safetensors"), project.text("audit.png"));
    let run = |more: &[&str]| {
        let mut line =
            vec!["--json", "audit", "--model", &model, "--out", &picture, "--steps", "5", "--noise", "0.6"];
        line.extend(more);
        let output = duet(&line);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = json["shortcuts"].as_array().unwrap().len();
        assert_eq!(output.status.code(), Some(if found > 0 { 3 } else { 0 }), "{json}");
        assert_eq!(json["verdict"].as_str().unwrap().starts_with("SHORTCUT"), found > 0);
        json
    };
    let json = run(&["-n", "3", "--strength", "5", "--locality", "0"]);
    assert_eq!((json["images"].as_u64(), json["size"].as_u64()), (Some(6), Some(8)));
    let classes = json["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 2);
    // Each image is of one of two classes, so it is explained towards the other: away from the first is towards the second.
    let images = |class: usize, way: &str| classes[class][way]["images"].as_u64().unwrap();
    assert_eq!(images(0, "toward") + images(1, "toward"), 6);
    assert_eq!((images(0, "away"), images(1, "away")), (images(1, "toward"), images(0, "toward")));
    let one = if images(0, "toward") > 0 { 0 } else { 1 };
    for (map, most) in [("mean_change", 1.0), ("share", 1.0), ("spread", 0.5)] {
        let values = classes[one]["toward"][map].as_array().unwrap();
        assert!(values.len() == 64 && values.iter().all(|v| (0.0..=most).contains(&v.as_f64().unwrap())));
    }
    let shares = classes[one]["toward"]["share"].as_array().unwrap();
    assert!(shares.iter().any(|share| share.as_f64().unwrap() > 0.0), "such a strength changes something");
    let drawn = image::open(&picture).unwrap();
    assert!(drawn.width() > 2 * 8 && drawn.height() > 2 * 8);
    // Pictures of one's own, and training images.
    let folder = project.text("data/dark");
    assert_eq!(run(&[&folder])["images"], 24);
    let of = |split: &str| run(&["--split", split, "-n", "24"])["images"].as_u64().unwrap();
    assert_eq!(of("train") + of("test"), 48, "every image is of one of the two");

    fails(&["audit", "--model", &model, "--to", "dark"], &["to", "two classes"]);
    fails(&["audit", "--model", &model, "--out", &model], &["picture"]);
    let both = duet(&["audit", "--model", &model, "--per-class", "2", &folder]);
    assert_eq!(both.status.code(), Some(2), "one's own pictures or those of the data");
}
