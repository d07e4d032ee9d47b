//! `duet data info`: what folders, files and recipes hold, counted by hand.

use super::{Project, fails, ok};
use serde_json::{Value, json};
use std::path::Path;

/// A picture of one level.
fn plain(folder: &Path, name: &str, level: u8, [width, height]: [u32; 2]) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::GrayImage::from_pixel(width, height, image::Luma([level])).save(path).unwrap();
}

/// Two classes with a split, and copies: cat 4 is cat 2, dog 1 is cat 2 of another class, the test's cat 1 is a training dog,
/// the test's dog is its cat 2.
fn planted() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    for (name, level, sides) in [
        ("data/train/cat/1.png", 0, [4, 4]),
        ("data/train/cat/2.png", 51, [4, 4]),
        ("data/train/cat/3.png", 102, [9, 3]),
        ("data/train/cat/4.png", 51, [4, 4]),
        ("data/train/dog/1.png", 51, [5, 8]),
        ("data/train/dog/2.png", 204, [4, 4]),
        ("data/test/cat/1.png", 204, [4, 4]),
        ("data/test/cat/2.png", 255, [4, 4]),
        ("data/test/dog/1.png", 255, [4, 4]),
    ] {
        plain(home.path(), name, level, sides);
    }
    home
}

fn info(arguments: &[&str]) -> Value {
    let line = ok(&[&["--json", "data", "info"], arguments].concat());
    assert_eq!(line.lines().count(), 1, "{line}");
    serde_json::from_str(&line).unwrap()
}

fn near(value: &Value, want: f64) -> bool {
    (value.as_f64().unwrap() - want).abs() < 1e-9
}

