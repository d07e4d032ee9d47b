//! What is told of one explained image: the same numbers as JSON, as lines to read and on a report's card.

use super::explanations::Verdict;
use super::judge::Judge;
use duet::Result;
use duet::explain::{Explanation, Variants};
use duet::model::{Head, ModelConfig, Target, argmax};
use duet::typicality::Typicality;
use serde::{Deserialize, Serialize};

/// What classes are called, and how an image comes to have them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Names {
    /// By number.
    pub classes: Vec<String>,
    /// One of them, or any of them.
    pub head: Head,
}

impl Names {
    /// Of a model.
    pub fn of(config: &ModelConfig) -> Names {
        Names {
            classes: (0..config.num_classes).map(|class| config.class_name(class)).collect(),
            head: config.head,
        }
    }

    /// A class's name.
    pub fn name(&self, class: usize) -> &str {
        self.classes.get(class).map_or("?", String::as_str)
    }

    /// What an image is decided to be by its probabilities: the most probable class, or all labels beyond one half.
    pub fn decision(&self, row: &[f32]) -> String {
        match self.head {
            Head::Multiclass => {
                let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
                best.map_or("?", |(class, _)| self.name(class)).to_owned()
            }
            Head::MultiLabel => {
                let present: Vec<&str> =
                    (0..row.len()).filter(|c| row[*c] > 0.5).map(|c| self.name(c)).collect();
                if present.is_empty() { "no label".into() } else { present.join(", ") }
            }
        }
    }

    /// What an image is to become: a class, or to be with or without a label.
    pub fn target(&self, target: Target) -> String {
        let name = self.name(target.class);
        match (self.head, target.present) {
            (Head::Multiclass, _) => name.to_owned(),
            (Head::MultiLabel, true) => format!("with {name}"),
            (Head::MultiLabel, false) => format!("without {name}"),
        }
    }

    /// The same in the fewest letters, as `--to` takes it.
    pub fn sign(&self, target: Target) -> String {
        let sign = match self.head {
            Head::Multiclass => "",
            Head::MultiLabel if target.present => "+",
            Head::MultiLabel => "-",
        };
        format!("{sign}{}", self.name(target.class))
    }

    /// The target as a line of a picture.
    pub fn arrow(&self, target: Target) -> String {
        format!("-> {}", self.sign(target))
    }

    /// The probabilities before and after for people: the decision's, then in brackets the others of both decisions and the
    /// target, the more probable first; of several labels the one that is to change, then all others.
    pub fn shares(&self, row: &Row) -> [String; 2] {
        let share = |row: &[f32], class: usize| format!("{} {:.1} %", self.name(class), 100.0 * row[class]);
        let all: Vec<usize> = match self.head {
            Head::Multiclass => vec![row.target, row.decision_before, row.decision_after],
            Head::MultiLabel => (0..row.before.len()).collect(),
        };
        [(row.decision_before, &row.before), (row.decision_after, &row.after)].map(|(decision, shares)| {
            let first = if self.head == Head::Multiclass { decision } else { row.target };
            let mut others: Vec<usize> = all.iter().copied().filter(|class| *class != first).collect();
            others.sort_by(|a, b| shares[*b].total_cmp(&shares[*a]).then(a.cmp(b)));
            others.dedup();
            if others.is_empty() {
                return share(shares, first);
            }
            let others: Vec<String> = others.into_iter().map(|class| share(shares, class)).collect();
            format!("{} ({})", share(shares, first), others.join(", "))
        })
    }
}

/// One of several answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Seed of its noise.
    pub seed: u64,
    /// Whether it reached the target.
    pub reached: bool,
    /// Probability of the target.
    pub probability: f32,
    /// Mean absolute change of a value, as a share of the range.
    pub mean_change: f64,
    /// The strength it took.
    pub strength: f32,
}

/// What a model that did not guide makes of the counterfactual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Its most probable class, by the explained model's numbers.
    pub decision: usize,
    /// Its probability of the target.
    pub probability: f32,
    /// Whether it takes the counterfactual for what it was to become.
    pub agrees: bool,
}

/// How like the training data an image is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likeness {
    percentile: f64,
    unlike: bool,
}

impl From<Typicality> for Likeness {
    fn from(of: Typicality) -> Likeness {
        Likeness { percentile: of.percentile, unlike: of.unlike }
    }
}

impl From<Likeness> for Typicality {
    fn from(of: Likeness) -> Typicality {
        Typicality { percentile: of.percentile, unlike: of.unlike }
    }
}

