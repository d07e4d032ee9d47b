//! Checkpoints: exact round trips, damaged and hostile files, and what a full disk or a killed process leaves behind.

#[cfg(unix)]
mod unix;
mod values;

use duet::checkpoint::{Checkpoint, Dtype, FORMAT, Figures, TrainingState, check_names, write_atomic};
use duet::diffusion::DiffusionConfig;
use duet::model::ModelConfig;
use duet::tensor::{HostTensor, Tensors};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const MEAN: &str = "clasifier.bn_1.running_mean";

/// A folder of one test, removed at its end.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self) -> PathBuf {
        self.path().join("model.safetensors")
    }

    /// Names of the files in it, in order.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn tensor(shape: &[usize], value: impl Fn(usize) -> f32) -> HostTensor {
    HostTensor { shape: shape.to_vec(), data: (0..shape.iter().product()).map(value).collect() }
}

fn small_weights() -> Tensors {
    // Values that lose bits wherever text, f16 or f64 is involved on the way.
    let awkward = [-0.0, 1e-45, f32::MIN_POSITIVE, 0.1, -1.0 / 3.0, 65504.0, 6e-8, 1.0 + f32::EPSILON];
    Tensors::from([
        ("input_blocks.0.0.weight".to_owned(), tensor(&[3, 1, 3, 3], |i| awkward[i % 8])),
        ("out.2.bias".to_owned(), tensor(&[5], |i| i as f32 - 2.3)),
        ("scalar".to_owned(), tensor(&[], |_| 4.2)),
        ("empty".to_owned(), tensor(&[0, 7], |_| 0.0)),
        (MEAN.to_owned(), tensor(&[3], |i| 1e9 * i as f32 + 0.1)),
    ])
}

fn inference_only() -> Checkpoint {
    let class_names = vec!["a \"quoted\" name".into(), "żółw".into()];
    let model = ModelConfig { class_names, ..Default::default() };
    Checkpoint {
        info: BTreeMap::from([("data".to_owned(), "synthetic\n100% digits".to_owned())]),
        ..Checkpoint::new(model, DiffusionConfig::default(), small_weights())
    }
}

fn full() -> Checkpoint {
    let trained = Tensors::from([("out.2.bias".to_owned(), tensor(&[5], |i| 0.01 * i as f32))]);
    let second = Tensors::from([("out.2.bias".to_owned(), tensor(&[5], |i| 1e-12 * i as f32))]);
    let metrics = |step, fid| Figures { step, values: BTreeMap::from([("fid".to_owned(), fid)]) };
    Checkpoint {
        ema: Some(trained.clone()),
        training: Some(TrainingState {
            step: 123_456_789_012,
            seed: u64::MAX,
            adam_m: trained,
            adam_v: second,
            timesteps: Tensors::new(),
            loss_scale: None,
            recipe: serde_json::json!({ "batch": 64, "nested": { "lr": [0.0002, null, true] } }),
            data_fingerprint: "sha256:00ff".into(),
            best: Some(metrics(7, 12.25)),
            last: Some(metrics(9, -0.5)),
        }),
        ..inference_only()
    }
}

fn read(bytes: &[u8]) -> duet::Result<Checkpoint> {
    Checkpoint::from_bytes(bytes, Path::new("some/file.safetensors"))
}

/// The cause in the error of a checkpoint, which must name the file.
fn cause<T: std::fmt::Debug>(result: duet::Result<T>, file: &str) -> String {
    match result {
        Err(duet::Error::Checkpoint { path, detail }) => {
            assert_eq!(path, Path::new(file), "{detail}");
            detail
        }
        Err(duet::Error::Write { what, path, detail }) => {
            assert_eq!((what, &*path), ("checkpoint", Path::new(file)), "{detail}");
            format!("cannot be written: {detail}")
        }
        other => panic!("not a checkpoint error: {other:?}"),
    }
}

fn read_cause(bytes: &[u8]) -> String {
    cause(read(bytes), "some/file.safetensors")
}

fn import(bytes: &[u8]) -> duet::Result<Checkpoint> {
    let path = Path::new("some/file.safetensors");
    Checkpoint::from_reference(bytes, path, ModelConfig::default(), DiffusionConfig::default())
}

/// A safetensors file of a header and data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// Bits of all values, for -0 equals 0 otherwise.
fn bits(tensors: &Tensors) -> Vec<Vec<u32>> {
    tensors.values().map(|t| t.data.iter().map(|v| v.to_bits()).collect()).collect()
}

