//! `duet classify`: the most probable classes of images.

use crate::cli::{Classify, Cli};
use crate::data::{Prepared, load_image};
use crate::io::given::{Remarks, hint_unknown, preparation};
use crate::io::output::{self, say};
use crate::io::pictures::{self, Failures, Pictures};
use crate::io::session::Session;
use duet::Result;
use duet::infer::ImageClassifier;
use duet::model::{Head, ModelConfig};
use serde_json::{Value, json};
use std::path::Path;

/// Most images read and classified at once.
const BATCH: usize = 32;

/// Runs the command.
///
/// # Errors
/// A bad checkpoint; device errors; images that cannot be read, after all others were answered.
pub fn run(arguments: &Cli, options: &Classify) -> Result<()> {
    let paths = pictures::expand(&options.images)?;
    let session = Session::open(arguments, &options.model)?;
    let config = session.config();
    let preparation = preparation(&session, &options.picture.reading);
    let batch = paths.len().min(BATCH);
    let classifier = pollster::block_on(ImageClassifier::new(&session.weights, batch, session.set))?;
    if !arguments.json {
        hint_unknown(&session, &options.picture);
    }
    let (mut rows, mut failures) = (Vec::new(), Failures::new(paths.len(), arguments.json));
    for part in paths.chunks(BATCH) {
        if output::failed() {
            break;
        }
        let Pictures { read, bad, .. } = pictures::read(part, |path| load_image(path, &preparation));
        let images: Vec<f32> = read.iter().flat_map(Prepared::values).collect();
        let probabilities = pollster::block_on(classifier.probabilities(&images))?;
        let remarks = Remarks::of(&session, &options.picture, &preparation, &read, paths.len())?;
        let mut answers = probabilities.chunks_exact(config.num_classes).zip(&remarks);
        let mut bad = bad.into_iter().peekable();
        for (i, path) in part.iter().enumerate() {
            if let Some((_, error)) = bad.next_if(|(at, _)| *at == i) {
                rows.push(failures.add(path, error));
            } else if let Some((row, remarks)) = answers.next() {
                let shown = shown(config, options.top, row);
                if arguments.json {
                    let mut row = as_json(config, path, row, &shown);
                    remarks.add_to(&mut row)?;
                    rows.push(row);
                } else {
                    let share = |c: &usize| format!("{} {:.1} %", config.class_name(*c), 100.0 * row[*c]);
                    let text: Vec<String> = shown.iter().map(share).collect();
                    say!("{}: {}{}", path.display(), text.join(", "), remarks.words());
                    remarks.hint(path);
                }
            }
        }
    }
    session.close();
    if arguments.json {
        say!("{}", Value::from(rows));
    }
    failures.outcome()
}

/// The classes to show, the most probable ones first.
fn shown(config: &ModelConfig, top: usize, row: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
    if config.head == Head::Multiclass {
        order.truncate(top);
    }
    // Otherwise any number of labels may hold: all are shown.
    order
}

fn as_json(config: &ModelConfig, path: &Path, row: &[f32], shown: &[usize]) -> Value {
    let class = |c: &usize| json!({"class": c, "name": config.class_name(*c), "probability": row[*c]});
    let classes: Vec<Value> = shown.iter().map(class).collect();
    json!({"image": path.display().to_string(), "classes": classes})
}
