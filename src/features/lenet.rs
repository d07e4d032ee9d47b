//! The small networks that features of 28×28 grey images are measured with in the reference's evaluation
//! (`evaluations/evaluation_models/` of github.com/KamilDeja/joint_diffusion, MIT).

use super::net::{Beside, Layer, Net};
use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::Activation;
use crate::ops::conv2d::Window;

/// Which LeNet. The feature is the second linear layer, before its activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lenet {
    /// `lenet.py`: 6 and 16 channels, ReLU, 84 features, 10 classes.
    Mnist,
    /// `lenet_Omniglot.py`: 32, 64 and 16 channels, LeakyReLU (0.01), 128 features, 47 classes.
    Omniglot,
}

impl Lenet {
    /// Channels of its first convolution.
    pub(super) fn first(self) -> usize {
        match self {
            Lenet::Mnist => 6,
            Lenet::Omniglot => 32,
        }
    }

    /// Adds the network over `x` \[N,28,28,1\]: "pooled" \[N,1,1,F\] and "logits" \[N,1,1,K\] are marked.
    pub(super) fn build(self, net: &mut Net, x: NodeId) -> Result<()> {
        let halved = Window { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
        let activation = match self {
            Lenet::Mnist => Activation::Relu,
            Lenet::Omniglot => Activation::LeakyRelu { slope: 0.01 },
        };
        let mut parts = Parts { net, activation };
        let x = parts.conv(x, "conv1", self.first())?;
        let x = parts.net.graph.max_pool2d(x, halved)?;
        let (x, [inner, features, classes]) = match self {
            Lenet::Mnist => {
                let x = parts.conv(x, "conv2", 16)?;
                (parts.net.graph.max_pool2d(x, halved)?, [120, 84, 10])
            }
            Lenet::Omniglot => {
                let x = parts.conv(x, "conv2", 64)?;
                (parts.conv(x, "conv3", 16)?, [256, 128, 47])
            }
        };
        let x = parts.linear(x, "fc1", inner)?;
        let x = parts.activate(x);
        let x = parts.linear(x, "fc2", features)?;
        parts.net.mark("pooled", x);
        let x = parts.activate(x);
        let x = parts.linear(x, "fc3", classes)?;
        parts.net.mark("logits", x);
        Ok(())
    }
}

struct Parts<'n> {
    net: &'n mut Net,
    activation: Activation,
}

impl Parts<'_> {
    fn activate(&mut self, x: NodeId) -> NodeId {
        self.net.graph.activate(x, self.activation)
    }

    /// 5×5 convolution and activation.
    fn conv(&mut self, x: NodeId, name: &str, out_channels: usize) -> Result<NodeId> {
        let y = self.layer(x, name, out_channels, [5, 5], false)?;
        Ok(self.activate(y))
    }

    /// A linear layer of all that is left of an image, its pixels in the order of \[C,H,W\] as weights of a kernel.
    fn linear(&mut self, x: NodeId, name: &str, out_channels: usize) -> Result<NodeId> {
        let [_, height, width, _] = self.net.graph.image_shape("lenet", x)?;
        self.layer(x, name, out_channels, [height, width], true)
    }

    fn layer(
        &mut self,
        x: NodeId,
        name: &str,
        out_channels: usize,
        kernel: [usize; 2],
        linear: bool,
    ) -> Result<NodeId> {
        let [.., in_channels] = self.net.graph.image_shape("lenet", x)?;
        let layer =
            Layer { name: name.to_owned(), in_channels, out_channels, kernel, linear, beside: Beside::Bias };
        self.net.layer(x, layer, Window { kernel, stride: [1, 1], padding: [0, 0] })
    }
}
