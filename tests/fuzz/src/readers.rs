//! The readers: each is given any bytes as the file that it reads. It may refuse them with an error, which must be words;
//! it may not panic, hang or allocate beyond its budget, and what it accepts must be sound.

use super::budget::Budget;
use duet::Error;
use duet::checkpoint::{Checkpoint, Dtype};
use duet::diffusion::{DiffusionConfig, Schedule, respaced_steps};
use duet::families::Tuning;
use duet::model::{Labels, ModelConfig};
use duet::picture::Preparation;
use duet::torch::{Dtype as TorchDtype, TorchFile};
use duet_trainer::bench::{compare::Comparison, results::Results};
use duet_trainer::data::{self, DataKind, DataSpec, INDEX, Reading, Told};
use duet_trainer::eval::{self, comparison::Earlier, judge::Identity};
use duet_trainer::recipe::Recipe;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Text: a parser holds the text, a tree of it and an error that quotes it.
const TEXT: Budget = Budget { factor: 64, constant: 1 << 20 };
/// A safetensors file: the numbers as f32, twice the bytes of f16, and a header whose entries are longer in memory than as
/// JSON.
const CHECKPOINT: Budget = Budget { factor: 32, constant: 1 << 20 };
/// A model's list of parameters, whatever the file says: no network that is accepted has more.
const MODEL: Budget = Budget { factor: 32, constant: 32 << 20 };
/// Deflate unpacks to at most 1,032 times a file's size, a growing vector has twice of what it holds, and images are resized beside.
const IDX: Budget = Budget { factor: 5 * 1032, constant: 2 << 20 };
/// Tables as text, a row and an error for each of many short lines, and two small pictures.
const CELEBA: Budget = Budget { factor: 512, constant: 8 << 20 };
/// Deflate again, and what unpacks is text of which two bytes and more become one.
const PACKED_TEXT: Budget = Budget { factor: 3 * 1032, constant: 16 << 20 };
/// Bytes as they are, their images once more, hashes of them.
const RECORDS: Budget = Budget { factor: 16, constant: 2 << 20 };
/// Arrays unpack as an idx set does, and what is not stored as bytes becomes f64.
const ARRAYS: Budget = Budget { factor: 16 * 1032, constant: 4 << 20 };
/// An instruction of a byte makes an object, and its place in two lists that grow by doubling; of tensors eight values a byte.
const TORCH: Budget = Budget { factor: 256, constant: 2 << 20 };
/// A picture may unpack to the decoder's limit whatever its file's size.
const PICTURE: Budget = Budget { factor: 64, constant: 1 << 30 };

/// Two by two grey pixels.
const BITMAP: &[u8] =
    b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x02\0\0\0\x02\0\0\0\x01\0\x18\0\0\0\0\0\x10\0\0\0\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\x10\x10\x20\x20\x20\0\0\x30\x30\x30\x40\x40\x40\0\0";

/// A file in memory (where the system has such a folder), under a name that a reader knows it by.
fn file(name: &str, data: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, data).expect("a temporary file");
    path
}

/// The folder of this process's files.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = FOLDER.get_or_init(|| {
        let shared = Path::new("/dev/shm");
        let base = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
        tempfile::tempdir_in(base).expect("a temporary folder")
    });
    made.path()
}

/// An error is words that name the file.
fn refused(error: &Error, name: &str) {
    let text = error.to_string();
    assert!(text.contains(name), "{text:?} does not name {name}");
}

/// A checkpoint of ours, and a state_dict of the reference.
pub fn checkpoint(data: &[u8]) {
    let path = Path::new("fuzzed.safetensors");
    match CHECKPOINT.check("checkpoint", data.len(), || Checkpoint::from_bytes(data, path)) {
        Err(error) => refused(&error, "fuzzed.safetensors"),
        Ok(read) => {
            if let Err(error) = MODEL.check("model", data.len(), || read.joint_model(path)) {
                refused(&error, "fuzzed.safetensors");
            }
            let written = read.to_bytes(Dtype::F32).expect("what was read can be written");
            let again = Checkpoint::from_bytes(&written, path).expect("what was written can be read");
            assert!(again == read, "reading, writing and reading gives something else");
        }
    }
    let (model, diffusion) = (ModelConfig::default(), DiffusionConfig::default());
    let reference = || Checkpoint::from_reference(data, path, model, diffusion);
    if let Err(error) = CHECKPOINT.check("state_dict", data.len(), reference) {
        refused(&error, "fuzzed.safetensors");
    }
}

