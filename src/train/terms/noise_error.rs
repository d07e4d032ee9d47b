//! The noise error: how far the network's output is from what it is to predict (paper Eq. 6).

use super::{Feed, Loss, Metric, Noised, Pass, Term, Terms};
use crate::diffusion::DiffusionConfig;
use crate::error::Result;
use crate::graph::NodeId;
use crate::model::JointModel;
use crate::train::TrainSpec;

/// What the network's output stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// The noise.
    Eps,
    /// The image without noise.
    XStart,
}

impl Prediction {
    /// What the process's network predicts.
    pub fn of(diffusion: &DiffusionConfig) -> Prediction {
        if diffusion.predict_xstart { Prediction::XStart } else { Prediction::Eps }
    }

    /// The tensor that the output is compared with.
    fn target(self, noised: &Noised) -> NodeId {
        match self {
            Prediction::Eps => noised.noise,
            Prediction::XStart => noised.x_start,
        }
    }
}

/// Mean squared error of the network's output; of each image it stays in "mse".
#[derive(Clone, Debug)]
pub struct NoiseError {
    /// The batch it reads.
    pub feed: Feed,
    /// What the output is compared with.
    pub prediction: Prediction,
}

impl Term for NoiseError {
    fn feed(&self) -> &Feed {
        &self.feed
    }

    fn forward(&self, pass: &mut Pass<'_, '_>) -> Result<Loss> {
        let out = pass.model_out()?;
        let target = self.prediction.target(&pass.noised()?);
        let values = pass.builder.graph.mse(out, target)?;
        pass.result("mse", values);
        Ok(Loss { values, weight: pass.weight(), scale: None, metric: Metric::NoiseError })
    }
}

pub(super) fn of(diffusion: &DiffusionConfig, _model: &JointModel, spec: &TrainSpec) -> Result<Terms> {
    let term = NoiseError { feed: Feed::first(spec.batch), prediction: Prediction::of(diffusion) };
    Ok(vec![Box::new(term)])
}
