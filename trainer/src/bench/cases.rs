//! The operations that are measured one by one, and their shapes: the one place to add a kernel or a second kernel for
//! the same operation (give it another variant).

use super::case::{Buffers, Case, Cases};
use super::fusion;
use duet::families::{Choices, Family, KeyKind};
use duet::gpu::Slice;
use duet::ops::Activation;
use duet::ops::attention::{self, Attention};
use duet::ops::batchnorm::{self, BatchNorm};
use duet::ops::conv2d::{self, Conv2d, Window};
use duet::ops::conv3x3::{self, Conv3x3};
use duet::ops::features::{self, FeatureMap, Timestep};
use duet::ops::groupnorm::{self, GroupNorm, Source};
use duet::ops::linear_group::{self, LinearGroup, Target};
use duet::ops::loss::{self, Mse};
use duet::ops::matmul::{self, MatMul};
use duet::ops::normalize::{self, Moved, Samples, Step};
use duet::ops::total::Dloss;
use duet::ops::{channels, diffuse, optimizer, pointwise, random, reduce_rows, resample, timestep_embedding};
use duet::tensor::pitch;

/// Every case: the shapes of the 28×28 network of 32 channels at `batch` images, and those of the 32×32 network of 128
/// channels at one, in the families of `choices`.
pub fn all(batch: usize, choices: &Choices) -> Vec<Case> {
    let mut cases = Cases::new(choices);
    let c = &mut cases;
    // The shape in which kernels were compared from the beginning.
    conv(c, 4, 32, [64, 64], 1);
    // Encoder: first convolution, blocks, down-sampling. Decoder: concatenated skips, up-sampling, last convolution.
    let small =
        [(28, [1, 32]), (28, [32, 32]), (28, [64, 32]), (28, [96, 32]), (28, [64, 64]), (28, [32, 1])];
    let deeper = [(14, [32, 64]), (14, [64, 64]), (14, [128, 64]), (7, [64, 64]), (7, [128, 64])];
    for (side, channels) in small.into_iter().chain(deeper) {
        conv(c, batch, side, channels, 1);
    }
    conv(c, batch, 28, [32, 32], 2);
    conv(c, batch, 14, [64, 64], 2);
    for (side, channels) in [
        (32, [3, 128]),
        (32, [128, 128]),
        (32, [384, 128]),
        (16, [256, 256]),
        (8, [512, 256]),
        (4, [256, 256]),
    ] {
        conv(c, 1, side, channels, 1);
    }
    conv(c, 1, 32, [128, 128], 2);
    // Of Inception: without padding, 5×5, a row, with stride.
    for (side, channels, kernel, stride, padding) in [
        (147, [32, 32], [3, 3], 1, [0, 0]),
        (35, [48, 64], [5, 5], 1, [2, 2]),
        (17, [192, 192], [1, 7], 1, [0, 3]),
        (35, [288, 384], [3, 3], 2, [0, 0]),
    ] {
        window(c, side, channels, Window { kernel, stride: [stride; 2], padding });
    }
    // 1×1 convolutions of skips and attention, then linear layers of the timestep and the classifier.
    let pixels = [[batch * 784, 96, 32], [batch * 196, 128, 64], [batch * 49, 64, 192], [batch * 49, 64, 64]];
    let linear = [[batch, 128, 128], [batch, 128, 64], [batch, 353, 176]];
    let large = [[1024, 384, 128], [256, 256, 768], [256, 256, 256], [1, 512, 512]];
    for sizes in pixels.into_iter().chain(linear).chain(large) {
        products(c, sizes);
    }
    embedded(c, batch, 128, &[64, 128, 128, 128, 128, 128, 128, 128, 128, 64, 64]);
    for [n, side, channels] in
        [[batch, 28, 32], [batch, 28, 96], [batch, 14, 64], [batch, 7, 64], [1, 32, 128]]
    {
        group_norm(c, n, side, channels);
        rows(c, n, side, channels);
    }
    attend(c, batch, 49, 64);
    attend(c, 1, 256, 256);
    attend(c, 1, 64, 256);
    for [n, side, channels] in [[batch, 14, 64], [1, 16, 256]] {
        resampling(c, n, side, channels);
        pooling(c, n, side, channels);
        steps_along(c, n, side, channels);
    }
    pooled_maps(c, batch);
    images(c, batch, 28, 1);
    images(c, 1, 32, 3);
    head(c, batch, 353);
    update(c, 1_209_728);
    update(c, 8_000_000);
    fusion::add(c, batch);
    cases.list()
}

