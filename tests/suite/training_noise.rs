//! How the noise error counts: Min-SNR weights, and timesteps that are drawn by their losses.

use crate::harness::{device, tiny_config};
use crate::training::{batch, options};
use duet::checkpoint::{Checkpoint, Dtype};
use duet::diffusion::{DiffusionConfig, Prediction, Schedule};
use duet::gpu::Device;
use duet::model::{JointModel, ModelConfig, ParamSet};
use duet::rng::{Seed, Stream, normal_fill, uniform_u32_below};
use duet::train::terms::{ClassifierLoss, Feed, Seen, Terms};
use duet::train::{ClassifierInput, Exchange, GradientRange, TimestepSampler, TrainOptions, Trainer};
use std::path::Path;
use std::sync::Arc;

const IMAGES: usize = 6;
const PIXELS: usize = 64;

fn start(config: &ModelConfig, diffusion: &DiffusionConfig, options: &TrainOptions) -> Trainer {
    let model = Arc::new(JointModel::new(config).unwrap());
    pollster::block_on(Trainer::new(device(), model, diffusion, options)).unwrap()
}

fn read(trainer: &Trainer, name: &str) -> Vec<f32> {
    pollster::block_on(trainer.plans()[0].read(name)).unwrap()
}

fn step(trainer: &mut Trainer, number: u64, rate: f64) {
    trainer.train_step(&batch(number, IMAGES), rate).unwrap();
}

/// Of each image its timestep, its error and the sum of output less target, in f64, of a step that has just run.
fn errors(trainer: &Trainer, diffusion: &DiffusionConfig, number: u64) -> Vec<(usize, f64, f64)> {
    let schedule = Schedule::new(diffusion).unwrap();
    let (out, t, images) = (read(trainer, "model_out"), read(trainer, "t"), batch(number, IMAGES).images);
    let each = (0..IMAGES).map(|n| {
        let index = t[n] as usize;
        let kept = schedule.alphas_cumprod[index];
        let mut noise = [0.0; PIXELS];
        normal_fill(Seed(options().seed), Stream::TrainNoise, number as u32, n as u32, &mut noise);
        let (mut square, mut sum) = (0.0, 0.0);
        for (p, eps) in noise.iter().enumerate() {
            let (x0, eps) = (f64::from(images[n * PIXELS + p]), f64::from(*eps));
            let target = match diffusion.prediction {
                Prediction::Eps => eps,
                Prediction::XStart => x0,
                Prediction::V => kept.sqrt() * eps - (1.0 - kept).sqrt() * x0,
            };
            // A pixel's channels are padded to four.
            let apart = f64::from(out[4 * (n * PIXELS + p)]) - target;
            (square, sum) = (square + apart * apart, sum + apart);
        }
        (index, square / PIXELS as f64, sum)
    });
    each.collect()
}

fn close(what: &str, got: f64, want: f64) {
    assert!((got - want).abs() <= 2e-5 * want.abs(), "{what}: {got} instead of {want}");
}

#[test]
fn noise_errors_weigh_by_min_snr() {
    const GAMMA: f64 = 5.0;
    for prediction in [Prediction::Eps, Prediction::XStart, Prediction::V] {
        let diffusion = DiffusionConfig { prediction, ..DiffusionConfig::default() };
        let options =
            TrainOptions { classifier_input: ClassifierInput::None, min_snr_gamma: Some(GAMMA), ..options() };
        let mut trainer = start(&tiny_config(), &diffusion, &options);
        (0..3).for_each(|number| step(&mut trainer, number, 2e-3));
        pollster::block_on(trainer.metrics()).unwrap();
        step(&mut trainer, 3, 0.0);
        let schedule = Schedule::new(&diffusion).unwrap();
        let weight = |index: usize| {
            let snr = schedule.alphas_cumprod[index] / (1.0 - schedule.alphas_cumprod[index]);
            match prediction {
                Prediction::Eps => snr.min(GAMMA) / snr,
                Prediction::XStart => snr.min(GAMMA),
                Prediction::V => snr.min(GAMMA) / (snr + 1.0),
            }
        };
        let errors = errors(&trainer, &diffusion, 3);
        let mean =
            |of: &dyn Fn(&(usize, f64, f64)) -> f64| errors.iter().map(of).sum::<f64>() / IMAGES as f64;
        let metrics = pollster::block_on(trainer.metrics()).unwrap();
        let what = format!("{prediction:?}");
        close(&what, f64::from(metrics.mse), mean(&|(_, error, _)| *error));
        close(&what, f64::from(metrics.loss), mean(&|(t, error, _)| weight(*t) * error));
        let gradients = pollster::block_on(trainer.weights().download(ParamSet::Gradient, false)).unwrap();
        // The last bias is added to every output.
        let bias = f64::from(gradients["out.2.bias"].data[0]);
        let want = mean(&|(t, _, sum)| weight(*t) * 2.0 * sum / PIXELS as f64);
        assert!((bias - want).abs() < 1e-5 * (1.0 + want.abs()), "{what}: {bias} instead of {want}");
        assert!(errors.iter().any(|(t, ..)| weight(*t) != 1.0));
    }
}

