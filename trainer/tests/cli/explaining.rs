//! `duet explain`: labels by their signs, several answers, whole data sets as a tree.

use super::{Project, duet, fails, ok};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn json(arguments: &[&str]) -> Value {
    let all: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
    serde_json::from_str(&ok(&all)).unwrap()
}

/// All files below a folder, as paths from there.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(inner) = open.pop() {
        for entry in std::fs::read_dir(folder.join(&inner)).unwrap() {
            let path = inner.join(entry.unwrap().file_name());
            if folder.join(&path).is_dir() {
                open.push(path);
            } else {
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// The project as one of three labels, two of whose names begin with a sign.
pub(crate) fn labelled() -> Project {
    let project = Project::new();
    let mut table = "file,WBC,-low,+high\n".to_owned();
    for i in 0..24 {
        table.push_str(&format!("dark/{i}.png,0,1,{}\nlight/{i}.png,1,0,{}\n", i % 2, i % 2));
    }
    std::fs::write(project.path("data/labels.csv"), table).unwrap();
    let recipe = std::fs::read_to_string(project.path("recipe.toml")).unwrap();
    let recipe = recipe
        .replace("kind = \"folder\"", "kind = \"labels-csv\"")
        .replace("num_classes = 2", "num_classes = 3\nhead = \"multi_label\"");
    std::fs::write(project.path("recipe.toml"), recipe).unwrap();
    project.train("run", &["--steps", "2"]);
    project
}

#[test]
fn labels_are_added_and_taken_away_by_their_signs() {
    let project = labelled();
    let (model, strip) = (project.text("run/checkpoint.safetensors"), project.text("strip.png"));
    let images: Vec<String> = (0..6).map(|i| project.text(&format!("data/light/{i}.png"))).collect();
    let explain = ["explain", "--model", &model, "--steps", "5", "--out", &strip];
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let made = json(&[&explain[..], &["--to", "-WBC,+WBC,-low,--low,+high,-+high"], &images].concat());
    let rows = made["explanations"].as_array().unwrap();
    let wanted = [(0, false), (0, true), (1, true), (1, false), (2, true), (2, false)];
    for (row, (class, present)) in rows.iter().zip(wanted) {
        assert_eq!((&row["target"], &row["target_present"]), (&class.into(), &present.into()), "{row}");
        assert!(row["others_moved"].is_u64() && row["strength"].is_number(), "{row}");
        let has = |when: &str| row[when][class].as_f64().unwrap() > 0.5;
        assert_eq!(row["already"], has("before") == present, "{row}");
    }
    // The hyphen may be the option's value of its own, or joined to it.
    for to in [&["--to", "-WBC"][..], &["--to=-WBC"]] {
        let made = json(&[&explain[..], to, &images[..1]].concat());
        assert_eq!(made["explanations"][0]["target_present"], false, "{made}");
    }
    let text = ok(&[&explain[..], &["--to", "-WBC"], &images[..1]].concat());
    assert!(text.contains("other labels moved: ") && text.contains("reached: "), "{text}");
    assert!(text.contains("-low ") && text.contains(" s per image"), "all labels are told: {text}");
    fails(&[&explain[..], &images[..1]].concat(), &["to", "+LABEL", "-LABEL"]);

    // Of a data set those that have no such label are left as they are.
    let out = project.text("tree");
    let all =
        ["explain", "--all", "--model", &model, "--steps", "5", "--to", "+WBC", "--out", &out, "-n", "4"];
    let made = json(&all)["results"].clone();
    let count = |what: &Value| what.as_u64().unwrap();
    assert_eq!(count(&made["already"]) + count(&made["all"]["images"]), 4, "{made}");
    let originals = files(Path::new(&out)).iter().filter(|file| file.starts_with("Original")).count();
    assert_eq!(originals as u64, count(&made["all"]["images"]));
}

#[test]
fn several_answers_come_the_best_first_with_their_stability() {
    let project = Project::new();
    project.train("run", &["--steps", "2"]);
    let (model, strip, report) =
        (project.text("run/checkpoint.safetensors"), project.text("strip.png"), project.text("report.html"));
    let images = ["light", "dark"].map(|class| project.text(&format!("data/{class}/0.png")));
    let explain = ["explain", "--model", &model, "--steps", "10", "--locality", "0", "--out", &strip];
    let explain = [&explain[..], &[images[0].as_str(), &images[1]]].concat();
    let one = json(&explain);
    assert!(one["explanations"][0].get("variants").is_none(), "{one}");
    let narrow = image::open(&strip).unwrap().width();
    let made = json(&[&explain[..], &["--variants", "3", "--report", &report]].concat());
    assert!(image::open(&strip).unwrap().width() > narrow, "a column for the stability");
    for row in made["explanations"].as_array().unwrap() {
        let variants = row["variants"].as_array().unwrap();
        let mut seeds: Vec<u64> = variants.iter().map(|one| one["seed"].as_u64().unwrap()).collect();
        assert_eq!(row["seed"], seeds[0], "the best one is told: {row}");
        seeds.sort_unstable();
        assert_eq!(seeds, [0, 1, 2]);
        let key = |one: &Value| {
            let reached = one["reached"].as_bool().unwrap();
            let rest = if reached { one["mean_change"].clone() } else { one["probability"].clone() };
            (!reached, if reached { rest.as_f64().unwrap() } else { -rest.as_f64().unwrap() })
        };
        let keys: Vec<(bool, f64)> = variants.iter().map(key).collect();
        assert!(keys.windows(2).all(|pair| pair[0] <= pair[1]), "{keys:?}");
        let stability = row["stability"].as_array().unwrap();
        assert_eq!(stability.len(), 64);
        assert!(stability.iter().all(|share| (0.0..=1.0).contains(&share.as_f64().unwrap())));
    }
    let page = std::fs::read_to_string(&report).unwrap();
    assert!(page.contains("3 from 0 on") && page.contains("of 3 seeds; unlike"), "{page}");
    assert_eq!(page.matches(">stability<").count(), 2);
    // Without strength nothing changes, whatever the seed.
    let made = json(&[&explain[..], &["--variants", "2", "--strength", "0"]].concat());
    let row = &made["explanations"][0];
    assert!(row["mean_change"].as_f64().unwrap() < 1e-6 && row["changed_share"] == 0.0, "{row}");
}

#[test]
fn a_data_set_becomes_a_tree_that_is_completed_or_refused() {
    let project = Project::new();
    project.train("run", &["--steps", "2"]);
    project.train("other", &["--steps", "2", "--seed", "5"]);
    let [model, judge] = ["run", "other"].map(|run| project.text(&format!("{run}/checkpoint.safetensors")));
    let out = project.text("tree");
    let all = ["explain", "--all", "--model", &model, "--steps", "5", "-n", "4", "--batch", "1"];
    let all = [&all[..], &["--experiment", "first"]].concat();
    let judged = [&all[..], &["--out", &out, "--judge", &judge]].concat();
    let made = json(&judged)["results"].clone();
    assert_eq!((&made["complete"], &made["all"]["images"]), (&true.into(), &4.into()), "{made}");
    assert!(made["all"]["judge_agrees"].is_number() && made["judge"]["seed"] == 5, "{made}");
    let results = project.path("tree/Results/first");
    let there = files(&project.path("tree"));
    let names: Vec<String> = there
        .iter()
        .filter_map(|file| file.strip_prefix("Original/"))
        .map(|file| file.split('/').next_back().unwrap().replace(".png", ""))
        .collect();
    assert_eq!(names.len(), 4, "{there:?}");
    for name in &names {
        assert!(name.len() == 7 && name.parse::<u32>().is_ok(), "{name}");
        for (folder, ending) in [("CF", "png"), ("Noise", "png"), ("SM", "png"), ("Info", "txt")] {
            let file = format!("/{folder}/{name}.{ending}");
            let of: Vec<&String> = there.iter().filter(|path| path.ends_with(&file)).collect();
            assert_eq!(of.len(), 1, "{file}: {there:?}");
            let parts: Vec<&str> = of[0].split('/').collect();
            assert!(["CC", "IC"].contains(&parts[2]) && ["CCF", "ICF"].contains(&parts[3]), "{of:?}");
        }
    }
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(results.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary, made);
    let page = std::fs::read_to_string(results.join("report.html")).unwrap();
    assert!(page.matches("Judge: ").count() == 4 && page.contains("duet explain --all"), "{page}");

    // Interrupted after two images, in the middle of a third one's line: what was lost is made as it was.
    let lines = results.join("explanations.jsonl");
    let text = std::fs::read_to_string(&lines).unwrap();
    let two: usize = text.split_inclusive('\n').take(2).map(str::len).sum();
    let content = || -> Vec<Vec<u8>> {
        let pictures = there.iter().filter(|file| file.ends_with(".png"));
        pictures.map(|file| std::fs::read(project.path("tree").join(file)).unwrap()).collect()
    };
    let before = content();
    std::fs::write(&lines, &text[..two + 20]).unwrap();
    let lost = there.iter().rfind(|file| file.contains("/CF/")).unwrap();
    std::fs::remove_file(project.path("tree").join(lost)).unwrap();
    let output = duet(&judged);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("2 of 4 images are there"), "{said}");
    assert_eq!((files(&project.path("tree")), content()), (there.clone(), before));
    let rows = |text: &str| -> Vec<Value> {
        let mut rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        rows.iter_mut().for_each(|row| row["seconds"] = Value::Null);
        rows
    };
    assert_eq!(rows(&std::fs::read_to_string(&lines).unwrap()), rows(&text));

    fails(&[&judged[..], &["--strength", "1"]].concat(), &["made in another way", "--experiment"]);
    fails(&[&all[..], &["--out", &out, "--judge", &model]].concat(), &["judge", "counts for nothing"]);
    let data = project.text("data");
    fails(&[&all[..], &["--out", &project.text("data/tree")]].concat(), &["in the data's folder"]);
    fails(&[&all[..], &["--out", &out, "--data", &data, &data]].concat(), &["data", "one or the other"]);
    fails(&["explain", "--model", &model, "--data", &data, &data], &["data", "--all"]);
    let loose = project.text("loose.png");
    std::fs::copy(project.path("data/light/0.png"), &loose).unwrap();
    fails(
        &[&all[..], &["--out", &project.text("new"), &loose]].concat(),
        &["loose.png", "class is not known"],
    );
    // Given pictures do as well, where their folders tell what they are.
    let pictures = [project.text("data/light/0.png"), project.text("data/dark/0.png")];
    let given = json(&[&all[..], &["--out", &project.text("new"), &pictures[0], &pictures[1]]].concat());
    assert_eq!(given["results"]["all"]["images"], 2, "{given}");
}

#[cfg(unix)]
#[test]
fn control_c_leaves_the_images_that_are_done() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};
    let project = Project::new();
    project.train("run", &["--steps", "2"]);
    let (model, out) = (project.text("run/checkpoint.safetensors"), project.text("tree"));
    let data = project.text("data");
    // Many steps of few images at a time, so that there is time.
    let all =
        ["explain", "--all", "--model", &model, "--out", &out, "--batch", "1", "--steps", "1000", &data];
    let mut child = super::program().args(all).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let lines = project.path("tree/Results/duet/explanations.jsonl");
    let begin = Instant::now();
    while !std::fs::read(&lines).is_ok_and(|text| text.contains(&b'\n')) {
        assert!(begin.elapsed() < Duration::from_secs(120), "nothing happened");
        std::thread::sleep(Duration::from_millis(10));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "what is not whole is no success");
    let summary = std::fs::read_to_string(project.path("tree/Results/duet/summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    let done = std::fs::read_to_string(&lines).unwrap().lines().count();
    assert!((1..48).contains(&done) && summary["complete"] == false, "{done}: {summary}");
    assert_eq!(summary["all"]["images"], done);
    let page = std::fs::read_to_string(project.path("tree/Results/duet/report.html")).unwrap();
    assert_eq!(page.matches("id=\"image-").count(), done);
}
