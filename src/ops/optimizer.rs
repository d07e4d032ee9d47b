//! AdamW with a moving average in one pass, sums of gradients: `wgsl/optimizer.wgsl`.

use super::kernel::{WG, invocations, shader};
use crate::error::Result;
use crate::gpu::{Kernel, Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation};
use crate::tensor::device_bytes;

shader!("optimizer");

/// Parts of the second pass of [`sum_squares`], and the least of its first one.
const PARTS: usize = 256;
/// Most parts of its first pass: enough invocations to fill a GPU.
const MOST_PARTS: usize = 16_384;
/// Vec4s that a part of the first pass has where neither bound decides.
const PART_QUADS: usize = 64;

/// Numbers that [`hyper`] gives.
pub const HYPERS: usize = 12;

/// Hyper-parameters of AdamW and of the moving average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub learning_rate: f64,
    /// First moment's decay.
    pub beta1: f64,
    /// Second moment's decay.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Rate of the moving average.
    pub ema_rate: f64,
}

/// The numbers of optimizer step `step` (from 1) in the order the shader reads them; gradients are multiplied by
/// `gradient_scale` first. Bias corrections are computed in f64.
pub fn hyper(step: u64, settings: &AdamW, gradient_scale: f64) -> [f32; HYPERS] {
    let AdamW { learning_rate, beta1, beta2, eps, weight_decay, ema_rate } = *settings;
    let corrected = |beta: f64| 1.0 - beta.powf(step as f64);
    [
        learning_rate,
        beta1,
        beta2,
        eps,
        learning_rate * weight_decay,
        1.0 / corrected(beta1),
        1.0 / corrected(beta2).sqrt(),
        ema_rate,
        gradient_scale,
        1.0 - beta1,
        1.0 - beta2,
        1.0 - ema_rate,
    ]
    .map(|value| value as f32)
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    quads: u32,
    slices: u32,
    slice_quads: u32,
    power: u32,
}

fn flat(quads: usize) -> Size {
    Size { quads: quads as u32, slices: 0, slice_quads: 0, power: 0 }
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Clip {
    max_norm: f32,
    pad: [u32; 3],
}

/// Of a sum of squares \[1\] and the numbers of [`hyper`]: `norm` \[1\], the root of the sum times the gradients' scale, and
/// `clipped`, the numbers with a scale that makes the norm at most `max_norm` (NaN where the norm is).
pub fn clip(max_norm: f32, squares: Slice, hyper: Slice, norm: Slice, clipped: Slice) -> Vec<Launch> {
    let size = Clip { max_norm, pad: [0; 3] };
    let (reads, writes) = (vec![squares, hyper], vec![norm, clipped]);
    vec![invocations(kernel("clip", &WG), reads, writes, bytemuck::bytes_of(&size), HYPERS)]
}

/// One step over `quads` vec4; `state` is parameters, first moments, second moments, average.
pub fn adamw_ema(quads: usize, gradients: Slice, hyper: Slice, state: [Slice; 4]) -> Vec<Launch> {
    adamw(kernel("adamw_ema", &WG), quads, gradients, hyper, state)
}

/// As [`adamw_ema`], but where the gradients' scale is 0 nothing is changed, whatever the gradients are.
pub fn adamw_ema_unless_skipped(
    quads: usize,
    gradients: Slice,
    hyper: Slice,
    state: [Slice; 4],
) -> Vec<Launch> {
    adamw(kernel("adamw_ema", &[WG[0], ("SKIPS", 1.0)]), quads, gradients, hyper, state)
}

fn adamw(kernel: Kernel, quads: usize, gradients: Slice, hyper: Slice, state: [Slice; 4]) -> Vec<Launch> {
    vec![invocations(kernel, vec![gradients, hyper], state.to_vec(), bytemuck::bytes_of(&flat(quads)), quads)]
}

/// sum += gradients, or sum = gradients where `first` holds 1.
pub fn accumulate(quads: usize, gradients: Slice, first: Slice, sum: Slice) -> Vec<Launch> {
    let kernel = kernel("accumulate", &WG);
    vec![invocations(kernel, vec![gradients, first], vec![sum], bytemuck::bytes_of(&flat(quads)), quads)]
}

/// Parts that the first pass of [`sum_squares`] cuts `quads` vec4 into: whole vec4s of sums.
fn first_parts(quads: usize) -> usize {
    quads.div_ceil(PART_QUADS).next_multiple_of(4).clamp(PARTS, MOST_PARTS)
}

/// Bytes of the two scratches that [`sum_squares`] of `quads` vec4 needs.
pub fn sum_squares_scratch(quads: usize) -> [u64; 2] {
    [first_parts(quads), PARTS].map(|parts| parts as u64 * 4)
}

/// out\[0\] = sum of squares of x, its pads 0; partial sums are added in a fixed order.
pub fn sum_squares(quads: usize, x: Slice, scratch: [Slice; 2], out: Slice) -> Vec<Launch> {
    let pass = |quads: usize, parts: usize, slice_quads: usize, power, from, to| {
        let size = Size { quads: quads as u32, slices: parts as u32, slice_quads: slice_quads as u32, power };
        invocations(kernel("squares", &WG), vec![from], vec![to], bytemuck::bytes_of(&size), parts)
    };
    let parts = first_parts(quads);
    let (first, second) = (parts / 4, PARTS / 4);
    // The last pass has the whole in its first part; three empty ones behind it clear the pads.
    vec![
        pass(quads, parts, quads.div_ceil(parts), 2, x, scratch[0]),
        pass(first, PARTS, first.div_ceil(PARTS), 1, scratch[0], scratch[1]),
        pass(second, 4, second, 1, scratch[1], out),
    ]
}

/// Of gradients, hyper; updates params, m, v, ema.
#[derive(Debug)]
struct AdamWStep {
    quads: usize,
    skips: bool,
}

impl Operation for AdamWStep {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [gradients, hyper] = context.first();
        let run = if self.skips { adamw_ema_unless_skipped } else { adamw_ema };
        run(self.quads, gradients, hyper, std::array::from_fn(|i| context.updates[i]))
    }
}

