//! The real files of published data sets, where the environment names a folder of them: `DUET_DATA=FOLDER` with `usps/`,
//! `cifar10/` and so on in it. None of them may be passed on, so they are no part of this repository.

use duet::model::Labels;
use duet_trainer::data::{DataKind, DataSpec, Dataset, Grain, Split, load};
use std::path::PathBuf;

/// The folder of a data set; without it the test tells what it lacks and looks at nothing.
fn folder(name: &str) -> Option<PathBuf> {
    let Some(home) = std::env::var_os("DUET_DATA") else {
        println!("not looked at: DUET_DATA names no folder with {name}/ in it");
        return None;
    };
    let folder = PathBuf::from(home).join(name);
    if !folder.is_dir() {
        println!("not looked at: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

fn read(kind: &str, folder: &std::path::Path, size: usize, more: impl Fn(&mut DataSpec)) -> Split {
    let mut spec = DataSpec::new(DataKind::named(kind).unwrap(), folder);
    more(&mut spec);
    let channels = if kind == "usps" { 1 } else { 3 };
    load(&spec, channels, size).unwrap()
}

fn counts(set: &Dataset) -> Vec<usize> {
    let mut counts = vec![0; set.class_names.len()];
    match &set.labels {
        Labels::Classes(classes) => classes.iter().for_each(|class| counts[*class as usize] += 1),
        Labels::MultiLabel(targets) => {
            let of = |(i, target): (usize, &f32)| counts[i % set.class_names.len()] += *target as usize;
            targets.iter().enumerate().for_each(of);
        }
    }
    counts
}

#[test]
fn usps() {
    let Some(folder) = folder("usps") else { return };
    let split = read("usps", &folder, 16, |_| {});
    assert_eq!(counts(&split.train), [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]);
    assert_eq!(counts(&split.test), [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]);
    // "6.0000 -1.0000 … -0.6310 0.8620 -0.1670": (v + 1) / 2 · 255, cut off.
    assert_eq!(
        (split.train.classes().unwrap()[0], &split.train.image(0)[6..10]),
        (6, &[0, 47, 237, 106][..])
    );
    if folder.join("usps.t.bz2").is_file() {
        assert!(split.summary.text(false).contains("usps.t.bz2 has the same digits in another form"));
        // LIBSVM's file alone, on both sides for want of its training file.
        let home = tempfile::tempdir().unwrap();
        for name in ["usps.bz2", "usps.t.bz2"] {
            std::fs::copy(folder.join("usps.t.bz2"), home.path().join(name)).unwrap();
        }
        let libsvm = read("usps", home.path(), 16, |_| {});
        assert_eq!(libsvm.test.labels, split.test.labels, "the same digits in the same order");
        assert_ne!(libsvm.test.images, split.test.images, "not the same pixels");
    }
}

#[test]
fn cifar10() {
    let Some(folder) = folder("cifar10") else { return };
    let split = read("cifar10", &folder, 32, |_| {});
    let first = [6, 9, 9, 4, 1, 1, 2, 7, 8, 3, 4, 7, 7, 2, 9, 9, 9, 3, 2, 6];
    assert_eq!(split.train.classes().unwrap()[..20], first);
    if split.train.len() == 4000 {
        assert_eq!(counts(&split.train), [396, 366, 420, 384, 422, 393, 414, 385, 407, 413]);
        assert_eq!(counts(&split.test), [100; 10]);
    } else {
        assert_eq!((split.train.len(), counts(&split.test)), (50_000, vec![1000; 10]));
    }
}

#[test]
fn cifar100() {
    let Some(folder) = folder("cifar100") else { return };
    let fine = read("cifar100", &folder, 32, |_| {});
    let coarse = read("cifar100", &folder, 32, |spec| spec.labels = Grain::Coarse);
    assert_eq!(coarse.train.images, fine.train.images);
    let (of_fine, of_coarse) = (counts(&fine.train), counts(&coarse.train));
    if fine.train.len() == 1900 {
        // Without the five classes of persons.
        let people = ["baby", "boy", "girl", "man", "woman"];
        for (name, count) in fine.train.class_names.iter().zip(of_fine) {
            assert_eq!(count, if people.contains(&name.as_str()) { 0 } else { 20 }, "{name}");
        }
        assert_eq!((of_coarse[14], of_coarse[0], fine.test.len()), (0, 100, 950));
    } else {
        assert_eq!((of_fine, of_coarse), (vec![500; 100], vec![2500; 20]));
    }
    // Five fine classes make up a coarse one.
    let mut pairs: Vec<(u32, u32)> = fine
        .train
        .classes()
        .unwrap()
        .iter()
        .copied()
        .zip(coarse.train.classes().unwrap().iter().copied())
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    assert!(pairs.windows(2).all(|two| two[0].0 < two[1].0), "a fine class is in one coarse class");
    let cattle = fine.train.class_names.iter().position(|name| name == "cattle").unwrap() as u32;
    let of_cattle = pairs.iter().find(|(fine, _)| *fine == cattle).unwrap().1 as usize;
    assert_eq!(coarse.train.class_names[of_cattle], "large_omnivores_and_herbivores");
}

#[test]
fn malaria() {
    let Some(folder) = folder("malaria") else { return };
    let split = read("malaria", &folder, 32, |spec| {
        (spec.test_share, spec.validation_share) = (0.25, 0.1);
    });
    let parts = [&split.train, split.validation.as_ref().unwrap(), &split.test];
    let whole: Vec<usize> = (0..2).map(|class| parts.iter().map(|part| counts(part)[class]).sum()).collect();
    assert!(whole == [1000, 1000] || whole == [13_779, 13_779], "{whole:?}");
    let images: usize = whole.iter().sum();
    let share = |part: &Dataset| part.len() as f64 / images as f64;
    assert!((0.22..=0.25).contains(&share(parts[2])), "{}", share(parts[2]));
    assert!((0.05..=0.08).contains(&share(parts[1])), "{}", share(parts[1]));
    assert!(split.summary.text(false).contains("patients are tested on"), "{}", split.summary.text(false));
}

#[test]
fn blood_cells() {
    let Some(folder) = folder("bccd-tiles") else { return };
    let split = read("celeba", &folder, 32, |spec| spec.validation_share = 0.1);
    let parts = [&split.train, split.validation.as_ref().unwrap(), &split.test];
    assert_eq!(parts.map(Dataset::len), [763, 218, 212]);
    assert_eq!(split.train.class_names, ["RBC", "WBC", "Platelets"]);
    let whole: Vec<usize> = (0..3).map(|label| parts.iter().map(|part| counts(part)[label]).sum()).collect();
    assert_eq!(whole, [654, 498, 273]);
}
