//! Compiled pipelines, made once each, natively on all cores.

use super::device::{Device, lock};
use super::matrices::with_matrices_of_eight;
use super::program::{Kernel, Program};
use super::subgroup_sums::with_subgroup_sums;
use std::collections::HashMap;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};

/// Which texts of shaders a device gets.
#[derive(Clone, Copy)]
pub(super) struct Variant {
    /// Matrices that subgroups multiply are 8 × 8, not 16 × 16.
    pub matrices_of_eight: bool,
    /// Subgroups add what a workgroup joins.
    pub subgroup_sums: bool,
}

/// Shader modules by their file and what of it is f16. Each is made once, by whoever needs it first.
pub(super) type Modules =
    Mutex<HashMap<(&'static str, Vec<&'static str>), Arc<OnceLock<wgpu::ShaderModule>>>>;

impl Device {
    /// Compiles the pipelines of `program` that do not exist yet, several at a time, without allocating anything. In a browser
    /// the GPU process does so by itself, and this is no more than asking for them early.
    pub fn compile(&self, program: &Program) {
        if self.alive().is_err() {
            return;
        }
        let missing: Vec<&Kernel> = {
            let known = lock(&self.shared.pipelines);
            program.kernels().into_iter().filter(|kernel| !known.contains_key(*kernel)).collect()
        };
        #[cfg(target_arch = "wasm32")]
        for kernel in missing {
            self.pipeline(kernel);
        }
        #[cfg(not(target_arch = "wasm32"))]
        {
            let next = AtomicUsize::new(0);
            let work = || {
                while let Some(kernel) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    self.pipeline(kernel);
                }
            };
            let threads = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
            std::thread::scope(|scope| {
                for _ in 1..threads {
                    scope.spawn(work);
                }
                work();
            });
        }
    }

    /// The compiled pipeline of `kernel`, made at its first use.
    pub(super) fn pipeline(&self, kernel: &Kernel) -> wgpu::ComputePipeline {
        let shared = &*self.shared;
        if let Some(pipeline) = lock(&shared.pipelines).get(kernel) {
            return pipeline.clone();
        }
        #[cfg(not(target_arch = "wasm32"))]
        let cache = shared.cache.as_ref().map(|cache| &cache.cache);
        #[cfg(target_arch = "wasm32")]
        let cache = None;
        let pipeline = compiled(&shared.device, &shared.modules, kernel, shared.variant, cache);
        shared.tally.pipelines.fetch_add(1, Ordering::Relaxed);
        lock(&shared.pipelines).insert(kernel.clone(), pipeline.clone());
        pipeline
    }
}

/// `kernel` as a pipeline of `device`, which gets such texts and whose modules are kept in `modules`.
pub(super) fn compiled(
    device: &wgpu::Device,
    modules: &Modules,
    kernel: &Kernel,
    variant: Variant,
    cache: Option<&wgpu::PipelineCache>,
) -> wgpu::ComputePipeline {
    let place = Arc::clone(lock(modules).entry((kernel.file, kernel.halves.clone())).or_default());
    let module = place.get_or_init(|| {
        let program = kernel.program();
        let source = match variant {
            Variant { matrices_of_eight: true, .. } if program.contains("coop_mat") => {
                with_matrices_of_eight(&program).into_owned().into()
            }
            Variant { subgroup_sums: true, .. } => with_subgroup_sums(&program).into_owned().into(),
            _ => program,
        };
        device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(kernel.file),
            source: wgpu::ShaderSource::Wgsl(source),
        })
    });
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(&kernel.to_string()),
        layout: None,
        module,
        entry_point: Some(kernel.entry),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &kernel.constants,
            // Kernels write every element of workgroup memory before they read it.
            zero_initialize_workgroup_memory: false,
        },
        cache,
    })
}
