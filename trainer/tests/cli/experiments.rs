//! Experiments from the command line, on synthetic digits in the official files' layout: trainings, a table, a page, and all of it
//! once.

use super::{fails, ok, weights};
use std::path::{Path, PathBuf};

/// A folder of data with synthetic digits as MNIST and as USPS.
fn digits(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    let level = |class: usize, place: usize, image: usize| ((place * (class + 3) + 7 * image) % 251) as u8;
    let idx = |words: &[u32], bytes: Vec<u8>| -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).chain(bytes).collect()
    };
    std::fs::create_dir_all(data.join("mnist")).unwrap();
    for (part, count) in [("train", 20), ("t10k", 10)] {
        let images = (0..count).flat_map(|i| (0..784).map(move |place| level(i % 10, place, i))).collect();
        let labels = (0..count).map(|i| (i % 10) as u8).collect();
        let file = |kind: &str| data.join("mnist").join(format!("{part}-{kind}-ubyte"));
        std::fs::write(file("images-idx3"), idx(&[0x803, count as u32, 28, 28], images)).unwrap();
        std::fs::write(file("labels-idx1"), idx(&[0x801, count as u32], labels)).unwrap();
    }
    std::fs::create_dir_all(data.join("usps")).unwrap();
    for (name, count) in [("zip.train", 20), ("zip.test", 10)] {
        let line = |i: usize| {
            let values =
                (0..256).map(|place| format!("{:.4}", f64::from(level(i % 10, place, i)) / 127.5 - 1.0));
            format!("{}.0000 {}\n", i % 10, values.collect::<Vec<_>>().join(" "))
        };
        std::fs::write(data.join("usps").join(name), (0..count).map(line).collect::<String>()).unwrap();
    }
    data
}

#[test]
fn a_table_comes_of_trainings_that_are_done_once() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (digits(folder.path()), folder.path().join("out"));
    let [data_text, out_text] = [&data, &out].map(|path| path.to_string_lossy().into_owned());
    let small =
        ["train.steps=2", "train.batch_size=4", "model.num_channels=8", "diffusion.diffusion_steps=20"];
    let mut arguments =
        vec!["--json", "experiment", "table6", "--data", &data_text, "--out", &out_text, "--seeds", "1"];
    small.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let said = ok(&arguments);
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [table, report] = lines.as_slice() else { panic!("{said}") };
    assert_eq!(table["name"], "table6");
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    for row in rows {
        for cell in row["cells"].as_array().unwrap() {
            let share = cell["values"][0].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&share) && cell["values"].as_array().unwrap().len() == 1, "{row}");
            assert!(cell.get("paper").is_none(), "figures of a part stand alone: {row}");
        }
    }
    let facts = table["facts"].to_string();
    for word in ["tiny", "20 training images", "n = 10 test images", "a part of 60000", "a part of 7291"] {
        assert!(facts.contains(word), "{word}: {facts}");
    }
    // The adapted model has the source's head, and another encoder.
    let model =
        |name: &str| weights(&out.join("adaptation-tiny/seed-1").join(name).join("checkpoint.safetensors"));
    let (joint, adapted) = (model("joint-usps"), model("adapted-usps-mnist"));
    let averaged = joint.ema.as_ref().unwrap();
    for (name, tensor) in averaged.iter() {
        let same = adapted.weights.iter().any(|(other, found)| other == name && found.data == tensor.data);
        assert!(same || !name.starts_with("clasifier."), "{name} moved without labels");
    }
    assert!(*averaged != adapted.weights);
    let markdown = std::fs::read_to_string(out.join("tables/table6-tiny.md")).unwrap();
    assert!(
        markdown.contains("| joint model of the source, adapted |") && markdown.contains("- seeds: 1"),
        "{markdown}"
    );
    let page = std::fs::read_to_string(report["report"].as_str().unwrap()).unwrap();
    assert!(page.contains("joint model of the source, adapted") && page.contains("Table 6"), "{page}");

    // Nothing is trained twice, whatever becomes of the tables.
    let times = |name: &str| {
        let file = out.join("adaptation-tiny/seed-1").join(name).join("checkpoint.safetensors");
        std::fs::metadata(file).unwrap().modified().unwrap()
    };
    let before = times("joint-usps");
    std::fs::remove_dir_all(out.join("tables")).unwrap();
    let again = ok(&arguments);
    assert_eq!(again.lines().next(), said.lines().next());
    assert_eq!(times("joint-usps"), before);

    // What began with weights that are no longer those is not taken for what it should be.
    let [joint, adapted] =
        ["joint-usps", "adapted-usps-mnist"].map(|name| out.join("adaptation-tiny/seed-1").join(name));
    let kept = std::fs::read(joint.join("checkpoint.safetensors")).unwrap();
    std::fs::copy(adapted.join("checkpoint.safetensors"), joint.join("checkpoint.safetensors")).unwrap();
    fails(&arguments, &["adapted-usps-mnist", "weights of another model"]);
    std::fs::write(joint.join("checkpoint.safetensors"), kept).unwrap();

    // Other settings in the same folder are refused, with what to do.
    arguments.extend(["--set", "train.learning_rate=0.5"]);
    fails(&arguments, &["train.learning_rate was", "remove this folder to begin anew"]);
}

#[test]
fn names_scales_and_data_that_are_not_there_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").to_string_lossy().into_owned();
    let of = |more: &[&str], words: &[&str]| {
        let mut arguments = vec!["experiment", "--out", &out];
        arguments.extend(more);
        fails(&arguments, words);
    };
    of(&["table9"], &["table9", "table1", "table6"]);
    of(&["table6", "--scale", "huge"], &["huge", "paper, small, tiny"]);
    of(&["table6", "--seeds", "0"], &["seeds"]);
    of(&["table6", "--set", "train.stepz=1"], &["stepz"]);
    of(&["table6", "--data", "/nowhere"], &["/nowhere/usps"]);
    of(&["report"], &["run an experiment first"]);
    let list = ok(&["experiment", "list"]);
    assert!(list.lines().count() >= 10 && list.contains("table5") && list.contains("few labels"), "{list}");
}
