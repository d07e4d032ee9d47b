//! The launches of linear layers of one input, which say in a table where each layer's memory begins: `wgsl/linear_group.wgsl`.

use super::LinearGroup;
use crate::gpu::{Launch, Slice, spread};
use crate::ops::kernel::shader;
use crate::tensor::pitch;

shader!("linear_group");

/// Rows of a table, `ENTRIES` in the shader.
const ENTRIES: usize = 128;
/// Most bytes that a launch binds at once, WebGPU's default limit.
const MOST_BYTES: u64 = 128 << 20;
/// Rows that a workgroup of `forward` and `grad_input` makes.
const ROWS: usize = 8;
/// Pairs of vec4s of columns that a workgroup of `forward` makes, `PAIRS` in the shader.
const PAIRS: usize = 4;
/// Invocations per workgroup, `WG` in the shader.
const WORKGROUP: usize = 32;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    rows: u32,
    in_quads: u32,
    entries: u32,
    tiles: u32,
    silu: u32,
    has_addend: u32,
    half: u32,
    slope: f32,
    table: [[u32; 4]; ENTRIES],
}

/// What the layers' input is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reading {
    /// The tensor that is read.
    Tensor,
    /// The embedding of timesteps by as many frequencies.
    Embedding { half: usize, frequencies: Slice },
    /// The BatchNorm of the tensor by running statistics.
    BatchNorm { slope: f32, running: Slice, gain: Slice, offset: Slice },
}

impl Reading {
    fn number(&self) -> u32 {
        match self {
            Reading::Tensor => 0,
            Reading::Embedding { .. } => 1,
            Reading::BatchNorm { .. } => 2,
        }
    }

    fn half(&self) -> u32 {
        match self {
            Reading::Embedding { half, .. } => *half as u32,
            _ => 0,
        }
    }

    fn slope(&self) -> f32 {
        match self {
            Reading::BatchNorm { slope, .. } => *slope,
            _ => 1.0,
        }
    }

    /// What is bound as `known`, `gain` and `offset`; what is absent is bound to x, and not read.
    fn operands(&self, x: Slice) -> [Slice; 3] {
        match *self {
            Reading::Tensor => [x; 3],
            Reading::Embedding { frequencies, .. } => [frequencies, x, x],
            Reading::BatchNorm { running, gain, offset, .. } => [running, gain, offset],
        }
    }
}

/// What one launch does: numbers of the entries of its table, and of each kind of memory the range that holds all of theirs.
struct Run<const N: usize> {
    entries: Vec<usize>,
    ranges: [Slice; N],
}

/// The ranges with another entry's memory, where each can be one binding.
fn joined<const N: usize>(ranges: &[Slice; N], slices: &[Slice; N]) -> Option<[Slice; N]> {
    let mut all = *ranges;
    for (range, slice) in all.iter_mut().zip(slices) {
        let offset = range.offset.min(slice.offset);
        let bytes = (range.offset + range.bytes).max(slice.offset + slice.bytes) - offset;
        if range.buffer != slice.buffer || bytes > MOST_BYTES {
            return None;
        }
        *range = Slice { offset, bytes, ..*range };
    }
    Some(all)
}

/// As few launches as can be over entries whose memory, of `N` kinds, lies at `slices`.
fn runs<const N: usize>(slices: &[[Slice; N]]) -> Vec<Run<N>> {
    let mut runs: Vec<Run<N>> = Vec::new();
    for (entry, slices) in slices.iter().enumerate() {
        let mut open = runs.iter_mut().filter(|run| run.entries.len() < ENTRIES);
        match open.find_map(|run| joined(&run.ranges, slices).map(|ranges| (run, ranges))) {
            Some((run, ranges)) => {
                run.ranges = ranges;
                run.entries.push(entry);
            }
            None => runs.push(Run { entries: vec![entry], ranges: *slices }),
        }
    }
    runs
}

/// Vec4s before `slice` in `range`.
fn within(slice: Slice, range: Slice) -> u32 {
    ((slice.offset - range.offset) / 16) as u32
}

fn bytes<'a>(slices: impl Iterator<Item = &'a Slice>) -> u64 {
    slices.map(|slice| slice.bytes).sum()
}

fn quads(features: usize) -> usize {
    pitch(features) / 4
}

