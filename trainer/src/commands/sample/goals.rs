//! What the images of each row are to be.

use crate::commands::signed::{parts, signed};
use duet::model::{Head, ModelConfig};
use duet::{Error, Result};
use serde::{Deserialize, Serialize};

/// What an image is to be: shares of classes, or what labels are to be, from 0 to 1. Of labels those that are not named are left to the
/// model.
pub type Goal = Vec<(usize, f32)>;

/// A row of images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What stands beside it.
    pub name: String,
    /// What its first image is to be, and its last one.
    pub ends: [Goal; 2],
}

impl Row {
    fn of(name: String, goal: Goal) -> Row {
        Row { name, ends: [goal.clone(), goal] }
    }

    /// Whether its images are to be different things.
    pub fn changes(&self) -> bool {
        self.ends[0] != self.ends[1]
    }

    /// The class that all of its images are to be, where that is one and nothing else.
    pub fn class(&self) -> Option<usize> {
        match self.ends[0].as_slice() {
            [(class, share)] if *share == 1.0 && !self.changes() => Some(*class),
            _ => None,
        }
    }

    /// What the image is to be that lies at `share`, 0 to 1, of the way through the row.
    pub fn at(&self, share: f32) -> Goal {
        let mut goal = Goal::new();
        for (of_end, end) in [1.0 - share, share].into_iter().zip(&self.ends) {
            for (class, wanted) in end {
                match goal.iter_mut().find(|(there, _)| there == class) {
                    Some((_, sum)) => *sum += of_end * wanted,
                    None => goal.push((*class, of_end * wanted)),
                }
            }
        }
        goal
    }

    /// The classes or labels that it is about, as they are named.
    pub fn about(&self) -> Vec<usize> {
        let mut classes: Vec<usize> = self.ends.iter().flatten().map(|(class, _)| *class).collect();
        let mut seen = Vec::new();
        classes.retain(|class| {
            !seen.contains(class) && {
                seen.push(*class);
                true
            }
        });
        classes
    }
}

/// The rows of these classes, mixtures and ways from one class to another.
///
/// # Errors
/// Classes that there are not, shares that are none.
pub fn rows(
    config: &ModelConfig,
    classes: &[String],
    mixtures: &[String],
    between: &[String],
) -> Result<Vec<Row>> {
    let classes = match classes.is_empty() {
        true if mixtures.is_empty() && between.is_empty() => (0..config.num_classes).collect(),
        _ => config.find_classes(classes)?,
    };
    let mut rows: Vec<Row> =
        classes.into_iter().map(|class| Row::of(config.class_name(class), vec![(class, 1.0)])).collect();
    for text in mixtures {
        rows.push(Row::of(text.clone(), mixture(config, text)?));
    }
    for text in between {
        rows.push(way(config, text)?);
    }
    Ok(rows)
}

/// A class and its share: the whole text where that is a class, for names may hold equals signs.
fn part(config: &ModelConfig, text: &str) -> Result<(usize, f32)> {
    let error = match config.find_class(text.trim()) {
        Ok(class) => return Ok((class, 1.0)),
        Err(error) => error,
    };
    if let Some((name, share)) = text.rsplit_once('=') {
        let parsed = share.trim().parse::<f32>().ok().filter(|share| (0.0..=1.0).contains(share));
        let share = parsed.ok_or_else(|| {
            Error::config("toward", format!("a share must be from 0 to 1, of {name:?} it is {share:?}"))
        })?;
        return Ok((config.find_class(name.trim())?, share));
    }
    match signed(text) {
        Some((name, present)) if config.head == Head::MultiLabel => {
            Ok((config.find_class(name)?, if present { 1.0 } else { 0.0 }))
        }
        _ => Err(error),
    }
}

