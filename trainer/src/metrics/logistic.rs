//! Logistic regression, as a probe of what representations hold: is it there for a linear classifier to read?
//!
//! Features are brought to mean 0 and deviation 1 of the training points. What is minimised is the mean loss plus λ/2 · ‖weights‖²
//! (the intercepts are free): of classes the cross-entropy of one softmax, of labels each one's binary cross-entropy, which is a
//! probe of its own for each label. λ is of [`STRENGTHS`] the one whose loss on the validation points is least, for each label its
//! own. Nothing is drawn at random.

use super::lbfgs;
use duet::model::{Labels, UNLABELLED};
use duet::{Error, Result};
use faer::{Mat, MatRef};

/// λ, from the strongest: a fit begins where the one before ended, and of equal ones the strongest is taken.
pub const STRENGTHS: [f64; 6] = [1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4];
/// Steps of a fit at most: with hardly any λ, and points that can be told apart, weights grow without an end.
const STEPS: usize = 200;
/// A fit ends where no entry of the gradient is larger.
const SLOPE: f64 = 1e-4;

/// Points \[N,F\] and what they are.
#[derive(Clone, Copy, Debug)]
pub struct Points<'a> {
    /// The features.
    pub rows: &'a [f32],
    /// Features of a point.
    pub columns: usize,
    /// A class of each, or any number of labels; points without a class are passed over.
    pub labels: &'a Labels,
    /// How many classes or labels there are.
    pub outputs: usize,
}

/// A fitted probe.
#[derive(Clone, Debug)]
pub struct Probe {
    scale: Scale,
    /// Weights \[F + 1, outputs\] of scaled features, the intercepts last.
    weights: Vec<f64>,
    /// λ of each output; of classes all are one.
    pub strengths: Vec<f64>,
}

/// Takes features to mean 0 and deviation 1 of the training points.
#[derive(Clone, Debug)]
struct Scale {
    means: Vec<f64>,
    factors: Vec<f64>,
}

impl Scale {
    fn of(rows: &[f32], columns: usize) -> Scale {
        let count = (rows.len() / columns).max(1) as f64;
        let mut means = vec![0.0; columns];
        let mut squares = vec![0.0; columns];
        for row in rows.chunks_exact(columns) {
            means.iter_mut().zip(row).for_each(|(mean, v)| *mean += f64::from(*v) / count);
        }
        for row in rows.chunks_exact(columns) {
            for ((square, mean), v) in squares.iter_mut().zip(&means).zip(row) {
                *square += (f64::from(*v) - mean).powi(2) / count;
            }
        }
        // A feature that differs by no more than rounding tells nothing.
        let factor = |(square, mean): (&f64, &f64)| {
            let deviation = square.sqrt();
            if deviation > 1e-6 * mean.abs().max(1e-6) { 1.0 / deviation } else { 0.0 }
        };
        let factors = squares.iter().zip(&means).map(factor).collect();
        Scale { means, factors }
    }

    /// Scaled features \[F,N\], a point a column.
    fn apply(&self, rows: &[f32]) -> Mat<f64> {
        let columns = self.means.len();
        Mat::from_fn(columns, rows.len() / columns, |feature, point| {
            (f64::from(rows[point * columns + feature]) - self.means[feature]) * self.factors[feature]
        })
    }
}

/// Points as fits read them.
struct Data {
    /// \[F,N\].
    features: Mat<f64>,
    /// \[outputs,N\], 0 or 1: the one class, or all labels that hold.
    targets: Mat<f64>,
    /// Whether one of the outputs holds, or any number of them.
    one: bool,
}