/// Pairs of vec4s of `features`.
fn pairs(features: usize) -> usize {
    quads(features).div_ceil(2)
}

impl LinearGroup {
    fn launch(&self, entry: &'static str, reading: &Reading, rows: &[[u32; 4]]) -> (Launch, Size) {
        let mut table = [[0; 4]; ENTRIES];
        table[..rows.len()].copy_from_slice(rows);
        let size = Size {
            rows: self.rows as u32,
            in_quads: quads(self.in_features) as u32,
            entries: rows.len() as u32,
            tiles: 0,
            silu: u32::from(self.silu),
            has_addend: 0,
            half: reading.half(),
            slope: reading.slope(),
            table,
        };
        let launch = Launch {
            kernel: kernel(entry, &[("READING", f64::from(reading.number()))]),
            reads: Vec::new(),
            writes: Vec::new(),
            uniform: Vec::new(),
            workgroups: [1; 3],
            multiply_adds: 0,
            spare: 0,
        };
        (launch, size)
    }

    fn multiply_adds(&self, layers: impl Iterator<Item = usize>) -> u64 {
        layers.map(|layer| (self.rows * self.in_features * self.out_features[layer]) as u64).sum()
    }
}

/// The tensor y of all results of x: `layers` are weight and bias of each.
pub fn forward(size: &LinearGroup, x: Slice, layers: &[[Slice; 2]], y: Slice) -> Vec<Launch> {
    forward_of(size, &Reading::Tensor, x, layers, y)
}

/// As [`forward`] of what `reading` makes of x.
pub(super) fn forward_of(
    size: &LinearGroup,
    reading: &Reading,
    x: Slice,
    layers: &[[Slice; 2]],
    y: Slice,
) -> Vec<Launch> {
    let (offsets, [known, gain, offset]) = (size.offsets(), reading.operands(x));
    let launch = |run: &Run<2>| {
        let row = |layer: &usize| {
            let ([weight, bias], [weights, biases]) = (layers[*layer], run.ranges);
            let out = quads(size.out_features[*layer]) as u32;
            [out, within(weight, weights), (offsets[*layer] / 16) as u32, within(bias, biases)]
        };
        let table: Vec<[u32; 4]> = run.entries.iter().map(row).collect();
        let tiles = |layer: &usize| pairs(size.out_features[*layer]).div_ceil(PAIRS);
        let tiles = run.entries.iter().map(tiles).max().unwrap_or(0) * size.rows.div_ceil(ROWS);
        let (launch, uniform) = size.launch("forward", reading, &table);
        Launch {
            reads: vec![x, known, run.ranges[0], run.ranges[1], gain, offset],
            writes: vec![y],
            uniform: bytemuck::bytes_of(&Size { tiles: tiles as u32, ..uniform }).to_vec(),
            workgroups: spread((table.len() * tiles) as u64),
            multiply_adds: size.multiply_adds(run.entries.iter().copied()),
            ..launch
        }
        .spanning(&run.ranges, bytes(run.entries.iter().flat_map(|layer| &layers[*layer])))
    };
    runs(layers).iter().map(launch).collect()
}

/// dx of x and dy, laid out as y, through some `layers`, whose weights are given in their order; `scratch` gives memory as
/// large as dx.
pub fn grad_input(
    size: &LinearGroup,
    layers: &[usize],
    [x, dy]: [Slice; 2],
    weights: &[Slice],
    scratch: impl FnMut() -> Slice,
    dx: Slice,
) -> Vec<Launch> {
    grad_input_of(size, &Reading::Tensor, layers, [x, dy], weights, scratch, dx)
}

