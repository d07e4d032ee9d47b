//! 3×3 convolution with padding 1 and its gradients, the tiled family for GPUs: `wgsl/conv3x3_tiled.wgsl` and
//! `wgsl/conv3x3_weight_tiled.wgsl`. The gradient for the input exists at stride 1 only: at stride 2 three quarters of a
//! tile's products would be with zeros.
//!
//! It alone reads an input at half its size and adds a product of what passes by the window ([`Beside`]).

use super::{Conv3x3, GRAD_WEIGHT, Size};
use crate::gpu::{Launch, Slice, spread};
use crate::ops::kernel::{shader, split_rows};
use crate::ops::matmul::MatMul;
use crate::ops::reduce_rows;
use crate::tensor::pitch;

shader!("conv3x3_tiled");

mod weight {
    crate::ops::kernel::shader!("conv3x3_weight_tiled");
}

/// Workgroups that `grad_weight` aims at, so that small layers still fill a device.
const WEIGHT_WORKGROUPS: usize = 256;
/// Steps of the sum that a slice of `grad_weight` has at least: fewer cost more in `reduce_rows` than they gain.
const WEIGHT_STEPS: usize = 8;

/// A workgroup's shape: 64 invocations, each of 8 rows (pixels; of a weight: tap and channel) × 8 columns (channels).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    across: usize,
    down: usize,
}

impl Tile {
    /// The wide tile, 64 × 64, unless 128 × 32 leaves less of the last columns empty.
    fn of(columns: usize) -> Tile {
        if pitch(columns).div_ceil(32) % 2 == 1 {
            Tile { across: 4, down: 16 }
        } else {
            Tile { across: 8, down: 8 }
        }
    }

    fn rows(self) -> usize {
        8 * self.down
    }

    fn columns(self) -> usize {
        8 * self.across
    }

    /// Quads of channels, or fours of pixels, of a step of the sum: each invocation then loads one of each kind.
    fn step(self) -> usize {
        self.across / 2
    }

    fn constants(self) -> [(&'static str, f64); 3] {
        [("WG_X", self.across as f64), ("WG_Y", self.down as f64), ("STEP", self.step() as f64)]
    }
}

/// What a forward pass does beside the convolution.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside {
    /// Its input is this one with each pixel repeated twice in both directions.
    pub expanded: bool,
    /// A product that is added to its result.
    pub passing: Option<Passing>,
}

/// A 1×1 convolution of tensors as large as the result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing {
    /// Its sizes.
    pub size: MatMul,
    /// Input features of the first tensor; the second one has the others.
    pub first: usize,
    /// Both; where the first one has all features the second one is not read.
    pub tensors: [Slice; 2],
    pub weight: Slice,
    pub bias: Option<Slice>,
}

#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct TiledSize {
    batch: u32,
    in_height: u32,
    in_width: u32,
    in_quads: u32,
    out_height: u32,
    out_width: u32,
    out_quads: u32,
    weight_quads: u32,
    weight_rows: u32,
    stride: u32,
    has_bias: u32,
    has_residual: u32,
    first_quads: u32,
    other_quads: u32,
    pad: [u32; 2],
}

impl TiledSize {
    fn of(size: &Size) -> TiledSize {
        TiledSize {
            batch: size.batch,
            in_height: size.in_height,
            in_width: size.in_width,
            in_quads: size.in_quads,
            out_height: size.out_height,
            out_width: size.out_width,
            out_quads: size.out_quads,
            weight_quads: size.weight_quads,
            weight_rows: size.weight_rows,
            stride: size.stride,
            has_bias: size.has_bias,
            has_residual: size.has_residual,
            ..TiledSize::default()
        }
    }
}

/// `reads`: the four of a plain convolution.
fn launch(size: &Conv3x3, uniform: Size, reads: Vec<Slice>, beside: &Beside, write: Slice) -> Launch {
    let columns = 4 * uniform.out_quads as usize;
    let pixels = (uniform.batch * uniform.out_height * uniform.out_width) as usize;
    let tile = Tile::of(columns);
    let mut constants = tile.constants().to_vec();
    constants.push(("TRANSPOSED", f64::from(uniform.transposed)));
    constants.push(("PASSING", f64::from(u32::from(beside.passing.is_some()))));
    constants.push(("EXPANDED", f64::from(u32::from(beside.expanded))));
    let workgroups = pixels.div_ceil(tile.rows()) * columns.div_ceil(tile.columns());
    let (mut reads, mut multiply_adds) = (reads, size.multiply_adds());
    let mut uniform = TiledSize::of(&uniform);
    if beside.expanded {
        uniform.in_height /= 2;
        uniform.in_width /= 2;
    }
    // What is absent is bound to what is there, and not read.
    let (x, weight) = (reads[0], reads[1]);
    match &beside.passing {
        Some(Passing { size, first, tensors: [one, other], weight, bias }) => {
            let quads = size.split(*first).map(|part| (pitch(part.in_features) / 4) as u32);
            [uniform.first_quads, uniform.other_quads] = quads;
            uniform.has_residual = u32::from(bias.is_some());
            reads[3] = *one;
            reads.extend([*other, *weight, bias.unwrap_or(*weight)]);
            multiply_adds += size.multiply_adds();
        }
        None => reads.extend([x, weight, weight]),
    }
    let made = Launch {
        kernel: kernel("tiled", &constants),
        reads,
        writes: vec![write],
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread(workgroups as u64),
        multiply_adds,
        spare: 0,
    };
    made.stored(&["Source", "", "", "Residual", "Other", "", "", "Result"])
}

