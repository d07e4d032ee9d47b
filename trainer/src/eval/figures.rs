//! The figures of counterfactuals: means over images of what was measured of each, by one list.

use super::outcome::Outcome;
use crate::metrics::statistics::Mean;
use serde_json::{Map, Value};

/// How a figure is written for people.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// A share as per cent.
    Percent,
    /// A number with so many decimals.
    Decimals(usize),
}

impl Form {
    /// A value.
    pub fn text(self, value: f64) -> String {
        match self {
            Form::Percent => format!("{:.1} %", 100.0 * value),
            Form::Decimals(decimals) => format!("{value:.decimals$}"),
        }
    }

    /// A mean with its standard error, where it has one.
    pub fn with_error(self, mean: &Mean) -> String {
        let error = match (self, mean.standard_error) {
            (_, None) => return self.text(mean.mean),
            (Form::Percent, Some(error)) => format!("{:.1}", 100.0 * error),
            (Form::Decimals(_), Some(error)) => self.text(error),
        };
        format!("{} ± {error}", self.text(mean.mean))
    }
}

/// A figure.
pub struct Figure {
    /// Its key in JSON and tables.
    pub key: &'static str,
    /// What it is, for people.
    pub words: &'static str,
    /// How it is written.
    pub form: Form,
    /// Its value of an image; `None` of one that it is not of.
    pub of: fn(&Outcome) -> Option<f64>,
}

fn yes(answer: bool) -> Option<f64> {
    Some(f64::from(u8::from(answer)))
}

impl Outcome {
    fn reached(&self) -> bool {
        self.after == self.target
    }

    fn changed(&self) -> bool {
        self.after != self.before
    }

    fn correct(&self) -> bool {
        self.before == self.truth
    }
}

macro_rules! figures {
    ($($key:literal, $words:literal, $form:expr, $of:expr;)*) => {
        /// All figures, in the order of tables.
        pub static FIGURES: &[Figure] = &[$(Figure { key: $key, words: $words, form: $form, of: $of }),*];
    };
}

figures! {
    "reached", "target reached", Form::Percent, |o| yes(o.reached());
    "reached_first", "  by the first chain", Form::Percent, |o| yes(o.reached() && o.rung == 0);
    "already", "  of the target before", Form::Percent, |o| yes(o.before == o.target);
    "changed", "decision changed (flip rate)", Form::Percent, |o| yes(o.changed());
    "changed_correct", "  of images classified correctly", Form::Percent, |o| yes(o.changed()).filter(|_| o.correct());
    "changed_incorrect", "  of images classified incorrectly", Form::Percent,
        |o| yes(o.changed()).filter(|_| !o.correct());
    "bounded_kl", "bounded KL, 1 - p(target)", Form::Decimals(3), |o| Some(1.0 - o.probability);
    "mean_change", "mean |Δ| of a value, of its range", Form::Decimals(4), |o| Some(o.change.mean);
    "changed_pixels", "pixels with |Δ| over 0.1", Form::Percent, |o| Some(o.change.changed);
    "visible_pixels", "pixels with |Δ| over 8/255", Form::Percent, |o| Some(o.change.visible);
    "equal_pixels", "pixels equal bit for bit", Form::Percent, |o| Some(o.change.equal);
    "change_at_ground", "mean |Δ| where the original is ground", Form::Decimals(4), |o| o.change.at_ground;
    "change_far", "mean |Δ| far from the object", Form::Decimals(4), |o| o.change.far;
    "parts", "connected parts of |Δ| over 0.1", Form::Decimals(1), |o| Some(o.change.parts as f64);
    "cout", "COUT", Form::Decimals(3), |o| o.cout;
    "cout_correct", "  of images classified correctly", Form::Decimals(3), |o| o.cout.filter(|_| o.correct());
    "chains", "chains", Form::Decimals(2), |o| Some(o.chains as f64);
    "encoder_passes", "encoder passes", Form::Decimals(1), |o| Some(o.passes.encoder as f64);
    "decoder_passes", "decoder passes", Form::Decimals(1), |o| Some(o.passes.decoder as f64);
    "backward_passes", "encoder-backward passes", Form::Decimals(1), |o| Some(o.passes.backward as f64);
    "judge_agrees", "judge says the target", Form::Percent, |o| yes(o.judge?.after == o.target);
    "judge_probability", "  its mean probability of the target", Form::Decimals(3), |o| Some(o.judge?.probability);
    "judge_agreed_before", "  of the originals it says the target", Form::Percent,
        |o| yes(o.judge?.before == o.target);
    "judge_probability_before", "  its mean probability of it", Form::Decimals(3),
        |o| Some(o.judge?.probability_before);
    "judge_correct", "  its accuracy on the originals", Form::Percent, |o| yes(o.judge?.before == o.truth);
}

/// The mean of each figure; `None` where no image has it.
pub fn means<'a>(rows: impl Iterator<Item = &'a Outcome> + Clone) -> Vec<Option<Mean>> {
    FIGURES.iter().map(|figure| Mean::of(rows.clone().filter_map(figure.of))).collect()
}

/// The same by key.
pub fn by_key(means: &[Option<Mean>]) -> Map<String, Value> {
    let one = |(figure, mean): (&Figure, &Option<Mean>)| (figure.key.to_owned(), serde_json::json!(mean));
    FIGURES.iter().zip(means).map(one).collect()
}

/// Place of a figure in [`FIGURES`].
fn place(key: &str) -> Option<usize> {
    FIGURES.iter().position(|figure| figure.key == key)
}

/// One figure of means.
pub fn mean_of<'a>(means: &'a [Option<Mean>], key: &str) -> Option<&'a Mean> {
    means.get(place(key)?)?.as_ref()
}

/// A figure's mean alone for people; a dash where there is none.
pub fn short(means: &[Option<Mean>], key: &str) -> String {
    let form = place(key).map_or(Form::Decimals(3), |place| FIGURES[place].form);
    mean_of(means, key).map_or("–".into(), |mean| form.text(mean.mean))
}
