//! From operations to launches: which kernel each one runs.

use super::op::{Activation, Op, Pooling};
use crate::gpu::{Launch, Slice};
use crate::kernels::pointwise::{self, Binary, Unary};
use crate::kernels::{
    attention, batchnorm, channels, conv3x3, diffuse, features, groupnorm, loss, matmul, optimizer, random,
    reduce_rows, resample, sampler, timestep_embedding, variational,
};

/// Memory of a node's tensors.
pub(super) struct Context<'a> {
    pub inputs: &'a [Slice],
    pub updates: &'a [Slice],
    pub output: Slice,
}

/// The launches of `op`; `scratch` gives memory that lives only during them.
pub(super) fn lower(op: &Op, context: Context<'_>, scratch: &mut dyn FnMut(u64) -> Slice) -> Vec<Launch> {
    let Context { inputs: i, updates, output: y } = context;
    let quads = (y.bytes / 16) as usize;
    let optional = |present: bool, position: usize| present.then(|| i[position]);
    match op {
        Op::Leaf | Op::Reserve => Vec::new(),
        Op::Fill { count, value } => loss::fill(*count, *value, y),
        Op::Conv3x3 { size, bias, residual } => {
            let residual = optional(*residual, 2 + usize::from(*bias));
            conv3x3::forward(size, i[0], i[1], optional(*bias, 2), residual, y)
        }
        Op::Conv3x3GradInput { size } => conv3x3::grad_input(size, i[0], i[1], y),
        Op::Conv3x3GradWeight { size } => {
            let partial = scratch(conv3x3::grad_weight_scratch(size));
            conv3x3::grad_weight(size, i[0], i[1], partial, y)
        }
        Op::MatMul { size, bias, residual } => {
            let residual = optional(*residual, 2 + usize::from(*bias));
            matmul::forward(size, i[0], i[1], optional(*bias, 2), residual, y)
        }
        Op::MatMulGradInput { size } => matmul::grad_input(size, i[0], i[1], y),
        Op::MatMulGradWeight { size } => {
            let partial = scratch(matmul::grad_weight_scratch(size));
            matmul::grad_weight(size, i[0], i[1], partial, y)
        }
        Op::SumRows { rows, columns } => {
            let partial = scratch(reduce_rows::scratch(*rows, *columns));
            reduce_rows::launches(*rows, *columns, i[0], partial, y)
        }
        Op::GroupNormStats { size } => groupnorm::stats(size, i[0], y),
        Op::GroupNorm { size } => {
            groupnorm::forward(size, i[0], i[1], i[2], i[3], optional(size.scale_shift, 4), y)
        }
        Op::GroupNormGradSums { size } => {
            let ss = optional(size.scale_shift, 5);
            groupnorm::grad_sums(size, i[0], i[1], i[2], i[3], i[4], ss, y)
        }
        Op::GroupNormGradInput { size } => {
            let ss = optional(size.scale_shift, 6);
            groupnorm::grad_input(size, i[0], i[1], i[2], i[3], i[4], ss, i[5], y)
        }
        Op::GroupNormGradGamma { size } => {
            groupnorm::grad_gamma(size, i[0], optional(size.scale_shift, 1), y)
        }
        Op::GroupNormGradBeta { size } => groupnorm::grad_beta(size, i[0], optional(size.scale_shift, 1), y),
        Op::GroupNormGradScaleShift { size } => groupnorm::grad_scale_shift(size, i[0], i[1], i[2], y),
        Op::Attention { size } => attention::forward(size, i[0], y, updates[0]),
        Op::AttentionGrad { size } => {
            let partial = scratch(attention::grad_scratch(size));
            attention::grad(size, i[0], i[1], i[2], i[3], partial, y)
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
        Op::Axpy => pointwise::axpy(quads, i[0], i[1], i[2], y),
        Op::Concat { rows, a, b } => channels::concat(*rows, *a, *b, i[0], i[1], y),
        Op::SliceChannels { rows, columns, from, count } => {
            channels::slice(*rows, *columns, *from, *count, i[0], y)
        }
        Op::EmbedChannels { rows, count, columns, from } => {
            channels::embed(*rows, *count, *columns, *from, i[0], y)
        }
        Op::AddRowwise { batch, pixels, channels: c } => {
            channels::add_rowwise(*batch, *pixels, *c, i[0], i[1], y)
        }
        Op::SumPixels { batch, pixels, channels: c, scale } => {
            channels::sum_pixels(*batch, *pixels, *c, *scale, i[0], y)
        }
        Op::Expand { batch, source: [h, w], target: [oh, ow], channels: c, scale } => {
            resample::expand(*batch, *h, *w, *oh, *ow, *c, *scale, i[0], y)
        }
        Op::Pool { batch, source: [h, w], channels: c, scale } => {
            resample::pool(*batch, *h, *w, *c, *scale, i[0], y)
        }
        Op::Features { batch, maps, pooling } => {
            let columns = maps.iter().map(|m| m[1]).sum::<usize>() + 1;
            let max = *pooling == Pooling::Max;
            let mut launches = Vec::new();
            let mut offset = 0;
            for ([pixels, c], map) in maps.iter().zip(i) {
                launches.extend(features::pool_into(*batch, *pixels, *c, columns, offset, max, *map, y));
                offset += c;
            }
            launches.extend(features::timestep_into(*batch, columns, i[maps.len()], y));
            launches
        }
        Op::FeaturesGrad { batch, pixels, channels: c, columns, offset, pooling } => {
            let max = *pooling == Pooling::Max;
            features::pool_grad(*batch, *pixels, *c, *columns, *offset, max, i[0], i[1], i[2], y)
        }
        Op::BatchNormStats { batch, features: f } => batchnorm::stats(*batch, *f, i[0], y),
        Op::BatchNorm { batch, features: f, .. } => batchnorm::forward(*batch, *f, i[0], i[1], i[2], i[3], y),
        Op::BatchNormUpdate { batch, features: f } => batchnorm::update_running(*batch, *f, i[0], updates[0]),
        Op::BatchNormGradInput { batch, features: f, train: true } => {
            batchnorm::grad_input_train(*batch, *f, i[0], i[1], i[2], i[3], y)
        }
        Op::BatchNormGradInput { batch, features: f, train: false } => {
            batchnorm::grad_input_eval(*batch, *f, i[1], i[2], i[3], y)
        }
        Op::BatchNormGradWeight { batch, features: f } => {
            batchnorm::grad_weight(*batch, *f, i[0], i[1], i[2], y)
        }
        Op::Dropout { rows, columns, layer, probability } => {
            random::dropout(*rows, *columns, *layer, *probability, i[0], i[1], y)
        }
        Op::Normal { batch, pixels, channels: c, stream } => {
            random::normal(*batch, *pixels, *c, *stream, i[0], y)
        }
        Op::TimestepEmbedding { batch, dim } => timestep_embedding::forward(*batch, *dim, i[0], i[1], y),
        Op::QSample { batch, pixels, channels: c } => {
            diffuse::q_sample(*batch, *pixels, *c, i[0], i[1], i[2], y)
        }
        Op::Mse { batch, pixels, channels: c, prediction_channels } => {
            let partial = scratch(loss::mse_scratch(*batch, *pixels, *c));
            loss::mse(*batch, *pixels, *c, *prediction_channels, i[0], i[1], partial, y)
        }
        Op::MseGrad { batch, pixels, channels: c, prediction_channels } => {
            loss::mse_grad(*batch, *pixels, *c, *prediction_channels, i[0], i[1], i[2], y)
        }
        Op::CrossEntropy { batch, classes } => loss::cross_entropy(*batch, *classes, i[0], i[1], y),
        Op::CrossEntropyGrad { batch, classes } => {
            loss::cross_entropy_grad(*batch, *classes, i[0], i[1], i[2], y)
        }
        Op::Bce { batch, classes, mean } => loss::bce(*batch, *classes, *mean, i[0], i[1], y),
        Op::BceGrad { batch, classes, mean } => loss::bce_grad(*batch, *classes, *mean, i[0], i[1], i[2], y),
        Op::Vb { batch, pixels, channels: c } => {
            let partial = scratch(variational::vb_scratch(*batch, *pixels, *c));
            variational::vb(*batch, *pixels, *c, i[0], i[1], i[2], i[3], partial, y)
        }
        Op::VbGrad { batch, pixels, channels: c } => {
            variational::vb_grad(*batch, *pixels, *c, i[0], i[1], i[2], i[3], i[4], y)
        }
        Op::WeightedSum { batch, weight } => loss::weighted_sum(*batch, *weight, i[0], y),
        Op::WeightedSumGrad { batch, weight } => loss::scale_by(*batch, *weight, i[1], y),
        Op::SumSquares { quads } => {
            let partial = scratch(optimizer::sum_squares_scratch(*quads));
            optimizer::sum_squares(*quads, i[0], partial, y)
        }
        Op::AdamW { quads } => {
            optimizer::adamw_ema(*quads, i[0], i[1], updates[0], updates[1], updates[2], updates[3])
        }
        Op::Accumulate { quads } => optimizer::accumulate(*quads, i[0], i[1], updates[0]),
        Op::Ancestral { batch, pixels, channels: c, model_channels, flags } => {
            let size = sampler::Sampler::new(*batch, *pixels, *c, *model_channels, *flags);
            let gradient = flags.guided.then(|| i[2]);
            let coefficients = i[i.len() - 1];
            sampler::ancestral(&size, i[0], i[1], gradient, coefficients, updates[0], updates[1])
        }
        Op::Ddim { batch, pixels, channels: c, model_channels, flags, reverse } => {
            let size = sampler::Sampler::new(*batch, *pixels, *c, *model_channels, *flags);
            let gradient = flags.guided.then(|| i[2]);
            let coefficients = i[i.len() - 1];
            sampler::ddim(&size, *reverse, i[0], i[1], gradient, coefficients, updates[0], updates[1])
        }
    }
}