/// y = conv(x, weight) (+ bias) (+ residual).
pub(super) fn forward(
    size: &Conv3x3,
    x: Slice,
    weight: Slice,
    bias: Option<Slice>,
    residual: Option<Slice>,
    y: Slice,
) -> Vec<Launch> {
    forward_beside(size, [x, weight], bias, residual, &Beside::default(), y)
}

/// As [`forward`] of x and weight, with what it does beside that; with a product that passes there is no residual.
pub(super) fn forward_beside(
    size: &Conv3x3,
    [x, weight]: [Slice; 2],
    bias: Option<Slice>,
    residual: Option<Slice>,
    beside: &Beside,
    y: Slice,
) -> Vec<Launch> {
    let (uniform, reads) = size.forward_operands(x, weight, bias, residual);
    vec![launch(size, uniform, reads, beside, y)]
}

/// dx of dy (+ addend), at stride 1.
pub(super) fn grad_input(
    size: &Conv3x3,
    dy: Slice,
    weight: Slice,
    addend: Option<Slice>,
    dx: Slice,
) -> Vec<Launch> {
    let uniform = Size { has_residual: u32::from(addend.is_some()), ..size.transposed() };
    let reads = vec![dy, weight, weight, addend.unwrap_or(dy)];
    vec![launch(size, uniform, reads, &Beside::default(), dx)]
}

#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct WeightSize {
    batch: u32,
    in_height: u32,
    in_width: u32,
    in_quads: u32,
    out_height: u32,
    out_width: u32,
    out_quads: u32,
    fours: u32,
    step_images: u32,
    step_rows: u32,
    step_fours: u32,
    stride: u32,
    slices: u32,
    slice_fours: u32,
    pad: [u32; 2],
}

/// Workgroups of one slice, slices, and steps of each.
fn slices(size: &Conv3x3) -> (usize, usize, usize) {
    let tile = Tile::of(size.out_channels);
    let rows = 9 * pitch(size.in_channels);
    let tiles = rows.div_ceil(tile.rows()) * pitch(size.out_channels).div_ceil(tile.columns());
    let steps = (size.batch * size.out_height() * size.out_width().div_ceil(4)).div_ceil(tile.step());
    let wanted = WEIGHT_WORKGROUPS.div_ceil(tiles).min(steps.div_ceil(WEIGHT_STEPS));
    let (slices, slice_steps) = split_rows(steps, wanted);
    (tiles, slices, slice_steps)
}

/// Bytes of scratch that [`grad_weight`] needs for the weight, and for the bias.
pub(super) fn grad_weight_scratch(size: &Conv3x3) -> [u64; 2] {
    let (_, slices, _) = slices(size);
    let bias = slices * pitch(size.out_channels) * 4;
    [reduce_rows::slice_bytes(slices, size.weight_elements()), bias as u64]
}

/// dw of x and dy, and db.
pub(super) fn grad_weight(
    size: &Conv3x3,
    x: Slice,
    dy: Slice,
    scratches: [Slice; 2],
    dw: Slice,
    db: Option<Slice>,
) -> Vec<Launch> {
    grad_weight_of(size, false, [x, dy], scratches, dw, db)
}

/// As [`grad_weight`] of x and dy; where `expanded`, the convolution's input is x with each pixel repeated twice in both directions.
pub(super) fn grad_weight_of(
    size: &Conv3x3,
    expanded: bool,
    [x, dy]: [Slice; 2],
    scratches: [Slice; 2],
    dw: Slice,
    db: Option<Slice>,
) -> Vec<Launch> {
    let tile = Tile::of(size.out_channels);
    let (tiles, slices, slice_steps) = slices(size);
    let there = size.uniform();
    let (fours, height) = (size.out_width().div_ceil(4), size.out_height());
    let factor = if expanded { 2 } else { 1 };
    let mut constants = tile.constants().to_vec();
    constants.push(("EXPANDED", f64::from(u32::from(expanded))));
    let uniform = WeightSize {
        batch: there.batch,
        in_height: there.in_height / factor,
        in_width: there.in_width / factor,
        in_quads: there.in_quads,
        out_height: there.out_height,
        out_width: there.out_width,
        out_quads: there.out_quads,
        fours: fours as u32,
        step_images: (tile.step() / fours / height) as u32,
        step_rows: (tile.step() / fours % height) as u32,
        step_fours: (tile.step() % fours) as u32,
        stride: there.stride,
        slices: slices as u32,
        slice_fours: (slice_steps * tile.step()) as u32,
        pad: [0; 2],
    };
    let partial = Launch {
        kernel: weight::kernel("tiled", &constants),
        reads: vec![x, dy],
        writes: Vec::new(),
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread((tiles * slices) as u64),
        multiply_adds: size.multiply_adds(),
        spare: 0,
    };
    let partial = partial.stored(&GRAD_WEIGHT);
    let elements = [size.weight_elements(), size.out_channels];
    reduce_rows::add_slices_with_bias(partial, slices, elements, scratches, dw, db)
}
