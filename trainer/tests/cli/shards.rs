//! `--shard` and `duet merge`: what parts compute is what one process does.

use super::{Project, duet, fails, ok};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// A project with a model.
fn project() -> (Project, String) {
    let project = Project::new();
    project.train("run", &["--steps", "6"]);
    let model = project.text("run/checkpoint.safetensors");
    (project, model)
}

/// Runs a command in parts, whose files go to the folder `shards`.
fn parts(line: &[&str], of: usize, shards: &str) {
    for number in 1..=of {
        let part = format!("{number}/{of}");
        let said = ok(&[line, &["--shard", &part, "--shards", shards]].concat());
        assert!(said.contains(&format!(".{number}-of-{of}.npz")), "{said}");
    }
}

/// What was printed as JSON, without what a clock says.
pub fn json(text: &str) -> Value {
    fn timeless(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| !name.starts_with("seconds"));
                fields.values_mut().for_each(timeless);
            }
            Value::Array(all) => all.iter_mut().for_each(timeless),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(text).unwrap();
    timeless(&mut value);
    value
}

/// Where two values differ, for a failure that can be read.
pub fn differ(a: &Value, b: &Value, at: &str) -> Option<String> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) if x.keys().eq(y.keys()) => {
            x.iter().find_map(|(name, value)| differ(value, &y[name], &format!("{at}.{name}")))
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            x.iter().zip(y).enumerate().find_map(|(i, (x, y))| differ(x, y, &format!("{at}[{i}]")))
        }
        _ if a == b => None,
        _ => Some(format!("{at}: {a} and {b}")),
    }
}

/// Whether two texts are the same JSON but for what a clock says.
pub fn same(whole: &str, merged: &str) {
    assert_eq!(differ(&json(whole), &json(merged), ""), None);
}

/// All but `prd`, whose clusters want more images than are here; it reads what the others read.
const METRICS: &str =
    "fid,sfid-spatial,sfid-split,is,kid,precision-recall,density-coverage,ece,confusion,per-class,nll";

#[test]
fn figures_of_parts_are_those_of_one_process() {
    let (project, model) = project();
    project.train("judge", &["--steps", "4", "--seed", "7"]);
    let judge = project.text("judge/checkpoint.safetensors");
    let [shards, cache] = ["shards", "cache"].map(|name| project.text(name));
    // Of three parts one has no counterfactuals: there are two groups of them.
    let mut line =
        vec!["--json", "eval", "--model", &model, "--batch", "2", "--loss-images", "5", "--cache", &cache];
    line.extend(["--counterfactuals", "5", "--steps", "10", "--judge", &judge, "--against", "paper"]);
    line.extend(["--metrics", METRICS, "--samples", "23", "--sample-steps", "3"]);
    line.extend(["--nll-images", "5", "--nll-timesteps", "2"]);
    let whole = ok(&line);
    parts(&line, 3, &shards);
    same(&whole, &ok(&["--json", "merge", &shards]));
    // As text, too, and without device, model or data.
    let text = |arguments: &[&str]| -> Vec<String> {
        let said = ok(arguments);
        said.lines().filter(|line| !line.contains("seconds an image")).map(str::to_owned).collect()
    };
    let whole = text(&line[1..]);
    std::fs::rename(project.path("run"), project.path("gone")).unwrap();
    std::fs::rename(project.path("data"), project.path("data-gone")).unwrap();
    assert_eq!(text(&["--gpu", "no such card", "merge", &shards]), whole);
}

#[test]
fn images_of_parts_are_those_of_one_process() {
    let (project, model) = project();
    let [shards, out, npz, picture] = ["shards", "a.png", "a.npz", "b.png"].map(|name| project.text(name));
    let near = project.text("data/light/3.png");
    let mut line =
        vec!["--json", "sample", "--model", &model, "--steps", "3", "-n", "5", "--batch", "4", "--out", &out];
    line.extend(["--npz", &npz, "--near", &near, "--class", "light,dark"]);
    let whole = ok(&line);
    let files = [&out, &npz].map(|path| std::fs::read(path).unwrap());
    for path in [&out, &npz] {
        std::fs::remove_file(path).unwrap();
    }
    parts(&line, 2, &shards);
    assert!(!Path::new(&out).exists() && !Path::new(&npz).exists(), "a part writes its rows alone");
    same(&whole, &ok(&["--json", "merge", &shards]));
    assert!([&out, &npz].map(|path| std::fs::read(path).unwrap()) == files, "the same bytes");
    ok(&["merge", &shards, "--out", &picture]);
    assert_eq!(std::fs::read(&picture).unwrap(), files[0]);
    fails(&["merge", &shards, "--report", &project.text("r.html")], &["report", "duet sample"]);
}

