//! Whether explanations of labels change what the data's boxes say is there: labels are taken away from images that have them,
//! and given to images that do not.

use super::explanations::explain_requests;
use super::figures::Form;
use crate::cli::Place;
use crate::data::{Boxed, Dataset};
use crate::io::session::Session;
use crate::metrics::change::Pair;
use crate::metrics::placement::{Edges, Largest, Placement, covered, median};
use crate::metrics::statistics::Mean;
use duet::explain::{Explainer, Explanation, Request};
use duet::infer::ImageClassifier;
use duet::model::{Head, Labels, Target};
use duet::{Error, Result};
use serde::Serialize;

/// Images classified at a time.
const BATCH: usize = 32;

/// One explanation beside its image's boxes.
pub struct Placed {
    /// Row of the test set.
    pub row: usize,
    /// What was made.
    pub made: Explanation,
    /// Boxes of the label that is to change.
    pub own: Vec<Edges>,
    /// All others'.
    pub others: Vec<Edges>,
}

/// What came of one label one way.
pub struct Way {
    /// What the images were to become.
    pub target: Target,
    /// The explanations.
    pub placed: Vec<Placed>,
    /// Figures of those that reached their target.
    pub figures: Figures,
}

/// Figures of one label one way; from the third on of the explanations that reached their target.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Images explained: of a label taken away, those that have it and its boxes, and of which the model says so; of one
    /// given, those that have neither, and of which the model says so.
    pub images: usize,
    /// Share that reached its target: that label changed and no other.
    pub reached: Option<Mean>,
    /// Mean absolute difference of a value, as a share of the range.
    pub mean_change: Option<Mean>,
    /// Share of the change in the label's own boxes; of a label given there are none.
    pub inside: Option<Mean>,
    /// The area of those boxes, as a share of the picture.
    pub area: Option<Mean>,
    /// Share of the change in the boxes of the next image instead: what a change would have inside that lies where such boxes
    /// usually are, whatever the image shows.
    pub inside_another_s: Option<Mean>,
    /// Share of the images of which more of the change lies inside than the area.
    pub more_than_area: Option<Mean>,
    /// Share of the images whose most changed pixel lies inside.
    pub hit: Option<Mean>,
    /// Share of the change in other labels' boxes, outside the label's own.
    pub inside_others: Option<Mean>,
    /// The area of those.
    pub area_others: Option<Mean>,
    /// Connected parts of the change.
    pub parts: Option<Mean>,
    /// Share of the change in the largest of them.
    pub largest: Option<Mean>,
    /// Pixels of the largest.
    pub largest_pixels: Option<Mean>,
}

/// A label, taken away and given.
pub struct Found {
    /// Its number in the model.
    pub label: usize,
    /// Boxes of it in the test images.
    pub boxes: usize,
    /// Pixels of such a box, the median.
    pub box_pixels: Option<f64>,
    /// Taken away, then given.
    pub ways: [Way; 2],
}

/// The edges of the boxes whose label is, or is not, the model's `label`.
fn edges(boxes: &[Boxed], session: &Session, label: usize, own: bool) -> Vec<Edges> {
    let config = session.config();
    let of = |one: &&Boxed| (config.named_class(&one.label) == Some(label)) == own;
    boxes.iter().filter(of).map(|one| one.edges).collect()
}

