//! The operations that a device is checked by: each a small graph at odd sizes, with its gradients.

use crate::error::Result;
use crate::graph::{Graph, NodeId, Place, Plan};
use crate::ops::conv2d::Window;
use crate::ops::features::Pooling;
use crate::ops::pointwise::Activation;
use crate::ops::total::Summand;
use crate::rng::{Seed, Stream, uniform};
use crate::tensor::{pad_rows, pitch};

/// What a case is made of.
pub(super) struct Case {
    graph: Graph,
    /// Of each input, in order, the bytes of its buffer.
    inputs: Vec<Vec<u8>>,
    /// Of each result, in order, the values of a row.
    results: Vec<usize>,
}

/// Name and maker of a case.
pub(super) type Maker = (&'static str, fn(&mut Case) -> Result<()>);

impl Case {
    /// The buffer of an input.
    pub(super) fn input_name(number: usize) -> String {
        format!("in {number}")
    }

    /// The buffer of a result.
    pub(super) fn result_name(number: usize) -> String {
        format!("out {number}")
    }

    /// The graph compiled, the bytes of its inputs, and of each result the values of a row.
    pub(super) fn compiled(make: fn(&mut Case) -> Result<()>) -> Result<(Plan, Vec<Vec<u8>>, Vec<usize>)> {
        let mut case = Case { graph: Graph::new(), inputs: Vec::new(), results: Vec::new() };
        make(&mut case)?;
        Ok((case.graph.compile()?, case.inputs, case.results))
    }

    fn given(&mut self, shape: &[usize], bytes: Vec<u8>) -> NodeId {
        let leaf = self.graph.leaf(shape, Place::whole(Self::input_name(self.inputs.len())));
        self.inputs.push(bytes);
        leaf
    }

    /// Values in `middle` ± `width` that depend on the input's number alone.
    fn spread(&self, count: usize, middle: f32, width: f32) -> Vec<f32> {
        let mut values = vec![0.0; count];
        uniform(Seed(17), Stream::Init, 3, self.inputs.len() as u32, &mut values);
        values.iter_mut().for_each(|value| *value = middle + width * (2.0 * *value - 1.0));
        values
    }

    fn floats(&mut self, shape: &[usize], values: &[f32]) -> NodeId {
        let columns = shape.last().copied().unwrap_or(1);
        self.given(shape, bytemuck::cast_slice(&pad_rows(values, columns)).to_vec())
    }

    fn values(&mut self, shape: &[usize], middle: f32, width: f32) -> NodeId {
        let values = self.spread(shape.iter().product(), middle, width);
        self.floats(shape, &values)
    }

    fn words(&mut self, words: &[u32]) -> NodeId {
        let mut padded = words.to_vec();
        padded.resize(pitch(words.len()), 0);
        self.given(&[words.len()], bytemuck::cast_slice(&padded).to_vec())
    }

    /// A weight of `taps` matrices, whose rows beyond the inputs are zero.
    fn weight(&mut self, taps: &[usize], inputs: usize, outputs: usize) -> NodeId {
        let count = taps.iter().product::<usize>();
        let mut values = self.spread(count * pitch(inputs) * outputs, 0.0, 1.0 / (count * inputs) as f32);
        for (row, values) in values.chunks_mut(outputs).enumerate() {
            if row % pitch(inputs) >= inputs {
                values.fill(0.0);
            }
        }
        let shape: Vec<usize> = taps.iter().copied().chain([pitch(inputs), outputs]).collect();
        self.floats(&shape, &values)
    }

    fn result(&mut self, node: NodeId) {
        let place = Place::whole(Self::result_name(self.results.len()));
        self.results.push(self.graph.shape(node).last().copied().unwrap_or(1));
        self.graph.place(node, place);
    }

    /// A result and the gradients of its weighted sum for `targets`.
    fn both(&mut self, y: NodeId, targets: &[NodeId]) -> Result<()> {
        let shape = self.graph.shape(y).to_vec();
        let dy = self.values(&shape, 0.0, 1.0);
        self.result(y);
        for gradient in self.graph.grad_from(y, dy, targets)? {
            self.result(gradient);
        }
        Ok(())
    }
}

fn conv3x3(case: &mut Case, shape: [usize; 4], outputs: usize, stride: usize) -> Result<()> {
    let x = case.values(&shape, 0.0, 1.0);
    let weight = case.weight(&[9], shape[3], outputs);
    let bias = case.values(&[outputs], 0.0, 0.5);
    let y = case.graph.conv3x3(x, weight, stride, Some(bias), None)?;
    case.both(y, &[x, weight, bias])
}

/// A convolution of an expansion, plus a product of two tensors: in tiles one launch.
fn conv3x3_with_product(case: &mut Case) -> Result<()> {
    let (x, weight) = (case.values(&[2, 7, 5, 18], 0.0, 1.0), case.weight(&[9], 18, 40));
    let bias = case.values(&[40], 0.0, 0.5);
    let beside = [16, 6].map(|channels| case.values(&[2, 14, 10, channels], 0.0, 1.0));
    let (matrix, vector) = (case.weight(&[], 22, 40), case.values(&[40], 0.0, 0.5));
    let wide = case.graph.upsample(x)?;
    let both = case.graph.concat(beside[0], beside[1])?;
    let residual = case.graph.matmul(both, matrix, Some(vector), None)?;
    let y = case.graph.conv3x3(wide, weight, 1, Some(bias), Some(residual))?;
    case.both(y, &[x, weight, bias, beside[0], beside[1], matrix, vector])
}

fn matmul(case: &mut Case, rows: usize, inputs: usize, outputs: usize) -> Result<()> {
    let x = case.values(&[rows, inputs], 0.0, 1.0);
    let weight = case.weight(&[], inputs, outputs);
    let bias = case.values(&[outputs], 0.0, 0.5);
    let residual = case.values(&[rows, outputs], 0.0, 1.0);
    let y = case.graph.matmul(x, weight, Some(bias), Some(residual))?;
    case.both(y, &[x, weight, bias, residual])
}

fn attention(case: &mut Case, channels: usize, heads: usize, new_order: bool) -> Result<()> {
    let qkv = case.values(&[2, 7, 7, 3 * channels], 0.0, 1.5);
    let y = case.graph.attention(qkv, heads, new_order)?;
    case.both(y, &[qkv])
}

fn group_norm(case: &mut Case, shape: [usize; 4], groups: usize) -> Result<()> {
    let [batch, .., channels] = shape;
    let x = case.values(&shape, 0.3, 1.0);
    let gamma = case.values(&[channels], 1.0, 0.3);
    let beta = case.values(&[channels], 0.0, 0.3);
    let scale_shift = case.values(&[batch, 2 * channels], 0.0, 0.4);
    let y = case.graph.group_norm(x, gamma, beta, groups, Some(scale_shift), true)?;
    case.both(y, &[x, gamma, beta, scale_shift])
}

/// BatchNorm of an activation, where it learns with dropout between the two.
fn batch_norm_of_activation(case: &mut Case, learn: bool) -> Result<()> {
    let x = case.values(&[6, 13], 0.3, 1.0);
    let vectors = [case.values(&[13], 1.0, 0.3), case.values(&[13], 0.0, 0.3)];
    let running = case.values(&[2, 13], 1.0, 0.5);
    let mut seen = case.graph.activate(x, Activation::LeakyRelu { slope: 0.1 });
    let mut learns = None;
    if learn {
        let run = case.words(&[99, 0, 4, 10]);
        seen = case.graph.dropout(seen, run, 0.3);
        learns = Some(case.floats(&[1], &[1.0]));
    }
    let [weight, bias] = vectors;
    let y = case.graph.batch_norm(seen, weight, bias, running, learns)?;
    case.both(y, &[x, weight, bias])
}

fn batch_norm(case: &mut Case, learn: bool) -> Result<()> {
    let x = case.values(&[5, 13], 0.3, 1.0);
    let weight = case.values(&[13], 1.0, 0.3);
    let bias = case.values(&[13], 0.0, 0.3);
    let running = case.values(&[2, 13], 1.0, 0.5);
    let learn = if learn { Some(case.floats(&[1], &[1.0])) } else { None };
    let y = case.graph.batch_norm(x, weight, bias, running, learn)?;
    case.both(y, &[x, weight, bias])
}

/// A linear layer of a BatchNorm by running statistics, as a classifier's head has it: on a GPU one launch each way.
fn layer_of_batch_norm(case: &mut Case) -> Result<()> {
    let x = case.values(&[9, 13], 0.3, 1.0);
    let [gain, offset] = [1.0, 0.0].map(|middle| case.values(&[13], middle, 0.3));
    let running = case.values(&[2, 13], 1.0, 0.5);
    let (weight, bias) = (case.weight(&[], 13, 10), case.values(&[10], 0.0, 0.5));
    let seen = case.graph.activate(x, Activation::LeakyRelu { slope: 0.1 });
    let normalised = case.graph.batch_norm(seen, gain, offset, running, None)?;
    let y = case.graph.matmul(normalised, weight, Some(bias), None)?;
    case.both(y, &[x])
}

/// A linear layer of embedded timesteps: on a GPU one launch each way.
fn layer_of_timesteps(case: &mut Case) -> Result<()> {
    let (t, frequencies) = (case.values(&[9], 500.0, 500.0), case.values(&[5], 0.5, 0.5));
    let layer = [case.weight(&[], 11, 10), case.values(&[10], 0.0, 0.5)];
    let x = case.graph.timestep_embedding(t, frequencies, 11);
    let y = case.graph.linear_group(x, &[layer], false)?[0];
    case.both(y, &layer)
}

/// A GroupNorm of what a residual path and pooled features read too: on a GPU its gradient adds theirs.
fn group_norm_among_others(case: &mut Case) -> Result<()> {
    let (x, t) = (case.values(&[3, 7, 9, 15], 0.3, 1.0), case.values(&[3], 0.0, 1.0));
    let [gamma, beta] = [1.0, 0.0].map(|middle| case.values(&[15], middle, 0.3));
    let y = case.graph.group_norm(x, gamma, beta, 5, None, true)?;
    let sum = case.graph.add(y, x)?;
    let features = case.graph.features(&[x], t, Pooling::Average)?;
    let means = case.graph.slice_channels(features, 0, 15)?;
    let y = case.graph.add_rowwise(sum, means)?;
    case.both(y, &[x, gamma, beta])
}

fn window() -> Window {
    Window { kernel: [3, 5], stride: [1, 2], padding: [1, 2] }
}

/// All cases.
pub(super) const CASES: &[Maker] = &[
    ("convolution 3×3, few channels", |case| conv3x3(case, [2, 9, 7, 6], 10, 1)),
    ("convolution 3×3, tiles", |case| conv3x3(case, [2, 14, 14, 36], 40, 1)),
    ("convolution 3×3, stride 2", |case| conv3x3(case, [2, 9, 14, 20], 12, 2)),
    ("convolution 3×3 of an expansion, plus a product", conv3x3_with_product),
    ("convolution of any window", |case| {
        let x = case.values(&[2, 9, 7, 6], 0.0, 1.0);
        let weight = case.weight(&[15], 6, 10);
        let y = case.graph.conv2d(x, weight, window(), None)?;
        case.both(y, &[x, weight])
    }),
    ("matrix product, few rows", |case| matmul(case, 3, 13, 10)),
    ("matrix product, tiles", |case| matmul(case, 150, 36, 70)),
    ("linear layers of one input", |case| {
        let x = case.values(&[9, 13], 0.0, 2.0);
        let mut layers = Vec::new();
        for outputs in [3, 10, 64] {
            layers.push([case.weight(&[], 13, outputs), case.values(&[outputs], 0.0, 0.5)]);
        }
        let mut all = None;
        for result in case.graph.linear_group(x, &layers, true)? {
            all = Some(match all {
                Some(before) => case.graph.concat(before, result)?,
                None => result,
            });
        }
        let targets: Vec<NodeId> = [x].into_iter().chain(layers.into_flattened()).collect();
        all.map_or(Ok(()), |all| case.both(all, &targets))
    }),
    ("linear layer of timesteps", layer_of_timesteps),
    ("linear layer of a BatchNorm", layer_of_batch_norm),
    ("attention, narrow heads", |case| attention(case, 15, 3, false)),
    ("attention, wide heads", |case| attention(case, 64, 1, false)),
    ("attention, the new order", |case| attention(case, 32, 4, true)),
    ("GroupNorm, groups of one vector", |case| group_norm(case, [3, 7, 9, 12], 3)),
    ("GroupNorm, odd groups", |case| group_norm(case, [3, 7, 9, 15], 5)),
    ("GroupNorm, among other readers", group_norm_among_others),
    ("GroupNorm, more pixels than one launch takes", |case| group_norm(case, [1, 91, 91, 6], 2)),
    ("GroupNorm of a concatenation", |case| {
        let maps = [case.values(&[3, 7, 9, 8], 0.3, 1.0), case.values(&[3, 7, 9, 7], -0.2, 1.0)];
        let (gamma, beta) = (case.values(&[15], 1.0, 0.3), case.values(&[15], 0.0, 0.3));
        let both = case.graph.concat(maps[0], maps[1])?;
        let y = case.graph.group_norm(both, gamma, beta, 3, None, true)?;
        case.both(y, &[maps[0], maps[1], gamma, beta])
    }),
    ("BatchNorm, training", |case| batch_norm(case, true)),
    ("BatchNorm, running statistics", |case| batch_norm(case, false)),
    ("BatchNorm after LeakyReLU and dropout", |case| batch_norm_of_activation(case, true)),
    ("BatchNorm after LeakyReLU", |case| batch_norm_of_activation(case, false)),
    ("SiLU", |case| {
        let x = case.values(&[2, 5, 3, 6], 0.0, 20.0);
        let y = case.graph.silu(x);
        case.both(y, &[x])
    }),
    ("LeakyReLU", |case| {
        let x = case.values(&[2, 5, 3, 6], 0.0, 2.0);
        let y = case.graph.activate(x, Activation::LeakyRelu { slope: 0.1 });
        case.both(y, &[x])
    }),
    ("sums", |case| {
        let (a, b) = (case.values(&[3, 7], 0.0, 1.0), case.values(&[3, 7], 0.0, 1.0));
        let sum = case.graph.add(a, b)?;
        let y = case.graph.scale(sum, -0.7);
        case.both(y, &[a, b])
    }),
    ("a step along a gradient", |case| {
        let (x, g) = (case.values(&[2, 3, 3, 5], 0.0, 1.0), case.values(&[2, 3, 3, 5], 0.0, 1.0));
        let alpha = case.values(&[1], 2.0, 1.0);
        let y = case.graph.axpy(x, g, alpha)?;
        case.result(y);
        Ok(())
    }),
    ("steps along normalised gradients", |case| {
        let shapes = [[3, 7, 7, 9], [3, 4, 4, 20], [3, 1, 1, 5]];
        let [xs, gradients] = [(); 2].map(|()| shapes.map(|shape| case.values(&shape, 0.0, 1.0)));
        let alpha = case.values(&[3], 2.0, 1.0);
        for y in case.graph.move_along(&xs, &gradients, alpha, true)? {
            case.result(y);
        }
        Ok(())
    }),
    ("each divided by its root mean square", |case| {
        let x = case.values(&[3, 5, 7, 6], 0.0, 1.0);
        let y = case.graph.normalize(x);
        case.result(y);
        Ok(())
    }),
    ("to twice the size", |case| {
        let x = case.values(&[2, 5, 3, 6], 0.0, 1.0);
        let y = case.graph.upsample(x)?;
        case.both(y, &[x])
    }),
    ("to half the size", |case| {
        let x = case.values(&[2, 6, 10, 5], 0.0, 1.0);
        let y = case.graph.average_pool(x)?;
        case.both(y, &[x])
    }),
    ("to any size", |case| {
        let x = case.values(&[2, 9, 7, 5], 0.0, 1.0);
        let y = case.graph.resize_bilinear(x, [5, 20])?;
        case.both(y, &[x])
    }),
    ("maximum of windows", |case| {
        let x = case.values(&[2, 9, 7, 6], 0.0, 1.0);
        let y = case.graph.max_pool2d(x, window())?;
        case.both(y, &[x])
    }),
    ("mean of windows", |case| {
        let x = case.values(&[2, 9, 7, 6], 0.0, 1.0);
        let y = case.graph.avg_pool2d(x, window(), false)?;
        case.both(y, &[x])
    }),
    ("pooled features", |case| {
        let maps = [case.values(&[3, 7, 7, 9], 0.0, 1.0), case.values(&[3, 4, 4, 20], 0.0, 1.0)];
        let t = case.values(&[3], 500.0, 400.0);
        let y = case.graph.features(&maps, t, Pooling::Average)?;
        case.both(y, &maps)
    }),
    ("pooled features of many maps, a maximum", |case| {
        let maps: Vec<NodeId> =
            (1..9).map(|side| case.values(&[2, side, 2, 3 * side - 1], 0.0, 1.0)).collect();
        let t = case.values(&[2], 500.0, 400.0);
        let y = case.graph.features(&maps, t, Pooling::Max)?;
        case.both(y, &maps)
    }),
    ("concatenation", |case| {
        let (a, b) = (case.values(&[2, 5, 5, 6], 0.0, 1.0), case.values(&[2, 5, 5, 9], 0.0, 1.0));
        let both = case.graph.concat(a, b)?;
        let y = case.graph.slice_channels(both, 4, 7)?;
        case.both(y, &[a, b])
    }),
    ("rows added to pixels", |case| {
        let (x, m) = (case.values(&[2, 5, 5, 6], 0.0, 1.0), case.values(&[2, 6], 0.0, 1.0));
        let y = case.graph.add_rowwise(x, m)?;
        case.both(y, &[x, m])
    }),
    ("normal noise", |case| {
        let run = case.words(&[0x89ab_cdef, 0x0123_4567, 7, 5]);
        let y = case.graph.normal(run, [3, 7, 5, 3], Stream::TrainNoise as u32);
        case.result(y);
        Ok(())
    }),
    ("dropout", |case| {
        let run = case.words(&[99, 0, 4, 10]);
        let x = case.values(&[3, 20], 0.0, 1.0);
        let y = case.graph.dropout(x, run, 0.3);
        case.both(y, &[x])
    }),
    ("noising", |case| {
        let (x, noise) = (case.values(&[3, 7, 5, 3], 0.0, 1.0), case.values(&[3, 7, 5, 3], 0.0, 1.0));
        let coefficients = case.values(&[6], 0.5, 0.5);
        let y = case.graph.q_sample(x, noise, coefficients)?;
        case.result(y);
        Ok(())
    }),
    ("squared error", |case| {
        let (x, y) = (case.values(&[3, 7, 5, 3], 0.0, 1.0), case.values(&[3, 7, 5, 3], 0.0, 1.0));
        let loss = case.graph.mse(x, y)?;
        case.both(loss, &[x])
    }),
    ("cross-entropy", |case| {
        let logits = case.values(&[3, 5], 0.0, 6.0);
        let labels = case.words(&[0, 4, 2]);
        let loss = case.graph.cross_entropy(logits, labels)?;
        case.both(loss, &[logits])
    }),
    ("cross-entropy against shares", |case| {
        let (logits, shares) = (case.values(&[3, 5], 0.0, 6.0), case.values(&[3, 5], 0.2, 0.2));
        let loss = case.graph.soft_cross_entropy(logits, shares)?;
        case.both(loss, &[logits])
    }),
    ("losses weighed, summed and reported", |case| {
        let (logits, labels) = (case.values(&[3, 5], 0.0, 6.0), case.words(&[0, 4, 2]));
        let loss = case.graph.cross_entropy(logits, labels)?;
        let other = case.values(&[70], 0.5, 0.5);
        let (given, first) = (case.values(&[1], 2.0, 1.0), case.words(&[1]));
        let sum = case.graph.weighted_sum_by(loss, given)?;
        let half = case.graph.scale(sum, 0.5);
        let gradients = case.graph.grad(half, &[logits])?;
        for result in [sum].into_iter().chain(gradients) {
            case.result(result);
        }
        let summand = |values, count, metric, given, total| Summand {
            values,
            count,
            weight: 0.75,
            given,
            metric: Some(metric),
            total,
        };
        let summands = [summand(loss, 3, 2, Some(given), Some(0.5)), summand(other, 70, 1, None, Some(1.0))];
        // Four numbers a metric: no other ones between them that nothing writes.
        let metrics = Place::whole(Case::result_name(case.results.len()));
        case.results.push(1);
        let metrics = case.graph.leaf(&[3, 1], metrics);
        case.graph.report(&summands, 4, first, metrics)
    }),
    ("binary cross-entropies", |case| {
        let (logits, targets) = (case.values(&[3, 5], 0.0, 6.0), case.values(&[3, 5], 0.5, 0.5));
        let loss = case.graph.bce(logits, targets, false)?;
        case.both(loss, &[logits])
    }),
];
