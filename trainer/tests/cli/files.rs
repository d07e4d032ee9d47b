//! What is read and what is written: outputs that would replace inputs, pictures that cannot be read, folders of them, files
//! that are no models.

use super::{Project, duet, fails, ok};
use std::path::Path;

/// A project with a model of two steps, its file and one of its pictures.
fn trained() -> (Project, String, String) {
    let project = Project::new();
    project.train("run", &["--steps", "2"]);
    let model = project.text("run/checkpoint.safetensors");
    let picture = project.text("data/light/0.png");
    (project, model, picture)
}

/// All files below a folder with their contents.
fn contents(folder: &Path, list: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            contents(&path, list);
        } else {
            list.push((path.to_string_lossy().into_owned(), std::fs::read(&path).unwrap()));
        }
    }
    list.sort();
}

fn snapshot(project: &Project) -> Vec<(String, Vec<u8>)> {
    let mut list = Vec::new();
    contents(project.folder.path(), &mut list);
    list
}

#[test]
fn outputs_replace_no_inputs_and_not_each_other() {
    let (project, model, picture) = trained();
    let recipe = project.text("recipe.toml");
    let at = |name: &str| project.text(name);
    let (dotted, hard, link) = (at("run/./checkpoint.safetensors"), at("hard.png"), at("link.png"));
    let (list, mask, both) = (at("data/light/index.json"), at("mask.png"), at("both.png"));
    std::fs::hard_link(&picture, &hard).unwrap();
    std::fs::copy(&picture, &mask).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(&model, &link).unwrap();
    #[cfg(not(unix))]
    std::fs::hard_link(&model, &link).unwrap();
    // A folder of results in which a name leads to the model.
    let trap = at("trap");
    std::fs::create_dir(&trap).unwrap();
    std::fs::hard_link(&model, project.path("trap/samples_1_light.png")).unwrap();
    let recipe_as_list = at("lists/index.json");
    std::fs::create_dir(project.path("lists")).unwrap();
    std::fs::copy(&recipe, &recipe_as_list).unwrap();
    std::fs::copy(&recipe, project.path("lists/metrics.jsonl")).unwrap();
    let before = snapshot(&project);

    let replaced = |arguments: &[&str], words: &[&str]| fails(arguments, &[&["replace"], words].concat());
    let sample = ["sample", "--model", &model, "--steps", "2", "-n", "1", "--alpha", "1", "--out"];
    replaced(&[&sample[..], &[&model]].concat(), &["picture", "checkpoint.safetensors"]);
    replaced(&[&sample[..], &[&link]].concat(), &["picture", "link.png"]);
    replaced(&[&sample[..], &[&both, "--tuning", &both]].concat(), &["both.png"]);
    let explain = ["explain", "--model", &model, &picture, "--steps", "5", "--alpha", "1"];
    let explain =
        |more: &[&str]| [&explain[..], more].concat().iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let explained = |more: &[&str], words: &[&str]| {
        let arguments = explain(more);
        replaced(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), words);
    };
    explained(&["--out", &picture], &["picture", "0.png"]);
    explained(&["--out", &hard], &["hard.png", "0.png"]);
    explained(&["--out", &mask, "--mask", &mask], &["mask.png"]);
    explained(&["--report", &list, "--out", &both], &["report", "index.json"]);
    let arguments = explain(&["--out", &both, "--report", &both]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    fails(&arguments, &["report", "both.png", "the picture goes there too"]);
    replaced(&["export", "--model", &model, "--out", &dotted], &["model", "checkpoint.safetensors"]);
    replaced(&["tune", &recipe, "--seconds", "0", "--out", &recipe], &["table", "recipe.toml"]);
    let export = ["export-images", "--recipe", &recipe_as_list, "--out", &at("lists")];
    replaced(&export, &["table", "index.json"]);
    fails(
        &["export-images", "--recipe", &recipe, "--out", &at("data/dark")],
        &["data/dark", "data's folder"],
    );
    let recipe_as_figures = at("lists/metrics.jsonl");
    replaced(&["train", &recipe_as_figures, "--out", &at("lists")], &["table", "metrics.jsonl"]);
    let study = ["study", "--model", &model, "-n", "2", "--steps", "4", "--neighbours", "2", "--out"];
    replaced(&[&study[..], &[&trap]].concat(), &["picture", "samples_1_light.png"]);
    fails(&[&study[..], &[&at("data")]].concat(), &["data's folder"]);
    fails(&["train", &recipe, "--out", &at("run"), "--init", &model], &["holds a checkpoint already"]);
    assert!(snapshot(&project) == before, "nothing was written, nothing changed");
}

