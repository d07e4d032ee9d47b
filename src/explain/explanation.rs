//! What came of it.

use crate::error::Result;
use crate::model::{ModelConfig, Target};
use crate::rng::Seed;
use serde::{Deserialize, Serialize};

/// Difference of grey levels, in units of −1..1, above which a pixel counts as touched: 8 of 255.
const TOUCHED: f32 = 16.0 / 255.0;

/// How often parts of the network ran for one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passes {
    /// Forward passes of the encoder.
    pub encoder: usize,
    /// Forward passes of the decoder.
    pub decoder: usize,
    /// Backward passes of the classifier and the encoder.
    pub backward: usize,
}

impl std::ops::AddAssign for Passes {
    fn add_assign(&mut self, other: Passes) {
        self.encoder += other.encoder;
        self.decoder += other.decoder;
        self.backward += other.backward;
    }
}

/// A counterfactual of one image, \[C,H,W\] in −1..1.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::explain::ExplainOptions;
///
/// let mut duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let image = vec![-1.0; duet.image_len()];
/// let options = ExplainOptions { respacing: "25".into(), ..ExplainOptions::default() };
/// let made = duet.explain(&image, 8, &options).await?;
/// // How sure the classifier is of class 8 (a bag): of the image, on the way, of the counterfactual.
/// println!("{:.2} {:.2?} {:.2}", made.before[8], made.curve, made.after[8]);
/// println!("reached: {}, at strength {}", made.reached, made.strength);
/// assert_eq!(made.curve.len(), 5); // a fifth of 25 steps
/// let darkest = made.difference.iter().copied().fold(0.0, f32::min);
/// assert!(darkest >= 0.0); // what was black can only become lighter
/// # Ok(()) }) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What it was to become.
    pub target: Target,
    /// Seed of its noise.
    pub seed: Seed,
    /// The image noised to where the chain began.
    pub noised: Vec<f32>,
    /// The counterfactual, clipped to −1..1.
    pub counterfactual: Vec<f32>,
    /// Counterfactual minus original, in −2..2.
    pub difference: Vec<f32>,
    /// The classifier's probabilities of the original \[K\].
    pub before: Vec<f32>,
    /// Its probabilities of the counterfactual.
    pub after: Vec<f32>,
    /// Probability of the target on the way, by step: of noised images x_t at their t.
    pub curve: Vec<f32>,
    /// Whether it is what it was to become: of several labels that one changed and no other.
    pub reached: bool,
    /// Of several labels, how many others' decisions changed.
    pub moved: usize,
    /// Which rung of the ladder it is of, from 0.
    pub rung: usize,
    /// That rung's strength; of the paper's chain its α.
    pub strength: f32,
    /// Chains that were run for it: where no rung reached the target, the most probable one of all is given.
    pub chains: usize,
    /// What it cost. An inversion that served before costs nothing again.
    pub passes: Passes,
}

impl Explanation {
    /// Mean absolute difference of a value, as a share of the range.
    pub fn mean_change(&self) -> f64 {
        let sum: f64 = self.difference.iter().map(|d| f64::from(d.abs())).sum();
        0.5 * sum / self.difference.len().max(1) as f64
    }

    /// As [`touched`] of its difference.
    pub fn touched(&self, pixels: usize) -> Vec<bool> {
        touched(&self.difference, pixels)
    }

    /// Of an image \[C,H,W\] that is what it was to become, by its probabilities \[K\]: nothing was run, nothing changed.
    pub fn unchanged(image: &[f32], target: Target, before: &[f32]) -> Explanation {
        Explanation {
            target,
            seed: Seed(0),
            noised: image.to_vec(),
            counterfactual: image.to_vec(),
            difference: vec![0.0; image.len()],
            before: before.to_vec(),
            after: before.to_vec(),
            curve: Vec::new(),
            reached: true,
            moved: 0,
            rung: 0,
            strength: 0.0,
            chains: 0,
            passes: Passes::default(),
        }
    }
}

