//! Matrix product with a weight and its gradients, for linear layers and 1×1 convolutions.
//!
//! The families: `direct` (`wgsl/matmul.wgsl`), `tiled` (`wgsl/matmul_tiled.wgsl`), `subgroup` (`wgsl/matmul_subgroup.wgsl`) and
//! `cooperative` (`wgsl/matmul_cooperative.wgsl`).

mod cooperative;
mod direct;
mod subgroup;
mod tiled;

use crate::error::Result;
use crate::families::{Choices, Family, Key, KeyKind};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, Node, NodeId, Operation, Upstream};
use crate::ops::linear_group::OfBatchNorm;
use crate::ops::{batchnorm, reduce_rows};
use crate::tensor::pitch;
use std::sync::Arc;

/// Sizes of one product \[rows, in\] · \[in, out\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatMul {
    /// Rows: samples, or pixels of all samples.
    pub rows: usize,
    /// Input features.
    pub in_features: usize,
    /// Output features.
    pub out_features: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Size {
    pub rows: u32,
    pub in_quads: u32,
    pub out_quads: u32,
    pub has_bias: u32,
    pub has_residual: u32,
    pub slices: u32,
    pub slice_rows: u32,
    /// Of the tiled family: quads of the rows of the first of two inputs.
    pub first_quads: u32,
}

impl MatMul {
    /// The products of the first `first` input features and of the others, whose sum is this one.
    pub fn split(&self, first: usize) -> [MatMul; 2] {
        [first, self.in_features - first].map(|in_features| MatMul { in_features, ..*self })
    }

    pub(super) fn uniform(&self) -> Size {
        Size {
            rows: self.rows as u32,
            in_quads: (pitch(self.in_features) / 4) as u32,
            out_quads: (pitch(self.out_features) / 4) as u32,
            ..Size::default()
        }
    }

    /// Struct and bindings of a forward pass; what is absent is bound to what is there, and not read.
    pub(super) fn forward_operands(
        &self,
        x: Slice,
        weight: Slice,
        bias: Option<Slice>,
        residual: Option<Slice>,
    ) -> (Size, Vec<Slice>) {
        let uniform = Size {
            has_bias: u32::from(bias.is_some()),
            has_residual: u32::from(residual.is_some()),
            ..self.uniform()
        };
        (uniform, vec![x, weight, bias.unwrap_or(weight), residual.unwrap_or(x)])
    }

    /// Struct and bindings of the gradient for the input, as [`MatMul::forward_operands`] but without a bias.
    fn gradient_operands(&self, dy: Slice, weight: Slice, addend: Option<Slice>) -> (Size, Vec<Slice>) {
        let uniform = Size { has_residual: u32::from(addend.is_some()), ..self.uniform() };
        (uniform, vec![dy, weight, addend.unwrap_or(dy)])
    }

    pub(super) fn multiply_adds(&self) -> u64 {
        (self.rows * self.in_features * self.out_features) as u64
    }

    /// Values of the weight with its pads.
    pub(super) fn weight_elements(&self) -> usize {
        pitch(self.in_features) * pitch(self.out_features)
    }

    /// This product as key of a tuning table.
    pub fn key(&self, operation: KeyKind) -> Key {
        Key { operation, shape: vec![self.rows, self.in_features, self.out_features] }
    }

    /// The product of a key; `None`: it is of another operation.
    pub fn of_key(key: &Key) -> Option<MatMul> {
        match (key.operation, key.shape.as_slice()) {
            (
                KeyKind::MatmulForward | KeyKind::MatmulGradInput | KeyKind::MatmulGradWeight,
                &[rows, in_features, out_features],
            ) => Some(MatMul { rows, in_features, out_features }),
            _ => None,
        }
    }

    /// The keys of the products that [`MatMul::split`] gives.
    fn keys(&self, first: usize, operation: KeyKind) -> Vec<Key> {
        let parts = self.split(first).into_iter().filter(|part| part.in_features > 0);
        parts.map(|part| part.key(operation)).collect()
    }

    /// Whether the products that [`MatMul::split`] gives run in tiles, of which one launch makes both.
    fn both_in_tiles(&self, first: usize, choices: &Choices, operation: KeyKind) -> bool {
        self.keys(first, operation).iter().all(|key| choices.family(key) == Family::Tiled)
    }
}

