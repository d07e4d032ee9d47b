//! Time of every dispatch of a loaded program, by timestamp queries.

use super::device::Device;
use super::executable::{Executable, Step};
use crate::error::{Error, Result};

/// Dispatches per query set: each takes two of the queries that one set may hold.
const CHUNK: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;

impl Device {
    /// Whether [`Executable::profile`] works here.
    pub fn can_profile(&self) -> bool {
        self.shared.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }
}

impl Executable {
    /// Runs the program once and gives the nanoseconds of each launch, in order. Each dispatch is a pass of its own, so
    /// the whole takes longer than [`Executable::run`]; the durations are those of the dispatches alone.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the adapter has no timestamp queries; device errors.
    pub async fn profile(&self) -> Result<Vec<u64>> {
        if !self.device().can_profile() {
            let name = &self.device().info().name;
            let detail = format!("{name} has no timestamp queries, which a profile by kernel needs");
            return Err(Error::Gpu { detail });
        }
        let mut nanoseconds = Vec::with_capacity(self.steps.len());
        for part in self.steps.chunks(CHUNK) {
            nanoseconds.extend(self.profile_part(part).await?);
        }
        Ok(nanoseconds)
    }

    async fn profile_part(&self, part: &[Step]) -> Result<Vec<u64>> {
        let shared = &*self.device().shared;
        let count = 2 * part.len() as u32;
        let queries = shared.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("profile"),
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let bytes = u64::from(count) * u64::from(wgpu::QUERY_SIZE);
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = self.device().allocate("profile", bytes, usage).await?;
        let mut encoder = shared.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (i, step) in part.iter().enumerate() {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(2 * i as u32),
                    end_of_pass_write_index: Some(2 * i as u32 + 1),
                }),
            });
            step.record(&mut pass);
        }
        encoder.resolve_query_set(&queries, 0..count, &resolved.inner.buffer, 0);
        shared.queue.submit([encoder.finish()]);
        let data = self.device().read(&resolved, 0, bytes).await?;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&data);
        let period = f64::from(shared.queue.get_timestamp_period());
        let duration = |pair: &[u64]| (pair[1].saturating_sub(pair[0]) as f64 * period) as u64;
        Ok(ticks.chunks_exact(2).map(duration).collect())
    }
}
