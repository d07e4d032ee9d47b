//! Opening or adopting a GPU device, its limits, counters and errors.

use super::adapter::{Traits, choose, no_adapter};
use super::matrices::{self, MatmulPrecision};
use super::pipelines::{Modules, Variant};
use super::program::Kernel;
use crate::error::{Error, Result};
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// What [`DeviceOptions::seconds_per_submit`] is on a GPU where it isn't given: a quarter of what Windows waits.
#[cfg(not(target_arch = "wasm32"))]
const SECONDS_PER_SUBMIT: f64 = 0.5;

/// How to open a device.
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    /// Part of the adapter's name to choose it by (case-insensitive); `None`: the fastest kind there is.
    pub adapter: Option<String>,
    /// Natively: which of several adapters that are as good, as GPUs of one machine; counted over again where there are fewer.
    pub number: usize,
    /// Largest storage binding the device is asked for, in bytes; 0: as large as the adapter has. What needs more is
    /// computed in smaller batches or refused.
    pub max_binding: u64,
    /// Natively: folder in which compiled pipelines are kept between runs, where the driver offers it.
    pub pipeline_cache: Option<std::path::PathBuf>,
    /// Dispatches per submission at most, so that a GPU that also draws a page is never held for long; 0: all at once.
    pub dispatches_per_submit: usize,
    /// Natively: seconds that a submission may take, by what dispatches took before, so that no system resets a GPU that is slow;
    /// 0: half a second on a GPU, no bound on software.
    pub seconds_per_submit: f64,
    /// Natively: what may happen to the factors of products, for speed.
    pub matmul_precision: MatmulPrecision,
}

/// What the device says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Name of the adapter.
    pub name: String,
    /// Driver and its version.
    pub driver: String,
    /// Graphics API.
    pub backend: String,
    /// Whether it computes on the CPU.
    pub software: bool,
}

/// Counts since the device was opened; tests use them to prove that a step allocates and reads nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Buffers created.
    pub buffers: u64,
    /// Bytes of the buffers created.
    pub buffer_bytes: u64,
    /// Buffers alive now.
    pub live_buffers: u64,
    /// Bytes of the buffers alive now.
    pub live_bytes: u64,
    /// Read-backs started.
    pub readbacks: u64,
    /// Pipelines compiled.
    pub pipelines: u64,
    /// Submissions.
    pub submits: u64,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub buffers: AtomicU64,
    pub buffer_bytes: AtomicU64,
    pub live_buffers: AtomicU64,
    pub live_bytes: AtomicU64,
    pub readbacks: AtomicU64,
    pub pipelines: AtomicU64,
    pub submits: AtomicU64,
}

pub(super) struct Shared {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub info: DeviceInfo,
    pub tally: Arc<Tally>,
    pub dispatches_per_submit: usize,
    #[cfg(not(target_arch = "wasm32"))]
    pub pace: super::pace::Pace,
    /// Most bytes of buffers.
    pub max_bytes: AtomicU64,
    traits: Traits,
    pub variant: Variant,
    attachments: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    failure: Arc<Mutex<Option<Failure>>>,
    pub modules: Modules,
    pub pipelines: Mutex<HashMap<Kernel, wgpu::ComputePipeline>>,
    #[cfg(not(target_arch = "wasm32"))]
    pub cache: Option<super::disk_cache::DiskCache>,
    /// `None`: the device is another's.
    #[cfg(not(target_arch = "wasm32"))]
    pub adapter: Option<wgpu::Adapter>,
    #[cfg(not(target_arch = "wasm32"))]
    pub warm_up: super::warm_up::WarmUp,
}

/// An error the device reported by itself.
#[derive(Clone, Debug)]
#[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "errors are caught in scopes there"))]
enum Failure {
    Lost(String),
    OutOfMemory,
    Other(String),
}

/// A GPU device with its compiled pipelines. Cheap to clone; clones share everything.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::gpu::{Device, DeviceOptions};
///
/// let device = Device::open(&DeviceOptions::default()).await?;
/// println!("{} through {}", device.info().name, device.info().backend);
/// // Memory is counted in bytes; it is zeroed, and free again when its last handle is gone.
/// let buffer = device.buffer("numbers", 16).await?;
/// device.write(&buffer, 4, bytemuck::cast_slice(&[1.5f32, -2.0]))?;
/// assert_eq!(device.read_f32(&buffer, 4).await?, [0.0, 1.5, -2.0, 0.0]);
/// drop(buffer);
/// assert_eq!(device.counters().live_bytes, 0);
/// # Ok(()) }) }
/// ```
#[derive(Clone)]
pub struct Device {
    pub(super) shared: Arc<Shared>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("info", &self.shared.info).finish_non_exhaustive()
    }
}

