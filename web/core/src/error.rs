//! Errors on their way to JavaScript.

use duet::Error;
use js_sys::{Object, Reflect};
use wasm_bindgen::JsValue;

fn object(code: &str, message: &str, more: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    let own = [("code", JsValue::from_str(code)), ("message", JsValue::from_str(message))];
    for (key, value) in own.iter().chain(more) {
        // Setting a property of a fresh plain object cannot fail.
        let _ = Reflect::set(&object, &JsValue::from_str(key), value);
    }
    object.into()
}

/// The plain object of an error.
pub fn to_js(error: &Error) -> JsValue {
    let number = |bytes: u64| JsValue::from_f64(bytes as f64);
    let (code, more) = match error {
        Error::NoAdapter { .. } => ("no-adapter", Vec::new()),
        Error::LimitTooSmall { limit, need, have } => (
            "limit-too-small",
            vec![("limit", JsValue::from_str(limit)), ("need", number(*need)), ("have", number(*have))],
        ),
        Error::OutOfMemory { need } => ("out-of-memory", vec![("need", number(*need))]),
        Error::DeviceLost { .. } => ("device-lost", Vec::new()),
        Error::Checkpoint { .. } => ("bad-checkpoint", Vec::new()),
        Error::NotFinite { .. } => ("not-finite", Vec::new()),
        Error::Aborted => ("aborted", Vec::new()),
        Error::Config { field, .. } => ("bad-input", vec![("field", JsValue::from_str(field))]),
        Error::Shape { .. } | Error::Data { .. } => ("bad-input", Vec::new()),
        _ => ("gpu", Vec::new()),
    };
    object(code, &error.to_string(), &more)
}

/// The plain object of an option that cannot be read.
pub fn bad_options(error: &serde_json::Error) -> JsValue {
    object("bad-input", &format!("options: {error}"), &[])
}
