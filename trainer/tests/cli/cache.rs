//! Decoded pictures that are kept: the same data, decoded once, whatever happens to what is kept.

use super::{Project, fails, ok, program, weights};
use duet::Error;
use duet::picture::Fit;
use duet_trainer::data::{Cache, Damaged, DataKind, DataSpec, Reading, Split, Told, load, load_by};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

/// Data with their cache.
struct Kept {
    home: tempfile::TempDir,
    spec: DataSpec,
    size: usize,
}

/// What was loaded, how many pictures were decoded for it, and the warnings.
type Loaded = (Split, usize, Vec<String>);

impl Kept {
    /// Twenty pictures of two classes, one of them cut.
    fn new() -> Kept {
        let home = tempfile::tempdir().unwrap();
        for i in 0..20u8 {
            let folder = home.path().join("data").join(["a", "b"][usize::from(i % 2)]);
            std::fs::create_dir_all(&folder).unwrap();
            let picture =
                image::RgbImage::from_fn(9, 6, |x, y| image::Rgb([i * 12, x as u8 * 20, y as u8 * 30]));
            picture.save(folder.join(format!("{i}.png"))).unwrap();
        }
        let whole = std::fs::read(home.path().join("data/a/4.png")).unwrap();
        std::fs::write(home.path().join("data/a/4.png"), &whole[..60]).unwrap();
        let folder = DataSpec::new(DataKind::named("folder").unwrap(), &home.path().join("data"));
        let spec = DataSpec { damaged: Damaged::PassOver, test_share: 0.3, validation_share: 0.3, ..folder };
        Kept { home, spec, size: 4 }
    }

    fn cache(&self) -> Cache {
        Cache::new(&self.home.path().join("cache"))
    }

    fn load(&self) -> Loaded {
        let (decoded, warnings) = (Mutex::new(0), Mutex::new(Vec::new()));
        let listener = |told: Told<'_>| {
            match told {
                Told::Decoding(pictures) => *decoded.lock().unwrap() += pictures,
                Told::Warning(text) => warnings.lock().unwrap().push(text.to_owned()),
                Told::Reading(_) | Told::One => {}
            }
            ControlFlow::Continue(())
        };
        let cache = self.cache();
        let reading = Reading { cache: Some(&cache), listener: Some(&listener) };
        let split = load_by(&self.spec, 3, self.size, reading).unwrap();
        (split, decoded.into_inner().unwrap(), warnings.into_inner().unwrap())
    }

    /// The one file that is kept.
    fn file(&self) -> PathBuf {
        let kept = self.cache().kept().unwrap();
        let [only] = &kept[..] else { panic!("{kept:?}") };
        assert_eq!(Cache::pictures(only), Some([20, 3, self.size]));
        only.path.clone()
    }
}

