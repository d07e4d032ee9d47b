//! Networks that features are measured with: `duet import inception`, `duet import lenet`, `duet eval --features`.

use super::{Project, fails, ok};
use duet::checkpoint::StateDict;
use duet::features::{Inception, Lenet, Network};
use duet::tensor::{HostTensor, Tensors};
use serde_json::Value;
use std::path::Path;

/// Weights without training: running variances are one, everything else goes around a little.
fn weights(network: Network) -> Tensors {
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let count: usize = shape.iter().product();
        let value = |i: usize| match name.ends_with("running_var") {
            true => 1.0,
            false => (i * 7 % 13) as f32 / 60.0 - 0.1,
        };
        let data = (0..count).map(value).collect();
        (name, HostTensor { shape, data })
    };
    network.expected().unwrap().into_iter().map(tensor).collect()
}

fn safetensors(path: &Path, tensors: Tensors) {
    let file = StateDict { tensors, texts: Default::default() };
    std::fs::write(path, file.to_bytes(path).unwrap()).unwrap();
}

#[test]
fn a_lenet_is_imported_and_its_features_compare_images() {
    let project = Project::new();
    let lenet = weights(Network::Lenet(Lenet::Mnist));
    let [plain, torch, out, again] =
        ["lenet.safetensors", "lenet.pt", "out.safetensors", "again.safetensors"]
            .map(|name| project.text(name));
    safetensors(Path::new(&plain), lenet.clone());
    let bytes = duet::torch::to_bytes(lenet.iter().map(|(name, tensor)| (name.as_str(), tensor))).unwrap();
    std::fs::write(&torch, bytes).unwrap();
    let told: Value =
        serde_json::from_str(&ok(&["--json", "import", "lenet", &torch, "--out", &out])).unwrap();
    assert_eq!((&told["network"], &told["values"]), (&"lenet-mnist".into(), &44_426.into()));
    assert_eq!((&told["features"], &told["standard"]), (&"other-lenet".into(), &false.into()));
    // The same weights by every way, and where they came from stays known.
    let of = |path: &str| StateDict::load(Path::new(path)).unwrap();
    assert_eq!(of(&out).tensors, lenet);
    assert!(of(&out).texts["duet_features"].contains("lenet.pt"));
    let text = ok(&["import", "lenet", &out, "--out", &again]);
    assert!(text.contains("lenet-mnist, 10 tensors of 44426 values"), "{text}");
    assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(&out).unwrap());

    // Samples of a model of 28×28 pixels, compared by these features.
    let recipe = std::fs::read_to_string(project.path("recipe.toml")).unwrap();
    let recipe = recipe.replace("image_size = 8", "image_size = 28").replace("steps = 12", "steps = 2");
    std::fs::write(project.path("recipe.toml"), recipe.replace("eval_every = 6\n", "")).unwrap();
    project.train("run", &[]);
    let model = project.text("run/checkpoint.safetensors");
    let eval = |features: &str| -> Value {
        let metrics = ["--metrics", "fid", "--samples", "6", "--sample-steps", "2", "--features", features];
        let arguments = ["--json", "eval", "--model", &model, "--loss-images", "0"];
        serde_json::from_str(&ok(&[&arguments[..], &metrics].concat())).unwrap()
    };
    let figures: Vec<Value> = [&plain, &torch, &out]
        .map(|file| eval(&format!("lenet:{file}"))["metrics"]["figures"][0].clone())
        .into();
    assert_eq!(figures[0]["name"], "other-lenet-feature FID");
    assert!(figures[0]["value"].as_f64().unwrap() > 0.0, "{figures:?}");
    let protocol = figures[0]["protocol"].as_str().unwrap();
    assert!(protocol.contains("84 numbers") && protocol.contains("28×28 as they are, 0..1"), "{protocol}");
    assert!(figures.iter().all(|figure| figure["value"] == figures[0]["value"]), "{figures:?}");
    let asked = ["eval", "--model", &model, "--loss-images", "0", "--metrics", "fid", "--samples", "2"];
    let with = |features: &str, words: &[&str]| {
        fails(&[&asked[..], &["--features", features]].concat(), words);
    };
    with(&format!("inception:{plain}"), &["features", "holds lenet-mnist"]);
    with("lenet:no-such-file.pt", &["no-such-file.pt", "cannot be read"]);
    with(&format!("lenet:{model}"), &["missing", "checkpoint.safetensors"]);
}