/// A PyTorch file: its tensors have the values that their shapes say, and as f32 they are written and read again.
pub fn torch(data: &[u8]) {
    let path = Path::new("fuzzed.pt");
    let file = match TORCH.check("pickle", data.len(), || TorchFile::read(data, path)) {
        Err(error) => return refused(&error, "fuzzed.pt"),
        Ok(file) => file,
    };
    for section in file.sections() {
        let tensors = match TORCH.check("section", data.len(), || file.tensors(section)) {
            Err(error) => return refused(&error, "fuzzed.pt"),
            Ok(tensors) => tensors,
        };
        for tensor in tensors.values() {
            assert_eq!(tensor.to_host().data.len(), tensor.len());
            assert_eq!(tensor.to_le_bytes().len(), tensor.len() * tensor.dtype().bytes());
        }
        let host = TORCH.check("tensors", data.len(), || file.state_dict(Some(section))).expect("as it was");
        let written = duet::torch::to_bytes(host.iter().map(|(name, tensor)| (name.as_str(), tensor)));
        let written = written.expect("what was read can be written");
        let again = TorchFile::read(&written, path).and_then(|file| {
            file.tensors("").map(|tensors| {
                assert!(tensors.values().all(|tensor| tensor.dtype() == TorchDtype::F32));
                tensors.len()
            })
        });
        assert_eq!(again.expect("what was written can be read"), host.len());
    }
}

/// A recipe, and what it says written and read again.
pub fn recipe(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = Path::new("fuzzed.toml");
    // A respacing is tried on the recipe's chain, of at most a million steps.
    let budget = Budget { constant: 32 << 20, ..TEXT };
    match budget.check("recipe", data.len(), || Recipe::parse(text, path)) {
        Err(error) => refused(&error, "fuzzed.toml"),
        Ok(recipe) => {
            let json = serde_json::to_string(&recipe).expect("checkpoints hold recipes as JSON");
            serde_json::from_str::<Recipe>(&json).expect("what was written can be read");
            MODEL.check("model", data.len(), || duet::model::JointModel::new(&recipe.model)).expect("valid");
            for step in [0, recipe.train.warmup_steps, recipe.train.steps, u64::MAX] {
                assert!(recipe.train.rate_at(step, 0.5).is_finite(), "learning rate of step {step}");
            }
        }
    }
}

