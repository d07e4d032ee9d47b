//! The only place that knows the GPU API: device, limits, pipeline cache, buffers, submit, read back.
#![cfg_attr(
    target_arch = "wasm32",
    allow(
        clippy::arc_with_non_send_sync,
        reason = "a browser has one thread; natively the same types are shared"
    )
)]

mod adapter;
mod device;
#[cfg(not(target_arch = "wasm32"))]
mod disk_cache;
mod executable;
mod matrices;
#[cfg(not(target_arch = "wasm32"))]
mod pace;
mod pipelines;
mod profile;
mod program;
mod readback;
mod subgroup_sums;
#[cfg(not(target_arch = "wasm32"))]
mod warm_up;

pub use adapter::Traits;
pub use device::{Counters, Device, DeviceInfo, DeviceOptions};
pub use executable::{Buffer, Cut, Executable, Run, Transfer};
pub use matrices::{MatmulPrecision, with_matrices_of_eight};
pub use program::{BufferId, BufferSpec, Kernel, Launch, Program, Slice, spread};
pub use readback::{Mark, Staging};
pub use subgroup_sums::with_subgroup_sums;
