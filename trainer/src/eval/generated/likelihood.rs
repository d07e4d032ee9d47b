//! The bound on the negative log-likelihood of test images, from some timesteps of each.
//!
//! Every image is looked at at t = 0, which weighs most, and at one timestep of each of some equal stretches of the rest of the
//! chain, drawn anew for each image; a term counts as often as its stretch has timesteps. The expectation is the whole sum, and with
//! a stretch for every timestep it is the reference's `calc_bpd_loop` itself.

use super::figure::Figure;
use crate::eval::Task;
use crate::io::output::progress;
use crate::io::session::go_on;
use crate::shard::{Part, Table};
use duet::diffusion::BoundTerm;
use duet::infer::LikelihoodBound;
use duet::rng::{Seed, Stream, uniform_u32_below};
use duet::{Error, Result};
use serde::{Deserialize, Serialize};

/// Terms of a stretch of timesteps, means over the images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Stretch {
    /// First timestep.
    pub from: usize,
    /// The one after the last.
    pub to: usize,
    /// Sum of its terms, in bits per dimension.
    pub bits: f64,
    /// Mean squared error of the predicted x_start.
    pub x_start_mse: f64,
    /// Mean squared error of the noise that follows from it.
    pub eps_mse: f64,
}

/// What is known of the likelihood.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Likelihood {
    /// Bits per dimension: all terms and the prior.
    pub bits: f64,
    /// Standard error of its mean over images.
    pub error: f64,
    /// The prior's part.
    pub prior: f64,
    /// The terms.
    pub stretches: Vec<Stretch>,
    /// Images.
    pub images: usize,
}

/// The stretches of a chain of `steps` steps: t = 0 alone, and the rest in `count` as equal ones as can be; 0: one for each step.
pub fn stretches(steps: usize, count: usize) -> Vec<[usize; 2]> {
    let rest = steps.saturating_sub(1);
    let count = if count == 0 { rest } else { count.min(rest) };
    let edge = |i: usize| 1 + i * rest / count.max(1);
    let first = [[0, steps.min(1)]];
    first.into_iter().chain((0..count).map(|i| [edge(i), edge(i + 1)])).collect()
}

/// Adds up what was measured: of each image the term of each stretch, and its prior.
pub fn sum(stretches: &[[usize; 2]], images: &[Vec<BoundTerm>], priors: &[f64]) -> Likelihood {
    let count = images.len().max(1) as f64;
    let weight = |[from, to]: [usize; 2]| (to - from) as f64;
    let totals: Vec<f64> = images
        .iter()
        .zip(priors)
        .map(|(terms, prior)| {
            prior + terms.iter().zip(stretches).map(|(term, at)| weight(*at) * term.bits).sum::<f64>()
        })
        .collect();
    let bits = totals.iter().sum::<f64>() / count;
    let variance = totals.iter().map(|total| (total - bits).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    let of = |(number, &[from, to]): (usize, &[usize; 2])| {
        let mean = |value: &dyn Fn(&BoundTerm) -> f64| {
            images.iter().filter_map(|terms| terms.get(number)).map(value).sum::<f64>() / count
        };
        Stretch {
            from,
            to,
            bits: weight([from, to]) * mean(&|term| term.bits),
            x_start_mse: mean(&|term| term.x_start_mse),
            eps_mse: mean(&|term| term.eps_mse),
        }
    };
    Likelihood {
        bits,
        error: (variance / count).sqrt(),
        prior: priors.iter().sum::<f64>() / count,
        stretches: stretches.iter().enumerate().map(of).collect(),
        images: images.len(),
    }
}

/// What figures need beside the terms.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    stretches: Vec<[usize; 2]>,
    /// Timesteps of the chain.
    steps: usize,
    seed: u64,
}

const TABLE: &str = "likelihood";

