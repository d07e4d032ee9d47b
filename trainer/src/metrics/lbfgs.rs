//! L-BFGS (Nocedal 1980; Nocedal and Wright, "Numerical Optimization", algorithm 7.4) with steps that are halved until the
//! function falls enough, for smooth convex functions.
//!
//! Ours: the crates that have it bring a dozen others, random numbers among them, for these few lines.

use std::collections::VecDeque;

/// Pairs of steps and changes of the gradient that are remembered.
const MEMORY: usize = 10;
/// The share of what the slope promises that a step must bring (Armijo).
const ENOUGH: f64 = 1e-4;
/// Halvings of a step, after which there is nothing more to gain in these numbers.
const HALVINGS: usize = 40;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// a + factor · b.
fn add(a: &[f64], factor: f64, b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + factor * b).collect()
}

/// A step, the change of the gradient along it, and their product.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    product: f64,
}

/// The direction of descent: the gradient by an estimate of the inverse of the second derivatives.
fn direction(gradient: &[f64], memory: &VecDeque<Pair>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut factors = Vec::with_capacity(memory.len());
    for pair in memory.iter().rev() {
        let factor = dot(&pair.step, &q) / pair.product;
        q = add(&q, -factor, &pair.change);
        factors.push(factor);
    }
    // Before there is any pair a step of length 1 at most.
    let scale = match memory.back() {
        Some(pair) => pair.product / dot(&pair.change, &pair.change),
        None => 1.0 / dot(gradient, gradient).sqrt().max(1.0),
    };
    q.iter_mut().for_each(|v| *v *= scale);
    for (pair, factor) in memory.iter().zip(factors.into_iter().rev()) {
        q = add(&q, factor - dot(&pair.change, &q) / pair.product, &pair.step);
    }
    q
}

/// Where `function`, which gives a value and its gradient, is least, from `start`: after at most `steps` steps, or where no entry of
/// the gradient is larger than `slope`. The value never rises.
pub fn minimise(
    function: impl Fn(&[f64]) -> (f64, Vec<f64>),
    start: Vec<f64>,
    steps: usize,
    slope: f64,
) -> Vec<f64> {
    let mut x = start;
    let (mut value, mut gradient) = function(&x);
    let mut memory: VecDeque<Pair> = VecDeque::with_capacity(MEMORY);
    for _ in 0..steps {
        if gradient.iter().all(|g| g.abs() <= slope) {
            break;
        }
        let mut along = direction(&gradient, &memory);
        let mut falls = dot(&gradient, &along);
        if falls >= 0.0 {
            // Rounding has made the estimate useless: begin anew.
            memory.clear();
            along = direction(&gradient, &memory);
            falls = dot(&gradient, &along);
        }
        let mut length = 1.0;
        let tried = (0..HALVINGS).find_map(|_| {
            let next = add(&x, length, &along);
            let (found, slopes) = function(&next);
            if found <= value + ENOUGH * length * falls {
                return Some((next, found, slopes));
            }
            length *= 0.5;
            None
        });
        let Some((next, found, slopes)) = tried else { break };
        let (step, change) = (add(&next, -1.0, &x), add(&slopes, -1.0, &gradient));
        let product = dot(&step, &change);
        if product > 1e-12 * dot(&change, &change) {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back(Pair { step, change, product });
        }
        (x, value, gradient) = (next, found, slopes);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::minimise;

    #[test]
    fn the_middle_of_a_long_valley_is_found() {
        // Σ c (x − i)², c from 1 to 10,000: the least value is 0, at 0, 1, 2, …
        let curve = |i: usize| 10f64.powi(i as i32 % 5);
        let function = |x: &[f64]| {
            let apart = x.iter().enumerate().map(|(i, x)| (curve(i), x - i as f64));
            let value = apart.clone().map(|(c, d)| c * d * d).sum();
            (value, apart.map(|(c, d)| 2.0 * c * d).collect())
        };
        let found = minimise(function, vec![0.0; 23], 200, 1e-9);
        assert!(found.iter().enumerate().all(|(i, x)| (x - i as f64).abs() < 1e-8), "{found:?}");
        assert_eq!(minimise(function, found.clone(), 200, 1e-3), found, "nothing is left to do");
        assert_eq!(minimise(function, vec![7.0; 3], 0, 0.0), [7.0; 3]);
    }

    #[test]
    fn a_function_of_two_that_depend_on_each_other() {
        // ln(eˣ⁺ʸ + e⁻ˣ) + y²/2: its derivatives are zero where p = e^(x+y) / (e^(x+y) + e^(−x)) = ½ and y = −p.
        let function = |at: &[f64]| {
            let (x, y) = (at[0], at[1]);
            let (a, b) = ((x + y).exp(), (-x).exp());
            let p = a / (a + b);
            ((a + b).ln() + 0.5 * y * y, vec![2.0 * p - 1.0, p + y])
        };
        let found = minimise(function, vec![3.0, -4.0], 100, 1e-10);
        assert!((found[0] - 0.25).abs() < 1e-9 && (found[1] + 0.5).abs() < 1e-9, "{found:?}");
    }
}
