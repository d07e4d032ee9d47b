//! Does this browser's device compute what it should? What `duet check --full` does natively, with the same report.

use crate::engine::{closed, open, tell};
use crate::error::to_js;
use duet::gpu::Device;
use duet::self_test::{OPERATIONS, Report};
use duet::{Error, Result};
use js_sys::Function;
use wasm_bindgen::prelude::*;

/// What is told to come before the operations.
const STEP: &str = "a training step";

/// A device that is checked. It is prepared, opened and released as an engine is.
#[wasm_bindgen]
#[derive(Default)]
pub struct DeviceCheck {
    instance: Option<wgpu::Instance>,
    device: Option<Device>,
    opened: f64,
}

#[wasm_bindgen]
impl DeviceCheck {
    /// Nothing touches the GPU yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> DeviceCheck {
        DeviceCheck::default()
    }

    /// Takes `navigator.gpu` as it is at this moment.
    pub fn prepare(&mut self) {
        self.instance = Some(crate::engine::instance());
    }

    /// Opens a device, as a model's is.
    pub async fn open(&mut self) -> std::result::Result<(), JsValue> {
        let start = seconds();
        self.device = Some(open(self.instance.take()).await.map_err(|e| to_js(&e))?);
        self.opened = seconds() - start;
        Ok(())
    }

    /// Runs a training step and every operation on the device, which is on the given adapter in the given browser: the report as JSON.
    /// `hear` is told of each before it comes, and once all are done: how many are, of how many, the name of the next one or `undefined`,
    /// and the report as it is then. It answers whether to go on.
    pub async fn run(
        &mut self,
        adapter: String,
        platform: String,
        hear: Function,
    ) -> std::result::Result<String, JsValue> {
        let device = self.device.as_ref().ok_or_else(|| to_js(&closed()))?;
        let report = Report { adapter, platform, ..Report::new(device, self.opened) };
        checked(device, report, &hear).await.map_err(|e| to_js(&e))
    }

    /// Lets go of the device. It is its opener's to destroy.
    pub fn release(&mut self) {
        self.device = None;
    }
}

fn seconds() -> f64 {
    js_sys::Date::now() / 1e3
}

fn json(report: &Report) -> Result<String> {
    serde_json::to_string(report).map_err(|e| Error::config("report", e.to_string()))
}

async fn checked(device: &Device, mut report: Report, hear: &Function) -> Result<String> {
    let told = |done: usize, next: Option<&str>, report: &Report| {
        let next = next.map_or(JsValue::UNDEFINED, JsValue::from_str);
        let text = json(report).unwrap_or_default();
        tell(hear, &[(done as f64).into(), ((OPERATIONS + 1) as f64).into(), next, text.into()])
    };
    if told(0, Some(STEP), &report).is_break() {
        return Err(Error::Aborted);
    }
    report.check_step(device, seconds).await;
    report.check_operations(device, |now| told(now.done + 1, now.next, now.report)).await?;
    json(&report)
}
