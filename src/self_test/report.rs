//! What a check of a device found: one record, which the command and the page in a browser both fill and write as JSON.

use super::full::{Checked, TOLERANCE, check_case, stored};
use super::operations::CASES;
use crate::error::{Error, Result};
use crate::families::{Choices, Family};
use crate::gpu::Device;
use serde::{Serialize, Serializer};
use std::ops::ControlFlow;

/// How many operations [`Report::check_operations`] checks.
pub const OPERATIONS: usize = CASES.len();

/// What a device offers, as far as kernels depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Invocations of a workgroup at most.
    pub workgroup_invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Invocations of every subgroup; 0: there is no one number, or shaders may not use subgroups.
    pub subgroup: u32,
    /// Largest storage binding in bytes.
    pub binding_bytes: u64,
    /// Whether shaders may read and write f16 in buffers.
    pub f16: bool,
}

/// What a device is and what it computed. As JSON the keys are the fields' names; `training_step` is `null` where it is right, else what is
/// wrong, and an `off` that is no number is `null`.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::gpu::{Device, DeviceOptions};
/// use duet::self_test::Report;
/// use std::time::Instant;
///
/// let start = Instant::now();
/// let seconds = || start.elapsed().as_secs_f64();
/// let device = Device::open(&DeviceOptions::default()).await?;
/// let mut report = Report::new(&device, seconds());
/// report.check_step(&device, seconds).await;
/// // Every operation follows with `report.check_operations`.
/// report.outcome()
/// # }) }
/// ```
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this library.
    pub version: &'static str,
    /// Name of the adapter.
    pub adapter: String,
    /// Driver and its version; empty where nobody tells, as in a browser.
    pub driver: String,
    /// Graphics API.
    pub backend: String,
    /// Whether it computes on the CPU.
    pub software: bool,
    /// What the library runs on: operating system and processor, or the browser's name of itself.
    pub platform: String,
    /// Seconds that opening the device took.
    pub open_seconds: f64,
    /// Seconds that the training step took.
    pub test_seconds: f64,
    /// Pipelines compiled.
    pub pipelines: u64,
    /// What the device offers.
    pub limits: Limits,
    /// Families of kernels that it can run.
    pub families: Vec<Family>,
    /// Whether other families than the direct one are ever chosen on it, by rule or by a table of measured times.
    pub beyond_direct: bool,
    /// Largest difference of a result that is right, as a share of its length.
    pub tolerance: f64,
    /// Whether a training step and its gradients are right, in the families that are chosen.
    #[serde(serialize_with = "words")]
    pub training_step: Result<()>,
    /// What came of each operation in each family that has kernels of its own for it; empty where that was not asked.
    pub operations: Vec<Checked>,
    /// What was computed when the device was lost, and the driver's words.
    pub lost: Option<String>,
}

/// A result as `null` or the error's words.
fn words<S: Serializer>(result: &Result<()>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    result.as_ref().err().map(Error::to_string).serialize(serializer)
}

/// Where a check of the operations is: before each of them, and after the last.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// What was found so far.
    pub report: &'a Report,
    /// Operations done.
    pub done: usize,
    /// The operation that comes next; `None`: there are no more.
    pub next: Option<&'static str>,
}

impl Report {
    /// What a device is; nothing has been computed on it. `opened`: seconds that opening it took.
    pub fn new(device: &Device, opened: f64) -> Report {
        let (info, traits) = (device.info(), device.traits());
        Report {
            version: env!("CARGO_PKG_VERSION"),
            adapter: info.name.clone(),
            driver: info.driver.clone(),
            backend: info.backend.clone(),
            software: info.software,
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            open_seconds: opened,
            test_seconds: 0.0,
            pipelines: 0,
            limits: Limits {
                workgroup_invocations: traits.invocations,
                workgroup_bytes: traits.workgroup_bytes,
                subgroup: traits.lanes,
                binding_bytes: device.max_binding(),
                f16: device.has_f16(),
            },
            families: Family::ALL.into_iter().filter(|family| family.runs_on(device)).collect(),
            beyond_direct: !Choices::of_device(device).is_direct(),
            tolerance: TOLERANCE,
            training_step: Err(Error::Gpu { detail: "self-test: the training step did not end".into() }),
            operations: Vec::new(),
            lost: None,
        }
    }

    /// Runs the training step; `seconds` is a clock.
    pub async fn check_step(&mut self, device: &Device, seconds: impl Fn() -> f64) {
        let start = seconds();
        self.training_step = device.self_test().await;
        // Whatever fails on a lost device fails because it is lost, and that some browsers tell late.
        let lost = match &self.training_step {
            Ok(()) => None,
            Err(Error::DeviceLost { reason }) => Some(reason.clone()),
            Err(_) => match device.idle().await {
                Err(Error::DeviceLost { reason }) => Some(reason),
                _ => None,
            },
        };
        self.lost = lost.map(|reason| format!("a training step: {reason}"));
        self.test_seconds = seconds() - start;
        self.pipelines = device.counters().pipelines;
    }

    /// Checks every operation, forward and backward, in every family that the device can run and that has kernels for it; `hear` is told
    /// of each before it comes. What is wrong is told in the report, not as an error: others are still checked. A device that is lost
    /// ends the check.
    ///
    /// # Errors
    /// [`Error::Aborted`] where `hear` says so.
    pub async fn check_operations(
        &mut self,
        device: &Device,
        mut hear: impl FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        if self.lost.is_some() {
            return Ok(());
        }
        let stored = stored()?;
        for (done, case) in CASES.iter().enumerate() {
            let next = Some(case.0);
            if hear(Progress { report: self, done, next }).is_break() {
                return Err(Error::Aborted);
            }
            let want = stored.get(case.0).map(Vec::as_slice).unwrap_or_default();
            let outcome = check_case(device, case, &self.families, want, &mut self.operations).await;
            self.pipelines = device.counters().pipelines;
            if let Err(Error::DeviceLost { reason }) = outcome {
                self.lost = Some(format!("{}: {reason}", case.0));
                return Ok(());
            }
            outcome?;
        }
        // It is over: who stops now has all that there is.
        let _ = hear(Progress { report: self, done: OPERATIONS, next: None });
        Ok(())
    }

    /// Whether all that was computed is right.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], what is wrong with the training step, or [`Error::Gpu`] with the operations that are wrong.
    pub fn outcome(self) -> Result<()> {
        if let Some(reason) = self.lost {
            return Err(Error::DeviceLost { reason });
        }
        self.training_step?;
        let mut wrong: Vec<&str> =
            self.operations.iter().filter(|one| one.wrong.is_some()).map(|one| one.name).collect();
        wrong.dedup();
        if wrong.is_empty() {
            return Ok(());
        }
        let detail = format!(
            "self-test: {} of {OPERATIONS} operations are wrong ({}); this driver computes wrongly",
            wrong.len(),
            wrong.join("; ")
        );
        Err(Error::Gpu { detail })
    }
}
