//! Values that no tensor may hold.

use super::{Folder, cause, full, read, read_cause, tensor};
use duet::checkpoint::{Checkpoint, Dtype};
use duet::tensor::Tensors;

#[test]
fn values_that_are_not_finite_are_refused_both_ways() {
    let mut checkpoint = full();
    checkpoint.weights.insert("z".into(), tensor(&[2], |_| f32::NEG_INFINITY));
    checkpoint.weights.insert("out.2.bias".into(), tensor(&[5], |i| if i == 3 { f32::NAN } else { 0.0 }));
    let expected = "first `out.2.bias`[3], which is NaN; 3 value(s) in 2 tensor(s)";
    let folder = Folder::new();
    let error = cause(checkpoint.save(&folder.file()), folder.file().to_str().unwrap());
    assert!(error.contains(expected), "{error}");
    assert_eq!(folder.names(), Vec::<String>::new());

    let only = Checkpoint {
        weights: [("a.b".into(), tensor(&[5], |i| if i > 2 { f32::NAN } else { 0.0 }))].into(),
        ..full()
    };
    let error = cause(only.to_bytes(Dtype::F32), "(in memory)");
    assert!(error.contains("first `a.b`[3], which is NaN; 2 value(s) in 1 tensor(s)"), "{error}");

    let mut bytes = full().to_bytes(Dtype::F32).unwrap();
    let length = bytes.len();
    bytes[length - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(read_cause(&bytes).contains("1 value(s) in 1 tensor(s)"));

    let mut checkpoint = full();
    checkpoint.training.as_mut().unwrap().best.as_mut().unwrap().values.insert("loss".into(), f64::NAN);
    assert!(cause(checkpoint.to_bytes(Dtype::F32), "(in memory)").contains("metric `loss` of step 7 is NaN"));
}

#[test]
fn variances_and_second_moments_below_zero_are_refused_both_ways() {
    let negative = || tensor(&[3], |i| if i == 1 { -1.0 } else { 0.5 });
    let fine = || tensor(&[3], |i| i as f32);
    type Set = fn(&mut Checkpoint) -> &mut Tensors;
    let cases: [(Set, &str, &str); 3] = [
        (|c| &mut c.weights, "clasifier.bn_2.running_var", "`clasifier.bn_2.running_var`[1], which is -1"),
        (|c| c.ema.as_mut().unwrap(), "running_var", "`ema/running_var`[1], which is -1"),
        (|c| &mut c.training.as_mut().unwrap().adam_v, "out.2.bias", "`adam_v/out.2.bias`[1], which is -1"),
    ];
    for (set, name, expected) in cases {
        let mut checkpoint = full();
        set(&mut checkpoint).insert(name.into(), negative());
        let error = cause(checkpoint.to_bytes(Dtype::F32), "(in memory)");
        assert!(error.contains(expected), "{error}");
        // The same file, written with a value that there can be, and changed.
        set(&mut checkpoint).insert(name.into(), fine());
        let mut bytes = checkpoint.to_bytes(Dtype::F32).unwrap();
        let pattern: Vec<u8> = [0.0f32, 1.0, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let at = bytes.windows(12).rposition(|part| part == pattern).unwrap();
        bytes[at + 4..at + 8].copy_from_slice(&(-1.0f32).to_le_bytes());
        let error = read_cause(&bytes);
        assert!(error.contains(expected) && error.contains("negative"), "{error}");
    }
    // Means, first moments and weights may well be negative.
    let mut checkpoint = full();
    checkpoint.weights.insert("clasifier.bn_2.running_mean".into(), negative());
    checkpoint.training.as_mut().unwrap().adam_m.insert("out.2.bias".into(), negative());
    read(&checkpoint.to_bytes(Dtype::F32).unwrap()).unwrap();
}
