//! The network's blocks: each declares its parameters once and adds its operations to a graph.

use super::config::ModelConfig;
use super::params::{Init, Layout, ParamId, ParamLayout, join};
use super::sets::WeightSet;
use crate::error::Result;
use crate::graph::{Graph, NodeId, Place};
use std::collections::BTreeSet;

/// A graph under construction with the model's parameters as leaves.
pub struct Builder<'a> {
    /// The graph.
    pub graph: Graph,
    layout: &'a ParamLayout,
    /// Of each parameter.
    leaves: Vec<NodeId>,
    used: BTreeSet<usize>,
    /// Whether dropout and batch statistics are on.
    pub train: bool,
    /// A number \[1\] which is 0 in runs that leave running statistics alone; `None`: all training moves them.
    pub learn: Option<NodeId>,
    run: NodeId,
}

impl<'a> Builder<'a> {
    /// A builder whose parameters are read from the buffers of `set`.
    pub fn new(layout: &'a ParamLayout, set: WeightSet, train: bool) -> Builder<'a> {
        let mut graph = Graph::new();
        let run = graph.leaf(&[4], Place::whole("run"));
        // Before all else, so that layers declared late can run in one launch with layers of the same input declared early.
        let specs = layout.specs().iter().enumerate();
        let leaves = specs
            .map(|(number, spec)| graph.leaf(&spec.device_shape(), layout.place(ParamId(number), set.into())))
            .collect();
        Builder { graph, layout, leaves, used: BTreeSet::new(), train, learn: None, run }
    }

    /// The leaf of a parameter.
    pub fn param(&mut self, id: ParamId) -> NodeId {
        self.used.insert(id.0);
        self.leaves[id.0]
    }

    /// The u32 words seed low, seed high, step, first row.
    pub fn run(&self) -> NodeId {
        self.run
    }

    /// Noise and dropout of what is added from here on are drawn by the words `run`; gives the ones before.
    pub fn replace_run(&mut self, run: NodeId) -> NodeId {
        std::mem::replace(&mut self.run, run)
    }

    /// Leaves of all trainable parameters used so far, with their numbers.
    pub fn trained(&self) -> Vec<(ParamId, NodeId)> {
        let used = self.used.iter().map(|number| (ParamId(*number), self.leaves[*number]));
        used.filter(|(id, _)| self.layout.spec(*id).trainable()).collect()
    }

    /// Linear layers of one `x` \[N,F\], of SiLU of it where `silu`, in one launch, which those of later calls join.
    ///
    /// # Errors
    /// As [`Graph::linear_group`].
    pub fn linear_group(&mut self, layers: &[Affine], x: NodeId, silu: bool) -> Result<Vec<NodeId>> {
        let layers: Vec<[NodeId; 2]> =
            layers.iter().map(|layer| [layer.weight, layer.bias].map(|id| self.param(id))).collect();
        self.graph.linear_group(x, &layers, silu)
    }

    /// Dropout where training.
    pub fn dropout(&mut self, x: NodeId, probability: f32) -> NodeId {
        if self.train { self.graph.dropout(x, self.run, probability) } else { x }
    }
}

/// Weight and bias of a convolution or linear layer.
#[derive(Clone, Copy, Debug)]
pub struct Affine {
    weight: ParamId,
    bias: ParamId,
}

impl Affine {
    /// A 3×3 convolution from `c_in` to `c_out` channels.
    pub fn conv3x3(p: &mut ParamLayout, name: &str, c_in: usize, c_out: usize, zero: bool) -> Affine {
        let init = if zero { Init::Zero } else { Init::FanIn(9 * c_in) };
        Affine {
            weight: p.add(join(name, "weight"), vec![c_out, c_in, 3, 3], Layout::Conv3x3, init),
            bias: p.add(join(name, "bias"), vec![c_out], Layout::Vector, init),
        }
    }

    /// A linear layer or 1×1 convolution; `ones` trailing dimensions of 1 in the reference's weight.
    pub fn linear(
        p: &mut ParamLayout,
        name: &str,
        c_in: usize,
        c_out: usize,
        ones: usize,
        zero: bool,
    ) -> Affine {
        let init = if zero { Init::Zero } else { Init::FanIn(c_in) };
        let mut shape = vec![c_out, c_in];
        shape.resize(2 + ones, 1);
        Affine {
            weight: p.add(join(name, "weight"), shape, Layout::Matrix, init),
            bias: p.add(join(name, "bias"), vec![c_out], Layout::Vector, init),
        }
    }

    /// As a 3×3 convolution.
    pub fn conv(
        &self,
        b: &mut Builder<'_>,
        x: NodeId,
        stride: usize,
        residual: Option<NodeId>,
    ) -> Result<NodeId> {
        let (weight, bias) = (b.param(self.weight), b.param(self.bias));
        b.graph.conv3x3(x, weight, stride, Some(bias), residual)
    }

    /// As a linear layer over the last dimension.
    pub fn apply(&self, b: &mut Builder<'_>, x: NodeId, residual: Option<NodeId>) -> Result<NodeId> {
        let (weight, bias) = (b.param(self.weight), b.param(self.bias));
        b.graph.matmul(x, weight, Some(bias), residual)
    }
}

/// Weight and bias of a normalisation.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    weight: ParamId,
    bias: ParamId,
    groups: usize,
}

impl Norm {
    /// Over `channels` channels; `groups` is 0 for a BatchNorm.
    pub fn new(p: &mut ParamLayout, name: &str, channels: usize, groups: usize) -> Norm {
        Norm {
            weight: p.add(join(name, "weight"), vec![channels], Layout::Vector, Init::One),
            bias: p.add(join(name, "bias"), vec![channels], Layout::Vector, Init::Zero),
            groups,
        }
    }