fn conv(cases: &mut Cases, batch: usize, side: usize, [c_in, c_out]: [usize; 2], stride: usize) {
    let size = Conv3x3 { batch, height: side, width: side, in_channels: c_in, out_channels: c_out, stride };
    let input = batch * side * side;
    let output = batch * size.out_height() * size.out_width();
    let name = |kind| format!("conv3x3 {c_in}->{c_out} {side}x{side} s{stride} b{batch} {kind}");
    cases.add_chosen(name("forward"), &size.key(KeyKind::ConvForward), |m, family| {
        let (x, w) = (m.rows(input, c_in), m.rows(9 * pitch(c_in), c_out));
        let (bias, y) = (m.rows(1, c_out), m.rows(output, c_out));
        let naive = conv3x3::naive::forward(&size, x, w, Some(bias), y);
        (conv3x3::forward(family, &size, x, w, Some(bias), None, y), Some(naive))
    });
    cases.add_chosen(name("grad_input"), &size.key(KeyKind::ConvGradInput), |m, family| {
        let (dy, w) = (m.rows(output, c_out), m.rows(9 * pitch(c_in), c_out));
        let dx = m.rows(input, c_in);
        let naive = conv3x3::naive::grad_input(&size, dy, w, dx);
        (conv3x3::grad_input(family, &size, dy, w, None, dx), Some(naive))
    });
    cases.add_chosen(name("grad_weight"), &size.key(KeyKind::ConvGradWeight), |m, family| {
        let (x, dy) = (m.rows(input, c_in), m.rows(output, c_out));
        let scratch = m.bytes(conv3x3::grad_weight_scratch(family, &size));
        let dw = m.rows(9 * pitch(c_in), c_out);
        let naive = conv3x3::naive::grad_weight(&size, x, dy, dw);
        (conv3x3::grad_weight(family, &size, x, dy, scratch, dw, None), Some(naive))
    });
}

/// A convolution of one image, in the direct family too where the device chooses another.
fn window(cases: &mut Cases, side: usize, [c_in, c_out]: [usize; 2], window: Window) {
    let Ok(size) = Conv2d::new([1, side, side, c_in], c_out, window) else { return };
    let [x, weight, y] = size.operands();
    let [height, width] = window.kernel;
    let name =
        |kind| format!("conv2d {height}x{width} {c_in}->{c_out} {side}x{side} s{} {kind}", window.stride[0]);
    let rows = |m: &mut Buffers| [x, weight, y].map(|[rows, columns]| m.rows(rows, columns));
    if cases.chosen(&size.key(KeyKind::Conv2dForward)) != Family::Direct {
        cases.add_variant(name("forward"), "direct", |m| {
            let [x, weight, y] = rows(m);
            conv2d::forward(Family::Direct, &size, x, weight, None, y)
        });
    }
    cases.add_chosen(name("forward"), &size.key(KeyKind::Conv2dForward), |m, family| {
        let [x, weight, y] = rows(m);
        (conv2d::forward(family, &size, x, weight, None, y), None)
    });
    cases.add_chosen(name("grad_input"), &size.key(KeyKind::Conv2dGradInput), |m, family| {
        let [x, weight, y] = rows(m);
        (conv2d::grad_input(family, &size, y, weight, x), None)
    });
}

fn products(cases: &mut Cases, [rows, c_in, c_out]: [usize; 3]) {
    let size = MatMul { rows, in_features: c_in, out_features: c_out };
    let name = |kind| format!("matmul {rows}x{c_in}->{c_out} {kind}");
    cases.add_chosen(name("forward"), &size.key(KeyKind::MatmulForward), |m, family| {
        let (x, w, bias) = (m.rows(rows, c_in), m.rows(pitch(c_in), c_out), m.rows(1, c_out));
        (matmul::forward(family, &size, x, w, Some(bias), None, m.rows(rows, c_out)), None)
    });
    cases.add_chosen(name("grad_input"), &size.key(KeyKind::MatmulGradInput), |m, family| {
        let (dy, w) = (m.rows(rows, c_out), m.rows(pitch(c_in), c_out));
        (matmul::grad_input(family, &size, dy, w, None, m.rows(rows, c_in)), None)
    });
    cases.add_chosen(name("grad_weight"), &size.key(KeyKind::MatmulGradWeight), |m, family| {
        let (x, dy) = (m.rows(rows, c_in), m.rows(rows, c_out));
        let scratch = m.bytes(matmul::grad_weight_scratch(family, &size));
        (matmul::grad_weight(family, &size, x, dy, scratch, m.rows(pitch(c_in), c_out), None), None)
    });
}

