//! The audit of a model: explanations, maps, flagged places, and what these do to other images.

use super::evidence::{Direction, Evidence};
use super::flag::{Rule, Spot, spots};
use super::patch::{Patch, elsewhere};
use crate::eval::explanations::{explain_requests, second};
use crate::io::output::progress;
use crate::io::session::go_on;
use duet::explain::{Explainer, Explanation, Request};
use duet::model::{Head, ModelConfig, Target};
use duet::rng::Seed;
use duet::{Error, Result};
use serde::Serialize;
use std::collections::HashSet;

/// Other places that a patch is compared at.
const ELSEWHERE: usize = 8;

/// What a flagged patch must do to be called a shortcut.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Proof {
    /// At least this share of images of other classes is taken for the class with it.
    pub flips: f64,
    /// And so many times as many as with patches of the same shape from elsewhere.
    pub times: f64,
}

impl Default for Proof {
    fn default() -> Self {
        Proof { flips: 0.05, times: 3.0 }
    }
}

/// Images \[N,C,H,W\] in −1..1, and what the model says of them.
struct Decided<'a> {
    images: &'a [f32],
    /// Probabilities, image by image.
    rows: Vec<Vec<f32>>,
    head: Head,
}

impl Decided<'_> {
    fn of<'a>(explainer: &Explainer, images: &'a [f32], config: &ModelConfig) -> Result<Decided<'a>> {
        let all = pollster::block_on(explainer.probabilities(images))?;
        let rows = all.chunks_exact(config.num_classes).map(<[f32]>::to_vec).collect();
        Ok(Decided { images, rows, head: config.head })
    }

    /// Whether an image is decided to be of a class, or to have a label.
    fn is(&self, image: usize, class: usize) -> Result<bool> {
        Ok(self.head.decisions(&self.rows[image])?.get(class) == Some(&true))
    }
}

/// How often images of other classes are taken for the class, as shares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Flips {
    /// Images that were pasted into.
    pub images: usize,
    /// With the flagged patch.
    pub patch: f64,
    /// With patches of the same shape that the same mean image has at other places.
    pub elsewhere: f64,
    /// With the flagged patch moved to those places.
    pub moved: f64,
}

/// A flagged place and what it does.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Which changes it was found in.
    pub direction: Direction,
    /// Where.
    #[serde(flatten)]
    pub spot: Spot,
    /// What it does to other images.
    pub flips: Flips,
    /// Whether that proves it to be a shortcut.
    pub shortcut: bool,
}

/// What was found about one class.
#[derive(Clone, Debug)]
pub struct ClassAudit {
    /// Which.
    pub class: usize,
    /// Changes of other images towards it.
    pub toward: Evidence,
    /// Changes of its images away from it.
    pub away: Evidence,
    /// Flagged places.
    pub findings: Vec<Finding>,
}

impl ClassAudit {
    /// The changes of a direction.
    pub fn evidence(&self, direction: Direction) -> &Evidence {
        match direction {
            Direction::Toward => &self.toward,
            Direction::Away => &self.away,
        }
    }
}

/// What is audited and how.
pub struct Audited<'a> {
    /// The model.
    pub config: &'a ModelConfig,
    /// Images that are explained.
    pub explained: &'a [f32],
    /// Images that flagged patches are pasted into.
    pub others: &'a [f32],
    /// Classes that are looked at.
    pub targets: &'a [usize],
    /// Seed of the noise, and of the places to compare with.
    pub seed: Seed,
    /// What is flagged.
    pub rule: Rule,
    /// What is proven.
    pub proof: Proof,
    /// Whether no progress is shown.
    pub quiet: bool,
}