/// The two files of a part of an idx set: the first byte is the length of the labels' file, which comes first.
pub fn idx(data: &[u8]) {
    let Some((length, rest)) = data.split_first() else { return };
    let (labels, images) = rest.split_at(usize::from(*length).min(rest.len()));
    file("train-labels-idx1-ubyte", labels);
    file("train-images-idx3-ubyte", images);
    file("t10k-labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 1, 0]);
    file("t10k-images-idx3-ubyte", &[0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4]);
    let spec = DataSpec::new(DataKind::named("idx").expect("a kind"), folder());
    match IDX.check("idx", data.len(), || data::load(&spec, 1, 2)) {
        Err(error) => refused(&error, &folder().to_string_lossy()),
        Ok(split) => {
            assert_eq!(split.train.images.len(), 4 * split.train.len());
            let classes = split.train.classes().expect("one class an image");
            assert!(classes.iter().all(|class| (*class as usize) < split.train.class_names.len()));
        }
    }
}

/// Loads data of a kind for a small model, whose two parts must be sound.
fn split(kind: &str, root: &Path, budget: Budget, size: usize) {
    let spec = DataSpec::new(DataKind::named(kind).expect("a kind"), root);
    match budget.check(kind, size, || data::load(&spec, 3, 2)) {
        Err(error) => refused(&error, &root.to_string_lossy()),
        Ok(split) => {
            for part in [&split.train, &split.test] {
                assert_eq!(part.images.len(), 12 * part.len());
                let classes = part.classes().expect("one class an image");
                assert!(classes.iter().all(|class| (*class as usize) < part.class_names.len()));
            }
        }
    }
}

/// A folder of this process's files, with nothing in it.
fn empty_folder(name: &str) -> PathBuf {
    let root = folder().join(name);
    let _ = std::fs::remove_dir_all(&root);
    std::fs::create_dir_all(&root).expect("a folder");
    root
}

/// USPS as text, packed or not: LIBSVM's form where the first byte is odd.
pub fn usps(data: &[u8]) {
    let Some((form, text)) = data.split_first() else { return };
    let root = empty_folder("usps");
    let [train, test] = if form % 2 == 0 { ["zip.train", "zip.test"] } else { ["usps", "usps.t"] };
    let good = if form % 2 == 0 { format!("1{}", " 0".repeat(256)) } else { "1 1:1".into() };
    std::fs::write(root.join(train), text).expect("a file");
    std::fs::write(root.join(test), good).expect("a file");
    split("usps", &root, PACKED_TEXT, data.len());
}

/// CIFAR's records: those of CIFAR-100 where the first byte is odd.
pub fn cifar(data: &[u8]) {
    let Some((set, records)) = data.split_first() else { return };
    let root = empty_folder("cifar");
    let (kind, train, test, labels) = match set % 2 {
        0 => ("cifar10", "data_batch_1.bin", "test_batch.bin", 1),
        _ => ("cifar100", "train.bin", "test.bin", 2),
    };
    std::fs::write(root.join(train), records).expect("a file");
    std::fs::write(root.join(test), vec![0; labels + 3072]).expect("a file");
    split(kind, &root, RECORDS, data.len() + 3072);
}

/// A MAT file as SVHN's two.
pub fn svhn(data: &[u8]) {
    let root = empty_folder("svhn");
    for name in ["train_32x32.mat", "test_32x32.mat"] {
        std::fs::write(root.join(name), data).expect("a file");
    }
    split("svhn", &root, ARRAYS, 2 * data.len());
}

/// An archive of arrays: alone, and as both of a pair.
pub fn npz(data: &[u8]) {
    let root = empty_folder("npz");
    std::fs::write(root.join("all.npz"), data).expect("a file");
    split("npz", &root, ARRAYS, data.len());
    for name in ["train.npz", "test.npz"] {
        std::fs::write(root.join(name), data).expect("a file");
    }
    split("npz", &root, ARRAYS, 2 * data.len());
}

/// The malaria set's tables of slides, with a zero byte between them, and a cell of each class.
pub fn malaria(data: &[u8]) {
    let root = folder().join("malaria");
    for class in ["Parasitized", "Uninfected"] {
        let cells = root.join("cell_images").join(class);
        std::fs::create_dir_all(&cells).expect("a folder");
        for name in ["C1_cell_1.png", "C2_cell_2.png"] {
            std::fs::write(cells.join(name), BITMAP).expect("a picture");
        }
    }
    let mut tables = data.splitn(2, |byte| *byte == 0);
    for class in ["parasitized", "uninfected"] {
        let path = root.join(format!("patientid_cellmapping_{class}.csv"));
        std::fs::write(path, tables.next().unwrap_or_default()).expect("a table");
    }
    split("malaria", &root, CELEBA, data.len());
}

/// A table of labels, and two pictures that it may name.
pub fn labels_csv(data: &[u8]) {
    let root = folder().join("labels-csv");
    std::fs::create_dir_all(&root).expect("a folder");
    for name in ["1.png", "2.png"] {
        std::fs::write(root.join(name), BITMAP).expect("a picture");
    }
    std::fs::write(root.join("labels.csv"), data).expect("a table");
    let spec = DataSpec::new(DataKind::named("labels-csv").expect("a kind"), &root);
    match CELEBA.check("labels-csv", data.len(), || data::load(&spec, 3, 2)) {
        Err(error) => refused(&error, "labels-csv"),
        Ok(split) => {
            let Labels::MultiLabel(labels) = &split.train.labels else { panic!("{:?}", split.train.labels) };
            assert_eq!(labels.len(), split.train.len() * split.train.class_names.len());
            assert!(labels.iter().all(|label| (0.0..=1.0).contains(label)));
        }
    }
}

/// Decoded pictures in the place of those that were kept: what is not whole is told and decoded anew.
pub fn cache(data: &[u8]) {
    let root = folder().join("cache");
    static KEPT: OnceLock<PathBuf> = OnceLock::new();
    let (spec, cache) =
        (DataSpec::new(DataKind::named("labels-csv").expect("a kind"), &root), root.join("kept"));
    let spec = DataSpec { damaged: data::Damaged::PassOver, ..spec };
    let cache = data::Cache::new(&cache);
    let file = KEPT.get_or_init(|| {
        let [train, test] = ["train", "test"].map(|part| root.join(part));
        for (folder, pictures) in [(train, 3u8), (test, 1)] {
            std::fs::create_dir_all(&folder).expect("a folder");
            let mut table = "file,x\n".to_owned();
            for number in 0..pictures {
                let mut picture = BITMAP.to_vec();
                picture[54] = number;
                std::fs::write(folder.join(format!("{number}.bmp")), picture).expect("a picture");
                table += &format!("{number}.bmp,1\n");
            }
            std::fs::write(folder.join("labels.csv"), table).expect("a table");
        }
        data::load_by(&spec, 3, 2, Reading { cache: Some(&cache), listener: None }).expect("data");
        let kept = cache.kept().expect("a folder").into_iter();
        kept.map(|kept| kept.path)
            .max_by_key(|path| path.metadata().map_or(0, |meta| meta.len()))
            .expect("a file")
    });
    std::fs::write(file, data).expect("a file");
    let warned = AtomicBool::new(false);
    let listener = |told: Told<'_>| {
        warned.fetch_or(matches!(told, Told::Warning(_)), Ordering::Relaxed);
        ControlFlow::Continue(())
    };
    let reading = Reading { cache: Some(&cache), listener: Some(&listener) };
    match RECORDS.check("cache", data.len(), || data::load_by(&spec, 3, 2, reading)) {
        // Whoever can write a checksum can say that no picture could be read.
        Err(error) => refused(&error, &root.to_string_lossy()),
        Ok(split) => {
            assert_eq!(split.train.images.len(), 12 * split.train.len());
            let plain = data::load(&spec, 3, 2).expect("data");
            assert!(!warned.into_inner() || split == plain, "damaged and believed");
        }
    }
}

