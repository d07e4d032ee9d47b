//! The operations.

use crate::kernels::attention::Attention;
use crate::kernels::conv3x3::Conv3x3;
use crate::kernels::features::FeatureMap;
use crate::kernels::groupnorm::{GroupNorm, Part};
use crate::kernels::loss::Mse;
use crate::kernels::matmul::MatMul;
use crate::kernels::solver::SolverStep;
use crate::kernels::variational::Variational;
use crate::variants::{Key, Operation};
use serde::{Deserialize, Serialize};

/// How one number is made of each channel of a feature map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Spatial mean (the paper's choice).
    Average,
    /// Spatial maximum of the bottleneck; the skips are averaged all the same, as in the reference.
    Max,
}

impl Pooling {
    /// Whether the map at `position` (0: the bottleneck) is pooled by its maximum.
    pub(crate) fn takes_maximum(self, position: usize) -> bool {
        self == Pooling::Max && position == 0
    }
}

/// Element-wise activations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// x where positive, else slope · x.
    LeakyRelu {
        /// Slope of the negative half.
        slope: f32,
    },
}

/// What a node computes. Inputs are listed in order; shapes are logical, images channels-last.
///
/// Where an operation takes optional inputs, they follow the required ones in the order of the flags.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "fields repeat the sizes of the kernels they are handed to")]
pub enum Op {
    /// A tensor that exists before the run: an input, a parameter or a state.
    Leaf,
    /// Memory that other nodes write.
    Reserve,
    /// Every one of `count` elements equals `value`.
    Fill { count: usize, value: f32 },

    /// x, weight, \[bias\], \[residual\].
    Conv3x3 { size: Conv3x3, bias: bool, residual: bool },
    /// dy, weight.
    Conv3x3GradInput { size: Conv3x3 },
    /// x, dy.
    Conv3x3GradWeight { size: Conv3x3 },
    /// x, weight, \[bias\], \[residual\], \[other\]: where the input is two tensors, `first` is the features of x.
    MatMul { size: MatMul, first: usize, bias: bool, residual: bool },
    /// dy, weight: the gradient of the input's features `from..from + count`.
    MatMulGradInput { size: MatMul, from: usize, count: usize },
    /// x, dy, \[other\].
    MatMulGradWeight { size: MatMul, first: usize },
    /// Column sums of \[rows, columns\].
    SumRows { rows: usize, columns: usize },

    /// x, \[other\]: where the normalised tensor is two, `first` is the channels of x.
    GroupNormStats { size: GroupNorm, first: usize },
    /// x, stats, gamma, beta, \[scale_shift\], \[other\].
    GroupNorm { size: GroupNorm, first: usize },
    /// x, dy, stats, gamma, beta, \[scale_shift\], \[other\].
    GroupNormGradSums { size: GroupNorm, first: usize },
    /// x, dy, stats, sums, \[addend\]: x and the result are `part`.
    GroupNormGradInput { size: GroupNorm, part: Part, addend: bool },
    /// sums, \[scale_shift\].
    GroupNormGradGamma { size: GroupNorm },
    /// sums, \[scale_shift\].
    GroupNormGradBeta { size: GroupNorm },
    /// sums, gamma, beta.
    GroupNormGradScaleShift { size: GroupNorm },

    /// qkv; updates lse.
    Attention { size: Attention },
    /// qkv, out, lse, dout.
    AttentionGrad { size: Attention },

    /// x.
    Activate { activation: Activation },
    /// x, dy.
    ActivateGrad { activation: Activation },
    /// a, b.
    Add,
    /// x.
    Scale { factor: f32 },
    /// x, held between −bound and bound.
    Clamp { bound: f32 },
    /// x, g, alpha: x + alpha\[0\]·g.
    Axpy,

    /// mask, known; updates x: known where the mask is 0, itself where it is 1.
    Blend { quads: usize },

    /// a, b along the channels.
    Concat { rows: usize, a: usize, b: usize },
    /// Channels `from..from + count`.
    SliceChannels { rows: usize, columns: usize, from: usize, count: usize },
    /// The opposite: zeros around.
    EmbedChannels { rows: usize, count: usize, columns: usize, from: usize },
    /// x \[N,HW,C\], m \[N,C\].
    AddRowwise { batch: usize, pixels: usize, channels: usize },
    /// x \[N,HW,C\] to \[N,C\].
    SumPixels { batch: usize, pixels: usize, channels: usize, scale: f32 },

