//! Random small networks: drawn by a seed, operation after operation.

use super::network::{Network, Node, Op};
use duet::ops::conv2d::Window;
use duet::ops::{Activation, Pooling};
use duet::rng::philox4x32;
use duet::tensor::pitch;

/// Random numbers of a seed, one after the other.
struct Random {
    seed: u64,
    count: u32,
}

impl Random {
    fn word(&mut self) -> u32 {
        self.count += 1;
        philox4x32([self.count, 0, 0, 0], [self.seed as u32, (self.seed >> 32) as u32])[0]
    }

    fn below(&mut self, bound: usize) -> usize {
        self.word() as usize % bound
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Values in `middle` ± `width`.
    fn values(&mut self, count: usize, middle: f32, width: f32) -> Vec<f32> {
        (0..count).map(|_| middle + width * (self.word() as f32 / 2_147_483_648.0 - 1.0)).collect()
    }
}

/// Channels: fewer than, as many as and more than vec4s, groups and tiles hold.
const CHANNELS: [usize; 12] = [1, 2, 3, 4, 5, 6, 8, 12, 13, 16, 20, 36];
/// Sides: one pixel, odd, of the models.
const SIDES: [usize; 9] = [1, 2, 3, 4, 5, 7, 8, 9, 14];
/// Largest image, so that the plain evaluator stays quick.
const MOST_PIXELS: usize = 256;
const MOST_CHANNELS: usize = 72;

struct Builder {
    random: Random,
    nodes: Vec<Node>,
    /// Images so far.
    images: Vec<usize>,
    /// Parameters so far: what their values are spread over, so that another use has the same kind.
    parameters: Vec<(usize, [u32; 2])>,
    batch: usize,
    /// Rows that all layers read, once there is one, in half of the networks.
    embedding: Option<usize>,
    embedded: bool,
}

impl Builder {
    fn push(&mut self, op: Op, inputs: Vec<usize>, shape: Vec<usize>) -> usize {
        self.nodes.push(Node { op, inputs, shape, data: Vec::new() });
        self.nodes.len() - 1
    }

    fn given(&mut self, op: Op, shape: Vec<usize>, data: Vec<f32>) -> usize {
        let node = self.push(op, Vec::new(), shape);
        self.nodes[node].data = data;
        node
    }

    fn leaf(&mut self, shape: &[usize], middle: f32, width: f32) -> usize {
        self.parameter(shape, middle, width, |_| false)
    }

    /// A parameter, now and then one that is used already: its gradients are added.
    fn parameter(
        &mut self,
        shape: &[usize],
        middle: f32,
        width: f32,
        is_pad: impl Fn(usize) -> bool,
    ) -> usize {
        let kind = [middle, width].map(f32::to_bits);
        let same = |(node, known): &&(usize, [u32; 2])| *known == kind && self.nodes[*node].shape == shape;
        let list: Vec<usize> = self.parameters.iter().filter(same).map(|(node, _)| *node).collect();
        if !list.is_empty() && self.random.coin() {
            return self.random.of(&list);
        }
        let mut data = self.random.values(shape.iter().product(), middle, width);
        data.iter_mut().enumerate().filter(|(i, _)| is_pad(*i)).for_each(|(_, value)| *value = 0.0);
        let node = self.given(Op::Leaf, shape.to_vec(), data);
        self.parameters.push((node, kind));
        node
    }

    /// A weight of `taps` matrices whose rows beyond `inputs` are zero.
    fn weight(&mut self, taps: Option<usize>, inputs: usize, outputs: usize) -> usize {
        let width = 1.7 / ((taps.unwrap_or(1) * inputs) as f32).sqrt();
        let rows = pitch(inputs);
        let shape: Vec<usize> = taps.into_iter().chain([rows, outputs]).collect();
        self.parameter(&shape, 0.0, width, |i| i / outputs % rows >= inputs)
    }

    fn shape(&self, node: usize) -> [usize; 4] {
        self.nodes[node].shape.as_slice().try_into().expect("an image")
    }

    fn image(&mut self, op: Op, inputs: Vec<usize>, shape: [usize; 4]) -> usize {
        let node = self.push(op, inputs, shape.to_vec());
        self.images.push(node);
        node
    }

