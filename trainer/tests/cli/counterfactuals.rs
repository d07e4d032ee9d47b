//! `duet eval --counterfactuals` and `duet frontier`: their figures against figures computed here.

use super::{Project, duet, fails, ok};
use ::duet::Duet;
use ::duet::explain::{ExplainOptions, Explainer, Request};
use ::duet::infer::ImageFeatures;
use ::duet::rng::Seed;
use ::duet::sampling::Watch;
use duet_trainer::data::{Split, load};
use duet_trainer::metrics::frechet::{Gaussian, Reference};
use duet_trainer::recipe::Recipe;
use pollster::block_on;
use serde_json::{Value, json};

/// A model, a judge that was trained apart, and their data.
struct Case {
    project: Project,
    model: String,
    judge: String,
    split: Split,
}

impl Case {
    fn new() -> Case {
        let project = Project::new();
        project.train("run", &["--steps", "6"]);
        project.train("judge", &["--steps", "8", "--seed", "9"]);
        let file = |run: &str| project.text(&format!("{run}/checkpoint.safetensors"));
        let (model, judge) = (file("run"), file("judge"));
        let recipe = Recipe::load(&project.path("recipe.toml")).unwrap();
        let split = load(&recipe.data, 1, 8).unwrap();
        Case { project, model, judge, split }
    }

