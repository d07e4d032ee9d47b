//! Which images are held out: whole groups where those are known, by contents where they are not.

use super::decode::share;
use super::{DataSpec, Dataset, Split, Summary, bad};
use duet::{Error, Result};
use regex_lite::Regex;
use std::collections::BTreeMap;

/// Makes the choice of what settings are chosen by another one than that of what is tested on.
const VALIDATION: u64 = u64::from_be_bytes(*b"validate");
/// Names that an error gives.
const MOST_NAMED: usize = 3;

/// What the files of a format hold, before images to choose settings by are taken from those to train on.
#[derive(Debug, PartialEq)]
pub struct Parts {
    /// To train on.
    pub train: Dataset,
    /// To choose settings by, where the files say which.
    pub validation: Option<Dataset>,
    /// To test on.
    pub test: Dataset,
    /// The group of each training image; none where groups are not known.
    pub groups: Vec<String>,
    /// Pixels a side that the images were resized to, where the ground is around them.
    pub resize_to: Option<usize>,
    /// How the files were understood.
    pub summary: Summary,
}

impl Parts {
    /// Two parts and nothing else that is known.
    pub fn new(train: Dataset, test: Dataset, summary: Summary) -> Parts {
        Parts { train, validation: None, test, groups: Vec::new(), resize_to: None, summary }
    }

    /// The split, with a part of the training images to choose settings by where `spec` asks for one.
    ///
    /// # Errors
    /// A share that leaves one of the two parts empty.
    pub fn into_split(mut self, spec: &DataSpec) -> Result<Split> {
        if spec.validation_share > 0.0 && self.validation.is_none() {
            let seed = spec.split_seed ^ VALIDATION;
            let held_out = if self.groups.is_empty() {
                self.train.each().map(|image| share(image, seed) < spec.validation_share).collect()
            } else {
                hold_out(&self.groups, spec.validation_share, seed)
                    .map_err(|detail| bad(&spec.path, detail))?
            };
            let validation = held(&mut self.train, &held_out)?;
            if self.train.is_empty() || validation.is_empty() {
                let detail = format!(
                    "has too few training images for a `validation_share` of {}",
                    spec.validation_share
                );
                return Err(bad(&spec.path, detail));
            }
            self.validation = Some(validation);
        }
        let Parts { train, validation, test, resize_to, summary, .. } = self;
        let mut pictures = spec.pictures();
        pictures.resize_to = pictures.resize_to.or(resize_to);
        Ok(Split { train, validation, test, pictures, summary })
    }
}

/// Moves the images held out into a set of their own, keeping the order of both.
///
/// # Errors
/// As [`duet::model::Labels::pick`].
pub fn held(data: &mut Dataset, held_out: &[bool]) -> Result<Dataset> {
    let names = data.class_names.len();
    let rows = |wanted: bool| -> Vec<usize> {
        (0..held_out.len()).filter(|row| held_out.get(*row) == Some(&wanted)).collect()
    };
    let [kept, taken] = [data.labels.pick(&rows(false), names)?, data.labels.pick(&rows(true), names)?];
    let images = data.images.take_out(held_out);
    data.labels = kept;
    Ok(Dataset { images, labels: taken, class_names: data.class_names.clone(), ..*data })
}

/// For each image, by its group, whether it is held out: groups in an order that the seed gives, each taken where the share of the
/// images is not exceeded by it; where none is that small, the smallest.
///
/// # Errors
/// In words: one group alone, which cannot be on two sides.
pub fn hold_out(groups: &[String], part: f64, seed: u64) -> std::result::Result<Vec<bool>, String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    groups.iter().for_each(|group| *counts.entry(group).or_default() += 1);
    if let (1, Some(only)) = (counts.len(), groups.first()) {
        return Err(format!("all images are of one group, {only:?}: none can be held out"));
    }
    let mut order: Vec<(f64, &str, usize)> =
        counts.iter().map(|(group, count)| (share(group.as_bytes(), seed), *group, *count)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let most = part * groups.len() as f64;
    let mut taken = BTreeMap::new();
    for (_, group, count) in &order {
        if (taken.values().sum::<usize>() + count) as f64 <= most {
            taken.insert(*group, *count);
        }
    }
    if taken.is_empty() && part > 0.0 {
        taken.extend(
            order.iter().min_by_key(|(_, _, count)| *count).map(|(_, group, count)| (*group, *count)),
        );
    }
    Ok(groups.iter().map(|group| taken.contains_key(group.as_str())).collect())
}

impl DataSpec {
    /// The pattern of `group`.
    ///
    /// # Errors
    /// [`Error::Config`] for one that is none, or has no group in parentheses.
    pub(super) fn group_pattern(&self) -> Result<Option<Regex>> {
        let Some(text) = &self.group else { return Ok(None) };
        let wrong = |detail: String| Error::config("data.group", detail);
        let pattern = Regex::new(text).map_err(|e| wrong(format!("{text:?} is no pattern: {e}")))?;
        if pattern.captures_len() < 2 {
            let detail =
                format!("{text:?} has no parentheses around what tells the group, as in \"patient([0-9]+)\"");
            return Err(wrong(detail));
        }
        Ok(Some(pattern))
    }

