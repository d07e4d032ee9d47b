//! Fréchet distance between two sets of features taken for Gaussians (Heusel et al. 2017):
//! |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½), covariances unbiased.
//!
//! The trace of (Σ₁ Σ₂)^½ is that of (Σ₁^½ Σ₂ Σ₁^½)^½, which is symmetric: its eigenvalues are real and not negative, also
//! where there are fewer rows than columns, so nothing is added to the covariances (pytorch-fid adds 10⁻⁶ to their diagonals
//! where its root of the unsymmetric product fails). Distances of few rows are too large; only those of equal numbers compare.

use super::distances::rows_of;
use super::draws::Draws;
use duet::rng::Seed;
use duet::{Error, Result};
use faer::{Mat, Side};

/// What errors call it.
const NAME: &str = "Fréchet distance";
/// Rows whose products are summed at a time.
const BLOCK: usize = 512;
/// Draws of this kind halve sets.
const HALVES: u32 = 1;

/// Sums over any number of rows, from which mean and covariance follow; memory is that of the covariance.
#[derive(Clone, Debug)]
pub struct Moments {
    count: usize,
    mean: Vec<f64>,
    /// Sum of (x − mean)(x − mean)ᵀ.
    scatter: Mat<f64>,
}

impl Moments {
    /// Of no rows yet, of so many columns.
    pub fn new(columns: usize) -> Moments {
        Moments { count: 0, mean: vec![0.0; columns], scatter: Mat::zeros(columns, columns) }
    }

    /// Adds `rows` \[N,columns\].
    ///
    /// # Errors
    /// [`Error::Shape`] for no whole number of rows; [`Error::NotFinite`].
    pub fn add(&mut self, rows: &[f32]) -> Result<()> {
        let columns = self.mean.len();
        rows_of(NAME, rows, columns)?;
        for block in rows.chunks(BLOCK * columns) {
            self.merge(block);
        }
        Ok(())
    }

    /// Adds a block: its own sums around its own mean, and what the distance of both means adds (Chan et al. 1979).
    fn merge(&mut self, rows: &[f32]) {
        let columns = self.mean.len();
        let (before, added) = (self.count as f64, (rows.len() / columns) as f64);
        let mut mean = vec![0.0; columns];
        for row in rows.chunks_exact(columns) {
            mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        mean.iter_mut().for_each(|sum| *sum /= added);
        let centred =
            Mat::from_fn(rows.len() / columns, columns, |i, j| f64::from(rows[i * columns + j]) - mean[j]);
        self.scatter += centred.transpose() * &centred;
        let apart: Vec<f64> = mean.iter().zip(&self.mean).map(|(new, old)| new - old).collect();
        let share = added / (before + added);
        if before > 0.0 {
            let weight = before * share;
            let apart = &apart;
            self.scatter += Mat::from_fn(columns, columns, |i, j| weight * apart[i] * apart[j]);
        }
        self.mean.iter_mut().zip(&apart).for_each(|(mean, apart)| *mean += share * apart);
        self.count += rows.len() / columns;
    }

    /// Mean and covariance of all rows.
    ///
    /// # Errors
    /// [`Error::Config`] of fewer than two rows.
    pub fn gaussian(&self) -> Result<Gaussian> {
        if self.count < 2 {
            let detail = format!("a Fréchet distance needs two or more in each set, one has {}", self.count);
            return Err(Error::config("images", detail));
        }
        let divisor = (self.count - 1) as f64;
        let columns = self.mean.len();
        let covariance = Mat::from_fn(columns, columns, |i, j| self.scatter[(i, j)] / divisor);
        Ok(Gaussian { mean: self.mean.clone(), covariance })
    }
}

/// Mean and covariance of a set of features.
#[derive(Clone, Debug)]
pub struct Gaussian {
    mean: Vec<f64>,
    covariance: Mat<f64>,
}

impl Gaussian {
    /// Of `rows` \[N,columns\].
    ///
    /// # Errors
    /// [`Error::Shape`] for no whole number of rows; [`Error::NotFinite`]; [`Error::Config`] of fewer than two rows.
    pub fn of(rows: &[f32], columns: usize) -> Result<Gaussian> {
        let mut moments = Moments::new(columns);
        moments.add(rows)?;
        moments.gaussian()
    }