/// The bytes of a good file with `from` in its header replaced.
fn with_header(from: &str, to: &str) -> Vec<u8> {
    let bytes = full().to_bytes(Dtype::F32).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
    assert!(header.contains(from), "{from} is not in {header}");
    file(&header.replacen(from, to, 1), &bytes[8 + length..])
}

#[test]
fn round_trips_are_exact_and_deterministic() {
    let alone = Checkpoint { classifier_only: true, ..full() };
    for checkpoint in [inference_only(), full(), alone, Checkpoint { ema: Some(Tensors::new()), ..full() }] {
        let bytes = checkpoint.to_bytes(Dtype::F32).unwrap();
        let back = read(&bytes).unwrap();
        assert_eq!(back, checkpoint);
        assert_eq!(bits(&back.weights), bits(&checkpoint.weights));
        assert_eq!(back.to_bytes(Dtype::F32).unwrap(), bytes);
        // Any other safetensors reader accepts it, and tensors are aligned.
        safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()) % 8, 0);
    }
    let folder = Folder::new();
    full().save(&folder.file()).unwrap();
    assert_eq!(Checkpoint::load(&folder.file()).unwrap(), full());
    assert_eq!(fs::read(folder.file()).unwrap(), full().to_bytes(Dtype::F32).unwrap());
}

#[test]
fn f16_rounds_weights_but_not_statistics_or_moments() {
    let rounded = |value: f32| half::f16::from_f32(value).to_f32();
    let original = full();
    let bytes = original.to_bytes(Dtype::F16).unwrap();
    assert!(bytes.len() < original.to_bytes(Dtype::F32).unwrap().len());
    let back = read(&bytes).unwrap();
    for (name, tensor) in &original.weights {
        let expected: Vec<f32> = if name == MEAN {
            tensor.data.clone()
        } else {
            tensor.data.iter().map(|v| rounded(*v)).collect()
        };
        assert_eq!(back.weights[name].data, expected, "{name}");
    }
    assert_eq!(back.ema.unwrap()["out.2.bias"].data[3], rounded(0.03));
    assert_eq!(back.training, original.training);

    let mut overflowing = original;
    overflowing.weights.insert("late".into(), tensor(&[2], |i| 65520.0 * i as f32));
    overflowing.to_bytes(Dtype::F32).unwrap();
    let error = cause(overflowing.to_bytes(Dtype::F16), "(in memory)");
    assert!(error.contains("`late` holds 65520") && error.contains("f16"), "{error}");
}

#[test]
fn exports_hold_one_set_of_weights() {
    for (ema, bias) in [(false, -1.3), (true, 0.01)] {
        let exported = read(&full().export(Dtype::F32, ema).unwrap()).unwrap();
        assert_eq!((exported.ema, exported.training), (None, None));
        assert_eq!(exported.info, full().info);
        assert!((exported.weights["out.2.bias"].data[1] - bias).abs() < 1e-6);
        assert_eq!(exported.weights[MEAN], full().weights[MEAN]);
        assert_eq!(exported.weights.len(), full().weights.len());
    }
    let small = read(&full().export(Dtype::F16, true).unwrap()).unwrap();
    assert_eq!(small.weights[MEAN], full().weights[MEAN]);
    assert!(cause(inference_only().export(Dtype::F16, true), "(in memory)").contains("EMA"));
    let foreign = Tensors::from([("other".to_owned(), tensor(&[1], |_| 0.0))]);
    let foreign = Checkpoint { ema: Some(foreign), ..inference_only() };
    assert!(cause(foreign.export(Dtype::F32, true), "(in memory)").contains("`other` [1] fits no weight"));
}

