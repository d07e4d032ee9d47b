//! Parameter groups: which parts of the network a step changes, and how fast.

use crate::error::{Error, Result};
use crate::model::{ParamLayout, ParamRange, Part};
use serde::{Deserialize, Serialize};

/// How fast a part of the network learns. As text a number, or "frozen".
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "RateText", into = "RateText")]
pub enum Rate {
    /// With the learning rate times this factor; 0 is the same as [`Rate::Frozen`].
    Factor(f64),
    /// Not at all: weights, moments and averages keep their bits, gradients are not computed.
    Frozen,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a rate is a factor of the learning rate or \"frozen\"")]
enum RateText {
    Factor(f64),
    Word(Word),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Frozen,
}

impl From<RateText> for Rate {
    fn from(text: RateText) -> Rate {
        match text {
            RateText::Factor(factor) => Rate::Factor(factor),
            RateText::Word(Word::Frozen) => Rate::Frozen,
        }
    }
}

impl From<Rate> for RateText {
    fn from(rate: Rate) -> RateText {
        rate.factor().map_or(RateText::Word(Word::Frozen), RateText::Factor)
    }
}

impl Rate {
    /// What the learning rate is multiplied by; `None`: frozen.
    pub fn factor(self) -> Option<f64> {
        match self {
            Rate::Factor(factor) if factor != 0.0 => Some(factor),
            _ => None,
        }
    }
}

/// The rate of each part of the network; by default all learn with the learning rate itself. A frozen part runs as in
/// inference: without dropout, its running statistics at rest.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::model::Part;
/// use duet::train::{Groups, Rate, TrainOptions};
///
/// // To a new domain: the decoder stays as it is, the encoder learns ten times slower than the classifier.
/// let groups = Groups { encoder: Rate::Factor(0.1), decoder: Rate::Frozen, ..Groups::default() };
/// assert!(groups.trains(Part::Encoder) && !groups.trains(Part::Decoder));
/// assert_eq!(groups.factors(), [0.1, 1.0]);
/// TrainOptions { groups, ..TrainOptions::default() }.validate()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Groups {
    /// Timestep embedding, input blocks and middle block.
    pub encoder: Rate,
    /// Output blocks and the output convolution.
    pub decoder: Rate,
    /// The classifier.
    pub classifier: Rate,
}

impl Default for Groups {
    fn default() -> Self {
        Groups { encoder: Rate::Factor(1.0), decoder: Rate::Factor(1.0), classifier: Rate::Factor(1.0) }
    }
}

impl Groups {
    /// The rate of `part`.
    pub fn rate(&self, part: Part) -> Rate {
        match part {
            Part::Encoder => self.encoder,
            Part::Decoder => self.decoder,
            Part::Classifier => self.classifier,
        }
    }

    /// Whether a step changes `part`.
    pub fn trains(&self, part: Part) -> bool {
        self.rate(part).factor().is_some()
    }

    /// The different factors, in the order of the parts.
    pub fn factors(&self) -> Vec<f64> {
        let mut factors = Vec::new();
        for factor in Part::ALL.into_iter().filter_map(|part| self.rate(part).factor()) {
            if !factors.contains(&factor) {
                factors.push(factor);
            }
        }
        factors
    }

    /// Memory of what is trained, each range with the number of its factor; neighbours of the same factor are one range.
    pub fn ranges(&self, layout: &ParamLayout) -> Vec<(ParamRange, usize)> {
        let factors = self.factors();
        let mut list: Vec<(ParamRange, usize)> = Vec::new();
        for part in Part::ALL {
            let number = self.rate(part).factor().and_then(|own| factors.iter().position(|f| *f == own));
            let Some(number) = number else { continue };
            for range in layout.ranges(part) {
                let joined =
                    list.last().filter(|last| last.1 == number).and_then(|last| last.0.joined(&range));
                match (joined, list.last_mut()) {
                    (Some(both), Some(last)) => last.0 = both,
                    _ => list.push((range, number)),
                }
            }
        }
        list
    }

    /// Checks every rate.
    ///
    /// # Errors
    /// [`Error::Config`] naming the part.
    pub fn validate(&self) -> Result<()> {
        let parts = [
            ("groups.encoder", self.encoder),
            ("groups.decoder", self.decoder),
            ("groups.classifier", self.classifier),
        ];
        for (field, rate) in parts {
            if let Rate::Factor(factor) = rate
                && !(factor.is_finite() && factor >= 0.0)
            {
                let detail = format!("must be a number of at least 0 or \"frozen\", is {factor}");
                return Err(Error::config(field, detail));
            }
        }
        Ok(())
    }
}