    /// Rows \[batch, columns\] that scale, shift or are added: given, or a layer of what all of them read.
    fn rows(&mut self, columns: usize, width: f32) -> usize {
        if !self.embedded {
            return self.leaf(&[self.batch, columns], 0.0, width);
        }
        let rows = match self.embedding {
            Some(known) => known,
            None => {
                let features = self.random.of(&CHANNELS);
                self.leaf(&[self.batch, features], 0.0, 1.0)
            }
        };
        self.embedding = Some(rows);
        let weight = self.weight(None, self.nodes[rows].shape[1], columns);
        let bias = self.leaf(&[columns], 0.0, 0.3);
        let silu = self.random.coin();
        self.push(Op::Layer { silu }, vec![rows, weight, bias], vec![self.batch, columns])
    }

    /// Another image of the shape, or `None`.
    fn partner(&mut self, x: usize, fits: impl Fn([usize; 4], [usize; 4]) -> bool) -> Option<usize> {
        let shape = self.shape(x);
        let list: Vec<usize> = self.images.iter().copied().filter(|i| fits(self.shape(*i), shape)).collect();
        (!list.is_empty()).then(|| self.random.of(&list))
    }

    fn window(&mut self) -> Window {
        let mut pair = |list: &[usize]| [self.random.of(list), self.random.of(list)];
        let (kernel, stride) = (pair(&[1, 2, 3, 5]), pair(&[1, 2, 3]));
        let padding = pair(&[0, 1]);
        // A window never lies in the padding alone.
        Window { kernel, stride, padding: [0, 1].map(|i| padding[i].min(kernel[i] / 2)) }
    }

