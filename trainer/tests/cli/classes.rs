//! Classes have names: data are matched to a model by them, and people are understood.

use super::{Project, duet, fails, ok};
use serde_json::Value;
use std::path::Path;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/demo/public/model.safetensors");
const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/demo/public/images");

fn json(arguments: &[&str]) -> Value {
    let all: Vec<&str> = std::iter::once("--json").chain(arguments.iter().copied()).collect();
    serde_json::from_str(&ok(&all)).unwrap()
}

/// A folder with `test` and `train` of the shipped images of some classes, each under a name of its own, and its recipe.
fn shipped(folders: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let home = tempfile::tempdir().unwrap();
    let list: Value =
        serde_json::from_str(&std::fs::read_to_string(Path::new(IMAGES).join("index.json")).unwrap())
            .unwrap();
    for (class, folder) in folders {
        for part in ["train", "test"] {
            std::fs::create_dir_all(home.path().join("data").join(part).join(folder)).unwrap();
        }
        for entry in list.as_array().unwrap().iter().filter(|entry| entry["label"] == *class) {
            let file = entry["file"].as_str().unwrap();
            for part in ["train", "test"] {
                let to = home.path().join("data").join(part).join(folder).join(file);
                std::fs::copy(Path::new(IMAGES).join(file), to).unwrap();
            }
        }
    }
    let recipe = home.path().join("recipe.toml");
    let text = format!("[data]\nkind = \"folder\"\npath = {:?}\n[model]\n", home.path().join("data"));
    std::fs::write(&recipe, text).unwrap();
    let recipe = recipe.to_string_lossy().into_owned();
    (home, recipe)
}

/// Puts a line into the part `[model]` of a project's recipe, which is written to a file of its own.
fn recipe_with(project: &Project, name: &str, from: &str, to: &str) -> String {
    let text = std::fs::read_to_string(project.path("recipe.toml")).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(project.path(name), text.replace(from, to)).unwrap();
    project.text(name)
}

#[test]
fn data_are_measured_by_the_names_of_their_classes() {
    // By place they are classes 0 and 1, T-shirts and trousers; by name, in any case, 8 and 5.
    let (_home, recipe) = shipped(&[("Bag", "BAG"), ("Sandal", "sandal")]);
    let eval = ["eval", "--model", MODEL, "--recipe", &recipe, "--loss-images", "0"];
    let measured = json(&eval);
    assert_eq!(measured["accuracy"], 1.0, "the model knows these bags and sandals: {measured}");
    let per_class: Vec<Option<f64>> = serde_json::from_value(measured["per_class"].clone()).unwrap();
    let mut wanted = [None; 10];
    (wanted[5], wanted[8]) = (Some(1.0), Some(1.0));
    assert_eq!(per_class, wanted, "a class without test images has no accuracy");
    assert_eq!(measured["classes"][9], "Ankle boot");
    assert_eq!(measured["images"], 12, "{measured}");
    let output = duet(&eval);
    let text = String::from_utf8(output.stdout).unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("12 of 12 test images"), "they are the training images: {told}");
    let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap();
    assert!(line("Sandal").contains("100.0 %") && line("Ankle boot").contains('–'), "{text}");

    let explained = [&eval[..], &["--counterfactuals", "1", "--steps", "10"]].concat();
    assert_eq!(json(&explained)["counterfactuals"]["images"], 2);
    let study =
        ["study", "--model", MODEL, "--recipe", &recipe, "-n", "2", "--neighbours", "1", "--steps", "2"];
    let out = tempfile::tempdir().unwrap();
    let study = [&study[..], &["--step-sizes", "0", "--out", out.path().to_str().unwrap()]].concat();
    let studied = json(&study);
    assert_eq!(studied["classes"], serde_json::json!(["Sandal", "Bag"]));
    assert_eq!(studied["step_sizes"][0]["images"], 4);
    assert_eq!(studied["step_sizes"][0]["probability_by_class"].as_array().unwrap().len(), 2);

    // Numbers, as data without names have them, are numbers of classes.
    let (_home, recipe) = shipped(&[("Sandal", "5"), ("Bag", "8")]);
    let measured = json(&["eval", "--model", MODEL, "--recipe", &recipe, "--loss-images", "0"]);
    assert_eq!(measured["accuracy"], 1.0, "{measured}");

    let (_home, recipe) = shipped(&[("Trouser", "trouser"), ("Ankle boot", "wellies")]);
    for command in ["eval", "study"] {
        let words = ["\"wellies\"", "the data's are \"trouser\", \"wellies\"", "\"Bag\", \"Ankle boot\""];
        fails(&[command, "--model", MODEL, "--recipe", &recipe], &words);
    }
}

#[test]
fn a_part_of_the_test_images_is_of_every_class() {
    let project = Project::new();
    project.train("run", &["--steps", "2"]);
    let model = project.text("run/checkpoint.safetensors");
    let measured = json(&["eval", "--model", &model, "--images", "4", "--loss-images", "0"]);
    assert_eq!(measured["images"], 4);
    let seen: Vec<u64> = serde_json::from_value(measured["images_per_class"].clone()).unwrap();
    assert!(seen.iter().all(|images| *images > 0), "folders lie class by class: {measured}");
}

