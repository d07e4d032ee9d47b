//! Which adapter a device is of, and what it is.

use crate::error::{Error, Result};

/// What an adapter is, as far as the choice of kernels depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// Whether it computes on the CPU.
    pub software: bool,
    /// Invocations of a workgroup at most.
    pub invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Invocations of every subgroup; 0: there is no one number, or shaders may not use subgroups.
    pub lanes: u32,
    /// Whether shaders may have subgroups multiply matrices of f16 with sums of f32: they can, and
    /// [`super::DeviceOptions::matmul_precision`] allows it.
    pub matrices: bool,
}

impl Traits {
    /// What a device's adapter is; whether it has `matrices` was found out when it was opened.
    pub(super) fn of(device: &wgpu::Device, info: &wgpu::AdapterInfo, matrices: bool) -> Traits {
        let limits = device.limits();
        Traits {
            software: info.device_type == wgpu::DeviceType::Cpu,
            invocations: limits.max_compute_invocations_per_workgroup,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            lanes: lanes(device, info),
            matrices,
        }
    }
}

/// Size of the subgroups that shaders may use; 0 where it is not one number.
fn lanes(device: &wgpu::Device, adapter: &wgpu::AdapterInfo) -> u32 {
    let usable = device.features().contains(wgpu::Features::SUBGROUP);
    let fixed = adapter.subgroup_min_size == adapter.subgroup_max_size;
    if usable && fixed { adapter.subgroup_max_size } else { 0 }
}

/// That there is none, and what to do.
pub(super) fn no_adapter(reason: impl std::fmt::Display) -> Error {
    let hint = if cfg!(target_arch = "wasm32") {
        "this browser offers no WebGPU adapter; see https://webgpureport.org"
    } else if cfg!(target_os = "linux") {
        "install a Vulkan driver: on Debian and Ubuntu `apt-get install mesa-vulkan-drivers libvulkan1` gives one \
         for AMD and Intel GPUs and a software driver for machines without a GPU"
    } else {
        "install the vendor's current graphics driver"
    };
    Error::NoAdapter { reason: format!("{reason}; {hint}") }
}

/// The adapter whose name has `name` in it, of several that are as good the one of `number`; else the first of discrete GPU, integrated
/// GPU, other, software.
///
/// # Errors
/// [`Error::NoAdapter`], which says what to install or what there is.
pub(super) async fn choose(
    instance: &wgpu::Instance,
    name: Option<&str>,
    number: usize,
) -> Result<wgpu::Adapter> {
    #[cfg(not(target_arch = "wasm32"))]
    {
        let mut adapters = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
        if let Some(name) = name {
            let wanted = name.to_lowercase();
            let names: Vec<String> = adapters.iter().map(|a| a.get_info().name).collect();
            adapters.retain(|a| a.get_info().name.to_lowercase().contains(&wanted));
            if adapters.is_empty() && !names.is_empty() {
                let reason = format!("no adapter's name contains {name:?}; there are: {}", names.join(", "));
                return Err(Error::NoAdapter { reason });
            }
        }
        adapters.sort_by_key(|a| match a.get_info().device_type {
            wgpu::DeviceType::DiscreteGpu => 0,
            wgpu::DeviceType::IntegratedGpu => 1,
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        });
        // The same GPU may be there once more through another graphics API.
        let kind = |adapter: &wgpu::Adapter| (adapter.get_info().device_type, adapter.get_info().backend);
        let best = adapters.first().map(kind);
        adapters.retain(|adapter| Some(kind(adapter)) == best);
        let number = number % adapters.len().max(1);
        adapters.into_iter().nth(number).ok_or_else(|| no_adapter("none found"))
    }
    #[cfg(target_arch = "wasm32")]
    {
        let _ = (name, number);
        instance
            .request_adapter(&wgpu::RequestAdapterOptions {
                power_preference: wgpu::PowerPreference::HighPerformance,
                ..Default::default()
            })
            .await
            .map_err(no_adapter)
    }
}
