//! Labels with a sign: to be there, or not.

use duet::model::ModelConfig;

/// What stands before a label that is to be added or taken away; the last one is what word processors make of a hyphen.
const SIGNS: [(char, bool); 3] = [('+', true), ('-', false), ('−', false)];

/// What follows a sign, and what the sign says.
pub fn signed(text: &str) -> Option<(&str, bool)> {
    SIGNS.into_iter().find_map(|(sign, present)| Some((text.trim().strip_prefix(sign)?, present)))
}

/// The parts of a list: the whole text where it is a class, or one behind its sign, for names may hold commas.
pub fn parts<'t>(config: &ModelConfig, text: &'t str) -> Vec<&'t str> {
    match signed(text) {
        Some((name, _)) if config.find_class(name).is_ok() => vec![text],
        _ => config.split_classes(text),
    }
}
