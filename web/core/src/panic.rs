//! What the module says when it stops: JavaScript sees a panic as a bare "unreachable", and never the promise settled.

use js_sys::Function;
use std::cell::RefCell;
use wasm_bindgen::prelude::*;

thread_local! {
    static LISTENER: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Tells `listener` the words of every panic from now on.
#[wasm_bindgen(js_name = onPanic)]
pub fn on_panic(listener: Function) {
    LISTENER.set(Some(listener));
    std::panic::set_hook(Box::new(|panic| {
        let words = JsValue::from_str(&panic.to_string());
        // Whatever the listener throws, the module stops now.
        let _ = LISTENER.with_borrow(|listener| listener.as_ref().map(|l| l.call1(&JsValue::NULL, &words)));
    }));
}