/// Explains test images, whose boxes are given in their order.
///
/// # Errors
/// A model of one class per image; labels that have no boxes; as [`explain_requests`].
pub fn place(
    session: &Session,
    options: &Place,
    test: &Dataset,
    boxes: &[Vec<Boxed>],
    quiet: bool,
) -> Result<Vec<Found>> {
    let config = session.config();
    let (Head::MultiLabel, Labels::MultiLabel(truths)) = (config.head, &test.labels) else {
        let detail =
            "whether explanations are in the right place is measured of a model of any number of labels";
        return Err(Error::config("head", detail));
    };
    let classes = config.num_classes;
    let has_boxes = |label: &usize| boxes.iter().any(|list| !edges(list, session, *label, true).is_empty());
    let labels: Vec<usize> = if options.label.is_empty() {
        (0..classes).filter(has_boxes).collect()
    } else {
        config.find_classes(&options.label)?
    };
    if let Some(none) = labels.iter().find(|label| !has_boxes(label)) {
        let detail = format!("{:?} has no box in the test images", config.class_name(*none));
        return Err(Error::config("label", detail));
    }
    if labels.is_empty() {
        return Err(Error::config("label", "none of the model's labels has a box in the test images"));
    }
    let rows: Vec<usize> = (0..test.len()).collect();
    let images = test.images_f32(&rows);
    let classifier = ImageClassifier::new(&session.weights, BATCH, session.set);
    let before = pollster::block_on(pollster::block_on(classifier)?.probabilities(&images))?;
    let explain = options.how.options(None)?;
    let mut wanted: Vec<(Target, usize)> = Vec::new();
    for (label, present) in labels.iter().flat_map(|label| [(*label, false), (*label, true)]) {
        let fits = |row: &usize| {
            let at = row * classes + label;
            let own = !edges(&boxes[*row], session, label, true).is_empty();
            // What the model takes to be there, and is, is to go; what is not, and is not taken to be, is to come.
            [truths[at] > 0.5, before[at] > 0.5, own].iter().all(|there| *there != present)
        };
        let most = if options.images == 0 { test.len() } else { options.images };
        let target = Target { class: label, present };
        wanted.extend(rows.iter().copied().filter(fits).take(most).map(|row| (target, row)));
    }
    if wanted.is_empty() {
        let detail = "the model decides none of the test images as their labels and boxes say: there is nothing to explain";
        return Err(Error::config("images", detail));
    }
    let request =
        |(target, row): &(Target, usize)| Request { image: *row, target: *target, seed: explain.seed };
    let requests: Vec<Request> = wanted.iter().map(request).collect();
    let batch = options.batch.min(requests.len());
    let diffusion = &session.checkpoint.diffusion;
    let new = Explainer::fitting(&session.weights, diffusion, batch, &explain, session.set);
    let mut explainer = pollster::block_on(new)?;
    let made = explain_requests(&mut explainer, &images, &requests, quiet)?;
    let mut placed: Vec<Placed> = (made.into_iter().zip(&wanted))
        .map(|(made, (target, row))| Placed {
            row: *row,
            own: edges(&boxes[*row], session, target.class, true),
            others: edges(&boxes[*row], session, target.class, false),
            made,
        })
        .collect();
    let len = test.image_len();
    let original = |row: usize| &images[row * len..(row + 1) * len];
    let mut way = |label: usize, present: bool| {
        let target = Target { class: label, present };
        let (of_way, rest) =
            std::mem::take(&mut placed).into_iter().partition(|one| one.made.target == target);
        placed = rest;
        let figures = figures(&of_way, original, config.image_size);
        Way { target, placed: of_way, figures }
    };
    let found = labels.into_iter().map(|label| {
        let all: Vec<Edges> = boxes.iter().flat_map(|list| edges(list, session, label, true)).collect();
        let pixels = |[left, top, right, bottom]: &Edges| (right - left) * (bottom - top);
        let box_pixels = median(all.iter().map(pixels).collect());
        Found { label, boxes: all.len(), box_pixels, ways: [way(label, false), way(label, true)] }
    });
    Ok(found.collect())
}

/// What one explanation gives to the figures.
struct Figured {
    differences: Vec<f64>,
    own: Vec<bool>,
    others: Vec<bool>,
}

