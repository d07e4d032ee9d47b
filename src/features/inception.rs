//! Inception-v3 as Fréchet distances are measured with it, and torchvision's.
//!
//! Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", arXiv 1512.00567; names and shapes are those of
//! torchvision's `Inception3`, whose convolutions have no bias and a BatchNorm (ε = 0.001) that is part of their weights here.

use super::net::{Beside, Layer, Net};
use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::Activation;
use crate::ops::conv2d::Window;

/// Which Inception-v3.
///
/// | | [`Inception::Fid`] | [`Inception::Torchvision`] |
/// |---|---|---|
/// | weights | TensorFlow's graph `inception-2015-12-05`, ported by pytorch-fid | torchvision's, trained anew |
/// | classes | 1,008 | 1,000 |
/// | average pools in the blocks A, C and the first E | of what lies in the image | padding counts as zeros |
/// | pool of the last block | maximum | average, padding counted |
///
/// Both read 299×299 pixels in −1..1. Distances of the one are not comparable with those of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inception {
    /// The one that published FIDs are measured with.
    Fid,
    /// `torchvision.models.inception_v3`.
    Torchvision,
}

/// Channels of Mixed_6d's first branch that spatial features are made of, as in the evaluator of guided-diffusion
/// (`mixed_6/conv:0` of TensorFlow's graph).
const SPATIAL: usize = 7;

impl Inception {
    /// Classes of its last layer.
    pub(super) fn classes(self) -> usize {
        match self {
            Inception::Fid => 1008,
            Inception::Torchvision => 1000,
        }
    }

    /// Names and shapes of layers that only training uses, and torchvision's file has.
    pub(super) fn auxiliary(self) -> Vec<(String, Vec<usize>)> {
        let layer = |name: &str, from, to, side, beside| Layer {
            name: format!("AuxLogits.{name}"),
            in_channels: from,
            out_channels: to,
            kernel: [side; 2],
            linear: beside == Beside::Bias,
            beside,
        };
        let layers = match self {
            Inception::Fid => Vec::new(),
            Inception::Torchvision => vec![
                layer("conv0", 768, 128, 1, Beside::Norm),
                layer("conv1", 128, 768, 5, Beside::Norm),
                layer("fc", 768, self.classes(), 1, Beside::Bias),
            ],
        };
        layers.iter().flat_map(Layer::state).collect()
    }

    /// Adds the network over `x` \[N,H,W,3\] in −1..1, of 75×75 pixels at least: the tensors between the blocks, "pooled"
    /// \[N,1,1,2048\], "spatial" \[N,h,w,7\] and "logits" \[N,1,1,K\] are marked.
    pub(super) fn build(self, net: &mut Net, x: NodeId) -> Result<()> {
        let mut blocks = Blocks { net, clipped: self == Inception::Fid };
        let b = &mut blocks;
        let x = b.conv(x, "Conv2d_1a_3x3", 32, VALID3.by(2))?;
        let x = b.conv(x, "Conv2d_2a_3x3", 32, VALID3)?;
        let x = b.conv(x, "Conv2d_2b_3x3", 64, SAME3)?;
        let x = b.shrink(x)?;
        b.net.mark("pool1", x);
        let x = b.conv(x, "Conv2d_3b_1x1", 80, ONE)?;
        let x = b.conv(x, "Conv2d_4a_3x3", 192, VALID3)?;
        let mut x = b.shrink(x)?;
        b.net.mark("pool2", x);
        for (name, pooled) in [("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)] {
            x = b.a(x, name, pooled)?;
        }
        x = b.b(x, "Mixed_6a")?;
        for (name, inner) in [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)] {
            x = b.c(x, name, inner)?;
        }
        x = b.d(x, "Mixed_7a")?;
        x = b.e(x, "Mixed_7b", false)?;
        x = b.e(x, "Mixed_7c", self == Inception::Fid)?;
        let [_, height, width, channels] = net.graph.image_shape("inception", x)?;
        let whole = Window { kernel: [height, width], stride: [1, 1], padding: [0, 0] };
        let pooled = net.graph.avg_pool2d(x, whole, true)?;
        net.mark("pooled", pooled);
        let fc = Layer {
            name: "fc".into(),
            in_channels: channels,
            out_channels: self.classes(),
            kernel: [1, 1],
            linear: true,
            beside: Beside::UnusedBias,
        };
        let logits = net.layer(pooled, fc, ONE.window())?;
        net.mark("logits", logits);
        Ok(())
    }
}