/// All files of a folder by name, but for what only parts have and what a clock says.
pub fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            match path.is_dir() {
                true => folders.push(path),
                false if name.contains("-of-") || name.ends_with(".html") => {}
                false if name.ends_with(".json") || name.ends_with(".jsonl") => {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let whole = [text.as_str()];
                    let texts = if name.ends_with("l") { text.lines().collect() } else { whole.to_vec() };
                    let timeless: Vec<String> =
                        texts.into_iter().map(|text| json(text).to_string()).collect();
                    files.insert(name, timeless.join("\n").into_bytes());
                }
                false => {
                    files.insert(name, std::fs::read(&path).unwrap());
                }
            }
        }
    }
    files
}

#[test]
fn explanations_of_parts_are_those_of_one_process() {
    let (project, model) = project();
    let [shards, out, report] = ["shards", "a.png", "a.html"].map(|name| project.text(name));
    let files: Vec<String> = (0..9).map(|i| project.text(&format!("data/dark/{i}.png"))).collect();
    std::fs::write(&files[2], "no picture").unwrap();
    let explain = ["--json", "explain", "--model", &model, "--batch", "2", "--steps", "10"];
    let mut line = [&explain[..], &["--variants", "2", "--out", &out, "--report", &report]].concat();
    line.extend(files.iter().map(String::as_str));
    let answer = |line: &[&str]| {
        let output = duet(line);
        // One picture of nine cannot be read: the others are answered.
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && error.contains("1 of 9 could not be read"), "{error}");
        String::from_utf8(output.stdout).unwrap()
    };
    let made = || [&out, &report].map(|path| std::fs::read(path).unwrap());
    let whole = (answer(&line), made());
    parts(&line, 3, &shards);
    std::fs::remove_file(&out).unwrap();
    assert_eq!(differ(&json(&whole.0), &json(&answer(&["--json", "merge", &shards])), ""), None);
    let pages = [&whole.1[1], &made()[1]].map(|page| String::from_utf8_lossy(page).matches("<img").count());
    assert!(made()[0] == whole.1[0] && pages[0] == pages[1]);

    // A whole data set: parts write into one tree, all at once if they like, and one that was interrupted goes on.
    let [one, several, shards] = ["one", "several", "tree"].map(|name| project.text(name));
    std::fs::remove_file(&files[2]).unwrap();
    let all = [&explain[..], &["--all", "--count", "9", "--out"]].concat();
    let whole = ok(&[&all[..], &[&one]].concat());
    let line = [&all[..], &[several.as_str()]].concat();
    std::thread::scope(|scope| {
        for part in ["1/2", "2/2"] {
            let (line, shards) = (&line, &shards);
            scope.spawn(move || ok(&[&line[..], &["--shard", part, "--shards", shards]].concat()));
        }
    });
    let list = project.path("several/Results/duet/explanations.2-of-2.jsonl");
    let lines = std::fs::read_to_string(&list).unwrap();
    std::fs::write(&list, lines.lines().next().unwrap().to_owned() + "\n").unwrap();
    parts(&line, 2, &shards);
    let merged = ok(&["--json", "merge", &shards]);
    assert_eq!(differ(&json(&whole)["results"], &json(&merged)["results"], ""), None);
    let [one, several] = ["one", "several"].map(|name| tree(&project.path(name)));
    assert!(one.keys().eq(several.keys()), "{:?} {:?}", one.keys(), several.keys());
    one.iter().for_each(|(name, bytes)| assert!(&several[name] == bytes, "{name}"));
    assert!(!list.exists(), "what is in the list of all images is in no other");
    // What is there is there for one process and for any number of parts.
    for more in [&[][..], &["--shard", "3/3", "--shards", &shards]] {
        let output = duet(&[&line[1..], more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("nothing is left to do"), "{said}");
    }
}