#[test]
fn what_is_kept_is_what_is_decoded() {
    let mut kept = Kept::new();
    let plain = load(&kept.spec, 3, kept.size).unwrap();
    assert!(plain.summary.warnings.iter().any(|text| text.contains("1 of 20") && text.contains("a/4.png")));
    let of = |kept: &Kept| {
        let (split, decoded, warnings) = kept.load();
        assert!(warnings.is_empty(), "{warnings:?}");
        (split, decoded)
    };
    for decoded in [20, 0, 0] {
        let (split, count) = of(&kept);
        assert!(split == plain && count == decoded, "{count}");
        assert_eq!(split.train.fingerprint(), plain.train.fingerprint());
        let validation = split.validation.as_ref().unwrap();
        assert!([&split.train, validation, &split.test].iter().all(|set| set.images.in_file()));
        let rows: Vec<usize> = (0..split.train.len()).rev().collect();
        assert_eq!(split.train.images_f32(&rows), plain.train.images_f32(&rows));
        let config = duet::model::ModelConfig {
            image_size: kept.size,
            in_channels: 3,
            num_classes: 2,
            ..duet::model::ModelConfig::default()
        };
        let batch = |split: &Split| split.train.examples(&config).unwrap().batch(&rows).unwrap();
        let [ours, theirs] = [batch(&split), batch(&plain)];
        assert_eq!((ours.images, ours.labels), (theirs.images, theirs.labels));
    }
    // Another split of the same pictures, and the same pictures under other names.
    kept.spec.split_seed = 9;
    assert_eq!(of(&kept), (load(&kept.spec, 3, kept.size).unwrap(), 0));
    let elsewhere = kept.home.path().join("moved");
    std::fs::rename(&kept.spec.path, &elsewhere).unwrap();
    kept.spec.set_path(&elsewhere);
    assert_eq!(of(&kept), (load(&kept.spec, 3, kept.size).unwrap(), 0));
    // As an error what is broken is told in the same words.
    let strict = DataSpec { damaged: Damaged::Refuse, ..kept.spec.clone() };
    let cache = kept.cache();
    let error = load_by(&strict, 3, kept.size, Reading { cache: Some(&cache), listener: None }).unwrap_err();
    assert_eq!(error.to_string(), load(&strict, 3, kept.size).unwrap_err().to_string());
    // What is seen of pictures, and what they are, is another list each time.
    let mut count = cache.kept().unwrap().len();
    assert_eq!(count, 1);
    let changes: [fn(&mut Kept); 6] = [
        |kept| kept.spec.ground = 200,
        |kept| kept.spec.fit = Fit::Pad,
        |kept| kept.spec.resize = duet::picture::Resize::Bilinear,
        |kept| kept.spec.resize_to = Some(3),
        |kept| kept.size = 6,
        |kept| {
            let picture = image::RgbImage::from_pixel(9, 6, image::Rgb([1, 2, 3]));
            picture.save(kept.spec.path.join("b/3.png")).unwrap();
        },
    ];
    for change in changes {
        change(&mut kept);
        for decoded in [20, 0] {
            assert_eq!(of(&kept), (load(&kept.spec, 3, kept.size).unwrap(), decoded));
        }
        count += 1;
        assert_eq!(cache.kept().unwrap().len(), count);
    }
}

#[test]
fn what_is_damaged_is_never_believed() {
    let kept = Kept::new();
    let plain = load(&kept.spec, 3, kept.size).unwrap();
    assert_eq!(kept.load().1, 20);
    let file = kept.file();
    let whole = std::fs::read(&file).unwrap();
    let end = 128 + 20 * 3 * 4 * 4;
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        bytes
    };
    let mut cases: Vec<Vec<u8>> = [0, 20, 48, 56, 60, 64, 71, 72, 103, 128, end - 1, end, whole.len() - 1]
        .into_iter()
        .map(flipped)
        .collect();
    cases.extend([1, 100, 128, 500, end, whole.len() - 1].map(|length| whole[..length].to_vec()));
    cases.extend([
        Vec::new(),
        b"not a file of ours".to_vec(),
        vec![0; whole.len()],
        [&whole[..], b"x"].concat(),
    ]);
    for (number, bytes) in cases.into_iter().enumerate() {
        std::fs::write(&file, bytes).unwrap();
        let (split, decoded, warnings) = kept.load();
        assert!(split == plain && decoded == 20, "case {number}: {decoded}");
        let [warning] = &warnings[..] else { panic!("case {number}: {warnings:?}") };
        assert!(warning.contains(".pictures is") && warning.contains("decoded anew"), "{warning}");
        assert!(kept.load().1 == 0 && std::fs::read(&file).unwrap() == whole, "case {number}");
    }
    // Another list's file under this one's name, and a folder in its place.
    let other = Kept { size: 6, home: tempfile::tempdir().unwrap(), spec: kept.spec.clone() };
    other.load();
    std::fs::copy(other.file(), &file).unwrap();
    let (split, decoded, warnings) = kept.load();
    assert!(split == plain && decoded == 20 && warnings[0].contains("of other pictures"), "{warnings:?}");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    let (split, decoded, warnings) = kept.load();
    assert!(split == plain && decoded == 40 && !split.train.images.in_file(), "{decoded}");
    assert!(warnings[0].contains("is no file") && warnings[1].contains("are not kept"), "{warnings:?}");
}

