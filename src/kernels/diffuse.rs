//! Forward diffusion: `wgsl/diffuse.wgsl`.

use super::{invocations, pitch, shader};
use crate::gpu::{Launch, Slice};

shader!("diffuse");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    image_quads: u32,
    pad: [u32; 2],
}

/// x_t of x_start and noise, all \[N, pixels, channels\]; two coefficients per sample.
pub fn q_sample(
    batch: usize,
    pixels: usize,
    channels: usize,
    [x_start, noise, coefficients]: [Slice; 3],
    x_t: Slice,
) -> Vec<Launch> {
    let image_quads = pixels * pitch(channels) / 4;
    let size = Size { batch: batch as u32, image_quads: image_quads as u32, pad: [0; 2] };
    let reads = vec![x_start, noise, coefficients];
    let kernel = kernel("q_sample", &super::WG);
    vec![invocations(kernel, reads, vec![x_t], bytemuck::bytes_of(&size), batch * image_quads)]
}