    /// Of a mean \[D\] and a covariance \[D,D\] that somebody else computed.
    ///
    /// # Errors
    /// [`Error::Shape`] where they do not fit each other; [`Error::Config`] for a number that is not finite, or a covariance that is
    /// not symmetric or has a negative variance.
    pub fn from_parts(mean: Vec<f64>, covariance: &[f64]) -> Result<Gaussian> {
        let columns = mean.len();
        if columns == 0 || columns.checked_mul(columns) != Some(covariance.len()) {
            let detail = format!("a mean of {columns} with a covariance of {} values", covariance.len());
            return Err(Error::shape(NAME, detail));
        }
        let refuse = |detail: &str| Err(Error::config("covariance", detail));
        if mean.iter().chain(covariance).any(|value| !value.is_finite()) {
            return refuse("mean or covariance holds a number that is not finite");
        }
        let matrix = Mat::from_fn(columns, columns, |i, j| covariance[i * columns + j]);
        let largest = (0..columns).map(|i| matrix[(i, i)]).fold(0.0, f64::max);
        if (0..columns).any(|i| matrix[(i, i)] < -1e-9 * largest) {
            return refuse("has a negative variance on its diagonal");
        }
        let skew = |i: usize, j: usize| (matrix[(i, j)] - matrix[(j, i)]).abs() > 1e-6 * largest.max(1e-300);
        if (0..columns).any(|i| (0..i).any(|j| skew(i, j))) {
            return refuse("is not symmetric");
        }
        Ok(Gaussian { mean, covariance: matrix })
    }

    /// The mean \[D\].
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The covariance \[D,D\].
    pub fn covariance(&self) -> Vec<f64> {
        let columns = self.mean.len();
        (0..columns * columns).map(|at| self.covariance[(at / columns, at % columns)]).collect()
    }

    fn trace(&self) -> f64 {
        (0..self.mean.len()).map(|i| self.covariance[(i, i)]).sum()
    }
}

/// The error of an eigenvalue solver that found none.
fn unsolved(error: faer::linalg::solvers::EvdError) -> Error {
    Error::NotFinite { detail: format!("{NAME}: the covariance has no eigenvalues ({error:?})") }
}

/// A set that others are compared with.
pub struct Reference {
    gaussian: Gaussian,
    /// Symmetric root of the covariance.
    root: Mat<f64>,
}

impl Reference {
    /// Of a set's Gaussian.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for a covariance without eigenvalues, as numbers near the end of their range give.
    pub fn new(gaussian: Gaussian) -> Result<Reference> {
        let eigen = gaussian.covariance.self_adjoint_eigen(Side::Lower).map_err(unsolved)?;
        let (vectors, values) = (eigen.U(), eigen.S().column_vector());
        let columns = gaussian.mean.len();
        let scaled = Mat::from_fn(columns, columns, |i, j| vectors[(i, j)] * values[j].max(0.0).sqrt());
        Ok(Reference { root: &scaled * vectors.transpose(), gaussian })
    }