#[test]
fn where_nothing_can_be_kept_it_is_told_and_the_data_come() {
    let mut kept = Kept::new();
    let plain = load(&kept.spec, 3, kept.size).unwrap();
    std::fs::write(kept.home.path().join("cache"), "a file").unwrap();
    let (split, decoded, warnings) = kept.load();
    assert!(split == plain && decoded == 20 && !split.train.images.in_file());
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(warning.contains("decoded pictures are not kept") && warning.contains("cache"), "{warning}");
    std::fs::remove_file(kept.home.path().join("cache")).unwrap();
    // Who asks for nothing has nothing, and no folder is made for it.
    kept.spec.path = kept.home.path().join("none");
    let cache = kept.cache();
    assert!(load_by(&kept.spec, 3, 4, Reading { cache: Some(&cache), listener: None }).is_err());
    assert!(
        !cache.folder().exists() && cache.kept().unwrap().is_empty() && cache.clear().unwrap().is_empty()
    );
}

#[test]
fn what_is_cut_short_leaves_nothing_and_what_is_old_goes() {
    let kept = Kept::new();
    let cache = kept.cache();
    for most in [0, 25] {
        let heard = Mutex::new(0);
        let listener = |told: Told<'_>| {
            let mut heard = heard.lock().unwrap();
            *heard += usize::from(told == Told::One);
            if *heard > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let reading = Reading { cache: Some(&cache), listener: Some(&listener) };
        assert!(matches!(load_by(&kept.spec, 3, kept.size, reading), Err(Error::Aborted)), "{most}");
        assert!(cache.kept().unwrap().is_empty(), "{most}");
    }
    // What others left behind, by age in days.
    let folder = cache.folder().to_owned();
    std::fs::create_dir_all(&folder).unwrap();
    let name = |digit: &str| format!("{}.pictures", digit.repeat(64));
    let files = [
        (name("0"), 31.0, false),
        (name("1"), 29.0, true),
        (format!("{}.7-0-1.partial", name("2")), 0.1, false),
        (format!("{}.7-1-1.partial", name("3")), 0.01, true),
        ("holiday.pictures".into(), 400.0, true),
        ("A".repeat(64) + ".pictures", 400.0, true),
    ];
    for (name, days, _) in &files {
        let file = std::fs::File::create(folder.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs_f64(days * 86_400.0)).unwrap();
    }
    assert_eq!(kept.load().1, 20);
    for (name, _, stays) in &files {
        assert_eq!(folder.join(name).exists(), *stays, "{name}");
    }
    // Use is what counts, and what is read is not young by itself.
    let made = cache.kept().unwrap().into_iter().find(|kept| Cache::pictures(kept).is_some()).unwrap();
    std::fs::File::open(&made.path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(kept.load().1, 0);
    let used = std::fs::metadata(&made.path).unwrap().modified().unwrap();
    assert!(used.elapsed().unwrap() < Duration::from_secs(600));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&made.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "nobody else's business");
    }
}

#[test]
fn two_at_once_do_no_harm() {
    let kept = Kept::new();
    let plain = load(&kept.spec, 3, kept.size).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(kept.load().0 == plain));
        }
    });
    assert_eq!(kept.load().1, 0);
    // A file that is removed while it is in use stays until it is not.
    let (split, ..) = kept.load();
    std::fs::remove_file(kept.file()).unwrap();
    assert!(split == plain);
}

