//! What others computed, for tests: `classified.json` by NumPy, SciPy and scikit-learn (`classified.py` beside it).

use serde_json::Value;

/// The figures of the file.
pub(super) fn figures() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/classified.json")).unwrap()
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
