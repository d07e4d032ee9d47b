//! Which numbers of the parameters' layout: the weights themselves, their average, what training keeps beside them.

/// Which of a model's weights are used.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::model::WeightSet;
/// use duet::{Duet, LoadOptions};
///
/// // A checkpoint of training has both; the shipped file was exported of one set, and the other is missed at once.
/// let path = "web/demo/public/model.safetensors";
/// let options = LoadOptions { weights: Some(WeightSet::Averaged), ..LoadOptions::default() };
/// assert!(Duet::load_with(path, &options).await.is_err());
/// let duet = Duet::load(path).await?;
/// assert!(duet.weights().has(WeightSet::Raw) && !duet.weights().has(WeightSet::Averaged));
/// # Ok(()) }) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WeightSet {
    /// As trained; of a file exported for inference the only ones there are.
    #[default]
    Raw,
    /// Their exponential moving average.
    Averaged,
}

/// A family of buffers, one a chunk, all laid out like the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParamSet {
    /// The weights.
    Weights,
    /// Their exponential moving average.
    Average,
    /// AdamW's first moments.
    FirstMoment,
    /// AdamW's second moments.
    SecondMoment,
    /// Gradients of one backward pass.
    Gradient,
    /// Gradients summed over micro-batches.
    GradientSum,
}

impl ParamSet {
    /// All of them.
    pub const ALL: [ParamSet; 6] = [
        ParamSet::Weights,
        ParamSet::Average,
        ParamSet::FirstMoment,
        ParamSet::SecondMoment,
        ParamSet::Gradient,
        ParamSet::GradientSum,
    ];

    /// Name of the buffer of one chunk.
    pub fn buffer(self, chunk: usize) -> String {
        let name = match self {
            ParamSet::Weights => "params",
            ParamSet::Average => "ema",
            ParamSet::FirstMoment => "m",
            ParamSet::SecondMoment => "v",
            ParamSet::Gradient => "grads",
            ParamSet::GradientSum => "sums",
        };
        format!("{name}.{chunk}")
    }

    /// What it holds, in words.
    pub fn description(self) -> &'static str {
        match self {
            ParamSet::Weights => "weights",
            ParamSet::Average => "moving average of the weights",
            ParamSet::FirstMoment => "first moments",
            ParamSet::SecondMoment => "second moments",
            ParamSet::Gradient => "gradients",
            ParamSet::GradientSum => "sum of gradients",
        }
    }
}

impl From<WeightSet> for ParamSet {
    fn from(set: WeightSet) -> ParamSet {
        match set {
            WeightSet::Raw => ParamSet::Weights,
            WeightSet::Averaged => ParamSet::Average,
        }
    }
}