/// What all residual blocks make of the timestep embedding. Widths are multiples of 64.
fn embedded(cases: &mut Cases, rows: usize, in_features: usize, out_features: &[usize]) {
    let size = LinearGroup { rows, in_features, out_features: out_features.to_vec(), silu: true };
    let name = |kind| format!("linear_group {rows}x{in_features}->{} layers {kind}", out_features.len());
    let y = size.offsets().last().copied().unwrap_or(0);
    // Side by side in one buffer, each of so many rows of its layer's width.
    let laid = |m: &mut Buffers, rows: usize| -> Vec<Slice> {
        let all = m.bytes((rows * out_features.iter().sum::<usize>() * 4) as u64);
        let each = out_features.iter().scan(0, |end, out| {
            let (offset, bytes) = (*end, (rows * out * 4) as u64);
            *end += bytes;
            Some(Slice { offset, bytes, ..all })
        });
        each.collect()
    };
    let layers: Vec<usize> = (0..out_features.len()).collect();
    cases.add(name("forward"), |m| {
        let (x, weights, biases) = (m.rows(rows, in_features), laid(m, in_features), laid(m, 1));
        let pairs: Vec<[Slice; 2]> = weights.into_iter().zip(biases).map(|(w, b)| [w, b]).collect();
        linear_group::forward(&size, x, &pairs, m.bytes(y))
    });
    cases.add(name("grad_input"), |m| {
        let (x, dy, weights) = (m.rows(rows, in_features), m.bytes(y), laid(m, in_features));
        let dx = m.rows(rows, in_features);
        linear_group::grad_input(&size, &layers, [x, dy], &weights, || dx, dx)
    });
    cases.add(name("grad_weights"), |m| {
        let (x, dy) = (m.rows(rows, in_features), m.bytes(y));
        // One row more than the weight: the bias.
        let both = laid(m, in_features + 1);
        let targets = both.into_iter().enumerate().flat_map(|(layer, to)| {
            let bytes = (in_features * out_features[layer] * 4) as u64;
            let bias = Slice { offset: to.offset + bytes, bytes: to.bytes - bytes, ..to };
            [(false, Slice { bytes, ..to }), (true, bias)].map(|(bias, to)| Target { layer, bias, to })
        });
        linear_group::grad_weights(&size, x, dy, &targets.collect::<Vec<_>>())
    });
}