    /// How far the other set is.
    ///
    /// # Errors
    /// [`Error::Shape`] where that has another number of columns; as [`Reference::new`].
    pub fn distance(&self, other: &Gaussian) -> Result<f64> {
        let (columns, has) = (self.gaussian.mean.len(), other.mean.len());
        if columns != has {
            return Err(Error::shape(NAME, format!("features of {columns} numbers and of {has}")));
        }
        let means: f64 = self.gaussian.mean.iter().zip(&other.mean).map(|(a, b)| (a - b).powi(2)).sum();
        let product = &self.root * &other.covariance * &self.root;
        // Symmetric but for rounding, of which the solver reads one half.
        let values = product.self_adjoint_eigenvalues(Side::Lower).map_err(unsolved)?;
        let shared: f64 = values.iter().map(|value| value.max(0.0).sqrt()).sum();
        Ok((means + self.gaussian.trace() + other.trace() - 2.0 * shared).max(0.0))
    }
}

/// The mean of two distances: of one half of the real rows to the other half of the generated ones, and the other way round, as
/// papers on counterfactuals have it ("sFID" there, which is not the spatial one): an explanation and its original, rows of
/// one number, are never compared. Sets of one size are halved alike, at random by the seed.
///
/// # Errors
/// As [`Gaussian::of`], of fewer than four rows in a set.
pub fn split_halves(real: &[f32], generated: &[f32], columns: usize, seed: Seed) -> Result<f64> {
    let halves = |rows: &[f32]| -> Result<[Vec<f32>; 2]> {
        let count = rows_of(NAME, rows, columns)?;
        if count < 4 {
            let detail = format!("halves of a set need two or more each, one set has {count} in all");
            return Err(Error::config("images", detail));
        }
        let order = Draws::new(seed, HALVES, 0).choose(count, count);
        let half = |chosen: &[usize]| -> Vec<f32> {
            chosen.iter().flat_map(|row| &rows[row * columns..(row + 1) * columns]).copied().collect()
        };
        let (first, second) = order.split_at(count / 2);
        Ok([half(first), half(second)])
    };
    across(halves(real)?, halves(generated)?, columns)
}

/// The mean of the distances of the first real half to the second generated one, and of the others.
fn across([real_1, real_2]: [Vec<f32>; 2], [made_1, made_2]: [Vec<f32>; 2], columns: usize) -> Result<f64> {
    let distance = |real: &[f32], made: &[f32]| {
        Reference::new(Gaussian::of(real, columns)?)?.distance(&Gaussian::of(made, columns)?)
    };
    Ok(0.5 * (distance(&real_1, &made_2)? + distance(&real_2, &made_1)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden::{close, figures, golden, numbers};

    fn distance(a: &[f32], b: &[f32], columns: usize) -> f64 {
        let of = |rows: &[f32]| Gaussian::of(rows, columns).unwrap();
        Reference::new(of(a)).unwrap().distance(&of(b)).unwrap()
    }

    #[test]
    fn one_dimension_by_hand() {
        // (μ₁ − μ₂)² + (σ₁ − σ₂)²: means 0 and 3, unbiased variances 2 and 8.
        let far = distance(&[-1.0, 1.0], &[1.0, 5.0], 1);
        assert!((far - (9.0 + (8f64.sqrt() - 2f64.sqrt()).powi(2))).abs() < 1e-12, "{far}");
        // Columns that do not depend on each other add up; a constant one brings its distance alone.
        let far = distance(&[-1.0, 5.0, 1.0, 5.0], &[1.0, 7.0, 5.0, 7.0], 2);
        assert!((far - (9.0 + 2.0 + 4.0)).abs() < 1e-7, "{far}");
    }

    /// Sets of features and their distances by NumPy and SciPy, as the reference computes them: `sqrtm` of the product in f64. One case
    /// has 20 rows of 40 columns, where that root is ill-conditioned.
    #[test]
    fn distances_as_the_reference_has_them() {
        for (case, columns, within) in [
            ("fid_generic", 16, 1e-9),
            ("fid_shift", 16, 1e-9),
            ("fid_dim84", 84, 1e-9),
            ("fid_rank_deficient", 40, 1e-5),
        ] {
            let [a, b] = ["in.a", "in.b"].map(|name| golden::<f32>(&format!("{case}/{name}")));
            let want = golden::<f64>(&format!("{case}/out.fid"))[0];
            for got in [distance(&a, &b, columns), distance(&b, &a, columns)] {
                assert!((got - want).abs() < within * want, "{case}: {got} instead of {want}");
            }
            assert!(distance(&a, &a, columns) < 1e-6, "{case}");
            let gaussian = Gaussian::of(&a, columns).unwrap();
            let near = |got: &[f64], name: &str| {
                let want = golden::<f64>(&format!("{case}/{name}"));
                assert_eq!(got.len(), want.len());
                got.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-10)
            };
            assert!(near(gaussian.mean(), "out.mu_a") && near(&gaussian.covariance(), "out.cov_a"), "{case}");
        }
        let same = golden::<f32>("fid_same/in.a");
        assert!(distance(&same, &same, 16) < 1e-10);
    }

    #[test]
    fn distances_as_scipy_has_them() {
        let want = figures();
        let [real, generated] = ["real", "generated"].map(|name| numbers(&want[name]));
        close(distance(&real, &generated, 7), &want["frechet"], 1e-9);
        let few = &want["few"];
        close(distance(&numbers(&few["a"]), &numbers(&few["b"]), 12), &few["frechet"], 1e-5);
        // Real halves of 20 and 21, generated ones of 18 and 18.
        let halves = |rows: &[f32], at: usize| [rows[..7 * at].to_vec(), rows[7 * at..].to_vec()];
        let got = across(halves(&real, 20), halves(&generated, 18), 7).unwrap();
        let [there, back] = [0, 1].map(|i| want["halves"][i].as_f64().unwrap());
        assert!((got - 0.5 * (there + back)).abs() < 1e-9 * got, "{got}");
        let halved = |seed| split_halves(&real, &generated, 7, Seed(seed)).unwrap();
        assert!(halved(1) == halved(1) && halved(1) != halved(2) && halved(1) > 0.5 * got);
        assert!(
            split_halves(&real[..21], &generated, 7, Seed(0)).unwrap_err().to_string().contains("3 in all")
        );
    }

    #[test]
    fn blocks_are_as_good_as_all_at_once() {
        // More rows than a block, far from zero, where sums of squares would lose half of the digits.
        let mut rows = vec![0.0; 1300 * 3];
        duet::rng::normal_fill(Seed(9), duet::rng::Stream::Init, 0, 0, &mut rows);
        rows.iter_mut().for_each(|value| *value += 1000.0);
        let whole = Gaussian::of(&rows, 3).unwrap();
        let mut parts = Moments::new(3);
        rows.chunks(3 * 7).for_each(|part| parts.add(part).unwrap());
        parts.add(&[]).unwrap();
        let parts = parts.gaussian().unwrap();
        for column in 0..3 {
            let values: Vec<f64> = rows.iter().skip(column).step_by(3).map(|v| f64::from(*v)).collect();
            let mean = values.iter().sum::<f64>() / 1300.0;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 1299.0;
            for gaussian in [&whole, &parts] {
                assert!((gaussian.mean()[column] - mean).abs() < 1e-9);
                assert!((gaussian.covariance()[4 * column] - variance).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn what_is_no_set_is_refused() {
        let error = Gaussian::of(&[1.0, 2.0], 2).unwrap_err().to_string();
        assert!(error.contains("two or more") && error.contains("has 1"), "{error}");
        assert!(Gaussian::of(&[], 2).is_err() && Gaussian::of(&[1.0; 5], 2).is_err());
        assert!(Gaussian::of(&[1.0, f32::NAN, 1.0], 1).unwrap_err().to_string().contains("image 1"));
        let parts = |mean: &[f64], covariance: &[f64]| {
            Gaussian::from_parts(mean.to_vec(), covariance).map(|_| ()).map_err(|e| e.to_string())
        };
        assert!(parts(&[0.0, 1.0], &[1.0, 0.5, 0.5, 2.0]).is_ok());
        assert!(parts(&[0.0, 1.0], &[1.0, 0.5, 0.4, 2.0]).unwrap_err().contains("not symmetric"));
        assert!(parts(&[0.0, 1.0], &[1.0, 0.0, 0.0, -2.0]).unwrap_err().contains("negative variance"));
        assert!(parts(&[0.0, f64::NAN], &[1.0, 0.0, 0.0, 1.0]).unwrap_err().contains("not finite"));
        assert!(parts(&[0.0], &[1.0, 0.0]).unwrap_err().contains("2 values") && parts(&[], &[]).is_err());
        let reference = Reference::new(Gaussian::from_parts(vec![0.0], &[1.0]).unwrap()).unwrap();
        let other = Gaussian::from_parts(vec![0.0; 2], &[1.0, 0.0, 0.0, 1.0]).unwrap();
        assert!(reference.distance(&other).unwrap_err().to_string().contains("1 numbers and of 2"));
    }
}
