//! What a random network computes, in plain loops in f64, written from the operations' descriptions.

use super::network::{Network, Node, Op};
use duet::ops::conv2d::Window;
use duet::ops::{Activation, Pooling};
use duet::tensor::pitch;

/// Values of all tensors, given those of the leaves: `given` replaces a leaf's own.
pub fn evaluate(network: &Network, given: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut values: Vec<Vec<f64>> = Vec::new();
    for (number, node) in network.nodes.iter().enumerate() {
        let inputs: Vec<&[f64]> = node.inputs.iter().map(|i| values[*i].as_slice()).collect();
        let shapes: Vec<&[usize]> = node.inputs.iter().map(|i| network.nodes[*i].shape.as_slice()).collect();
        let made = match &node.op {
            Op::Leaf | Op::Constant | Op::Labels => given[number].clone(),
            _ => operation(node, &inputs, &shapes),
        };
        assert_eq!(made.len(), node.shape.iter().product::<usize>(), "%{number}");
        values.push(made);
    }
    values
}

fn image(shape: &[usize]) -> [usize; 4] {
    shape.try_into().expect("an image")
}

fn operation(node: &Node, inputs: &[&[f64]], shapes: &[&[usize]]) -> Vec<f64> {
    let x = inputs[0];
    match &node.op {
        Op::Leaf | Op::Constant | Op::Labels => unreachable!("given"),
        Op::Conv3x3 { stride, residual } => {
            let window = Window { kernel: [3, 3], stride: [*stride; 2], padding: [1, 1] };
            convolution(
                x,
                image(shapes[0]),
                inputs[1],
                inputs[2],
                image(&node.shape),
                window,
                residual.then(|| inputs[3]),
            )
        }
        Op::Conv2d(window) => {
            convolution(x, image(shapes[0]), inputs[1], inputs[2], image(&node.shape), *window, None)
        }
        Op::MatMul { residual } => {
            let (columns, out) = (shapes[0][shapes[0].len() - 1], node.shape[node.shape.len() - 1]);
            let mut y = Vec::new();
            for row in x.chunks(columns) {
                for k in 0..out {
                    let sum: f64 = row.iter().enumerate().map(|(c, v)| v * inputs[1][c * out + k]).sum();
                    y.push(sum + inputs[2][k] + if *residual { inputs[3][y.len()] } else { 0.0 });
                }
            }
            y
        }
        Op::Layer { silu } => {
            let (columns, out) = (shapes[0][1], node.shape[1]);
            let read = |v: &f64| if *silu { activation(Activation::Silu, *v) } else { *v };
            let mut y = Vec::new();
            for row in x.chunks(columns) {
                for k in 0..out {
                    let sum: f64 =
                        row.iter().enumerate().map(|(c, v)| read(v) * inputs[1][c * out + k]).sum();
                    y.push(sum + inputs[2][k]);
                }
            }
            y
        }
        Op::GroupNorm { groups, scale_shift, silu } => {
            let [_, height, width, channels] = image(&node.shape);
            let of_image = height * width * channels;
            let mut y = vec![0.0; x.len()];
            for (n, sample) in x.chunks(of_image).enumerate() {
                for group in 0..*groups {
                    let inside = |i: &usize| i % channels / (channels / groups) == group;
                    let members: Vec<usize> = (0..of_image).filter(inside).collect();
                    let count = members.len() as f64;
                    let mean = members.iter().map(|i| sample[*i]).sum::<f64>() / count;
                    let variance = members.iter().map(|i| (sample[*i] - mean).powi(2)).sum::<f64>() / count;
                    for i in members {
                        let c = i % channels;
                        let mut v =
                            (sample[i] - mean) / (variance + 1e-5).sqrt() * inputs[1][c] + inputs[2][c];
                        if *scale_shift {
                            let row = &inputs[3][n * 2 * channels..];
                            v = v * (1.0 + row[c]) + row[channels + c];
                        }
                        y[n * of_image + i] = if *silu { activation(Activation::Silu, v) } else { v };
                    }
                }
            }
            y
        }
        Op::BatchNorm { train } => {
            let (rows, columns) = (node.shape[0], node.shape[1]);
            let mut y = vec![0.0; x.len()];
            for c in 0..columns {
                let column = || (0..rows).map(|n| x[n * columns + c]);
                let (mut mean, mut variance) = (inputs[3][c], inputs[3][columns + c]);
                if *train {
                    mean = column().sum::<f64>() / rows as f64;
                    variance = column().map(|v| (v - mean).powi(2)).sum::<f64>() / rows as f64;
                }
                for (n, v) in column().enumerate() {
                    y[n * columns + c] = (v - mean) / (variance + 1e-5).sqrt() * inputs[1][c] + inputs[2][c];
                }
            }
            y
        }
        Op::Attention { heads, new_order } => attention(x, image(&node.shape), *heads, *new_order),
        Op::Activate(kind) => x.iter().map(|v| activation(*kind, *v)).collect(),
        Op::Add => x.iter().zip(inputs[1]).map(|(a, b)| a + b).collect(),
        Op::Scale(factor) => x.iter().map(|v| f64::from(*factor) * v).collect(),
        Op::Concat => {
            let columns = [shapes[0][3], shapes[1][3]];
            let rows = x.chunks(columns[0]).zip(inputs[1].chunks(columns[1]));
            rows.flat_map(|(a, b)| [a, b].concat()).collect()
        }
        Op::Slice { from, count } => {
            x.chunks(shapes[0][3]).flat_map(|row| row[*from..from + count].to_vec()).collect()
        }
        Op::Upsample => {
            each_pixel(image(&node.shape), |n, i, j, c| x[at(image(shapes[0]), n, i / 2, j / 2, c)])
        }
        Op::AveragePool => each_pixel(image(&node.shape), |n, i, j, c| {
            let block = [(0, 0), (0, 1), (1, 0), (1, 1)];
            block.map(|(a, b)| x[at(image(shapes[0]), n, 2 * i + a, 2 * j + b, c)]).iter().sum::<f64>() / 4.0
        }),
        Op::MaxPool2d(window) => each_pixel(image(&node.shape), |n, i, j, c| {
            covered(*window, image(shapes[0]), i, j)
                .map(|(row, column)| x[at(image(shapes[0]), n, row, column, c)])
                .fold(f64::NEG_INFINITY, f64::max)
        }),
        Op::AvgPool2d { window, count_include_pad } => each_pixel(image(&node.shape), |n, i, j, c| {
            let list: Vec<f64> = covered(*window, image(shapes[0]), i, j)
                .map(|(row, column)| x[at(image(shapes[0]), n, row, column, c)])
                .collect();
            let whole = window.kernel[0] * window.kernel[1];
            list.iter().sum::<f64>() / if *count_include_pad { whole } else { list.len() } as f64
        }),
        Op::AddRowwise => {
            let [_, height, width, channels] = image(&node.shape);
            let row = |i: usize| i / (height * width * channels) * channels + i % channels;
            x.iter().enumerate().map(|(i, v)| v + inputs[1][row(i)]).collect()
        }
        Op::Features(pooling) => features(inputs, shapes, *pooling),
        Op::Mse => {
            let ([batch, ..], channels) = (image(shapes[1]), shapes[1][3]);
            let pixels = x.chunks(shapes[0][3]).zip(inputs[1].chunks(channels));
            let errors: Vec<f64> =
                pixels.map(|(p, t)| p.iter().zip(t).map(|(p, t)| (p - t).powi(2)).sum()).collect();
            let each = errors.len() / batch;
            errors.chunks(each).map(|sample| sample.iter().sum::<f64>() / (each * channels) as f64).collect()
        }
        Op::CrossEntropy => {
            let rows = x.chunks(shapes[0][1]).zip(inputs[1]);
            rows.map(|(row, label)| log_sum_exp(row) - row[*label as usize]).collect()
        }
        Op::Bce { mean } => {
            let classes = shapes[0][1];
            let term = |(z, t): (&f64, &f64)| z.max(0.0) - z * t + (-z.abs()).exp().ln_1p();
            let sums = x.chunks(classes).zip(inputs[1].chunks(classes));
            sums.map(|(z, t)| {
                z.iter().zip(t).map(term).sum::<f64>() / if *mean { classes as f64 } else { 1.0 }
            })
            .collect()
        }
        Op::WeightedSum(weight) => vec![f64::from(*weight) * x.iter().sum::<f64>()],
    }
}

