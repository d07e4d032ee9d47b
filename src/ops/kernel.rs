//! What the host sides of all kernels share.
//!
//! Tensors on the device are channels-last and their last dimension is padded to a multiple of four ("pitch"); the pad
//! lanes hold zero, and every kernel keeps it so.

use crate::gpu::{Kernel, Launch, Slice, spread};

/// Constants of kernels in which each invocation makes one result by itself.
pub(super) const WG: [(&str, f64); 1] = [("WG", 64.0)];

/// Invocations of a subgroup, and of a workgroup, in the kernels that pass values between them.
pub(super) const LANES: u64 = 8;

/// Makes `kernel`, which gives a [`Kernel`] of one WGSL file by its entry point and constants.
macro_rules! shader {
    ($file:literal) => {
        pub(super) fn kernel(entry: &'static str, constants: &[(&'static str, f64)]) -> $crate::gpu::Kernel {
            let source = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/wgsl/", $file, ".wgsl"));
            $crate::gpu::Kernel {
                file: $file,
                source,
                entry,
                constants: constants.to_vec(),
                halves: Vec::new(),
            }
        }
    };
}
pub(super) use shader;

/// Whether kernels that round what they multiply to f16 may read this gradient: where it is stored so, the loss's scale keeps it
/// within what f16 can hold, and nothing of it is lost.
pub(super) fn rounds(dy: Slice) -> bool {
    dy.half
}

/// Cuts `rows` into about `wanted` equal slices; gives how many there are, none of them empty, and rows of each.
pub(super) fn split_rows(rows: usize, wanted: usize) -> (usize, usize) {
    let each = rows.div_ceil(wanted.clamp(1, rows.max(1)));
    (rows.div_ceil(each.max(1)).max(1), each.max(1))
}

/// A launch of `count` independent invocations of a kernel with the constants [`WG`].
pub(super) fn invocations(
    kernel: Kernel,
    reads: Vec<Slice>,
    writes: Vec<Slice>,
    uniform: &[u8],
    count: usize,
) -> Launch {
    let workgroups = spread((count as u64).div_ceil(WG[0].1 as u64));
    Launch { kernel, reads, writes, uniform: uniform.to_vec(), workgroups, multiply_adds: 0, spare: 0 }
}