impl Points<'_> {
    fn check(&self, what: &str) -> Result<()> {
        let count = self.labels.len(self.outputs);
        if self.columns == 0 || self.outputs == 0 || Some(self.rows.len()) != count.checked_mul(self.columns)
        {
            let detail = format!("{} values, {count} points of {} features", self.rows.len(), self.columns);
            return Err(Error::shape("logistic regression", format!("{what}: {detail}")));
        }
        if self.rows.iter().any(|v| !v.is_finite()) {
            return Err(Error::NotFinite { detail: format!("a feature of the {what} points") });
        }
        Ok(())
    }

    /// Those that have labels; the features scaled.
    fn data(&self, scale: &Scale, what: &str) -> Result<Data> {
        self.check(what)?;
        let (rows, one) = (self.labelled(), matches!(self.labels, Labels::Classes(_)));
        let count = rows.len() / self.columns;
        if count == 0 {
            return Err(Error::config("images", format!("none of the {what} images has a label")));
        }
        let targets: Vec<f64> = match self.labels {
            Labels::MultiLabel(list) => list.iter().map(|v| f64::from(u8::from(*v > 0.5))).collect(),
            Labels::Classes(list) => {
                let mut targets = vec![0.0; count * self.outputs];
                let known = list.iter().filter(|class| **class != UNLABELLED);
                for (row, class) in targets.chunks_exact_mut(self.outputs).zip(known) {
                    let Some(target) = row.get_mut(*class as usize) else {
                        let detail = format!("class {class} is none of {}", self.outputs);
                        return Err(Error::config("num_classes", detail));
                    };
                    *target = 1.0;
                }
                targets
            }
        };
        let targets =
            Mat::from_fn(self.outputs, count, |output, point| targets[point * self.outputs + output]);
        Ok(Data { features: scale.apply(&rows), targets, one })
    }

    /// Features of the points that have labels.
    fn labelled(&self) -> Vec<f32> {
        match self.labels {
            Labels::MultiLabel(_) => self.rows.to_vec(),
            Labels::Classes(list) => {
                let rows = self.rows.chunks_exact(self.columns).zip(list);
                rows.filter(|(_, class)| **class != UNLABELLED).flat_map(|(row, _)| row.to_vec()).collect()
            }
        }
    }
}

impl Data {
    /// Logits \[outputs,N\]; `weights` is \[F + 1, outputs\], the intercepts at the end.
    fn logits(&self, weights: &[f64]) -> Mat<f64> {
        let (outputs, features) = (self.targets.nrows(), self.features.nrows());
        let (slopes, intercepts) = weights.split_at(features * outputs);
        let mut logits = MatRef::from_column_major_slice(slopes, outputs, features) * &self.features;
        for point in 0..logits.ncols() {
            let column = logits.col_as_slice_mut(point);
            column.iter_mut().zip(intercepts).for_each(|(value, intercept)| *value += intercept);
        }
        logits
    }

    /// Each output's mean loss, of one class together the first's; logits become the loss's gradient by them (not divided by N).
    fn loss(&self, logits: &mut Mat<f64>) -> Vec<f64> {
        let mut losses = vec![0.0; self.targets.nrows()];
        for point in 0..logits.ncols() {
            let (column, targets) = (logits.col_as_slice_mut(point), self.targets.col_as_slice(point));
            if self.one {
                let largest = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let own: f64 = column.iter().zip(targets).map(|(value, target)| value * target).sum();
                column.iter_mut().for_each(|value| *value = (*value - largest).exp());
                let sum: f64 = column.iter().sum();
                losses[0] += largest + sum.ln() - own;
                column.iter_mut().for_each(|value| *value /= sum);
            } else {
                for ((value, target), loss) in column.iter_mut().zip(targets).zip(&mut losses) {
                    *loss += value.max(0.0) - *value * target + (-value.abs()).exp().ln_1p();
                    *value = 1.0 / (1.0 + (-*value).exp());
                }
            }
            column.iter_mut().zip(targets).for_each(|(value, target)| *value -= target);
        }
        let count = self.targets.ncols() as f64;
        losses.iter().map(|loss| loss / count).collect()
    }

    /// The weights \[F + 1, outputs\] that minimise the mean loss plus `strength`/2 · ‖weights‖², from `start`.
    fn fit(&self, strength: f64, start: Vec<f64>) -> Vec<f64> {
        let (outputs, count) = (self.targets.nrows(), self.targets.ncols() as f64);
        let slopes = self.features.nrows() * outputs;
        let objective = |weights: &[f64]| {
            let mut residuals = self.logits(weights);
            let loss: f64 = self.loss(&mut residuals).iter().sum();
            let product = &residuals * self.features.transpose();
            let bent = &weights[..slopes];
            let mut gradient = Vec::with_capacity(weights.len());
            let columns = (0..product.ncols()).flat_map(|feature| product.col_as_slice(feature));
            gradient.extend(columns.zip(bent).map(|(sum, weight)| sum / count + strength * weight));
            gradient.resize(weights.len(), 0.0);
            for point in 0..residuals.ncols() {
                let sums = gradient[slopes..].iter_mut().zip(residuals.col_as_slice(point));
                sums.for_each(|(sum, residual)| *sum += residual / count);
            }
            let squares: f64 = bent.iter().map(|weight| weight * weight).sum();
            (loss + 0.5 * strength * squares, gradient)
        };
        lbfgs::minimise(objective, start, STEPS, SLOPE)
    }
}