/// Bytes of the first `rows` rows of the weight.
fn row_bytes(size: &MatMul, rows: usize) -> u64 {
    (rows * pitch(size.out_features) * 4) as u64
}

/// The rows of the weight before `row` and from there on; `row` is a multiple of four.
fn split_weight(size: &MatMul, row: usize, weight: Slice) -> [Slice; 2] {
    let bytes = row_bytes(size, row);
    let rest = Slice { offset: weight.offset + bytes, bytes: weight.bytes - bytes, ..weight };
    [Slice { bytes, ..weight }, rest]
}

/// y = x · weight (+ bias) (+ residual).
pub fn forward(
    family: Family,
    size: &MatMul,
    x: Slice,
    weight: Slice,
    bias: Option<Slice>,
    residual: Option<Slice>,
    y: Slice,
) -> Vec<Launch> {
    let run = match family {
        Family::Direct => direct::forward,
        Family::Tiled => tiled::forward,
        Family::Subgroup => subgroup::forward,
        Family::Cooperative => cooperative::forward,
    };
    run(size, x, weight, bias, residual, y)
}

/// dx = dy · weightᵀ (+ addend).
pub fn grad_input(
    family: Family,
    size: &MatMul,
    dy: Slice,
    weight: Slice,
    addend: Option<Slice>,
    dx: Slice,
) -> Vec<Launch> {
    let run = match family {
        Family::Direct => direct::grad_input,
        Family::Tiled => tiled::grad_input,
        Family::Subgroup => subgroup::grad_input,
        Family::Cooperative => cooperative::grad_input,
    };
    run(size, dy, weight, addend, dx)
}

/// Bytes of scratch that [`grad_weight`] needs for the weight, and for the bias.
fn grad_weight_scratches(family: Family, size: &MatMul) -> [u64; 2] {
    let weight = match family {
        Family::Direct => direct::grad_weight_scratch(size),
        Family::Tiled => return tiled::grad_weight_scratch(size),
        Family::Cooperative => return cooperative::grad_weight_scratch(size),
        Family::Subgroup => subgroup::grad_weight_scratch(size),
    };
    [weight, reduce_rows::scratch(size.rows, size.out_features)]
}

/// Bytes of scratch that [`grad_weight`] needs.
pub fn grad_weight_scratch(family: Family, size: &MatMul) -> u64 {
    reduce_rows::both_scratches(grad_weight_scratches(family, size))
}

/// dw = xᵀ · dy; the gradient of the bias too, where `db` is given.
pub fn grad_weight(
    family: Family,
    size: &MatMul,
    x: Slice,
    dy: Slice,
    scratch: Slice,
    dw: Slice,
    db: Option<Slice>,
) -> Vec<Launch> {
    let scratches = reduce_rows::split_scratch(scratch, grad_weight_scratches(family, size));
    let run = match family {
        Family::Direct => direct::grad_weight,
        Family::Tiled => return tiled::grad_weight(size, x, dy, scratches, dw, db),
        Family::Cooperative => return cooperative::grad_weight(size, x, dy, scratches, dw, db),
        Family::Subgroup => subgroup::grad_weight,
    };
    let mut launches = run(size, x, dy, scratches[0], dw);
    let sum = |db| reduce_rows::launches(size.rows, size.out_features, dy, scratches[1], db);
    launches.extend(db.into_iter().flat_map(sum));
    launches
}

/// Of x, weight, \[bias\], \[residual\], \[other\]: where the input is two tensors, `first` is the features of x.
#[derive(Debug)]
struct MatMulForward {
    size: MatMul,
    first: usize,
    bias: bool,
    residual: bool,
}