    /// One operation more, chosen by chance; nothing where it does not fit.
    fn grow(&mut self) {
        let x = if self.random.coin() {
            self.images[self.images.len() - 1]
        } else {
            self.random.of(&self.images.clone())
        };
        let [batch, height, width, channels] = self.shape(x);
        let kind = self.random.below(20);
        match kind {
            0..3 => {
                let (x, [height, width]) = self.perhaps_expanded(x);
                let stride = 1 + self.random.below(2);
                let out = self.random.of(&CHANNELS);
                let shape = [batch, height.div_ceil(stride), width.div_ceil(stride), out];
                let weight = self.weight(Some(9), channels, out);
                let bias = self.leaf(&[out], 0.0, 0.3);
                let residual = if self.random.coin() { self.product(shape) } else { self.residual(shape) };
                let inputs = [x, weight, bias].into_iter().chain(residual).collect();
                self.image(Op::Conv3x3 { stride, residual: residual.is_some() }, inputs, shape);
            }
            3 => {
                let window = self.window();
                let odd = Window { kernel: window.kernel.map(|k| k | 1), ..window };
                let out = self.random.of(&CHANNELS);
                if let Ok([h, w]) = odd.output("conv2d", [height, width]) {
                    let weight = self.weight(Some(odd.kernel[0] * odd.kernel[1]), channels, out);
                    let bias = self.leaf(&[out], 0.0, 0.3);
                    self.image(Op::Conv2d(odd), vec![x, weight, bias], [batch, h, w, out]);
                }
            }
            4..6 => {
                let out = self.random.of(&CHANNELS);
                let shape = [batch, height, width, out];
                let weight = self.weight(None, channels, out);
                let bias = self.leaf(&[out], 0.0, 0.3);
                let residual = self.residual(shape);
                let inputs = [x, weight, bias].into_iter().chain(residual).collect();
                self.image(Op::MatMul { residual: residual.is_some() }, inputs, shape);
            }
            6..9 => {
                let divisors: Vec<usize> = (1..=channels).filter(|g| channels.is_multiple_of(*g)).collect();
                let groups = self.random.of(&divisors);
                let gamma = self.leaf(&[channels], 1.0, 0.3);
                let beta = self.leaf(&[channels], 0.0, 0.3);
                let scale_shift = self.random.coin().then(|| self.rows(2 * channels, 0.4));
                let inputs = [x, gamma, beta].into_iter().chain(scale_shift).collect();
                let op =
                    Op::GroupNorm { groups, scale_shift: scale_shift.is_some(), silu: self.random.coin() };
                self.image(op, inputs, [batch, height, width, channels]);
            }
            9 => {
                let heads = self.random.of(&[1, 2, 3]);
                let out = heads * self.random.of(&[1, 3, 4, 8, 10]);
                let weight = self.weight(None, channels, 3 * out);
                let bias = self.leaf(&[3 * out], 0.0, 0.3);
                let qkv = self.push(
                    Op::MatMul { residual: false },
                    vec![x, weight, bias],
                    vec![batch, height, width, 3 * out],
                );
                let op = Op::Attention { heads, new_order: self.random.coin() };
                self.image(op, vec![qkv], [batch, height, width, out]);
            }
            10 => {
                let leaky = Activation::LeakyRelu { slope: 0.1 };
                let op = Op::Activate(self.random.of(&[Activation::Silu, leaky, Activation::Relu]));
                self.image(op, vec![x], [batch, height, width, channels]);
            }
            11 => {
                if let Some(other) = self.partner(x, |a, b| a == b) {
                    self.image(Op::Add, vec![x, other], [batch, height, width, channels]);
                }
            }
            12..14 => {
                let joins = |a: [usize; 4], b: [usize; 4]| a[..3] == b[..3] && a[3] + b[3] <= MOST_CHANNELS;
                if let Some(other) = self.partner(x, joins) {
                    let both = channels + self.shape(other)[3];
                    self.image(Op::Concat, vec![x, other], [batch, height, width, both]);
                }
            }
            14 => {
                let from = self.random.below(channels);
                let count = 1 + self.random.below(channels - from);
                self.image(Op::Slice { from, count }, vec![x], [batch, height, width, count]);
            }
            15 if 4 * height * width <= MOST_PIXELS => {
                self.image(Op::Upsample, vec![x], [batch, 2 * height, 2 * width, channels]);
            }
            16 if height > 1 && width > 1 => {
                self.image(Op::AveragePool, vec![x], [batch, height / 2, width / 2, channels]);
            }
            17 => {
                let window = self.window();
                let (maximum, count_include_pad) = (self.random.coin(), self.random.coin());
                if let Ok([h, w]) = window.output("pool2d", [height, width]) {
                    let op = if maximum {
                        Op::MaxPool2d(window)
                    } else {
                        Op::AvgPool2d { window, count_include_pad }
                    };
                    self.image(op, vec![x], [batch, h, w, channels]);
                }
            }
            18 => {
                let row = self.rows(channels, 0.5);
                self.image(Op::AddRowwise, vec![x, row], [batch, height, width, channels]);
            }
            _ => {
                let factor = self.random.of(&[-0.7, 0.5, 1.5]);
                self.image(Op::Scale(factor), vec![x], [batch, height, width, channels]);
            }
        }
    }

    /// An image, or one of twice its size that nothing else reads.
    fn perhaps_expanded(&mut self, x: usize) -> (usize, [usize; 2]) {
        let [batch, height, width, channels] = self.shape(x);
        if 4 * height * width > MOST_PIXELS || self.random.below(3) > 0 {
            return (x, [height, width]);
        }
        let shape = vec![batch, 2 * height, 2 * width, channels];
        (self.push(Op::Upsample, vec![x], shape), [2 * height, 2 * width])
    }

    /// A product of an image of the shape but for the channels, which nothing else reads.
    fn product(&mut self, shape: [usize; 4]) -> Option<usize> {
        let fits = |i: &usize| self.shape(*i)[..3] == shape[..3];
        let list: Vec<usize> = self.images.iter().copied().filter(fits).collect();
        if list.is_empty() {
            return None;
        }
        let x = self.random.of(&list);
        let weight = self.weight(None, self.shape(x)[3], shape[3]);
        let bias = self.leaf(&[shape[3]], 0.0, 0.3);
        Some(self.push(Op::MatMul { residual: false }, vec![x, weight, bias], shape.to_vec()))
    }

    fn residual(&mut self, shape: [usize; 4]) -> Option<usize> {
        let list: Vec<usize> = self.images.iter().copied().filter(|i| self.shape(*i) == shape).collect();
        (!list.is_empty() && self.random.coin()).then(|| self.random.of(&list))
    }

