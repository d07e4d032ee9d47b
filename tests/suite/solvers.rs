//! Solvers as numbers alone, on data whose every step is known: images of one value that is normally distributed.

use duet::diffusion::{Coefficients, DiffusionConfig, NoiseSchedule, Prediction, Schedule, Solver, StepAt};

/// Mean and standard deviation of the data.
const MEAN: f64 = 0.4;
const DEVIATION: f64 = 0.3;

fn at(schedule: &Schedule, index: usize, before: Option<usize>, prediction: Prediction) -> StepAt<'_> {
    StepAt { schedule, index, before, prediction, learned_variance: false, scale: 0.0 }
}

/// What a perfect network puts out.
fn network(prediction: Prediction, x: f64, alpha_cumprod: f64) -> f64 {
    let (alpha, sigma) = (alpha_cumprod.sqrt(), (1.0 - alpha_cumprod).sqrt());
    let eps = sigma * (x - alpha * MEAN) / (alpha_cumprod * DEVIATION.powi(2) + 1.0 - alpha_cumprod);
    let x_start = (x - sigma * eps) / alpha;
    match prediction {
        Prediction::Eps => eps,
        Prediction::XStart => x_start,
        Prediction::V => alpha * eps - sigma * x_start,
    }
}

/// Distance of x from its mean in standard deviations, which a deterministic chain keeps.
fn standing(x: f64, alpha_cumprod: f64) -> f64 {
    (x - alpha_cumprod.sqrt() * MEAN) / (alpha_cumprod * DEVIATION.powi(2) + 1.0 - alpha_cumprod).sqrt()
}

/// How far a chain of `steps` ends from the exact solution, between two levels of noise.
fn error(solver: Solver, prediction: Prediction, steps: usize) -> f64 {
    let config = DiffusionConfig { noise_schedule: NoiseSchedule::Cosine, ..DiffusionConfig::default() };
    // From one step of the whole chain to another, whatever the stride.
    let schedule = Schedule::respaced(&config, &format!("ddim{steps}")).unwrap();
    let of = |step: usize| schedule.timestep_map.iter().position(|t| *t == step).unwrap();
    let (first, last) = (of(900), of(100));
    let level = |index: usize| schedule.alphas_cumprod[index];
    let (mut x, mut memory) = (1.3, f64::NAN);
    let start = standing(x, level(first));
    for index in (last + 1..=first).rev() {
        let before = (index < first).then_some(index + 1);
        let c: Coefficients = solver.coefficients(&at(&schedule, index, before, prediction)).unwrap();
        let x_start = c.from_x * x + c.from_out * network(prediction, x, level(index));
        x = c.x * x + c.x_start * x_start + if c.previous == 0.0 { 0.0 } else { c.previous * memory };
        memory = x_start;
    }
    (standing(x, level(last)) - start).abs()
}

/// Power of the number of steps that the error falls with.
fn order(solver: Solver, prediction: Prediction) -> f64 {
    let [coarse, fine] = [50, 200].map(|steps| error(solver, prediction, steps));
    println!("{solver} {prediction:?}: {coarse:e} {fine:e}");
    (coarse / fine).log2() / 2.0
}

#[test]
fn errors_fall_with_the_order_of_the_solver() {
    for prediction in [Prediction::Eps, Prediction::XStart, Prediction::V] {
        let first = order(Solver::ddim(0.0), prediction);
        assert!((0.8..1.3).contains(&first), "DDIM with {prediction:?} is of order {first}");
        let second = order(Solver::dpm_plus_plus(), prediction);
        assert!((1.7..2.6).contains(&second), "DPM-Solver++(2M) with {prediction:?} is of order {second}");
    }
}

