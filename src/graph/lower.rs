//! From operations to launches: which kernel each one runs.

use super::op::{Activation, Op};
use crate::gpu::{Launch, Slice};
use crate::kernels::features::FeatureMap;
use crate::kernels::groupnorm::{GroupNorm, Part};
use crate::kernels::matmul::MatMul;
use crate::kernels::pointwise::{self, Binary, Unary};
use crate::kernels::{
    batchnorm, channels, diffuse, families, features, groupnorm, half, loss, matmul, optimizer, random,
    reduce_rows, resample, solver, timestep_embedding, variational,
};
use crate::variants::{Choices, Family, Operation};

/// Memory of a node's tensors.
pub(super) struct Context<'a> {
    pub inputs: &'a [Slice],
    pub updates: &'a [Slice],
    pub output: Slice,
}

/// The tensors that a GroupNorm normalises: its first input and, where that has only `first` channels, its last.
fn parts(size: &GroupNorm, first: usize, inputs: &[Slice]) -> Vec<(Part, Slice)> {
    let mut list = vec![(Part { first: 0, channels: first }, inputs[0])];
    if let Some(other) = inputs.last().filter(|_| first < size.channels) {
        list.push((Part { first, channels: size.channels - first }, *other));
    }
    list
}

/// The launches of `op` in the families of `choices`; `scratch` gives memory that lives only during them.
pub(super) fn lower(
    op: &Op,
    choices: &Choices,
    context: Context<'_>,
    scratch: &mut dyn FnMut(u64) -> Slice,
) -> Vec<Launch> {
    let Context { inputs: i, updates, output: y } = context;
    let quads = (y.bytes / 16) as usize;
    let family = op.keys().first().map_or(Family::Direct, |key| choices.family(key));
    let optional = |present: bool, position: usize| present.then(|| i[position]);
    match op {
        Op::Leaf | Op::Reserve => Vec::new(),
        Op::Fill { count, value } => {
            // The kernel binds a second buffer that a fill does not read.
            let other = scratch(16);
            loss::fill(*count, *value, other, y)
        }
        Op::Conv3x3 { size, bias, residual } => {
            let residual = optional(*residual, 2 + usize::from(*bias));
            families::conv_forward(family, size, i[0], i[1], optional(*bias, 2), residual, y)
        }
        Op::Conv3x3GradInput { size } => families::conv_grad_input(family, size, i[0], i[1], y),
        Op::Conv3x3GradWeight { size } => {
            let partial = scratch(families::conv_grad_weight_scratch(family, size));
            families::conv_grad_weight(family, size, i[0], i[1], partial, y)
        }
        Op::MatMul { size, first, bias, residual } => {
            let residual = optional(*residual, 2 + usize::from(*bias));
            let bias = optional(*bias, 2);
            let product = |size: &MatMul, x, weight, bias, residual, y| {
                let family = choices.family(&size.key(Operation::MatmulForward));
                families::matmul_forward(family, size, x, weight, bias, residual, y)
            };
            let [a, b] = size.split(*first);
            if b.in_features == 0 {
                return product(size, i[0], i[1], bias, residual, y);
            }
            // The second product adds the first one as its residual.
            let sum = scratch(y.bytes);
            let [upper, lower] = matmul::split_weight(size, *first, i[1]);
            let mut launches = product(&a, i[0], upper, bias, residual, sum);
            launches.extend(product(&b, i[i.len() - 1], lower, None, Some(sum), y));
            launches
        }
        Op::MatMulGradInput { size, from, count } => {
            let weight = matmul::split_weight(size, *from, i[1])[1];
            let size = MatMul { in_features: *count, ..*size };
            families::matmul_grad_input(family, &size, i[0], weight, y)
        }
        Op::MatMulGradWeight { size, first } => {
            let mut part = |size: &MatMul, x, dw| {
                let family = choices.family(&size.key(Operation::MatmulGradWeight));
                let partial = scratch(families::matmul_grad_weight_scratch(family, size));
                families::matmul_grad_weight(family, size, x, i[1], partial, dw)
            };
            let [a, b] = size.split(*first);
            if b.in_features == 0 {
                return part(size, i[0], y);
            }
            let [upper, lower] = matmul::split_weight(size, *first, y);
            let mut launches = part(&a, i[0], upper);
            launches.extend(part(&b, i[i.len() - 1], lower));
            launches
        }
        Op::SumRows { rows, columns } => {
            let partial = scratch(reduce_rows::scratch(*rows, *columns));
            reduce_rows::launches(*rows, *columns, i[0], partial, y)
        }
        Op::GroupNormStats { size, first } => groupnorm::stats(size, &parts(size, *first, i), y),
        Op::GroupNorm { size, first } => {
            let ss = optional(size.scale_shift, 4);
            groupnorm::forward(size, &parts(size, *first, i), i[1], i[2], i[3], ss, y)
        }
        Op::GroupNormGradSums { size, first } => {
            let ss = optional(size.scale_shift, 5);
            groupnorm::grad_sums(size, &parts(size, *first, i), i[1], i[2], i[3], i[4], ss, y)
        }
        Op::GroupNormGradInput { size, part, addend } => {
            groupnorm::grad_input(size, *part, i[0], i[1], i[2], i[3], optional(*addend, 4), y)
        }
        Op::GroupNormGradGamma { size } => {
            groupnorm::grad_gamma(size, i[0], optional(size.scale_shift, 1), y)
        }
        Op::GroupNormGradBeta { size } => groupnorm::grad_beta(size, i[0], optional(size.scale_shift, 1), y),
        Op::GroupNormGradScaleShift { size } => groupnorm::grad_scale_shift(size, i[0], i[1], i[2], y),
        Op::Attention { size } => families::attention_forward(family, size, i[0], y, updates[0]),
        Op::AttentionGrad { size } => {
            let partial = scratch(families::attention_grad_scratch(family, size));
            families::attention_grad(family, size, [i[0], i[1], i[2], i[3]], partial, y)
        }
        Op::Activate { activation } => {
            let unary = match *activation {
                Activation::Silu => Unary::Silu,
                Activation::LeakyRelu { slope } => Unary::LeakyRelu { slope },
            };
            pointwise::unary(unary, quads, i[0], y)
        }
        Op::ActivateGrad { activation } => {
            let binary = match *activation {
                Activation::Silu => Binary::SiluGrad,
                Activation::LeakyRelu { slope } => Binary::LeakyReluGrad { slope },
            };
            pointwise::binary(binary, quads, i[0], i[1], y)
        }
        Op::Add => pointwise::binary(Binary::Add, quads, i[0], i[1], y),
        Op::Scale { factor } => pointwise::unary(Unary::Scale { factor: *factor }, quads, i[0], y),
        Op::Clamp { bound } => pointwise::unary(Unary::Clamp { bound: *bound }, quads, i[0], y),
        Op::Axpy => pointwise::axpy(quads, i[0], i[1], i[2], y),
        Op::Blend { quads } => pointwise::blend(*quads, i[0], i[1], updates[0]),
        Op::Concat { rows, a, b } => channels::concat(*rows, *a, *b, i[0], i[1], y),
        Op::SliceChannels { rows, columns, from, count } => {
            channels::slice(*rows, *columns, *from, *count, i[0], y)
        }
        Op::EmbedChannels { rows, count, columns, from } => {
            channels::embed(*rows, *count, *columns, *from, i[0], y)
        }
        Op::StoreHalf { quads } => half::store(*quads, i[0], y),
        Op::LoadHalf { quads } => half::load(*quads, i[0], y),
        Op::AddRowwise { batch, pixels, channels: c } => {
            channels::add_rowwise(*batch, *pixels, *c, i[0], i[1], y)
        }
        Op::SumPixels { batch, pixels, channels: c, scale } => {
            channels::sum_pixels(*batch, *pixels, *c, *scale, i[0], y)
        }
        Op::Expand { batch, source, target, channels: c, scale } => {
            resample::expand(*batch, *source, *target, *c, *scale, i[0], y)
        }
        Op::Pool { batch, source, channels: c, scale } => {
            resample::pool(*batch, *source, *c, *scale, i[0], y)
        }
        Op::Features { batch, maps, pooling } => {
            let columns = maps.iter().map(|m| m[1]).sum::<usize>() + 1;
            let mut launches = Vec::new();
            let mut offset = 0;
            for (position, (&[pixels, channels], x)) in maps.iter().zip(i).enumerate() {
                let maximum = pooling.takes_maximum(position);
                let map = FeatureMap { batch: *batch, pixels, channels, columns, offset, maximum };
                launches.extend(features::pool_into(&map, *x, y));
                offset += channels;
            }
            launches.extend(features::timestep_into(*batch, columns, i[maps.len()], y));
            launches
        }
        Op::FeaturesGrad { map } => features::pool_grad(map, i[0], i[1], i[2], y),
        Op::BatchNormStats { batch, features: f } => batchnorm::stats(*batch, *f, i[0], y, updates[0]),
        Op::BatchNorm { batch, features: f, train } => {
            batchnorm::forward(*batch, *f, *train, [i[0], i[1], i[2], i[3]], y)
        }
        Op::BatchNormGradInput { batch, features: f, train } => {
            batchnorm::grad_input(*batch, *f, *train, [i[0], i[1], i[2], i[3]], y)
        }
        Op::BatchNormGradWeight { batch, features: f, train } => {
            batchnorm::grad_weight(*batch, *f, *train, [i[0], i[1], i[2]], y)
        }
        Op::Dropout { rows, columns, layer, probability } => {
            random::dropout(*rows, *columns, *layer, *probability, [i[0], i[1]], y)
        }
        Op::Normal { batch, pixels, channels: c, stream } => {
            random::normal(*batch, *pixels, *c, *stream, i[0], y)
        }
        Op::TimestepEmbedding { batch, dim } => timestep_embedding::forward(*batch, *dim, i[0], i[1], y),
        Op::QSample { batch, pixels, channels: c } => {
            diffuse::q_sample(*batch, *pixels, *c, [i[0], i[1], i[2]], y)
        }
        Op::Mse { size } => {
            let partial = scratch(loss::mse_scratch(size));
            loss::mse(size, i[0], i[1], partial, y)
        }
        Op::MseGrad { size } => diffuse::mse_grad(size, [i[0], i[1], i[2]], y),
        Op::CrossEntropy { batch, classes } => loss::cross_entropy(*batch, *classes, i[0], i[1], y),
        Op::CrossEntropyGrad { batch, classes } => {
            loss::cross_entropy_grad(*batch, *classes, [i[0], i[1], i[2]], y)
        }
        Op::Bce { batch, classes, mean } => loss::bce(*batch, *classes, *mean, i[0], i[1], y),
        Op::BceGrad { batch, classes, mean } => {
            loss::bce_grad(*batch, *classes, *mean, [i[0], i[1], i[2]], y)
        }
        Op::Vb { size } => {
            let partial = scratch(variational::scratch(size));
            variational::forward(size, [i[0], i[1], i[2], i[3]], partial, y)
        }
        Op::VbGrad { size } => variational::grad(size, [i[0], i[1], i[2], i[3], i[4]], y),
        Op::WeightedSum { batch, weight } => loss::weighted_sum(*batch, *weight, i[0], y),
        Op::WeightedSumGrad { batch, weight } => loss::scale_by(*batch, *weight, i[1], y),
        Op::SumSquares { quads } => {
            let partial = scratch(optimizer::sum_squares_scratch());
            optimizer::sum_squares(*quads, i[0], partial, y)
        }
        Op::AdamW { quads } => {
            let state = [updates[0], updates[1], updates[2], updates[3]];
            optimizer::adamw_ema(*quads, i[0], i[1], state)
        }
        Op::Accumulate { quads } => optimizer::accumulate(*quads, i[0], i[1], updates[0]),
        Op::SolverStep { size, guided, residual } => {
            let gradient = optional(*guided, 3);
            let residual = optional(*residual, 3 + usize::from(*guided));
            let sources = solver::Sources { noise: i[2], gradient, residual };
            solver::step(size, i[0], sources, i[1], [updates[0], updates[1]])
        }
    }
}
