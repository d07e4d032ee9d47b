//! What is to be said of the pictures a command is given: how like the model's training data they are, what was cut off, and
//! whether they lie on the opposite of the model's ground.

use crate::cli::{PictureArgs, Reading};
use crate::data::{Prepared, load_image};
use crate::io::output::tell;
use crate::io::session::Session;
use duet::picture::{Fit, Preparation};
use duet::typicality::Typicality;
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// Share of a picture whose loss is worth a word.
const MUCH: f64 = 0.1;

/// What a picture becomes for a model, unless the command line says otherwise.
pub fn preparation(session: &Session, options: &Reading) -> Preparation {
    let own = session.checkpoint.preparation();
    Preparation { invert: options.invert, fit: options.fit.unwrap_or(own.fit), ..own }
}

/// A grey picture as the share \[H,W\] by which each pixel may change, fitted as `images` are. What is transparent may not.
///
/// # Errors
/// As [`load_image`].
pub fn load_mask(path: &Path, images: &Preparation) -> Result<Vec<f32>> {
    let mask = load_image(path, &Preparation { channels: 1, ground: 0, invert: false, ..*images })?;
    Ok(mask.values().map(|v| (0.5 * (v + 1.0)).clamp(0.0, 1.0)).collect())
}

/// What is to be said of one picture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Remarks {
    /// Grey level of the ground it was laid on, and whether it was inverted.
    ground: u8,
    invert: bool,
    cut_off: f64,
    opposite_ground: bool,
    /// How like the training data it is; `None` where the model's file has nothing to compare with.
    pub typicality: Option<Typicality>,
}

impl Remarks {
    /// Of each of the pictures, some of `all`, as they were prepared.
    ///
    /// # Errors
    /// Device errors.
    pub fn of(
        session: &Session,
        options: &PictureArgs,
        preparation: &Preparation,
        pictures: &[Prepared],
        all: usize,
    ) -> Result<Vec<Remarks>> {
        let images: Vec<f32> = pictures.iter().flat_map(Prepared::values).collect();
        let typicality = if options.no_typicality { None } else { session.typicality(&images, all)? };
        let remarks = |(i, picture): (usize, &Prepared)| Remarks {
            ground: preparation.ground,
            invert: preparation.invert,
            cut_off: picture.cut_off,
            opposite_ground: preparation.opposite_ground(&picture.levels),
            typicality: typicality.as_ref().and_then(|all| all.get(i)).copied(),
        };
        Ok(pictures.iter().enumerate().map(remarks).collect())
    }

    /// Says on stderr what the user may want to do otherwise.
    pub fn hint(&self, path: &Path) {
        for hint in self.hints() {
            tell!("duet: {}: {hint}", path.display());
        }
    }

    fn hints(&self) -> Vec<String> {
        let mut hints = Vec::new();
        // Pictures like the training data are right as they are, whatever their corners.
        if self.opposite_ground && self.typicality.is_none_or(|t| t.unlike) {
            let &Remarks { ground, invert, .. } = self;
            let corners = if ground < 128 { "light" } else { "dark" };
            let ground = match ground {
                0 => "black".to_owned(),
                255 => "white".to_owned(),
                level => format!("of grey level {level}"),
            };
            let option = if invert { "try without --invert" } else { "try --invert" };
            hints.push(format!("the corners are {corners}, the model's ground is {ground}: {option}"));
        }
        if self.cut_off >= MUCH {
            let (share, keeps) = (100.0 * self.cut_off, Fit::Pad.name());
            hints.push(format!("{share:.0} % of the picture was cut off; --fit {keeps} keeps all"));
        }
        hints
    }

    /// What follows an answer in text: nothing, or that the picture is unlike the training data.
    pub fn words(&self) -> String {
        self.typicality.filter(|t| t.unlike).map_or(String::new(), |t| format!(" — {t}"))
    }

    /// The same as fields of a picture's JSON object.
    ///
    /// # Errors
    /// [`Error::Config`] where `row` is no object.
    pub fn add_to(&self, row: &mut Value) -> Result<()> {
        let fields = row.as_object_mut().ok_or_else(|| Error::config("json", "no object"))?;
        let typicality = self.typicality.map(|t| json!({"percentile": t.percentile, "unlike": t.unlike}));
        fields.insert("typicality".into(), json!(typicality));
        fields.insert("cut_off".into(), json!(self.cut_off));
        fields.insert("opposite_ground".into(), json!(self.opposite_ground));
        Ok(())
    }
}

/// Says, once and to who asks for it (`--verbose`), that nothing can be said of how like its training data pictures are.
pub fn hint_unknown(session: &Session, options: &PictureArgs) {
    let may = !session.checkpoint.classifier_only;
    if may && session.reference().is_none() && !options.no_typicality {
        tracing::debug!(
            "the model's file has no statistics of its training data: whether a picture is unlike them is not known \
             (`duet export --recipe` stores them)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_say_what_to_try() {
        let remarks =
            Remarks { ground: 0, invert: false, cut_off: 0.05, opposite_ground: true, typicality: None };
        assert_eq!(remarks.hints(), ["the corners are light, the model's ground is black: try --invert"]);
        let remarks = Remarks { invert: true, ground: 255, cut_off: 0.3, ..remarks };
        assert_eq!(
            remarks.hints(),
            [
                "the corners are dark, the model's ground is white: try without --invert",
                "30 % of the picture was cut off; --fit pad keeps all",
            ]
        );
        let like = Some(Typicality { percentile: 40.0, unlike: false });
        let remarks = Remarks { cut_off: 0.0, typicality: like, ..remarks };
        assert!(remarks.hints().is_empty() && remarks.words().is_empty(), "light corners like the data's");
        let unlike = Some(Typicality { percentile: 99.95, unlike: true });
        let remarks = Remarks { typicality: unlike, ..remarks };
        assert_eq!(remarks.hints().len(), 1);
        assert_eq!(remarks.words(), " — unlike the training data (beyond 99.9 % of it)");
        let mut row = json!({"image": "a.png"});
        remarks.add_to(&mut row).unwrap();
        assert_eq!(row["typicality"], json!({"percentile": 99.95, "unlike": true}));
        let mut row = json!({});
        Remarks { typicality: None, ..remarks }.add_to(&mut row).unwrap();
        assert!(row["typicality"].is_null() && row["opposite_ground"] == true && row["cut_off"] == 0.0);
    }
}