impl Probe {
    /// Fits on `train`, with the strength that `validation` is told best with.
    ///
    /// # Errors
    /// Points that are not one row for each label, of other kinds or numbers of features, without labels, or not finite.
    pub fn fit(train: Points<'_>, validation: Points<'_>) -> Result<Probe> {
        train.check("training")?;
        if (train.columns, train.outputs) != (validation.columns, validation.outputs) {
            let of = |points: Points<'_>| format!("{} features, {} outputs", points.columns, points.outputs);
            let detail = format!("training {}; validation {}", of(train), of(validation));
            return Err(Error::shape("logistic regression", detail));
        }
        let scale = Scale::of(&train.labelled(), train.columns);
        let (fitted, held) = (train.data(&scale, "training")?, validation.data(&scale, "validation")?);
        if fitted.one != held.one {
            return Err(Error::config("labels", "training points and validation points have other kinds"));
        }
        let mut weights = vec![0.0; train.outputs * (train.columns + 1)];
        let mut best = weights.clone();
        let mut least = vec![f64::INFINITY; train.outputs];
        let mut strengths = vec![STRENGTHS[0]; train.outputs];
        for strength in STRENGTHS {
            weights = fitted.fit(strength, weights);
            let losses = held.loss(&mut held.logits(&weights));
            for output in 0..train.outputs {
                // Of classes the first loss is that of all of them.
                let loss = losses[if fitted.one { 0 } else { output }];
                if loss < least[output] {
                    (least[output], strengths[output]) = (loss, strength);
                    let of_output = best.iter_mut().zip(&weights).skip(output).step_by(train.outputs);
                    of_output.for_each(|(best, weight)| *best = *weight);
                }
            }
        }
        Ok(Probe { scale, weights: best, strengths })
    }