/// Of each of `pixels` pixels \[H,W\], whether a difference \[C,H,W\] in −2..2 is more than 8 grey levels of 255 in any channel.
pub fn touched(difference: &[f32], pixels: usize) -> Vec<bool> {
    let mut touched = vec![false; pixels];
    for channel in difference.chunks_exact(pixels.max(1)) {
        for (touched, d) in touched.iter_mut().zip(channel) {
            *touched |= d.abs() > TOUCHED;
        }
    }
    touched
}

/// The targets' probabilities of as many images' logits \[N,K\], or more.
pub(super) fn of_targets(config: &ModelConfig, logits: &[f32], targets: &[Target]) -> Result<Vec<f32>> {
    let classes = config.num_classes;
    let used = logits.get(..targets.len().saturating_mul(classes)).unwrap_or(logits);
    let rows = config.head.probabilities(used, classes)?;
    Ok(rows.chunks_exact(classes).zip(targets).map(|(row, target)| target.probability(row)).collect())
}

/// Several answers to one question, by noise of several seeds.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::explain::ExplainOptions;
/// use duet::sampling::Watch;
///
/// let mut duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let image = vec![-1.0; duet.image_len()];
/// let options = ExplainOptions { respacing: "25".into(), ..ExplainOptions::default() };
/// let made = duet.explain_variants(&image, 8, &options, 3, Watch::None).await?;
/// assert_eq!(made.answers.len(), 3);
/// // 1 where all of them change the image, 0 where none does.
/// assert!(made.stability.iter().all(|share| (0.0..=1.0).contains(share)));
/// # Ok(()) }) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Variants {
    /// Those that reached the target first, of these the one that changes least; then the others, the most probable first.
    pub answers: Vec<Explanation>,
    /// Share of the answers that change each pixel \[H,W\] by more than 8 grey levels of 255; of those that reached the target,
    /// where any did.
    pub stability: Vec<f32>,
}

impl Variants {
    /// Of answers for one image of `pixels` (height times width), in any order.
    pub fn of(mut answers: Vec<Explanation>, pixels: usize) -> Variants {
        answers.sort_by(|a, b| {
            let probable = || b.target.probability(&b.after).total_cmp(&a.target.probability(&a.after));
            let by_change = || a.mean_change().total_cmp(&b.mean_change());
            b.reached.cmp(&a.reached).then_with(|| if a.reached { by_change() } else { probable() })
        });
        let any = answers.iter().any(|answer| answer.reached);
        let mut count = 0usize;
        let mut stability = vec![0.0f32; pixels];
        for answer in answers.iter().filter(|answer| answer.reached || !any) {
            count += 1;
            for (share, touched) in stability.iter_mut().zip(answer.touched(pixels)) {
                *share += f32::from(u8::from(touched));
            }
        }
        stability.iter_mut().for_each(|share| *share /= count.max(1) as f32);
        Variants { answers, stability }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_come_by_least_change_and_stable_changes_are_those_of_all() {
        let answer = |seed, reached, difference: [f32; 8], p| Explanation {
            seed: Seed(seed),
            counterfactual: difference.to_vec(),
            difference: difference.to_vec(),
            after: vec![p, 1.0 - p],
            reached,
            ..Explanation::unchanged(&[0.0; 8], 0.into(), &[0.0, 1.0])
        };
        // Two channels of four pixels: the second pixel changes in one channel or the other.
        let much = answer(0, true, [0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.5, 0.0], 0.9);
        let little = answer(1, true, [0.0, 0.0, 0.06, 0.0, 0.0, -0.5, 0.0, 0.0], 0.6);
        let failed = answer(2, false, [2.0; 8], 0.4);
        let worse = answer(3, false, [0.0; 8], 0.3);
        let made = Variants::of(vec![worse, much, failed, little], 4);
        let seeds: Vec<u64> = made.answers.iter().map(|answer| answer.seed.0).collect();
        assert_eq!(seeds, [1, 0, 2, 3]);
        // 0.06 of −1..1 is less than 8 of 255 grey levels.
        assert_eq!(made.stability, [0.0, 1.0, 0.5, 0.0]);
        assert!((made.answers[0].mean_change() - 0.5 * 0.56 / 8.0).abs() < 1e-7);
    }
}
