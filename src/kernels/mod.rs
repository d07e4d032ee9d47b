//! One host file per WGSL file: bindings, constants, dispatch size.
//!
//! Tensors on the device are channels-last and their last dimension is padded to a multiple of four ("pitch"); the pad
//! lanes hold zero, and every kernel keeps it so.

pub mod attention;
pub mod attention_tiled;
pub mod batchnorm;
pub mod channels;
mod concat;
pub mod conv3x3;
pub mod conv3x3_subgroup;
pub mod conv3x3_tiled;
pub mod diffuse;
pub mod families;
pub mod features;
pub mod groupnorm;
pub mod half;
pub mod loss;
pub mod matmul;
pub mod matmul_subgroup;
pub mod matmul_tiled;
pub mod measure;
pub mod optimizer;
pub mod pointwise;
pub mod random;
pub mod reduce_rows;
pub mod resample;
pub mod solver;
pub mod timestep_embedding;
pub mod variational;

use crate::gpu::{Kernel, Launch, Slice, spread};
use crate::tensor::pitch;

/// Constants of kernels in which each invocation makes one result by itself.
const WG: [(&str, f64); 1] = [("WG", 64.0)];

/// Invocations of a subgroup, and of a workgroup, in the kernels that pass values between them.
const LANES: u64 = 8;

/// Makes a [`Kernel`] of one WGSL file.
macro_rules! shader {
    ($file:literal) => {
        pub(crate) const FILE: &str = $file;
        pub(crate) const SOURCE: &str = include_str!(concat!("../../wgsl/", $file, ".wgsl"));
        fn kernel(entry: &'static str, constants: &[(&'static str, f64)]) -> $crate::gpu::Kernel {
            $crate::gpu::Kernel { file: FILE, source: SOURCE, entry, constants: constants.to_vec() }
        }
    };
}
#[allow(unused_imports, reason = "every kernel file uses it")]
use shader;

/// Cuts `rows` into about `wanted` equal slices; gives how many there are, none of them empty, and rows of each.
fn split_rows(rows: usize, wanted: usize) -> (usize, usize) {
    let each = rows.div_ceil(wanted.clamp(1, rows.max(1)));
    (rows.div_ceil(each.max(1)).max(1), each.max(1))
}

/// A launch of `count` independent invocations of a kernel with the constants [`WG`].
fn invocations(
    kernel: Kernel,
    reads: Vec<Slice>,
    writes: Vec<Slice>,
    uniform: &[u8],
    count: usize,
) -> Launch {
    let workgroups = spread((count as u64).div_ceil(WG[0].1 as u64));
    Launch { kernel, reads, writes, uniform: uniform.to_vec(), workgroups, multiply_adds: 0 }
}