    /// The command's arguments, and those of every such call.
    fn arguments<'a>(&'a self, command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec![command, "--model", &self.model];
        if command == "eval" {
            all.extend(["--images", "4", "--loss-images", "0", "--counterfactuals", "3", "--steps", "10"]);
        }
        all.extend(more);
        all
    }

    fn eval(&self, more: &[&str]) -> Value {
        let all = [&["--json"][..], &self.arguments("eval", more)].concat();
        serde_json::from_str::<Value>(&ok(&all)).unwrap()["counterfactuals"].take()
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn close(got: &Value, want: f64, within: f64, what: &str) {
    assert!((number(got) - want).abs() <= within, "{what}: {got} instead of {want}");
}

/// COUT by its definition: the most changed pixel first, one after the other (64 pixels make blocks of one).
fn cout(model: &mut Duet, x: &[f32], y: &[f32], [target, source]: [usize; 2]) -> f64 {
    let mut order: Vec<usize> = (0..64).collect();
    order.sort_by(|a, b| (y[*b] - x[*b]).abs().total_cmp(&(y[*a] - x[*a]).abs()));
    let mut picture = x.to_vec();
    let mut pictures = picture.clone();
    for pixel in order {
        picture[pixel] = y[pixel];
        pictures.extend(&picture);
    }
    let rows = block_on(model.probabilities(&pictures)).unwrap();
    let area = |class: usize| {
        let curve: Vec<f64> = rows.chunks(2).map(|row| f64::from(row[class])).collect();
        (curve[0] / 2.0 + curve[1..64].iter().sum::<f64>() + curve[64] / 2.0) / 64.0
    };
    area(target) - area(source)
}

#[test]
fn counterfactuals_are_measured_and_judged() {
    let case = Case::new();
    let test = &case.split.test;
    // The tenth that is passed over holds images of the first class.
    let skip = "0.1";
    let found = case.eval(&["--skip", skip, "--judge", &case.judge, "--against", "paper"]);
    let passed = test.len() / 10;
    assert!(passed > 0, "{} test images", test.len());
    let truths = test.classes().unwrap();
    let of = |class: u32| (passed..test.len()).filter(move |row| truths[*row] == class).take(3);
    let mut rows: Vec<usize> = of(0).chain(of(1)).collect();
    rows.sort_unstable();
    let listed = |key: &str| -> Vec<usize> {
        found["rows"].as_array().unwrap().iter().map(|row| row[key].as_u64().unwrap() as usize).collect()
    };
    assert_eq!(listed("image"), rows);
    assert_eq!(found["images"], rows.len());

    // The same by the library.
    let images = test.images_f32(&rows);
    let [mut model, mut judge] = [&case.model, &case.judge].map(|file| block_on(Duet::load(file)).unwrap());
    let before: Vec<usize> = block_on(model.classify(&images)).unwrap().iter().map(|a| a.class).collect();
    let targets: Vec<usize> = before.iter().map(|class| 1 - class).collect();
    assert_eq!((listed("before"), listed("target")), (before.clone(), targets.clone()), "the second class");
    let options = ExplainOptions { respacing: "10".into(), ..ExplainOptions::default() };
    let diffusion = model.checkpoint().diffusion.clone();
    let new = Explainer::new(model.weights(), &diffusion, 4, &options, model.weight_set());
    let mut explainer = block_on(new).unwrap();
    let request = |(image, class): (usize, &usize)| Request { image, target: (*class).into(), seed: Seed(0) };
    let requests: Vec<Request> = targets.iter().enumerate().map(request).collect();
    let made = block_on(explainer.explain(&images, &requests, 0, Watch::None)).unwrap();
    let counterfactuals: Vec<f32> = made.iter().flat_map(|one| &one.counterfactual).copied().collect();
    let [sees, saw] =
        [&counterfactuals, &images].map(|images| block_on(judge.probabilities(images)).unwrap());
    for (i, (one, row)) in made.iter().zip(found["rows"].as_array().unwrap()).enumerate() {
        let (x, target) = (&images[i * 64..][..64], targets[i]);
        close(&row["change"]["mean"], one.mean_change(), 1e-5, "mean change");
        let over = |least: f64| {
            one.difference.iter().filter(|d| f64::from(d.abs()) / 2.0 > least).count() as f64 / 64.0
        };
        close(&row["change"]["changed"], over(0.1), 1e-9, "pixels over 0.1");
        close(&row["probability"], f64::from(one.after[target]), 1e-5, "probability");
        close(&row["judge"]["probability"], f64::from(sees[2 * i + target]), 1e-5, "judge");
        close(&row["judge"]["probability_before"], f64::from(saw[2 * i + target]), 1e-5, "judge before");
        assert_eq!(row["judge"]["after"] == target, sees[2 * i + target] > 0.5, "{row}");
        assert_eq!((row["after"] == target, &row["rung"]), (one.reached, &json!(one.rung)), "{row}");
        assert_eq!(row["passes"]["backward"], one.passes.backward);
        let want = cout(&mut model, x, &one.counterfactual, [target, before[i]]);
        close(&row["cout"], want, 1e-5, "COUT");
    }

    // Means, and their errors, of these rows.
    let figures = &found["figures"];
    let all = |key: &dyn Fn(&Value) -> f64| -> Vec<f64> {
        found["rows"].as_array().unwrap().iter().map(key).collect()
    };
    let check = |name: &str, values: Vec<f64>| {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let spread = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0);
        close(&figures[name]["mean"], mean, 1e-9, name);
        close(&figures[name]["standard_error"], (spread / count).sqrt(), 1e-9, name);
        assert_eq!(figures[name]["count"], values.len(), "{name}");
    };
    let yes = |answer: bool| f64::from(u8::from(answer));
    check("reached", all(&|row| yes(row["after"] == row["target"])));
    check("reached_first", all(&|row| yes(row["after"] == row["target"] && row["rung"] == 0)));
    check("changed", all(&|row| yes(row["after"] != row["before"])));
    check("mean_change", all(&|row| number(&row["change"]["mean"])));
    check("bounded_kl", all(&|row| 1.0 - number(&row["probability"])));
    check("judge_agrees", all(&|row| yes(row["judge"]["after"] == row["target"])));
    check("judge_correct", all(&|row| yes(row["judge"]["before"] == row["truth"])));
    check("encoder_passes", all(&|row| number(&row["passes"]["encoder"])));
    let pairs = found["pairs"].as_array().unwrap();
    assert_eq!(pairs.iter().map(|pair| pair["images"].as_u64().unwrap()).sum::<u64>(), rows.len() as u64);
    assert!(pairs.iter().all(|pair| pair["from"] != pair["to"]), "{pairs:?}");

    // In the judge's features, against 20 training images for each counterfactual (from the first one on again: there are 18).
    let features = block_on(ImageFeatures::new(judge.weights(), 8, judge.weight_set())).unwrap();
    let gaussian =
        |images: &[f32]| Gaussian::of(&block_on(features.get(images)).unwrap(), features.columns());
    let train = &case.split.train;
    let mut like = Vec::new();
    for class in 0..2 {
        let of_class: Vec<usize> =
            (0..train.len()).filter(|row| train.classes().unwrap()[*row] == class).collect();
        let count = 20 * targets.iter().filter(|target| **target == class as usize).count();
        like.extend((0..count).map(|at| of_class[at % of_class.len()]));
    }
    let reference = Reference::new(gaussian(&train.images_f32(&like)).unwrap()).unwrap();
    let want = reference.distance(&gaussian(&counterfactuals).unwrap()).unwrap();
    close(&found["frechet"], want, 1e-3 * want, "Fréchet distance");
    let want = reference.distance(&gaussian(&images).unwrap()).unwrap();
    close(&found["judge"]["frechet_originals"], want, 1e-3 * want, "Fréchet distance of the originals");
    let identity = &found["judge"]["identity"];
    assert_eq!((&identity["file"], &identity["seed"]), (&json!(case.judge), &json!(9)));
    assert!((0.0..=1.0).contains(&number(&identity["test_accuracy"])), "{identity}");

    // Against the paper's chain on the same images.
    let against = &found["against"];
    let then = against["way"]["rows"].as_array().unwrap();
    let agrees = |row: &Value| row["judge"]["after"] == row["target"];
    let both: Vec<(bool, bool)> =
        found["rows"].as_array().unwrap().iter().zip(then).map(|(a, b)| (agrees(a), agrees(b))).collect();
    let [gains, losses] =
        [(true, false), (false, true)].map(|wanted| both.iter().filter(|pair| **pair == wanted).count());
    assert_eq!(against["comparison"]["gains"], gains);
    assert_eq!(against["comparison"]["losses"], losses);
    assert_eq!(against["way"]["method"]["name"], "paper");
    assert_eq!(against["way"]["method"]["chain_steps"], 100);

    // For people the same numbers.
    let file = case.project.text("run.json");
    let whole =
        [&["--json"][..], &case.arguments("eval", &["--skip", skip, "--judge", &case.judge])].concat();
    std::fs::write(&file, ok(&whole)).unwrap();
    let same = ["--skip", skip, "--judge", &case.judge, "--against", &file];
    let text = ok(&case.arguments("eval", &same));
    let line =
        |words: &str| text.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{text}"));
    assert!(
        line("mean |Δ| of a value").contains(&format!("{:.4} ± ", number(&figures["mean_change"]["mean"])))
    );
    let share = format!("{:.1} % ± ", 100.0 * number(&figures["judge_agrees"]["mean"]));
    assert!(line("judge says the target").contains(&share), "{text}");
    assert!(line("never guides").contains("(seed 9, states "), "{text}");
    assert!(line("gains 0 and loses 0").contains("sign test p = 1.000"), "itself: {text}");
    assert!(text.contains("light → dark") || text.contains("dark → light"), "{text}");
    let other = ["--judge", &case.judge, "--against", &file, "--to", "next", "--skip", "0.5"];
    fails(&case.arguments("eval", &other), &["against", "other images or targets"]);
}

