//! The UNet as a graph of meganeura's operations, its weights read by the names of the reference's state_dict.
//!
//! Images are flat, in channel, row, column order. What meganeura has no operation for is made of those it has:
//!
//! - A number for each channel of each image, spread over its pixels (a convolution's bias; scale and shift of a norm), is the
//!   product of a column with a row of ones, as wide as there are pixels.
//! - Scale and shift are two linear layers, each with its half of the weights: its split has no gradient.
//! - Attention is over one sequence, its heads 64 wide. The heads of all images are heads of one sequence here, and each has
//!   zeros beside its numbers; queries are multiplied by two where they are widened, as softmax then divides by √64 instead of √16.
//! - Sines and cosines of the timestep come from the host.

use meganeura::graph::{Graph, NodeId};
use safetensors::SafeTensors;

/// Base width.
pub const WIDTH: usize = 32;
/// Width multiplier of each level; one residual block per level.
const LEVELS: [usize; 3] = [1, 2, 2];
const HEADS: usize = 4;
/// As wide as the heads of meganeura's attention must be.
const HEAD: usize = 64;
const GROUPS: u32 = 32;
const EPS: f32 = 1e-5;

/// A tensor of images `[batch, channels, side, side]`.
#[derive(Clone, Copy)]
struct Images {
    node: NodeId,
    channels: usize,
    side: usize,
}

impl Images {
    fn pixels(&self) -> usize {
        self.side * self.side
    }
}

/// A network: its graph, and the values of its parameters.
pub struct Network<'a> {
    pub graph: Graph,
    pub parameters: Vec<(String, Vec<f32>)>,
    /// `[batch, 1, side, side]`.
    pub eps: NodeId,
    file: &'a SafeTensors<'a>,
    batch: usize,
}