#[test]
fn parts_that_do_not_belong_together_are_told_by_name() {
    let (project, model) = project();
    let at = |name: &str| project.text(name);
    let eval = ["eval", "--model", &model, "--loss-images", "0", "--batch", "4"];
    parts(&eval, 3, &at("a"));
    let [one, two, three] = [1, 2, 3].map(|number| at(&format!("a/eval.{number}-of-3.npz")));
    fails(&["merge", &one, &three], &["part 2 of 3", "missing", "--shard I/3"]);
    fails(&["merge", &two], &["parts 1 and 3 of 3", "missing"]);
    std::fs::copy(&two, at("copy.npz")).unwrap();
    fails(&["merge", &one, &two, &three, &at("copy.npz")], &["part 2 of 3", "eval.2-of-3.npz", "copy.npz"]);
    let part = |more: &[&str], part: &str, to: &str| {
        ok(&[&eval[..], more, &["--shard", part, "--shards", &at(to)]].concat());
    };
    part(&["--images", "10"], "2/3", "other");
    fails(
        &["merge", &one, &at("other/eval.2-of-3.npz"), &three],
        &["another images: 10, in", "eval.1-of-3.npz 0"],
    );
    part(&[], "2/4", "other");
    fails(&["merge", &one, &at("other/eval.2-of-4.npz")], &["one of 4 parts", "one of 3"]);
    project.train("second", &["--steps", "2"]);
    let second = at("second/checkpoint.safetensors");
    ok(&[
        "eval",
        "--model",
        &second,
        "--loss-images",
        "0",
        "--batch",
        "4",
        "--shard",
        "3/3",
        "--shards",
        &at("other"),
    ]);
    fails(
        &["merge", &one, &two, &at("other/eval.3-of-3.npz")],
        &["eval.3-of-3.npz", "another model", "blake3:"],
    );
    let samples = ["sample", "--model", &model, "--steps", "2", "-n", "1", "--out", &at("x.png")];
    ok(&[&samples[..], &["--shard", "2/3", "--shards", &at("other")]].concat());
    fails(&["merge", &one, &at("other/sample.2-of-3.npz")], &["duet sample", "duet eval"]);

    let whole = std::fs::read(&two).unwrap();
    for len in [0, 1, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&two, &whole[..len]).unwrap();
        fails(&["merge", &at("a")], &["eval.2-of-3.npz"]);
    }
    let mut damaged = whole.clone();
    let place = damaged.windows(8).position(|word| word == b"accuracy").unwrap();
    damaged[place] = b'b';
    std::fs::write(&two, &damaged).unwrap();
    fails(&["merge", &at("a")], &["eval.2-of-3.npz"]);
    std::fs::write(&two, duet_trainer::data::pack(&[]).unwrap()).unwrap();
    fails(&["merge", &at("a")], &["eval.2-of-3.npz", "no part"]);
    fails(&["merge", &at("run")], &["run", "no .npz"]);
    fails(&["merge", &at("nowhere.npz")], &["nowhere.npz"]);
    std::fs::write(&two, whole).unwrap();
    ok(&["merge", &three, &at("a/eval.1-of-3.npz"), &two]);

    // What all images together cannot have is said before hours are spent on a part of them.
    let few = ["--metrics", "prd", "--samples", "5", "--shard", "1/2", "--shards", &at("other")];
    fails(&[&eval[..], &few].concat(), &["clusters", "5 images"]);

    // The environment says it as well; where there are no parts it is not passed over in silence.
    let with = |arguments: &[&str]| {
        let output = super::program().args(arguments).env("DUET_SHARD", "2/3").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    std::fs::remove_file(&two).unwrap();
    assert_eq!(with(&[&eval[..], &["--shards", &at("a")]].concat()).0, Some(0));
    assert!(Path::new(&two).exists());
    let (code, said) = with(&["classify", "--model", &model, &at("data/dark/0.png")]);
    assert!(code == Some(1) && said.contains("DUET_SHARD") && said.contains("classify"), "{said}");
    let output = duet(&[&eval[..], &["--shard", "4/3"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("I/N"), "{said}");
}

#[cfg(unix)]
#[test]
fn the_array_of_slurm_measures_in_parts_and_merges_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let (project, model) = project();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/eval-array.slurm");
    // The program with less to measure than the script asks for.
    let heavy = "--metrics all --samples 50000 --counterfactuals 100";
    assert!(std::fs::read_to_string(&script).unwrap().contains(heavy));
    let duet = env!("CARGO_BIN_EXE_duet");
    let program = format!(
        "#!/bin/sh\nset -f\nexec '{duet}' $(echo \"$@\" | sed 's/{heavy}/--loss-images 0 --batch 4/')\n"
    );
    let small = project.path("small");
    std::fs::write(&small, program).unwrap();
    std::fs::set_permissions(&small, std::fs::Permissions::from_mode(0o755)).unwrap();
    let result = project.path("shards/eval.json");
    for task in ["1", "0"] {
        assert!(!result.exists(), "not before all parts are there");
        let mut command = std::process::Command::new("bash");
        command
            .args([script.as_os_str(), model.as_ref()])
            .env("DUET", &small)
            .env("DUET_CACHE", super::cache());
        command.env("SHARDS", project.path("shards"));
        command.env("SLURM_ARRAY_TASK_ID", task).env("SLURM_ARRAY_TASK_COUNT", "2");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let whole = ok(&["--json", "eval", "--model", &model, "--loss-images", "0", "--batch", "4"]);
    same(&whole, &std::fs::read_to_string(result).unwrap());
}
