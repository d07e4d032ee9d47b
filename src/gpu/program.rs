//! What runs, without naming the GPU API: a list of launches over numbered buffers.
//!
//! A [`Program`] is what a plan becomes: buffers to allocate and shader dispatches in order. It can be printed,
//! counted and checked before a device exists.

use std::fmt;
use std::hash::{Hash, Hasher};

/// A shader entry point with its `override` constants: the key of a pipeline.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Name of the WGSL file without its ending.
    pub file: &'static str,
    /// The file's text.
    pub source: &'static str,
    /// Entry point.
    pub entry: &'static str,
    /// Values of the `override` constants, by name.
    pub constants: Vec<(&'static str, f64)>,
    /// Names of those of its `alias NAME = vec4<f32>;` that are `vec4<f16>` in this variant: what bindings hold, not what is
    /// computed with.
    pub halves: Vec<&'static str>,
}

impl Kernel {
    /// The program: the file's text, with elements of f16 where [`Kernel::halves`] names them.
    pub fn program(&self) -> std::borrow::Cow<'static, str> {
        if self.halves.is_empty() {
            return self.source.into();
        }
        let mut text = format!("enable f16;\n{}", self.source);
        for name in &self.halves {
            let alias = |element: &str| format!("alias {name} = vec4<{element}>;");
            text = text.replace(&alias("f32"), &alias("f16"));
        }
        text.into()
    }
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file
            && self.entry == other.entry
            && self.halves == other.halves
            && self.constants.len() == other.constants.len()
            && self
                .constants
                .iter()
                .zip(&other.constants)
                .all(|(a, b)| a.0 == b.0 && a.1.to_bits() == b.1.to_bits())
    }
}

impl Eq for Kernel {}

impl Hash for Kernel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.file.hash(state);
        self.entry.hash(state);
        self.halves.hash(state);
        for (name, value) in &self.constants {
            name.hash(state);
            value.to_bits().hash(state);
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.file, self.entry)?;
        for (name, value) in &self.constants {
            write!(f, " {name}={value}")?;
        }
        if !self.halves.is_empty() {
            write!(f, " f16({})", self.halves.join(" "))?;
        }
        Ok(())
    }
}

/// Number of a buffer inside one [`Program`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

/// A range of a buffer, in bytes. The offset is a multiple of 256, WebGPU's alignment of bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    /// The buffer.
    pub buffer: BufferId,
    /// First byte.
    pub offset: u64,
    /// Length in bytes, a multiple of 16; of f16 of 8.
    pub bytes: u64,
    /// Whether its numbers are f16 instead of f32.
    pub half: bool,
}

impl Slice {
    /// Vec4s in it.
    pub fn quads(&self) -> usize {
        (self.bytes / if self.half { 8 } else { 16 }) as usize
    }
}

/// One dispatch: bindings 0.. are the reads, then the writes, then the uniform (where not empty).
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// What runs.
    pub kernel: Kernel,
    /// Read-only storage bindings.
    pub reads: Vec<Slice>,
    /// Read-write storage bindings.
    pub writes: Vec<Slice>,
    /// The uniform struct's bytes; empty: the kernel has none.
    pub uniform: Vec<u8>,
    /// Workgroups in x, y, z.
    pub workgroups: [u32; 3],
    /// Multiply-adds this launch does, for estimates and benchmarks; 0 where they do not count.
    pub multiply_adds: u64,
    /// Bytes within its bindings that it leaves alone: a binding may span several tensors, of which it reads some.
    pub spare: u64,
}

impl Launch {
    /// The launch where some of its bindings span tensors: of `ranges` it touches `bytes` alone.
    #[must_use]
    pub(crate) fn spanning(self, ranges: &[Slice], bytes: u64) -> Launch {
        let spare = distinct(ranges.iter()).saturating_sub(bytes);
        Launch { spare: self.spare + spare, ..self }
    }

    /// The variant of the kernel for what its slices hold. `names` gives the alias of each binding's elements in the order of
    /// reads and writes, "" where they are f32 always.
    #[must_use]
    pub fn stored(mut self, names: &[&'static str]) -> Launch {
        let bound = self.reads.iter().chain(&self.writes).zip(names);
        self.kernel.halves =
            bound.filter(|(slice, name)| slice.half && !name.is_empty()).map(|(_, name)| *name).collect();
        self
    }

    /// Whether the kernel has a name for every binding of f16.
    pub(crate) fn is_stored(&self) -> bool {
        let halves = self.reads.iter().chain(&self.writes).filter(|slice| slice.half).count();
        halves == self.kernel.halves.len()
    }

    /// Bytes this launch moves: every distinct range that it binds once, whether read, written or both, without what it leaves alone
    /// in it. What caches save or repeated reads cost is not in it.
    pub fn bytes(&self) -> u64 {
        distinct(self.reads.iter().chain(&self.writes)).saturating_sub(self.spare)
    }
}

/// Bytes of ranges, of the same ones once.
fn distinct<'a>(ranges: impl Iterator<Item = &'a Slice>) -> u64 {
    let mut seen = std::collections::HashSet::new();
    ranges.filter(|slice| seen.insert(**slice)).map(|slice| slice.bytes).sum()
}

/// A buffer of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BufferSpec {
    /// Allocated for this program alone, contents undefined at the start of a run.
    Slot {
        /// Size in bytes.
        bytes: u64,
    },
    /// Given by the caller under this name when the program is loaded onto a device.
    External {
        /// Name that the caller resolves.
        name: String,
        /// Least size in bytes.
        bytes: u64,
    },
}

impl BufferSpec {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            BufferSpec::Slot { bytes } | BufferSpec::External { bytes, .. } => *bytes,
        }
    }
}

/// Buffers and launches: everything a device needs to run one plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// Buffers, by [`BufferId`].
    pub buffers: Vec<BufferSpec>,
    /// Launches in order.
    pub launches: Vec<Launch>,
}

impl Program {
    /// Distinct pipelines the program needs.
    pub fn kernels(&self) -> Vec<&Kernel> {
        let mut seen = std::collections::HashSet::new();
        self.launches.iter().map(|l| &l.kernel).filter(|k| seen.insert(*k)).collect()
    }

    /// Bytes of all slots: what loading the program allocates beside the external buffers.
    pub fn slot_bytes(&self) -> u64 {
        self.buffers
            .iter()
            .map(|b| match b {
                BufferSpec::Slot { bytes } => *bytes,
                BufferSpec::External { .. } => 0,
            })
            .sum()
    }

    /// Bytes that one run moves, as [`Launch::bytes`] counts.
    pub fn bytes_moved(&self) -> u64 {
        self.launches.iter().map(Launch::bytes).sum()
    }

    /// Multiply-adds of one run.
    pub fn multiply_adds(&self) -> u64 {
        self.launches.iter().map(|l| l.multiply_adds).sum()
    }
}

/// Workgroups in x and y that cover `count` workgroups under WebGPU's limit of 65,535 per dimension.
/// Kernels read the flat index as `workgroup_id.y * num_workgroups.x + workgroup_id.x`.
pub fn spread(count: u64) -> [u32; 3] {
    const LIMIT: u64 = 65_535;
    let count = count.max(1);
    if count <= LIMIT {
        return [count as u32, 1, 1];
    }
    let rows = count.div_ceil(LIMIT);
    [count.div_ceil(rows) as u32, rows as u32, 1]
}