/// CelebA's tables and one of boxes, with a zero byte between them; with commas in its first line a table is a mirror's. Of the
/// pictures that they name, one is there.
pub fn celeba(data: &[u8]) {
    let root = folder().join("celeba");
    let pictures = root.join("img_align_celeba");
    std::fs::create_dir_all(&pictures).expect("a folder");
    for name in ["000001.jpg", "000002.jpg"] {
        std::fs::write(pictures.join(name), BITMAP).expect("a picture");
    }
    let mut parts = data.splitn(3, |byte| *byte == 0);
    for stem in ["list_attr_celeba", "list_eval_partition"] {
        let text = parts.next().unwrap_or_default();
        let mirror = text.split(|byte| *byte == b'\n').next().is_some_and(|line| line.contains(&b','));
        for (ending, is) in [("csv", mirror), ("txt", !mirror)] {
            let path = root.join(format!("{stem}.{ending}"));
            if is {
                std::fs::write(path, text).expect("a table");
            } else if path.exists() {
                std::fs::remove_file(path).expect("gone");
            }
        }
    }
    std::fs::write(root.join("boxes.txt"), parts.next().unwrap_or_default()).expect("a table");
    for kind in ["celeba", "celeba-validation"] {
        let spec = DataSpec::new(DataKind::named(kind).expect("a kind"), &root);
        match CELEBA.check("celeba", data.len(), || data::load(&spec, 3, 2)) {
            Err(error) => refused(&error, "celeba"),
            Ok(split) => {
                for part in [&split.train, &split.test] {
                    assert_eq!(part.images.len(), 12 * part.len());
                    let Labels::MultiLabel(labels) = &part.labels else { panic!("{:?}", part.labels) };
                    assert!(labels.iter().all(|label| [0.0, 1.0].contains(label)));
                }
                match CELEBA.check("boxes", data.len(), || data::boxes(&spec, 2)) {
                    Err(error) => refused(&error, "celeba"),
                    Ok(boxes) => {
                        assert_eq!(boxes.len(), split.test.len());
                        for edges in boxes.iter().flatten().map(|boxed| boxed.edges) {
                            assert!(edges.iter().all(|edge| (0.0..=2.0).contains(edge)), "{edges:?}");
                        }
                    }
                }
            }
        }
    }
}