/// Of what the network has most: a norm with SiLU, scaled and shifted by the timestep or not.
fn group_norm(cases: &mut Cases, batch: usize, side: usize, channels: usize) {
    let pixels = side * side;
    let plain = GroupNorm { batch, pixels, channels, groups: 32, silu: true, scale_shift: false };
    let shifted = GroupNorm { scale_shift: true, ..plain };
    let title = format!("groupnorm {channels} {side}x{side} b{batch}");
    let (n, gpu) = (batch * pixels, cases.is_gpu());
    for (size, kind) in [(plain, "silu"), (shifted, "scale_shift silu")] {
        let modulation = |m: &mut Buffers| size.scale_shift.then(|| m.rows(batch, 2 * channels));
        cases.add(format!("{title} {kind} forward"), |m| {
            let (x, stats) = (m.rows(n, channels), m.bytes(groupnorm::stats_bytes(&size)));
            let (affine, scale_shift) = ([m.rows(1, channels), m.rows(1, channels)], modulation(m));
            let source = Source::whole(&size, x);
            groupnorm::forward(&size, gpu, source, affine, scale_shift, stats, m.rows(n, channels))
        });
        cases.add(format!("{title} {kind} grad_whole"), |m| {
            let (x, dy, addend) = (m.rows(n, channels), m.rows(n, channels), m.rows(n, channels));
            let [stats, sums] =
                [groupnorm::stats_bytes(&size), groupnorm::sums_bytes(&size)].map(|bytes| m.bytes(bytes));
            let (dx, modulation) = (m.rows(n, channels), modulation(m));
            groupnorm::grad_whole(&size, gpu, [x, dy, stats], Some(addend), dx, sums, modulation)
        });
    }
    cases.add(format!("{title} silu normalise"), |m| {
        let (x, stats) = (m.rows(n, channels), m.bytes(groupnorm::stats_bytes(&plain)));
        groupnorm::normalise(&plain, gpu, Source::whole(&plain, x), stats, m.rows(n, channels))
    });
    cases.add(format!("{title} silu grad_sums"), |m| {
        let (x, dy) = (m.rows(n, channels), m.rows(n, channels));
        let stats = m.bytes(groupnorm::stats_bytes(&plain));
        let sums = [(); 2].map(|()| m.bytes(groupnorm::sums_bytes(&plain)));
        groupnorm::grad_sums(&plain, gpu, Source::whole(&plain, x), [dy, stats], sums, None)
    });
    cases.add(format!("{title} silu grad_input"), |m| {
        let (x, dy) = (m.rows(n, channels), m.rows(n, channels));
        let stats = m.bytes(groupnorm::stats_bytes(&plain));
        let means = m.bytes(groupnorm::sums_bytes(&plain));
        let (addend, dx) = (m.rows(n, channels), m.rows(n, channels));
        groupnorm::grad_input(&plain, gpu, plain.whole(), [x, dy, stats, means], Some(addend), dx)
    });
    cases.add(format!("{title} grad_gamma and grad_beta"), |m| {
        let sums = m.bytes(groupnorm::sums_bytes(&plain));
        let mut launches = groupnorm::grad_gamma(&plain, sums, m.rows(1, channels));
        launches.extend(groupnorm::grad_beta(&plain, sums, m.rows(1, channels)));
        launches
    });
}

/// Cheap operations on all pixels.
fn rows(cases: &mut Cases, batch: usize, side: usize, channels: usize) {
    let n = batch * side * side;
    let quads = n * pitch(channels) / 4;
    let title = |kind| format!("{kind} {channels} {side}x{side} b{batch}");
    cases.add(title("bias gradient"), |m| {
        let (x, scratch) = (m.rows(n, channels), m.bytes(reduce_rows::scratch(n, channels)));
        reduce_rows::launches(n, channels, x, scratch, m.rows(1, channels))
    });
    cases.add(title("add"), |m| {
        let (a, b) = (m.rows(n, channels), m.rows(n, channels));
        pointwise::add(quads, a, b, m.rows(n, channels))
    });
    cases.add(title("concat halves"), |m| {
        let (a, b) = (m.rows(n, channels / 2), m.rows(n, channels / 2));
        channels::concat(n, channels / 2, channels / 2, a, b, m.rows(n, channels))
    });
    cases.add(title("slice half"), |m| {
        let x = m.rows(n, channels);
        channels::slice(n, channels, channels / 2, channels / 2, x, m.rows(n, channels / 2))
    });
}

fn attend(cases: &mut Cases, batch: usize, tokens: usize, channels: usize) {
    let size = Attention { batch, tokens, channels, heads: 4, new_order: false };
    let n = batch * tokens;
    let name = |kind| format!("attention {channels} {tokens} tokens 4 heads b{batch} {kind}");
    cases.add_chosen(name("forward"), &size.key(KeyKind::AttentionForward), |m, family| {
        let (qkv, out) = (m.rows(n, 3 * channels), m.rows(n, channels));
        let lse = m.bytes(attention::lse_bytes(&size));
        (attention::forward(family, &size, qkv, out, lse), None)
    });
    cases.add_chosen(name("grad"), &size.key(KeyKind::AttentionGrad), |m, family| {
        let (qkv, out, dout) = (m.rows(n, 3 * channels), m.rows(n, channels), m.rows(n, channels));
        let lse = m.bytes(attention::lse_bytes(&size));
        let scratch = m.bytes(attention::grad_scratch(&size));
        let dqkv = m.rows(n, 3 * channels);
        (attention::grad(family, &size, [qkv, out, lse, dout], scratch, dqkv), None)
    });
}

