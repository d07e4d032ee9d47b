//! Asynchronous read-back: a future that works natively (polling the device) and in a browser (its event loop).

use super::device::{Device, lock};
use super::executable::{Buffer, Transfer};
use crate::error::{Error, Result};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

#[derive(Debug, Default)]
struct Arrival {
    result: Option<std::result::Result<(), wgpu::BufferAsyncError>>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Mapped(Arc<Mutex<Arrival>>);

impl Future for Mapped {
    type Output = std::result::Result<(), wgpu::BufferAsyncError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut arrival = lock(&self.0);
        match arrival.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                arrival.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Mapped {
    /// A future, and what resolves it.
    fn new() -> (Mapped, impl FnOnce(std::result::Result<(), wgpu::BufferAsyncError>) + Send + 'static) {
        let arrival = Arc::new(Mutex::new(Arrival::default()));
        let sender = Arc::clone(&arrival);
        let arrive = move |result| {
            let mut arrival = lock(&sender);
            arrival.result = Some(result);
            if let Some(waker) = arrival.waker.take() {
                waker.wake();
            }
        };
        (Mapped(arrival), arrive)
    }
}

/// A place in the stream of what was submitted.
#[derive(Debug)]
pub struct Mark {
    #[cfg(not(target_arch = "wasm32"))]
    submission: wgpu::SubmissionIndex,
    #[cfg(target_arch = "wasm32")]
    arrival: Mapped,
}

/// Memory that results are read through, made once: reading allocates nothing on the device.
#[derive(Debug)]
pub struct Staging {
    device: Device,
    buffer: Buffer,
    busy: AtomicBool,
}

/// A read-back under way: however it ends, the memory can be copied to again.
struct Reading<'a> {
    staging: &'a wgpu::Buffer,
    busy: &'a AtomicBool,
    mapped: bool,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if self.mapped {
            self.staging.unmap();
        }
        self.busy.store(false, Ordering::Release);
    }
}

impl Staging {
    /// Bytes it holds.
    pub fn bytes(&self) -> u64 {
        self.buffer.bytes()
    }

    /// As [`Staging::read`], each part as numbers.
    ///
    /// # Errors
    /// As there.
    pub async fn read_parts<const N: usize>(&self, parts: [(&Buffer, u64, u64); N]) -> Result<[Vec<f32>; N]> {
        let data: Vec<f32> = bytemuck::pod_collect_to_vec(&self.read(&parts).await?);
        let mut rest = data.as_slice();
        Ok(parts.map(|(_, _, bytes)| {
            let (part, behind) = rest.split_at_checked((bytes / 4) as usize).unwrap_or((rest, &[]));
            rest = behind;
            part.to_vec()
        }))
    }

    /// Reads parts of buffers (first byte and length, multiples of 4) one after the other, after everything submitted so
    /// far: one read-back, however many parts.
    ///
    /// # Errors
    /// [`Error::Shape`] where they do not fit; [`Error::Gpu`] while another read of this memory is under way;
    /// [`Error::DeviceLost`] and whatever the device reported by itself; [`Error::OutOfMemory`] where there was no memory
    /// to read through.
    pub async fn read(&self, parts: &[(&Buffer, u64, u64)]) -> Result<Vec<u8>> {
        let mut reading = self.begin()?;
        let mut transfers = Vec::with_capacity(parts.len());
        let mut total = 0u64;
        for (buffer, offset, bytes) in parts {
            transfers.push(self.copy_of((buffer, *offset), total, *bytes));
            total = total.saturating_add(*bytes);
        }
        self.device.copy(&transfers)?;
        self.collect(&mut reading, total, None).await
    }