fn log_sum_exp(row: &[f64]) -> f64 {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + row.iter().map(|v| (v - most).exp()).sum::<f64>().ln()
}

fn activation(kind: Activation, v: f64) -> f64 {
    match kind {
        Activation::Silu => v / (1.0 + (-v).exp()),
        Activation::LeakyRelu { slope } => {
            if v > 0.0 {
                v
            } else {
                f64::from(slope) * v
            }
        }
        Activation::Relu => v.max(0.0),
    }
}

/// Place of a value in an image.
fn at([_, height, width, channels]: [usize; 4], n: usize, i: usize, j: usize, c: usize) -> usize {
    ((n * height + i) * width + j) * channels + c
}

fn each_pixel(
    [batch, height, width, channels]: [usize; 4],
    f: impl Fn(usize, usize, usize, usize) -> f64,
) -> Vec<f64> {
    let mut y = Vec::new();
    for n in 0..batch {
        for i in 0..height {
            for j in 0..width {
                y.extend((0..channels).map(|c| f(n, i, j, c)));
            }
        }
    }
    y
}

/// Pixels of the image under the window's position i, j.
fn covered(
    Window { kernel, stride, padding }: Window,
    [_, height, width, _]: [usize; 4],
    i: usize,
    j: usize,
) -> impl Iterator<Item = (usize, usize)> {
    let taps = (0..kernel[0]).flat_map(move |a| (0..kernel[1]).map(move |b| (a, b)));
    taps.filter_map(move |(a, b)| {
        let row = (i * stride[0] + a).checked_sub(padding[0]).filter(|row| *row < height)?;
        let column = (j * stride[1] + b).checked_sub(padding[1]).filter(|column| *column < width)?;
        Some((row, column))
    })
}