/// One explained image. Its fields are those of `--json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its file, or its number in the data.
    pub image: String,
    /// Its class, where known.
    pub true_class: Option<String>,
    /// The class, or the label, that it is to have.
    pub target: usize,
    /// Of a label: to have it, or no longer.
    pub target_present: bool,
    /// The class's name.
    pub target_name: String,
    /// Whether it was the target before.
    pub already: bool,
    /// Whether it became the target.
    pub reached: bool,
    /// All that can become of it.
    pub verdict: Verdict,
    /// Probabilities of the original.
    pub before: Vec<f32>,
    /// Probabilities of the counterfactual.
    pub after: Vec<f32>,
    /// The most probable class before.
    pub decision_before: usize,
    /// The most probable class after.
    pub decision_after: usize,
    /// The target's probability of the images on the way.
    pub target_probability_by_step: Vec<f32>,
    /// Seconds it took: its share of the whole.
    pub seconds: f64,
    /// Seed of its noise.
    pub seed: u64,
    /// The strength of its rung; of the paper's chain α.
    pub strength: f32,
    /// Which rung of the ladder, from 0.
    pub rung: usize,
    /// Chains that were run.
    pub chains: usize,
    /// Of several labels, how many others' decisions changed.
    pub others_moved: usize,
    /// Mean absolute change of a value, as a share of the range.
    pub mean_change: f64,
    /// Share of the pixels that changed by more than 8 grey levels of 255.
    pub changed_share: f64,
    /// All answers, this one first; none where one was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
    /// Share of the answers that change each pixel \[H,W\].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stability: Option<Vec<f32>>,
    /// How like the training data it is; `None` where that is not known.
    pub typicality: Option<Likeness>,
    /// The judge's word, where there is a judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<Judged>,
}

impl Row {
    /// What stands before its pictures: the decision, unless there are several, what it was to become, and whether it did.
    pub fn lines(&self, names: &Names) -> Vec<String> {
        let mut lines = match names.head {
            Head::Multiclass => vec![names.decision(&self.before)],
            Head::MultiLabel => Vec::new(),
        };
        lines.push(names.arrow(self.aim()));
        lines.extend(self.verdict.lacking().map(str::to_owned));
        lines
    }

    /// Of an image called `image` and the answers for it, the first of which is told; `pixels` is height times width.
    ///
    /// # Errors
    /// Probabilities that are no numbers.
    pub fn of(
        image: String,
        true_class: Option<String>,
        made: &Variants,
        names: &Names,
        pixels: usize,
        seconds: f64,
    ) -> Result<Row> {
        let none = || duet::Error::config("variants", "are none");
        let one = made.answers.first().ok_or_else(none)?;
        let classes = one.before.len();
        let best = |row: &[f32]| -> Result<usize> { Ok(argmax(row, classes)?.first().copied().unwrap_or(0)) };
        let verdict = Verdict::of(names.head, one)?;
        let touched = one.touched(pixels);
        let variant = |answer: &Explanation| Variant {
            seed: answer.seed.0,
            reached: answer.reached,
            probability: answer.target.probability(&answer.after),
            mean_change: answer.mean_change(),
            strength: answer.strength,
        };
        let several = made.answers.len() > 1;
        Ok(Row {
            image,
            true_class,
            target: one.target.class,
            target_present: one.target.present,
            target_name: names.name(one.target.class).to_owned(),
            already: verdict == Verdict::Already,
            reached: verdict == Verdict::Reached,
            verdict,
            decision_before: best(&one.before)?,
            decision_after: best(&one.after)?,
            before: one.before.clone(),
            after: one.after.clone(),
            target_probability_by_step: one.curve.clone(),
            seconds,
            seed: one.seed.0,
            strength: one.strength,
            rung: one.rung,
            chains: one.chains,
            others_moved: one.moved,
            mean_change: one.mean_change(),
            changed_share: touched.iter().filter(|t| **t).count() as f64 / touched.len().max(1) as f64,
            variants: if several { made.answers.iter().map(variant).collect() } else { Vec::new() },
            stability: several.then(|| made.stability.clone()),
            typicality: None,
            judge: None,
        })
    }

    /// What it was to become.
    pub fn aim(&self) -> Target {
        Target { class: self.target, present: self.target_present }
    }

    /// What became of it, in words.
    pub fn outcome(&self, names: &Names) -> String {
        let [was, is] = [&self.before, &self.after].map(|row| names.decision(row));
        let target = names.target(self.aim());
        match (names.head, self.verdict) {
            (Head::MultiLabel, Verdict::Other) => format!("not reached: now {is}, wanted {target}"),
            _ => self.verdict.words(&target, &was, &is),
        }
    }

