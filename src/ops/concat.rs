//! Concatenation and slices of whole vec4s of channels: `wgsl/concat.wgsl`.

use super::kernel::{WG, invocations, shader};
use crate::gpu::{Launch, Slice};

shader!("concat");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    rows: u32,
    a_quads: u32,
    b_quads: u32,
    a_from: u32,
    a_pitch: u32,
    pad: [u32; 3],
}

/// y\[r\] = (a\[r, a_from..a_from + a_quads\], b\[r\]), counted in vec4; `b_quads` may be 0.
pub(super) fn launch(
    rows: usize,
    [a_pitch, a_from, a_quads, b_quads]: [usize; 4],
    [a, b, y]: [Slice; 3],
) -> Launch {
    let uniform = Size {
        rows: rows as u32,
        a_quads: a_quads as u32,
        b_quads: b_quads as u32,
        a_from: a_from as u32,
        a_pitch: a_pitch as u32,
        pad: [0; 3],
    };
    let count = rows * (a_quads + b_quads);
    invocations(kernel("forward", &WG), vec![a, b], vec![y], bytemuck::bytes_of(&uniform), count)
}
