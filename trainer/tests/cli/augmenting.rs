//! Augmentation from the command line: the sheet, and runs whose recipe has it.

use super::{Project, fails, ok, weights};

/// A project whose recipe augments.
fn project(text: &str) -> Project {
    let project = Project::new();
    let recipe = std::fs::read_to_string(project.path("recipe.toml")).unwrap();
    std::fs::write(project.path("recipe.toml"), format!("{recipe}[augment]\n{text}")).unwrap();
    project
}

fn sheet(project: &Project, more: &[&str]) -> (serde_json::Value, image::RgbImage) {
    let (recipe, out) = (project.text("recipe.toml"), project.text("sheet.png"));
    let mut arguments = vec!["--json", "augment", "--recipe", &recipe, "--out", &out];
    arguments.extend(more);
    let line = serde_json::from_str(&ok(&arguments)).unwrap();
    (line, image::open(&out).unwrap().into_rgb8())
}

#[test]
fn a_sheet_shows_every_kind_or_the_recipe_s() {
    let project = Project::new();
    let (line, every) = sheet(&project, &["-n", "5"]);
    let want = [
        "as they are",
        "crop",
        "rotation",
        "horizontal flip",
        "contrast",
        "sharpness",
        "brightness",
        "mixup",
        "all together",
    ];
    assert_eq!((&line["rows"], &line["of_recipe"]), (&serde_json::json!(want), &false.into()), "{line}");
    // The pictures' own shades, half of them dark and half light, in the middle of all outermost pixels.
    let border = line["border"][0].as_f64().unwrap();
    assert!((-0.9..0.9).contains(&border), "{line}");
    let project = self::project("brightness = { probability = 1.0, factor = [1.3, 1.3] }\nborder = -1\n");
    let (line, few) = sheet(&project, &["-n", "4"]);
    assert_eq!(line["rows"], serde_json::json!(["as they are", "brightness", "all together"]), "{line}");
    assert_eq!((&line["border"], &line["of_recipe"]), (&serde_json::json!([-1.0]), &true.into()));
    assert!(few.height() * 2 < every.height());
    // The same pictures, 0.3 of white lighter: by 76 levels, or white.
    let row = few.height() / 3;
    let darkest = |number: u32| {
        let places = (number * row..(number + 1) * row)
            .flat_map(|y| (few.width() / 2..few.width()).map(move |x| (x, y)));
        places.map(|(x, y)| i32::from(few.get_pixel(x, y)[0])).min().unwrap()
    };
    let [before, after] = [0, 1].map(darkest);
    assert!((76..=77).contains(&(after - before)) || after == 255, "{before}, {after}");
    let recipe = project.text("recipe.toml");
    fails(&["augment", "--recipe", &recipe, "--out", &project.text("sheet.txt")], &["sheet.txt", ".png"]);
    fails(&["augment", "--recipe", &recipe, "--out", &recipe], &["recipe.toml"]);
    fails(&["augment", "--recipe", &recipe, "-n", "0"], &["count"]);
    fails(
        &["augment", "--recipe", &recipe, "--data", "/nonexistent", "--out", &project.text("a.png")],
        &["/nonexistent"],
    );
}

#[test]
fn an_augmented_run_goes_on_bit_for_bit_and_only_as_it_was() {
    let project = project("rotation = true\ncrop = { probability = 0.5 }\nmixup = true\nsharpness = true\n");
    let plain = Project::new();
    let steps = ["--steps", "4"];
    project.train("whole", &steps);
    plain.train("plain", &steps);
    project.train("parts", &["--steps", "2"]);
    project.train("parts", &["--steps", "4", "--resume"]);
    let model =
        |project: &Project, run: &str| weights(&project.path(&format!("{run}/checkpoint.safetensors")));
    let (whole, parts) = (model(&project, "whole"), model(&project, "parts"));
    let training = |c: &duet::checkpoint::Checkpoint| {
        let state = c.training.clone().unwrap();
        (state.step, state.adam_m, state.adam_v, state.recipe["augment"].clone())
    };
    assert!(whole.weights == parts.weights && whole.ema == parts.ema && training(&whole) == training(&parts));
    assert!(whole.weights != model(&plain, "plain").weights, "augmentation changes nothing");
    // The colour that was taken for the border is noted.
    let border = &whole.training.as_ref().unwrap().recipe["augment"]["border"][0];
    assert!(border.is_number(), "{border}");
    let recipe = std::fs::read_to_string(project.path("recipe.toml")).unwrap();
    let other = recipe.replace("rotation = true", "rotation = { degrees = 5 }");
    std::fs::write(project.path("other.toml"), other).unwrap();
    let (other, out) = (project.text("other.toml"), project.text("parts"));
    fails(&["train", &other, "--out", &out, "--resume"], &["augment.rotation was", "\"degrees\":5"]);
}