    /// How hard it was: "strength 2.4 (second try)"; where nothing helped, what came closest.
    pub fn effort(&self, method: &str) -> String {
        let knob = if method == "paper" { "α" } else { "strength" };
        let strength = f64::from((100.0 * self.strength).round()) / 100.0;
        match (self.reached, self.chains) {
            _ if method == "paper" => format!("{knob} {strength}"),
            (true, _) => format!("{knob} {strength} ({} try)", ordinal(self.rung)),
            (false, 1) => format!("{knob} {strength}, the only try"),
            (false, tries) => format!("{knob} {strength} came closest of {tries} tries"),
        }
    }

    /// What can be said for and against it without a judge: "changes 15 % of the picture; reached at strength 2.4 (second
    /// try); unlike the training data: no".
    pub fn honesty(&self, names: &Names, method: &str) -> String {
        let effort = self.effort(method);
        let outcome = match self.verdict {
            Verdict::Already => format!("{} before anything changed", names.target(self.aim())),
            Verdict::Reached => format!("reached at {effort}"),
            Verdict::Other | Verdict::Unchanged => format!("not reached: {effort}"),
        };
        let unlike = match self.typicality {
            None => "not known".to_owned(),
            Some(likeness) if likeness.unlike => "yes".to_owned(),
            Some(_) => "no".to_owned(),
        };
        let mut parts = vec![format!("changes {} of the picture", percent(self.changed_share)), outcome];
        if self.others_moved > 0 {
            parts.push(format!("other labels that moved with it: {}", self.others_moved));
        }
        if !self.variants.is_empty() {
            let reached = self.variants.iter().filter(|one| one.reached).count();
            parts.push(format!("reached by {reached} of {} seeds", self.variants.len()));
        }
        parts.push(format!("unlike the training data: {unlike}"));
        parts.join("; ")
    }

    /// Takes up the judge's probabilities \[K\] of the counterfactual.
    ///
    /// # Errors
    /// Probabilities that are no numbers.
    pub fn judged(&mut self, names: &Names, row: &[f32]) -> Result<()> {
        let decision = argmax(row, row.len())?.first().copied().unwrap_or(0);
        let probability = self.aim().probability(row);
        let agrees = match names.head {
            Head::Multiclass => decision == self.target,
            Head::MultiLabel => probability > 0.5,
        };
        self.judge = Some(Judged { decision, probability, agrees });
        Ok(())
    }

    /// The judge's word in words: "Shirt 71.3 %: agrees".
    pub fn judgement(&self, names: &Names) -> Option<String> {
        let judge = self.judge.as_ref()?;
        let share = 100.0 * judge.probability;
        Some(match judge.agrees {
            true => format!("{} {share:.1} %: agrees", names.sign(self.aim())),
            false => {
                format!("{}, {} {share:.1} %: disagrees", names.name(judge.decision), names.sign(self.aim()))
            }
        })
    }
}

/// Asks the judge about the counterfactuals \[N,C,H,W\] of rows.
///
/// # Errors
/// Device errors.
pub fn ask(judge: &Judge, names: &Names, rows: &mut [Row], counterfactuals: &[f32]) -> Result<()> {
    let said = judge.probabilities(counterfactuals)?;
    let classes = names.classes.len().max(1);
    rows.iter_mut().zip(said.chunks_exact(classes)).try_for_each(|(row, said)| row.judged(names, said))
}

/// "first" for 0 and so on.
fn ordinal(number: usize) -> String {
    match number {
        0 => "first".into(),
        1 => "second".into(),
        2 => "third".into(),
        3 => "fourth".into(),
        more => format!("{}th", more + 1),
    }
}

