//! The variational term of a learned sigma (Nichol & Dhariwal 2021, eq. 16).

use super::{Feed, Loss, Metric, Pass, Term, Terms, Weight};
use crate::diffusion::DiffusionConfig;
use crate::error::Result;
use crate::model::JointModel;
use crate::train::TrainSpec;

/// Bits per dimension of the variances that the network's output gives beside its prediction, which gets no gradient of it.
#[derive(Clone, Debug)]
pub struct VariationalTerm {
    /// The batch it reads.
    pub feed: Feed,
    /// Diffusion steps, where the term counts as many thousandths.
    pub rescaled: Option<usize>,
}

impl Term for VariationalTerm {
    fn feed(&self) -> &Feed {
        &self.feed
    }

    fn forward(&self, pass: &mut Pass<'_, '_>) -> Result<Loss> {
        let out = pass.model_out()?;
        let noised = pass.noised()?;
        let coefficients = pass.leaf("vb_coefficients", &[8 * pass.batch()]);
        let values = pass.builder.graph.vb(out, noised.x_start, noised.x_t, coefficients)?;
        if pass.draws_timesteps() {
            pass.result("vb", values);
        }
        let values = pass.over_timesteps(values)?;
        let weight = match self.rescaled {
            Some(steps) => pass.weight() * steps as f32 / 1000.0,
            None => pass.weight(),
        };
        let weight = Weight::Fixed(weight);
        Ok(Loss { values, reported: None, weight, scale: None, metric: Metric::Variational })
    }
}

pub(super) fn of(diffusion: &DiffusionConfig, model: &JointModel, spec: &TrainSpec) -> Result<Terms> {
    if !model.config.learn_sigma {
        return Ok(Vec::new());
    }
    let rescaled = diffusion.rescale_learned_sigmas.then_some(diffusion.diffusion_steps);
    Ok(vec![Box::new(VariationalTerm { feed: Feed::first(spec.batch), rescaled })])
}
