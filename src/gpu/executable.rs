//! A program loaded onto a device: buffers allocated, pipelines compiled, bind groups made. Running it only records
//! and submits.

use super::device::{Device, Tally};
use super::program::{BufferSpec, Program, Slice};
use super::readback::Mark;
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Uniform offsets are multiples of this (WebGPU's `minUniformBufferOffsetAlignment`).
const UNIFORM_ALIGNMENT: usize = 256;

/// A storage buffer on a device. Cheap to clone; clones are the same memory.
#[derive(Clone, Debug)]
pub struct Buffer {
    pub(super) inner: Arc<Memory>,
}

/// What all clones of a buffer share; the last one frees the memory.
#[derive(Debug)]
pub(super) struct Memory {
    pub buffer: wgpu::Buffer,
    tally: Arc<Tally>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A browser would free it only when its garbage collector comes by, which knows nothing of GPU memory.
        self.buffer.destroy();
        self.tally.live_buffers.fetch_sub(1, Ordering::Relaxed);
        self.tally.live_bytes.fetch_sub(self.buffer.size(), Ordering::Relaxed);
    }
}

impl Buffer {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.inner.buffer.size()
    }
}

/// A copy of bytes between two buffers on the device; offsets and length are multiples of 4.
#[derive(Clone, Copy, Debug)]
pub struct Transfer<'a> {
    /// Where they are, and the first.
    pub from: (&'a Buffer, u64),
    /// Where they go.
    pub to: (&'a Buffer, u64),
    /// How many.
    pub bytes: u64,
}

impl Transfer<'_> {
    /// All of `from` that fits to the beginning of `to`.
    pub fn whole<'a>(from: &'a Buffer, to: &'a Buffer) -> Transfer<'a> {
        Transfer { from: (from, 0), to: (to, 0), bytes: from.bytes().min(to.bytes()) }
    }

    fn check(transfers: &[Transfer<'_>]) -> Result<()> {
        for Transfer { from, to, bytes } in transfers {
            for (buffer, offset) in [from, to] {
                let fits = offset.checked_add(*bytes).is_some_and(|end| end <= buffer.bytes());
                if !fits || !offset.is_multiple_of(4) || !bytes.is_multiple_of(4) {
                    let detail = format!("{bytes} bytes at {offset} of {}", buffer.bytes());
                    return Err(Error::shape("copy", detail));
                }
            }
            if Arc::ptr_eq(&from.0.inner, &to.0.inner) {
                return Err(Error::shape("copy", "a buffer into itself"));
            }
        }
        Ok(())
    }

    fn record(transfers: &[Transfer<'_>], encoder: &mut wgpu::CommandEncoder) {
        for Transfer { from, to, bytes } in transfers {
            let (source, target) = (&from.0.inner.buffer, &to.0.inner.buffer);
            encoder.copy_buffer_to_buffer(source, from.1, target, to.1, *bytes);
        }
    }
}

impl Device {
    /// Allocates a zeroed storage buffer of at least `bytes` bytes (rounded up to 16).
    ///
    /// # Errors
    /// [`Error::LimitTooSmall`] where one binding cannot be that large, [`Error::OutOfMemory`].
    pub async fn buffer(&self, label: &str, bytes: u64) -> Result<Buffer> {
        let bytes = bytes.max(16).next_multiple_of(16);
        let limit = self.max_binding();
        if bytes > limit {
            let limit_name = "maxStorageBufferBindingSize";
            return Err(Error::LimitTooSmall { limit: limit_name, need: bytes, have: limit });
        }
        self.storage(label, bytes).await
    }

    /// A storage buffer that is bound in parts: it may be larger than one binding.
    async fn storage(&self, label: &str, bytes: u64) -> Result<Buffer> {
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        self.allocate(label, bytes, usage | wgpu::BufferUsages::STORAGE).await
    }

    /// A counted buffer of at least `bytes` bytes (rounded up to 16).
    ///
    /// # Errors
    /// [`Error::LimitTooSmall`] where no buffer can be that large, [`Error::OutOfMemory`].
    pub(super) async fn allocate(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<Buffer> {
        let size = bytes.max(16).next_multiple_of(16);
        let shared = &*self.shared;
        let have = shared.device.limits().max_buffer_size;
        if size > have {
            return Err(Error::LimitTooSmall { limit: "maxBufferSize", need: size, have });
        }
        let together = shared.tally.live_bytes.load(Ordering::Relaxed).saturating_add(size);
        if together > shared.max_bytes.load(Ordering::Relaxed) {
            return Err(Error::OutOfMemory { need: together });
        }
        let scope = shared.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let descriptor =
            wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        let inner = shared.device.create_buffer(&descriptor);
        if scope.pop().await.is_some() {
            return Err(self.no_memory(together).await);
        }
        Ok(self.counted(inner))
    }

    /// A buffer whose memory is counted and freed with its last clone.
    fn counted(&self, buffer: wgpu::Buffer) -> Buffer {
        let tally = Arc::clone(&self.shared.tally);
        for counter in [&tally.buffers, &tally.live_buffers] {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        for counter in [&tally.buffer_bytes, &tally.live_bytes] {
            counter.fetch_add(buffer.size(), Ordering::Relaxed);
        }
        Buffer { inner: Arc::new(Memory { buffer, tally }) }
    }

    /// Writes `data` (a multiple of 4 bytes) into `buffer` from `offset`, before whatever is submitted next.
    ///
    /// # Errors
    /// [`Error::Shape`] where the range does not fit.
    pub fn write(&self, buffer: &Buffer, offset: u64, data: &[u8]) -> Result<()> {
        let fits = offset.checked_add(data.len() as u64).is_some_and(|end| end <= buffer.bytes());
        if !fits || !data.len().is_multiple_of(4) || !offset.is_multiple_of(4) {
            let detail = format!("{} bytes at {offset} into {} bytes", data.len(), buffer.bytes());
            return Err(Error::shape("write", detail));
        }
        self.shared.queue.write_buffer(&buffer.inner.buffer, offset, data);
        Ok(())
    }

    /// Copies between buffers on the device, one after the other.
    ///
    /// # Errors
    /// [`Error::Shape`] where a range does not fit.
    pub fn copy(&self, transfers: &[Transfer<'_>]) -> Result<()> {
        Transfer::check(transfers)?;
        let mut encoder = self.encoder();
        Transfer::record(transfers, &mut encoder);
        self.submit(encoder);
        Ok(())
    }

    pub(super) fn encoder(&self) -> wgpu::CommandEncoder {
        self.shared.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    pub(super) fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        self.shared.tally.submits.fetch_add(1, Ordering::Relaxed);
        self.shared.queue.submit([encoder.finish()])
    }

    /// Loads `program`: `external` gives the buffer of each external name.
    ///
    /// # Errors
    /// [`Error::Shape`] for a missing or too small external buffer, [`Error::OutOfMemory`], [`Error::LimitTooSmall`],
    /// [`Error::Gpu`] where a shader is refused, [`Error::DeviceLost`].
    pub async fn load(
        &self,
        program: &Program,
        external: impl Fn(&str) -> Option<Buffer>,
    ) -> Result<Executable> {
        self.alive()?;
        let mut buffers = Vec::with_capacity(program.buffers.len());
        for (index, spec) in program.buffers.iter().enumerate() {
            buffers.push(match spec {
                BufferSpec::Slot { bytes } => self.storage(&format!("slot {index}"), *bytes).await?,
                BufferSpec::External { name, bytes } => {
                    let buffer = external(name)
                        .ok_or_else(|| Error::shape("load", format!("no buffer is given for {name:?}")))?;
                    if buffer.bytes() < *bytes {
                        let detail = format!("{name:?} needs {bytes} bytes, has {}", buffer.bytes());
                        return Err(Error::shape("load", detail));
                    }
                    buffer
                }
            });
        }
        let uniforms = self.upload_uniforms(program).await?;
        // What other threads find wrong with a shader is not in this one's scope, but known to the device.
        #[cfg(not(target_arch = "wasm32"))]
        {
            self.compile(program);
            self.check()?;
            self.warm_up(program);
        }
        let scope = self.shared.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let mut steps = Vec::with_capacity(program.launches.len());
        let mut offset = 0u64;
        for launch in &program.launches {
            let pipeline = self.pipeline(&launch.kernel);
            let binding = |slice: &Slice| {
                wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &buffers[slice.buffer.0 as usize].inner.buffer,
                    offset: slice.offset,
                    size: std::num::NonZeroU64::new(slice.bytes),
                })
            };
            let mut entries: Vec<wgpu::BindGroupEntry<'_>> = launch
                .reads
                .iter()
                .chain(&launch.writes)
                .enumerate()
                .map(|(i, slice)| wgpu::BindGroupEntry { binding: i as u32, resource: binding(slice) })
                .collect();
            if !launch.uniform.is_empty() {
                entries.push(wgpu::BindGroupEntry {
                    binding: entries.len() as u32,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer: &uniforms.inner.buffer,
                        offset,
                        size: std::num::NonZeroU64::new(launch.uniform.len() as u64),
                    }),
                });
                offset += launch.uniform.len().next_multiple_of(UNIFORM_ALIGNMENT) as u64;
            }
            let bind_group = self.shared.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(launch.kernel.entry),
                layout: &pipeline.get_bind_group_layout(0),
                entries: &entries,
            });
            steps.push(Step { pipeline, bind_group, workgroups: launch.workgroups });
        }
        if let Some(error) = scope.pop().await {
            return Err(Error::Gpu { detail: error.to_string() });
        }
        self.check()?;
        Ok(Executable { device: self.clone(), steps, buffers, _uniforms: uniforms })
    }

    async fn upload_uniforms(&self, program: &Program) -> Result<Buffer> {
        let mut data = Vec::new();
        for launch in &program.launches {
            data.extend_from_slice(&launch.uniform);
            data.resize(data.len().next_multiple_of(UNIFORM_ALIGNMENT), 0);
        }
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let bytes = data.len().max(UNIFORM_ALIGNMENT) as u64;
        let buffer = self.allocate("uniforms", bytes, usage).await?;
        self.write(&buffer, 0, &data)?;
        Ok(buffer)
    }
}