#[test]
fn every_float_type_is_read_and_others_are_refused() {
    for (dtype, data) in [
        ("F16", half::f16::from_f32(-1.5).to_le_bytes().to_vec()),
        ("BF16", half::bf16::from_f32(-1.5).to_le_bytes().to_vec()),
        ("F32", (-1.5f32).to_le_bytes().to_vec()),
        ("F64", (-1.5f64).to_le_bytes().to_vec()),
    ] {
        let header =
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,{}]}}}}"#, data.len());
        assert_eq!(import(&file(&header, &data)).unwrap().weights["a"].data, [-1.5]);
    }
    let integers = file(r#"{"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]);
    let error = cause(import(&integers), "some/file.safetensors");
    assert!(error.contains("`a` as I32"), "{error}");
    let wide = file(r#"{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}"#, &1e300f64.to_le_bytes());
    assert!(cause(import(&wide), "some/file.safetensors").contains("infinite"));
}

#[test]
fn a_plain_state_dict_of_the_reference_is_imported() {
    let header = r#"{"__metadata__":{"format":"pt"},
        "clasifier.bn_1.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[0,8]},
        "clasifier.bn_1.running_mean":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#;
    let plain = file(header, &[[0u8; 8], [0, 0, 128, 63, 0, 0, 0, 64]].concat());
    let imported = import(&plain).unwrap();
    assert_eq!(imported.weights, Tensors::from([(MEAN.to_owned(), tensor(&[2], |i| 1.0 + i as f32))]));
    assert_eq!((imported.ema, imported.training), (None, None));

    assert!(read_cause(&plain).contains("no `duet` metadata"));
    let ours = cause(import(&full().to_bytes(Dtype::F32).unwrap()), "some/file.safetensors");
    assert!(ours.contains("a configuration of its own"), "{ours}");
}

#[test]
fn truncated_files_are_refused() {
    let bytes = full().to_bytes(Dtype::F32).unwrap();
    for length in (0..bytes.len()).step_by(97).chain([1, 7, 8, 9, bytes.len() - 1]) {
        let error = read_cause(&bytes[..length]);
        assert!(error.contains("is truncated"), "{length}: {error}");
    }
    assert!(read_cause(&[&bytes[..], &[0]].concat()).contains("belong to no tensor"));
}

#[test]
fn flipped_bits_never_panic() {
    let good = full();
    let bytes = good.to_bytes(Dtype::F32).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for place in 0..header {
        for mask in [1, 2, 16, 32, 128, 255] {
            let mut damaged = bytes.clone();
            damaged[place] ^= mask;
            // Some flips give another good file, in a name or a number; the rest are errors.
            match read(&damaged) {
                Ok(_) | Err(duet::Error::Checkpoint { .. }) => {}
                Err(other) => panic!("byte {place}: {other}"),
            }
        }
    }
}

#[test]
fn hostile_headers_are_refused() {
    let one = |rest: &str| format!(r#"{{"a":{{{rest}}}}}"#);
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":{a}}},"b":{{"dtype":"F32","shape":[1],"data_offsets":{b}}}}}"#
        )
    };
    let max = usize::MAX;
    let cases = [
        ("not JSON", "hello".to_owned(), "header"),
        ("an array", "[]".to_owned(), "header"),
        ("deep nesting", "[".repeat(100_000), "header"),
        (
            "product overflows",
            one(&format!(r#""dtype":"F32","shape":[{max},{max}],"data_offsets":[0,8]"#)),
            "overflow",
        ),
        (
            "bytes overflow",
            one(&format!(r#""dtype":"F32","shape":[{max}],"data_offsets":[0,8]"#)),
            "overflow",
        ),
        ("huge and empty", one(r#""dtype":"F32","shape":[9999999999,0],"data_offsets":[0,8]"#), "shape"),
        (
            "huge",
            one(r#""dtype":"U8","shape":[2305843009213693951],"data_offsets":[0,2305843009213693951]"#),
            "truncated",
        ),
        ("shape too big", one(r#""dtype":"F32","shape":[3],"data_offsets":[0,8]"#), "shape"),
        ("negative", one(r#""dtype":"F32","shape":[-2],"data_offsets":[0,8]"#), "header"),
        ("unknown dtype", one(r#""dtype":"F23","shape":[2],"data_offsets":[0,8]"#), "F23"),
        ("backwards", one(r#""dtype":"F32","shape":[2],"data_offsets":[8,0]"#), "offset"),
        ("beyond the end", two("[0,4]", "[4,12]"), "shape"),
        ("overlap", two("[0,4]", "[2,6]"), "offset"),
        ("the same", two("[0,4]", "[0,4]"), "offset"),
        ("a hole", two("[0,4]", "[8,12]"), "offset"),
        ("a hole in front", two("[4,8]", "[8,12]"), "offset"),
        ("repeated name", two("[0,4]", "[4,8]").replace("\"b\"", "\"a\""), "\"a\" is repeated"),
    ];
    for (what, header, expected) in cases {
        let bytes = file(&header, &[0; 8]);
        for result in [read(&bytes), import(&bytes)] {
            let error = cause(result, "some/file.safetensors");
            assert!(error.contains(expected), "{what}: {error}");
        }
    }
    for length in [u64::MAX, u64::MAX - 7, 1 << 40, 9] {
        let error = read_cause(&[&length.to_le_bytes()[..], &[b' '; 8]].concat());
        assert!(error.contains("truncated or not a safetensors file"), "{error}");
    }
    assert!(read_cause(&file("{\"\u{fffd}", &[])[..10]).contains("truncated"));
    let not_text = [&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat();
    assert!(read_cause(&not_text).contains("not text"));
}

#[test]
fn bad_metadata_is_refused() {
    let current = format!(r#"\"format\":{FORMAT}"#);
    let newer = format!(r#"\"format\":{},\"unheard_of\":[]"#, FORMAT + 1);
    let error = read_cause(&with_header(&current, &newer));
    assert!(
        error.contains("written by a newer version") && error.contains(&(FORMAT + 1).to_string()),
        "{error}"
    );
    let step = r#"\"step\":123456789012"#;
    let cases = [
        (current.as_str(), r#"\"format\":0"#, "format number 0"),
        (current.as_str(), r#"\"format\":\"1\""#, "without a format number"),
        (current.as_str(), r#"\"format\":1,\"unheard_of\":2"#, "unheard_of"),
        (step, r#"\"step\":-1"#, "invalid value"),
        (step, r#"\"step\":1,\"step\":1"#, "\"step\" is repeated"),
        (r#"\"batch\":64"#, r#"\"batch\":64,\"batch\":32"#, "\"batch\" is repeated"),
        (r#"\"num_classes\":10"#, r#"\"num_classes\":\"ten\""#, "ten"),
        (r#"\"ema\":true"#, r#"\"ema\":false"#, "`ema/out.2.bias`"),
        (r#""duet":"#, r#""other":"#, "no `duet` metadata"),
    ];
    for (from, to, expected) in cases {
        let error = read_cause(&with_header(from, to));
        assert!(error.contains(expected), "{to}: {error}");
    }
    let orphan = Checkpoint { training: None, ema: None, ..full() }.to_bytes(Dtype::F32).unwrap();
    let length = u64::from_le_bytes(orphan[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&orphan[8..8 + length]).unwrap().replace("\"scalar\"", "\"adam_v/x\"");
    let error = read_cause(&file(&header, &orphan[8 + length..]));
    assert!(error.contains("`adam_v/x`"), "{error}");
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let mut cases = Vec::new();
    for name in ["ema/x", "adam_m/x", "adam_v/x", "timesteps/x", "__metadata__"] {
        let mut checkpoint = inference_only();
        checkpoint.weights.insert(name.into(), tensor(&[1], |_| 0.0));
        cases.push((checkpoint, "is reserved"));
    }
    for shape in [vec![2, 2], vec![usize::MAX, usize::MAX], vec![]] {
        let mut checkpoint = inference_only();
        checkpoint.weights.insert("x".into(), HostTensor { shape, data: vec![0.0; 5] });
        cases.push((checkpoint, "do not fill its shape"));
    }
    let mut deep = full();
    let nested = (0..1000).fold(serde_json::Value::Null, |inner, _| serde_json::Value::Array(vec![inner]));
    deep.training.as_mut().unwrap().recipe = nested;
    cases.push((deep, "would be unreadable"));
    let model = ModelConfig { dropout: f32::NAN, ..Default::default() };
    cases.push((Checkpoint { model, ..full() }, "would be unreadable"));
    for (checkpoint, expected) in cases {
        for result in [checkpoint.to_bytes(Dtype::F32), checkpoint.to_bytes(Dtype::F16)] {
            let error = cause(result, "(in memory)");
            assert!(error.contains(expected), "{error}");
        }
    }
}

#[test]
fn names_and_shapes_are_compared_with_the_model() {
    let mut tensors = small_weights();
    let expected: Vec<_> = tensors.iter().map(|(name, t)| (name.clone(), t.shape.clone())).collect();
    check_names(&tensors, &expected).unwrap();
    check_names(&Tensors::new(), &[]).unwrap();

    tensors.remove("scalar");
    tensors.get_mut("out.2.bias").unwrap().shape = vec![5, 1];
    for i in 0..13 {
        tensors.insert(format!("extra.{i:02}"), tensor(&[i], |_| 0.0));
    }
    let error = cause(check_names(&tensors, &expected), "(in memory)");
    for part in [
        "missing: `scalar` []; ",
        "unexpected: `extra.00` [0], ",
        "`extra.09` [9] and 3 more; ",
        "wrong shape: `out.2.bias` is [5, 1], must be [5]",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains("extra.10"));
}

#[test]
fn every_set_of_tensors_is_compared_with_the_model() {
    let expected = |tensors: &Tensors| -> Vec<_> {
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect()
    };
    let path = Path::new("a.safetensors");
    let weights = expected(&full().weights);
    let trained = expected(full().ema.as_ref().unwrap());
    full().check(path, &weights, &trained).unwrap();
    inference_only().check(path, &weights, &trained).unwrap();
    let spoil = |what: &str, set: fn(&mut Checkpoint) -> &mut Tensors| {
        let mut checkpoint = full();
        set(&mut checkpoint).remove("out.2.bias");
        let error = cause(checkpoint.check(path, &weights, &trained), "a.safetensors");
        assert_eq!(error, format!("{what} do not fit the model: missing: `out.2.bias` [5]"));
    };
    spoil("weights", |c| &mut c.weights);
    spoil("averages", |c| c.ema.as_mut().unwrap());
    spoil("first moments", |c| &mut c.training.as_mut().unwrap().adam_m);
    spoil("second moments", |c| &mut c.training.as_mut().unwrap().adam_v);
}

#[test]
fn a_killed_writer_leaves_the_old_file() {
    let folder = Folder::new();
    full().save(&folder.file()).unwrap();
    // What a process killed while writing leaves, and neighbours that must stay.
    let stale = ".model.safetensors.2a-17f00-0.tmp";
    let neighbours =
        [".model.safetensors.best.2a-17f00-0.tmp", "model.safetensors.tmp", ".model.safetensors"];
    fs::write(folder.path().join(stale), &full().to_bytes(Dtype::F32).unwrap()[..300]).unwrap();
    for name in neighbours {
        fs::write(folder.path().join(name), "neighbour").unwrap();
    }
    assert_eq!(Checkpoint::load(&folder.file()).unwrap(), full());
    inference_only().save(&folder.file()).unwrap();
    assert_eq!(Checkpoint::load(&folder.file()).unwrap(), inference_only());
    let mut expected = neighbours.map(str::to_owned).to_vec();
    expected.push("model.safetensors".into());
    expected.sort();
    assert_eq!(folder.names(), expected);
}

#[test]
fn paths_that_cannot_be_written_are_errors() {
    let folder = Folder::new();
    let missing = folder.path().join("missing").join("model.safetensors");
    let error = cause(full().save(&missing), missing.to_str().unwrap());
    assert!(error.contains("cannot be written"), "{error}");
    assert!(cause(Checkpoint::load(&missing), missing.to_str().unwrap()).contains("cannot be read"));
    // A folder in the file's place, and no name at all.
    let error = cause(full().save(folder.path()), folder.path().to_str().unwrap());
    assert!(error.contains("not a regular file"), "{error}");
    assert!(write_atomic(Path::new(""), b"x").is_err());
    assert_eq!(folder.names(), Vec::<String>::new());
}

#[test]
fn many_threads_may_save_the_same_file() {
    let folder = Folder::new();
    std::thread::scope(|scope| {
        for text in ["one", "two", "three", "four"] {
            let path = folder.file();
            scope.spawn(move || {
                (0..8).for_each(|_| write_atomic(&path, text.repeat(999).as_bytes()).unwrap())
            });
        }
    });
    let left = fs::read_to_string(folder.file()).unwrap();
    assert!(["one", "two", "three", "four"].iter().any(|text| left == text.repeat(999)));
    assert_eq!(folder.names(), ["model.safetensors"]);
}

#[test]
fn inference_takes_the_average_and_keeps_what_has_none() {
    let (whole, inference) = (full(), full().into_inference());
    let average = whole.ema.as_ref().unwrap();
    assert!(inference.ema.is_none() && inference.training.is_none());
    for (name, tensor) in &inference.weights {
        assert_eq!(tensor, average.get(name).unwrap_or(&whole.weights[name]), "{name}");
    }
    assert!(
        average.iter().any(|(name, tensor)| *tensor != whole.weights[name]),
        "the two are not told apart"
    );
}