fn convolution(
    x: &[f64],
    shape: [usize; 4],
    weight: &[f64],
    bias: &[f64],
    out: [usize; 4],
    window: Window,
    residual: Option<&[f64]>,
) -> Vec<f64> {
    let (channels, outputs) = (shape[3], out[3]);
    each_pixel(out, |n, i, j, k| {
        let mut sum = bias[k] + residual.map_or(0.0, |r| r[at(out, n, i, j, k)]);
        for (row, column) in covered(window, shape, i, j) {
            let a = row + window.padding[0] - i * window.stride[0];
            let b = column + window.padding[1] - j * window.stride[1];
            let tap = a * window.kernel[1] + b;
            for c in 0..channels {
                sum += x[at(shape, n, row, column, c)] * weight[(tap * pitch(channels) + c) * outputs + k];
            }
        }
        sum
    })
}

fn attention(
    qkv: &[f64],
    [batch, height, width, channels]: [usize; 4],
    heads: usize,
    new_order: bool,
) -> Vec<f64> {
    let (tokens, depth) = (height * width, channels / heads);
    let mut out = vec![0.0; batch * tokens * channels];
    for n in 0..batch {
        for head in 0..heads {
            let row = |part: usize, token: usize| {
                let column =
                    if new_order { part * channels + head * depth } else { (3 * head + part) * depth };
                let start = (n * tokens + token) * 3 * channels + column;
                &qkv[start..start + depth]
            };
            for i in 0..tokens {
                let score = |j: usize| {
                    let product: f64 = row(0, i).iter().zip(row(1, j)).map(|(a, b)| a * b).sum();
                    product / (depth as f64).sqrt()
                };
                let scores: Vec<f64> = (0..tokens).map(score).collect();
                let total = log_sum_exp(&scores);
                for (j, score) in scores.iter().enumerate() {
                    let share = (score - total).exp();
                    for (c, v) in row(2, j).iter().enumerate() {
                        out[(n * tokens + i) * channels + head * depth + c] += share * v;
                    }
                }
            }
        }
    }
    out
}

fn features(inputs: &[&[f64]], shapes: &[&[usize]], pooling: Pooling) -> Vec<f64> {
    let maps = inputs.len() - 1;
    let batch = shapes[maps][0];
    let mut y = Vec::new();
    for n in 0..batch {
        for (position, (x, shape)) in inputs[..maps].iter().zip(shapes).enumerate() {
            let [_, height, width, channels] = image(shape);
            let pixels = height * width;
            for c in 0..channels {
                let values = (0..pixels).map(|p| x[(n * pixels + p) * channels + c]);
                y.push(match pooling == Pooling::Max && position == 0 {
                    true => values.fold(f64::NEG_INFINITY, f64::max),
                    false => values.sum::<f64>() / pixels as f64,
                });
            }
        }
        y.push(inputs[maps][n]);
    }
    y
}
