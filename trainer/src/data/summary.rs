//! What a data set holds, counted, and what was passed over.

use super::Dataset;
use duet::model::Labels;
use std::collections::BTreeMap;

/// Classes that are named one by one in the line.
const MOST_NAMED: usize = 20;

/// Why a file of a folder is not in the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It is no picture.
    NoPicture,
    /// It is a picture in a format that is not read.
    Format,
    /// It lies beside the folders of classes.
    NoClass,
    /// It is no file: a pipe, a device.
    NoFile,
}

impl Why {
    fn words(self, files: usize) -> &'static str {
        match (self, files) {
            (Why::NoPicture, 1) => "file that is no picture",
            (Why::NoPicture, _) => "files that are no pictures",
            (Why::Format, 1) => "picture in a format that is not read",
            (Why::Format, _) => "pictures in formats that are not read",
            (Why::NoClass, 1) => "file beside the class folders",
            (Why::NoClass, _) => "files beside the class folders",
            (Why::NoFile, 1) => "pipe or device",
            (Why::NoFile, _) => "pipes and devices",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Why::NoPicture => "no picture",
            Why::Format => "format not read",
            Why::NoClass => "in no class folder",
            Why::NoFile => "no file",
        }
    }
}

/// Files that were passed over, by reason and ending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassedOver(BTreeMap<(Why, String), usize>);

impl PassedOver {
    /// Counts a file with an ending, given without the dot.
    pub fn add(&mut self, why: Why, ending: String) {
        *self.0.entry((why, ending)).or_default() += 1;
    }

    /// Counts those of another folder, too.
    pub fn join(&mut self, other: PassedOver) {
        for (of, files) in other.0 {
            *self.0.entry(of).or_default() += files;
        }
    }

    /// "3 files that are no pictures (2 .txt, 1 .csv)"; empty where there are none.
    pub fn words(&self) -> String {
        let mut reasons: BTreeMap<Why, Vec<(&str, usize)>> = BTreeMap::new();
        for ((why, ending), files) in &self.0 {
            reasons.entry(*why).or_default().push((ending, *files));
        }
        let words: Vec<String> = reasons
            .into_iter()
            .map(|(why, mut endings)| {
                let files = endings.iter().map(|(_, files)| files).sum();
                endings.sort_by_key(|(_, files)| std::cmp::Reverse(*files));
                let endings: Vec<String> = endings
                    .into_iter()
                    .map(|(ending, files)| match ending {
                        "" => format!("{files} without ending"),
                        _ => format!("{files} .{ending}"),
                    })
                    .collect();
                format!("{files} {} ({})", why.words(files), endings.join(", "))
            })
            .collect();
        words.join(", ")
    }
}

/// Images of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Class {
    name: String,
    train: usize,
    validation: usize,
    test: usize,
}

/// What a data set holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    images: usize,
    validation: usize,
    test: usize,
    classes: Vec<Class>,
    /// Whether an image has any number of labels instead of a class.
    labels: bool,
    /// What was passed over.
    pub passed_over: PassedOver,
    /// How the data were understood, where there was a choice.
    pub notes: Vec<String>,
    /// What is likely to be a mistake.
    pub warnings: Vec<String>,
}

impl Summary {
    /// Notes how images were understood, once where it was so of several files.
    pub(super) fn note_once(&mut self, note: Option<String>) {
        self.notes.extend(note.filter(|note| !self.notes.contains(note)));
    }

    /// Counts images and classes, and warns of classes without any.
    pub(super) fn count(&mut self, train: &Dataset, validation: Option<&Dataset>, test: &Dataset) {
        let counts = [train, test].map(by_class);
        let chosen_by = validation.map_or_else(|| vec![0; train.class_names.len()], by_class);
        self.labels = matches!(train.labels, Labels::MultiLabel(_));
        self.validation = validation.map_or(0, Dataset::len);
        self.images = train.len() + self.validation + test.len();
        self.test = test.len();
        self.classes = (train.class_names.iter().zip(chosen_by).enumerate())
            .map(|(i, (name, validation))| Class {
                name: name.clone(),
                train: counts[0][i],
                validation,
                test: counts[1][i],
            })
            .collect();
        let what = if self.labels { "label" } else { "class" };
        for class in &self.classes {
            let lacks = match (class.train, class.test) {
                (0, 0) => "images",
                (0, _) => "training images",
                (_, 0) => "test images",
                _ => continue,
            };
            self.warnings.push(format!("the {what} {:?} has no {lacks}", class.name));
        }
    }

    /// One line to read, or for machines as JSON.
    pub fn text(&self, json: bool) -> String {
        if json { serde_json::json!({ "data": self.json() }).to_string() } else { self.line() }
    }