fn figures<'a>(placed: &[Placed], original: impl Fn(usize) -> &'a [f32], size: usize) -> Figures {
    let figured = |one: &Placed| {
        let pair = Pair { original: original(one.row), counterfactual: &one.made.counterfactual, size };
        let own = covered(&one.own, size);
        let others = covered(&one.others, size).iter().zip(&own).map(|(other, own)| *other && !own).collect();
        Figured { differences: pair.differences(), own, others }
    };
    let reached: Vec<&Placed> = placed.iter().filter(|one| one.made.reached).collect();
    let all: Vec<Figured> = reached.iter().map(|one| figured(one)).collect();
    let own: Vec<Placement> =
        all.iter().filter_map(|one| Placement::of(&one.differences, &one.own)).collect();
    let others: Vec<Placement> =
        all.iter().filter_map(|one| Placement::of(&one.differences, &one.others)).collect();
    // Each change in the boxes of the image after it, after the last of the first.
    let next = all.iter().zip(all.iter().cycle().skip(1)).filter(|_| all.len() > 1);
    let elsewhere: Vec<Placement> =
        next.filter_map(|(one, next)| Placement::of(&one.differences, &next.own)).collect();
    let largest: Vec<Largest> = all.iter().filter_map(|one| Largest::of(&one.differences, size)).collect();
    let share = |list: &[Placement]| Mean::of(list.iter().map(|one| one.share));
    let area = |list: &[Placement]| Mean::of(list.iter().map(|one| one.area));
    Figures {
        images: placed.len(),
        reached: Mean::share(placed.iter().map(|one| one.made.reached)),
        mean_change: Mean::of(reached.iter().map(|one| one.made.mean_change())),
        inside: share(&own),
        area: area(&own),
        inside_another_s: share(&elsewhere),
        more_than_area: Mean::share(own.iter().map(|one| one.share > one.area)),
        hit: Mean::share(own.iter().map(|one| one.hit)),
        inside_others: share(&others),
        area_others: area(&others),
        parts: Mean::of(largest.iter().map(|one| one.parts as f64)),
        largest: Mean::of(largest.iter().map(|one| one.share)),
        largest_pixels: Mean::of(largest.iter().map(|one| one.pixels as f64)),
    }
}

impl Way {
    /// The figures for people; a box of the label has `box_pixels`.
    pub fn lines(&self, box_pixels: Option<f64>) -> Vec<String> {
        let figures = &self.figures;
        if figures.images == 0 {
            return vec!["no image: the model sees none as its labels and boxes say".into()];
        }
        let text = |form: Form, mean: &Option<Mean>| {
            mean.as_ref().map_or_else(|| "–".to_owned(), |mean| form.with_error(mean))
        };
        let share = |mean| text(Form::Percent, mean);
        let number = |mean| text(Form::Decimals(1), mean);
        let mut lines = vec![format!(
            "{} images, reached {}, mean |Δ| {}",
            figures.images,
            share(&figures.reached),
            share(&figures.mean_change)
        )];
        if !self.target.present {
            let times = match (&figures.inside, &figures.area) {
                (Some(inside), Some(area)) => format!(", {:.1} times as much", inside.mean / area.mean),
                _ => String::new(),
            };
            lines.push(format!(
                "|Δ| inside its boxes {}, their area {}{times}; inside another image's boxes {}",
                share(&figures.inside),
                share(&figures.area),
                share(&figures.inside_another_s)
            ));
            lines.push(format!(
                "more inside than the area in {} of the images, the most changed pixel in {}",
                share(&figures.more_than_area),
                share(&figures.hit)
            ));
        }
        lines.push(format!(
            "|Δ| inside other labels' boxes {}, their area {}",
            share(&figures.inside_others),
            share(&figures.area_others)
        ));
        let typical = box_pixels.map_or_else(|| "–".to_owned(), |pixels| format!("{pixels:.0}"));
        lines.push(format!(
            "{} parts; the largest holds {} of |Δ| in {} pixels (a box has {typical})",
            number(&figures.parts),
            share(&figures.largest),
            number(&figures.largest_pixels)
        ));
        if self.target.present {
            lines.push("no box says where one should come: where it does is not judged".into());
        }
        lines
    }
}
