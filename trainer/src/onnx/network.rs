//! The network as ONNX operators, channels first. Which layers it has is told by the names of its weights, which are the
//! reference's.

use super::graph::{BATCH, Graph, Value};
use duet::model::{ModelConfig, Pooling};
use duet::ops::timestep_embedding::frequencies;
use duet::tensor::Tensors;
use duet::{Error, Result};

/// Slope of the classifier's LeakyReLU, PyTorch's default.
const SLOPE: f32 = 0.01;

/// A network's weights and the graph that it is added to.
pub struct Network<'a> {
    /// The graph.
    pub graph: Graph,
    config: &'a ModelConfig,
    weights: &'a Tensors,
}

/// What the encoder gives.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Output of the middle block \[N,C,H,W\].
    pub bottleneck: Value,
    /// Outputs of the input blocks.
    pub skips: Vec<Value>,
    /// SiLU of the timestep's embedding.
    pub embedding: Value,
}

/// How a residual block changes its size.
#[derive(Clone, Copy, PartialEq)]
enum Resample {
    No,
    Half,
    Double,
}

/// A block of layers: where in the network it is.
struct Block<'a> {
    /// Its name without the number of a layer.
    name: &'a str,
    /// What its attention and its first residual block are like.
    decoder: bool,
    first: Resample,
}

