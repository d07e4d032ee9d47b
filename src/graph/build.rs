//! Builder methods: each checks shapes and appends one or a few nodes.

use super::op::{Activation, Op, Pooling};
use super::{Graph, NodeId, Place};
use crate::error::{Error, Result};
use crate::kernels::attention::{self, Attention};
use crate::kernels::conv3x3::Conv3x3;
use crate::kernels::groupnorm::{self, GroupNorm};
use crate::kernels::loss::Mse;
use crate::kernels::matmul::{self, MatMul};
use crate::kernels::solver::{COEFFICIENTS, SolverStep, Sources};
use crate::kernels::variational::Variational;
use crate::tensor::device_bytes;
use crate::tensor::pitch;

impl Graph {
    /// A tensor that exists before the run at `place`.
    pub fn leaf(&mut self, shape: &[usize], place: Place) -> NodeId {
        let node = self.push(Op::Leaf, Vec::new(), shape.to_vec());
        self.nodes[node.index()].place = Some(place);
        node
    }

    /// Memory of the given shape that another node writes.
    fn reserve(&mut self, shape: &[usize]) -> NodeId {
        self.push(Op::Reserve, Vec::new(), shape.to_vec())
    }

    /// A vector \[count\] with every element `value`.
    pub fn fill(&mut self, count: usize, value: f32) -> NodeId {
        self.push(Op::Fill { count, value }, Vec::new(), vec![count])
    }

    /// \[batch, height, width, channels\] of an image tensor.
    pub fn image_shape(&self, op: &'static str, x: NodeId) -> Result<[usize; 4]> {
        <[usize; 4]>::try_from(self.shape(x))
            .map_err(|_| Error::shape(op, format!("needs [N,H,W,C], got {:?}", self.shape(x))))
    }

    pub(super) fn expect(&self, op: &'static str, what: &str, node: NodeId, shape: &[usize]) -> Result<()> {
        if self.shape(node) == shape {
            return Ok(());
        }
        Err(Error::shape(op, format!("{what} must be {shape:?}, is {:?}", self.shape(node))))
    }

