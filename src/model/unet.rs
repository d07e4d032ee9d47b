//! The guided-diffusion UNet: encoder, bottleneck, decoder (reference names, so that its checkpoints load).

use super::config::ModelConfig;
use super::layers::{Affine, AttentionBlock, Builder, Norm, ResBlock, Resample};
use super::params::{ParamLayout, Part};
use crate::error::{Error, Result};
use crate::graph::{NodeId, Place};

/// One layer of a block, in the order of the reference's `TimestepEmbedSequential`.
#[derive(Clone, Debug)]
enum Layer {
    Conv(Affine),
    Res(ResBlock),
    Attention(AttentionBlock),
    /// Strided 3×3 convolution.
    Down(Affine),
    /// Nearest ×2, then 3×3 convolution.
    Up(Affine),
}

/// What the encoder hands to the decoder and the classifier.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Output of the middle block \[N,H,W,C\].
    pub bottleneck: NodeId,
    /// Outputs of all input blocks, first to last.
    pub skips: Vec<NodeId>,
    /// Timestep embedding \[N,4C\], which the decoder's blocks read too.
    pub temb: NodeId,
}

/// The UNet's blocks and their parameters.
#[derive(Clone, Debug)]
pub struct UNet {
    width: usize,
    time: [Affine; 2],
    input_blocks: Vec<Vec<Layer>>,
    middle: Vec<Layer>,
    output_blocks: Vec<Vec<Layer>>,
    out_norm: Norm,
    out_conv: Affine,
    /// Channels of the bottleneck and of each skip.
    pub(crate) feature_channels: Vec<usize>,
}

impl UNet {
    /// Declares the parameters of `config`, which must be valid.
    pub fn new(p: &mut ParamLayout, config: &ModelConfig) -> Result<UNet> {
        let levels = config.levels()?;
        let attention = config.attention_factors();
        let width = config.num_channels;
        let emb = 4 * width;
        p.begin(Part::Encoder);
        let time = [
            Affine::linear(p, "time_embed.0", width, emb, 0, false),
            Affine::linear(p, "time_embed.2", emb, emb, 0, false),
        ];
        let mut channels = levels[0] * width;
        let first = channels;
        let conv = Affine::conv3x3(p, "input_blocks.0.0", config.in_channels, channels, false);
        let mut input_blocks = vec![vec![Layer::Conv(conv)]];
        let mut skip_channels = vec![channels];
        for (level, mult) in levels.iter().enumerate() {
            for _ in 0..config.num_res_blocks {
                let name = format!("input_blocks.{}", input_blocks.len());
                let sizes = [channels, mult * width, emb];
                channels = sizes[1];
                let mut block =
                    vec![Layer::Res(ResBlock::new(p, config, &format!("{name}.0"), sizes, Resample::None))];
                if attention.contains(&(1 << level)) {
                    let heads = config.heads(channels, false);
                    let at = format!("{name}.1");
                    block.push(Layer::Attention(AttentionBlock::new(p, config, &at, channels, heads)));
                }
                input_blocks.push(block);
                skip_channels.push(channels);
            }
            if level + 1 < levels.len() {
                let name = format!("input_blocks.{}.0", input_blocks.len());
                input_blocks.push(vec![if config.resblock_updown {
                    Layer::Res(ResBlock::new(p, config, &name, [channels, channels, emb], Resample::Down))
                } else {
                    Layer::Down(Affine::conv3x3(p, &format!("{name}.op"), channels, channels, false))
                }]);
                skip_channels.push(channels);
            }
        }
        let sizes = [channels, channels, emb];
        let heads = config.heads(channels, false);
        let middle = vec![
            Layer::Res(ResBlock::new(p, config, "middle_block.0", sizes, Resample::None)),
            Layer::Attention(AttentionBlock::new(p, config, "middle_block.1", channels, heads)),
            Layer::Res(ResBlock::new(p, config, "middle_block.2", sizes, Resample::None)),
        ];
        let mut feature_channels = vec![channels];
        feature_channels.extend(&skip_channels);
        p.begin(Part::Decoder);
        let mut output_blocks = Vec::new();
        for (level, mult) in levels.iter().enumerate().rev() {
            for i in 0..=config.num_res_blocks {
                let name = format!("output_blocks.{}", output_blocks.len());
                let skip = skip_channels.pop().unwrap_or(0);
                let sizes = [channels + skip, mult * width, emb];
                channels = sizes[1];
                let mut block =
                    vec![Layer::Res(ResBlock::new(p, config, &format!("{name}.0"), sizes, Resample::None))];
                if attention.contains(&(1 << level)) {
                    let heads = config.heads(channels, true);
                    let at = format!("{name}.1");
                    block.push(Layer::Attention(AttentionBlock::new(p, config, &at, channels, heads)));
                }
                if level > 0 && i == config.num_res_blocks {
                    let at = format!("{name}.{}", block.len());
                    block.push(if config.resblock_updown {
                        Layer::Res(ResBlock::new(p, config, &at, [channels, channels, emb], Resample::Up))
                    } else {
                        Layer::Up(Affine::conv3x3(p, &format!("{at}.conv"), channels, channels, false))
                    });
                }
                output_blocks.push(block);
            }
        }
        let out_norm = Norm::new(p, "out.0", channels, config.groups(channels));
        let out_conv = Affine::conv3x3(p, "out.2", first, config.out_channels(), true);
        Ok(UNet { width, time, input_blocks, middle, output_blocks, out_norm, out_conv, feature_channels })
    }