/// Values of a tensor of a file.
pub fn values(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Cosines and sines of timesteps `[batch, WIDTH]`: the input `waves`.
pub fn waves(t: &[f32]) -> Vec<f32> {
    let half = WIDTH / 2;
    let frequency = |i: usize| (-(10_000f32.ln()) * i as f32 / half as f32).exp();
    let row = |t: &f32| {
        let angles: Vec<f32> = (0..half).map(|i| t * frequency(i)).collect();
        angles.iter().map(|a| a.cos()).chain(angles.iter().map(|a| a.sin())).collect::<Vec<f32>>()
    };
    t.iter().flat_map(row).collect()
}

impl<'a> Network<'a> {
    /// The network on `batch` images of `side` × `side` pixels, with the weights of `file`. Inputs are `x` and `waves`.
    pub fn new(file: &'a SafeTensors<'a>, batch: usize, side: usize) -> Network<'a> {
        let mut net = Network { graph: Graph::new(), parameters: Vec::new(), eps: 0, file, batch };
        let x = net.graph.input("x", &[batch * side * side]);
        let waves = net.graph.input("waves", &[batch, WIDTH]);
        net.eps = net.unet(Images { node: x, channels: 1, side }, waves).node;
        net
    }

    fn unet(&mut self, x: Images, waves: NodeId) -> Images {
        let emb = self.linear("time_embed.0", waves, WIDTH, 4 * WIDTH);
        let emb = self.graph.silu(emb);
        let emb = self.linear("time_embed.2", emb, 4 * WIDTH, 4 * WIDTH);
        let mut h = self.conv("input_blocks.0.0", x, WIDTH, 3, 1);
        let mut skips = vec![h];
        for (level, mult) in LEVELS.iter().enumerate() {
            h = self.block(&format!("input_blocks.{}.0", skips.len()), h, mult * WIDTH, emb);
            skips.push(h);
            if level + 1 < LEVELS.len() {
                h = self.conv(&format!("input_blocks.{}.0.op", skips.len()), h, h.channels, 3, 2);
                skips.push(h);
            }
        }
        h = self.block("middle_block.0", h, h.channels, emb);
        h = self.attention("middle_block.1", h);
        h = self.block("middle_block.2", h, h.channels, emb);
        let mut number = 0;
        for (level, mult) in LEVELS.iter().enumerate().rev() {
            for last in [false, true] {
                h = self.concat(h, skips.pop().expect("as many skips as decoder blocks"));
                h = self.block(&format!("output_blocks.{number}.0"), h, mult * WIDTH, emb);
                if last && level > 0 {
                    h = self.upsample(h);
                    h = self.conv(&format!("output_blocks.{number}.1.conv"), h, h.channels, 3, 1);
                }
                number += 1;
            }
        }
        h = self.norm("out.0", h);
        h.node = self.graph.silu(h.node);
        self.conv("out.2", h, 1, 3, 1)
    }

    fn block(&mut self, name: &str, x: Images, channels: usize, emb: NodeId) -> Images {
        let mut h = self.norm(&format!("{name}.in_layers.0"), x);
        h.node = self.graph.silu(h.node);
        h = self.conv(&format!("{name}.in_layers.2"), h, channels, 3, 1);
        let emb = self.graph.silu(emb);
        let emb_name = format!("{name}.emb_layers.1");
        let scale = self.linear_rows(&emb_name, "scale", emb, 4 * WIDTH, &(0..channels).collect::<Vec<_>>());
        let shift_rows: Vec<usize> = (channels..2 * channels).collect();
        let shift = self.linear_rows(&emb_name, "shift", emb, 4 * WIDTH, &shift_rows);
        let ones = self.ones(&[self.batch, channels]);
        let scale = self.graph.add(scale, ones);
        h = self.norm(&format!("{name}.out_layers.0"), h);
        let rows = [self.batch * channels, h.pixels()];
        let flat = self.graph.reshape(h.node, &rows);
        let scale = self.spread(scale, h);
        let scaled = self.graph.mul(flat, scale);
        let shift = self.spread(shift, h);
        let shifted = self.graph.add(shift, scaled);
        h.node = self.graph.reshape(shifted, &[rows[0] * rows[1]]);
        h.node = self.graph.silu(h.node);
        h = self.conv(&format!("{name}.out_layers.3"), h, channels, 3, 1);
        let skip = match x.channels == channels {
            true => x,
            false => self.conv(&format!("{name}.skip_connection"), x, channels, 1, 1),
        };
        h.node = self.graph.add(skip.node, h.node);
        h
    }

    fn attention(&mut self, name: &str, x: Images) -> Images {
        let (batch, channels, pixels) = (self.batch, x.channels, x.pixels());
        let head = channels / HEADS;
        let h = self.norm(&format!("{name}.norm"), x);
        // The file has q, k and v head by head.
        let [q, k, v] = [("q", 0), ("k", 1), ("v", 2)].map(|(part, number)| {
            let rows = |h: usize| (h * 3 + number) * head..(h * 3 + number + 1) * head;
            let rows: Vec<usize> = (0..HEADS).flat_map(rows).collect();
            let part = self.conv_rows(&format!("{name}.qkv"), part, h, &rows, 1, 1);
            let columns = self.graph.reshape(part.node, &[batch * channels, pixels]);
            let columns = self.graph.transpose(columns);
            let heads = self.graph.reshape(columns, &[pixels * batch * HEADS, head]);
            let wider = (HEAD as f32 / head as f32).sqrt();
            let wide = self.diagonal(if number == 0 { wider } else { 1.0 }, [head, HEAD]);
            let heads = self.graph.matmul(heads, wide);
            self.graph.reshape(heads, &[pixels, batch * HEADS * HEAD])
        });
        let heads = (batch * HEADS) as u32;
        let mixed = self.graph.multi_head_attn(q, k, v, heads, heads, HEAD as u32, true);
        let mixed = self.graph.reshape(mixed, &[pixels * batch * HEADS, HEAD]);
        let narrow = self.diagonal(1.0, [HEAD, head]);
        let mixed = self.graph.matmul(mixed, narrow);
        let mixed = self.graph.reshape(mixed, &[pixels, batch * channels]);
        let mixed = self.graph.transpose(mixed);
        let node = self.graph.reshape(mixed, &[batch * channels * pixels]);
        let mut out = self.conv(&format!("{name}.proj_out"), Images { node, ..x }, channels, 1, 1);
        out.node = self.graph.add(x.node, out.node);
        out
    }

    fn parameter(&mut self, name: String, shape: &[usize], values: Vec<f32>) -> NodeId {
        let node = self.graph.parameter(&name, shape);
        self.parameters.push((name, values));
        node
    }

    fn ones(&mut self, shape: &[usize]) -> NodeId {
        self.graph.constant(vec![1.0; shape.iter().product()], shape)
    }

    /// A matrix with `value` on its diagonal.
    fn diagonal(&mut self, value: f32, [rows, columns]: [usize; 2]) -> NodeId {
        let at = |i: usize| if i / columns == i % columns { value } else { 0.0 };
        self.graph.constant((0..rows * columns).map(at).collect(), &[rows, columns])
    }

    /// A number for each channel of each image `[batch, channels]`, at every pixel: `[batch * channels, pixels]`.
    fn spread(&mut self, numbers: NodeId, like: Images) -> NodeId {
        let column = self.graph.reshape(numbers, &[self.batch * like.channels, 1]);
        let row = self.ones(&[1, like.pixels()]);
        self.graph.matmul(column, row)
    }

    fn linear(&mut self, name: &str, x: NodeId, from: usize, to: usize) -> NodeId {
        self.linear_rows(name, "all", x, from, &(0..to).collect::<Vec<_>>())
    }

    /// The outputs `rows` of a linear layer.
    fn linear_rows(&mut self, name: &str, part: &str, x: NodeId, from: usize, rows: &[usize]) -> NodeId {
        let [weight, bias] = ["weight", "bias"].map(|kind| values(self.file, &format!("{name}.{kind}")));
        // meganeura keeps [from, to], the reference [to, from].
        let columns = (0..from).flat_map(|i| rows.iter().map(move |row| row * from + i));
        let weight = columns.map(|i| weight[i]).collect();
        let bias = rows.iter().map(|row| bias[*row]).collect();
        let weight = self.parameter(format!("{name}.{part}.weight"), &[from, rows.len()], weight);
        let bias = self.parameter(format!("{name}.{part}.bias"), &[rows.len()], bias);
        let product = self.graph.matmul(x, weight);
        self.graph.bias_add(product, bias)
    }

    fn conv(&mut self, name: &str, x: Images, to: usize, size: usize, stride: usize) -> Images {
        self.conv_rows(name, "all", x, &(0..to).collect::<Vec<_>>(), size, stride)
    }

    /// The output channels `rows` of a convolution.
    fn conv_rows(
        &mut self,
        name: &str,
        part: &str,
        x: Images,
        rows: &[usize],
        size: usize,
        stride: usize,
    ) -> Images {
        let [weight, bias] = ["weight", "bias"].map(|kind| values(self.file, &format!("{name}.{kind}")));
        let (to, each) = (rows.len(), x.channels * size * size);
        let weight = rows.iter().flat_map(|row| &weight[row * each..(row + 1) * each]).copied().collect();
        let weight = self.parameter(format!("{name}.{part}.weight"), &[to * each], weight);
        let bias = rows.iter().map(|row| bias[*row]).collect();
        let bias = self.parameter(format!("{name}.{part}.bias"), &[1, to], bias);
        let [batch, from, side, size, stride] =
            [self.batch, x.channels, x.side, size, stride].map(|n| n as u32);
        let graph = &mut self.graph;
        let padding = size / 2;
        let product =
            graph.conv2d(x.node, weight, batch, from, side, side, to as u32, size, size, stride, padding);
        let mut out = Images { node: product, channels: to, side: x.side.div_ceil(stride as usize) };
        // The same bias for every image.
        let column = self.ones(&[self.batch, 1]);
        let bias = self.graph.matmul(column, bias);
        let bias = self.spread(bias, out);
        let rows = self.graph.reshape(product, &[self.batch * to, out.pixels()]);
        let sum = self.graph.add(bias, rows);
        out.node = self.graph.reshape(sum, &[self.batch * to * out.pixels()]);
        out
    }

    fn norm(&mut self, name: &str, x: Images) -> Images {
        let [weight, bias] = ["weight", "bias"].map(|kind| {
            let name = format!("{name}.{kind}");
            let numbers = values(self.file, &name);
            self.parameter(name, &[x.channels], numbers)
        });
        let [batch, channels, pixels] = [self.batch, x.channels, x.pixels()].map(|n| n as u32);
        let node = self.graph.group_norm(x.node, weight, bias, batch, channels, pixels, GROUPS, EPS);
        Images { node, ..x }
    }

    fn concat(&mut self, a: Images, b: Images) -> Images {
        let [batch, first, second, pixels] =
            [self.batch, a.channels, b.channels, a.pixels()].map(|n| n as u32);
        let node = self.graph.concat(a.node, b.node, batch, first, second, pixels);
        Images { node, channels: a.channels + b.channels, side: a.side }
    }

    fn upsample(&mut self, x: Images) -> Images {
        let [batch, channels, side] = [self.batch, x.channels, x.side].map(|n| n as u32);
        let node = self.graph.upsample_2x(x.node, batch, channels, side, side);
        Images { node, side: 2 * x.side, ..x }
    }
}