    /// 3×3 convolution, padding 1, stride 1 or 2, of `x` \[N,H,W,C\] with `weight` \[9,pitch(C),K\]; `bias` \[K\] and
    /// `residual` (shape of the result) are added.
    pub fn conv3x3(
        &mut self,
        x: NodeId,
        weight: NodeId,
        stride: usize,
        bias: Option<NodeId>,
        residual: Option<NodeId>,
    ) -> Result<NodeId> {
        let [batch, height, width, in_channels] = self.image_shape("conv3x3", x)?;
        if !(1..=2).contains(&stride) {
            return Err(Error::shape("conv3x3", format!("stride must be 1 or 2, is {stride}")));
        }
        let out_channels = *self.shape(weight).last().unwrap_or(&0);
        self.expect("conv3x3", "weight", weight, &[9, pitch(in_channels), out_channels])?;
        let size = Conv3x3 { batch, height, width, in_channels, out_channels, stride };
        let shape = vec![batch, size.out_height(), size.out_width(), out_channels];
        let mut inputs = vec![x, weight];
        if let Some(bias) = bias {
            self.expect("conv3x3", "bias", bias, &[out_channels])?;
            inputs.push(bias);
        }
        if let Some(residual) = residual {
            self.expect("conv3x3", "residual", residual, &shape)?;
            inputs.push(residual);
        }
        let op = Op::Conv3x3 { size, bias: bias.is_some(), residual: residual.is_some() };
        Ok(self.push(op, inputs, shape))
    }

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
        if matmul::row_bytes(&size, sources.1).is_multiple_of(256) {
            (inputs[0], first) = (sources.0, sources.1);
            inputs.extend(sources.2);
        }
        let op = Op::MatMul { size, first, bias: bias.is_some(), residual: residual.is_some() };
        Ok(self.push(op, inputs, shape))
    }

    /// GroupNorm of `x` \[N,H,W,C\], optionally scaled and shifted by `scale_shift` \[N,2C\] and followed by SiLU.
    pub fn group_norm(
        &mut self,
        x: NodeId,
        gamma: NodeId,
        beta: NodeId,
        groups: usize,
        scale_shift: Option<NodeId>,
        silu: bool,
    ) -> Result<NodeId> {
        let shape = self.image_shape("group_norm", x)?;
        let [batch, height, width, channels] = shape;
        if groups == 0 || !channels.is_multiple_of(groups) {
            let detail = format!("{channels} channels do not divide into {groups} groups");
            return Err(Error::shape("group_norm", detail));
        }
        self.expect("group_norm", "gamma", gamma, &[channels])?;
        self.expect("group_norm", "beta", beta, &[channels])?;
        let size = GroupNorm {
            batch,
            pixels: height * width,
            channels,
            groups,
            silu,
            scale_shift: scale_shift.is_some(),
        };
        let words = groupnorm::stats_bytes(&size) as usize / 4;
        let (x, first, other) = self.sources(x, channels);
        let read = [x].into_iter().chain(other).collect();
        let stats = self.push(Op::GroupNormStats { size, first }, read, vec![words]);
        let mut inputs = vec![x, stats, gamma, beta];
        if let Some(scale_shift) = scale_shift {
            self.expect("group_norm", "scale_shift", scale_shift, &[batch, 2 * channels])?;
            inputs.push(scale_shift);
        }
        inputs.extend(other);
        Ok(self.push(Op::GroupNorm { size, first }, inputs, shape.to_vec()))
    }

    /// The two tensors that a concatenation consists of, with the channels of the first, so that a kernel which can
    /// read both spares the copy; other tensors as they are.
    fn sources(&self, x: NodeId, channels: usize) -> (NodeId, usize, Option<NodeId>) {
        let node = self.node(x);
        match node.op {
            // The second tensor must begin with a whole vec4.
            Op::Concat { a, .. } if a.is_multiple_of(4) => (node.inputs[0], a, Some(node.inputs[1])),
            _ => (x, channels, None),
        }
    }

    /// Multi-head attention over the pixels of `qkv` \[N,H,W,3C\], giving \[N,H,W,C\].
    pub fn attention(&mut self, qkv: NodeId, heads: usize, new_order: bool) -> Result<NodeId> {
        let [batch, height, width, columns] = self.image_shape("attention", qkv)?;
        let channels = columns / 3;
        if heads == 0 || columns % 3 != 0 || !channels.is_multiple_of(heads) {
            let detail = format!("{columns} columns do not make q, k, v of {heads} heads");
            return Err(Error::shape("attention", detail));
        }
        let size = Attention { batch, tokens: height * width, channels, heads, new_order };
        let lse = self.reserve(&[attention::lse_bytes(&size) as usize / 4]);
        let op = Op::Attention { size };
        Ok(self.push_updating(op, vec![qkv], vec![lse], vec![batch, height, width, channels]))
    }

    /// Element-wise activation.
    pub fn activate(&mut self, x: NodeId, activation: Activation) -> NodeId {
        self.push(Op::Activate { activation }, vec![x], self.shape(x).to_vec())
    }

    /// SiLU.
    pub fn silu(&mut self, x: NodeId) -> NodeId {
        self.activate(x, Activation::Silu)
    }

    /// a + b.
    pub fn add(&mut self, a: NodeId, b: NodeId) -> Result<NodeId> {
        self.expect("add", "b", b, self.shape(a))?;
        Ok(self.push(Op::Add, vec![a, b], self.shape(a).to_vec()))
    }

    /// factor · x.
    pub fn scale(&mut self, x: NodeId, factor: f32) -> NodeId {
        self.push(Op::Scale { factor }, vec![x], self.shape(x).to_vec())
    }

    /// x + alpha\[0\] · g, the step of Algorithm 1; `alpha` is \[1\].
    pub fn axpy(&mut self, x: NodeId, g: NodeId, alpha: NodeId) -> Result<NodeId> {
        self.expect("axpy", "g", g, self.shape(x))?;
        self.expect("axpy", "alpha", alpha, &[1])?;
        Ok(self.push(Op::Axpy, vec![x, g, alpha], self.shape(x).to_vec()))
    }

    /// Changes `x` to mask · x + (1 − mask) · known, all of one shape.
    pub fn blend(&mut self, mask: NodeId, known: NodeId, x: NodeId) -> Result<()> {
        self.expect("blend", "mask", mask, self.shape(x))?;
        self.expect("blend", "known", known, self.shape(x))?;
        let quads = device_bytes(self.shape(x)) as usize / 16;
        self.push_updating(Op::Blend { quads }, vec![mask, known], vec![x], Vec::new());
        Ok(())
    }

    /// Concatenation along the channels, `a` first.
    pub fn concat(&mut self, a: NodeId, b: NodeId) -> Result<NodeId> {
        let (mut shape, other) = (self.shape(a).to_vec(), self.shape(b).to_vec());
        let (Some(columns), Some(more)) = (shape.pop(), other.last().copied()) else {
            return Err(Error::shape("concat", "needs at least one dimension"));
        };
        if shape != other[..other.len() - 1] {
            return Err(Error::shape("concat", format!("{:?} and {other:?}", self.shape(a))));
        }
        let rows = shape.iter().product();
        shape.push(columns + more);
        Ok(self.push(Op::Concat { rows, a: columns, b: more }, vec![a, b], shape))
    }

    /// Channels `from..from + count`.
    pub fn slice_channels(&mut self, x: NodeId, from: usize, count: usize) -> Result<NodeId> {
        let mut shape = self.shape(x).to_vec();
        let columns = shape.pop().unwrap_or(0);
        if from + count > columns {
            let detail = format!("{from}..{} of {columns} channels", from + count);
            return Err(Error::shape("slice_channels", detail));
        }
        let rows = shape.iter().product();
        shape.push(count);
        Ok(self.push(Op::SliceChannels { rows, columns, from, count }, vec![x], shape))
    }

    /// x \[N,H,W,C\] + m \[N,C\] in every pixel.
    pub fn add_rowwise(&mut self, x: NodeId, m: NodeId) -> Result<NodeId> {
        let [batch, height, width, channels] = self.image_shape("add_rowwise", x)?;
        self.expect("add_rowwise", "m", m, &[batch, channels])?;
        let op = Op::AddRowwise { batch, pixels: height * width, channels };
        Ok(self.push(op, vec![x, m], self.shape(x).to_vec()))
    }

    /// Nearest-neighbour upsampling by two.
    pub fn upsample(&mut self, x: NodeId) -> Result<NodeId> {
        let [batch, height, width, channels] = self.image_shape("upsample", x)?;
        let (source, target) = ([height, width], [2 * height, 2 * width]);
        let op = Op::Expand { batch, source, target, channels, scale: 1.0 };
        Ok(self.push(op, vec![x], vec![batch, target[0], target[1], channels]))
    }

    /// 2×2 mean with stride two; an odd last row or column is dropped.
    pub fn average_pool(&mut self, x: NodeId) -> Result<NodeId> {
        let [batch, height, width, channels] = self.image_shape("average_pool", x)?;
        if height < 2 || width < 2 {
            return Err(Error::shape("average_pool", format!("{height}×{width} is too small")));
        }
        let op = Op::Pool { batch, source: [height, width], channels, scale: 0.25 };
        Ok(self.push(op, vec![x], vec![batch, height / 2, width / 2, channels]))
    }

    /// The classifier's input: each map of `maps` \[N,H,W,C\] pooled over its pixels, one after the other, then the raw
    /// timestep `t` \[N\] (f32) as last column.
    pub fn features(&mut self, maps: &[NodeId], t: NodeId, pooling: Pooling) -> Result<NodeId> {
        let batch = self.shape(t).first().copied().unwrap_or(0);
        let mut sizes = Vec::new();
        for map in maps {
            let [n, height, width, channels] = self.image_shape("features", *map)?;
            if n != batch {
                return Err(Error::shape("features", format!("a map has batch {n}, t has {batch}")));
            }
            sizes.push([height * width, channels]);
        }
        let columns = sizes.iter().map(|s| s[1]).sum::<usize>() + 1;
        let mut inputs = maps.to_vec();
        inputs.push(t);
        Ok(self.push(Op::Features { batch, maps: sizes, pooling }, inputs, vec![batch, columns]))
    }

    /// BatchNorm1d of `x` \[N,F\] with the `running` statistics \[2,F\] (mean, variance). In training the batch's own
    /// statistics are used and the running ones are updated in place (momentum 0.1).
    pub fn batch_norm(
        &mut self,
        x: NodeId,
        weight: NodeId,
        bias: NodeId,
        running: NodeId,
        train: bool,
    ) -> Result<NodeId> {
        let &[batch, features] = self.shape(x) else {
            return Err(Error::shape("batch_norm", format!("needs [N,F], got {:?}", self.shape(x))));
        };
        self.expect("batch_norm", "weight", weight, &[features])?;
        self.expect("batch_norm", "bias", bias, &[features])?;
        self.expect("batch_norm", "running statistics", running, &[2, features])?;
        let stats = if train {
            if batch < 2 {
                let detail = "training needs a batch of at least 2: one sample has no variance";
                return Err(Error::shape("batch_norm", detail));
            }
            let op = Op::BatchNormStats { batch, features };
            self.push_updating(op, vec![x], vec![running], vec![3, features])
        } else {
            running
        };
        let op = Op::BatchNorm { batch, features, train };
        Ok(self.push(op, vec![x, stats, weight, bias], vec![batch, features]))
    }

    /// Dropout with the mask of the next layer number, step and seed in `run` \[4\] (u32 words: seed low, seed high,
    /// step, first row); none where `probability` is 0.
    pub fn dropout(&mut self, x: NodeId, run: NodeId, probability: f32) -> NodeId {
        if probability == 0.0 {
            return x;
        }
        let shape = self.shape(x).to_vec();
        let rows = shape.first().copied().unwrap_or(1);
        // A row is one sample, so that the mask of a sample does not depend on the batch it is in.
        let columns = device_bytes(&shape) as usize / 4 / rows.max(1);
        let layer = self.dropout_layers;
        self.dropout_layers += 1;
        self.push(Op::Dropout { rows, columns, layer, probability }, vec![x, run], shape)
    }

    /// Standard normal noise \[N,H,W,C\] of stream `stream`, by seed, step and first row in `run`.
    pub fn normal(&mut self, run: NodeId, shape: [usize; 4], stream: u32) -> NodeId {
        let [batch, height, width, channels] = shape;
        let op = Op::Normal { batch, pixels: height * width, channels, stream };
        self.push(op, vec![run], shape.to_vec())
    }

    /// Sinusoidal embedding of `t` \[N\] with the table `frequencies` \[dim / 2\].
    pub fn timestep_embedding(&mut self, t: NodeId, frequencies: NodeId, dim: usize) -> NodeId {
        let batch = self.shape(t).first().copied().unwrap_or(0);
        self.push(Op::TimestepEmbedding { batch, dim }, vec![t, frequencies], vec![batch, dim])
    }

    /// √ᾱ·x_start + √(1−ᾱ)·noise with `coefficients` \[2N\] per sample.
    pub fn q_sample(&mut self, x_start: NodeId, noise: NodeId, coefficients: NodeId) -> Result<NodeId> {
        let [batch, height, width, channels] = self.image_shape("q_sample", x_start)?;
        self.expect("q_sample", "noise", noise, self.shape(x_start))?;
        self.expect("q_sample", "coefficients", coefficients, &[2 * batch])?;
        let op = Op::QSample { batch, pixels: height * width, channels };
        Ok(self.push(op, vec![x_start, noise, coefficients], self.shape(x_start).to_vec()))
    }

    /// Mean over C,H,W of (prediction − target)², per sample \[N\]; of a prediction with more channels the first count.
    pub fn mse(&mut self, prediction: NodeId, target: NodeId) -> Result<NodeId> {
        let [batch, height, width, channels] = self.image_shape("mse", target)?;
        let [n, h, w, prediction_channels] = self.image_shape("mse", prediction)?;
        if [n, h, w] != [batch, height, width] || prediction_channels < channels {
            let detail = format!("{:?} against {:?}", self.shape(prediction), self.shape(target));
            return Err(Error::shape("mse", detail));
        }
        let size = Mse { batch, pixels: height * width, channels, prediction_channels };
        Ok(self.push(Op::Mse { size }, vec![prediction, target], vec![batch]))
    }

    /// Softmax cross-entropy of `logits` \[N,K\] against `labels` (N u32 words; `u32::MAX`: unlabelled, loss 0), \[N\].
    pub fn cross_entropy(&mut self, logits: NodeId, labels: NodeId) -> Result<NodeId> {
        let &[batch, classes] = self.shape(logits) else {
            return Err(Error::shape("cross_entropy", format!("logits are {:?}", self.shape(logits))));
        };
        self.expect("cross_entropy", "labels", labels, &[batch])?;
        Ok(self.push(Op::CrossEntropy { batch, classes }, vec![logits, labels], vec![batch]))
    }

    /// Binary cross-entropy with logits against `targets` \[N,K\], per sample \[N\]: mean, or sum, over the labels.
    pub fn bce(&mut self, logits: NodeId, targets: NodeId, mean: bool) -> Result<NodeId> {
        let &[batch, classes] = self.shape(logits) else {
            return Err(Error::shape("bce", format!("logits are {:?}", self.shape(logits))));
        };
        self.expect("bce", "targets", targets, &[batch, classes])?;
        Ok(self.push(Op::Bce { batch, classes, mean }, vec![logits, targets], vec![batch]))
    }

    /// The variational term of a learned sigma in bits per dimension, per sample \[N\] (Nichol & Dhariwal 2021, eq. 16);
    /// only the variance half of `model_out` \[N,H,W,2C\] receives a gradient.
    pub fn vb(
        &mut self,
        model_out: NodeId,
        x_start: NodeId,
        x_t: NodeId,
        coefficients: NodeId,
    ) -> Result<NodeId> {
        let [batch, height, width, channels] = self.image_shape("vb", x_start)?;
        self.expect("vb", "model_out", model_out, &[batch, height, width, 2 * channels])?;
        self.expect("vb", "x_t", x_t, self.shape(x_start))?;
        self.expect("vb", "coefficients", coefficients, &[8 * batch])?;
        let size = Variational { batch, pixels: height * width, channels };
        Ok(self.push(Op::Vb { size }, vec![model_out, x_start, x_t, coefficients], vec![batch]))
    }

    /// weight · sum of `values` \[N\], a scalar \[1\].
    pub fn weighted_sum(&mut self, values: NodeId, weight: f32) -> NodeId {
        let batch = self.shape(values).first().copied().unwrap_or(0);
        self.push(Op::WeightedSum { batch, weight }, vec![values], vec![1])
    }

    /// Sum of squares of all elements, a scalar \[1\].
    pub fn sum_squares(&mut self, x: NodeId) -> NodeId {
        let quads = device_bytes(self.shape(x)) as usize / 16;
        self.push(Op::SumSquares { quads }, vec![x], vec![1])
    }

    /// sum += x, or sum = x where `first` \[1\] (a u32 word) is 1.
    pub fn accumulate(&mut self, x: NodeId, first: NodeId, sum: NodeId) -> Result<()> {
        self.expect("accumulate", "sum", sum, self.shape(x))?;
        let quads = device_bytes(self.shape(x)) as usize / 16;
        self.push_updating(Op::Accumulate { quads }, vec![x, first], vec![sum], Vec::new());
        Ok(())
    }

    /// One AdamW step and EMA update of flat memory: `state` is params, m, v, ema, all of the gradients' shape.
    pub fn adamw(&mut self, gradients: NodeId, hyper: NodeId, state: [NodeId; 4]) -> Result<()> {
        for node in state {
            self.expect("adamw", "state", node, self.shape(gradients))?;
        }
        let quads = device_bytes(self.shape(gradients)) as usize / 16;
        self.push_updating(Op::AdamW { quads }, vec![gradients, hyper], state.to_vec(), Vec::new());
        Ok(())
    }

    /// One denoising step of `x` \[N,H,W,C\] in place; `coefficients` \[12 N\] as
    /// in [`crate::kernels::solver`]. Noise is of the shape of x, or rows of such, as a residual is; which
    /// row, the coefficients say. Returns the predicted x_start, which a multistep solver reads before it is written.
    pub fn solver_step(&mut self, x: NodeId, step: SolverInputs) -> Result<NodeId> {
        let shape = self.image_shape("solver", x)?;
        let [batch, height, width, channels] = shape;
        let model_channels = self.image_shape("solver", step.model_out)?[3];
        let wanted = if step.learned_variance { 2 * channels } else { channels };
        self.expect("solver", "model_out", step.model_out, &[batch, height, width, wanted])?;
        self.expect("solver", "coefficients", step.coefficients, &[COEFFICIENTS * batch])?;
        let Sources { noise, gradient, residual } = step.sources;
        for (what, node) in [("noise", Some(noise)), ("residual", residual)] {
            let Some(node) = node.filter(|node| !self.shape(*node).ends_with(&shape)) else { continue };
            let detail = format!("{what} must be rows of {shape:?}, is {:?}", self.shape(node));
            return Err(Error::shape("solver", detail));
        }
        let mut inputs = vec![step.model_out, step.coefficients, noise];
        if let Some(gradient) = gradient {
            self.expect("solver", "gradient", gradient, &shape)?;
            inputs.push(gradient);
        }
        inputs.extend(residual);
        let pred_xstart = self.reserve(&shape);
        let (clip, learned_variance) = (step.clip, step.learned_variance);
        let pixels = height * width;
        let size = SolverStep { batch, pixels, channels, model_channels, clip, learned_variance };
        let op = Op::SolverStep { size, guided: gradient.is_some(), residual: residual.is_some() };
        self.push_updating(op, inputs, vec![x, pred_xstart], Vec::new());
        Ok(pred_xstart)
    }

    /// `x` held between −`bound` and `bound`; NaN stays.
    pub fn clamp(&mut self, x: NodeId, bound: f32) -> NodeId {
        self.push(Op::Clamp { bound }, vec![x], self.shape(x).to_vec())
    }
}

/// What a denoising step reads beside the image it changes.
#[derive(Clone, Copy, Debug)]
pub struct SolverInputs {
    /// The network's output \[N,H,W,C or 2C\].
    pub model_out: NodeId,
    /// Per-sample coefficients \[12 N\].
    pub coefficients: NodeId,
    /// Noise, a guiding gradient, a residual.
    pub sources: Sources<NodeId>,
    /// Clip the predicted x_start to −1..1.
    pub clip: bool,
    /// The second half of the network's channels chooses the variance.
    pub learned_variance: bool,
}