/// How far the variance of a chain with a share of noise ends from the exact one, between two levels: each step is linear, so the
/// covariance of an image and the x_start before it is carried on exactly.
fn variance_error(solver: Solver, steps: usize) -> f64 {
    let config = DiffusionConfig { noise_schedule: NoiseSchedule::Cosine, ..DiffusionConfig::default() };
    let schedule = Schedule::respaced(&config, &format!("ddim{steps}")).unwrap();
    let of = |step: usize| schedule.timestep_map.iter().position(|t| *t == step).unwrap();
    let (first, last) = (of(900), of(100));
    let exact = |index: usize| {
        let alpha = schedule.alphas_cumprod[index];
        alpha * DEVIATION.powi(2) + 1.0 - alpha
    };
    // Variances of x and of the x_start before, and their covariance.
    let (mut x, mut memory, mut both) = (exact(first), 0.0, 0.0);
    for index in (last + 1..=first).rev() {
        let before = (index < first).then_some(index + 1);
        let c = solver.coefficients(&at(&schedule, index, before, Prediction::XStart)).unwrap();
        let alpha = schedule.alphas_cumprod[index];
        let slope = alpha.sqrt() * DEVIATION.powi(2) / exact(index);
        let of_x = c.x + c.x_start * slope;
        let next =
            of_x.powi(2) * x + 2.0 * of_x * c.previous * both + c.previous.powi(2) * memory + c.noise.powi(2);
        both = slope * (of_x * x + c.previous * both);
        memory = slope.powi(2) * x;
        x = next;
    }
    (x - exact(last)).abs()
}

#[test]
fn the_sde_form_is_of_second_order_in_its_variance() {
    let order = |solver: Solver| {
        let [coarse, fine] = [50, 200].map(|steps| variance_error(solver, steps));
        println!("{solver}: {coarse:e} {fine:e}");
        (coarse / fine).log2() / 2.0
    };
    for eta in [0.0, 0.5, 1.0] {
        let second = order(Solver::dpm_plus_plus_sde(eta));
        assert!((1.7..2.6).contains(&second), "η = {eta}: order {second}");
    }
    let first = order(Solver::ddim(1.0));
    assert!((0.8..1.3).contains(&first), "DDIM: order {first}");
    let schedule = Schedule::respaced(&DiffusionConfig::default(), "25").unwrap();
    for index in 0..25 {
        let before = (index < 24).then_some(index + 1);
        let step = at(&schedule, index, before, Prediction::Eps);
        let words =
            [Solver::dpm_plus_plus(), Solver::dpm_plus_plus_sde(0.0)].map(|s| s.coefficients(&step).unwrap());
        assert_eq!(words[0], words[1], "without noise it is the other");
    }
}

#[test]
fn every_solver_ends_at_the_predicted_image() {
    let schedule = Schedule::respaced(&DiffusionConfig::default(), "25").unwrap();
    for method in Solver::methods() {
        let solver = Solver::named(method.name, 0.5).unwrap();
        let c = solver.coefficients(&at(&schedule, 0, Some(1), Prediction::Eps)).unwrap();
        assert!((c.x_start - 1.0).abs() < 1e-12 && c.x.abs() < 1e-12, "{solver}: {c:?}");
        assert_eq!((c.noise, c.previous), (0.0, 0.0), "{solver}");
    }
}

#[test]
fn without_a_step_before_the_second_order_is_ddim() {
    let schedule = Schedule::respaced(&DiffusionConfig::default(), "25").unwrap();
    for index in 0..25 {
        let step = |solver: Solver, before| {
            solver.coefficients(&at(&schedule, index, before, Prediction::Eps)).unwrap().words()
        };
        let (first, ddim) = (step(Solver::dpm_plus_plus(), None), step(Solver::ddim(0.0), None));
        assert!(first.iter().zip(&ddim).all(|(a, b)| (a - b).abs() < 1e-6), "{first:?} {ddim:?}");
        let later = step(Solver::dpm_plus_plus(), (index < 24).then_some(index + 1));
        assert_eq!(later[4] != 0.0, (1..24).contains(&index), "{index}: the memory's part is {}", later[4]);
    }
}

#[test]
fn names_noise_shares_and_steps_are_checked() {
    assert_eq!(Solver::named("ddim", 1.0).unwrap(), Solver::default());
    assert_eq!(Solver::named("dpm++", 7.0).unwrap(), Solver::dpm_plus_plus(), "it takes no share of noise");
    assert_eq!(Solver::default().to_string(), "DDIM, η = 1");
    assert!(Solver::named("heun", 1.0).unwrap_err().to_string().contains("ancestral"));
    for eta in [-0.1, 1.1, f64::NAN] {
        assert!(Solver::named("ddim", eta).unwrap_err().to_string().contains("eta"));
    }
    let schedule = Schedule::respaced(&DiffusionConfig::default(), "25").unwrap();
    for (index, before) in [(25, None), (24, Some(25))] {
        let error =
            Solver::default().coefficients(&at(&schedule, index, before, Prediction::Eps)).unwrap_err();
        assert!(error.to_string().contains("25 of a chain of 25"), "{error}");
    }
}
