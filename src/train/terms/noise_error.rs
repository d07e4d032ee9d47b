//! The noise error: how far the network's output is from what it is to predict (paper Eq. 6).

use super::{Feed, Loss, Metric, Noised, Pass, SNR_WEIGHT, Term, Terms, Weight};
use crate::diffusion::{DiffusionConfig, Prediction};
use crate::error::Result;
use crate::infer::target;
use crate::model::JointModel;
use crate::train::TrainSpec;

/// Mean squared error of the network's output; of each image it stays in "mse". It is reported without the weights of Min-SNR.
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
        let Noised { x_start, noise, coefficients, .. } = pass.noised()?;
        let graph = &mut pass.builder.graph;
        let target = target(graph, self.prediction, [x_start, noise], coefficients)?;
        let values = graph.mse(out, target)?;
        pass.result("mse", values);
        let reported = pass.over_timesteps(values)?;
        let weight = Weight::Fixed(pass.weight());
        if !pass.spec.weighs_noise {
            let values = reported;
            return Ok(Loss { values, reported: None, weight, scale: None, metric: Metric::NoiseError });
        }
        let weights = pass.leaf(SNR_WEIGHT, &[pass.batch()]);
        let values = pass.builder.graph.multiply(reported, weights)?;
        let reported = Some(reported);
        Ok(Loss { values, reported, weight, scale: None, metric: Metric::NoiseError })
    }
}

pub(super) fn of(diffusion: &DiffusionConfig, _model: &JointModel, spec: &TrainSpec) -> Result<Terms> {
    let term = NoiseError { feed: Feed::first(spec.batch), prediction: diffusion.prediction };
    Ok(vec![Box::new(term)])
}
