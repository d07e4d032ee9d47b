//! The UNet in burn's modules, its weights read by the names of the reference's state_dict.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::{silu, softmax};
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;

/// Base width.
const WIDTH: usize = 32;
/// Width multiplier of each level; one residual block per level.
const LEVELS: [usize; 3] = [1, 2, 2];
const HEADS: usize = 4;
const GROUPS: usize = 32;

/// Tensors of a file on a device.
pub struct File<'a> {
    pub file: &'a SafeTensors<'a>,
    pub device: &'a Device,
}

impl File<'_> {
    /// Values of a tensor.
    pub fn values(&self, name: &str) -> Vec<f32> {
        let view = self.file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    /// A tensor in the given shape.
    pub fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(self.values(name), shape), self.device)
    }

    fn bias(&self, name: &str, length: usize) -> Option<Param<Tensor<1>>> {
        Some(Param::from_tensor(self.tensor(&format!("{name}.bias"), [length])))
    }

    fn conv(&self, name: &str, [from, to]: [usize; 2], size: usize, stride: usize) -> Conv2d {
        let pad = size / 2;
        let config = Conv2dConfig::new([from, to], [size, size])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad));
        let mut conv = config.init(self.device);
        let weight = self.tensor(&format!("{name}.weight"), [to, from, size, size]);
        conv.weight = Param::from_tensor(weight);
        conv.bias = self.bias(name, to);
        conv
    }

    fn linear(&self, name: &str, from: usize, to: usize) -> Linear {
        let mut linear = LinearConfig::new(from, to).init(self.device);
        // burn keeps [from, to], the reference [to, from].
        let rows = self.values(&format!("{name}.weight"));
        let columns = (0..from * to).map(|i| rows[i % to * from + i / to]).collect::<Vec<f32>>();
        let weight = Tensor::from_data(TensorData::new(columns, [from, to]), self.device);
        linear.weight = Param::from_tensor(weight);
        linear.bias = self.bias(name, to);
        linear
    }

    fn norm(&self, name: &str, channels: usize) -> GroupNorm {
        let mut norm = GroupNormConfig::new(GROUPS, channels).init(self.device);
        norm.gamma = Some(Param::from_tensor(self.tensor(&format!("{name}.weight"), [channels])));
        norm.beta = self.bias(name, channels);
        norm
    }
}

#[derive(Module, Debug)]
struct ResBlock {
    in_norm: GroupNorm,
    in_conv: Conv2d,
    emb: Linear,
    out_norm: GroupNorm,
    out_conv: Conv2d,
    skip: Option<Conv2d>,
}

impl ResBlock {
    fn new(file: &File<'_>, name: &str, from: usize, to: usize) -> ResBlock {
        let at = |part: &str| format!("{name}.{part}");
        ResBlock {
            in_norm: file.norm(&at("in_layers.0"), from),
            in_conv: file.conv(&at("in_layers.2"), [from, to], 3, 1),
            emb: file.linear(&at("emb_layers.1"), 4 * WIDTH, 2 * to),
            out_norm: file.norm(&at("out_layers.0"), to),
            out_conv: file.conv(&at("out_layers.3"), [to, to], 3, 1),
            skip: (from != to).then(|| file.conv(&at("skip_connection"), [from, to], 1, 1)),
        }
    }

    fn forward(&self, x: Tensor<4>, emb: Tensor<2>) -> Tensor<4> {
        let h = self.in_conv.forward(silu(self.in_norm.forward(x.clone())));
        let emb = self.emb.forward(silu(emb));
        let [rows, columns] = emb.dims();
        let channels = columns / 2;
        let part =
            |from: usize| emb.clone().slice([0..rows, from..from + channels]).reshape([rows, channels, 1, 1]);
        let h = self.out_norm.forward(h) * (part(0) + 1.0) + part(channels);
        let h = self.out_conv.forward(silu(h));
        h + match &self.skip {
            Some(skip) => skip.forward(x),
            None => x,
        }
    }
}

#[derive(Module, Debug)]
struct Attention {
    norm: GroupNorm,
    qkv: Linear,
    out: Linear,
}