pub(super) struct Step {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 3],
}

impl Step {
    pub(super) fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        let [x, y, z] = self.workgroups;
        pass.dispatch_workgroups(x, y, z);
    }
}

/// A loaded program.
pub struct Executable {
    device: Device,
    pub(super) steps: Vec<Step>,
    buffers: Vec<Buffer>,
    /// Bound by the steps; kept so that it is freed with them.
    _uniforms: Buffer,
}

impl std::fmt::Debug for Executable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executable").field("dispatches", &self.steps.len()).finish_non_exhaustive()
    }
}

/// One run of a program, with copies before and after it.
pub struct Run<'a> {
    /// The program.
    pub executable: &'a Executable,
    /// Copies before it.
    pub before: Vec<Transfer<'a>>,
    /// Copies after it.
    pub after: Vec<Transfer<'a>>,
}

impl Device {
    /// Records runs one after the other and submits them at once, or in parts where
    /// [`super::DeviceOptions::dispatches_per_submit`] or `seconds_per_submit` ask for it. The mark is reached when all of them have run.
    ///
    /// # Errors
    /// As [`Device::copy`].
    pub fn run_all(&self, runs: &[Run<'_>]) -> Result<Mark> {
        for run in runs {
            Transfer::check(&run.before)?;
            Transfer::check(&run.after)?;
        }
        Ok(self.mark(self.submit_all(runs)))
    }

    fn submit_all(&self, runs: &[Run<'_>]) -> wgpu::SubmissionIndex {
        let mut recording = Recording::new(self);
        for Run { executable, before, after } in runs {
            Transfer::record(before, &mut recording.encoder);
            recording.steps(&executable.steps);
            Transfer::record(after, &mut recording.encoder);
        }
        recording.submit()
    }

    /// Dispatches of the next submission at most.
    fn dispatches_at_once(&self) -> usize {
        #[cfg(not(target_arch = "wasm32"))]
        return self.shared.dispatches_per_submit.min(self.shared.pace.limit());
        #[cfg(target_arch = "wasm32")]
        self.shared.dispatches_per_submit
    }

    fn submit_dispatches(&self, encoder: wgpu::CommandEncoder, dispatches: usize) -> wgpu::SubmissionIndex {
        #[cfg(not(target_arch = "wasm32"))]
        self.shared.pace.submitted(dispatches);
        #[cfg(target_arch = "wasm32")]
        let _ = dispatches;
        self.submit(encoder)
    }
}

/// Commands on their way to a submission.
struct Recording<'d> {
    device: &'d Device,
    encoder: wgpu::CommandEncoder,
    /// Dispatches since the last submission, and how many one may hold.
    recorded: usize,
    limit: usize,
}

impl<'d> Recording<'d> {
    fn new(device: &'d Device) -> Recording<'d> {
        Recording { device, encoder: device.encoder(), recorded: 0, limit: device.dispatches_at_once() }
    }

    fn steps(&mut self, steps: &[Step]) {
        for part in steps.chunks(self.limit) {
            if self.recorded > 0 && self.recorded.saturating_add(part.len()) > self.limit {
                self.submit();
            }
            self.recorded = self.recorded.saturating_add(part.len());
            let mut pass = self.encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for step in part {
                step.record(&mut pass);
            }
        }
    }

    fn submit(&mut self) -> wgpu::SubmissionIndex {
        let encoder = std::mem::replace(&mut self.encoder, self.device.encoder());
        self.device.submit_dispatches(encoder, std::mem::take(&mut self.recorded))
    }
}

/// A place between two launches of a program at which its results so far are copied.
pub struct Cut<'a> {
    /// Launches before it.
    pub after: usize,
    /// What is copied there, one after the other.
    pub copies: Vec<Transfer<'a>>,
    /// Whether what is recorded up to there is submitted, so that it can be waited for while the rest runs.
    pub marks: bool,
}

impl Executable {
    /// One run with copies at `cuts`, in the order of their places; everything is submitted before this returns. The marks of
    /// those that ask for one are reached when what stands before them has run.
    ///
    /// # Errors
    /// As [`Device::copy`].
    pub fn run_in_parts(&self, cuts: &[Cut<'_>]) -> Result<Vec<Mark>> {
        cuts.iter().try_for_each(|cut| Transfer::check(&cut.copies))?;
        let mut recording = Recording::new(&self.device);
        let (mut done, mut marks) = (0, Vec::new());
        for cut in cuts {
            let until = cut.after.clamp(done, self.steps.len());
            recording.steps(&self.steps[done..until]);
            done = until;
            Transfer::record(&cut.copies, &mut recording.encoder);
            if cut.marks {
                marks.push(self.device.mark(recording.submit()));
            }
        }
        recording.steps(&self.steps[done..]);
        recording.submit();
        Ok(marks)
    }

    /// Records and submits one run, in parts where [`super::DeviceOptions::dispatches_per_submit`] asks for it. Nothing
    /// is allocated and nothing is read back.
    pub fn run(&self) {
        self.device.submit_all(&[Run { executable: self, before: Vec::new(), after: Vec::new() }]);
    }

    /// Runs the program once, launch by launch, and gives the seconds that each took from being handed over to its end. Where a
    /// driver compiles a pipeline at its first dispatch, as software drivers do, that is in it.
    ///
    /// # Errors
    /// Device errors.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run_each(&self) -> Result<Vec<f64>> {
        let timed = |step: &Step| {
            let mut encoder = self.device.encoder();
            step.record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
            let start = std::time::Instant::now();
            self.device.submit(encoder);
            self.device.wait()?;
            Ok(start.elapsed().as_secs_f64())
        };
        self.steps.iter().map(timed).collect()
    }

    /// As [`Executable::run`] with copies before and after, in the same submissions. The mark is reached when all of it
    /// has run.
    ///
    /// # Errors
    /// As [`Device::copy`].
    pub fn run_between(&self, before: &[Transfer<'_>], after: &[Transfer<'_>]) -> Result<Mark> {
        self.device.run_all(&[Run { executable: self, before: before.to_vec(), after: after.to_vec() }])
    }

    /// The buffer behind a program's [`super::BufferId`].
    pub fn buffer(&self, id: super::BufferId) -> &Buffer {
        &self.buffers[id.0 as usize]
    }

    /// The device it is loaded on.
    pub fn device(&self) -> &Device {
        &self.device
    }
}
