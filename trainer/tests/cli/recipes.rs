//! Recipes as JSON, and those of web pages and programs, which say nothing of files.

use super::{Project, fails, ok, weights};
use serde_json::json;

/// A recipe as the page hands it out for a project's pictures.
fn page(project: &Project) -> String {
    let recipe = json!({
        "model": {
            "image_size": 8, "num_channels": 8, "num_res_blocks": 1, "channel_mult": [1, 2], "num_groups": 4, "num_heads": 2,
            "num_classes": 2, "class_names": ["light", "dark"], "num_head_channels": null,
        },
        "train": {
            "steps": 2, "batch_size": 4, "learning_rate": 0.002, "classifier_input": "both", "log_every": 1, "save_every": 1,
            "eval_every": 0, "sample_every": 0, "sample_steps": "2",
        },
    });
    std::fs::write(project.path("page.json"), serde_json::to_string_pretty(&recipe).unwrap()).unwrap();
    project.text("page.json")
}

#[test]
fn a_page_s_recipe_trains_on_a_folder() {
    let project = Project::new();
    let (page, data) = (page(&project), project.text("data"));
    let ways = [["train", &data, "--recipe", &page], ["train", &page, "--data", &data]];
    let made = ways.map(|way| {
        let out = project.text(if way[1] == data { "one" } else { "two" });
        let mut arguments = way.to_vec();
        arguments.extend(["--out", &out]);
        let text = ok(&arguments);
        assert!(text.contains("step 2 of 2"), "{text}");
        weights(&std::path::Path::new(&out).join("checkpoint.safetensors"))
    });
    assert_eq!(made[0].ema, made[1].ema, "both are the same training");
    // The recipe's names, in its order, and the kind that was found.
    assert_eq!(made[0].model.class_names, ["light", "dark"]);
    let noted = &made[0].training.as_ref().unwrap().recipe;
    assert_eq!((&noted["data"]["kind"], &noted["train"]["steps"]), (&json!("folder"), &json!(2)));
    // It goes on by the same words.
    let out = project.text("one");
    let text = ok(&["train", &data, "--recipe", &page, "--out", &out, "--resume", "--steps", "3"]);
    assert!(text.contains("step 3 of 3"), "{text}");

    let model = format!("{out}/checkpoint.safetensors");
    let eval = ["--json", "eval", "--model", &model, "--recipe", &page, "--loss-images", "0"];
    fails(&eval, &["page.json", "says nothing of files"]);
    ok(&[&eval[..], &["--data", &data]].concat());
    assert!(ok(&["info", &page, "--batch", "4"]).contains("training step"));
}

#[test]
fn a_recipe_that_says_nothing_of_files_says_what_to_do() {
    let project = Project::new();
    let (page, out) = (page(&project), project.text("run"));
    let help = ["page.json", "says nothing of files", "duet train FOLDER --recipe"];
    fails(&["train", &page, "--out", &out], &help);
    fails(&["data", "info", &page], &help);
    fails(&["export-images", "--recipe", &page, "--out", &out], &help);
    assert!(!project.path("run").exists());
    // What is wrong with it is told before that.
    let text = std::fs::read_to_string(&page).unwrap();
    for (from, to, word) in [
        ("batch_size", "batch_syze", "batch_syze"),
        ("\"steps\": 2", "\"steps\": \"two\"", "line"),
        ("\"train\": {", "\"training\": {", "training"),
        ("{", "{,", "line 1"),
    ] {
        std::fs::write(&page, text.replacen(from, to, 1)).unwrap();
        let data = project.text("data");
        fails(&["train", &data, "--recipe", &page, "--out", &out], &["page.json", word]);
        fails(&["train", &page, "--out", &out], &["page.json", word]);
    }
    fails(
        &["train", &project.text("missing.json"), "--out", &out],
        &["missing.json", "cannot be read as a recipe"],
    );
}

#[test]
fn a_whole_recipe_is_the_same_as_json() {
    let project = Project::new();
    let toml: serde_json::Value =
        toml::from_str(&std::fs::read_to_string(project.path("recipe.toml")).unwrap()).unwrap();
    std::fs::write(project.path("recipe.json"), toml.to_string()).unwrap();
    let json = project.text("recipe.json");
    let made = [project.text("recipe.toml"), json].map(|recipe| {
        let out = format!("{recipe}.run");
        ok(&["train", &recipe, "--steps", "1", "--out", &out]);
        weights(&std::path::Path::new(&out).join("checkpoint.safetensors"))
    });
    assert_eq!(made[0].ema, made[1].ema);
    let noted = made.map(|one| one.training.unwrap().recipe);
    assert_eq!(noted[0], noted[1]);
}
