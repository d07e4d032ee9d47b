//! The classifier on pooled features (paper section 5.1; reference: dropout, BatchNorm, linear, LeakyReLU, twice).

use super::config::ModelConfig;
use super::layers::{Affine, BatchNorm, Builder};
use super::params::ParamLayout;
use super::unet::Encoded;
use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::{Activation, Pooling};

/// Slope of LeakyReLU, PyTorch's default.
const SLOPE: f32 = 0.01;

/// The classifier's parameters. The reference spells the prefix `clasifier`.
#[derive(Clone, Debug)]
pub struct Classifier {
    bn_1: BatchNorm,
    fc_1: Affine,
    bn_2: BatchNorm,
    fc_2: Affine,
    dropout: f32,
    pooling: Pooling,
}

impl Classifier {
    /// On feature maps of `channels` channels each (bottleneck first).
    pub fn new(p: &mut ParamLayout, config: &ModelConfig, channels: &[usize], prefix: &str) -> Classifier {
        let features: usize = channels.iter().sum();
        let hidden = features / 2;
        Classifier {
            bn_1: BatchNorm::new(p, &format!("{prefix}bn_1"), features + 1),
            fc_1: Affine::linear(p, &format!("{prefix}fc_1"), features + 1, hidden, 0, false),
            bn_2: BatchNorm::new(p, &format!("{prefix}bn_2"), hidden),
            fc_2: Affine::linear(p, &format!("{prefix}fc_2"), hidden, config.num_classes, 0, false),
            dropout: config.classifier_dropout,
            pooling: config.pooling,
        }
    }

    /// The pooled features \[N,F+1\]: bottleneck, skips, raw timestep.
    pub fn features(&self, b: &mut Builder<'_>, encoded: &Encoded, t: NodeId) -> Result<NodeId> {
        let mut maps = vec![encoded.bottleneck];
        maps.extend(&encoded.skips);
        b.graph.features(&maps, t, self.pooling)
    }

    /// Logits \[N,K\] of pooled features.
    pub fn logits(&self, b: &mut Builder<'_>, features: NodeId) -> Result<NodeId> {
        let h = b.dropout(features, self.dropout);
        let h = self.bn_1.apply(b, h)?;
        let h = self.fc_1.apply(b, h, None)?;
        let h = b.graph.activate(h, Activation::LeakyRelu { slope: SLOPE });
        let h = b.dropout(h, self.dropout);
        let h = self.bn_2.apply(b, h)?;
        self.fc_2.apply(b, h, None)
    }
}
