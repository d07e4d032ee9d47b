//! Guidance by any function: what the step of a chain makes of losses of the logits and of the predicted image.

use super::harness::{assert_close, device, outspoken_weights, tiny_config, values};
use duet::diffusion::{DiffusionConfig, Solver};
use duet::error::Error;
use duet::graph::NodeId;
use duet::model::{Labels, ModelConfig, WeightSet};
use duet::rng::Seed;
use duet::sampling::{
    ChainOptions, Class, Guidance, Mixture, Near, Objective, Of, Parts, Sampler, StepSpec, Watch,
};
use duet::weights::Weights;

const BATCH: usize = 2;

fn toward(weights: &Weights, respacing: &str, spec: StepSpec, objectives: &[&dyn Objective]) -> Sampler {
    let diffusion = DiffusionConfig::default();
    let sampler = Sampler::toward(weights, &diffusion, respacing, spec, WeightSet::Raw, objectives);
    pollster::block_on(sampler).unwrap()
}

fn spec(guidance: Guidance, solver: Solver) -> StepSpec {
    StepSpec { guidance, solver, ..StepSpec::new(BATCH) }
}

/// The images that a chain of 4 steps ends in.
fn made(sampler: &Sampler, labels: Labels, alpha: f32) -> Vec<f32> {
    let chain = ChainOptions { seed: Seed(5), first_row: 3, labels, alpha };
    sampler.start_from_noise(chain.seed, chain.first_row).unwrap();
    pollster::block_on(sampler.run(4, &chain, Watch::None)).unwrap();
    pollster::block_on(sampler.get_images()).unwrap()
}

fn none() -> Labels {
    Labels::Classes(Vec::new())
}

#[test]
fn a_mixture_of_one_class_is_that_class() {
    let weights = outspoken_weights(device(), &tiny_config());
    let classes = weights.model().config.num_classes;
    for guidance in [Guidance::Representation, Guidance::Gradient] {
        let spec = spec(guidance, Solver::default());
        let by_class = made(&toward(&weights, "4", spec, &[&Class]), Labels::Classes(vec![1, 2]), 6.0);
        let mixed = toward(&weights, "4", spec, &[&Mixture]);
        let mut shares = vec![0.0; BATCH * classes];
        (shares[1], shares[classes + 2]) = (1.0, 1.0);
        mixed.set_input("shares", &shares).unwrap();
        let same = made(&mixed, none(), 6.0);
        assert_close("one class", &same, &by_class.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(), 1e-5);
        shares[1] = 0.5;
        shares[0] = 0.5;
        mixed.set_input("shares", &shares).unwrap();
        let half = made(&mixed, none(), 6.0);
        let len = half.len() / BATCH;
        let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-4);
        assert!(apart(&half[..len], &same[..len]) && !apart(&half[len..], &same[len..]), "the first alone");
    }
}

/// Σ of the loss of the predicted image by what is read back, before clipping.
fn distance(sampler: &Sampler, x: &[f32], index: usize, near: &[f32], nearness: [f32; BATCH]) -> f64 {
    sampler.prepare(&[index; BATCH], 0.0).unwrap();
    sampler.set_images(x).unwrap();
    sampler.loaded().run();
    let x_start = pollster::block_on(sampler.loaded().read("pred_xstart")).unwrap();
    let x_start = sampler.images().to_host(&x_start).unwrap();
    let len = x.len() / BATCH;
    let rows = x_start.chunks(len).zip(near.chunks(len)).zip(nearness);
    rows.map(|((a, b), w)| {
        let squares: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        f64::from(w) * squares / len as f64
    })
    .sum()
}

#[test]
fn the_gradient_of_a_loss_of_the_image_goes_through_the_whole_network() {
    for learn_sigma in [false, true] {
        let weights = outspoken_weights(device(), &ModelConfig { learn_sigma, ..tiny_config() });
        let unguided = toward(&weights, "4", spec(Guidance::None, Solver::ddim(0.0)), &[]);
        let guided = toward(&weights, "4", spec(Guidance::Gradient, Solver::ddim(0.0)), &[&Near]);
        let len = BATCH * weights.model().config.images(1).image_len();
        let (x, near, nearness) = (values(1, len), values(2, len), [1.5, 0.25]);
        guided.set_input("near", &near).unwrap();
        guided.set_input("nearness", &nearness).unwrap();
        let (index, scale) = (2, 1.0);
        let step = |sampler: &Sampler| {
            sampler.prepare(&[index; BATCH], scale).unwrap();
            sampler.set_images(&x).unwrap();
            sampler.loaded().run();
            pollster::block_on(sampler.get_images()).unwrap()
        };
        let (without, with) = (step(&unguided), step(&guided));
        // What guidance changes is the coefficients' known share of minus the gradient.
        let c = guided.coefficients(index, None, scale).unwrap();
        let share = c.guide_x_start * c.x_start + c.guide_x;
        let gradient: Vec<f64> = with.iter().zip(&without).map(|(a, b)| -f64::from(a - b) / share).collect();
        let largest = gradient.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        assert!(largest > 1e-4, "{largest}");
        for probe in [0, 7, len / 2 + 3, len - 1] {
            let at = |by: f32| {
                let mut x = x.clone();
                x[probe] += by;
                distance(&unguided, &x, index, &near, nearness)
            };
            let slope = (at(0.02) - at(-0.02)) / 0.04;
            assert!((slope - gradient[probe]).abs() < 0.02 * largest, "{probe}: {slope} {}", gradient[probe]);
        }
    }
}