    /// The copy of bytes of a buffer, from the given one, to this memory from `at` on; [`Staging::fetch`] reads them.
    pub fn copy_of<'a>(&'a self, from: (&'a Buffer, u64), at: u64, bytes: u64) -> Transfer<'a> {
        Transfer { from, to: (&self.buffer, at), bytes }
    }

    /// Reads the first `bytes` bytes of what was copied here before `mark`, as soon as that is reached: what was submitted behind
    /// it may still run.
    ///
    /// # Errors
    /// As [`Staging::read`].
    pub async fn fetch(&self, mark: Mark, bytes: u64) -> Result<Vec<u8>> {
        let mut reading = self.begin()?;
        self.collect(&mut reading, bytes, Some(mark)).await
    }

    fn begin(&self) -> Result<Reading<'_>> {
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(Error::Gpu { detail: "two reads at once through the same memory".into() });
        }
        Ok(Reading { staging: &self.buffer.inner.buffer, busy: &self.busy, mapped: false })
    }

    /// The first `total` bytes, after `mark`, or after everything submitted so far.
    async fn collect(&self, reading: &mut Reading<'_>, total: u64, mark: Option<Mark>) -> Result<Vec<u8>> {
        let (device, staging) = (&self.device, reading.staging);
        device.shared.tally.readbacks.fetch_add(1, Ordering::Relaxed);
        if total == 0 {
            return Ok(Vec::new());
        }
        let (arrival, arrive) = Mapped::new();
        reading.mapped = true;
        staging.map_async(wgpu::MapMode::Read, ..total, arrive);
        match mark {
            Some(mark) => device.reached(mark).await?,
            None => device.wait()?,
        }
        let mapped = arrival.await;
        if mapped.is_err() {
            reading.mapped = false;
            return Err(device.no_memory(self.bytes()).await);
        }
        device.check()?;
        let view = staging
            .get_mapped_range(..total)
            .map_err(|e| Error::Gpu { detail: format!("read-back: {e}") })?;
        let data = view.to_vec();
        drop(view);
        Ok(data)
    }
}

impl Device {
    /// Resolves when everything submitted so far has run.
    ///
    /// # Errors
    /// Whatever the device reported by itself.
    pub async fn idle(&self) -> Result<()> {
        #[cfg(target_arch = "wasm32")]
        self.submitted().await.ok();
        self.wait()
    }

    #[cfg(target_arch = "wasm32")]
    fn submitted(&self) -> Mapped {
        let (arrival, arrive) = Mapped::new();
        self.shared.queue.on_submitted_work_done(move || arrive(Ok(())));
        arrival
    }

    /// Why memory of `bytes` bytes could not be had, or mapped to read through (some browsers find out only there that they have
    /// none), on a device that had nothing else to say.
    pub(super) async fn no_memory(&self, bytes: u64) -> Error {
        // A lost device ends what waits for it before it tells of its loss; an answer of any kind comes after both. Firefox
        // answers a scope of a lost device by itself, before it tells, and calls it out of memory: there the queue's answer is one.
        #[cfg(target_arch = "wasm32")]
        {
            self.shared.device.push_error_scope(wgpu::ErrorFilter::Validation).pop().await;
            self.submitted().await.ok();
        }
        self.check().err().unwrap_or(Error::OutOfMemory { need: bytes })
    }

    /// The mark of a submission just made.
    pub(super) fn mark(&self, submission: wgpu::SubmissionIndex) -> Mark {
        #[cfg(not(target_arch = "wasm32"))]
        return Mark { submission };
        #[cfg(target_arch = "wasm32")]
        {
            let _ = submission;
            Mark { arrival: self.submitted() }
        }
    }

    /// Resolves when everything up to `mark` has run; what was submitted after it may still run.
    ///
    /// # Errors
    /// Whatever the device reported by itself.
    pub async fn reached(&self, mark: Mark) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        self.shared
            .device
            .poll(wgpu::PollType::Wait { submission_index: Some(mark.submission), timeout: None })
            .map_err(|e| Error::DeviceLost { reason: e.to_string() })?;
        #[cfg(target_arch = "wasm32")]
        mark.arrival.await.ok();
        self.check()
    }

    /// Runs of a plan that may wait in the queue behind the one that runs: enough that the device never idles, few enough
    /// that a caller who stops is heard soon; one where runs are cut into parts for a page that draws in between.
    pub fn runs_ahead(&self) -> usize {
        if self.shared.dispatches_per_submit == usize::MAX { 3 } else { 1 }
    }

    /// Memory to read up to `bytes` bytes through (rounded up to 16), again and again.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub async fn staging(&self, bytes: u64) -> Result<Staging> {
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let buffer = self.allocate("readback", bytes, usage).await?;
        Ok(Staging { device: self.clone(), buffer, busy: AtomicBool::new(false) })
    }

    /// Reads `bytes` bytes of `buffer` from `offset` (both multiples of 4), after everything submitted so far.
    ///
    /// # Errors
    /// As [`Device::staging`] and [`Staging::read`].
    pub async fn read(&self, buffer: &Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        self.staging(bytes).await?.read(&[(buffer, offset, bytes)]).await
    }

    /// Reads `count` f32 values of `buffer` from the beginning.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub async fn read_f32(&self, buffer: &Buffer, count: usize) -> Result<Vec<f32>> {
        let bytes = self.read(buffer, 0, count as u64 * 4).await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }
}