    fn line(&self) -> String {
        let images = |count: usize| if count == 1 { "image" } else { "images" };
        let what = if self.labels { "labels" } else { "classes" };
        let mut named: Vec<String> = self
            .classes
            .iter()
            .take(MOST_NAMED)
            .map(|class| format!("{} {}", class.name, class.train + class.validation + class.test))
            .collect();
        if self.classes.len() > MOST_NAMED {
            named.push("…".into());
        }
        let mut line = format!(
            "data: {} {} of {} {what} ({}), {} of them to test on",
            self.images,
            images(self.images),
            self.classes.len(),
            named.join(", "),
            self.test
        );
        if self.validation > 0 {
            line.push_str(&format!(", {} to choose settings by", self.validation));
        }
        for note in &self.notes {
            line.push_str("; ");
            line.push_str(note);
        }
        let passed_over = self.passed_over.words();
        if !passed_over.is_empty() {
            line.push_str("; passed over ");
            line.push_str(&passed_over);
        }
        line
    }

    /// The same as JSON.
    pub fn json(&self) -> serde_json::Value {
        let classes: Vec<serde_json::Value> = self
            .classes
            .iter()
            .map(|class| {
                serde_json::json!({
                    "name": class.name, "train": class.train, "validation": class.validation, "test": class.test,
                })
            })
            .collect();
        let passed_over: Vec<serde_json::Value> = self
            .passed_over
            .0
            .iter()
            .map(|((why, ending), files)| {
                serde_json::json!({"ending": ending, "files": files, "why": why.name()})
            })
            .collect();
        serde_json::json!({
            "images": self.images, "train": self.images - self.validation - self.test, "validation": self.validation,
            "test": self.test, "classes": classes,
            "passed_over": passed_over, "notes": self.notes, "warnings": self.warnings,
        })
    }
}

/// Images of each class, or with each label.
pub fn by_class(set: &Dataset) -> Vec<usize> {
    let mut counts = vec![0; set.class_names.len()];
    let mut add = |class: usize| {
        if let Some(count) = counts.get_mut(class) {
            *count += 1;
        }
    };
    match &set.labels {
        Labels::Classes(classes) => classes.iter().for_each(|class| add(*class as usize)),
        Labels::MultiLabel(targets) => {
            let labels = set.class_names.len().max(1);
            targets
                .iter()
                .enumerate()
                .filter(|(_, target)| **target > 0.0)
                .for_each(|(i, _)| add(i % labels));
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(classes: &[u32]) -> Dataset {
        Dataset {
            images: vec![0; classes.len()].into(),
            labels: Labels::Classes(classes.to_vec()),
            channels: 1,
            size: 1,
            class_names: ["a", "b", "c", "d"].map(String::from).to_vec(),
        }
    }

    #[test]
    fn images_classes_and_what_was_passed_over_are_one_line() {
        let mut summary = Summary::default();
        summary.count(&set(&[0, 0, 1]), None, &set(&[1, 2]));
        for (why, ending) in [
            (Why::NoPicture, "csv"),
            (Why::NoPicture, "txt"),
            (Why::NoPicture, "txt"),
            (Why::Format, "heic"),
            (Why::NoPicture, ""),
        ] {
            summary.passed_over.add(why, ending.into());
        }
        summary.notes.push("`val` is the test set".into());
        assert_eq!(
            summary.text(false),
            "data: 5 images of 4 classes (a 2, b 2, c 1, d 0), 2 of them to test on; `val` is the test set; passed over 4 files \
             that are no pictures (2 .txt, 1 without ending, 1 .csv), 1 picture in a format that is not read (1 .heic)"
        );
        assert_eq!(
            summary.warnings,
            [
                "the class \"a\" has no test images",
                "the class \"c\" has no training images",
                "the class \"d\" has no images"
            ]
        );
        let json: serde_json::Value = serde_json::from_str(&summary.text(true)).unwrap();
        assert_eq!(
            json["data"]["classes"][1],
            serde_json::json!({"name": "b", "train": 1, "validation": 0, "test": 1})
        );
        let txt = serde_json::json!({"ending": "txt", "files": 2, "why": "no picture"});
        assert_eq!((&json["data"]["passed_over"][2], &json["data"]["train"]), (&txt, &3.into()));
    }

    #[test]
    fn images_to_choose_settings_by_are_counted_by_themselves() {
        let mut summary = Summary::default();
        summary.count(&set(&[0, 0, 1, 2, 3]), Some(&set(&[0, 1])), &set(&[0, 1, 2, 3]));
        assert_eq!(
            summary.text(false),
            "data: 11 images of 4 classes (a 4, b 3, c 2, d 2), 4 of them to test on, 2 to choose settings by"
        );
        assert!(summary.warnings.is_empty(), "classes are asked of training and test images alone");
        let json: serde_json::Value = serde_json::from_str(&summary.text(true)).unwrap();
        let counts =
            ["images", "train", "validation", "test"].map(|part| json["data"][part].as_u64().unwrap());
        assert_eq!(counts, [11, 5, 2, 4]);
        assert_eq!(json["data"]["classes"][0]["validation"], 1);
    }

    #[test]
    fn labels_are_counted_by_image() {
        let labelled = |targets: Vec<f32>| Dataset { labels: Labels::MultiLabel(targets), ..set(&[0]) };
        let mut summary = Summary::default();
        summary.count(&labelled(vec![1.0, 0.0, 1.0, 0.0]), None, &labelled(vec![1.0, 1.0, 0.0, 0.0]));
        let line = "data: 2 images of 4 labels (a 2, b 1, c 1, d 0), 1 of them to test on";
        assert_eq!(summary.text(false), line);
    }
}
