//! Making a software driver compile a program's pipelines before it runs, on several cores.
//!
//! lavapipe compiles a pipeline at its first dispatch, on the thread of the device's only queue: what a program needs would be
//! compiled one after the other, on one core, in its first run. But what it compiled for one device it keeps in a shader cache
//! on disk, where it finds it for another. So the pipelines are dispatched without any workgroups, for which Mesa 25 compiles them
//! (22.3, which takes little time for it, does not): some by this device, and from the first that takes long the others by further
//! devices, each with a queue and a core of its own, whose work this device then finds in the cache. Where there is none, that shows
//! in the time that the first of them takes here, and this device goes on alone.

use super::device::{Device, lock};
use super::pipelines::{Modules, Variant, compiled};
use super::program::{Kernel, Program};
use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What takes longer is being compiled: what is in the cache takes less.
const COMPILES: Duration = Duration::from_millis(100);
/// Other devices at most: beyond them the longest pipeline decides.
const HELPERS: usize = 7;
/// Bytes that are bound in place of each buffer: no uniform is longer.
const BOUND: u64 = 64 << 10;

/// What of a device's pipelines its driver has compiled.
#[derive(Debug, Default)]
pub(super) struct WarmUp {
    compiled: Mutex<HashSet<Kernel>>,
    /// Whether the driver was seen to find nothing of what other devices compiled.
    no_cache: AtomicBool,
}

/// A kernel with its bindings.
type Cold<'a> = (&'a Kernel, usize);

/// A queue that dispatches pipelines without workgroups.
struct Dispatcher<'a> {
    device: &'a wgpu::Device,
    queue: &'a wgpu::Queue,
    buffers: Vec<wgpu::Buffer>,
}

impl Dispatcher<'_> {
    /// Dispatches no workgroups and waits; how long that took.
    fn dispatch(&mut self, pipeline: &wgpu::ComputePipeline, bindings: usize) -> Duration {
        let start = Instant::now();
        while self.buffers.len() < bindings {
            self.buffers.push(self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("warm-up"),
                size: BOUND,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM,
                mapped_at_creation: false,
            }));
        }
        let entries: Vec<wgpu::BindGroupEntry<'_>> = (0u32..)
            .zip(self.buffers.iter().take(bindings))
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let bind_group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("warm-up"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &bind_group, &[]);
        pass.dispatch_workgroups(0, 0, 0);
        drop(pass);
        self.queue.submit([encoder.finish()]);
        // A device that is lost is heard of by whoever uses it next.
        let _ = self.device.poll(wgpu::PollType::wait_indefinitely());
        start.elapsed()
    }
}

/// What a further device of the adapter is asked for: what this one has.
fn as_of(device: &wgpu::Device) -> wgpu::DeviceDescriptor<'static> {
    wgpu::DeviceDescriptor {
        label: Some("duet"),
        required_features: device.features(),
        required_limits: device.limits(),
        ..Default::default()
    }
}

/// What is left to compile, and what other devices have: places in the list, and how long each took.
struct Work<'a> {
    cold: Vec<Cold<'a>>,
    left: Mutex<VecDeque<usize>>,
    elsewhere: Mutex<Vec<(usize, Duration)>>,
    stop: AtomicBool,
}

impl Work<'_> {
    /// What another device does: it begins at the end of the list.
    fn help(&self, adapter: &wgpu::Adapter, descriptor: &wgpu::DeviceDescriptor<'_>, variant: Variant) {
        let Ok((device, queue)) = pollster::block_on(adapter.request_device(descriptor)) else {
            return;
        };
        // What is wrong with a pipeline the device says for which it is compiled.
        device.on_uncaptured_error(std::sync::Arc::new(|_| {}));
        let mut dispatcher = Dispatcher { device: &device, queue: &queue, buffers: Vec::new() };
        let modules = Modules::default();
        while !self.stop.load(Ordering::Relaxed) {
            let Some(place) = lock(&self.left).pop_back() else {
                return;
            };
            let (kernel, bindings) = self.cold[place];
            let pipeline = compiled(&device, &modules, kernel, variant, None);
            let took = dispatcher.dispatch(&pipeline, bindings);
            lock(&self.elsewhere).push((place, took));
        }
    }
}

