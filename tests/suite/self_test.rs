//! The device's self-test passes here and fails where a gradient is silently zero.

use super::harness::device;
use duet::Error;
use duet::families::Family;
use duet::gpu::{Device, DeviceOptions};
use duet::self_test::{OPERATIONS, Report, figures, operation_prints};
use std::ops::ControlFlow;
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
    let mut report = Report::new(device(), 0.0);
    pollster::block_on(report.check_step(device(), || 0.0));
    let mut heard = Vec::new();
    pollster::block_on(report.check_operations(device(), |progress| {
        let last = progress.report.operations.last().map(|one| one.name);
        heard.push((progress.done, last, progress.next));
        ControlFlow::Continue(())
    }))
    .unwrap();
    // Each is told of before it comes, and what came of it with the next.
    let told = |at: usize| if at == 0 { None } else { heard[at - 1].2 };
    assert_eq!(heard.len(), OPERATIONS + 1);
    for (at, (done, last, next)) in heard.iter().enumerate() {
        assert_eq!((*done, *last, next.is_none()), (at, told(at), at == OPERATIONS));
    }
    let checked = &report.operations;
    let wrong: Vec<_> = checked.iter().filter(|one| one.wrong.is_some()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    for family in Family::ALL {
        let of = checked.iter().filter(|one| one.family == family).count();
        assert_eq!(report.families.contains(&family), family.runs_on(device()), "{family}");
        assert_eq!(of >= 3, family.runs_on(device()), "{family}: kernels of its own");
    }
    let worst = checked.iter().map(|one| one.off).fold(0.0, f64::max);
    assert!(worst < 1e-5, "{worst}: what is stored is another thing");
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["training_step"].is_null() && json["lost"].is_null(), "{json}");
    assert_eq!(json["operations"].as_array().unwrap().len(), checked.len());
    report.outcome().unwrap();
}

#[test]
fn what_is_wrong_with_a_device_is_in_its_report() {
    let mut report = Report::new(device(), 0.0);
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["training_step"].as_str().unwrap().contains("did not end"), "{json}");
    pollster::block_on(report.check_step(device(), || 0.0));
    // Stopped before the third.
    let stop = |done| if done == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let stopped = pollster::block_on(report.check_operations(device(), |progress| stop(progress.done)));
    assert!(matches!(stopped, Err(Error::Aborted)));
    let names: Vec<&str> = report.operations.iter().map(|one| one.name).collect();
    assert!(names.contains(&"convolution 3×3, tiles") && names.len() < 3 * Family::ALL.len(), "{names:?}");
    report.operations[0].off = f64::INFINITY;
    report.operations[0].wrong = Some("no number".into());
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["operations"][0]["off"].is_null(), "{json}");
    assert_eq!(json["operations"][0]["family"], "direct");
    let error = report.outcome().unwrap_err().to_string();
    assert!(
        error.contains(&format!("1 of {OPERATIONS} ")) && error.contains("(convolution 3×3, few channels)"),
        "{error}"
    );
}

#[test]
fn a_device_that_is_lost_ends_its_check_and_says_where() {
    let own = pollster::block_on(Device::open(&DeviceOptions::default())).unwrap();
    let mut report = Report::new(&own, 0.0);
    pollster::block_on(report.check_operations(&own, |progress| {
        if progress.done == 1 {
            own.destroy();
        }
        ControlFlow::Continue(())
    }))
    .unwrap();
    let lost = report.lost.clone().unwrap_or_else(|| panic!("{:?}", report.operations));
    assert!(lost.starts_with("convolution 3×3, tiles: "), "{lost}");
    assert!(report.operations.iter().all(|one| one.name == "convolution 3×3, few channels"));
    // What comes then is not tried, and a training step neither passes nor panics.
    pollster::block_on(report.check_step(&own, || 0.0));
    assert!(report.training_step.is_err() && report.lost.is_some());
    pollster::block_on(report.check_operations(&own, |_| panic!("nothing can be checked"))).unwrap();
    assert!(matches!(report.outcome(), Err(Error::DeviceLost { .. })));
}