impl<'a> Network<'a> {
    /// With `half` weights are stored as 16-bit floats. The weights must be those of the configuration's model.
    pub fn new(config: &'a ModelConfig, weights: &'a Tensors, half: bool) -> Network<'a> {
        Network { graph: Graph::new(half), config, weights }
    }

    /// The configuration.
    pub fn config(&self) -> &'a ModelConfig {
        self.config
    }

    fn has(&self, name: &str) -> bool {
        self.weights.contains_key(name)
    }

    /// A parameter, in another shape of as many numbers where one is given.
    fn parameter(&mut self, name: &str, shape: Option<&[usize]>) -> Result<Value> {
        let tensor = self.weights.get(name);
        let tensor = tensor.ok_or_else(|| Error::shape("onnx", format!("the weights have no {name}")))?;
        Ok(self.graph.parameter(name, tensor, shape))
    }

    fn weight_bias(&mut self, name: &str, shape: Option<&[usize]>) -> Result<[Value; 2]> {
        Ok([
            self.parameter(&format!("{name}.weight"), shape)?,
            self.parameter(&format!("{name}.bias"), shape)?,
        ])
    }

    /// A convolution, of 3×3 or single pixels; the parts' names are those of its node too.
    fn conv(&mut self, x: Value, name: &str, stride: usize) -> Result<Value> {
        let [weight, bias] = self.weight_bias(name, None)?;
        self.graph.scope = name.to_owned();
        Ok(self.graph.conv(x, weight, bias, stride))
    }

    fn linear(&mut self, x: Value, name: &str) -> Result<Value> {
        let [weight, bias] = self.weight_bias(name, None)?;
        self.graph.scope = name.to_owned();
        Ok(self.graph.gemm(x, weight, Some(bias), true))
    }

    /// GroupNorm of x \[N,C,H,W\]: the operator of that name (before opset 21) scales by groups, so it is made of others.
    fn group_norm(&mut self, x: Value, name: &str) -> Result<Value> {
        let [n, c, h, w] = self.graph.image(x);
        let groups = self.config.groups(c);
        // A number for each channel, which all of its pixels share.
        let [weight, bias] = self.weight_bias(name, Some(&[c, 1, 1]))?;
        let g = &mut self.graph;
        g.scope = name.to_owned();
        let grouped = g.reshape(x, &[n, groups, c / groups * h * w]);
        let normal = g.instance_normalization(grouped);
        let normal = g.reshape(normal, &[n, c, h, w]);
        let scaled = g.mul(normal, weight);
        Ok(g.add(scaled, bias))
    }

    /// SiLU of the embedding of the timesteps `t` \[N\].
    fn embed(&mut self, t: Value) -> Result<Value> {
        let width = self.config.num_channels;
        let g = &mut self.graph;
        g.scope = "timestep_embedding".to_owned();
        let column = g.reshape(t, &[BATCH, 1]);
        let mut parts = Vec::new();
        if width > 1 {
            let frequencies = g.floats(&[1, width / 2], &frequencies(width));
            let angles = g.mul(column, frequencies);
            parts.extend(g.cos_sin(angles));
        }
        if !width.is_multiple_of(2) {
            parts.push(g.scale(column, 0.0));
        }
        let waves = g.concat(&parts, 1);
        let hidden = self.linear(waves, "time_embed.0")?;
        let hidden = self.graph.silu(hidden);
        let embedded = self.linear(hidden, "time_embed.2")?;
        Ok(self.graph.silu(embedded))
    }

    fn resampled(&mut self, x: Value, how: Resample) -> Value {
        match how {
            Resample::No => x,
            Resample::Half => self.graph.average_pool(x),
            Resample::Double => self.graph.upsample(x),
        }
    }

    fn residual(&mut self, x: Value, name: &str, embedding: Value, resample: Resample) -> Result<Value> {
        let h = self.group_norm(x, &format!("{name}.in_layers.0"))?;
        let h = self.graph.silu(h);
        let h = self.resampled(h, resample);
        let mut h = self.conv(h, &format!("{name}.in_layers.2"), 1)?;
        let modulation = self.linear(embedding, &format!("{name}.emb_layers.1"))?;
        let channels = self.graph.shape(h)[1];
        let norm = format!("{name}.out_layers.0");
        if self.config.use_scale_shift_norm {
            let parts = self.graph.split(modulation, 1, &[channels, channels]);
            let parts: Vec<Value> =
                parts.into_iter().map(|part| self.graph.reshape(part, &[BATCH, channels, 1, 1])).collect();
            let one = self.graph.number(1.0);
            let gain = self.graph.add(parts[0], one);
            h = self.group_norm(h, &norm)?;
            h = self.graph.mul(h, gain);
            h = self.graph.add(h, parts[1]);
        } else {
            let shift = self.graph.reshape(modulation, &[BATCH, channels, 1, 1]);
            h = self.graph.add(h, shift);
            h = self.group_norm(h, &norm)?;
        }
        let h = self.graph.silu(h);
        let h = self.conv(h, &format!("{name}.out_layers.3"), 1)?;
        let mut x = self.resampled(x, resample);
        let skip = format!("{name}.skip_connection");
        if self.has(&format!("{skip}.weight")) {
            x = self.conv(x, &skip, 1)?;
        }
        Ok(self.graph.add(x, h))
    }

    fn attention(&mut self, x: Value, name: &str, decoder: bool) -> Result<Value> {
        let [n, c, h, w] = self.graph.image(x);
        let (tokens, heads) = (h * w, self.config.heads(c, decoder));
        let depth = c / heads;
        let normal = self.group_norm(x, &format!("{name}.norm"))?;
        let flat = self.graph.reshape(normal, &[n, c, tokens]);
        let qkv = self.conv(flat, &format!("{name}.qkv"), 1)?;
        let g = &mut self.graph;
        let parts: Vec<Value> = if self.config.use_new_attention_order {
            let parts = g.split(qkv, 1, &[c, c, c]);
            parts.into_iter().map(|part| g.reshape(part, &[n, heads, depth, tokens])).collect()
        } else {
            let by_head = g.reshape(qkv, &[n, heads, 3 * depth, tokens]);
            g.split(by_head, 2, &[depth, depth, depth])
        };
        let [query, value] = [parts[0], parts[2]].map(|part| g.flip(part));
        let scores = g.matmul(query, parts[1]);
        let scores = g.scale(scores, (depth as f32).sqrt().recip());
        let shares = g.softmax(scores);
        let attended = g.matmul(shares, value);
        let attended = g.flip(attended);
        let attended = g.reshape(attended, &[n, c, tokens]);
        let attended = self.conv(attended, &format!("{name}.proj_out"), 1)?;
        let attended = self.graph.reshape(attended, &[n, c, h, w]);
        Ok(self.graph.add(x, attended))
    }

    /// The layers of a block, as long as there are any.
    fn block(&mut self, mut x: Value, block: &Block<'_>, embedding: Value) -> Result<Value> {
        for layer in 0.. {
            let at = format!("{}.{layer}", block.name);
            x = if self.has(&format!("{at}.in_layers.0.weight")) {
                // A decoder's block is made larger by a residual block of its own, behind the others.
                let larger = block.decoder && layer > 0;
                self.residual(x, &at, embedding, if larger { Resample::Double } else { block.first })?
            } else if self.has(&format!("{at}.qkv.weight")) {
                self.attention(x, &at, block.decoder)?
            } else if self.has(&format!("{at}.op.weight")) {
                self.conv(x, &format!("{at}.op"), 2)?
            } else if self.has(&format!("{at}.conv.weight")) {
                self.graph.scope.clone_from(&at);
                let larger = self.graph.upsample(x);
                self.conv(larger, &format!("{at}.conv"), 1)?
            } else if self.has(&format!("{at}.weight")) {
                self.conv(x, &at, 1)?
            } else {
                break;
            };
        }
        Ok(x)
    }

    /// Numbers of the blocks of this name, as many as there are.
    fn count(&self, name: &str) -> usize {
        let belongs = |number: usize| {
            let prefix = format!("{name}.{number}.");
            self.weights.range(prefix.clone()..).next().is_some_and(|(found, _)| found.starts_with(&prefix))
        };
        (0..).take_while(|number| belongs(*number)).count()
    }

    /// The encoder on images `x` \[N,C,H,W\] in −1..1 and timesteps `t` \[N\].
    ///
    /// # Errors
    /// A weight that is missing.
    pub fn encode(&mut self, x: Value, t: Value) -> Result<Encoded> {
        let embedding = self.embed(t)?;
        let (mut h, mut skips) = (x, Vec::new());
        for number in 0..self.count("input_blocks") {
            // Behind a level's blocks comes one that halves; the first block of all stands before them.
            let halves = self.config.resblock_updown
                && number > 0
                && number.is_multiple_of(self.config.num_res_blocks + 1);
            let first = if halves { Resample::Half } else { Resample::No };
            let name = format!("input_blocks.{number}");
            h = self.block(h, &Block { name: &name, decoder: false, first }, embedding)?;
            skips.push(h);
        }
        let middle = Block { name: "middle_block", decoder: false, first: Resample::No };
        let bottleneck = self.block(h, &middle, embedding)?;
        Ok(Encoded { bottleneck, skips, embedding })
    }

    /// The decoder: the network's output \[N,C,H,W\], or \[N,2C,H,W\] where it learned the variance too.
    ///
    /// # Errors
    /// A weight that is missing.
    pub fn decode(&mut self, encoded: &Encoded) -> Result<Value> {
        let mut h = encoded.bottleneck;
        for (number, skip) in encoded.skips.iter().rev().enumerate() {
            let name = format!("output_blocks.{number}");
            self.graph.scope.clone_from(&name);
            h = self.graph.concat(&[h, *skip], 1);
            let block = Block { name: &name, decoder: true, first: Resample::No };
            h = self.block(h, &block, encoded.embedding)?;
        }
        let h = self.group_norm(h, "out.0")?;
        let h = self.graph.silu(h);
        self.conv(h, "out.2", 1)
    }

    /// The pooled feature maps \[N,F\]: bottleneck, then skips.
    pub fn features(&mut self, encoded: &Encoded) -> Value {
        let g = &mut self.graph;
        g.scope = "features".to_owned();
        let bottleneck = match self.config.pooling {
            Pooling::Average => g.mean(encoded.bottleneck, &[2, 3], false),
            Pooling::Max => g.max(encoded.bottleneck, &[2, 3]),
        };
        let mut parts = vec![bottleneck];
        parts.extend(encoded.skips.iter().map(|skip| g.mean(*skip, &[2, 3], false)));
        g.concat(&parts, 1)
    }

    fn batch_norm(&mut self, x: Value, name: &str) -> Result<Value> {
        let [weight, bias] = self.weight_bias(name, None)?;
        let mean = self.parameter(&format!("{name}.running_mean"), None)?;
        let variance = self.parameter(&format!("{name}.running_var"), None)?;
        self.graph.scope = name.to_owned();
        Ok(self.graph.batch_normalization(x, [weight, bias, mean, variance]))
    }

    /// The classifier's logits \[N,K\] of features and timesteps.
    ///
    /// # Errors
    /// A weight that is missing.
    pub fn logits(&mut self, features: Value, t: Value) -> Result<Value> {
        self.graph.scope = "clasifier".to_owned();
        let t = self.graph.reshape(t, &[BATCH, 1]);
        let h = self.graph.concat(&[features, t], 1);
        let h = self.batch_norm(h, "clasifier.bn_1")?;
        let h = self.linear(h, "clasifier.fc_1")?;
        let h = self.graph.leaky_relu(h, SLOPE);
        let h = self.batch_norm(h, "clasifier.bn_2")?;
        self.linear(h, "clasifier.fc_2")
    }
}
