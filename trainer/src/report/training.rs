//! A run as one HTML file: what was learnt from which data, how it went, samples and counterfactuals.

use super::plot::{Figure, Panel, Series};
use crate::data::Summary;
use crate::io::output::time;
use crate::metrics::statistics::mean_of_known;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use duet::checkpoint::Figures;
use duet::model::Head;
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("page.css");
/// What a page without a script needs.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
/// Pictures in the size in which they were drawn.
const DRAWN: &str = ".drawn img { width: auto; max-width: 100%; height: auto; aspect-ratio: auto; }";
/// Images that a network has to see before its own look like them, about.
const LONG: u64 = 100_000;
/// Colours of lines: training, images that are not trained on.
const LINES: [&str; 2] = ["#4b7be0", "#c2392f"];

/// How often the model is right on the test images.
pub struct Learnt {
    /// Names of the classes or labels.
    pub classes: Vec<String>,
    /// One class, or any number of labels.
    pub head: Head,
    /// Share of right answers.
    pub accuracy: f64,
    /// Of each class; `None` without images.
    pub per_class: Vec<Option<f64>>,
    /// Of labels the mean of both kinds of right answers.
    pub balanced: Option<Vec<Option<f64>>>,
    /// Images of each class.
    pub seen: Vec<usize>,
}

/// All that the report tells.
pub struct Report {
    /// What the data are called.
    pub name: String,
    /// The run's folder.
    pub folder: String,
    /// How often the model is right.
    pub learnt: Learnt,
    /// The data.
    pub summary: Summary,
    /// Training, validation and test images.
    pub counts: [usize; 3],
    /// Parameters of the network.
    pub parameters: usize,
    /// Device's name.
    pub device: String,
    /// Steps that were done.
    pub steps: u64,
    /// Images that were seen in them.
    pub images: u64,
    /// The figures of the run.
    pub history: Vec<Figures>,
    /// The last grid of samples (PNG).
    pub samples: Option<Vec<u8>>,
    /// Counterfactuals (PNG).
    pub strips: Option<Vec<u8>>,
    /// How many of these reached their target, and of how many.
    pub reached: Option<(usize, usize)>,
    /// The recipe's text.
    pub recipe: String,
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

impl Report {
    fn facts(&self) -> Vec<(&'static str, String)> {
        let [train, validation, test] = self.counts;
        let learnt = &self.learnt;
        let mut facts = vec![("Right on test images", percent(learnt.accuracy))];
        let (name, balanced) = match &learnt.balanced {
            Some(balanced) => ("Balanced, mean of labels", mean_of_known(balanced.iter().copied())),
            None => ("Mean of classes", mean_of_known(learnt.per_class.iter().copied())),
        };
        facts.extend(balanced.map(|mean| (name, percent(mean))));
        facts.push(("Training images", train.to_string()));
        if validation > 0 {
            facts.push(("To look at on the way", validation.to_string()));
        }
        facts.push(("Test images", test.to_string()));
        facts.push(("Steps", self.steps.to_string()));
        facts.push(("Parameters", format!("{:.2} million", self.parameters as f64 / 1e6)));
        facts.extend(self.seconds().map(|seconds| ("Time", time(seconds))));
        facts
    }

    fn seconds(&self) -> Option<f64> {
        self.history.iter().rev().find_map(|figures| figures.values.get("seconds").copied())
    }

    /// Values of a figure by step.
    fn points(&self, figure: &str) -> Vec<[f64; 2]> {
        let known = self.history.iter().filter_map(|at| Some([at.step as f64, *at.values.get(figure)?]));
        known.collect()
    }

    /// Charts of what was measured at two steps or more.
    fn charts(&self) -> Vec<String> {
        let charts: [(&str, &[(&str, &str)]); 3] = [
            ("Noise error", &[("training", "mse")]),
            ("Classifier's loss", &[("training", "classifier_loss")]),
            ("Accuracy", &[("validation", "validation_accuracy"), ("test", "test_accuracy")]),
        ];
        let chart = |(title, lines): &(&str, &[(&str, &str)])| {
            let mut series = Vec::new();
            for ((name, figure), colour) in lines.iter().zip(LINES) {
                let points = self.points(figure);
                if !points.is_empty() {
                    let dots = points.len() < 30;
                    series.push(Series {
                        name: (*name).into(),
                        points,
                        colour: colour.into(),
                        dashed: false,
                        dots,
                    });
                }
            }
            if series.iter().all(|series| series.points.len() < 2) {
                return None;
            }
            let most =
                series.iter().flat_map(|series| &series.points).map(|point| point[1]).fold(0.0, f64::max);
            let figure = Figure {
                title: (*title).into(),
                x_label: "step".into(),
                x: [0.0, self.steps as f64],
                y: [0.0, if *title == "Accuracy" { 1.0 } else { 1.05 * most }],
                columns: 1,
                size: [280.0, 170.0],
                panels: vec![Panel { title: String::new(), series }],
            };
            Some(figure.svg())
        };
        charts.iter().filter_map(chart).collect()
    }