    /// Logits \[N, outputs\] of points \[N,F\].
    ///
    /// # Errors
    /// [`Error::Shape`] for part of a point.
    pub fn logits(&self, rows: &[f32]) -> Result<Vec<f32>> {
        let columns = self.scale.means.len();
        if !rows.len().is_multiple_of(columns) {
            let detail = format!("{} values are no whole number of points of {columns}", rows.len());
            return Err(Error::shape("logistic regression", detail));
        }
        let features = self.scale.apply(rows);
        let targets = Mat::zeros(self.strengths.len(), 0);
        let logits = Data { features, targets, one: false }.logits(&self.weights);
        // A point a column, one after the other: rows, as they are read here.
        let points = (0..logits.ncols()).flat_map(|point| logits.col_as_slice(point));
        Ok(points.map(|v| *v as f32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: usize = 3;

    /// Features \[24,3\] and three classes by a formula.
    fn points() -> (Vec<f32>, Vec<u32>) {
        let feature = |i: u32, j: u32| ((i * 37 + j * 101 + i * i * 7 * (j + 1)) % 29) as f32 / 10.0;
        let rows = (0..24).flat_map(|i| [0, 1, 2].map(|j| feature(i, j))).collect();
        (rows, (0..24).map(|i| (i * i * 3 + i * 2) / 5 % 3).collect())
    }

    /// The probe of one λ, fitted on the points.
    fn fitted(labels: &Labels, outputs: usize, strength: f64) -> Probe {
        let (rows, _) = points();
        let scale = Scale::of(&rows, COLUMNS);
        let data = Points { rows: &rows, columns: COLUMNS, labels, outputs }.data(&scale, "all").unwrap();
        let weights = data.fit(strength, vec![0.0; outputs * (COLUMNS + 1)]);
        Probe { scale, weights, strengths: vec![strength; outputs] }
    }

    /// By scikit-learn 1.9.1: `LogisticRegression(C=1 / (0.1 * 24), tol=1e-12)` on features brought to mean 0 and deviation 1.
    #[test]
    fn fits_are_scikit_learn_s() {
        let (rows, classes) = points();
        let three = fitted(&Labels::Classes(classes.clone()), 3, 0.1).logits(&rows[..9]).unwrap();
        let probabilities = duet::model::Head::Multiclass.probabilities(&three, 3).unwrap();
        let want = [
            0.452_208, 0.345_483, 0.202_309, 0.179_863, 0.392_205, 0.427_932, 0.564_837, 0.141_912, 0.293_251,
        ];
        for (got, want) in probabilities.iter().zip(want) {
            assert!((got - want).abs() < 2e-4, "{probabilities:?}");
        }
        // The second class against the others, beside a label that none has.
        let targets = classes.iter().flat_map(|class| [f32::from(u8::from(*class == 1)), 0.0]).collect();
        let two = fitted(&Labels::MultiLabel(targets), 2, 0.1).logits(&rows[..9]).unwrap();
        for (got, want) in two.iter().step_by(2).zip([-0.674_147, -0.569_103, -1.748_211]) {
            assert!((got - want).abs() < 1e-3, "{two:?}");
        }
        assert!(two.iter().skip(1).step_by(2).all(|v| *v < -5.0), "{two:?}");
    }

    #[test]
    fn without_features_intercepts_are_the_logarithms_of_shares() {
        let rows = vec![0.1; 8 * COLUMNS];
        let targets = Labels::MultiLabel([1.0, 1.0, 1.0, 0.0].repeat(2));
        let points = Points { rows: &rows, columns: COLUMNS, labels: &targets, outputs: 1 };
        let logits = Probe::fit(points, points).unwrap().logits(&rows).unwrap();
        assert!(logits.iter().all(|logit| (logit - 3f32.ln()).abs() < 1e-3), "{logits:?}");
        let classes = Labels::Classes(vec![0, 1, 1, 1, 0, 1, 1, 1]);
        let points = Points { labels: &classes, outputs: 2, ..points };
        let logits = Probe::fit(points, points).unwrap().logits(&rows).unwrap();
        assert!((logits[1] - logits[0] - 3f32.ln()).abs() < 1e-3, "{logits:?}");
    }

    #[test]
    fn points_without_a_class_are_passed_over() {
        let (mut rows, mut classes) = points();
        let known = Labels::Classes(classes.clone());
        let of = |rows: &[f32], labels: &Labels| {
            let points = Points { rows, columns: COLUMNS, labels, outputs: 3 };
            let probe = Probe::fit(points, points).unwrap();
            (probe.logits(rows).unwrap(), probe.strengths)
        };
        let want = of(&rows, &known);
        rows.extend([100.0; COLUMNS]);
        classes.push(UNLABELLED);
        let (logits, strengths) = of(&rows, &Labels::Classes(classes));
        assert_eq!((&logits[..3 * 24], strengths), (&want.0[..], want.1));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (rows, classes) = points();
        let labels = Labels::Classes(classes);
        let points = Points { rows: &rows, columns: COLUMNS, labels: &labels, outputs: 3 };
        let fails = |train: Points<'_>, held: Points<'_>| Probe::fit(train, held).unwrap_err().to_string();
        assert!(fails(Points { columns: 4, ..points }, points).contains("24 points of 4"));
        assert!(fails(points, Points { outputs: 4, ..points }).contains("4 outputs"));
        assert!(
            fails(Points { outputs: 2, ..points }, Points { outputs: 2, ..points }).contains("none of 2")
        );
        let many = Labels::MultiLabel(vec![0.0; 72]);
        assert!(fails(points, Points { labels: &many, ..points }).contains("other kinds"));
        let none = Labels::Classes(vec![UNLABELLED; 24]);
        assert!(fails(points, Points { labels: &none, ..points }).contains("validation images has a label"));
        let mut broken = rows.clone();
        broken[5] = f32::NAN;
        assert!(fails(Points { rows: &broken, ..points }, points).contains("training"));
        assert!(Probe::fit(points, points).unwrap().logits(&rows[1..]).is_err());
    }
}
