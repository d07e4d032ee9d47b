//! The chain's tables against the reference's, and specifications that must be refused.

use duet::diffusion::{DiffusionConfig, NoiseSchedule, Schedule, respaced_steps};
use std::collections::BTreeSet;
use std::path::Path;

/// Compares every table of a fixture; an unknown one fails.
pub fn compare_tables(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let text = &header.metadata().as_ref().unwrap()["config"];
    let sets: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut seen = BTreeSet::new();
    for (set, config) in &sets {
        let diffusion = DiffusionConfig {
            diffusion_steps: config["diffusion_steps"].as_u64().unwrap() as usize,
            noise_schedule: match config["noise_schedule"].as_str().unwrap() {
                "linear" => NoiseSchedule::Linear,
                "cosine" => NoiseSchedule::Cosine,
                other => panic!("unknown schedule {other}"),
            },
            ..DiffusionConfig::default()
        };
        let respacing = config["timestep_respacing"].as_str().unwrap();
        let schedule = Schedule::respaced(&diffusion, respacing).unwrap();
        for (name, view) in file.tensors() {
            let Some(table) = name.strip_prefix(&format!("{set}/")) else { continue };
            seen.insert(name.clone());
            let words: Vec<[u8; 8]> = view.data().chunks(8).map(|b| b.try_into().unwrap()).collect();
            if table == "timestep_map" {
                let want: Vec<usize> = words.iter().map(|w| i64::from_le_bytes(*w) as usize).collect();
                assert_eq!(schedule.timestep_map, want, "{name}");
                continue;
            }
            let want: Vec<f64> = words.iter().map(|w| f64::from_le_bytes(*w)).collect();
            let got = match table {
                "betas" => &schedule.betas,
                "log_betas" => &schedule.log_betas,
                "alphas_cumprod" => &schedule.alphas_cumprod,
                "alphas_cumprod_prev" => &schedule.alphas_cumprod_prev,
                "alphas_cumprod_next" => &schedule.alphas_cumprod_next,
                "sqrt_alphas_cumprod" => &schedule.sqrt_alphas_cumprod,
                "sqrt_one_minus_alphas_cumprod" => &schedule.sqrt_one_minus_alphas_cumprod,
                "log_one_minus_alphas_cumprod" => &schedule.log_one_minus_alphas_cumprod,
                "sqrt_recip_alphas_cumprod" => &schedule.sqrt_recip_alphas_cumprod,
                "sqrt_recipm1_alphas_cumprod" => &schedule.sqrt_recipm1_alphas_cumprod,
                "posterior_variance" => &schedule.posterior_variance,
                "posterior_log_variance_clipped" => &schedule.posterior_log_variance_clipped,
                "posterior_mean_coef1" => &schedule.posterior_mean_coef1,
                "posterior_mean_coef2" => &schedule.posterior_mean_coef2,
                "fixed_large_variance" => &schedule.fixed_large_variance,
                "fixed_large_log_variance" => &schedule.fixed_large_log_variance,
                other => panic!("{set}: unknown table {other}"),
            };
            assert_eq!(got.len(), want.len(), "{name}");
            for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                // Products of a thousand factors: their order of rounding may differ in the last digits.
                let bound = 1e-11 * w.abs() + 1e-15;
                assert!((g - w).abs() <= bound, "{name}[{i}]: {g:e} instead of {w:e}");
            }
        }
    }
    let all: BTreeSet<String> = file.names().iter().map(|n| (*n).to_owned()).collect();
    assert_eq!(seen, all, "every table must be compared");
}