/// As [`grad_input`], of what `reading` makes of x; of a BatchNorm there is one layer.
pub(super) fn grad_input_of(
    size: &LinearGroup,
    reading: &Reading,
    layers: &[usize],
    [x, dy]: [Slice; 2],
    weights: &[Slice],
    mut scratch: impl FnMut() -> Slice,
    dx: Slice,
) -> Vec<Launch> {
    let (offsets, [known, gain, _]) = (size.offsets(), reading.operands(x));
    let weights: Vec<[Slice; 1]> = weights.iter().map(|weight| [*weight]).collect();
    let runs = runs(&weights);
    // Each launch adds what the ones before it made.
    let mut addend = None;
    let mut launches = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        let row = |entry: &usize| {
            let layer = layers[*entry];
            let out = quads(size.out_features[layer]) as u32;
            [out, within(weights[*entry][0], run.ranges[0]), (offsets[layer] / 16) as u32, 0]
        };
        let table: Vec<[u32; 4]> = run.entries.iter().map(row).collect();
        let to = if number + 1 == runs.len() { dx } else { scratch() };
        let (launch, uniform) = size.launch("grad_input", reading, &table);
        let launch = Launch {
            reads: vec![x, known, run.ranges[0], dy, gain, addend.unwrap_or(x)],
            writes: vec![to],
            uniform: bytemuck::bytes_of(&Size { has_addend: u32::from(addend.is_some()), ..uniform })
                .to_vec(),
            workgroups: spread((quads(size.in_features) * size.rows.div_ceil(ROWS)) as u64),
            multiply_adds: size.multiply_adds(run.entries.iter().map(|entry| layers[*entry])),
            ..launch
        };
        launches
            .push(launch.spanning(&run.ranges, bytes(run.entries.iter().flat_map(|entry| &weights[*entry]))));
        addend = Some(to);
    }
    launches
}

/// A gradient that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Whose.
    pub layer: usize,
    /// Of its bias, or of its weight.
    pub bias: bool,
    /// Where it goes.
    pub to: Slice,
}

/// Gradients of weights and biases of x and dy, laid out as y.
pub fn grad_weights(size: &LinearGroup, x: Slice, dy: Slice, targets: &[Target]) -> Vec<Launch> {
    grad_weights_of(size, &Reading::Tensor, [x, dy], targets)
}

/// As [`grad_weights`], of what `reading` makes of x.
pub(super) fn grad_weights_of(
    size: &LinearGroup,
    reading: &Reading,
    [x, dy]: [Slice; 2],
    targets: &[Target],
) -> Vec<Launch> {
    let (offsets, [known, ..]) = (size.offsets(), reading.operands(x));
    let slices: Vec<[Slice; 1]> = targets.iter().map(|target| [target.to]).collect();
    let launch = |run: &Run<1>| {
        let mine = || run.entries.iter().map(|entry| targets[*entry]);
        let row = |target: Target| {
            let out = quads(size.out_features[target.layer]) as u32;
            let from = (offsets[target.layer] / 16) as u32;
            [out, within(target.to, run.ranges[0]), from, u32::from(target.bias)]
        };
        let invocations = |target: Target| {
            pairs(size.out_features[target.layer]) * if target.bias { 1 } else { pairs(size.in_features) }
        };
        let table: Vec<[u32; 4]> = mine().map(row).collect();
        let tiles = mine().map(invocations).max().unwrap_or(0).div_ceil(WORKGROUP);
        let (launch, uniform) = size.launch("grad_weights", reading, &table);
        Launch {
            reads: vec![x, known, dy],
            writes: vec![run.ranges[0]],
            uniform: bytemuck::bytes_of(&Size { tiles: tiles as u32, ..uniform }).to_vec(),
            workgroups: spread((table.len() * tiles) as u64),
            multiply_adds: size
                .multiply_adds(mine().filter(|target| !target.bias).map(|target| target.layer)),
            ..launch
        }
        .spanning(&run.ranges, bytes(run.entries.iter().map(|entry| &targets[*entry].to)))
    };
    runs(&slices).iter().map(launch).collect()
}

/// Where the gradients that a launch of [`grad_weights`] makes lie, one by one; `None`: it is something else.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn gradients(launch: &Launch) -> Option<Vec<Slice>> {
    if launch.kernel.file != "linear_group" || launch.kernel.entry != "grad_weights" {
        return None;
    }
    let to = *launch.writes.first()?;
    let size: Size = bytemuck::pod_read_unaligned(launch.uniform.get(..size_of::<Size>())?);
    let of = |row: &[u32; 4]| {
        let [out, first, _, bias] = row.map(u64::from);
        let rows = if bias == 1 { 1 } else { 4 * u64::from(size.in_quads) };
        Slice { offset: to.offset + 16 * first, bytes: 16 * rows * out, ..to }
    };
    Some(size.table.get(..size.entries as usize)?.iter().map(of).collect())
}