    /// The group of each picture, by its name in the data's folder, with `/` between folders; `None` where no pattern is given.
    ///
    /// # Errors
    /// A bad pattern; pictures whose names it does not fit: which group they are of must be known.
    pub(super) fn groups(&self, names: &[String]) -> Result<Option<Vec<String>>> {
        let Some(pattern) = self.group_pattern()? else { return Ok(None) };
        let of = |name: &String| Some(pattern.captures(name)?.get(1)?.as_str().to_owned());
        let found: Vec<Option<String>> = names.iter().map(of).collect();
        let unknown: Vec<&str> = names
            .iter()
            .zip(&found)
            .filter(|(_, group)| group.is_none())
            .map(|(name, _)| name.as_str())
            .collect();
        if !unknown.is_empty() {
            let named = unknown.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(", ");
            let more = unknown.len().saturating_sub(MOST_NAMED);
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            let detail = format!("`group` = {:?} finds nothing in {named}{rest}", pattern.as_str());
            return Err(bad(&self.path, detail));
        }
        Ok(Some(found.into_iter().flatten().collect()))
    }
}

/// Warns of a split by images whose groups nobody told.
pub fn warn_of_unknown_groups(summary: &mut Summary, how: &str) {
    summary.warnings.push(format!(
        "images to test on are chosen one by one, for which of them belong together (of one patient, one scene) is not known: \
         accuracy may be too good{how}"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::model::Labels;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn names(groups: &[(&str, usize)]) -> Vec<String> {
        groups.iter().flat_map(|(group, count)| vec![(*group).to_owned(); *count]).collect()
    }

    #[test]
    fn whole_groups_are_held_out_up_to_the_share() {
        let groups: Vec<String> = (0..1000).map(|i| format!("patient {}", i * i % 97)).collect();
        let held_out = hold_out(&groups, 0.2, 1).unwrap();
        let of = |side: bool| -> BTreeSet<&String> {
            groups.iter().zip(&held_out).filter(|(_, held)| **held == side).map(|(group, _)| group).collect()
        };
        assert!(of(true).is_disjoint(&of(false)));
        let count = held_out.iter().filter(|held| **held).count();
        assert!((170..=200).contains(&count), "{count}");
        assert_eq!(held_out, hold_out(&groups, 0.2, 1).unwrap());
        assert_ne!(held_out, hold_out(&groups, 0.2, 2).unwrap());
        // The order of the files does not matter.
        let reversed: Vec<String> = groups.iter().rev().cloned().collect();
        let mut back = hold_out(&reversed, 0.2, 1).unwrap();
        back.reverse();
        assert_eq!(back, held_out);
        // Where every group is too large, the smallest one.
        let large = names(&[("a", 5), ("b", 3), ("c", 4)]);
        assert_eq!(hold_out(&large, 0.1, 1).unwrap().iter().position(|held| *held), Some(5));
        assert!(hold_out(&names(&[("a", 9)]), 0.1, 1).unwrap_err().contains("one group, \"a\""));
        assert!(!hold_out(&large, 0.0, 1).unwrap().contains(&true));
    }

    fn data(count: usize) -> Dataset {
        let images = (0..count).map(|i| i as u8).collect();
        let labels = Labels::Classes((0..count as u32).map(|i| i % 2).collect());
        Dataset { images, labels, channels: 1, size: 1, class_names: vec!["a".into(), "b".into()] }
    }

    #[test]
    fn images_to_choose_settings_by_come_from_those_to_train_on() {
        let spec = DataSpec { validation_share: 0.25, ..DataSpec::of("idx", Path::new("data")) };
        let split = |groups: Vec<String>, spec: &DataSpec| {
            let parts = Parts::new(data(200), data(3), Summary::default());
            Parts { groups, ..parts }.into_split(spec).unwrap()
        };
        let by_contents = split(Vec::new(), &spec);
        let validation = by_contents.validation.as_ref().unwrap();
        assert!((30..70).contains(&validation.len()), "{}", validation.len());
        assert_eq!(validation.len() + by_contents.train.len(), 200);
        assert_eq!(by_contents.test, data(3), "what is tested on stays");
        for (level, class) in validation.images.levels().iter().zip(validation.classes().unwrap()) {
            assert_eq!(u32::from(level % 2), *class);
            assert!(!by_contents.train.images.levels().contains(level));
        }
        let grouped = split((0..200).map(|i| (i / 20).to_string()).collect(), &spec);
        let validation = grouped.validation.unwrap();
        assert_eq!(validation.len(), 40, "two of ten groups");
        assert!(
            validation
                .images
                .levels()
                .chunks(20)
                .all(|group| group[0] % 20 == 0 && group[19] == group[0] + 19)
        );
        assert!(split(Vec::new(), &DataSpec { validation_share: 0.0, ..spec.clone() }).validation.is_none());
        let few = Parts::new(data(1), data(3), Summary::default()).into_split(&spec);
        assert!(few.unwrap_err().to_string().contains("`validation_share` of 0.25"));
    }

    #[test]
    fn groups_come_from_names_and_every_name_must_tell() {
        let spec =
            |group: &str| DataSpec { group: Some(group.into()), ..DataSpec::of("folder", Path::new("data")) };
        let files = ["a/p1_x.png", "b/p12_y.png"].map(str::to_owned);
        assert_eq!(spec("/p([0-9]+)_").groups(&files).unwrap().unwrap(), ["1", "12"]);
        assert_eq!(DataSpec::of("folder", Path::new("data")).groups(&files).unwrap(), None);
        let error = spec("p(1)_").groups(&files).unwrap_err().to_string();
        assert!(error.contains("finds nothing in b/p12_y.png"), "{error}");
        for (pattern, word) in [("p[0-9]+", "no parentheses"), ("p(", "is no pattern")] {
            let error = spec(pattern).validate().unwrap_err().to_string();
            assert!(error.contains("data.group") && error.contains(word), "{error}");
        }
    }
}
