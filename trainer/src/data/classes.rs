//! A data set's classes against a model's: matched by name, and images chosen so that every class has its share.

use super::{Dataset, Split, bad};
use duet::model::{Head, Labels, ModelConfig, UNLABELLED};
use duet::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

impl Split {
    /// Both parts as [`Dataset::for_model`] makes them.
    ///
    /// # Errors
    /// As [`Dataset::for_model`], naming the data's `path`.
    pub fn for_model(self, model: &ModelConfig, path: &Path) -> Result<Split> {
        let part = |data: Dataset| data.for_model(model).map_err(|error| bad(path, error.to_string()));
        let validation = self.validation.map(part).transpose()?;
        Ok(Split { train: part(self.train)?, validation, test: part(self.test)?, ..self })
    }
}

impl Dataset {
    /// The data with the model's names, and each label the number that the class of its name has there
    /// ([`ModelConfig::match_classes`]); the data may have fewer classes. To a head of labels an image of a class has the label of
    /// that name, and no other.
    ///
    /// # Errors
    /// [`Error::Config`] with both lists where a class is not the model's; a label without a name; data of any number of labels
    /// per image that do not have all of the model's; images without a class for a head of labels, to which that would say none.
    pub fn for_model(mut self, model: &ModelConfig) -> Result<Dataset> {
        let classes = model.match_classes(&self.class_names)?;
        match &mut self.labels {
            Labels::Classes(list) => {
                for label in list.iter_mut().filter(|label| **label != UNLABELLED) {
                    let class = classes.get(*label as usize).ok_or_else(|| {
                        let detail = format!("{label} has no name: there are {} classes", classes.len());
                        Error::config("labels", detail)
                    })?;
                    *label = *class as u32;
                }
            }
            Labels::MultiLabel(list) => {
                if classes.len() != model.num_classes {
                    let detail =
                        format!("the data have {} labels, the model {}", classes.len(), model.num_classes);
                    return Err(Error::config("model.num_classes", detail));
                }
                let old = list.clone();
                for (row, old) in list.chunks_exact_mut(classes.len()).zip(old.chunks_exact(classes.len())) {
                    for (target, class) in old.iter().zip(&classes) {
                        row[*class] = *target;
                    }
                }
            }
        }
        if let (Head::MultiLabel, Labels::Classes(list)) = (model.head, &self.labels) {
            if list.contains(&UNLABELLED) {
                return Err(Error::config("labels", "an image without a class has no labels to learn"));
            }
            let targets = list.iter().flat_map(|class| {
                (0..model.num_classes).map(|label| f32::from(u8::from(label == *class as usize)))
            });
            self.labels = Labels::MultiLabel(targets.collect());
        }
        self.class_names = (0..model.num_classes).map(|class| model.class_name(class)).collect();
        Ok(self)
    }

    /// Names of the model's classes that data called as these are do not have at all; none where the data do not fit.
    pub fn absent(&self, model: &ModelConfig) -> Vec<String> {
        let Ok(known) = model.match_classes(&self.class_names) else { return Vec::new() };
        let absent = (0..model.num_classes).filter(|class| !known.contains(class));
        absent.map(|class| model.class_name(class)).collect()
    }

    /// Rows of `count` images (all where there are fewer), ascending, in which each class has about the share it has in the whole:
    /// the first ones of mixed data, as the published sets are, and images from all over data that lie class by class, which begin
    /// with one class alone. The same rows each time.
    pub fn spread(&self, count: usize) -> Vec<usize> {
        let len = self.len();
        let mut rows: Vec<usize> = (0..len).collect();
        if count >= len {
            return rows;
        }
        if let Labels::Classes(classes) = &self.labels {
            if is_mixed(classes, count) {
                rows.truncate(count);
                return rows;
            }
            rows.sort_by_key(|row| classes[*row]);
        }
        // The middle of each of `count` equal stretches.
        let mut chosen: Vec<usize> = (0..count).map(|i| rows[(2 * i + 1) * len / (2 * count)]).collect();
        chosen.sort_unstable();
        chosen
    }
}