#[test]
fn outputs_are_checked_before_the_work() {
    let (project, model, picture) = trained();
    // More steps than any patience: refused before them.
    let chain = ["--steps", "1000", "--noise", "1"];
    let explain = |out: &str, words: &[&str]| {
        let output = duet(&[&["explain", "--model", &model, &picture, "--out", out][..], &chain].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(words.iter().all(|word| said.contains(word)) && !said.contains("checkpoint "), "{said}");
    };
    explain(&project.text("none/strip.png"), &["picture", "none/strip.png", "does not exist"]);
    explain(&project.text("data"), &["picture", "is a folder"]);
    explain(&project.text("strip.webp"), &["picture", "strip.webp", ".png or .jpg or .jpeg"]);
    explain(&project.text("strip"), &["picture", ".png"]);
    let wrong = project.text("none/model.safetensors");
    fails(
        &["export", "--model", &model, "--out", &wrong],
        &["model", "none/model.safetensors", "does not exist"],
    );

    let jpeg = project.text("strip.JPG");
    let short = ["--steps", "5", "--alpha", "1", "--out", &jpeg];
    ok(&[&["explain", "--model", &model, &picture][..], &short].concat());
    let bytes = std::fs::read(&jpeg).unwrap();
    assert_eq!(image::guess_format(&bytes).unwrap(), image::ImageFormat::Jpeg);
    assert!(image::load_from_memory(&bytes).unwrap().width() > 100);
}

#[test]
fn a_bad_picture_does_not_keep_the_others_from_being_answered() {
    let (project, model, _) = trained();
    let at = |name: &str| project.text(name);
    let (good, other) = (at("data/dark/3.png"), at("data/light/4.png"));
    let (empty, missing) = (at("empty.png"), at("missing.png"));
    std::fs::write(&empty, "").unwrap();
    let four = [good.as_str(), &empty, &other, &missing];

    let output = duet(&[&["classify", "--model", &model][..], &four].concat());
    let [said, errors] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert_eq!(output.status.code(), Some(1));
    let answered: Vec<&str> = said.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(answered, [&good, &other]);
    let alone = ok(&["classify", "--model", &model, &good]);
    assert_eq!(said.lines().next(), alone.lines().next(), "a bad neighbour changes nothing");
    assert!(errors.contains("empty.png") && errors.contains("missing.png"), "{errors}");
    assert!(errors.contains("2 of 4"), "{errors}");

    let output = duet(&[&["--json", "classify", "--model", &model][..], &four].concat());
    assert_eq!(output.status.code(), Some(1));
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for (i, path) in four.iter().enumerate() {
        assert_eq!(rows[i]["image"], *path);
        assert_eq!(rows[i]["error"].is_string(), i % 2 == 1, "{rows}");
        assert_eq!(rows[i]["classes"].is_array(), i % 2 == 0, "{rows}");
    }
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{errors}");

    let strip = at("strip.png");
    let explain = ["--json", "explain", "--model", &model, "--steps", "5", "--alpha", "1", "--out", &strip];
    let output = duet(&[&explain[..], &four, &["--to", "light,dark,dark,dark"]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let made = made["explanations"].as_array().unwrap();
    let named: Vec<_> =
        made.iter().map(|one| (one["image"].as_str().unwrap(), one["error"].is_string())).collect();
    let expected = [(good.as_str(), false), (&other, false), (&empty, true), (&missing, true)];
    assert_eq!(named, expected);
    assert_eq!((&made[0]["target"], &made[1]["target"]), (&1.into(), &0.into()), "each its own class");

    // The only picture's cause is the command's.
    fails(&["classify", "--model", &model, &empty], &["empty.png"]);
    fails(&[&explain[1..], &[&empty, &missing]].concat(), &["2 of 2", "empty.png", "missing.png"]);
}

#[test]
fn what_is_no_file_or_folder_is_not_waited_for() {
    let project = Project::new();
    let (recipe, run) = (project.text("recipe.toml"), project.text("run"));
    fails(&["train", &recipe, "--out", &project.text("data/new")], &["data's folder"]);
    fails(&["train", &recipe, "--out", &recipe], &["recipe.toml is a file; give a folder"]);
    fails(&["export", "--model", &run, "--out", &project.text("x.png")], &[".safetensors"]);
    #[cfg(unix)]
    {
        let pipe = project.text("pipe.toml");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        fails(&["train", &pipe, "--out", &run], &["pipe.toml", "is a pipe or a device"]);
        fails(&["info", &pipe], &["pipe.toml", "is a pipe or a device"]);
        let pipe = project.text("pipe.safetensors");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        fails(&["info", &pipe], &["pipe.safetensors", "a pipe or a device"]);
    }
}

#[test]
fn folders_of_pictures_are_classified() {
    let (project, model, _) = trained();
    let data = project.path("data");
    std::fs::write(data.join("._0.png"), "no picture").unwrap();
    std::fs::write(data.join("notes.txt"), "no picture").unwrap();
    let said = ok(&["--json", "classify", "--model", &model, &project.text("data"), "--top", "1"]);
    let rows: serde_json::Value = serde_json::from_str(&said).unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 48, "more than are read at a time");
    let names: Vec<&str> = rows.iter().map(|row| row["image"].as_str().unwrap()).collect();
    assert!(names.is_sorted() && names[0].ends_with("dark/0.png"), "{names:?}");
    let alone = ok(&["--json", "classify", "--model", &model, names[47], "--top", "1"]);
    let alone: serde_json::Value = serde_json::from_str(&alone).unwrap();
    assert_eq!(alone[0], rows[47]);
    std::fs::create_dir(project.path("nothing")).unwrap();
    fails(&["classify", "--model", &model, &project.text("nothing")], &["nothing", "holds no picture"]);
}

#[test]
fn samples_are_the_same_in_batches() {
    let (project, model, _) = trained();
    let sample = |name: &str, more: &[&str]| {
        let out = project.text(name);
        let options = ["--steps", "3", "-n", "5", "--alpha", "1", "--out", &out];
        let said = ok(&[&["--json", "sample", "--model", &model][..], &options, more].concat());
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        (image::open(&out).unwrap().to_rgb8(), said["classes"].clone())
    };
    let whole = sample("whole.png", &[]);
    assert!(whole == sample("parts.png", &["--batch", "2"]), "the noise belongs to the image");
    let most = "999999";
    fails(&["sample", "--model", &model, "-n", most, "--steps", "3"], &["count", most, "at most"]);
}

#[test]
fn files_that_are_no_models_are_named_as_what_they_are() {
    let (project, model, picture) = trained();
    let files: [(&str, &[u8], &[&str]); 6] = [
        (
            "pointer",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            &["Git LFS", "git lfs pull"],
        ),
        ("page", b"<!DOCTYPE html><html><title>404</title></html>", &["web page", "download"]),
        ("torch", b"PK\x03\x04\0\0\0\0\0\0archive/data.pkl", &["PyTorch"]),
        ("gguf", b"GGUF\x03\0\0\0\0\0\0\0", &["GGUF"]),
        ("empty", b"", &["empty", "again"]),
        ("cut", &std::fs::read(&model).unwrap()[..5000], &["truncated", "again"]),
    ];
    for (name, bytes, words) in files {
        let file = project.text(&format!("{name}.safetensors"));
        std::fs::write(&file, bytes).unwrap();
        fails(&["classify", "--model", &file, &picture], &[&[file.as_str()][..], words].concat());
    }
    fails(&["info", &project.text("run")], &["is a folder", "run/checkpoint.safetensors"]);
}