/// With a cache more pictures are read than memory may be taken for.
#[cfg(target_os = "linux")]
#[test]
fn data_larger_than_memory_are_read() {
    let home = tempfile::tempdir().unwrap();
    for i in 0..64u8 {
        let folder = home.path().join("data").join(["a", "b"][usize::from(i % 2)]);
        std::fs::create_dir_all(&folder).unwrap();
        let picture = image::GrayImage::from_fn(8, 8, |x, y| image::Luma([x as u8 * 30 + y as u8 * i]));
        picture.save(folder.join(format!("{i}.png"))).unwrap();
    }
    let [data, kept] = ["data", "kept"].map(|name| home.path().join(name).display().to_string());
    // 64 MiB of levels, 40 MiB of memory; on one core, for each takes its stack.
    let run = |how: &[&str]| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "ulimit -d 40000; exec taskset -c 0 \"$0\" \"$@\"", env!("CARGO_BIN_EXE_duet")]);
        command.args(["data", "info", &data, "--size", "1024", "--channels", "1"]).args(how);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    for _ in 0..2 {
        let (code, text, error) = run(&["--cache", &kept]);
        assert!(code == Some(0) && text.contains("of 1×1024×1024"), "{text}{error}");
    }
    let (code, _, error) = run(&["--no-cache"]);
    assert!(code == Some(1) && error.contains("is 64 MiB at this size, more than memory has"), "{error}");
}

/// What a run says on stderr with `--verbose`.
fn trained(project: &Project, run: &str, more: &[&str]) -> String {
    let [recipe, out] = [project.text("recipe.toml"), project.text(run)];
    let output = program().args(["--verbose", "train", &recipe, "--out", &out]).args(more).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    error
}

#[test]
fn a_run_goes_on_with_and_without_a_cache_bit_for_bit() {
    let project = Project::new();
    let kept = project.text("kept");
    let (with, without) = (["--cache", &kept, "--steps"], ["--no-cache", "--steps"]);
    let decoded = |error: &str| error.matches("decoding pictures=48").count();
    let first = trained(&project, "both", &[&with[..], &["2"]].concat());
    let second = trained(&project, "both", &[&without[..], &["4", "--resume"]].concat());
    let third = trained(&project, "both", &[&with[..], &["6", "--resume"]].concat());
    assert_eq!([&first, &second, &third].map(|error| decoded(error)), [1, 1, 0], "{third}");
    let plain = trained(&project, "none", &[&without[..], &["6"]].concat());
    assert_eq!(decoded(&plain), 1);
    let [both, none] = ["both", "none"].map(|run| weights(&project.path(run).join("checkpoint.safetensors")));
    assert!(both.weights == none.weights && both.ema == none.ema);
    let fingerprint = |checkpoint: &duet::checkpoint::Checkpoint| {
        checkpoint.training.as_ref().unwrap().data_fingerprint.clone()
    };
    assert_eq!(fingerprint(&both), fingerprint(&none));
    // How long steps wait for data is among the figures.
    let lines = super::training::figures(&project.path("none"));
    assert!(
        lines.iter().all(|line| (0.0..=1.0).contains(&line["data_share"].as_f64().unwrap())),
        "{lines:?}"
    );

    // What is kept is listed, and removed.
    let text = ok(&["data", "cache", "--cache", &kept]);
    assert!(text.contains("1 file of decoded pictures") && text.contains("48 pictures of 1×8×8"), "{text}");
    std::fs::write(Path::new(&kept).join("mine.txt"), "mine").unwrap();
    let json: serde_json::Value =
        serde_json::from_str(&ok(&["--json", "data", "cache", "--cache", &kept, "--clear"])).unwrap();
    assert_eq!((&json["cleared"], &json["files"][0]["size"]), (&true.into(), &8.into()), "{json}");
    let left: Vec<_> = std::fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["mine.txt"]);
    let text = ok(&["data", "cache", "--cache", &kept]);
    assert!(text.contains("0 files of decoded pictures"), "{text}");
    fails(&["data", "cache", "--no-cache"], &["cache", "nothing is kept"]);
    fails(&["data", "cache", "--cache", &project.text("recipe.toml")], &["recipe.toml", "cannot be read"]);
}