    /// As GroupNorm.
    pub fn group(
        &self,
        b: &mut Builder<'_>,
        x: NodeId,
        scale_shift: Option<NodeId>,
        silu: bool,
    ) -> Result<NodeId> {
        let (weight, bias) = (b.param(self.weight), b.param(self.bias));
        b.graph.group_norm(x, weight, bias, self.groups, scale_shift, silu)
    }
}

/// A BatchNorm1d with its running statistics.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    norm: Norm,
    running: ParamId,
}

impl BatchNorm {
    /// Over `features` features.
    pub fn new(p: &mut ParamLayout, name: &str, features: usize) -> BatchNorm {
        let norm = Norm::new(p, name, features, 0);
        BatchNorm { norm, running: p.add(format!("{name}."), vec![features], Layout::Running, Init::Running) }
    }

    /// With batch statistics where the builder trains.
    pub fn apply(&self, b: &mut Builder<'_>, x: NodeId) -> Result<NodeId> {
        let (weight, bias) = (b.param(self.norm.weight), b.param(self.norm.bias));
        let running = b.param(self.running);
        let train = match (b.train, b.learn) {
            (false, _) => None,
            (true, Some(learn)) => Some(learn),
            (true, None) => Some(b.graph.fill(1, 1.0)),
        };
        b.graph.batch_norm(x, weight, bias, running, train)
    }
}

/// How a residual block resamples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resample {
    /// Not at all.
    None,
    /// Nearest ×2.
    Up,
    /// 2×2 mean.
    Down,
}

/// A residual block with timestep embedding.
#[derive(Clone, Debug)]
pub struct ResBlock {
    in_norm: Norm,
    in_conv: Affine,
    emb: Affine,
    out_norm: Norm,
    out_conv: Affine,
    skip: Option<Affine>,
    resample: Resample,
    scale_shift: bool,
    dropout: f32,
}

impl ResBlock {
    /// From `c_in` to `c_out` channels; `emb` is the embedding's width.
    pub fn new(
        p: &mut ParamLayout,
        config: &ModelConfig,
        name: &str,
        [c_in, c_out, emb]: [usize; 3],
        resample: Resample,
    ) -> ResBlock {
        let scale_shift = config.use_scale_shift_norm;
        let emb_out = if scale_shift { 2 * c_out } else { c_out };
        ResBlock {
            in_norm: Norm::new(p, &join(name, "in_layers.0"), c_in, config.groups(c_in)),
            in_conv: Affine::conv3x3(p, &join(name, "in_layers.2"), c_in, c_out, false),
            emb: Affine::linear(p, &join(name, "emb_layers.1"), emb, emb_out, 0, false),
            out_norm: Norm::new(p, &join(name, "out_layers.0"), c_out, config.groups(c_out)),
            out_conv: Affine::conv3x3(p, &join(name, "out_layers.3"), c_out, c_out, true),
            skip: (c_in != c_out)
                .then(|| Affine::linear(p, &join(name, "skip_connection"), c_in, c_out, 2, false)),
            resample,
            scale_shift,
            dropout: config.dropout,
        }
    }

    /// The layer of SiLU of the timestep embedding, whose result [`ResBlock::apply`] takes.
    pub fn emb(&self) -> Affine {
        self.emb
    }

    /// `emb` is what [`ResBlock::emb`] makes of the timestep embedding.
    pub fn apply(&self, b: &mut Builder<'_>, x: NodeId, emb: NodeId) -> Result<NodeId> {
        let resample = |b: &mut Builder<'_>, x| match self.resample {
            Resample::None => Ok(x),
            Resample::Up => b.graph.upsample(x),
            Resample::Down => b.graph.average_pool(x),
        };
        let h = self.in_norm.group(b, x, None, true)?;
        let h = resample(b, h)?;
        let h = self.in_conv.conv(b, h, 1, None)?;
        let h = if self.scale_shift {
            self.out_norm.group(b, h, Some(emb), true)?
        } else {
            let h = b.graph.add_rowwise(h, emb)?;
            self.out_norm.group(b, h, None, true)?
        };
        let h = b.dropout(h, self.dropout);
        let x = resample(b, x)?;
        let residual = match &self.skip {
            Some(skip) => skip.apply(b, x, None)?,
            None => x,
        };
        self.out_conv.conv(b, h, 1, Some(residual))
    }
}

/// A self-attention block over all pixels.
#[derive(Clone, Debug)]
pub struct AttentionBlock {
    norm: Norm,
    qkv: Affine,
    proj_out: Affine,
    heads: usize,
    new_order: bool,
}

impl AttentionBlock {
    /// Over `channels` channels in `heads` heads.
    pub fn new(
        p: &mut ParamLayout,
        config: &ModelConfig,
        name: &str,
        channels: usize,
        heads: usize,
    ) -> AttentionBlock {
        AttentionBlock {
            norm: Norm::new(p, &join(name, "norm"), channels, config.groups(channels)),
            qkv: Affine::linear(p, &join(name, "qkv"), channels, 3 * channels, 1, false),
            proj_out: Affine::linear(p, &join(name, "proj_out"), channels, channels, 1, true),
            heads,
            new_order: config.use_new_attention_order,
        }
    }

    /// x + proj_out(attention(norm(x))).
    pub fn apply(&self, b: &mut Builder<'_>, x: NodeId) -> Result<NodeId> {
        let h = self.norm.group(b, x, None, false)?;
        let qkv = self.qkv.apply(b, h, None)?;
        let a = b.graph.attention(qkv, self.heads, self.new_order)?;
        self.proj_out.apply(b, a, Some(x))
    }
}