/// A share of a whole, with as many digits as it is worth: "15 %", "0.4 %", "0 %".
pub fn percent(share: f64) -> String {
    let value = 100.0 * share;
    if value > 0.0 && value < 9.95 { format!("{value:.1} %") } else { format!("{value:.0} %") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::rng::Seed;

    fn names(head: Head) -> Names {
        Names { classes: ["Coat", "Shirt", "Dress"].map(String::from).to_vec(), head }
    }

    fn answer(names: &Names, target: Target, before: [f32; 3], after: [f32; 3]) -> Explanation {
        let (reached, moved) = names.head.reached(&before, &after, target).unwrap();
        Explanation {
            seed: Seed(7),
            // One of four pixels; the second changes by less than 8 of 255.
            difference: vec![0.4, 0.06, 0.0, 0.0],
            after: after.to_vec(),
            reached,
            moved,
            rung: 1,
            strength: 2.4,
            chains: 2,
            ..Explanation::unchanged(&[0.0; 4], target, &before)
        }
    }

    fn row(names: &Names, answers: Vec<Explanation>) -> Row {
        Row::of("a.png".into(), None, &Variants::of(answers, 4), names, 4, 0.5).unwrap()
    }

    #[test]
    fn a_counterfactual_is_told_honestly() {
        let names = names(Head::Multiclass);
        let made = answer(&names, 1.into(), [0.9, 0.03, 0.07], [0.12, 0.8, 0.08]);
        let mut one = row(&names, vec![made]);
        assert_eq!(one.outcome(&names), "reached: Shirt");
        let line = "changes 25 % of the picture; reached at strength 2.4 (second try); \
                    unlike the training data: not known";
        assert_eq!(one.honesty(&names, "local"), line);
        one.typicality = Some(Typicality { percentile: 99.9, unlike: true }.into());
        assert!(one.honesty(&names, "local").ends_with("training data: yes"));
        assert_eq!(one.effort("paper"), "α 2.4");
        assert_eq!(names.shares(&one), ["Coat 90.0 % (Shirt 3.0 %)", "Shirt 80.0 % (Coat 12.0 %)"]);
        let failed = row(&names, vec![answer(&names, 1.into(), [0.9, 0.03, 0.07], [0.5, 0.4, 0.1])]);
        assert!(
            failed.honesty(&names, "local").contains("not reached: strength 2.4 came closest of 2 tries")
        );
        let already = row(&names, vec![answer(&names, 0.into(), [0.9, 0.03, 0.07], [0.9, 0.0, 0.1])]);
        assert!(already.already && already.honesty(&names, "local").contains("Coat before anything"));
        one.judged(&names, &[0.2, 0.7, 0.1]).unwrap();
        assert_eq!(one.judgement(&names).as_deref(), Some("Shirt 70.0 %: agrees"));
        one.judged(&names, &[0.1, 0.2, 0.7]).unwrap();
        assert_eq!(one.judgement(&names).as_deref(), Some("Dress, Shirt 20.0 %: disagrees"));
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), one, "as it was written, it is read");
    }

    #[test]
    fn labels_are_told_with_their_sign_and_what_moved_with_them() {
        let names = names(Head::MultiLabel);
        let without = Target { class: 1, present: false };
        let made = answer(&names, without, [0.9, 0.6, 0.2], [0.9, 0.4, 0.6]);
        let one = row(&names, vec![made]);
        assert_eq!(one.outcome(&names), "not reached: now Coat, Dress, wanted without Shirt");
        assert!(one.honesty(&names, "local").contains("other labels that moved with it: 1"));
        assert_eq!(names.shares(&one)[1], "Shirt 40.0 % (Coat 90.0 %, Dress 60.0 %)");
        let made = answer(&names, without, [0.9, 0.6, 0.2], [0.9, 0.4, 0.2]);
        let mut one = row(&names, vec![made]);
        assert_eq!(one.outcome(&names), "reached: without Shirt");
        assert_eq!((names.sign(without), names.decision(&[0.1; 3])), ("-Shirt".into(), "no label".into()));
        one.judged(&names, &[0.9, 0.2, 0.1]).unwrap();
        assert_eq!(one.judge.as_ref().map(|judge| judge.agrees), Some(true));
        assert_eq!(one.judge.map(|judge| judge.probability), Some(0.8));
    }

    #[test]
    fn of_several_answers_all_are_told_the_best_first() {
        let names = names(Head::Multiclass);
        let good = answer(&names, 1.into(), [0.9, 0.03, 0.07], [0.12, 0.8, 0.08]);
        let mut bad = answer(&names, 1.into(), [0.9, 0.03, 0.07], [0.5, 0.4, 0.1]);
        bad.seed = Seed(8);
        let one = row(&names, vec![bad, good]);
        let seeds: Vec<u64> = one.variants.iter().map(|variant| variant.seed).collect();
        assert!(seeds == [7, 8] && one.seed == 7 && one.reached);
        assert_eq!(one.stability.as_deref(), Some(&[1.0, 0.0, 0.0, 0.0][..]));
        assert!(one.honesty(&names, "local").contains("reached by 1 of 2 seeds"));
        assert_eq!([0.0, 0.004, 0.0994, 0.15].map(percent), ["0 %", "0.4 %", "9.9 %", "15 %"]);
    }
}
