//! ONNX files: read by an independent reader and run in plain loops they give what the library gives; ONNX Runtime says so too.

mod interpreter;
mod library;
mod reader;

use super::{fails, ok};
use duet::checkpoint::Checkpoint;
use interpreter::{Array, evaluate};
use library::{Case, cases, tiny, usual};
use reader::{Length, Model};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Most that an output may differ, of its largest value or of 1.
const CLOSE: f64 = 1e-4;

/// A folder with a checkpoint in it.
struct Exported {
    folder: tempfile::TempDir,
}

impl Exported {
    fn new(checkpoint: &Checkpoint) -> Exported {
        let folder = tempfile::tempdir().unwrap();
        checkpoint.save(&folder.path().join("model.safetensors")).unwrap();
        Exported { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn export(&self, arguments: &[&str], name: &str) -> PathBuf {
        let (model, out) = (self.path("model.safetensors"), self.path(name));
        let mut all =
            vec!["export", "--model", model.to_str().unwrap(), "--out", out.to_str().unwrap(), "--onnx"];
        all.extend(arguments);
        ok(&all);
        out
    }

    fn read(&self, arguments: &[&str]) -> Model {
        Model::read(&std::fs::read(self.export(arguments, "model.onnx")).unwrap())
    }

    fn refuses(&self, arguments: &[&str], words: &[&str]) {
        let (model, out) = (self.path("model.safetensors"), self.path("refused.onnx"));
        let mut all =
            vec!["export", "--model", model.to_str().unwrap(), "--out", out.to_str().unwrap(), "--onnx"];
        all.extend(arguments);
        fails(&all, words);
        assert!(!out.exists(), "{arguments:?}");
    }
}

/// The largest difference of each output, of its image's largest value or of 1.
fn differences(got: &BTreeMap<String, Array>, case: &Case) -> BTreeMap<String, f64> {
    assert_eq!(got.keys().collect::<Vec<_>>(), case.outputs.keys().collect::<Vec<_>>());
    let each = case.outputs.iter().map(|(name, want)| {
        assert_eq!(got[name].shape, want.shape, "{name}");
        let len = want.data.len() / want.shape[0];
        let images = got[name].data.chunks(len).zip(want.data.chunks(len)).zip(&case.gains);
        let apart = images.map(|((got, want), gain)| {
            let least = if name == "pred_xstart" { *gain } else { 1.0 };
            let largest = want.iter().fold(least, |m, v| m.max(v.abs()));
            let apart = got.iter().zip(want).map(|(a, b)| (a - b).abs());
            apart.fold(0.0, |m: f64, d| if d.is_nan() { f64::INFINITY } else { m.max(d) }) / largest
        });
        (name.clone(), apart.fold(0.0, f64::max))
    });
    each.collect()
}

/// What runs the file of a case comes as close as rounding lets it.
fn assert_close(got: &BTreeMap<String, Array>, case: &Case, what: &str) {
    let apart = differences(got, case);
    assert!(apart.values().all(|d| *d < CLOSE), "{what} {:?}: {apart:?}", case.arguments);
}

#[test]
fn onnx_files_compute_what_the_library_computes() {
    for (name, checkpoint) in tiny() {
        let exported = Exported::new(&checkpoint);
        for case in cases(&checkpoint, 2) {
            let model = exported.read(case.arguments);
            assert_close(&evaluate(&model, &case.inputs), &case, name);
            // The gradient is what is compared: without it nothing is close.
            if case.arguments[0] == "guided-step" {
                let mut still = case.inputs.clone();
                still.get_mut("alpha").unwrap().data.fill(0.0);
                let moved = differences(&evaluate(&model, &still), &case)["eps"];
                assert!(moved > 100.0 * CLOSE, "{name}: guidance moves the noise by {moved} alone");
            }
        }
    }
}

#[test]
fn onnx_files_say_what_they_are() {
    let (_, checkpoint) = tiny().swap_remove(0);
    let checkpoint = Checkpoint { info: [("data".to_owned(), "drawn".to_owned())].into(), ..checkpoint };
    let exported = Exported::new(&checkpoint);
    for arguments in [&["classifier"][..], &["features", "--uint8"], &["eps"], &["guided-step"]] {
        let model = exported.read(arguments);
        assert_eq!((model.ir, model.opset), (8, 17));
        let classes: Vec<String> = serde_json::from_str(&model.properties["classes"]).unwrap();
        assert_eq!(classes, ["cat", "dog", "Käuzchen"]);
        let config: duet::model::ModelConfig = serde_json::from_str(&model.properties["model"]).unwrap();
        assert_eq!(config, checkpoint.model);
        assert_eq!(model.properties["info"], r#"{"data":"drawn"}"#);
        let preparation: serde_json::Value = serde_json::from_str(&model.properties["preparation"]).unwrap();
        assert_eq!((&preparation["size"], &preparation["fit"]), (&8.into(), &"crop".into()));
        for (name, port) in model.inputs.iter().chain(&model.outputs) {
            assert_eq!(port.shape[0], Length::Named("N".into()), "{name}: any number of images");
            assert!(!port.doc.is_empty(), "{name}");
            let element = if arguments.contains(&"--uint8") && name == "image" { 2 } else { 1 };
            assert_eq!(port.element, element, "{name}: bytes or floats");
        }
        // Viewers show the shape of everything that a node gives.
        let given = model.nodes.iter().flat_map(|node| &node.outputs);
        let outputs: Vec<&String> = model.outputs.iter().map(|(name, _)| name).collect();
        assert!(given.clone().all(|name| outputs.contains(&name) || model.inner.contains_key(name)));
        assert_eq!(given.count(), outputs.len() + model.inner.len());
        // Nothing is in the file that nothing reads.
        let read: Vec<&String> = model.nodes.iter().flat_map(|node| &node.inputs).collect();
        let idle: Vec<&String> = model.constants.keys().filter(|name| !read.contains(name)).collect();
        assert!(idle.is_empty(), "{idle:?}");
    }
    let model = exported.read(&["eps"]);
    let levels: Vec<f64> = serde_json::from_str(&model.properties["alphas_cumprod"]).unwrap();
    assert!(
        levels.len() == 1000
            && (levels[0] - 0.999).abs() < 1e-12
            && model.properties["timestep_scale"] == "1"
    );
}

#[test]
fn onnx_files_hold_the_weights_that_are_asked_for() {
    let (_, mut checkpoint) = tiny().swap_remove(0);
    let mut average = checkpoint.weights.clone();
    average.retain(|name, _| !name.contains("running_"));
    average.values_mut().for_each(|tensor| tensor.data.iter_mut().for_each(|v| *v *= 0.5));
    checkpoint.ema = Some(average);
    let exported = Exported::new(&checkpoint);
    let name = "input_blocks.0.0.weight";
    let first = f64::from(checkpoint.weights[name].data[0]);
    assert_eq!(exported.read(&["features"]).constants[name].data[0], 0.5 * first);
    assert_eq!(exported.read(&["features", "--weights", "raw"]).constants[name].data[0], first);
    let whole = exported.read(&["eps"]);
    let sizes = [&["eps"][..], &["eps", "--f16"]]
        .map(|arguments| std::fs::metadata(exported.export(arguments, "size.onnx")).unwrap().len());
    assert!(whole.constants[name].element == 1 && sizes[1] < sizes[0]);
    // What is computed of stored 16 bits is what the exported 16 bits of the model give.
    let half = exported.path("half.safetensors");
    let model = exported.path("model.safetensors");
    ok(&["export", "--model", model.to_str().unwrap(), "--out", half.to_str().unwrap()]);
    let half = Checkpoint::load(&half).unwrap();
    for case in cases(&half, 1)
        .iter()
        .filter(|case| case.arguments == ["classifier"] || case.arguments == ["guided-step"])
    {
        let file = exported.read(&[case.arguments, &["--f16"]].concat());
        assert_eq!(file.constants[name].element, 10);
        assert_close(&evaluate(&file, &case.inputs), case, "16 bits");
    }
}

#[test]
fn what_cannot_become_an_onnx_file_is_refused() {
    let (_, checkpoint) = tiny().swap_remove(0);
    let exported = Exported::new(&Checkpoint { classifier_only: true, ..checkpoint.clone() });
    exported.export(&["classifier"], "classifier.onnx");
    exported.export(&["features", "--noised"], "features.onnx");
    for kind in ["eps", "guided-step"] {
        exported.refuses(&[kind], &["classifier alone"]);
    }
    let mut clean = checkpoint;
    *clean.weights.get_mut("clasifier.bn_1.running_var").unwrap().data.last_mut().unwrap() = 1e-9;
    let exported = Exported::new(&clean);
    exported.refuses(&["guided-step"], &["clean images only", "--force"]);
    exported.export(&["guided-step", "--force"], "forced.onnx");
    exported.refuses(&["eps", "--uint8"], &["uint8", "classifier and features"]);
    exported.refuses(&["guided-step", "--noised"], &["noised", "classifier and features"]);
    exported.refuses(&["classifier", "--no-clip"], &["no-clip", "guided-step"]);
    exported.refuses(&["classifier", "--weights", "ema"], &["model.safetensors", "moving average"]);
    let model = exported.path("model.safetensors");
    let model = model.to_str().unwrap();
    let to = |out: &str, words: &[&str]| {
        fails(&["export", "--model", model, "--onnx", "eps", "--out", out], words)
    };
    to(exported.path("model.bin").to_str().unwrap(), &["must end in .onnx"]);
    to(exported.path("none/model.onnx").to_str().unwrap(), &["model.onnx", "does not exist"]);
    let folder = exported.path("folder.onnx");
    std::fs::create_dir(&folder).unwrap();
    to(folder.to_str().unwrap(), &["folder.onnx", "is a folder"]);
}

/// The Python that has the packages onnx and onnxruntime.
fn python(script: &str, folder: &Path) -> String {
    let python = std::env::var("DUET_ONNX").expect("DUET_ONNX names a Python with onnx and onnxruntime");
    let run = std::process::Command::new(python).args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

/// Loads the file, checks it, and runs it on the inputs, whose numbers lie one after the other in a file.
const RUNTIME: &str = "\
import json, numpy, onnx, onnxruntime
model = onnx.load('case.onnx')
onnx.checker.check_model(model, full_check=True)
onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
session = onnxruntime.InferenceSession('case.onnx', providers=['CPUExecutionProvider'])
numbers, at, feeds = numpy.fromfile('inputs.f32', numpy.float32), 0, {}
types = {'tensor(float)': numpy.float32, 'tensor(uint8)': numpy.uint8}
types = {port.name: types[port.type] for port in session.get_inputs()}
for name, shape in json.load(open('inputs.json')):
    count = int(numpy.prod(shape))
    feeds[name] = numbers[at:at + count].reshape(shape).astype(types[name])
    at += count
names = [port.name for port in session.get_outputs()]
outputs = session.run(names, feeds)
print(json.dumps({n: [list(o.shape), o.astype(float).ravel().tolist()] for n, o in zip(names, outputs)}))";

/// What ONNX Runtime makes of a case.
fn runtime(exported: &Exported, case: &Case) -> BTreeMap<String, Array> {
    exported.export(case.arguments, "case.onnx");
    let shapes: Vec<_> = case.inputs.iter().map(|(name, array)| (name, &array.shape)).collect();
    std::fs::write(exported.path("inputs.json"), serde_json::to_string(&shapes).unwrap()).unwrap();
    let numbers: Vec<f32> = case.inputs.values().flat_map(|array| &array.data).map(|v| *v as f32).collect();
    std::fs::write(exported.path("inputs.f32"), bytemuck::cast_slice(&numbers)).unwrap();
    let answer: BTreeMap<String, (Vec<usize>, Vec<f64>)> =
        serde_json::from_str(&python(RUNTIME, exported.folder.path())).unwrap();
    answer.into_iter().map(|(name, (shape, data))| (name, Array::new(&shape, data))).collect()
}

#[test]
#[ignore = "needs Python with onnx and onnxruntime, which `make slow-test` installs"]
fn onnx_runtime_computes_what_the_library_computes() {
    let public = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/demo/public");
    let shipped = ["model", "models/mnist/model", "models/blood-cells/model"].map(|name| {
        (name.to_owned(), Checkpoint::load(&public.join(format!("{name}.safetensors"))).unwrap())
    });
    let tiny = tiny().into_iter().map(|(name, checkpoint)| (name.to_owned(), checkpoint));
    let mut worst: BTreeMap<String, f64> = BTreeMap::new();
    for (name, checkpoint) in tiny.chain(usual()).chain(shipped) {
        let exported = Exported::new(&checkpoint);
        for batch in [1, 3] {
            for case in cases(&checkpoint, batch) {
                let apart = differences(&runtime(&exported, &case), &case);
                println!("{name}, {batch} images, {}: {apart:?}", case.arguments.join(" "));
                for (output, apart) in apart {
                    let most = worst.entry(format!("{}: {output}", case.arguments.join(" "))).or_default();
                    *most = most.max(apart);
                }
            }
        }
    }
    println!("largest differences: {worst:#?}");
    assert!(worst.values().all(|apart| *apart < CLOSE));
}

/// The snippet of a language in the README's part about ONNX.
fn snippet(language: &str) -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let part = readme.split("\n### ONNX\n").nth(1).expect("the README has a part about ONNX");
    let fence = format!("```{language}\n");
    part.split(&fence).nth(1).and_then(|rest| rest.split("```").next()).expect("a snippet").to_owned()
}

/// The shipped model as files, and a sneaker as a picture: what the README's snippets read.
fn readme_folder() -> Exported {
    let public = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/demo/public");
    let exported = Exported::new(&Checkpoint::load(&public.join("model.safetensors")).unwrap());
    exported.export(&["classifier"], "classifier.onnx");
    exported.export(&["guided-step"], "guided-step.onnx");
    std::fs::copy(public.join("images/00009.png"), exported.path("shoe.png")).unwrap();
    exported
}

#[test]
#[ignore = "needs Python with onnxruntime and Pillow, which `make slow-test` installs"]
fn the_readme_s_python_classifies_and_samples() {
    let printed = python(&snippet("python"), readme_folder().folder.path());
    assert_eq!(printed, "Sneaker\n['Bag', 'Ankle boot']\n");
}

#[test]
#[ignore = "needs Node.js with onnxruntime-web, which `make slow-test` installs"]
fn the_readme_s_javascript_classifies() {
    let exported = readme_folder();
    let modules = std::env::var("DUET_ONNX_WEB")
        .expect("DUET_ONNX_WEB names a folder with onnxruntime-web in node_modules");
    let modules = Path::new(&modules).join("node_modules");
    // Names of packages are looked for beside the program and nowhere else.
    #[cfg(unix)]
    std::os::unix::fs::symlink(std::fs::canonicalize(modules).unwrap(), exported.path("node_modules"))
        .unwrap();
    let shoe = image::open(exported.path("shoe.png")).unwrap().into_rgba8();
    let canvas = format!("const context = {{ getImageData: () => ({{ data: {:?} }}) }};\n", shoe.as_raw());
    std::fs::write(exported.path("snippet.mjs"), format!("{canvas}{}", snippet("js"))).unwrap();
    let node = std::process::Command::new("node")
        .arg("snippet.mjs")
        .current_dir(exported.folder.path())
        .output()
        .unwrap();
    assert!(node.status.success(), "{}", String::from_utf8_lossy(&node.stderr));
    assert_eq!(String::from_utf8(node.stdout).unwrap(), "7\n", "a sneaker");
}
