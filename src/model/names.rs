//! Names of classes: what people, folders and data sets call them, and which of a model's classes is meant.
//!
//! One rule everywhere. White space around a name does not count. A name that is written as the model writes it is that class;
//! else one that differs in case alone, where only one does. Letters composed of several characters are the letters they
//! compose, for some systems store "é" as two. A name wins over a number. Models without names call their classes "0", "1" and so
//! on.

use super::config::ModelConfig;
use crate::error::{Error, Result};
use std::collections::HashMap;
use unicode_normalization::UnicodeNormalization as _;

/// Most names that an error lists.
const LISTED: usize = 40;

/// Composed letters as one, without white space around.
fn plain(name: &str) -> String {
    name.trim().nfc().collect()
}

/// The same for names that differ in case alone. Upper case first: it makes "ß" and "ss", "ς" and "σ" alike.
fn folded(name: &str) -> String {
    plain(name).to_uppercase().to_lowercase().nfc().collect()
}

/// A number as classes have: digits alone, no sign.
fn number(text: &str) -> Option<usize> {
    let text = text.trim();
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Names of classes for people to read: each in quotes, so that commas inside them are seen, and of very many the first.
///
/// ```
/// assert_eq!(duet::model::class_list(&["cats, big", "dogs"]), "\"cats, big\", \"dogs\"");
/// ```
pub fn class_list(names: &[impl AsRef<str>]) -> String {
    let first: Vec<String> = names.iter().take(LISTED).map(|name| format!("{:?}", name.as_ref())).collect();
    match names.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// Which of other names a name is.
enum Found {
    One(usize),
    /// It is as much one as another of these.
    Several(Vec<usize>),
    None,
}

/// Names to look others up in: the classes of each, as it is and in no case.
struct Index {
    plain: HashMap<String, Vec<usize>>,
    folded: HashMap<String, Vec<usize>>,
}

impl Index {
    fn of(names: &[String]) -> Index {
        let mut index = Index { plain: HashMap::new(), folded: HashMap::new() };
        for (class, name) in names.iter().enumerate() {
            index.plain.entry(plain(name)).or_default().push(class);
            index.folded.entry(folded(name)).or_default().push(class);
        }
        index
    }

    fn find(&self, text: &str) -> Found {
        let found = self.plain.get(&plain(text)).or_else(|| self.folded.get(&folded(text)));
        match found.map(Vec::as_slice) {
            None => Found::None,
            Some([one]) => Found::One(*one),
            Some(several) => Found::Several(several.to_vec()),
        }
    }
}

impl ModelConfig {
    /// Name of a class, or its number where it has none.
    pub fn class_name(&self, class: usize) -> String {
        self.class_names.get(class).cloned().unwrap_or_else(|| class.to_string())
    }

    /// The names of all classes, numbers where they have none.
    fn names(&self) -> Vec<String> {
        (0..self.num_classes).map(|class| self.class_name(class)).collect()
    }

    /// The names of all classes for people to read, see [`class_list`].
    pub fn class_list(&self) -> String {
        class_list(&self.names())
    }

    /// The class that is called `name`, in any case; `None` where none is, or several are. Numbers are names only of a model
    /// that has no others.
    pub fn named_class(&self, name: &str) -> Option<usize> {
        match Index::of(&self.names()).find(name) {
            Found::One(class) => Some(class),
            _ => None,
        }
    }

    /// The class of a name (in any case) or number; where a number is the name of a class, that class.
    ///
    /// # Errors
    /// [`Error::Config`] listing the classes there are, or the several that the name could be.
    pub fn find_class(&self, text: &str) -> Result<usize> {
        let names = self.names();
        match Index::of(&names).find(text) {
            Found::One(class) => Ok(class),
            Found::Several(classes) => Err(Error::config("class", could_be(text, &names, &classes))),
            Found::None => number(text).filter(|class| *class < self.num_classes).ok_or_else(|| {
                let detail = format!("there is no class {text:?}; there are: {}", class_list(&names));
                Error::config("class", detail)
            }),
        }
    }

    /// The parts of a list of classes as one text: the whole of it where that is a class, for names may hold commas, else what
    /// stands between the commas.
    pub fn split_classes<'t>(&self, text: &'t str) -> Vec<&'t str> {
        if !text.contains(',') {
            return vec![text];
        }
        match Index::of(&self.names()).find(text) {
            Found::None => text.split(',').collect(),
            _ => vec![text],
        }
    }

    /// The classes of texts, each a class or several separated by commas.
    ///
    /// ```
    /// # fn main() -> duet::Result<()> {
    /// use duet::model::ModelConfig;
    ///
    /// let class_names = ["cats, big", "cats, small", "dogs"].map(String::from).to_vec();
    /// let config = ModelConfig { num_classes: 3, class_names, ..ModelConfig::default() };
    /// assert_eq!(config.find_classes(&["Cats, small", "dogs,0"])?, [1, 2, 0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`ModelConfig::find_class`].
    pub fn find_classes(&self, texts: &[impl AsRef<str>]) -> Result<Vec<usize>> {
        let parts = texts.iter().flat_map(|text| self.split_classes(text.as_ref()));
        parts.map(|part| self.find_class(part)).collect()
    }

    /// Which of the model's classes each class of a data set is, by its name; the data may have fewer. Names that are numbers
    /// and no names of the model's classes are their numbers. A model without names takes as many classes in their order.
    ///
    /// ```
    /// # fn main() -> duet::Result<()> {
    /// use duet::model::ModelConfig;
    ///
    /// let class_names = ["Bag", "Coat", "Dress"].map(String::from).to_vec();
    /// let config = ModelConfig { num_classes: 3, class_names, ..ModelConfig::default() };
    /// let folders = ["coat".to_owned(), "bag".to_owned()];
    /// assert_eq!(config.match_classes(&folders)?, [1, 0]);
    /// assert!(config.match_classes(&["hat".to_owned()]).is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] with both lists of names: for a class that the model does not have, a name that could be several
    /// classes, two that are one.
    pub fn match_classes(&self, data: &[String]) -> Result<Vec<usize>> {
        let names = self.names();
        let refuse = |detail: String| {
            let lists = format!("the data's are {}, the model's {}", class_list(data), class_list(&names));
            Err(Error::config("classes", format!("{detail}; {lists}")))
        };
        let index = Index::of(&names);
        let mut classes = Vec::new();
        let mut unknown = Vec::new();
        for name in data {
            match index.find(name) {
                Found::One(class) => classes.push(class),
                Found::Several(several) => return refuse(could_be(name, &names, &several)),
                Found::None => unknown.push(name),
            }
        }
        if !unknown.is_empty() {
            let numbers: Option<Vec<usize>> = data.iter().map(|name| number(name)).collect();
            let numbers = numbers.filter(|list| list.iter().all(|class| *class < self.num_classes));
            match numbers {
                Some(numbers) if classes.is_empty() => classes = numbers,
                _ if self.class_names.is_empty() && data.len() == self.num_classes => {
                    classes = (0..data.len()).collect();
                }
                _ if self.class_names.is_empty() => {
                    return refuse(format!(
                        "the model's {} classes have numbers for names and the data have {}: call the data's by those \
                         numbers",
                        self.num_classes,
                        data.len()
                    ));
                }
                _ => return refuse(format!("the model has no class {}", class_list(&unknown))),
            }
        }
        let mut taken = HashMap::new();
        for (i, class) in classes.iter().enumerate() {
            if let Some(j) = taken.insert(class, i) {
                let both = format!("{:?} and {:?} are both the class {:?}", data[j], data[i], names[*class]);
                return refuse(both);
            }
        }
        Ok(classes)
    }

    /// Checks the names: none, or one for each class, none of them empty and no two the same.
    ///
    /// # Errors
    /// [`Error::Config`] saying which and what to do.
    pub(super) fn check_names(&self) -> Result<()> {
        let (names, classes) = (&self.class_names, self.num_classes);
        let refuse = |detail: String| Err(Error::config("class_names", detail));
        if names.is_empty() {
            return Ok(());
        }
        if names.len() != classes {
            return refuse(format!(
                "{} names for {classes} classes: set num_classes = {}, or name each of the {classes}; the names are {}",
                names.len(),
                names.len(),
                class_list(names)
            ));
        }
        let mut taken = HashMap::new();
        for (class, name) in names.iter().map(|name| name.trim()).enumerate() {
            if name.is_empty() {
                return refuse(format!("the name of class {class} is empty"));
            }
            if let Some(other) = taken.insert(name, class) {
                let detail = "each needs a name of its own";
                return refuse(format!("the classes {other} and {class} are both called {name:?}: {detail}"));
            }
        }
        Ok(())
    }
}