/// A tuning table.
pub fn tuning(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match TEXT.check("tuning", data.len(), || Tuning::parse(Path::new("fuzzed.json"), text)) {
        Err(error) => refused(&error, "fuzzed.json"),
        Ok(table) => {
            let again = Tuning::parse(Path::new("fuzzed.json"), &table.to_json());
            assert_eq!(again.expect("what was written can be read").to_json(), table.to_json());
            table.fits("llvmpipe");
        }
    }
}

/// Results of the benchmark, compared with themselves.
pub fn bench(data: &[u8]) {
    let path = file("bench.json", data);
    match TEXT.check("bench", data.len(), || Results::read(&path)) {
        Err(error) => refused(&error, "bench.json"),
        Ok(results) => {
            let comparison = Comparison::of(&results, &results);
            assert!(comparison.same_device && comparison.only_before.is_empty());
        }
    }
}

/// An earlier measurement of counterfactuals, compared with itself.
pub fn earlier(data: &[u8]) {
    let path = file("earlier.json", data);
    let judge = Identity {
        file: "judge.safetensors".into(),
        fingerprint: "blake3:0".into(),
        seed: None,
        test_accuracy: None,
        test_images: None,
    };
    match TEXT.check("earlier", data.len(), || Earlier::read(&path, &judge)) {
        Err(error) => refused(&error, "earlier.json"),
        Ok(earlier) => {
            // Refused where it holds no images, or some that were not judged.
            if let Ok(same) = eval::comparison::Comparison::of(&earlier.sides, &earlier.sides) {
                assert_eq!((same.gains, same.losses, same.probability.mean), (0, 0, 0.0));
            }
        }
    }
}

/// The list of a folder of exported images.
pub fn index(data: &[u8]) {
    file(INDEX, data);
    let image = folder().join("1.png");
    let model = ModelConfig { num_classes: 1, class_names: vec!["Coat".into()], ..ModelConfig::default() };
    if let Err(error) = TEXT.check("index", data.len(), || data::true_class(&image, &model)) {
        refused(&error, INDEX);
    }
}

/// A respacing: the first two bytes are the chain's length.
pub fn respacing(data: &[u8]) {
    let [high, low, text @ ..] = data else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let steps = usize::from(u16::from_be_bytes([*high, *low])) + 1;
    // A chain of 65,536 steps as numbers.
    let budget = Budget { constant: 4 << 20, ..TEXT };
    match budget.check("respacing", text.len(), || respaced_steps(steps, text)) {
        Err(error) => refused(&error, "respacing"),
        Ok(kept) => {
            assert!(!kept.is_empty() && kept.iter().all(|step| *step < steps), "{text:?} of {steps}");
            assert!(kept.is_sorted_by(|a, b| a < b), "{text:?} of {steps}: {kept:?}");
            if steps <= 1000 {
                let config = DiffusionConfig { diffusion_steps: steps, ..DiffusionConfig::default() };
                let schedule = Schedule::respaced(&config, text).expect("a schedule of these steps");
                assert_eq!(schedule.timestep_map, kept);
                assert!(schedule.betas.iter().all(|beta| *beta > 0.0 && *beta <= 1.0), "{text:?} of {steps}");
            }
        }
    }
}

/// A picture, and with it a mask, which is one: of any format that is read.
pub fn picture(data: &[u8]) {
    let path = file("picture", data);
    for (channels, size) in [(1, 28), (3, 8)] {
        match PICTURE
            .check("picture", data.len(), || data::load_image(&path, &Preparation::new(channels, size)))
        {
            Err(error) => refused(&error, "picture"),
            Ok(picture) => {
                assert_eq!(picture.levels.len(), channels * size * size);
                assert!(picture.values().all(|value| (-1.0..=1.0).contains(&value)));
            }
        }
    }
}
