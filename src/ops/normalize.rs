//! Gradients as they are taken, each sample divided by the root mean square of its elements, and the steps of Algorithm 1 along
//! them: `wgsl/normalize.wgsl`.

use super::kernel::{WG, invocations, shader};
use crate::error::{Error, Result};
use crate::gpu::{Launch, Slice, spread};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::device_bytes;

shader!("normalize");

/// Parts that one sample's squares are summed in.
const PARTS: usize = 8;
/// Gradients of one launch of [`squares`], as many as there are bindings.
const MAPS: usize = 7;
/// Vec4s of an invocation that moves a tensor.
const BLOCK: usize = 8;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Squares {
    samples: u32,
    first: u32,
    count: u32,
    pad: u32,
    maps: [[u32; 4]; MAPS],
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    samples: u32,
    quads: u32,
    share: f32,
    pad: u32,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Along {
    samples: u32,
    each: u32,
    normalized: u32,
    second: u32,
    maps: [[u32; 4]; 2],
    shares: [f32; 4],
}

/// Sizes of a tensor of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Samples {
    /// Vec4s of a sample.
    pub quads: usize,
    /// Elements of a sample that are no pads.
    pub elements: usize,
}

impl Samples {
    /// The samples of a tensor, of which there are so many.
    fn of(shape: &[usize], samples: usize) -> Samples {
        let quads = device_bytes(shape) as usize / 16 / samples.max(1);
        Samples { quads, elements: shape.iter().product::<usize>() / samples.max(1) }
    }

    fn share(self) -> f32 {
        1.0 / self.elements.max(1) as f32
    }

    /// Strips that the samples are moved in.
    fn strips(self, samples: usize) -> usize {
        samples * self.quads.div_ceil(BLOCK)
    }
}

/// Bytes of the sums that [`squares`] of so many gradients makes.
pub fn sums_bytes(samples: usize, gradients: usize) -> u64 {
    (samples * gradients * PARTS * 4) as u64
}

/// Sums of squares of each sample of all gradients ([`sums_bytes`]).
pub fn squares(samples: usize, gradients: &[(Samples, Slice)], sums: Slice) -> Vec<Launch> {
    let launch = |(number, own): (usize, &[(Samples, Slice)])| {
        let mut reads: Vec<Slice> = own.iter().map(|(_, gradient)| *gradient).collect();
        let first = number * MAPS;
        let mut size = Squares {
            samples: samples as u32,
            first: first as u32,
            count: reads.len() as u32,
            pad: 0,
            maps: [[0; 4]; MAPS],
        };
        for (map, (of, _)) in size.maps.iter_mut().zip(own) {
            map[0] = of.quads as u32;
        }
        let workgroups = spread((reads.len() * samples * PARTS) as u64);
        // Bindings that are left hold what another one does.
        if let Some(any) = reads.first().copied() {
            reads.resize(MAPS, any);
        }
        let uniform = bytemuck::bytes_of(&size).to_vec();
        let kernel = kernel("squares", &WG);
        Launch { kernel, reads, writes: vec![sums], uniform, workgroups, multiply_adds: 0, spare: 0 }
    };
    gradients.chunks(MAPS).enumerate().map(launch).collect()
}

/// y of x, both of so many samples; the scratch is of [`sums_bytes`] of one gradient.
pub fn normalize(samples: usize, of: Samples, x: Slice, scratch: Slice, y: Slice) -> Vec<Launch> {
    let size = Size { samples: samples as u32, quads: of.quads as u32, share: of.share(), pad: 0 };
    let mut launches = squares(samples, &[(of, x)], scratch);
    let kernel = kernel("normalize_samples", &WG);
    let uniform = bytemuck::bytes_of(&size);
    launches.push(invocations(kernel, vec![x, scratch], vec![y], uniform, samples * of.quads));
    launches
}

/// How tensors are moved along gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Samples.
    pub samples: usize,
    /// Each sample has an alpha of its own.
    pub each: bool,
}

/// A tensor on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved<T> {
    /// Its sizes.
    pub of: Samples,
    /// The tensor.
    pub x: T,
    /// Its gradient.
    pub gradient: T,
    /// Number of the gradient among those of [`squares`].
    pub number: usize,
    /// Where it ends.
    pub y: T,
}

/// y = x + alpha · gradient of one tensor or two; `sums`: gradients are divided by their lengths, whose squares those are.
pub fn along(step: Step, moved: &[Moved<Slice>], alpha: Slice, sums: Option<Slice>) -> Vec<Launch> {
    let launch = |own: &[Moved<Slice>]| {
        let groups = |moved: &Moved<Slice>| moved.of.strips(step.samples).div_ceil(WG[0].1 as usize);
        let mut size = Along {
            samples: step.samples as u32,
            each: u32::from(step.each),
            normalized: u32::from(sums.is_some()),
            second: own.first().map_or(0, groups) as u32,
            maps: [[0; 4]; 2],
            shares: [0.0; 4],
        };
        for ((map, share), moved) in size.maps.iter_mut().zip(&mut size.shares).zip(own) {
            *map = [moved.of.quads as u32, (moved.number * step.samples) as u32, 0, 0];
            *share = moved.of.share();
        }
        let entry = if own.len() == 2 { "along_two" } else { "along" };
        let reads = [alpha, sums.unwrap_or(alpha)];
        Launch {
            kernel: kernel(entry, &WG),
            reads: reads.into_iter().chain(own.iter().flat_map(|moved| [moved.x, moved.gradient])).collect(),
            writes: own.iter().map(|moved| moved.y).collect(),
            uniform: bytemuck::bytes_of(&size).to_vec(),
            workgroups: spread(own.iter().map(groups).sum::<usize>() as u64),
            multiply_adds: 0,
            spare: 0,
        }
    };
    moved.chunks(2).map(launch).collect()
}

