//! What a run of the benchmark found: the JSON schema. `table.rs` prints the same for people.

use duet::gpu::{Device, Launch};
use duet::ops::probe::Peaks;
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Version of the schema: raised whenever a field is removed or changes its meaning.
pub const SCHEMA: u32 = 1;

/// The whole results. Lines are found by their names, which hold shape, network and batch.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of the program.
    pub version: String,
    /// Adapter.
    pub device: String,
    /// Driver and its version.
    pub driver: String,
    /// Graphics API.
    pub backend: String,
    /// Whether the device computes on the CPU.
    pub software: bool,
    /// Name of the network that whole steps run.
    pub model: String,
    /// Its parameters, classifier included.
    pub parameters: u64,
    /// Parameters of its UNet alone.
    pub unet_parameters: u64,
    /// Images at a time of the whole steps.
    pub batch: u64,
    /// What was measured.
    pub lines: Vec<Line>,
    /// Profiles by kernel, where asked for.
    pub profiles: Vec<Profile>,
    /// What the device can do at most, where that was measured.
    #[serde(default)]
    pub peaks: Option<Peaks>,
}

/// What a line measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One operation: forward or one of its gradients.
    Kernel,
    /// A whole step.
    Step,
    /// What happens once, before the first step is done.
    StartUp,
}

/// A time and the rates it gives.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Timed {
    /// Shortest time of one run.
    pub seconds: f64,
    /// Multiply-adds of convolutions, matrix products and attention; 0 where a kernel counts none.
    pub multiply_adds: u64,
    /// Bytes of the distinct ranges that each launch binds for reading or writing, summed over the launches.
    pub bytes: u64,
    /// 2 · multiply_adds / seconds / 10⁹.
    pub gflops: f64,
    /// bytes / seconds / 10⁹.
    pub gigabytes_per_second: f64,
}

impl Timed {
    /// The rates of a time.
    pub fn new(seconds: f64, multiply_adds: u64, bytes: u64) -> Timed {
        // A duration can be zero where a device's clock is coarse.
        let rate = |amount: f64| if seconds > 0.0 { amount / seconds / 1e9 } else { 0.0 };
        let (gflops, gigabytes_per_second) = (rate(2.0 * multiply_adds as f64), rate(bytes as f64));
        Timed { seconds, multiply_adds, bytes, gflops, gigabytes_per_second }
    }
}

/// One measured line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    /// What it is called, unique in a results.
    pub name: String,
    /// What it measures.
    pub kind: Kind,
    /// Which of several kernels for the same operation.
    pub variant: String,
    /// Time and rates.
    #[serde(flatten)]
    pub timed: Timed,
    /// Dispatches of one run.
    pub dispatches: u64,
    /// How many times as long a kernel takes that computes one output per invocation.
    pub times_naive: Option<f64>,
    /// Images per second of a whole step.
    pub images_per_second: Option<f64>,
    /// Shortest time that the host needs to hand a whole step to the device, without waiting for it.
    pub host_seconds: Option<f64>,
    /// Distinct pipelines.
    pub pipelines: Option<u64>,
    /// Memory of a whole step.
    pub memory: Option<Memory>,
}

impl Line {
    /// A line of `launches` that took `seconds` together.
    pub fn new(kind: Kind, name: &str, seconds: f64, launches: &[Launch]) -> Line {
        let multiply_adds = launches.iter().map(|l| l.multiply_adds).sum();
        let bytes = launches.iter().map(Launch::bytes).sum();
        Line {
            name: name.to_owned(),
            kind,
            variant: "default".into(),
            timed: Timed::new(seconds, multiply_adds, bytes),
            dispatches: launches.len() as u64,
            times_naive: None,
            images_per_second: None,
            host_seconds: None,
            pipelines: None,
            memory: None,
        }
    }
}

/// Memory of a step. Nothing is allocated while it runs, so what is allocated when it is loaded is its peak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Activations, gradients and scratch memory as planned.
    pub planned_bytes: u64,
    /// The largest sum of what is alive at one time: no plan of this order needs less.
    pub lower_bound_bytes: u64,
    /// The same without reuse.
    pub unshared_bytes: u64,
    /// What the device really allocated beside the named buffers: `planned_bytes` and the uniforms.
    pub allocated_bytes: u64,
    /// Named buffers: weights, moments, average, gradients, running statistics, inputs, results.
    pub named_bytes: u64,
    /// All that the device allocated for the step, weights included.
    pub live_bytes: u64,
}

/// A step's time by kernel, measured on the device.
#[derive(Debug, Serialize, Deserialize)]
pub struct Profile {
    /// The step's name.
    pub name: String,
    /// Sum of all launches.
    pub seconds: f64,
    /// Launches.
    pub launches: u64,
    /// The least that their bytes and multiply-adds take at the device's peaks, launch by launch, where those were measured.
    #[serde(default)]
    pub bound_seconds: Option<f64>,
    /// Sums by kernel, the longest first.
    pub by_kernel: Vec<ProfileRow>,
    /// Sums by kernel and shape, the longest first.
    pub by_shape: Vec<ProfileRow>,
}

/// Launches of one kernel.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProfileRow {
    /// File and entry point.
    pub kernel: String,
    /// Shapes of the operation's first input and of its result; empty where shapes are summed over.
    pub shape: String,
    /// Launches.
    pub calls: u64,
    /// Share of the step's time.
    pub share: f64,
    /// As [`Profile::bound_seconds`].
    #[serde(default)]
    pub bound_seconds: Option<f64>,
    /// Their time together.
    #[serde(flatten)]
    pub timed: Timed,
}

impl Results {
    /// An empty results.
    pub fn new(device: &Device, subject: &super::models::Subject, batch: usize) -> Results {
        let info = device.info();
        Results {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            device: info.name.clone(),
            driver: info.driver.clone(),
            backend: info.backend.clone(),
            software: info.software,
            model: subject.name.clone(),
            parameters: subject.model.params.parameter_count() as u64,
            unet_parameters: subject.unet_parameters() as u64,
            batch: batch as u64,
            lines: Vec::new(),
            profiles: Vec::new(),
            peaks: None,
        }
    }

    /// Reads the results that `--json` wrote.
    ///
    /// # Errors
    /// [`Error::Data`] naming the file: unreadable, no JSON, no such results, another schema.
    pub fn read(path: &Path) -> Result<Results> {
        let failed = |detail: String| Error::Data { path: path.into(), detail };
        let text = std::fs::read_to_string(path).map_err(|e| failed(format!("cannot be read: {e}")))?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| failed(format!("is no JSON: {e}")))?;
        match value.get("schema").and_then(serde_json::Value::as_u64) {
            Some(schema) if schema == u64::from(SCHEMA) => {}
            Some(schema) => {
                return Err(failed(format!("has schema {schema}, this program reads schema {SCHEMA}")));
            }
            None => return Err(failed("is no result of `duet bench --json`: it has no \"schema\"".into())),
        }
        serde_json::from_value(value).map_err(|e| failed(format!("is no result of `duet bench --json`: {e}")))
    }
}

/// A result as JSON.
///
/// # Errors
/// [`Error::Config`] where it cannot be written.
pub fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::config("json", e.to_string()))
}
