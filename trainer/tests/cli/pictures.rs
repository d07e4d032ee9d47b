//! Folders of pictures as people have them, and pictures that are broken, from the command line.

use super::{Project, duet, fails, ok};
use std::path::Path;

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/jpeg").join(name);
    std::fs::read(path).unwrap()
}

/// The project's data as `train` and `val`, with what systems and people leave there, by a recipe that says only "data".
fn project() -> Project {
    let project = Project::new();
    let recipe = std::fs::read_to_string(project.path("recipe.toml")).unwrap();
    let path = format!("path = {:?}", project.path("data"));
    std::fs::write(project.path("recipe.toml"), recipe.replace(&path, "path = \"data\"")).unwrap();
    for (class, shade) in [("dark", 40u8), ("light", 180)] {
        let (train, val) =
            (project.path(&format!("data/train/{class}/more")), project.path(&format!("data/val/{class}")));
        std::fs::create_dir_all(&val).unwrap();
        std::fs::create_dir_all(train.parent().unwrap()).unwrap();
        std::fs::rename(project.path(&format!("data/{class}")), &train).unwrap();
        for i in 16..24 {
            std::fs::remove_file(train.join(format!("{i}.png"))).unwrap();
            let picture = image::GrayImage::from_pixel(8, 8, image::Luma([shade + i]));
            picture.save(val.join(format!("{i}.png"))).unwrap();
        }
        std::fs::write(train.join("._0.png"), "a Mac's").unwrap();
        std::fs::write(train.join("notes.txt"), "a person's").unwrap();
    }
    let whole = fixture("colour-420-baseline.jpg");
    // By its contents a JPEG.
    std::fs::write(project.path("data/train/dark/photo.png"), &whole).unwrap();
    std::fs::write(project.path("data/val/light/copy"), &whole).unwrap();
    project
}

#[test]
fn folders_are_counted_and_likely_mistakes_warned_of() {
    let project = project();
    let (recipe, run) = (project.text("recipe.toml"), project.text("run"));
    let output = duet(&["train", &recipe, "--out", &run, "--steps", "2"]);
    let [text, warnings] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{warnings}");
    for part in [
        "data: 50 images of 2 classes (dark 25, light 25), 17 of them to test on",
        "`val` is the test set",
        "passed over 2 files that are no pictures (2 .txt)",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(warnings.contains("1 of 17 test images is a training image too"), "{warnings}");
    let model = project.text("run/checkpoint.safetensors");
    // Where the data are is known in every working directory.
    let json: serde_json::Value = serde_json::from_str(&ok(&["--json", "eval", "--model", &model])).unwrap();
    assert_eq!(json["images"], 17, "{json}");

    let output = ok(&["--json", "train", &recipe, "--out", &project.text("lines"), "--steps", "1"]);
    let first: serde_json::Value = serde_json::from_str(output.lines().next().unwrap()).unwrap();
    assert_eq!((&first["data"]["train"], &first["data"]["test"]), (&33.into(), &17.into()), "{first}");
    assert_eq!(first["data"]["passed_over"][0]["files"], 2, "{first}");

    let (cut, mark) = (project.text("cut.jpg"), project.text("mark.jpg"));
    for name in ["colour-420-baseline.jpg", "grey-progressive.jpg", "cmyk-baseline-restarts.jpg"] {
        let whole = fixture(name);
        std::fs::write(&mark, &whole[..whole.len() - 2]).unwrap();
        ok(&["classify", "--model", &model, &mark]);
        std::fs::write(&cut, &whole[..whole.len() - 9]).unwrap();
        fails(&["classify", "--model", &model, &cut], &["cut.jpg", "data end early"]);
    }
    let whole = fixture("colour-420-progressive.jpg");
    for name in ["dark/1.jpg", "light/more/2.jpg"] {
        std::fs::write(project.path(&format!("data/train/{name}")), &whole[..whole.len() * 9 / 10]).unwrap();
    }
    let words = [
        "2 of 52 pictures",
        "train/dark/1.jpg: its data end early",
        "train/light/more/2.jpg: its data end early",
    ];
    fails(&["train", &recipe, "--out", &project.text("other")], &words);
    assert!(!project.path("other/checkpoint.safetensors").exists());
}

#[test]
fn data_that_are_not_beside_the_recipe_are_told_where_they_were_looked_for() {
    let project = project();
    let recipe = project.text("recipe.toml");
    std::fs::rename(project.path("data"), project.path("moved")).unwrap();
    let missing = project.text("data");
    fails(
        &["train", &recipe, "--out", &project.text("run")],
        &[&missing, "is not there", "the recipe's folder"],
    );
    // On the command line a path counts from the working directory.
    let words = ["data moved", "is not there"];
    fails(&["train", &recipe, "--out", &project.text("run"), "--data", "moved"], &words);
}