/// A chain so short that every timestep has had ten losses after some steps.
fn short() -> DiffusionConfig {
    DiffusionConfig { diffusion_steps: 4, ..DiffusionConfig::default() }
}

fn by_losses() -> TrainOptions {
    TrainOptions { timestep_sampler: TimestepSampler::LossSecondMoment, ..options() }
}

fn timesteps(trainer: &Trainer) -> Vec<usize> {
    read(trainer, "t")[..IMAGES].iter().map(|t| *t as usize).collect()
}

fn saved(trainer: &Trainer) -> Checkpoint {
    pollster::block_on(trainer.checkpoint()).unwrap()
}

#[test]
fn timesteps_are_drawn_by_their_last_ten_losses() {
    let diffusion = short();
    for learn_sigma in [false, true] {
        let config = ModelConfig { learn_sigma, ..tiny_config() };
        let options = TrainOptions { min_snr_gamma: (!learn_sigma).then_some(5.0), ..by_losses() };
        let mut trainer = start(&config, &diffusion, &options);
        let schedule = Schedule::new(&diffusion).unwrap();
        let snr = |t: usize| {
            let snr = schedule.alphas_cumprod[t] / (1.0 - schedule.alphas_cumprod[t]);
            if learn_sigma { 1.0 } else { snr.min(5.0) / snr }
        };
        let mut history: Vec<Vec<f64>> = vec![Vec::new(); 4];
        let mut drawn_by_losses = 0;
        for number in 0..16 {
            let known: Vec<Vec<f64>> =
                history.iter().map(|h| h[h.len().saturating_sub(10)..].to_vec()).collect();
            pollster::block_on(trainer.metrics()).unwrap();
            step(&mut trainer, number, 2e-3);
            let (t, mse) = (timesteps(&trainer), read(&trainer, "mse"));
            let vb = if learn_sigma { read(&trainer, "vb") } else { vec![0.0; IMAGES] };
            let weights = &read(&trainer, "importance")[..IMAGES];
            if known.iter().any(|h| h.len() < 10) {
                let uniform =
                    |row| uniform_u32_below(4, Seed(11), Stream::Timestep, number as u32, row) as usize;
                assert_eq!(
                    t,
                    (0..IMAGES as u32).map(uniform).collect::<Vec<_>>(),
                    "not all have ten losses yet"
                );
                assert!(weights.iter().all(|w| *w == 1.0));
            } else {
                drawn_by_losses += 1;
                let roots: Vec<f64> =
                    known.iter().map(|h| (h.iter().map(|l| l * l).sum::<f64>() / 10.0).sqrt()).collect();
                let sum: f64 = roots.iter().sum();
                let chance = |t: usize| roots[t] / sum * 0.999 + 0.001 / 4.0;
                for (t, weight) in t.iter().zip(weights) {
                    close("importance", f64::from(*weight), 1.0 / (4.0 * chance(*t)));
                }
            }
            let metrics = pollster::block_on(trainer.metrics()).unwrap();
            let mean = |of: &dyn Fn(usize) -> f64| {
                (0..IMAGES).map(|n| f64::from(weights[n]) * of(n)).sum::<f64>() / IMAGES as f64
            };
            close("noise error", f64::from(metrics.mse), mean(&|n| f64::from(mse[n])));
            let noise = mean(&|n| snr(t[n]) * f64::from(mse[n]) + f64::from(vb[n]));
            // Noised images' share of the classifier's loss is weighed too, and reported so.
            close("loss", f64::from(metrics.loss), noise + 0.5 * f64::from(metrics.classifier_loss));
            for ((t, mse), vb) in t.iter().zip(&mse).zip(&vb) {
                history[*t].push(snr(*t) * f64::from(*mse) + f64::from(*vb));
            }
        }
        assert!(drawn_by_losses > 2, "{drawn_by_losses}");
        let table = saved(&trainer).training.unwrap().timesteps;
        assert_eq!((&table["losses"].shape, &table["counts"].data), (&vec![4, 10], &vec![10.0; 4]));
        for (row, history) in table["losses"].data.chunks(10).zip(&history) {
            for (got, want) in row.iter().zip(&history[history.len() - 10..]) {
                close("the table", f64::from(*got), *want);
            }
        }
    }
}