/// A poisoned lock only means that another thread panicked while it held plain data: the data are usable.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Device {
    /// Opens an adapter: by name where `options` give one, else the first of discrete GPU, integrated GPU, other,
    /// software.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] says what to install; [`Error::LimitTooSmall`] names the limit.
    pub async fn open(options: &DeviceOptions) -> Result<Device> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        Self::open_from(instance, options).await
    }

    /// As [`Device::open`] from an instance that the caller made.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub async fn open_from(instance: wgpu::Instance, options: &DeviceOptions) -> Result<Device> {
        let adapter = choose(&instance, options.adapter.as_deref(), options.number).await?;
        let have = adapter.limits();
        let most = have.max_storage_buffer_binding_size;
        let binding = if options.max_binding == 0 { most } else { options.max_binding };
        if binding > most {
            let limit = "maxStorageBufferBindingSize";
            return Err(Error::LimitTooSmall { limit, need: binding, have: most });
        }
        let mut limits = wgpu::Limits {
            max_storage_buffer_binding_size: binding,
            max_buffer_size: have.max_buffer_size,
            ..wgpu::Limits::default()
        };
        let groups = have.max_compute_invocations_per_workgroup;
        if groups < limits.max_compute_invocations_per_workgroup {
            return Err(Error::LimitTooSmall {
                limit: "maxComputeInvocationsPerWorkgroup",
                need: u64::from(limits.max_compute_invocations_per_workgroup),
                have: u64::from(groups),
            });
        }
        // Only compute is used: do not ask for what rendering alone would need.
        limits = limits.or_worse_values_from(&have);
        let mut wanted = wgpu::Features::PIPELINE_CACHE | wgpu::Features::TIMESTAMP_QUERY;
        // In a browser a shader would have to enable subgroups by a line that naga does not read; f16 is for training.
        if cfg!(not(target_arch = "wasm32")) {
            wanted |= wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16;
        }
        let (side, more, experimental_features) = matrices::wanted(&adapter, options.matmul_precision);
        wanted |= more;
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("duet"),
                required_features: adapter.features() & wanted,
                required_limits: limits,
                experimental_features,
                ..Default::default()
            })
            .await
            .map_err(no_adapter)?;
        Ok(Self::wrap(device, queue, adapter.get_info(), Some(adapter), side, options))
    }

    /// Uses a device that the caller owns. Its default limits suffice; it is never destroyed from here.
    pub fn adopt(device: wgpu::Device, queue: wgpu::Queue) -> Device {
        let info = device.adapter_info();
        Self::wrap(device, queue, info, None, None, &DeviceOptions::default())
    }

    fn wrap(
        device: wgpu::Device,
        queue: wgpu::Queue,
        info: wgpu::AdapterInfo,
        adapter: Option<wgpu::Adapter>,
        side: Option<u32>,
        options: &DeviceOptions,
    ) -> Device {
        #[cfg(target_arch = "wasm32")]
        drop(adapter);
        let failure = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&failure);
        // In a browser this would take the place of a handler that an embedder has set on a device of its own; every
        // call that can fail there is inside an error scope anyway.
        #[cfg(not(target_arch = "wasm32"))]
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let mut slot = lock(&slot);
            if slot.is_none() {
                *slot = Some(match error {
                    wgpu::Error::OutOfMemory { .. } => Failure::OutOfMemory,
                    other => Failure::Other(other.to_string()),
                });
            }
        }));
        #[cfg(target_arch = "wasm32")]
        drop(slot);
        let slot = Arc::clone(&failure);
        device.set_device_lost_callback(move |reason, message| {
            *lock(&slot) = Some(Failure::Lost(format!("{reason:?}: {message}")));
        });
        let traits = Traits::of(&device, &info, side.is_some());
        // On software a barrier is no wait, and a subgroup's sum no instruction.
        let subgroup_sums = !traits.software && device.features().contains(wgpu::Features::SUBGROUP);
        #[cfg(not(target_arch = "wasm32"))]
        let cache = options
            .pipeline_cache
            .as_deref()
            .and_then(|folder| super::disk_cache::DiskCache::open(&device, &info, folder));
        Device {
            shared: Arc::new(Shared {
                device,
                queue,
                info: DeviceInfo {
                    name: info.name.clone(),
                    driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
                    backend: info.backend.to_string(),
                    software: traits.software,
                },
                tally: Arc::default(),
                dispatches_per_submit: match options.dispatches_per_submit {
                    0 => usize::MAX,
                    some => some,
                },
                #[cfg(not(target_arch = "wasm32"))]
                pace: super::pace::Pace::new(match options.seconds_per_submit {
                    seconds if seconds > 0.0 => seconds,
                    _ if traits.software => f64::INFINITY,
                    _ => SECONDS_PER_SUBMIT,
                }),
                max_bytes: AtomicU64::new(u64::MAX),
                traits,
                variant: Variant { matrices_of_eight: side == Some(8), subgroup_sums },
                attachments: Mutex::default(),
                failure,
                modules: Mutex::default(),
                pipelines: Mutex::default(),
                #[cfg(not(target_arch = "wasm32"))]
                cache,
                #[cfg(not(target_arch = "wasm32"))]
                adapter,
                #[cfg(not(target_arch = "wasm32"))]
                warm_up: super::warm_up::WarmUp::default(),
            }),
        }
    }

    /// What the device says of itself.
    pub fn info(&self) -> &DeviceInfo {
        &self.shared.info
    }

    /// What its adapter is.
    pub fn traits(&self) -> Traits {
        self.shared.traits
    }

    /// Whether shaders may read and write f16 in buffers (`shader-f16`).
    pub fn has_f16(&self) -> bool {
        self.shared.device.features().contains(wgpu::Features::SHADER_F16)
    }

    /// What a layer above keeps beside the device, one value of each type; made at its first use.
    pub fn attached<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let known = lock(&self.shared.attachments).get(&TypeId::of::<T>()).cloned();
        if let Some(known) = known.and_then(|value| value.downcast().ok()) {
            return known;
        }
        self.attach(make())
    }

    /// Keeps a value beside the device, in place of the one of its type that is there.
    pub fn attach<T: Any + Send + Sync>(&self, value: T) -> Arc<T> {
        let value = Arc::new(value);
        let kept: Arc<dyn Any + Send + Sync> = Arc::clone(&value) as _;
        lock(&self.shared.attachments).insert(TypeId::of::<T>(), kept);
        value
    }

    /// Largest storage binding in bytes.
    pub fn max_binding(&self) -> u64 {
        self.shared.device.limits().max_storage_buffer_binding_size
    }

    /// Bounds what buffers may take together, in bytes, from now on: what would need more is refused with
    /// [`Error::OutOfMemory`], as where the device has no more. For programs that share a GPU with others.
    pub fn bound_memory(&self, bytes: u64) {
        self.shared.max_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Counts since the device was opened.
    pub fn counters(&self) -> Counters {
        let tally = &self.shared.tally;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            buffers: read(&tally.buffers),
            buffer_bytes: read(&tally.buffer_bytes),
            live_buffers: read(&tally.live_buffers),
            live_bytes: read(&tally.live_bytes),
            readbacks: read(&tally.readbacks),
            pipelines: read(&tally.pipelines),
            submits: read(&tally.submits),
        }
    }

    /// Reports an error the device raised by itself since the last call; a lost device stays lost.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::OutOfMemory`] or [`Error::Gpu`].
    pub fn check(&self) -> Result<()> {
        // Of a lost device everything is wrong; that it is lost is heard of at the next look at it.
        #[cfg(not(target_arch = "wasm32"))]
        if matches!(*lock(&self.shared.failure), Some(Failure::Other(_))) {
            let _ = self.shared.device.poll(wgpu::PollType::Poll);
        }
        let mut failure = lock(&self.shared.failure);
        match failure.clone() {
            None => Ok(()),
            Some(Failure::Lost(reason)) => Err(Error::DeviceLost { reason }),
            Some(Failure::OutOfMemory) => {
                *failure = None;
                // Which buffer it was is not said: what is alive did not fit.
                Err(Error::OutOfMemory { need: self.shared.tally.live_bytes.load(Ordering::Relaxed) })
            }
            Some(Failure::Other(detail)) => {
                *failure = None;
                Err(Error::Gpu { detail })
            }
        }
    }

    /// Fails where the device is known to be lost: nothing is asked of it any more, and a browser has nothing to complain of.
    pub(super) fn alive(&self) -> Result<()> {
        match &*lock(&self.shared.failure) {
            Some(Failure::Lost(reason)) => Err(Error::DeviceLost { reason: reason.clone() }),
            _ => Ok(()),
        }
    }

    /// Gives the device up on purpose: everything on it fails with [`Error::DeviceLost`] from now on.
    pub fn destroy(&self) {
        self.shared.device.destroy();
        // The callback that says so comes late.
        *lock(&self.shared.failure) = Some(Failure::Lost("it was given up".into()));
    }

    /// Waits until everything submitted has run (natively; a browser's queue cannot be waited for this way).
    pub fn wait(&self) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        self.shared
            .device
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|e| Error::DeviceLost { reason: e.to_string() })?;
        #[cfg(not(target_arch = "wasm32"))]
        self.shared.pace.idle();
        self.check()
    }

    /// Writes compiled pipelines to the folder given when the device was opened, where the driver offers it.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save_pipeline_cache(&self) {
        if let Some(cache) = &self.shared.cache {
            cache.save();
        }
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_reports_what_is_alive_not_what_ever_was() {
        let device = pollster::block_on(Device::open(&DeviceOptions::default())).unwrap();
        let kept = pollster::block_on(device.buffer("kept", 4096)).unwrap();
        for _ in 0..3 {
            drop(pollster::block_on(device.buffer("gone", 1 << 20)).unwrap());
        }
        *lock(&device.shared.failure) = Some(Failure::OutOfMemory);
        let error = device.check().unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { need: 4096 }), "{error}");
        device.check().unwrap();
        drop(kept);
    }
}