/// Of x, first; updates the sum.
#[derive(Debug)]
struct Accumulate {
    quads: usize,
}

impl Operation for Accumulate {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        accumulate(self.quads, context.inputs[0], context.inputs[1], context.updates[0])
    }
}

/// Of a sum of squares, hyper; updates the norm and gives the numbers with another scale.
#[derive(Debug)]
struct ClipNorm {
    max_norm: f32,
}

impl Operation for ClipNorm {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [squares, hyper] = context.first();
        clip(self.max_norm, squares, hyper, context.updates[0], context.output)
    }
}

#[derive(Debug)]
struct SumSquares {
    quads: usize,
}

impl Operation for SumSquares {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let scratch = sum_squares_scratch(self.quads).map(|bytes| context.scratch(bytes));
        sum_squares(self.quads, context.inputs[0], scratch, context.output)
    }
}

impl Graph {
    /// One AdamW step and EMA update of flat memory: `state` is params, m, v, ema, all of the gradients' shape.
    pub fn adamw(&mut self, gradients: NodeId, hyper: NodeId, state: [NodeId; 4]) -> Result<()> {
        self.add_adamw(gradients, hyper, state, false)
    }

    /// As [`Graph::adamw`], but where the gradients' scale of `hyper` is 0 nothing is changed, whatever the gradients are.
    pub fn adamw_unless_skipped(
        &mut self,
        gradients: NodeId,
        hyper: NodeId,
        state: [NodeId; 4],
    ) -> Result<()> {
        self.add_adamw(gradients, hyper, state, true)
    }

    fn add_adamw(&mut self, gradients: NodeId, hyper: NodeId, state: [NodeId; 4], skips: bool) -> Result<()> {
        for node in state {
            self.expect("adamw", "state", node, self.shape(gradients))?;
        }
        let quads = device_bytes(self.shape(gradients)) as usize / 16;
        self.push_updating(AdamWStep { quads, skips }, vec![gradients, hyper], state.to_vec(), Vec::new());
        Ok(())
    }

    /// sum += x, or sum = x where `first` \[1\] (a u32 word) is 1.
    pub fn accumulate(&mut self, x: NodeId, first: NodeId, sum: NodeId) -> Result<()> {
        self.expect("accumulate", "sum", sum, self.shape(x))?;
        let quads = device_bytes(self.shape(x)) as usize / 16;
        self.push_updating(Accumulate { quads }, vec![x, first], vec![sum], Vec::new());
        Ok(())
    }

    /// Sum of squares of all elements, a scalar \[1\].
    pub fn sum_squares(&mut self, x: NodeId) -> NodeId {
        let quads = device_bytes(self.shape(x)) as usize / 16;
        self.push(SumSquares { quads }, vec![x], vec![1])
    }

    /// The global norm \[1\] of gradients whose sum of squares \[1\] is given, and the optimizer's numbers `hyper` with a
    /// scale of gradients that makes this norm at most `max_norm` (Pascanu et al. 2013, "On the difficulty of training
    /// recurrent neural networks"). A norm that is NaN makes the scale NaN.
    pub fn clip_norm(&mut self, squares: NodeId, hyper: NodeId, max_norm: f32) -> Result<[NodeId; 2]> {
        self.expect("clip_norm", "sum of squares", squares, &[1])?;
        self.expect("clip_norm", "hyper", hyper, &[HYPERS])?;
        let norm = self.reserve(&[1]);
        let op = ClipNorm { max_norm };
        let clipped = self.push_updating(op, vec![squares, hyper], vec![norm], vec![HYPERS]);
        Ok([norm, clipped])
    }
}