#[test]
fn a_run_by_losses_resumes_bit_for_bit_and_micro_batches_draw_alike() {
    let run = |trainer: &mut Trainer, numbers: std::ops::Range<u64>| {
        numbers.for_each(|number| step(trainer, number, 2e-3));
    };
    for micro_batches in [1, 3] {
        let options = TrainOptions { micro_batches, ..by_losses() };
        let mut whole = start(&tiny_config(), &short(), &options);
        run(&mut whole, 0..14);
        let mut first = start(&tiny_config(), &short(), &options);
        // Once with a table that is not full yet, once with one that is.
        run(&mut first, 0..4);
        for until in [12, 14] {
            let bytes = saved(&first).to_bytes(Dtype::F32).unwrap();
            let checkpoint = Checkpoint::from_bytes(&bytes, Path::new("resume")).unwrap();
            first = pollster::block_on(Trainer::resume(device(), &checkpoint, &options)).unwrap();
            let from = first.step();
            run(&mut first, from..until);
        }
        let full = saved(&whole);
        assert!(full == saved(&first), "the resumed run differs");
        // From one table the rows of a batch have the same timesteps, however it is cut.
        let last = |micro_batches: usize| {
            let options = TrainOptions { micro_batches, ..by_losses() };
            let mut trainer = pollster::block_on(Trainer::resume(device(), &full, &options)).unwrap();
            step(&mut trainer, 14, 0.0);
            [read(&trainer, "t")[..2].to_vec(), read(&trainer, "t"), read(&trainer, "importance")]
        };
        let (once, thrice) = (last(1), last(3));
        assert_eq!((&once[1][4..6], &once[2][4..6]), (&thrice[1][..2], &thrice[2][..2]));
        assert!(once[2][..6].iter().any(|w| *w != 1.0), "drawn by losses");
    }
}

/// Exchanges nothing.
struct Alone;

impl Exchange for Alone {
    fn exchange(&mut self, _device: &Device, _gradients: &[GradientRange]) -> duet::Result<()> {
        Ok(())
    }
}

#[test]
fn what_has_no_noise_error_of_its_own_is_refused() {
    for options in [
        TrainOptions { min_snr_gamma: Some(0.0), ..options() },
        TrainOptions { min_snr_gamma: Some(f64::NAN), ..options() },
        TrainOptions { min_snr_gamma: Some(5.0), classifier_only: true, ..options() },
    ] {
        assert!(options.validate().unwrap_err().to_string().starts_with("min_snr_gamma: "));
    }
    let named = |error: duet::Error| {
        let error = error.to_string();
        assert!(error.starts_with("timestep_sampler: "), "{error}");
    };
    named(TrainOptions { classifier_only: true, ..by_losses() }.validate().unwrap_err());
    let mut several = start(&tiny_config(), &short(), &by_losses());
    several.exchange_by(Box::new(Alone));
    named(several.train_step(&batch(0, IMAGES), 1e-3).unwrap_err());
    // Terms of a program's own without a noise error.
    let feed = Feed::first(IMAGES);
    let terms: Terms = vec![Box::new(ClassifierLoss { feed, seen: Seen::Clean, scaling: 1.0 })];
    let model = Arc::new(JointModel::new(&tiny_config()).unwrap());
    let (diffusion, options) = (short(), by_losses());
    let new = Trainer::new_of(device(), model, &diffusion, &options, &terms);
    named(pollster::block_on(new).map(|_| ()).unwrap_err());
    // A table of another chain.
    let mut trainer = start(&tiny_config(), &short(), &by_losses());
    step(&mut trainer, 0, 1e-3);
    let mut checkpoint = saved(&trainer);
    checkpoint.diffusion.diffusion_steps = 5;
    let resumed = Trainer::resume(device(), &checkpoint, &options);
    named(pollster::block_on(resumed).map(|_| ()).unwrap_err());
}
