//! Fréchet distance between two sets of features taken for Gaussians (Heusel et al. 2017):
//! |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½), covariances unbiased.
//!
//! The trace of (Σ₁ Σ₂)^½ is that of (Σ₁^½ Σ₂ Σ₁^½)^½, which is symmetric: its eigenvalues are real and not negative, also
//! where there are fewer rows than columns, so nothing is added to the covariances (pytorch-fid adds 10⁻⁶ to their diagonals
//! where its root of the unsymmetric product fails). Distances of few rows are too large; only those of equal numbers compare.

use duet::{Error, Result};
use nalgebra::{DMatrix, DVector};

/// Mean and covariance of a set of features.
#[derive(Clone, Debug)]
pub struct Gaussian {
    mean: DVector<f64>,
    covariance: DMatrix<f64>,
}

impl Gaussian {
    /// Of `rows` \[N,columns\].
    ///
    /// # Errors
    /// [`Error::Config`] of fewer than two rows.
    pub fn of(rows: &[f32], columns: usize) -> Result<Gaussian> {
        let count = rows.len() / columns.max(1);
        if count < 2 {
            let detail = format!("a Fréchet distance needs two or more in each set, one has {count}");
            return Err(Error::config("images", detail));
        }
        let mut centred = DMatrix::from_row_iterator(count, columns, rows.iter().map(|v| f64::from(*v)));
        let mean = centred.row_mean().transpose();
        for (mut column, mean) in centred.column_iter_mut().zip(mean.iter()) {
            column.add_scalar_mut(-mean);
        }
        let covariance = centred.tr_mul(&centred) / (count - 1) as f64;
        Ok(Gaussian { mean, covariance })
    }
}

/// A set that others are compared with.
pub struct Reference {
    gaussian: Gaussian,
    /// Symmetric root of the covariance.
    root: DMatrix<f64>,
}

impl Reference {
    /// Of a set's Gaussian.
    pub fn new(gaussian: Gaussian) -> Reference {
        let eigen = gaussian.covariance.clone().symmetric_eigen();
        let roots = eigen.eigenvalues.map(|value| value.max(0.0).sqrt());
        let root = &eigen.eigenvectors * DMatrix::from_diagonal(&roots) * eigen.eigenvectors.transpose();
        Reference { gaussian, root }
    }

    /// How far the other set is, of as many columns.
    pub fn distance(&self, other: &Gaussian) -> f64 {
        let means = (&self.gaussian.mean - &other.mean).norm_squared();
        let product = &self.root * &other.covariance * &self.root;
        // Symmetric but for rounding, of which the solver reads one half.
        let shared: f64 = product.symmetric_eigenvalues().iter().map(|value| value.max(0.0).sqrt()).sum();
        (means + self.gaussian.covariance.trace() + other.covariance.trace() - 2.0 * shared).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    fn distance(a: &[f32], b: &[f32], columns: usize) -> f64 {
        let of = |rows: &[f32]| Gaussian::of(rows, columns).unwrap();
        Reference::new(of(a)).distance(&of(b))
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

    /// Two sets of normal features, and their distance by NumPy and SciPy: `sqrtm` of the product in f64. The second case has
    /// 20 rows of 40 columns, where that root is ill-conditioned.
    #[test]
    fn random_sets_as_scipy_has_them() {
        let file = include_bytes!("../../tests/fixtures/frechet.safetensors");
        let file = SafeTensors::deserialize(file).unwrap();
        for (case, columns, within) in [("fid_generic", 16, 1e-8), ("fid_rank_deficient", 40, 1e-5)] {
            let tensor = |name: &str| file.tensor(&format!("{case}/{name}")).unwrap();
            let [a, b] =
                ["in.a", "in.b"].map(|name| bytemuck::pod_collect_to_vec::<u8, f32>(tensor(name).data()));
            let want = bytemuck::pod_collect_to_vec::<u8, f64>(tensor("out.fid").data())[0];
            for got in [distance(&a, &b, columns), distance(&b, &a, columns)] {
                assert!((got - want).abs() < within * want, "{case}: {got} instead of {want}");
            }
            assert!(distance(&a, &a, columns) < 1e-6, "{case}");
        }
    }

    #[test]
    fn one_row_is_no_set() {
        let error = Gaussian::of(&[1.0, 2.0], 2).unwrap_err().to_string();
        assert!(error.contains("two or more") && error.contains("has 1"), "{error}");
    }
}
