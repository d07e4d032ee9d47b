//! `duet classify`: the most probable classes of images.

use crate::cli::{Classify, Cli};
use crate::data::load_image;
use crate::io::output::say;
use crate::io::session::Session;
use duet::infer::ImageClassifier;
use duet::model::Head;
use duet::{Error, Result};

/// Most images classified at once.
const BATCH: usize = 32;

/// Runs the command.
///
/// # Errors
/// A bad checkpoint or image; device errors.
pub fn run(arguments: &Cli, options: &Classify) -> Result<()> {
    if options.top == 0 {
        return Err(Error::config("top", "must be at least 1"));
    }
    let session = Session::open(arguments, &options.model)?;
    let config = session.config();
    let mut images = Vec::new();
    for path in &options.images {
        images.extend(load_image(path, config.in_channels, config.image_size)?);
    }
    let batch = options.images.len().min(BATCH);
    let classifier = pollster::block_on(ImageClassifier::new(&session.weights, batch, session.set))?;
    let probabilities = pollster::block_on(classifier.probabilities(&images))?;
    session.close();
    let mut rows = Vec::new();
    for (path, row) in options.images.iter().zip(probabilities.chunks_exact(config.num_classes)) {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        let shown = match config.head {
            Head::Multiclass => &order[..options.top.min(order.len())],
            // Any number of labels may hold: all are shown.
            Head::MultiLabel => &order[..],
        };
        if arguments.json {
            let classes: Vec<_> = shown
                .iter()
                .map(|c| serde_json::json!({"class": c, "name": config.class_name(*c), "probability": row[*c]}))
                .collect();
            rows.push(serde_json::json!({"image": path.display().to_string(), "classes": classes}));
        } else {
            let text: Vec<String> =
                shown.iter().map(|c| format!("{} {:.1} %", config.class_name(*c), 100.0 * row[*c])).collect();
            say!("{}: {}", path.display(), text.join(", "));
        }
    }
    if arguments.json {
        say!("{}", serde_json::Value::from(rows));
    }
    Ok(())
}