    /// What is read by nothing yet goes into a loss: an image against a target, all of them into a classifier.
    fn finish(mut self) -> Network {
        let batch = self.batch;
        let read: Vec<usize> = self.nodes.iter().flat_map(|n| n.inputs.clone()).collect();
        let ends: Vec<usize> = self.images.iter().copied().filter(|i| !read.contains(i)).collect();
        let mut losses = Vec::new();
        if self.random.coin() {
            let prediction = self.random.of(&ends);
            let mut shape = self.nodes[prediction].shape.clone();
            // As where a network also predicts a variance.
            shape[3] = 1 + self.random.below(shape[3]);
            let data = self.random.values(shape.iter().product(), 0.0, 1.0);
            let target = self.given(Op::Constant, shape, data);
            let error = self.push(Op::Mse, vec![prediction, target], vec![batch]);
            losses.push(self.push(Op::WeightedSum(1.0 / batch as f32), vec![error], vec![1]));
        }
        let columns = 1 + ends.iter().map(|i| self.shape(*i)[3]).sum::<usize>();
        let times = self.random.values(batch, 1.0, 1.0);
        let t = self.given(Op::Constant, vec![batch], times);
        let pooling = self.random.of(&[Pooling::Average, Pooling::Max]);
        let inputs = ends.iter().copied().chain([t]).collect();
        let mut x = self.push(Op::Features(pooling), inputs, vec![batch, columns]);
        if self.random.coin() {
            let (gamma, beta) = (self.leaf(&[columns], 1.0, 0.3), self.leaf(&[columns], 0.0, 0.3));
            let mut statistics = self.random.values(columns, 0.0, 0.5);
            statistics.extend(self.random.values(columns, 1.0, 0.5));
            let running = self.given(Op::Constant, vec![2, columns], statistics);
            // Statistics of two samples divide by differences of nearly equal numbers: no comparison of values holds there.
            let train = batch > 2 && self.random.coin();
            let learn = train.then(|| self.given(Op::Constant, vec![1], vec![1.0]));
            let inputs = [x, gamma, beta, running].into_iter().chain(learn).collect();
            x = self.push(Op::BatchNorm { train }, inputs, vec![batch, columns]);
        }
        let classes = self.random.of(&[2, 3, 5, 10]);
        let weight = self.weight(None, columns, classes);
        let bias = self.leaf(&[classes], 0.0, 0.3);
        let logits = self.push(Op::MatMul { residual: false }, vec![x, weight, bias], vec![batch, classes]);
        let each = if self.random.coin() {
            let labels = (0..batch).map(|_| self.random.below(classes) as f32).collect();
            let labels = self.given(Op::Labels, vec![batch], labels);
            self.push(Op::CrossEntropy, vec![logits, labels], vec![batch])
        } else {
            let targets = (0..batch * classes).map(|_| self.random.below(2) as f32).collect();
            let targets = self.given(Op::Constant, vec![batch, classes], targets);
            let mean = self.random.coin();
            self.push(Op::Bce { mean }, vec![logits, targets], vec![batch])
        };
        let mut loss = self.push(Op::WeightedSum(1.0 / batch as f32), vec![each], vec![1]);
        for other in losses {
            loss = self.push(Op::Add, vec![loss, other], vec![1]);
        }
        let mut watched = vec![logits, loss];
        // Results that outlive the run lie elsewhere than those that do not: half of the networks have many.
        if self.random.coin() {
            watched.extend(&self.images[1..]);
        }
        Network { nodes: self.nodes, watched }
    }
}

impl Network {
    /// The network of a seed, grown by `operations`; those of fewer operations begin the same way.
    pub fn random(seed: u64, operations: usize) -> Network {
        let mut random = Random { seed, count: 0 };
        let batch = 1 + random.below(3);
        let embedded = seed % 2 == 1;
        let (nodes, images, parameters) = (Vec::new(), Vec::new(), Vec::new());
        let mut builder = Builder { random, nodes, images, parameters, batch, embedding: None, embedded };
        let (height, width) = (builder.random.of(&SIDES), builder.random.of(&SIDES));
        let channels = builder.random.of(&CHANNELS);
        let image = builder.leaf(&[batch, height, width, channels], 0.0, 1.0);
        builder.images.push(image);
        for _ in 0..operations {
            builder.grow();
        }
        builder.finish()
    }
}