#[test]
fn images_stay_near_another_by_either_guidance_and_every_solver() {
    let weights = outspoken_weights(device(), &tiny_config());
    let len = BATCH * weights.model().config.images(1).image_len();
    let near = vec![0.5; len];
    for method in Solver::methods() {
        let solver = Solver::named(method.name, 1.0).unwrap();
        for (guidance, scale) in [(Guidance::Gradient, 20.0), (Guidance::Representation, 60.0)] {
            let sampler = toward(&weights, "4", StepSpec { clip: true, ..spec(guidance, solver) }, &[&Near]);
            sampler.set_input("near", &near).unwrap();
            let far = |nearness: f32| {
                sampler.set_input("nearness", &[nearness; BATCH]).unwrap();
                // The last two steps: before them a network that was never trained takes noise for an image of any size.
                sampler.set_images(&values(4, len)).unwrap();
                let chain = ChainOptions { seed: Seed(5), first_row: 3, labels: none(), alpha: scale };
                pollster::block_on(sampler.run(2, &chain, Watch::None)).unwrap();
                let images = pollster::block_on(sampler.get_images()).unwrap();
                images.iter().map(|v| (v - 0.5).powi(2)).sum::<f32>() / len as f32
            };
            let (free, held) = (far(0.0), far(1.0));
            assert!(held < 0.999 * free, "{solver}, {guidance:?}: {free} {held}");
        }
    }
}

#[test]
fn several_objectives_add_up_and_masks_hold_on_every_solver() {
    let weights = outspoken_weights(device(), &tiny_config());
    let config = weights.model().config.clone();
    let len = BATCH * config.images(1).image_len();
    let original = values(9, len);
    let mask: Vec<f32> = (0..len).map(|i| if i % 8 < 4 { 1.0 } else { 0.0 }).collect();
    for method in Solver::methods() {
        let solver = Solver::named(method.name, 1.0).unwrap();
        let masked = StepSpec { masked: true, ..spec(Guidance::Representation, solver) };
        let sampler = toward(&weights, "4", masked, &[&Class, &Mixture, &Near]);
        sampler.set_mask(&mask).unwrap();
        sampler.set_original(&original).unwrap();
        sampler
            .set_input("shares", &vec![1.0 / config.num_classes as f32; BATCH * config.num_classes])
            .unwrap();
        let images = made(&sampler, Labels::Classes(vec![0, 1]), 3.0);
        for ((got, kept), free) in images.iter().zip(&original).zip(&mask) {
            assert!(*free == 1.0 || got == kept, "{solver}: {got} instead of {kept}");
        }
        assert!(images.iter().all(|v| v.is_finite()), "{solver}");
    }
}

#[test]
fn what_objectives_are_not_told_or_wrongly_is_named() {
    /// Asks for what [`Near`] asks for, in another shape.
    struct Other;
    impl Objective for Other {
        fn of(&self) -> Of {
            Of::XStart
        }
        fn loss(&self, parts: &mut Parts<'_>, x_start: NodeId) -> duet::Result<NodeId> {
            parts.row_input("nearness", 3);
            let target = parts.image_input("near");
            parts.graph.mse(x_start, target)
        }
    }
    let weights = outspoken_weights(device(), &tiny_config());
    let sampler = toward(&weights, "4", spec(Guidance::Gradient, Solver::default()), &[&Near]);
    let says = |error: Error, words: &[&str]| {
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    };
    says(sampler.set_input("far", &[0.0; BATCH]).unwrap_err(), &["\"far\"", "near, nearness"]);
    says(sampler.set_input("nearness", &[0.0]).unwrap_err(), &["nearness", "1 numbers"]);
    assert!(sampler.set_input("near", &[0.0; 3]).is_err());
    let plain = toward(&weights, "4", spec(Guidance::None, Solver::default()), &[]);
    says(plain.set_input("near", &[]).unwrap_err(), &["nor for anything else"]);
    let diffusion = DiffusionConfig::default();
    let both = Sampler::toward(
        &weights,
        &diffusion,
        "4",
        spec(Guidance::Gradient, Solver::default()),
        WeightSet::Raw,
        &[&Near, &Other],
    );
    says(pollster::block_on(both).err().unwrap(), &["nearness", "[2, 3]"]);
}
