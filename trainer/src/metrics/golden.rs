//! What others computed, for tests: `metrics.safetensors` by the reference's own code, `metrics.json` by NumPy, SciPy and
//! scikit-learn (`metrics.py` beside it).

use safetensors::SafeTensors;
use serde_json::Value;

/// A tensor of the reference's file.
pub(super) fn golden<T: bytemuck::Pod>(name: &str) -> Vec<T> {
    let file = SafeTensors::deserialize(include_bytes!("../../tests/fixtures/metrics.safetensors")).unwrap();
    bytemuck::pod_collect_to_vec(file.tensor(name).unwrap().data())
}

/// The figures of the other file.
pub(super) fn figures() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/metrics.json")).unwrap()
}

/// Numbers of one of its lists.
pub(super) fn numbers(list: &Value) -> Vec<f32> {
    list.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

/// Fails where a figure is further from what it should be than by this share of it.
pub(super) fn close(got: f64, want: &Value, within: f64) {
    let want = want.as_f64().unwrap();
    assert!((got - want).abs() <= within * want.abs(), "{got} instead of {want}");
}