    /// Nearest expansion by two onto an output of a given size.
    Expand { batch: usize, source: [usize; 2], target: [usize; 2], channels: usize, scale: f32 },
    /// 2×2 block sums.
    Pool { batch: usize, source: [usize; 2], channels: usize, scale: f32 },

    /// Feature maps…, t: the classifier's input.
    Features { batch: usize, maps: Vec<[usize; 2]>, pooling: Pooling },
    /// map, features, dfeatures.
    FeaturesGrad { map: FeatureMap },

    /// x; updates the running statistics.
    BatchNormStats { batch: usize, features: usize },
    /// x, stats, weight, bias.
    BatchNorm { batch: usize, features: usize, train: bool },
    /// x, dy, stats, weight.
    BatchNormGradInput { batch: usize, features: usize, train: bool },
    /// x, dy, stats.
    BatchNormGradWeight { batch: usize, features: usize, train: bool },

    /// x, run.
    Dropout { rows: usize, columns: usize, layer: u32, probability: f32 },
    /// run: standard normal noise.
    Normal { batch: usize, pixels: usize, channels: usize, stream: u32 },
    /// t, frequencies.
    TimestepEmbedding { batch: usize, dim: usize },

    /// x_start, noise, coefficients.
    QSample { batch: usize, pixels: usize, channels: usize },
    /// prediction, noise.
    Mse { size: Mse },
    /// prediction, noise, dloss.
    MseGrad { size: Mse },
    /// logits, labels.
    CrossEntropy { batch: usize, classes: usize },
    /// logits, labels, dloss.
    CrossEntropyGrad { batch: usize, classes: usize },
    /// logits, targets.
    Bce { batch: usize, classes: usize, mean: bool },
    /// logits, targets, dloss.
    BceGrad { batch: usize, classes: usize, mean: bool },
    /// model_out, x_start, x_t, coefficients.
    Vb { size: Variational },
    /// model_out, x_start, x_t, coefficients, dloss.
    VbGrad { size: Variational },
    /// values \[N\] to weight · sum \[1\].
    WeightedSum { batch: usize, weight: f32 },
    /// values \[N\] (for its size), scalar \[1\]: weight · scalar in each element.
    WeightedSumGrad { batch: usize, weight: f32 },
    /// x: the same as f16, packed.
    StoreHalf { quads: usize },
    /// What `StoreHalf` made: f32 again.
    LoadHalf { quads: usize },

    /// x: \[1\] sum of squares.
    SumSquares { quads: usize },

    /// gradients, hyper; updates params, m, v, ema.
    AdamW { quads: usize },
    /// x, first; updates the sum.
    Accumulate { quads: usize },
    /// model_out, coefficients, z, \[gradient\], \[residual\]; updates x and pred_xstart.
    SolverStep { size: SolverStep, guided: bool, residual: bool },
}

impl Op {
    /// The keys of tuning tables, one a product; none: there is one family of kernels only.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let parts = |size: &MatMul, first: usize, operation| {
            let parts = size.split(first).into_iter().filter(|part| part.in_features > 0);
            parts.map(|part| part.key(operation)).collect()
        };
        match self {
            Op::Conv3x3 { size, .. } => vec![size.key(Operation::ConvForward)],
            Op::Conv3x3GradInput { size } => vec![size.key(Operation::ConvGradInput)],
            Op::Conv3x3GradWeight { size } => vec![size.key(Operation::ConvGradWeight)],
            Op::MatMul { size, first, .. } => parts(size, *first, Operation::MatmulForward),
            Op::MatMulGradInput { size, count, .. } => {
                vec![MatMul { in_features: *count, ..*size }.key(Operation::MatmulGradInput)]
            }
            Op::MatMulGradWeight { size, first } => parts(size, *first, Operation::MatmulGradWeight),
            Op::Attention { size } => vec![size.key(Operation::AttentionForward)],
            Op::AttentionGrad { size } => vec![size.key(Operation::AttentionGrad)],
            _ => Vec::new(),
        }
    }
}