/// A window: kernel and padding by axis, one stride.
#[derive(Clone, Copy)]
struct Shape {
    kernel: [usize; 2],
    padding: [usize; 2],
    stride: usize,
}

impl Shape {
    const fn new(kernel: [usize; 2], padding: [usize; 2]) -> Shape {
        Shape { kernel, padding, stride: 1 }
    }

    const fn by(self, stride: usize) -> Shape {
        Shape { stride, ..self }
    }

    fn window(self) -> Window {
        Window { kernel: self.kernel, stride: [self.stride; 2], padding: self.padding }
    }
}

const ONE: Shape = Shape::new([1, 1], [0, 0]);
const VALID3: Shape = Shape::new([3, 3], [0, 0]);
const SAME3: Shape = Shape::new([3, 3], [1, 1]);
const SAME5: Shape = Shape::new([5, 5], [2, 2]);
const ROW3: Shape = Shape::new([1, 3], [0, 1]);
const COLUMN3: Shape = Shape::new([3, 1], [1, 0]);
const ROW7: Shape = Shape::new([1, 7], [0, 3]);
const COLUMN7: Shape = Shape::new([7, 1], [3, 0]);

/// The blocks, as torchvision names them.
struct Blocks<'n> {
    net: &'n mut Net,
    /// Whether average pools pass over their padding.
    clipped: bool,
}