#[test]
fn linear_schedules_below_ten_steps_run_from_a_hundredth_to_a_fiftieth_of_a_hundred() {
    let betas = |config: DiffusionConfig| Schedule::new(&config).unwrap().betas;
    let of = |diffusion_steps| betas(DiffusionConfig { diffusion_steps, ..DiffusionConfig::default() });
    for steps in 3..10 {
        let scale = 100.0 / steps as f64;
        for (i, beta) in of(steps).iter().enumerate() {
            let want = scale * (0.01 + 0.01 * i as f64 / (steps - 1) as f64);
            assert!((beta - want).abs() < 1e-15, "β {i} of {steps}: {beta} instead of {want}");
        }
    }
    assert_eq!([of(8)[0], of(8)[7]], [0.125, 0.25]);
    assert!((of(8)[1] - 0.142857).abs() < 1e-6);
    // What would be 1 or more is held: the reference's tables are infinite there, or it refuses them.
    assert_eq!(of(1), [0.999]);
    assert_eq!(of(2), [0.5, 0.999]);
    assert!(of(10)[0] == 0.1 && of(10)[9] == 0.999 && of(20)[19] == 0.999 && of(21)[20] < 0.96);
    // Other starts and ends go the same way: the start as in longer chains, the end a tenth of theirs.
    let own = DiffusionConfig { linear_start: 0.002, linear_end: 0.03, ..DiffusionConfig::default() };
    let [short, long] =
        [8, 40].map(|diffusion_steps| betas(DiffusionConfig { diffusion_steps, ..own.clone() }));
    assert!((short[0] - 0.25).abs() < 1e-15 && (short[7] - 0.375).abs() < 1e-15, "{short:?}");
    assert!((long[0] - 0.05).abs() < 1e-15 && (long[39] - 0.75).abs() < 1e-15, "{long:?}");
}

#[test]
fn chains_that_leave_the_range_of_numbers_are_refused() {
    let base = DiffusionConfig::default();
    for config in [
        DiffusionConfig { linear_end: 0.9, ..base.clone() },
        DiffusionConfig { linear_start: 1e-300, ..base.clone() },
    ] {
        for respacing in ["", "50"] {
            let error = Schedule::respaced(&config, respacing).unwrap_err().to_string();
            assert!(error.contains("linear_end") && error.contains("linear_start"), "{error}");
        }
    }
}

#[test]
fn short_chains_are_finite() {
    for noise_schedule in [NoiseSchedule::Linear, NoiseSchedule::Cosine] {
        for diffusion_steps in [1, 2, 3, 9, 10, 11, 25, 100, 4000] {
            let config = DiffusionConfig { diffusion_steps, noise_schedule, ..DiffusionConfig::default() };
            let schedule = Schedule::new(&config).unwrap();
            assert_eq!(schedule.len(), diffusion_steps);
            for table in [
                &schedule.betas,
                &schedule.sqrt_recipm1_alphas_cumprod,
                &schedule.posterior_mean_coef1,
                &schedule.posterior_mean_coef2,
                &schedule.posterior_log_variance_clipped,
                &schedule.fixed_large_log_variance,
            ] {
                assert!(
                    table.iter().all(|v| v.is_finite()),
                    "{diffusion_steps} {noise_schedule:?}: {table:?}"
                );
            }
        }
    }
}

#[test]
fn bad_respacings_are_refused() {
    for spec in ["0", "1001", "ddim0", "ddim7,3", "ddim999", "ten", "10,,5", "-5", "900,900"] {
        let error = respaced_steps(1000, spec).expect_err(spec).to_string();
        assert!(error.contains("respacing") && error.contains(spec), "{spec}: {error}");
    }
    assert_eq!(respaced_steps(1000, "1").unwrap(), [0]);
    assert_eq!(respaced_steps(10, "2,3").unwrap(), [0, 4, 5, 7, 9]);
}

#[test]
fn the_network_sees_the_original_timestep() {
    let config =
        DiffusionConfig { diffusion_steps: 500, rescale_timesteps: true, ..DiffusionConfig::default() };
    let schedule = Schedule::respaced(&config, "10").unwrap();
    assert_eq!(schedule.model_timestep(9).unwrap(), 2.0 * schedule.timestep_map[9] as f32);
    assert_eq!(schedule.timestep_map[9], 499);
}