impl Operation for MatMulForward {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let (inputs, y, choices) = (context.inputs, context.output, context.choices);
        let bias = context.optional(self.bias, 2);
        let residual = context.optional(self.residual, 2 + usize::from(self.bias));
        let product = |size: &MatMul, x, weight, bias, residual, y| {
            let family = choices.family(&size.key(KeyKind::MatmulForward));
            forward(family, size, x, weight, bias, residual, y)
        };
        let [a, b] = self.size.split(self.first);
        if b.in_features == 0 {
            return product(&self.size, inputs[0], inputs[1], bias, residual, y);
        }
        if self.size.both_in_tiles(self.first, choices, KeyKind::MatmulForward) {
            let both = [inputs[0], inputs[inputs.len() - 1]];
            return tiled::forward_of_two(&self.size, self.first, both, inputs[1], bias, residual, y);
        }
        // The second product adds the first one as its residual.
        let sum = context.scratch(y.quads() as u64 * 16);
        let [upper, lower] = split_weight(&self.size, self.first, inputs[1]);
        let mut launches = product(&a, inputs[0], upper, bias, residual, sum);
        launches.extend(product(&b, inputs[inputs.len() - 1], lower, None, Some(sum), y));
        launches
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let (size, first, dy) = (self.size, self.first, at.dy);
        let (x, weight) = (at.inputs[0], at.inputs[1]);
        let other = at.inputs.last().filter(|_| first < size.in_features).copied();
        let part = |from, count| MatMulGradInput { size, from, count, addend: false };
        Ok(Some(match at.position {
            0 => graph.push_like(x, part(0, first), vec![dy, weight]),
            1 => {
                let list = [x, dy].into_iter().chain(other).collect();
                let op = MatMulGradWeight { size, first, bias: self.bias };
                graph.push_with_bias(op, self.bias, list, weight)
            }
            2 if self.bias => {
                let list: Vec<NodeId> = [x, dy].into_iter().chain(other).collect();
                graph.gradient_of_bias(&MatMulGradWeight { size, first, bias: true }, &list, dy)
            }
            last if other.is_some() && last + 1 == at.inputs.len() => {
                graph.push_like(at.target(), part(first, size.in_features - first), vec![dy, weight])
            }
            _ => dy,
        }))
    }

    fn absorb(
        &self,
        inputs: &[NodeId],
        position: usize,
        maker: &Node,
        choices: &Choices,
    ) -> Option<(Arc<dyn Operation>, Vec<NodeId>)> {
        let slope = batchnorm::slope_of(maker)?;
        let MatMul { rows, in_features, out_features } = self.size;
        let able = position == 0 && self.first == in_features && self.bias && !self.residual;
        let layer = OfBatchNorm::new(rows, [in_features, out_features], slope, choices).filter(|_| able)?;
        Some((Arc::new(layer), [&maker.inputs[..], &inputs[1..]].concat()))
    }

    fn keys(&self) -> Vec<Key> {
        self.size.keys(self.first, KeyKind::MatmulForward)
    }

    fn reads_half(&self, position: usize) -> bool {
        position == 0 || position >= 2 + usize::from(self.bias)
    }

    fn writes_half(&self) -> bool {
        true
    }
}

/// A product of x, weight, \[bias\], \[other\]: of x the first `first` features, of another tensor the rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub size: MatMul,
    pub first: usize,
    pub bias: bool,
}

/// The product that a node is, where it adds no residual and would run in tiles.
pub(super) fn product_in_tiles(node: &Node, choices: &Choices) -> Option<Product> {
    let MatMulForward { size, first, bias, residual } = node.op.downcast_ref()?;
    let able = !residual && size.both_in_tiles(*first, choices, KeyKind::MatmulForward);
    able.then_some(Product { size: *size, first: *first, bias: *bias })
}

/// Of dy, weight, \[addend\]: the gradient of the input's features `from..from + count`.
#[derive(Clone, Copy, Debug)]
struct MatMulGradInput {
    size: MatMul,
    from: usize,
    count: usize,
    addend: bool,
}

impl MatMulGradInput {
    fn part(&self) -> MatMul {
        MatMul { in_features: self.count, ..self.size }
    }
}

