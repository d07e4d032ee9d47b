//! The device's self-test passes here and fails where a gradient is silently zero.

use super::harness::device;
use duet::families::Family;
use duet::self_test::{check_operations, figures, operation_prints};
use std::path::Path;

#[test]
fn this_device_passes() {
    pollster::block_on(device().self_test()).unwrap();
}

#[test]
fn zeros_and_nans_are_told() {
    let good = pollster::block_on(figures(device())).unwrap();
    let at = good.norms.len() / 2;
    for wrong in [0.0, f32::NAN, good.norms[at].1 * 1.01] {
        let mut bad = good.clone();
        bad.norms[at].1 = wrong;
        let error = bad.check().unwrap_err().to_string();
        assert!(error.contains(&good.norms[at].0), "{error}");
    }
    let mut bad = good;
    bad.loss = f32::NAN;
    assert!(bad.check().is_err());
}

/// `DUET_BLESS=1` stores what the direct family computes here, which all other tests hold against the reference and plain loops.
#[test]
fn every_operation_passes_in_every_family_of_this_device() {
    if std::env::var_os("DUET_BLESS").is_some() {
        let prints = pollster::block_on(operation_prints(device())).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/self_test/numbers.json");
        std::fs::write(path, serde_json::to_string(&prints).unwrap() + "\n").unwrap();
        return;
    }
    let mut heard = 0;
    let checked = pollster::block_on(check_operations(device(), |_| heard += 1)).unwrap();
    assert_eq!(heard, checked.len());
    let wrong: Vec<_> = checked.iter().filter(|one| one.wrong.is_some()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    for family in Family::ALL.into_iter().filter(|family| family.runs_on(device())) {
        let of = checked.iter().filter(|one| one.family == family);
        assert!(of.count() >= 3, "{family}: kernels of its own");
    }
    let worst = checked.iter().map(|one| one.off).fold(0.0, f64::max);
    assert!(worst < 1e-5, "{worst}: what is stored is another thing");
}