/// Whether the first `count` labels could be chance's choice of all: every class is among them that should be, and none more
/// often or more rarely than by four standard deviations.
fn is_mixed(labels: &[u32], count: usize) -> bool {
    let mut counts: BTreeMap<u32, [usize; 2]> = BTreeMap::new();
    for (row, label) in labels.iter().enumerate() {
        let [first, all] = counts.entry(*label).or_default();
        *first += usize::from(row < count);
        *all += 1;
    }
    counts.values().all(|[first, all]| {
        let expected = (all * count) as f64 / labels.len() as f64;
        let far = (*first as f64 - expected).abs() > 1.0 + 4.0 * expected.sqrt();
        !far && (*first > 0 || expected < 1.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str], labels: Labels) -> Dataset {
        let class_names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let images = vec![0; labels.len(names.len())];
        Dataset { images: images.into(), labels, channels: 1, size: 1, class_names }
    }

    fn model(names: &[&str], num_classes: usize) -> ModelConfig {
        let class_names = names.iter().map(|name| (*name).to_owned()).collect();
        ModelConfig { num_classes, class_names, ..ModelConfig::default() }
    }

    #[test]
    fn labels_take_the_numbers_of_the_model_s_names() {
        let model = model(&["Trouser", "Bag", "Boot"], 3);
        let data = named(&["boot", "trouser"], Labels::Classes(vec![0, 1, 0, UNLABELLED]));
        assert_eq!(data.absent(&model), ["Bag"]);
        let data = data.for_model(&model).unwrap();
        assert_eq!(data.labels, Labels::Classes(vec![2, 0, 2, UNLABELLED]));
        assert_eq!(data.class_names, ["Trouser", "Bag", "Boot"]);
        assert_eq!(data.clone().for_model(&model).unwrap(), data, "what is matched stays");
        let foreign = named(&["cat", "Bag"], Labels::Classes(vec![0, 1])).for_model(&model);
        let error = foreign.unwrap_err().to_string();
        assert!(error.contains("no class \"cat\"") && error.contains("\"Boot\""), "{error}");
        let nameless = named(&["Bag"], Labels::Classes(vec![1])).for_model(&model);
        assert!(nameless.unwrap_err().to_string().contains("1 has no name"));

        let several =
            named(&["Boot", "Bag", "Trouser"], Labels::MultiLabel(vec![1.0, 0.5, 0.0, 0.0, 0.0, 1.0]));
        let several = several.for_model(&model).unwrap();
        assert_eq!(several.labels, Labels::MultiLabel(vec![0.0, 0.5, 1.0, 1.0, 0.0, 0.0]));
        let labels = ModelConfig { head: Head::MultiLabel, ..model.clone() };
        let single = named(&["boot", "trouser"], Labels::Classes(vec![0, 1])).for_model(&labels).unwrap();
        assert_eq!(single.labels, Labels::MultiLabel(vec![0.0, 0.0, 1.0, 1.0, 0.0, 0.0]));
        assert_eq!(single.len(), 2);
        let unknown = named(&["boot"], Labels::Classes(vec![UNLABELLED])).for_model(&labels);
        assert!(unknown.unwrap_err().to_string().contains("without a class"));
        let fewer = named(&["Boot", "Bag"], Labels::MultiLabel(vec![1.0, 0.5])).for_model(&model);
        assert!(fewer.unwrap_err().to_string().contains("the data have 2 labels, the model 3"));
    }

    #[test]
    fn a_part_of_the_images_has_every_class_in_its_share() {
        let count = |data: &Dataset, rows: &[usize]| {
            let classes = data.classes().unwrap();
            [0, 1, 2].map(|class| rows.iter().filter(|row| classes[**row] == class).count())
        };
        let names = ["a", "b", "c"];
        // Class by class, as folders are read: 60 of a, 30 of b, 10 of c.
        let sorted: Vec<u32> = (0..100).map(|i| if i < 60 { 0 } else { u32::from(i >= 90) + 1 }).collect();
        let sorted = named(&names, Labels::Classes(sorted));
        let rows = sorted.spread(10);
        assert_eq!(count(&sorted, &rows), [6, 3, 1]);
        assert!(rows.is_sorted() && sorted.spread(10) == rows);
        // Begun with too many of a class, though all are there.
        let begun: Vec<u32> = (0..1000).map(|i| if i < 80 { 0 } else { 1 + i % 2 }).collect();
        let begun = named(&names, Labels::Classes(begun));
        assert_eq!(count(&begun, &begun.spread(100)), [8, 46, 46]);
        // Mixed data: those before all others, as many know them by.
        let turns = named(&names, Labels::Classes((0..99).map(|i| i % 3).collect()));
        assert_eq!(turns.spread(33), (0..33).collect::<Vec<_>>());
        assert_eq!(sorted.spread(100), (0..100).collect::<Vec<_>>());
        assert_eq!(sorted.spread(1000).len(), 100);
        assert!(sorted.spread(0).is_empty() && sorted.spread(99).windows(2).all(|two| two[0] < two[1]));
        let several = named(&["a"], Labels::MultiLabel(vec![0.0; 8]));
        assert_eq!(several.spread(4), [1, 3, 5, 7]);
    }
}
