//! The device's self-test passes here and fails where a gradient is silently zero.

use super::harness::device;
use duet::self_test::figures;

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