impl Audited<'_> {
    fn plane(&self) -> usize {
        self.config.image_size * self.config.image_size
    }

    /// What is to be explained: each image towards each class that it is not of, or with each label changed; and towards the
    /// class that comes second for it.
    fn requests(&self, decided: &Decided<'_>) -> Result<Vec<Request>> {
        let mut requests = Vec::new();
        for (image, row) in decided.rows.iter().enumerate() {
            for class in self.targets.iter().copied() {
                let has = decided.is(image, class)?;
                let target = match self.config.head {
                    Head::Multiclass if !has => Target::from(class),
                    Head::Multiclass => second(row)?.into(),
                    Head::MultiLabel => Target { class, present: !has },
                };
                requests.push(Request { image, target, seed: self.seed });
            }
        }
        let mut seen = HashSet::new();
        requests.retain(|request| seen.insert((request.image, request.target)));
        Ok(requests)
    }

    /// The explanations that tell of a class in a direction.
    fn telling<'e>(
        &self,
        made: &'e [(Request, Explanation)],
        decided: &Decided<'_>,
        class: usize,
        direction: Direction,
    ) -> Result<Vec<&'e Explanation>> {
        let mut found = Vec::new();
        for (request, one) in made {
            let target = request.target;
            let fits = match (direction, self.config.head) {
                (Direction::Toward, _) => target == class.into(),
                (Direction::Away, Head::MultiLabel) => target == Target { class, present: false },
                (Direction::Away, Head::Multiclass) => {
                    decided.is(request.image, class)?
                        && target == second(&decided.rows[request.image])?.into()
                }
            };
            if fits {
                found.push(one);
            }
        }
        Ok(found)
    }

    /// Pastes a flagged place into images of other classes.
    fn paste(
        &self,
        explainer: &Explainer,
        others: &Decided<'_>,
        class: usize,
        spot: &Spot,
        content: &[f32],
    ) -> Result<Flips> {
        let (plane, size) = (self.plane(), self.config.image_size);
        let mut images = Vec::new();
        for (at, image) in others.images.chunks_exact(self.config.in_channels * plane).enumerate() {
            if !others.is(at, class)? {
                images.extend_from_slice(image);
            }
        }
        let count = images.len() / (self.config.in_channels * plane);
        let places = elsewhere(&spot.pixels, [size, size], ELSEWHERE, self.seed);
        let patch = Patch::cut(content, &spot.pixels, plane);
        let bar = progress(1 + 2 * places.len() as u64, 0, "pasting {wide_bar} {pos}/{len}", self.quiet);
        let mut sums = [0.0; 3];
        let parts = places
            .iter()
            .flat_map(|place| [(1, Patch::cut(content, place, plane)), (2, patch.at(place.clone()))]);
        for (sum, patch) in std::iter::once((0, patch.clone())).chain(parts) {
            if go_on().is_break() {
                return Err(Error::Aborted);
            }
            let rows = pollster::block_on(explainer.probabilities(&patch.paste(&images, plane)))?;
            for row in rows.chunks_exact(self.config.num_classes) {
                sums[sum] += f64::from(u8::from(self.config.head.decisions(row)?.get(class) == Some(&true)));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let each = count.max(1) as f64;
        let all = each * places.len().max(1) as f64;
        Ok(Flips { images: count, patch: sums[0] / each, elsewhere: sums[1] / all, moved: sums[2] / all })
    }

    /// Audits each of the targets.
    ///
    /// # Errors
    /// [`Error::Aborted`] after Ctrl-C; [`Error::NotFinite`] where the strength is too large; device errors.
    pub fn run(&self, explainer: &mut Explainer) -> Result<Vec<ClassAudit>> {
        let decided = Decided::of(explainer, self.explained, self.config)?;
        let others = Decided::of(explainer, self.others, self.config)?;
        let requests = self.requests(&decided)?;
        let made = explain_requests(explainer, self.explained, &requests, self.quiet)?;
        let made: Vec<(Request, Explanation)> = requests.into_iter().zip(made).collect();
        let mut audits = Vec::new();
        for class in self.targets.iter().copied() {
            let evidence = |direction| -> Result<Evidence> {
                let telling = self.telling(&made, &decided, class, direction)?;
                Ok(Evidence::of(telling.into_iter(), direction, self.config.in_channels, self.plane()))
            };
            let (toward, away) = (evidence(Direction::Toward)?, evidence(Direction::Away)?);
            audits.push(ClassAudit { class, toward, away, findings: Vec::new() });
        }
        for at in 0..audits.len() {
            let mut findings = Vec::new();
            for direction in [Direction::Toward, Direction::Away] {
                let mine = audits[at].evidence(direction);
                let rest = audits.iter().enumerate().filter(|(other, _)| *other != at);
                let rest: Vec<&Evidence> = rest.map(|(_, audit)| audit.evidence(direction)).collect();
                for spot in spots(mine, &rest, self.config.image_size, &self.rule) {
                    let flips = self.paste(explainer, &others, audits[at].class, &spot, &mine.content)?;
                    let shortcut =
                        flips.patch >= self.proof.flips && flips.patch >= self.proof.times * flips.elsewhere;
                    findings.push(Finding { direction, spot, flips, shortcut });
                }
            }
            audits[at].findings = findings;
        }
        Ok(audits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Image, class, and whether it is to be there.
    type Question = (usize, usize, bool);

    /// What is asked about images of these probabilities, as (image, class, present), and how many answers tell of each class:
    /// towards it, and away from it.
    fn asked(head: Head, rows: &[[f32; 3]], targets: &[usize]) -> (Vec<Question>, Vec<[usize; 2]>) {
        let config = ModelConfig { head, num_classes: 3, ..ModelConfig::default() };
        let (rule, proof) = (Rule::default(), Proof::default());
        let (none, seed) = (&[][..], Seed(0));
        let config = &config;
        let audited =
            Audited { config, explained: none, others: none, targets, seed, rule, proof, quiet: true };
        let decided = Decided { images: none, rows: rows.iter().map(|row| row.to_vec()).collect(), head };
        let requests = audited.requests(&decided).unwrap();
        let made: Vec<_> = requests
            .iter()
            .map(|request| (*request, Explanation::unchanged(&[], request.target, &[])))
            .collect();
        let count = |class, direction| audited.telling(&made, &decided, class, direction).unwrap().len();
        let counts = targets
            .iter()
            .map(|class| [Direction::Toward, Direction::Away].map(|direction| count(*class, direction)))
            .collect();
        (requests.iter().map(|r| (r.image, r.target.class, r.target.present)).collect(), counts)
    }

    #[test]
    fn images_go_towards_each_class_and_tell_of_the_way_to_their_second() {
        let rows = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]];
        let (requests, counts) = asked(Head::Multiclass, &rows, &[0, 1, 2]);
        // The second class of the first image is asked for once, though it tells of two classes.
        assert_eq!(requests, [(0, 1, true), (0, 2, true), (1, 0, true), (1, 1, true)]);
        assert_eq!(counts, [[1, 1], [2, 0], [1, 1]]);
        // Where the second class is none of the targets it is asked for all the same.
        let (requests, counts) = asked(Head::Multiclass, &rows, &[0, 2]);
        assert_eq!(requests, [(0, 1, true), (0, 2, true), (1, 0, true), (1, 1, true)]);
        assert_eq!(counts, [[1, 1], [1, 1]]);
    }

    #[test]
    fn labels_are_added_where_they_are_not_and_removed_where_they_are() {
        let (requests, counts) = asked(Head::MultiLabel, &[[0.9, 0.8, 0.1], [0.2, 0.8, 0.3]], &[0, 1]);
        assert_eq!(requests, [(0, 0, false), (0, 1, false), (1, 0, true), (1, 1, false)]);
        assert_eq!(counts, [[1, 1], [0, 2]]);
    }
}