impl Device {
    /// Has the driver compile what `program` needs, where it would do so only when that runs.
    pub(super) fn warm_up(&self, program: &Program) {
        let shared = &*self.shared;
        if !shared.info.software {
            return;
        }
        let mut seen = HashSet::new();
        let cold: Vec<Cold<'_>> = {
            let known = lock(&shared.warm_up.compiled);
            let launches = program.launches.iter().filter(|launch| !known.contains(&launch.kernel));
            launches
                .filter(|launch| seen.insert(&launch.kernel))
                .map(|launch| {
                    let uniform = usize::from(!launch.uniform.is_empty());
                    (&launch.kernel, launch.reads.len() + launch.writes.len() + uniform)
                })
                .collect()
        };
        if cold.is_empty() {
            return;
        }
        let work = Work {
            left: Mutex::new((0..cold.len()).collect()),
            cold,
            elsewhere: Mutex::default(),
            stop: AtomicBool::new(false),
        };
        let mut own = Dispatcher { device: &shared.device, queue: &shared.queue, buffers: Vec::new() };
        let mut here = |place: usize| {
            let (kernel, bindings) = work.cold[place];
            own.dispatch(&self.pipeline(kernel), bindings)
        };
        let descriptor = as_of(&shared.device);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let helpers = (cores - 1).min(HELPERS);
        std::thread::scope(|scope| {
            let (mut alone, mut tried) = (!shared.warm_up.no_cache.load(Ordering::Relaxed), false);
            while let Some(place) = { lock(&work.left).pop_front() } {
                let took = here(place);
                if let Some(adapter) = shared.adapter.as_ref().filter(|_| alone && took > COMPILES) {
                    alone = false;
                    for _ in 0..helpers.min(lock(&work.left).len()) {
                        scope.spawn(|| work.help(adapter, &descriptor, shared.variant));
                    }
                }
                let long = lock(&work.elsewhere).iter().copied().find(|(_, there)| *there > COMPILES);
                if let Some((place, there)) = long.filter(|_| !tried) {
                    tried = true;
                    let useless = here(place) > there / 2;
                    work.stop.store(useless, Ordering::Relaxed);
                    shared.warm_up.no_cache.store(useless, Ordering::Relaxed);
                }
            }
        });
        for (place, _) in work.elsewhere.into_inner().unwrap_or_default() {
            here(place);
        }
        lock(&shared.warm_up.compiled).extend(work.cold.iter().map(|(kernel, _)| (*kernel).clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{BufferId, BufferSpec, DeviceOptions, Launch, Slice};
    use pollster::block_on;

    const SOURCE: &str = "@group(0) @binding(0) var<storage, read_write> x: array<f32>;
        @compute @workgroup_size(1) fn one() { x[0] = 1.0; }
        @compute @workgroup_size(1) fn two() { x[1] = 2.0; }
        @compute @workgroup_size(1) fn three() { x[2] = 3.0; }";

    fn kernels() -> [Kernel; 3] {
        ["one", "two", "three"].map(|entry| Kernel {
            file: "numbers",
            source: SOURCE,
            entry,
            constants: Vec::new(),
            halves: Vec::new(),
        })
    }

    #[test]
    fn what_a_program_needs_is_compiled_once_and_does_not_run() {
        let device = block_on(Device::open(&DeviceOptions::default())).unwrap();
        let slice = Slice { buffer: BufferId(0), offset: 0, bytes: 16, half: false };
        let launches = kernels().map(|kernel| Launch {
            kernel,
            reads: Vec::new(),
            writes: vec![slice],
            uniform: Vec::new(),
            workgroups: [1; 3],
            multiply_adds: 0,
            spare: 0,
        });
        let buffers = vec![BufferSpec::Slot { bytes: 16 }];
        let program = Program { buffers, launches: launches.to_vec() };
        for _ in 0..2 {
            let loaded = block_on(device.load(&program, |_| None)).unwrap();
            if device.info().software {
                assert_eq!(lock(&device.shared.warm_up.compiled).len(), 3);
            }
            let read = || block_on(device.read_f32(loaded.buffer(BufferId(0)), 4)).unwrap();
            assert_eq!(read(), [0.0; 4]);
            loaded.run();
            assert_eq!(read(), [1.0, 2.0, 3.0, 0.0]);
            assert_eq!(device.counters().pipelines, 3);
        }
    }

    #[test]
    fn another_device_takes_what_is_left_from_the_end_until_it_is_stopped() {
        let device = block_on(Device::open(&DeviceOptions::default())).unwrap();
        let kernels = kernels();
        for stopped in [false, true] {
            let work = Work {
                cold: kernels.iter().map(|kernel| (kernel, 1)).collect(),
                left: Mutex::new((0..3).collect()),
                elsewhere: Mutex::default(),
                stop: AtomicBool::new(stopped),
            };
            let adapter = device.shared.adapter.as_ref().unwrap();
            work.help(adapter, &as_of(&device.shared.device), device.shared.variant);
            let done: Vec<usize> = lock(&work.elsewhere).iter().map(|(place, _)| *place).collect();
            assert_eq!(done, if stopped { vec![] } else { vec![2, 1, 0] });
            assert_eq!(lock(&work.left).len(), if stopped { 3 } else { 0 });
        }
        device.check().unwrap();
    }
}
