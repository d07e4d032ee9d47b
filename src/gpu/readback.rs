//! Asynchronous read-back: a future that works natively (polling the device) and in a browser (its event loop).

use super::device::{Device, lock};
use super::executable::Buffer;
use crate::error::{Error, Result};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

#[derive(Default)]
struct Arrival {
    result: Option<std::result::Result<(), wgpu::BufferAsyncError>>,
    waker: Option<Waker>,
}

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

impl Device {
    /// Resolves when everything submitted so far has run.
    ///
    /// # Errors
    /// Whatever the device reported by itself.
    pub async fn idle(&self) -> Result<()> {
        #[cfg(target_arch = "wasm32")]
        {
            let arrival = Arc::new(Mutex::new(Arrival::default()));
            let sender = Arc::clone(&arrival);
            self.shared.queue.on_submitted_work_done(move || {
                let mut arrival = lock(&sender);
                arrival.result = Some(Ok(()));
                if let Some(waker) = arrival.waker.take() {
                    waker.wake();
                }
            });
            let _ = Mapped(arrival).await;
        }
        self.wait()
    }

    /// Reads `bytes` bytes of `buffer` from `offset` (both multiples of 4), after everything submitted so far.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and whatever the device reported by itself.
    pub async fn read(&self, buffer: &Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        let shared = &*self.shared;
        shared.tally.readbacks.fetch_add(1, Ordering::Relaxed);
        let staging = self.counted(shared.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("readback"),
            size: bytes,
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        }));
        let mut encoder = shared.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&buffer.inner.buffer, offset, &staging.inner.buffer, 0, bytes);
        shared.queue.submit([encoder.finish()]);
        let arrival = Arc::new(Mutex::new(Arrival::default()));
        let sender = Arc::clone(&arrival);
        staging.inner.buffer.map_async(wgpu::MapMode::Read, .., move |result| {
            let mut arrival = lock(&sender);
            arrival.result = Some(result);
            if let Some(waker) = arrival.waker.take() {
                waker.wake();
            }
        });
        self.wait()?;
        let mapped = Mapped(arrival).await;
        self.check()?;
        mapped.map_err(|_| Error::DeviceLost { reason: "a buffer could not be mapped".into() })?;
        let view = staging
            .inner
            .buffer
            .get_mapped_range(..)
            .map_err(|e| Error::Gpu { detail: format!("read-back: {e}") })?;
        let data = view.to_vec();
        drop(view);
        staging.inner.buffer.unmap();
        Ok(data)
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
