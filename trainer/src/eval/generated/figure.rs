//! Figures with the protocols they were measured by.

use serde::{Deserialize, Serialize};

/// A number that others can check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The metric, as the command line calls it.
    pub metric: String,
    /// What the number is called, after its features.
    pub name: String,
    /// The number.
    pub value: f64,
    /// How far it spreads over what the protocol says (splits, subsets, images); `null` where nothing does.
    pub deviation: Option<f64>,
    /// How it was measured: features, what they read, range, real and generated images, seeds, splits, sampler.
    pub protocol: String,
}

impl Figure {
    /// As lines to read: name and number, then the protocol.
    pub fn lines(&self) -> [String; 2] {
        let spread = self.deviation.map_or(String::new(), |deviation| format!(" ± {}", short(deviation)));
        [format!("  {:<42} {}{spread}", self.name, short(self.value)), format!("      {}", self.protocol)]
    }
}

/// A number in five digits, or as many as it takes.
fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 || (size > 0.0 && size < 1e-3) { format!("{value:.4e}") } else { format!("{value:.4}") }
}

/// Which features a figure is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// [`crate::eval::features::Features::name`].
    pub features: String,
    /// Whether figures measured with them go by their plain names.
    pub standard: bool,
}

impl Named {
    /// A figure's name with these features.
    pub fn figure(&self, name: &str) -> String {
        if self.standard { name.to_owned() } else { format!("{}-feature {name}", self.features) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_named_after_its_features() {
        let own = Named { features: "own".into(), standard: false };
        let inception = Named { features: "inception".into(), standard: true };
        assert_eq!((own.figure("FID"), inception.figure("FID")), ("own-feature FID".into(), "FID".into()));
        let figure = Figure {
            metric: "kid".into(),
            name: own.figure("KID"),
            value: 0.012_345_6,
            deviation: Some(0.000_012),
            protocol: "how".into(),
        };
        let [line, protocol] = figure.lines();
        assert!(line.contains("own-feature KID") && line.ends_with("0.0123 ± 1.2000e-5"), "{line}");
        assert_eq!(protocol.trim(), "how");
    }
}