    /// The encoder: `x` \[N,H,W,C\] and the timestep `t` \[N\] (f32) to bottleneck and skips.
    pub fn encode(&self, b: &mut Builder<'_>, x: NodeId, t: NodeId) -> Result<Encoded> {
        let frequencies = b.graph.leaf(&[(self.width / 2).max(1)], Place::whole("frequencies"));
        let sincos = b.graph.timestep_embedding(t, frequencies, self.width);
        let [first, second] = self.time;
        let hidden = alone(b, first, sincos, false)?;
        let temb = alone(b, second, hidden, true)?;
        let blocks = || self.input_blocks.iter().chain([&self.middle]);
        let mut embedded = embedded(b, blocks(), temb)?.into_iter();
        let mut h = x;
        let mut maps = Vec::new();
        for block in blocks() {
            h = apply(b, block, h, &mut embedded)?;
            maps.push(h);
        }
        // The middle block's map is the last one.
        maps.pop();
        Ok(Encoded { bottleneck: h, skips: maps, temb })
    }

    /// The decoder: bottleneck and skips to eps \[N,H,W,C\] (and v behind it with a learned sigma).
    pub fn decode(&self, b: &mut Builder<'_>, encoded: &Encoded) -> Result<NodeId> {
        let mut embedded = embedded(b, self.output_blocks.iter(), encoded.temb)?.into_iter();
        let mut h = encoded.bottleneck;
        for (block, skip) in self.output_blocks.iter().zip(encoded.skips.iter().rev()) {
            h = b.graph.concat(h, *skip)?;
            h = apply(b, block, h, &mut embedded)?;
        }
        let h = self.out_norm.group(b, h, None, true)?;
        self.out_conv.conv(b, h, 1, None)
    }
}

/// One linear layer of `x`, of SiLU of it where `silu`.
fn alone(b: &mut Builder<'_>, layer: Affine, x: NodeId, silu: bool) -> Result<NodeId> {
    one(b.linear_group(&[layer], x, silu)?.into_iter())
}

fn one(mut results: impl Iterator<Item = NodeId>) -> Result<NodeId> {
    results.next().ok_or_else(|| Error::shape("unet", "a layer without a result"))
}

/// What the residual blocks' layers of the timestep embedding make of `temb`, in the order of the blocks.
fn embedded<'a>(
    b: &mut Builder<'_>,
    blocks: impl Iterator<Item = &'a Vec<Layer>>,
    temb: NodeId,
) -> Result<Vec<NodeId>> {
    let res = |layer: &Layer| match layer {
        Layer::Res(res) => Some(res.emb()),
        _ => None,
    };
    let layers: Vec<Affine> = blocks.flatten().filter_map(res).collect();
    b.linear_group(&layers, temb, true)
}

/// The layers of a block; `embedded` goes on with what its residual blocks take of the timestep embedding.
fn apply(
    b: &mut Builder<'_>,
    block: &[Layer],
    mut h: NodeId,
    embedded: &mut impl Iterator<Item = NodeId>,
) -> Result<NodeId> {
    for layer in block {
        h = match layer {
            Layer::Conv(conv) => conv.conv(b, h, 1, None)?,
            Layer::Res(res) => {
                let emb = one(&mut *embedded)?;
                res.apply(b, h, emb)?
            }
            Layer::Attention(attention) => attention.apply(b, h)?,
            Layer::Down(conv) => conv.conv(b, h, 2, None)?,
            Layer::Up(conv) => {
                let wide = b.graph.upsample(h)?;
                conv.conv(b, wide, 1, None)?
            }
        };
    }
    Ok(h)
}