impl Blocks<'_> {
    /// Convolution, BatchNorm, ReLU.
    fn conv(&mut self, x: NodeId, name: &str, out_channels: usize, shape: Shape) -> Result<NodeId> {
        let [.., in_channels] = self.net.graph.image_shape("inception", x)?;
        let layer = Layer {
            name: name.to_owned(),
            in_channels,
            out_channels,
            kernel: shape.kernel,
            linear: false,
            beside: Beside::Norm,
        };
        let y = self.net.layer(x, layer, shape.window())?;
        Ok(self.net.graph.activate(y, Activation::Relu))
    }

    /// One convolution after the other, each with its name in `block`.
    fn branch(&mut self, x: NodeId, block: &str, steps: &[(&str, usize, Shape)]) -> Result<NodeId> {
        steps
            .iter()
            .try_fold(x, |x, (name, out, shape)| self.conv(x, &format!("{block}.{name}"), *out, *shape))
    }

    /// Maximum of 3×3 pixels at every second one.
    fn shrink(&mut self, x: NodeId) -> Result<NodeId> {
        self.net.graph.max_pool2d(x, VALID3.by(2).window())
    }

    /// The branch that pools 3×3 pixels first.
    fn pooled(&mut self, x: NodeId, block: &str, out: usize, max: bool) -> Result<NodeId> {
        let pooled = match max {
            true => self.net.graph.max_pool2d(x, SAME3.window())?,
            false => self.net.graph.avg_pool2d(x, SAME3.window(), !self.clipped)?,
        };
        self.branch(pooled, block, &[("branch_pool", out, ONE)])
    }

    /// The branches side by side, marked with the block's name.
    fn join(&mut self, block: &'static str, branches: &[NodeId]) -> Result<NodeId> {
        let (first, others) =
            branches.split_first().ok_or_else(|| crate::Error::shape(block, "no branches"))?;
        let joined = others.iter().try_fold(*first, |joined, next| self.net.graph.concat(joined, *next))?;
        self.net.mark(block, joined);
        Ok(joined)
    }

    fn a(&mut self, x: NodeId, block: &'static str, pooled: usize) -> Result<NodeId> {
        let one = self.branch(x, block, &[("branch1x1", 64, ONE)])?;
        let five = self.branch(x, block, &[("branch5x5_1", 48, ONE), ("branch5x5_2", 64, SAME5)])?;
        let three =
            [("branch3x3dbl_1", 64, ONE), ("branch3x3dbl_2", 96, SAME3), ("branch3x3dbl_3", 96, SAME3)];
        let three = self.branch(x, block, &three)?;
        let pooled = self.pooled(x, block, pooled, false)?;
        self.join(block, &[one, five, three, pooled])
    }

    fn b(&mut self, x: NodeId, block: &'static str) -> Result<NodeId> {
        let three = self.branch(x, block, &[("branch3x3", 384, VALID3.by(2))])?;
        let double = [
            ("branch3x3dbl_1", 64, ONE),
            ("branch3x3dbl_2", 96, SAME3),
            ("branch3x3dbl_3", 96, VALID3.by(2)),
        ];
        let double = self.branch(x, block, &double)?;
        let pooled = self.shrink(x)?;
        self.join(block, &[three, double, pooled])
    }

    fn c(&mut self, x: NodeId, block: &'static str, inner: usize) -> Result<NodeId> {
        let one = self.branch(x, block, &[("branch1x1", 192, ONE)])?;
        if block == "Mixed_6d" {
            let spatial = self.net.graph.slice_channels(one, 0, SPATIAL)?;
            self.net.mark("spatial", spatial);
        }
        let seven =
            [("branch7x7_1", inner, ONE), ("branch7x7_2", inner, ROW7), ("branch7x7_3", 192, COLUMN7)];
        let seven = self.branch(x, block, &seven)?;
        let double = [
            ("branch7x7dbl_1", inner, ONE),
            ("branch7x7dbl_2", inner, COLUMN7),
            ("branch7x7dbl_3", inner, ROW7),
            ("branch7x7dbl_4", inner, COLUMN7),
            ("branch7x7dbl_5", 192, ROW7),
        ];
        let double = self.branch(x, block, &double)?;
        let pooled = self.pooled(x, block, 192, false)?;
        self.join(block, &[one, seven, double, pooled])
    }

    fn d(&mut self, x: NodeId, block: &'static str) -> Result<NodeId> {
        let three =
            self.branch(x, block, &[("branch3x3_1", 192, ONE), ("branch3x3_2", 320, VALID3.by(2))])?;
        let seven = [
            ("branch7x7x3_1", 192, ONE),
            ("branch7x7x3_2", 192, ROW7),
            ("branch7x7x3_3", 192, COLUMN7),
            ("branch7x7x3_4", 192, VALID3.by(2)),
        ];
        let seven = self.branch(x, block, &seven)?;
        let pooled = self.shrink(x)?;
        self.join(block, &[three, seven, pooled])
    }

    fn e(&mut self, x: NodeId, block: &'static str, max: bool) -> Result<NodeId> {
        let one = self.branch(x, block, &[("branch1x1", 320, ONE)])?;
        let three = self.branch(x, block, &[("branch3x3_1", 384, ONE)])?;
        let double =
            self.branch(x, block, &[("branch3x3dbl_1", 448, ONE), ("branch3x3dbl_2", 384, SAME3)])?;
        let mut branches = vec![one];
        for (from, names) in
            [(three, ["branch3x3_2a", "branch3x3_2b"]), (double, ["branch3x3dbl_3a", "branch3x3dbl_3b"])]
        {
            for (name, shape) in names.into_iter().zip([ROW3, COLUMN3]) {
                branches.push(self.branch(from, block, &[(name, 384, shape)])?);
            }
        }
        branches.push(self.pooled(x, block, 192, max)?);
        self.join(block, &branches)
    }
}