/// Measures the terms of test images, of each class their share: of those of the task's part.
///
/// # Errors
/// A model that cannot denoise; [`Error::Config`] for no images; [`Error::Aborted`] after Ctrl-C; device errors.
pub fn rows(task: &Task<'_>, part: &mut Part) -> Result<Facts> {
    let &Task { session, quiet, .. } = task;
    let (test, options, batch) = (&task.split.test, &task.options.more, task.options.batch.max(1));
    let seed = Seed(task.options.how.seed);
    session.checkpoint.require_denoising()?;
    let all = test.spread(options.nll_images);
    if all.is_empty() {
        return Err(Error::config("nll-images", "must be 1 or more: nothing else tells the likelihood"));
    }
    let range = task.shard.range(all.len(), batch);
    let rows = &all[range.clone()];
    let new = LikelihoodBound::new(&session.weights, &session.checkpoint.diffusion, batch, session.set);
    let bound = pollster::block_on(new)?;
    let steps = bound.steps();
    let parts = stretches(steps, options.nll_timesteps);
    let bar =
        progress((rows.len() * parts.len()) as u64, 0, "likelihood {wide_bar} {pos}/{len} {eta}", quiet);
    let draw = |row: usize, number: usize, [from, to]: [usize; 2]| {
        let width = (to - from) as u32;
        from + uniform_u32_below(width, seed, Stream::Timestep, number as u32, row as u32) as usize
    };
    let places: Vec<(usize, usize)> = rows
        .iter()
        .flat_map(|row| parts.iter().enumerate().map(|(number, part)| (*row, draw(*row, number, *part))))
        .collect();
    let mut terms = Vec::with_capacity(3 * places.len());
    for part in places.chunks(batch) {
        let (of, timesteps): (Vec<usize>, Vec<usize>) = part.iter().copied().unzip();
        let noise_rows: Vec<u32> = of.iter().map(|row| *row as u32).collect();
        let images = test.images_f32(&of);
        let found = pollster::block_on(bound.terms(&images, &timesteps, seed, &noise_rows))?;
        terms.extend(found.iter().flat_map(|term| [term.bits, term.x_start_mse, term.eps_mse]));
        bar.inc(part.len() as u64);
        if go_on().is_break() {
            return Err(Error::Aborted);
        }
    }
    bar.finish_and_clear();
    let priors = rows.iter().map(|row| bound.prior(&test.images_f32(&[*row]))).collect();
    let table = Table::new(all.len(), range).with_f64("terms", terms)?.with_f64("prior", priors)?;
    part.put(TABLE, table);
    Ok(Facts { stretches: parts, steps, seed: seed.0 })
}

/// The bound of all images.
///
/// # Errors
/// A part without their terms.
pub fn figure(facts: &Facts, test_images: usize, part: &mut Part) -> Result<(Likelihood, Figure)> {
    let mut table = part.take(TABLE)?;
    let Facts { stretches: parts, steps, seed } = facts;
    let (terms, width) = table.f64s("terms")?;
    if width != 3 * parts.len() {
        return Err(Error::config("likelihood", format!("{width} numbers of {} terms", parts.len())));
    }
    let term = |of: &[f64; 3]| BoundTerm { bits: of[0], x_start_mse: of[1], eps_mse: of[2] };
    let image = |terms: &[f64]| terms.as_chunks::<3>().0.iter().map(term).collect();
    let images: Vec<Vec<BoundTerm>> = terms.chunks_exact(width.max(1)).map(image).collect();
    let found = sum(parts, &images, &table.f64s("prior")?.0);
    let which = if parts.len() == *steps {
        format!("all {steps} timesteps")
    } else {
        format!("t = 0 and a timestep of each of {} stretches of the other {}", parts.len() - 1, steps - 1)
    };
    let protocol = format!(
        "bound as calc_bpd_loop, x0 clipped, {} of {test_images} test images (8 bits, −1..1), {which}, seed {seed}; ± standard error over images",
        images.len(),
    );
    let figure = Figure {
        metric: "nll".into(),
        name: "NLL (bits per dimension)".into(),
        value: found.bits,
        deviation: Some(found.error),
        protocol,
    };
    Ok((found, figure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_hold_every_timestep_once() {
        for (steps, count) in [(1000, 20), (1000, 0), (7, 3), (4, 99), (2, 5), (1, 3)] {
            let parts = stretches(steps, count);
            assert_eq!(parts[0], [0, 1]);
            assert!(parts.iter().all(|[from, to]| from < to), "{steps} {count}: {parts:?}");
            assert!(parts.windows(2).all(|pair| pair[0][1] == pair[1][0]));
            assert_eq!(parts.last().unwrap()[1], steps);
        }
        assert_eq!((stretches(1000, 20).len(), stretches(1000, 0).len()), (21, 1000));
    }

    #[test]
    fn a_term_counts_for_its_stretch() {
        let term = |bits: f64| BoundTerm { bits, x_start_mse: 2.0 * bits, eps_mse: 0.5 * bits };
        let images = [vec![term(1.0), term(0.1)], vec![term(3.0), term(0.3)]];
        let found = sum(&[[0, 1], [1, 11]], &images, &[0.5, 0.5]);
        // 0.5 + 1 + 10 · 0.1 and 0.5 + 3 + 10 · 0.3.
        assert!((found.bits - 4.5).abs() < 1e-12 && (found.error - 2.0).abs() < 1e-12, "{found:?}");
        assert!((found.prior - 0.5).abs() < 1e-12 && found.images == 2);
        let [first, rest] = found.stretches[..] else { panic!("{found:?}") };
        assert_eq!((first.bits, first.x_start_mse, first.eps_mse), (2.0, 4.0, 1.0));
        assert!((rest.bits - 2.0).abs() < 1e-12 && rest.to == 11);
    }
}