impl Attention {
    fn new(file: &File<'_>, name: &str, channels: usize) -> Attention {
        Attention {
            norm: file.norm(&format!("{name}.norm"), channels),
            qkv: file.linear(&format!("{name}.qkv"), channels, 3 * channels),
            out: file.linear(&format!("{name}.proj_out"), channels, channels),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [n, c, height, width] = x.dims();
        let (pixels, head) = (height * width, c / HEADS);
        let rows = self.norm.forward(x.clone()).reshape([n, c, pixels]).swap_dims(1, 2);
        // q, k and v head by head.
        let qkv = self.qkv.forward(rows).reshape([n, pixels, HEADS, 3 * head]).swap_dims(1, 2);
        let part = |i: usize| qkv.clone().slice([0..n, 0..HEADS, 0..pixels, i * head..(i + 1) * head]);
        let scores = part(0).matmul(part(1).swap_dims(2, 3)) / (head as f32).sqrt();
        let mixed = softmax(scores, 3).matmul(part(2)).swap_dims(1, 2).reshape([n, pixels, c]);
        x + self.out.forward(mixed).swap_dims(1, 2).reshape([n, c, height, width])
    }
}

/// The network.
#[derive(Module, Debug)]
pub struct UNet {
    time_in: Linear,
    time_out: Linear,
    first: Conv2d,
    encoder: Vec<ResBlock>,
    down: Vec<Conv2d>,
    middle_in: ResBlock,
    attention: Attention,
    middle_out: ResBlock,
    decoder: Vec<ResBlock>,
    up: Vec<Conv2d>,
    norm: GroupNorm,
    last: Conv2d,
}

impl UNet {
    /// With the weights of `file`.
    pub fn new(file: &File<'_>) -> UNet {
        let mut channels = WIDTH;
        let mut skips = vec![WIDTH];
        let (mut encoder, mut down, mut decoder, mut up) = (vec![], vec![], vec![], vec![]);
        for (level, mult) in LEVELS.iter().enumerate() {
            let to = mult * WIDTH;
            encoder.push(ResBlock::new(file, &format!("input_blocks.{}.0", skips.len()), channels, to));
            channels = to;
            skips.push(channels);
            if level + 1 < LEVELS.len() {
                let name = format!("input_blocks.{}.0.op", skips.len());
                down.push(file.conv(&name, [channels, channels], 3, 2));
                skips.push(channels);
            }
        }
        let middle = channels;
        for (level, mult) in LEVELS.iter().enumerate().rev() {
            for _ in 0..2 {
                let from = channels + skips.pop().expect("as many skips as decoder blocks");
                channels = mult * WIDTH;
                let name = format!("output_blocks.{}.0", decoder.len());
                decoder.push(ResBlock::new(file, &name, from, channels));
            }
            if level > 0 {
                let name = format!("output_blocks.{}.1.conv", decoder.len() - 1);
                up.push(file.conv(&name, [channels, channels], 3, 1));
            }
        }
        UNet {
            time_in: file.linear("time_embed.0", WIDTH, 4 * WIDTH),
            time_out: file.linear("time_embed.2", 4 * WIDTH, 4 * WIDTH),
            first: file.conv("input_blocks.0.0", [1, WIDTH], 3, 1),
            encoder,
            down,
            middle_in: ResBlock::new(file, "middle_block.0", middle, middle),
            attention: Attention::new(file, "middle_block.1", middle),
            middle_out: ResBlock::new(file, "middle_block.2", middle, middle),
            decoder,
            up,
            norm: file.norm("out.0", channels),
            last: file.conv("out.2", [channels, 1], 3, 1),
        }
    }

    /// eps of images [N,1,H,W] at timesteps [N].
    pub fn forward(&self, x: Tensor<4>, t: Tensor<1>) -> Tensor<4> {
        let half = WIDTH / 2;
        let frequency = |i: usize| (-(10_000f32.ln()) * i as f32 / half as f32).exp();
        let frequencies = TensorData::new((0..half).map(frequency).collect::<Vec<f32>>(), [1, half]);
        let angles = t.unsqueeze_dim::<2>(1).matmul(Tensor::from_data(frequencies, &x.device()));
        let waves = Tensor::cat(vec![angles.clone().cos(), angles.sin()], 1);
        let emb = self.time_out.forward(silu(self.time_in.forward(waves)));
        let mut h = self.first.forward(x);
        let mut skips = vec![h.clone()];
        for (level, block) in self.encoder.iter().enumerate() {
            h = block.forward(h, emb.clone());
            skips.push(h.clone());
            if let Some(down) = self.down.get(level) {
                h = down.forward(h);
                skips.push(h.clone());
            }
        }
        h = self.middle_in.forward(h, emb.clone());
        h = self.middle_out.forward(self.attention.forward(h), emb.clone());
        for (i, block) in self.decoder.iter().enumerate() {
            let skip = skips.pop().expect("as many skips as decoder blocks");
            h = block.forward(Tensor::cat(vec![h, skip], 1), emb.clone());
            if let (1, Some(up)) = (i % 2, self.up.get(i / 2)) {
                let [_, _, height, width] = h.dims();
                let nearest = InterpolateOptions::new(InterpolateMode::Nearest);
                h = up.forward(interpolate(h, nearest.with_output_size([2 * height, 2 * width])));
            }
        }
        self.last.forward(silu(self.norm.forward(h)))
    }
}