fn could_be(text: &str, names: &[String], classes: &[usize]) -> String {
    let several: Vec<&String> = classes.iter().map(|class| &names[*class]).collect();
    format!("{text:?} could be any of {}: write it as the model does", class_list(&several))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(names: &[&str], num_classes: usize) -> ModelConfig {
        let class_names = names.iter().map(|name| (*name).to_owned()).collect();
        ModelConfig { num_classes, class_names, ..ModelConfig::default() }
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_class_is_found_by_its_name_in_any_case_else_by_its_number() {
        let model = config(&["Żółw", "straße", "2", "a", "A", "ΟΔΟΣ"], 6);
        let cases = [
            (" żółw ", 0),
            // Each letter and its accent as two characters, as macOS stores names of files.
            ("z\u{307}o\u{301}\u{142}w", 0),
            ("STRASSE", 1),
            ("2", 2),
            ("a", 3),
            ("A", 4),
            ("3", 3),
            ("οδος", 5),
        ];
        for (text, class) in cases {
            assert_eq!(model.find_class(text).unwrap(), class, "{text:?}");
        }
        for text in ["6", "+1", "-1", "", "żół"] {
            let error = model.find_class(text).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}; there are: \"Żółw\", \"straße\", ")), "{error}");
        }
        let letters = config(&["Cat", "CAT"], 2);
        assert_eq!(letters.find_class("CAT").unwrap(), 1);
        let error = letters.find_class("cat").unwrap_err().to_string();
        assert!(error.contains("could be any of \"Cat\", \"CAT\""), "{error}");
        let accents = config(&["\u{e9}", "e\u{301}"], 2);
        assert!(accents.find_class("\u{e9}").unwrap_err().to_string().contains("could be any of"));
        assert!(letters.named_class("cat").is_none() && letters.named_class("1").is_none());
        assert_eq!(config(&[], 3).named_class("2"), Some(2));
        let many = config(&[], 50).find_class("x").unwrap_err().to_string();
        assert!(many.contains("\"39\" and 10 more"), "{many}");
    }

    #[test]
    fn lists_are_cut_at_commas_unless_the_whole_is_a_name() {
        let model = config(&["cats, big", "dogs", "a", "a,dogs"], 4);
        for (texts, classes) in [
            (vec!["CATS, BIG"], vec![0]),
            (vec!["dogs, a"], vec![1, 2]),
            (vec!["a,dogs"], vec![3]),
            (vec!["a", "dogs"], vec![2, 1]),
            (vec!["cats, big", "0,1"], vec![0, 0, 1]),
        ] {
            assert_eq!(model.find_classes(&texts).unwrap(), classes, "{texts:?}");
        }
        let error = model.find_classes(&["dogs,cats"]).unwrap_err().to_string();
        assert!(error.contains("no class \"cats\"; there are: \"cats, big\", \"dogs\""), "{error}");
        let both = config(&["a,b", "A,B"], 2);
        assert!(both.find_classes(&["a,B"]).unwrap_err().to_string().contains("could be"));
    }

    #[test]
    fn data_are_matched_by_name_whole_or_not_at_all() {
        let model = config(&["T-shirt", "Trouser", "Boot"], 3);
        for (data, classes) in [
            (vec!["Boot", "T-shirt", "Trouser"], vec![2, 0, 1]),
            (vec!["BOOT ", "trouser"], vec![2, 1]),
            // Numbers: of files that have no names, or of folders.
            (vec!["0", "1", "2"], vec![0, 1, 2]),
            (vec!["2", "0"], vec![2, 0]),
        ] {
            assert_eq!(model.match_classes(&owned(&data)).unwrap(), classes, "{data:?}");
        }
        for (data, word) in [
            (vec!["Boot", "cat", "dog"], "the model has no class \"cat\", \"dog\""),
            (vec!["Boot", "1"], "the model has no class \"1\""),
            (vec!["0", "3"], "the model has no class \"0\", \"3\""),
            (vec!["Boot", "boot"], "\"Boot\" and \"boot\" are both the class \"Boot\""),
            (vec!["2", "02"], "\"2\" and \"02\" are both"),
        ] {
            let error = model.match_classes(&owned(&data)).unwrap_err().to_string();
            assert!(error.contains(word), "{word}: {error}");
            let lists = format!("the data's are {}, the model's \"T-shirt\", \"Trouser\"", class_list(&data));
            assert!(error.contains(&lists), "{error}");
        }
        // Digits in the order of folders: their names tell, not their places.
        let digits = config(&["0", "1", "10", "2"], 4);
        assert_eq!(digits.match_classes(&owned(&["1", "2", "10"])).unwrap(), [1, 3, 2]);
        let letters = config(&["a", "A"], 2);
        assert_eq!(letters.match_classes(&owned(&["A", "a"])).unwrap(), [1, 0]);
        let error = config(&["Cat", "CAT"], 2).match_classes(&owned(&["cat"])).unwrap_err().to_string();
        assert!(error.contains("could be any of"), "{error}");
    }

    #[test]
    fn a_model_without_names_goes_by_numbers() {
        let model = config(&[], 3);
        assert_eq!(model.match_classes(&owned(&["cat", "dog", "pig"])).unwrap(), [0, 1, 2]);
        assert_eq!(model.match_classes(&owned(&["2", "0"])).unwrap(), [2, 0]);
        for data in [vec!["cat", "dog"], vec!["1", "3"], vec!["a", "b", "c", "d"]] {
            let error = model.match_classes(&owned(&data)).unwrap_err().to_string();
            assert!(error.contains("numbers for names") && error.contains("\"0\", \"1\", \"2\""), "{error}");
        }
    }

    #[test]
    fn names_that_cannot_be_told_apart_are_refused() {
        assert!(config(&["a", "A", "b"], 3).check_names().is_ok() && config(&[], 7).check_names().is_ok());
        for (names, classes, words) in [
            (vec!["a", "b"], 5, "2 names for 5 classes: set num_classes = 2"),
            (vec!["a", "b"], 1, "2 names for 1 classes: set num_classes = 2"),
            (vec!["a", "b", " a"], 3, "0 and 2 are both called \"a\""),
            (vec!["a", " "], 2, "the name of class 1 is empty"),
        ] {
            let error = config(&names, classes).validate().unwrap_err().to_string();
            assert!(error.contains("class_names") && error.contains(words), "{words}: {error}");
        }
    }
}