impl Operation for MatMulGradInput {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let part = self.part();
        let family = context.family(&part.key(KeyKind::MatmulGradInput));
        let [_, weight] = split_weight(&self.size, self.from, context.inputs[1]);
        let addend = context.optional(self.addend, 2);
        grad_input(family, &part, context.inputs[0], weight, addend, context.output)
    }

    fn with_addend(&self) -> Option<Arc<dyn Operation>> {
        let other: Arc<dyn Operation> = Arc::new(MatMulGradInput { addend: true, ..*self });
        Some(other).filter(|_| !self.addend)
    }

    fn keys(&self) -> Vec<Key> {
        vec![self.part().key(KeyKind::MatmulGradInput)]
    }

    fn reads_half(&self, position: usize) -> bool {
        position != 1
    }

    fn writes_half(&self) -> bool {
        true
    }
}

/// Of a node that is the gradient for the whole input of a product, and nothing else, its sizes, dy and the weight.
pub(super) fn whole_grad_input(node: &Node) -> Option<(MatMul, NodeId, NodeId)> {
    let MatMulGradInput { size, count, addend, .. } = *node.op.downcast_ref()?;
    let whole = count == size.in_features && !addend;
    whole.then(|| (size, node.inputs[0], node.inputs[1]))
}

/// Of x, dy, \[other\]; updates the gradient of the bias, where there is one.
#[derive(Debug, PartialEq)]
struct MatMulGradWeight {
    size: MatMul,
    first: usize,
    bias: bool,
}

impl Operation for MatMulGradWeight {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let (inputs, y) = (context.inputs, context.output);
        let bias = context.updates.first().copied();
        let [a, b] = self.size.split(self.first);
        if b.in_features > 0
            && self.size.both_in_tiles(self.first, context.choices, KeyKind::MatmulGradWeight)
        {
            let bytes = tiled::grad_weight_scratch(&self.size);
            let scratch = context.scratch(reduce_rows::both_scratches(bytes));
            let scratches = reduce_rows::split_scratch(scratch, bytes);
            let both = [inputs[0], inputs[inputs.len() - 1]];
            return tiled::grad_weight_of_two(&self.size, self.first, both, inputs[1], scratches, y, bias);
        }
        let mut part = |size: &MatMul, x, dw, db| {
            let family = context.family(&size.key(KeyKind::MatmulGradWeight));
            let scratch = context.scratch(grad_weight_scratch(family, size));
            grad_weight(family, size, x, inputs[1], scratch, dw, db)
        };
        if b.in_features == 0 {
            return part(&self.size, inputs[0], y, bias);
        }
        let [upper, lower] = split_weight(&self.size, self.first, y);
        let mut launches = part(&a, inputs[0], upper, bias);
        launches.extend(part(&b, inputs[inputs.len() - 1], lower, None));
        launches
    }

    fn keys(&self) -> Vec<Key> {
        self.size.keys(self.first, KeyKind::MatmulGradWeight)
    }

    fn reads_half(&self, _position: usize) -> bool {
        true
    }
}

impl Graph {
    /// x · weight (+ bias) (+ residual) over the last dimension: a linear layer, or a 1×1 convolution. `weight` is
    /// \[pitch(in), out\].
    pub fn matmul(
        &mut self,
        x: NodeId,
        weight: NodeId,
        bias: Option<NodeId>,
        residual: Option<NodeId>,
    ) -> Result<NodeId> {
        let mut shape = self.shape(x).to_vec();
        let in_features = shape.pop().unwrap_or(0);
        let rows = shape.iter().product();
        let out_features = *self.shape(weight).last().unwrap_or(&0);
        self.expect("matmul", "weight", weight, &[pitch(in_features), out_features])?;
        shape.push(out_features);
        let mut inputs = vec![x, weight];
        if let Some(bias) = bias {
            self.expect("matmul", "bias", bias, &[out_features])?;
            inputs.push(bias);
        }
        if let Some(residual) = residual {
            self.expect("matmul", "residual", residual, &shape)?;
            inputs.push(residual);
        }
        let size = MatMul { rows, in_features, out_features };
        let (mut first, sources) = (in_features, self.sources(x, in_features));
        // The second tensor's rows of the weight must begin where a binding may begin.
        if row_bytes(&size, sources.1).is_multiple_of(256) {
            (inputs[0], first) = (sources.0, sources.1);
            inputs.extend(sources.2);
        }
        let op = MatMulForward { size, first, bias: bias.is_some(), residual: residual.is_some() };
        Ok(self.push(op, inputs, shape))
    }
}