/// From `side` pixels to twice as many and back.
fn resampling(cases: &mut Cases, batch: usize, side: usize, channels: usize) {
    let (few, many) = (batch * side * side, 4 * batch * side * side);
    let double = 2 * side;
    cases.add(format!("upsample {channels} {side}x{side} b{batch} forward"), |m| {
        let x = m.rows(few, channels);
        resample::expand(batch, [side; 2], [double; 2], channels, 1.0, x, m.rows(many, channels))
    });
    cases.add(format!("upsample {channels} {side}x{side} b{batch} grad_input"), |m| {
        let dy = m.rows(many, channels);
        resample::pool(batch, [double; 2], channels, 1.0, dy, m.rows(few, channels))
    });
}

/// The classifier's pooled features of one map.
fn pooling(cases: &mut Cases, batch: usize, side: usize, channels: usize) {
    let pixels = side * side;
    let map = FeatureMap { batch, pixels, channels, columns: channels + 1, offset: 0, maximum: false };
    let name = |kind| format!("features {channels} {side}x{side} b{batch} {kind}");
    cases.add(name("forward"), |m| {
        let (x, t) = (m.rows(batch * pixels, channels), m.rows(1, batch));
        let features = m.rows(batch, channels + 1);
        features::pool([batch, channels + 1], &[(map, x)], Timestep::Given(t), features)
    });
    cases.add(name("grad_input"), |m| {
        let (gradient, dx) = (m.rows(batch, channels + 1), m.rows(batch * pixels, channels));
        let scratch = m.bytes(features::mean_grad_scratch(1));
        features::mean_grad(&[(map, dx)], gradient, scratch)
    });
}

/// The pooled features of all maps of the 28×28 network of three levels.
fn pooled_maps(cases: &mut Cases, batch: usize) {
    const MAPS: [[usize; 2]; 7] = [[49, 64], [784, 32], [784, 32], [196, 32], [196, 64], [49, 64], [49, 64]];
    let columns = 1 + MAPS.iter().map(|[_, channels]| channels).sum::<usize>();
    let maps = |m: &mut Buffers| {
        let mut offset = 0;
        MAPS.map(|[pixels, channels]| {
            let map = FeatureMap { batch, pixels, channels, columns, offset, maximum: false };
            offset += channels;
            (map, m.rows(batch * pixels, channels))
        })
    };
    cases.add(format!("features 7 maps b{batch} forward"), |m| {
        let (maps, t) = (maps(m), m.rows(1, batch));
        features::pool([batch, columns], &maps, Timestep::Given(t), m.rows(batch, columns))
    });
    cases.add(format!("features 7 maps b{batch} grad_input"), |m| {
        let (maps, gradient) = (maps(m), m.rows(batch, columns));
        let scratch = m.bytes(features::mean_grad_scratch(MAPS.len()));
        features::mean_grad(&maps, gradient, scratch)
    });
}

/// Steps of Algorithm 1 along the gradients of two maps, each sample's divided by its length.
fn steps_along(cases: &mut Cases, batch: usize, side: usize, channels: usize) {
    let pixels = side * side;
    let of = Samples { quads: pixels * pitch(channels) / 4, elements: pixels * channels };
    cases.add(format!("steps along 2 gradients {channels} {side}x{side} b{batch}"), |m| {
        let mut map = || m.rows(batch * pixels, channels);
        let moved = [0, 1].map(|number| Moved { of, x: map(), gradient: map(), number, y: map() });
        let (alpha, sums) = (m.rows(1, batch), m.bytes(normalize::sums_bytes(batch, 2)));
        let mut launches = normalize::squares(batch, &moved.map(|moved| (of, moved.gradient)), sums);
        launches.extend(normalize::along(Step { samples: batch, each: true }, &moved, alpha, Some(sums)));
        launches
    });
}