#[test]
fn what_is_no_network_of_features_is_refused_and_nothing_is_written() {
    let project = Project::new();
    let [file, out] = ["weights.safetensors", "out.safetensors"].map(|name| project.text(name));
    let refused = |kind: &str, tensors: Tensors, words: &[&str]| {
        safetensors(Path::new(&file), tensors);
        fails(&["import", kind, &file, "--out", &out], words);
        assert!(!Path::new(&out).exists());
    };
    let lenet = weights(Network::Lenet(Lenet::Omniglot));
    refused("inception", lenet.clone(), &["weights.safetensors", "lenet-omniglot", "duet import lenet"]);
    let mut fewer = lenet.clone();
    let bias = fewer.remove("conv3.bias").unwrap();
    fewer.insert("conv4.bias".into(), bias);
    refused("lenet", fewer, &["missing: `conv3.bias` [16]", "unexpected: `conv4.bias` [16]"]);
    let mut other = lenet.clone();
    other.get_mut("fc2.weight").unwrap().shape = vec![256, 128];
    refused("lenet", other, &["wrong shape", "`fc2.weight` is [256, 128], must be [128, 256]"]);
    // A name of an Inception is enough to say what else one has.
    let fc = HostTensor { shape: vec![1008, 2048], data: vec![0.0; 1008 * 2048] };
    refused(
        "inception",
        [("fc.weight".to_owned(), fc)].into(),
        &["missing", "`Conv2d_1a_3x3.bn.bias`", "more"],
    );
    std::fs::write(&file, b"PK\x03\x04 and nothing more").unwrap();
    fails(&["import", "inception", &file, "--out", &out], &["weights.safetensors"]);
    fails(&["import", "inception", &file, "--out", &project.text("out.pt")], &["out", ".safetensors"]);
    safetensors(Path::new(&file), lenet);
    fails(&["import", "lenet", &file, "--out", &file], &["weights.safetensors"]);
}

#[test]
fn an_inception_of_any_weights_is_imported_whole() {
    let project = Project::new();
    let [file, out] = ["weights.safetensors", "out.safetensors"].map(|name| project.text(name));
    let network = Network::Inception(Inception::Torchvision);
    let mut tensors = weights(network);
    // What only training uses stays in the file.
    for (name, shape) in network.auxiliary() {
        tensors.insert(name, HostTensor { data: vec![0.5; shape.iter().product()], shape });
    }
    safetensors(Path::new(&file), tensors.clone());
    let text = ok(&["import", "inception", &file, "--out", &out]);
    assert!(text.contains("inception-torchvision, 484 tensors"), "{text}");
    assert!(text.contains("\"torchvision-inception-feature FID\""), "{text}");
    assert_eq!(StateDict::load(Path::new(&out)).unwrap().tensors, tensors);
}

/// The reference's own weights, where `DUET_LENET` names its file `lenet_MNIST`.
#[test]
#[ignore = "needs the reference's file of weights: DUET_LENET=evaluations/evaluation_models/lenet_MNIST"]
fn the_references_lenet_is_known_by_its_weights() {
    let file = std::env::var("DUET_LENET").expect("DUET_LENET names the reference's lenet_MNIST");
    let project = Project::new();
    let out = project.text("out.safetensors");
    for file in [&file, &out] {
        let told: Value = serde_json::from_str(&ok(&[
            "--json",
            "import",
            "lenet",
            file,
            "--out",
            &project.text("again.safetensors"),
        ]))
        .unwrap();
        assert_eq!(told["features"], "lenet-mnist");
        assert_eq!(told["sha256"], "26627bca2e5c378eee792d0165c3c4dcd4b6b1d351ca6b30d3ac0920fa796373");
        std::fs::rename(project.path("again.safetensors"), &out).unwrap();
    }
}