#[derive(Debug)]
struct Normalize {
    samples: usize,
    of: Samples,
}

impl Operation for Normalize {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let sums = context.scratch(sums_bytes(self.samples, 1));
        normalize(self.samples, self.of, context.inputs[0], sums, context.output)
    }
}

/// Of gradients: their sums of squares.
#[derive(Debug)]
struct GradientSquares {
    samples: usize,
    of: Vec<Samples>,
}

impl Operation for GradientSquares {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let gradients: Vec<(Samples, Slice)> =
            self.of.iter().copied().zip(context.inputs.iter().copied()).collect();
        squares(self.samples, &gradients, context.output)
    }
}

/// Of alpha, \[sums\], then x and gradient of one tensor, whose result it is, or of two, which it updates.
#[derive(Debug)]
struct MoveAlong {
    step: Step,
    normalized: bool,
    /// Of each its sizes and the number of its gradient.
    moved: Vec<(Samples, usize)>,
}

impl Operation for MoveAlong {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let sums = context.optional(self.normalized, 1);
        let pairs = context.inputs[1 + usize::from(self.normalized)..].chunks_exact(2);
        let one = [context.output];
        let results = if self.moved.len() == 1 { one.as_slice() } else { context.updates };
        let moved: Vec<Moved<Slice>> = (self.moved.iter().zip(pairs).zip(results))
            .map(|((&(of, number), pair), y)| Moved { of, x: pair[0], gradient: pair[1], number, y: *y })
            .collect();
        along(self.step, &moved, context.inputs[0], sums)
    }

    fn vjp(&self, _graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        // Gradients and alpha are given. Of two tensors autodiff refuses itself.
        let x = 1 + usize::from(self.normalized);
        if at.position == x { Ok(Some(at.dy)) } else { self.no_gradient(at) }
    }
}

impl Graph {
    /// Each sample of `x` \[N,…\] divided by the root mean square of its elements (plus 1e-12, so that zeros stay): a gradient's
    /// direction, of the same length for every image.
    pub fn normalize(&mut self, x: NodeId) -> NodeId {
        let shape = self.shape(x);
        let samples = shape.first().copied().unwrap_or(1).max(1);
        let of = Samples::of(shape, samples);
        self.push_like(x, Normalize { samples, of }, vec![x])
    }

    /// x + alpha · g, the step of Algorithm 1; `alpha` is \[1\], or \[N\], one of each sample.
    ///
    /// # Errors
    /// As [`Graph::move_along`].
    pub fn axpy(&mut self, x: NodeId, g: NodeId, alpha: NodeId) -> Result<NodeId> {
        let moved = self.move_along(&[x], &[g], alpha, false)?;
        moved.first().copied().ok_or_else(|| Error::shape("axpy", "nothing was moved"))
    }

    /// Each of `xs` \[N,…\] plus alpha times its gradient of `gradients`, the step of Algorithm 1; with `normalize` gradients are
    /// taken as [`Graph::normalize`] makes them. `alpha` is \[1\], or \[N\], one of each sample. Two tensors are a launch; no
    /// gradient goes through it.
    ///
    /// # Errors
    /// [`Error::Shape`] where the tensors do not fit each other.
    pub fn move_along(
        &mut self,
        xs: &[NodeId],
        gradients: &[NodeId],
        alpha: NodeId,
        normalize: bool,
    ) -> Result<Vec<NodeId>> {
        let batch = xs.first().and_then(|x| self.shape(*x).first()).copied().unwrap_or(1).max(1);
        let each = batch > 1 && self.shape(alpha) == [batch];
        if !each {
            self.expect("axpy", "alpha", alpha, &[1])?;
        }
        if xs.len() != gradients.len() {
            let detail = format!("{} gradients of {} tensors", gradients.len(), xs.len());
            return Err(Error::shape("axpy", detail));
        }
        let samples = if each || normalize { batch } else { 1 };
        for (x, gradient) in xs.iter().zip(gradients) {
            self.expect("axpy", "g", *gradient, self.shape(*x))?;
            if samples > 1 && (self.shape(*x).len() < 2 || self.shape(*x).first() != Some(&samples)) {
                let detail = format!("{:?} is not of {samples} samples", self.shape(*x));
                return Err(Error::shape("axpy", detail));
            }
        }
        let sizes: Vec<Samples> = xs.iter().map(|x| Samples::of(self.shape(*x), samples)).collect();
        let mut given = vec![alpha];
        if normalize {
            let op = GradientSquares { samples, of: sizes.clone() };
            let words = sums_bytes(samples, xs.len()) as usize / 4;
            given.push(self.push(op, gradients.to_vec(), vec![words]));
        }
        let step = Step { samples, each };
        let numbered: Vec<(Samples, usize)> = sizes.into_iter().zip(0..).collect();
        let mut results = Vec::with_capacity(xs.len());
        for ((xs, gradients), moved) in xs.chunks(2).zip(gradients.chunks(2)).zip(numbered.chunks(2)) {
            let pairs = xs.iter().zip(gradients).flat_map(|(x, gradient)| [*x, *gradient]);
            let inputs: Vec<NodeId> = given.iter().copied().chain(pairs).collect();
            let op = MoveAlong { step, normalized: normalize, moved: moved.to_vec() };
            match *xs {
                [x] => results.push(self.push_like(x, op, inputs)),
                _ => {
                    let shapes: Vec<Vec<usize>> = xs.iter().map(|x| self.shape(*x).to_vec()).collect();
                    let ends: Vec<NodeId> = shapes.iter().map(|shape| self.reserve(shape)).collect();
                    results.extend(&ends);
                    self.push_updating(op, inputs, ends, Vec::new());
                }
            }
        }
        Ok(results)
    }
}