/// What is done to images: noise, noising, the squared error and its gradient.
fn images(cases: &mut Cases, batch: usize, side: usize, channels: usize) {
    let pixels = side * side;
    let n = batch * pixels;
    let size = Mse { batch, pixels, channels, prediction_channels: channels };
    let title = |kind| format!("{kind} {channels} {side}x{side} b{batch}");
    cases.add(title("normal noise"), |m| {
        let run = m.rows(1, 4);
        random::normal([batch, pixels, channels], 0, false, run, m.rows(n, channels))
    });
    cases.add(title("noise an image"), |m| {
        let (x, noise, mix) = (m.rows(n, channels), m.rows(n, channels), m.rows(1, 2 * batch));
        diffuse::q_sample(batch, pixels, channels, [x, noise, mix], m.rows(n, channels))
    });
    cases.add(title("mse"), |m| {
        let (a, b) = (m.rows(n, channels), m.rows(n, channels));
        loss::mse(&size, a, b, m.rows(1, batch))
    });
    cases.add(title("mse gradient"), |m| {
        let (a, b, dloss) = (m.rows(n, channels), m.rows(n, channels), m.rows(1, batch));
        loss::mse_grad(&size, Dloss::EACH, [a, b, dloss], m.rows(n, channels))
    });
}

/// The classifier's layers that are no products, and the timestep's.
fn head(cases: &mut Cases, batch: usize, columns: usize) {
    let row = pitch(columns);
    let name = |kind| format!("{kind} {batch}x{columns}");
    // As the classifier has it in training.
    let norm = BatchNorm { dropout: Some((0, 0.5)), ..BatchNorm::new(batch, columns) };
    cases.add(name("batchnorm train"), |m| {
        let (x, run, learn) = (m.rows(batch, columns), m.rows(1, 4), m.rows(1, 1));
        let (weight, bias) = (m.rows(1, columns), m.rows(1, columns));
        let writes = [m.rows(batch, columns), m.rows(2, columns), m.rows(batch, columns)];
        batchnorm::train(&norm, [x, run, learn, weight, bias], writes)
    });
    cases.add(name("batchnorm train_grad"), |m| {
        let reads = [m.rows(batch, columns), m.rows(1, 4), m.rows(batch, columns), m.rows(1, columns)];
        let writes = [m.rows(batch, columns), m.rows(1, columns), m.rows(1, columns)];
        batchnorm::train_grad(&norm, reads, writes)
    });
    let norm = BatchNorm::new(batch, columns);
    cases.add(name("batchnorm forward"), |m| {
        let reads = [m.rows(batch, columns), m.rows(2, columns), m.rows(1, columns), m.rows(1, columns)];
        batchnorm::forward(&norm, reads, m.rows(batch, columns))
    });
    cases.add(name("batchnorm grad_input"), |m| {
        let (x, dy) = (m.rows(batch, columns), m.rows(batch, columns));
        let reads = [x, dy, m.rows(2, columns), m.rows(1, columns)];
        batchnorm::grad_input(&norm, reads, m.rows(batch, columns))
    });
    cases.add(name("dropout"), |m| {
        let reads = [m.rows(batch, columns), m.rows(1, 4)];
        random::dropout(batch, row, 0, 0.7, reads, m.rows(batch, columns))
    });
    cases.add(name("silu"), |m| {
        let x = m.rows(batch, columns);
        pointwise::activate(Activation::Silu, batch * row / 4, x, m.rows(batch, columns))
    });
    cases.add(format!("timestep embedding {batch}x32"), |m| {
        let (t, frequencies) = (m.rows(1, batch), m.rows(1, 16));
        timestep_embedding::forward(batch, 32, t, frequencies, m.rows(batch, 32))
    });
}

/// One pass of AdamW and the moving average.
fn update(cases: &mut Cases, parameters: usize) {
    cases.add(format!("adamw and average {parameters}"), |m| {
        let (gradients, hyper) = (m.rows(1, parameters), m.rows(1, 12));
        let state = [(); 4].map(|()| m.rows(1, parameters));
        optimizer::adamw_ema(parameters / 4, gradients, hyper, state)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own_and_work_to_do() {
        let cases = all(2, &Choices::default());
        let names: std::collections::HashSet<_> = cases.iter().map(|c| (&c.name, c.variant)).collect();
        assert_eq!(names.len(), cases.len());
        for case in &cases {
            let bound = case.launches.iter().flat_map(|l| l.reads.iter().chain(&l.writes));
            assert!(
                !case.launches.is_empty() && case.launches.iter().all(|l| l.bytes() > 0),
                "{}",
                case.name
            );
            for slice in bound {
                // Of scratch it may be a part.
                let size = case.sizes[slice.buffer.0 as usize];
                assert!(slice.bytes > 0 && slice.offset + slice.bytes <= size, "{}", case.name);
            }
        }
    }
}