fn mixture(config: &ModelConfig, text: &str) -> Result<Goal> {
    let mut goal =
        parts(config, text).into_iter().map(|text| part(config, text)).collect::<Result<Goal>>()?;
    for (at, (class, _)) in goal.iter().enumerate() {
        if goal[..at].iter().any(|(other, _)| other == class) {
            return Err(Error::config(
                "toward",
                format!("{text:?} names {} twice", config.class_name(*class)),
            ));
        }
    }
    if config.head == Head::Multiclass {
        let sum: f32 = goal.iter().map(|(_, share)| share).sum();
        if sum <= 0.0 {
            return Err(Error::config("toward", format!("{text:?} has no share above 0")));
        }
        goal.iter_mut().for_each(|(_, share)| *share /= sum);
    }
    Ok(goal)
}

fn way(config: &ModelConfig, text: &str) -> Result<Row> {
    let found = config.find_classes(&[text])?;
    let &[from, to] = found.as_slice() else {
        let detail = format!("must name two classes, \"FROM,TO\"; {text:?} names {}", found.len());
        return Err(Error::config("between", detail));
    };
    if from == to {
        return Err(Error::config("between", format!("{text:?} names one class twice")));
    }
    let name = format!("{} to {}", config.class_name(from), config.class_name(to));
    // Of labels the one is to go where the other comes; of classes the shares of all others are 0 anyway.
    Ok(Row { name, ends: [vec![(from, 1.0), (to, 0.0)], vec![(from, 0.0), (to, 1.0)]] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(head: Head) -> ModelConfig {
        let class_names = ["Bag", "Coat", "a=1, or not"].map(String::from).to_vec();
        ModelConfig { num_classes: 3, class_names, head, ..ModelConfig::default() }
    }

    fn of(head: Head, mixtures: &[&str], between: &[&str]) -> Result<Vec<Row>> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        rows(&config(head), &[], &owned(mixtures), &owned(between))
    }

    #[test]
    fn rows_are_classes_unless_something_else_is_said() {
        let all = of(Head::Multiclass, &[], &[]).unwrap();
        assert_eq!(all.iter().map(Row::class).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
        let mixed = of(Head::Multiclass, &["coat=0.6,0=0.2", "a=1, or not"], &["bag,coat"]).unwrap();
        assert_eq!(mixed.len(), 3);
        let [(1, coat), (0, bag)] = mixed[0].ends[0][..] else { panic!("{mixed:?}") };
        assert!((coat - 0.75).abs() < 1e-6 && (bag - 0.25).abs() < 1e-6, "divided by their sum");
        assert_eq!((mixed[1].class(), mixed[0].class()), (Some(2), None), "a name may hold anything");
        assert!(mixed[2].changes() && mixed[2].class().is_none());
        assert_eq!(mixed[2].at(0.25), [(0, 0.75), (1, 0.25)]);
        assert_eq!((mixed[2].about(), mixed[2].name.as_str()), (vec![0, 1], "Bag to Coat"));
    }

    #[test]
    fn labels_keep_what_is_said_of_them() {
        let rows = of(Head::MultiLabel, &["bag,coat=0", "+coat,-bag", "bag=0.5"], &["coat,bag"]).unwrap();
        assert_eq!(rows[0].at(0.5), [(0, 1.0), (1, 0.0)]);
        assert_eq!(rows[1].ends[0], [(1, 1.0), (0, 0.0)]);
        assert_eq!(rows[2].ends[0], [(0, 0.5)], "not divided by anything");
        assert_eq!(rows[3].at(1.0), [(1, 0.0), (0, 1.0)]);
    }

    #[test]
    fn what_is_no_mixture_is_named() {
        for (mixtures, between, words) in [
            (&["coat=2"][..], &[][..], &["toward", "\"coat\"", "\"2\""][..]),
            (&["coat=much"], &[], &["toward", "\"much\""]),
            (&["coat=nan"], &[], &["toward", "0 to 1"]),
            (&["coat=0"], &[], &["toward", "no share"]),
            (&["coat,1=0.5"], &[], &["toward", "Coat twice"]),
            (&["hat=1"], &[], &["\"hat\"", "Bag"]),
            (&["-coat"], &[], &["\"-coat\"", "Bag"]),
            (&[], &["coat"], &["between", "names 1"]),
            (&[], &["coat,coat"], &["between", "twice"]),
            (&[], &["coat,bag,2"], &["between", "names 3"]),
        ] {
            let error = of(Head::Multiclass, mixtures, between).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
        }
    }
}