#[test]
fn a_folder_is_counted_measured_and_drawn() {
    let home = planted();
    let [data, sheet] = ["data", "sheet.png"].map(|name| home.path().join(name));
    let (data, sheet) = (data.to_str().unwrap(), sheet.to_str().unwrap());
    let found = info(&[data, "--size", "4", "--sheet", sheet]);
    assert_eq!((&found["kind"], &found["guessed_by"]), (&json!("folder"), &json!("it holds 2 folders")));
    assert_eq!(
        (&found["channels"], &found["size"], &found["all_grey"]),
        (&json!(1), &json!(4), &json!(false))
    );
    let cat = json!({"name": "cat", "train": 4, "validation": 0, "test": 2});
    assert_eq!((&found["data"]["images"], &found["data"]["classes"][0]), (&json!(9), &cat), "{found}");
    let balance = json!({
        "largest": {"name": "cat", "train": 4}, "smallest": {"name": "dog", "train": 2}, "ratio": 2.0,
    });
    assert_eq!(found["balance"], balance);
    // 0, .2, .4, .2, .2, .8: mean .3, mean of the squares .92 / 6.
    let levels = &found["levels"];
    assert!(near(&levels[0]["mean"], 0.3), "{levels}");
    assert!(near(&levels[0]["deviation"], (0.92f64 / 6.0 - 0.09).sqrt()), "{levels}");
    assert_eq!(levels.as_array().unwrap().len(), 1);
    let copies = |place: &str, pairs: &[[usize; 2]], of_other_label: usize| json!({"place": place, "images": pairs.len(), "of_other_label": of_other_label, "pairs": pairs});
    let want = [
        copies("within train", &[[3, 1], [4, 1]], 1),
        copies("within test", &[[2, 1]], 1),
        copies("test in train", &[[0, 5]], 1),
    ];
    assert_eq!(found["copies"], json!(want));
    let looks = json!({
        "pictures": 9, "unreadable": 0, "width": {"least": 4, "median": 4, "most": 9},
        "height": {"least": 3, "median": 4, "most": 8}, "square": 7, "colour": 0, "endings": {"png": 9},
    });
    assert_eq!(found["pictures"], looks);
    let warnings = found["data"]["warnings"].as_array().unwrap();
    assert!(
        warnings.iter().any(|word| word.as_str().unwrap().contains("is a training image too")),
        "{found}"
    );

    // 4 pixels a side, drawn four times as large, two pixels between them; four columns.
    let picture = image::open(sheet).unwrap().to_rgb8();
    let left = picture.width() - 4 * 18;
    let level = |column: u32, row: u32| picture.get_pixel(left + column * 18 + 8, row * 18 + 10).0[0];
    assert_eq!(picture.height(), 38);
    assert_eq!([0, 1, 2, 3].map(|column| level(column, 0)), [0, 51, 102, 51]);
    assert_eq!([0, 1, 2].map(|column| level(column, 1)), [51, 204, 255]);

    let text = ok(&["data", "info", data, "--channels", "3"]);
    for words in [
        "folder (guessed: it holds 2 folders); images of 3×32×32",
        "train        test",
        "cat              4           2",
        "the largest class has 2.00 times the training images of the smallest (\"cat\" 4, \"dog\" 2)",
        "mean 0.3000 0.3000 0.3000, standard deviation 0.2517 0.2517 0.2517",
        "all images are grey",
        "copies within train: 2, 1 of them of another class (the first: 3 is 1, from 0)",
        "copies test in train: 1",
        "pictures: 9 (9 .png), 4 to 9 pixels wide (median 4), 3 to 8 high (median 4), 7 of them square; 0 in colour",
        "warning: 1 of 3 test images is a training image too",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn labels_recipes_and_files_of_numbers_are_sources_too() {
    let home = tempfile::tempdir().unwrap();
    for (folder, rows) in [("train", "1.png,1,0\n2.png,1,1\n3.png,1,0\n"), ("test", "1.png,0,1\n2.png,1,0\n")]
    {
        let path = home.path().join(folder);
        for i in 1..=rows.lines().count() as u8 {
            plain(&path, &format!("{i}.png"), 10 * i, [4, 4]);
        }
        std::fs::write(path.join("labels.csv"), format!("file,red,round\n{rows}")).unwrap();
    }
    let found = info(&[home.path().to_str().unwrap(), "--size", "4"]);
    assert_eq!((&found["kind"], &found["balance"]["ratio"]), (&json!("labels-csv"), &json!(3.0)), "{found}");
    // Test image 0 is training image 0 with other labels; 1 is 1 with others.
    assert_eq!(
        (&found["copies"][2]["images"], &found["copies"][2]["of_other_label"]),
        (&json!(2), &json!(2))
    );

    let project = Project::new();
    let found = info(&[&project.text("recipe.toml")]);
    assert_eq!(
        (&found["kind"], &found["guessed_by"], &found["size"]),
        (&json!("folder"), &json!(null), &json!(8))
    );
    assert_eq!(found["data"]["images"], 48);

    // Two training images, one test image, of 3×3 pixels.
    let numbers = tempfile::tempdir().unwrap();
    for (name, magic, counts, data) in [
        (
            "train-images-idx3-ubyte",
            0x0803u32,
            &[2u32, 3, 3][..],
            &[0u8, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255][..],
        ),
        ("train-labels-idx1-ubyte", 0x0801, &[2], &[0, 1]),
        ("t10k-images-idx3-ubyte", 0x0803, &[1, 3, 3], &[9; 9]),
        ("t10k-labels-idx1-ubyte", 0x0801, &[1], &[1]),
    ] {
        let mut bytes = magic.to_be_bytes().to_vec();
        counts.iter().for_each(|count| bytes.extend(count.to_be_bytes()));
        bytes.extend(data);
        std::fs::write(numbers.path().join(name), bytes).unwrap();
    }
    let file = numbers.path().join("train-images-idx3-ubyte");
    let found = info(&[file.to_str().unwrap()]);
    assert_eq!((&found["kind"], &found["channels"], &found["size"]), (&json!("idx"), &json!(1), &json!(3)));
    assert_eq!((&found["pictures"], &found["data"]["test"]), (&json!(null), &json!(1)));
    let found = info(&[numbers.path().to_str().unwrap(), "--kind", "mnist"]);
    assert_eq!((&found["guessed_by"], &found["data"]["classes"][9]["name"]), (&json!(null), &json!("9")));
    let text = ok(&["data", "info", numbers.path().to_str().unwrap()]);
    assert!(text.contains("--kind mnist or --kind fashion-mnist names them"), "{text}");
}

#[test]
fn what_cannot_be_looked_at_is_told() {
    let home = planted();
    let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let data = at("data");
    fails(&["data", "info", &at("none")], &["none", "is not there"]);
    fails(&["data", "info", &data, "--kind", "foldr"], &["data.kind", "foldr", "labels-csv"]);
    fails(&["data", "info", &data, "--channels", "2"], &["channels", "1 (grey) or 3"]);
    fails(&["data", "info", &data, "--size", "0"], &["size", "from 1 to 1024"]);
    fails(&["data", "info", &data, "-n", "0"], &["count"]);
    fails(&["data", "info", &data, "--sheet", &at("sheet.gif")], &["sheet.gif", ".png"]);
    fails(&["data", "info", &data, "--sheet", &at("data/train/sheet.png")], &["lies in the data's folder"]);
    fails(&["data", "info", &at("data/test/cat")], &["--kind", "is not known"]);
    let project = Project::new();
    fails(&["data", "info", &project.text("recipe.toml"), "--kind", "folder"], &["kind", "recipe"]);
    std::fs::write(home.path().join("data/train/cat/5.png"), "broken").unwrap();
    fails(&["data", "info", &data], &["1 of 10 pictures", "train/cat/5.png"]);
}