#[test]
fn names_with_commas_are_given_whole() {
    let project = Project::new();
    std::fs::rename(project.path("data/dark"), project.path("data/cats, big")).unwrap();
    project.train("run", &["--steps", "2"]);
    let (model, out) = (project.text("run/checkpoint.safetensors"), project.text("x.png"));
    let sample = ["sample", "--model", &model, "--steps", "4", "--alpha", "1", "--force", "-n", "1"];
    let sample = |classes: &[&'static str]| {
        let more: Vec<&str> = classes.iter().flat_map(|class| ["--class", class]).collect();
        [&sample[..], &["--out", &out], &more].concat()
    };
    let classes = |given: &[&'static str]| -> Vec<u64> {
        let made = json(&sample(given));
        made["classes"].as_array().unwrap().iter().map(|class| class["class"].as_u64().unwrap()).collect()
    };
    let info = ok(&["info", &model]);
    assert!(info.contains("classes: \"cats, big\", \"light\""), "{info}");
    assert_eq!(classes(&["cats, big"]), [0]);
    assert_eq!(classes(&["light,0"]), [1, 0]);
    assert_eq!(classes(&["light", "Cats, BIG"]), [1, 0]);
    fails(&sample(&["cats, small"]), &["\"cats\"", "\"cats, big\", \"light\""]);
    let pictures = [project.text("data/cats, big/1.png"), project.text("data/light/1.png")];
    let explain = ["explain", "--model", &model, "--steps", "4", "--alpha", "1", "--force", "--out", &out];
    let mut explain = [&explain[..], &["--to", "cats, big", "--to", "light"]].concat();
    explain.extend(pictures.iter().map(String::as_str));
    let made = json(&explain);
    let targets = [&made["explanations"][0]["target"], &made["explanations"][1]["target"]];
    assert_eq!(targets, [0, 1], "{made}");
}

#[test]
fn an_explanation_says_whether_it_is_what_was_asked_for() {
    let (home, _) = shipped(&[("Trouser", "TROUSER")]);
    let folder = home.path().join("data/test/TROUSER");
    let picture = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let (out, report) = (home.path().join("x.png"), home.path().join("x.html"));
    let [picture, out, report] = [&picture, &out, &report].map(|path| path.to_str().unwrap());
    let explain =
        ["explain", "--model", MODEL, "--steps", "5", "--out", out, "--report", report, picture, "--to"];
    let towards = |class: &'static str| [&explain[..], &[class]].concat();
    let (text, made) = (ok(&towards("trouser")), json(&towards("trouser")));
    assert!(text.contains("already Trouser: nothing to change"), "{text}");
    let made = &made["explanations"][0];
    assert_eq!(
        (&made["already"], &made["reached"], &made["verdict"]),
        (&true.into(), &false.into(), &"already".into())
    );
    assert_eq!((&made["target_name"], &made["true_class"]), (&"Trouser".into(), &"Trouser".into()));
    let page = std::fs::read_to_string(report).unwrap();
    assert!(
        page.contains("already Trouser: nothing to change") && page.contains("true class: Trouser"),
        "{page}"
    );

    let (text, made) = (ok(&towards("dress")), json(&towards("dress")));
    let made = &made["explanations"][0];
    assert_eq!(made["already"], false, "{made}");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    // The target's share before, and what was the class after.
    assert!(lines[1].starts_with("before  Trouser") && lines[1].contains("(Dress"), "{text}");
    assert!(
        lines[2].starts_with("after") && lines[2].contains("Trouser") && lines[2].contains("Dress"),
        "{text}"
    );
    let reached = made["decision_after"] == made["target"];
    assert_eq!(made["reached"], reached);
    assert!(lines[3].starts_with(if reached { "reached: Dress" } else { "not reached" }), "{text}");
}

#[test]
fn names_that_do_not_fit_are_explained_before_anything_is_trained() {
    let project = Project::new();
    let out = project.text("run");
    let refused = |to: &str, words: &[&str]| {
        let recipe = recipe_with(&project, "bad.toml", "num_classes = 2", to);
        fails(&["train", &recipe, "--out", &out], words);
    };
    refused("num_classes = 5", &["set num_classes = 2"]);
    refused("num_classes = 1", &["set num_classes = 2"]);
    refused(
        "num_classes = 2\nclass_names = [\"dark\", \"dark \"]",
        &["bad.toml", "class_names", "both called \"dark\""],
    );
    refused("num_classes = 3\nclass_names = [\"dark\", \"light\"]", &["bad.toml", "2 names for 3 classes"]);
    refused(
        "num_classes = 2\nclass_names = [\"cat\", \"dog\"]",
        &["\"dark\", \"light\"", "\"cat\", \"dog\""],
    );
    // Who names a class without images means it, but is told.
    let names = "num_classes = 3\nclass_names = [\"light\", \"grey\", \"dark\"]";
    let more = recipe_with(&project, "more.toml", "num_classes = 2", names);
    let trained = duet(&["train", &more, "--out", &out, "--steps", "2"]);
    let told = String::from_utf8_lossy(&trained.stderr).into_owned();
    assert!(trained.status.success() && told.contains("no images of grey"), "{told}");
}

#[test]
fn a_model_s_classes_stay_what_they_are_when_another_begins_with_it() {
    let project = Project::new();
    let names = |order: &str| format!("num_classes = 2\nclass_names = [{order}]");
    let named = recipe_with(&project, "named.toml", "num_classes = 2", &names("\"light\", \"dark\""));
    let run = |recipe: &str, name: &str, more: &[&str]| {
        let out = project.text(name);
        ok(&[&["train", recipe, "--out", &out, "--steps", "2"], more].concat());
        super::weights(&project.path(name).join("checkpoint.safetensors")).model.class_names
    };
    assert_eq!(run(&named, "first", &[]), ["light", "dark"]);
    let first = project.text("first/checkpoint.safetensors");
    // The folders are dark, light; the head of the model knows them as 1 and 0.
    assert_eq!(run(&project.text("recipe.toml"), "second", &["--init", &first]), ["light", "dark"]);
    let other = recipe_with(&project, "other.toml", "num_classes = 2", &names("\"dark\", \"light\""));
    let out = project.text("third");
    fails(&["train", &other, "--out", &out, "--init", &first], &["another order", "\"light\", \"dark\""]);
}