    fn table(&self) -> Markup {
        let learnt = &self.learnt;
        let (what, images) = match learnt.head {
            Head::Multiclass => ("Class", "Test images"),
            Head::MultiLabel => ("Label", "Test images (all)"),
        };
        let shown = |share: Option<f64>| share.map_or("–".to_owned(), percent);
        html! {
            div.wide.pairs {
                table {
                    thead { tr { th { (what) } th { "Right" } @if learnt.balanced.is_some() { th { "Balanced" } } th { (images) } } }
                    tbody {
                        @for (class, name) in learnt.classes.iter().enumerate() {
                            tr {
                                th scope="row" { (name) }
                                td { (shown(learnt.per_class.get(class).copied().flatten())) }
                                @if let Some(balanced) = &learnt.balanced {
                                    td { (shown(balanced.get(class).copied().flatten())) }
                                }
                                td { (learnt.seen.get(class).copied().unwrap_or(0)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn picture(png: &[u8], alt: &str) -> Markup {
    html! { div.wide.drawn { img alt=(alt) src={ "data:image/png;base64," (STANDARD.encode(png)) }; } }
}

/// The whole file.
pub fn page(report: &Report) -> String {
    let charts = report.charts();
    let summary = &report.summary;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { "Duet: what was learnt from " (report.name) }
                style { (PreEscaped(STYLE)) (DRAWN) }
            }
            body {
                main {
                    h1 { "What was learnt from " (report.name) }
                    p.lead {
                        "One network that generates such images, tells their classes, and shows what would have to change for \
                         its decision to change."
                    }
                    dl.facts {
                        @for (term, value) in report.facts() { div { dt { (term) } dd { (value) } } }
                    }
                    p.meta { "Trained on " (report.device) "." }
                    h2 { "How often it is right" }
                    (report.table())
                    p.meta { "On images that were not trained on, and that chose nothing." }
                    @if let Some(strips) = &report.strips {
                        h2 { "What would have to change?" }
                        @if let Some((reached, all)) = report.reached {
                            p.lead {
                                "Test images, what would make the model decide otherwise, and the difference: red became \
                                 lighter, blue darker. " (reached) " of " (all) " reached what they were to become."
                            }
                        }
                        (picture(strips, "Test images, counterfactuals and differences"))
                    }
                    @if let Some(samples) = &report.samples {
                        h2 { "Images it makes" }
                        @if report.images < LONG {
                            p.lead {
                                "It saw " (report.images) " images so far. A network has to see some hundred thousand before \
                                 those it makes itself look like them; its classes it knows much earlier."
                            }
                        }
                        (picture(samples, "Generated images, a row for each class"))
                    }
                    @if !charts.is_empty() {
                        h2 { "How training went" }
                        div.wide { @for chart in &charts { (PreEscaped(chart)) " " } }
                    }
                    h2 { "The data" }
                    ul {
                        li { (summary.text(false).trim_start_matches("data: ")) }
                        @for warning in &summary.warnings { li { strong { "Mind: " } (warning) } }
                    }
                    h2 { "What next" }
                    ul {
                        li { "The page with this model, on this machine: " code { "duet serve " (report.folder) } }
                        li { "Pictures of your own: " code { "duet explain --model " (report.folder) "/checkpoint.safetensors PICTURE" } }
                        li {
                            "Longer training: " code {
                                "duet train " (report.folder) "/recipe.toml --out " (report.folder) " --resume --override --set train.steps="
                                (report.steps * 4)
                            }
                        }
                    }
                    details {
                        summary { h2 { "The recipe" } }
                        pre { code { (report.recipe) } }
                    }
                }
            }
        }
    };
    page.into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(step: u64, values: &[(&str, f64)]) -> Figures {
        Figures { step, values: values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect() }
    }

    fn report() -> Report {
        let mut summary = Summary::default();
        summary.warnings.push("2 of 20 pictures cannot be read".into());
        Report {
            name: "cells & <others>".into(),
            folder: "runs/cells".into(),
            learnt: Learnt {
                classes: vec!["round".into(), "long".into(), "none".into()],
                head: Head::Multiclass,
                accuracy: 0.75,
                per_class: vec![Some(1.0), Some(0.5), None],
                balanced: None,
                seen: vec![10, 10, 0],
            },
            summary,
            counts: [160, 18, 20],
            parameters: 650_000,
            device: "some device".into(),
            steps: 100,
            images: 1600,
            history: vec![
                figures(50, &[("mse", 0.4), ("seconds", 60.0), ("validation_accuracy", 0.5)]),
                figures(100, &[("mse", 0.2), ("seconds", 125.0), ("validation_accuracy", 0.7)]),
            ],
            samples: Some(b"png".to_vec()),
            strips: None,
            reached: None,
            recipe: "[data]".into(),
        }
    }

    #[test]
    fn it_tells_what_was_learnt_and_from_what() {
        let page = page(&report());
        for word in [
            "cells &amp; &lt;others&gt;",
            "75.0 %",
            // The mean of both classes that have images.
            "Mean of classes",
            "<td>100.0 %</td>",
            "–",
            "2 of 20 pictures cannot be read",
            "0.65 million",
            "2 min",
            "duet serve runs/cells",
            "train.steps=400",
            "It saw 1600 images so far",
            "Trained on some device",
        ] {
            assert!(page.contains(word), "{word}");
        }
        // The noise error and the accuracy: of the classifier's loss nothing was noted.
        assert_eq!(page.matches("<svg").count(), 2);
        assert_eq!(page.matches("data:image/png;base64,").count(), 1);
        assert!(!page.contains("<script") && !page.contains("http-equiv=\"refresh\""));
    }

    #[test]
    fn one_point_is_no_chart_and_labels_have_both_figures() {
        let mut one = report();
        one.history.truncate(1);
        one.learnt.head = Head::MultiLabel;
        one.learnt.balanced = Some(vec![Some(0.9), Some(0.6), None]);
        let page = page(&one);
        assert!(
            !page.contains("<svg") && page.contains("Balanced") && page.contains("75.0 %"),
            "(0.9 + 0.6) / 2"
        );
    }
}