#[test]
fn a_judge_must_be_another_model_of_the_same_kind() {
    let case = Case::new();
    let [copy, half] = ["copy.safetensors", "half.safetensors"].map(|name| case.project.text(name));
    std::fs::copy(&case.model, &copy).unwrap();
    ok(&["export", "--model", &case.model, "--out", &half]);
    for itself in [&case.model, &copy, &half] {
        fails(&case.arguments("eval", &["--judge", itself]), &["judge", "is the model that explains"]);
    }
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/demo/public/model.safetensors");
    fails(&case.arguments("eval", &["--judge", shipped]), &["judge", "sees 1×28×28 images, the model 1×8×8"]);
    fails(&case.arguments("eval", &["--judge", "nowhere.safetensors"]), &["nowhere.safetensors"]);
    let none = ["--judge", &case.judge, "--counterfactuals", "0"];
    let mut arguments = vec!["eval", "--model", &case.model];
    arguments.extend(none);
    fails(&arguments, &["judge", "--counterfactuals"]);
    let unjudged = duet(&case.arguments("eval", &["--against", "paper"]));
    assert_eq!(unjudged.status.code(), Some(2), "a comparison needs a judge");
    let broken = case.project.text("recipe.toml");
    fails(
        &case.arguments("eval", &["--judge", &case.judge, "--against", &broken]),
        &["recipe.toml", "duet --json eval"],
    );
    fails(&case.arguments("eval", &["--to", "purple"]), &["purple", "\"dark\", \"light\""]);
    fails(&case.arguments("eval", &["--skip", "1"]), &["skip", "leaves none"]);
}

#[test]
fn a_frontier_has_a_point_for_each_way_and_strength() {
    let case = Case::new();
    let out = case.project.text("frontier");
    let ways = ["--way", "local=2,0", "--way", "paper=5", "-n", "2", "--judge", &case.judge, "--out", &out];
    let arguments = [&["--json"][..], &case.arguments("frontier", &ways)].concat();
    let found: Value = serde_json::from_str(&ok(&arguments)).unwrap();
    let points = found["points"].as_array().unwrap();
    let places: Vec<(&str, f64)> =
        points.iter().map(|point| (point["way"].as_str().unwrap(), number(&point["strength"]))).collect();
    assert_eq!(places, [("local", 0.0), ("local", 2.0), ("paper", 5.0)]);
    let mean = |point: usize, key: &str| number(&points[point]["figures"][key]["mean"]);
    // Without strength the image itself comes back, and the judge says of it what it says of the image.
    assert_eq!((mean(0, "mean_change"), mean(0, "equal_pixels")), (0.0, 1.0));
    assert_eq!(mean(0, "judge_probability"), mean(0, "judge_probability_before"));
    assert_eq!((mean(0, "chains"), mean(1, "chains")), (1.0, 1.0), "no ladder");
    assert!(mean(2, "mean_change") > 0.0);
    assert_eq!(found["settings"]["judge"]["seed"], 9);

    let text = |name: &str| std::fs::read_to_string(case.project.path("frontier").join(name)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text("frontier.json")).unwrap(), found);
    let table = text("frontier.csv");
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{table}");
    let column = lines[0].iter().position(|name| *name == "judge_probability").unwrap();
    assert_eq!(lines[3][column].parse::<f64>().unwrap(), mean(2, "judge_probability"));
    let plot = text("frontier.svg");
    assert_eq!(plot.matches("<polyline").count(), 6, "two ways in three panels");
    assert!(plot.contains("paper: Algorithm 1") && !plot.contains("NaN"), "{plot}");

    let refused = |more: &[&str], words: &[&str]| fails(&case.arguments("frontier", more), words);
    refused(&["--judge", &case.model], &["judge", "is the model that explains"]);
    refused(&["--judge", &case.judge, "--way", "lokal"], &["way", "there is no \"lokal\""]);
    refused(&["--judge", &case.judge, "--out", &case.judge], &["judge", "cannot be created"]);
}
