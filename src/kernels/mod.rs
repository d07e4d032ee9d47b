//! One host file per WGSL file: bindings, constants, dispatch size.
//!
//! Tensors on the device are channels-last and their last dimension is padded to a multiple of four ("pitch"); the pad
//! lanes hold zero, and every kernel keeps it so.

use crate::gpu::Kernel;

/// Length of a row of `columns` values in device memory: rounded up to whole `vec4`s.
pub const fn pitch(columns: usize) -> usize {
    columns.next_multiple_of(4)
}

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

/// A kernel of an arbitrary source, for tests and experiments.
pub fn custom(file: &'static str, source: &'static str, entry: &'static str, constants: &[(&'static str, f64)]) -> Kernel {
    Kernel { file, source, entry, constants: constants.to_vec() }
}
