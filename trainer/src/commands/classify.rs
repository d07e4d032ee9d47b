//! `duet classify`: the most probable classes of images.

use crate::cli::{Classify, Cli};
use crate::data::{Prepared, load_image};
use crate::io::given::{Remarks, hint_unknown, preparation};
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
    let preparation = preparation(&session, &options.picture);
    let pictures: Vec<_> =
        options.images.iter().map(|path| load_image(path, &preparation)).collect::<Result<_>>()?;
    let images: Vec<f32> = pictures.iter().flat_map(Prepared::values).collect();
    let batch = options.images.len().min(BATCH);
    let classifier = pollster::block_on(ImageClassifier::new(&session.weights, batch, session.set))?;
    let probabilities = pollster::block_on(classifier.probabilities(&images))?;
    let remarks = Remarks::of(&session, &options.picture, &preparation, &pictures)?;
    session.close();
    if !arguments.json {
        hint_unknown(&session, &options.picture);
    }
    let mut rows = Vec::new();
    let answers = probabilities.chunks_exact(config.num_classes).zip(&remarks);
    for (path, (row, remarks)) in options.images.iter().zip(answers) {
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
            let mut row = serde_json::json!({"image": path.display().to_string(), "classes": classes});
            remarks.add_to(&mut row)?;
            rows.push(row);
        } else {
            let text: Vec<String> =
                shown.iter().map(|c| format!("{} {:.1} %", config.class_name(*c), 100.0 * row[*c])).collect();
            println!("{}: {}{}", path.display(), text.join(", "), remarks.words());
            remarks.hint(path);
        }
    }
    if arguments.json {
        println!("{}", serde_json::Value::from(rows));
    }
    Ok(())
}
