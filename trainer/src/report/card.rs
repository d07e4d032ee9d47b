//! One explained image on the page: its pictures, what is to be said of them, probabilities.

use super::outline::Outline;
use super::page::Settings;
use crate::eval::explanations::Verdict;
use crate::eval::row::{Row, percent};
use crate::io::render::{Grid, Palette};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use duet::Result;
use duet::explain::touched;
use duet::typicality::Typicality;
use maud::{Markup, html};
use std::path::Path;

/// Classes a card lists at least, where there are as many.
const LISTED: usize = 3;

/// The images of an explanation, \[C,H,W\] in −1..1.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// As it was.
    pub original: &'a [f32],
    /// As it became.
    pub counterfactual: &'a [f32],
    /// Where the chain began; `None` where that tells nothing.
    pub noised: Option<&'a [f32]>,
    /// Share of the answers that change each pixel \[H,W\], of several.
    pub stability: Option<&'a [f32]>,
}

/// A picture and what is to be read below it, and instead of it.
#[derive(Clone, Debug)]
struct Figure {
    title: &'static str,
    text: String,
    png: Vec<u8>,
}

/// One explained image.
#[derive(Clone, Debug)]
pub struct Card {
    /// What is known of it.
    pub row: Row,
    figures: Vec<Figure>,
    outline: Outline,
    size: usize,
}

impl Card {
    /// Encodes the pictures.
    ///
    /// # Errors
    /// [`duet::Error::Write`] naming `path`, the page.
    pub fn new(path: &Path, grid: Grid, settings: &Settings, row: Row, images: Images) -> Result<Card> {
        let difference: Vec<f32> =
            images.counterfactual.iter().zip(images.original).map(|(is, was)| is - was).collect();
        let touched = touched(&difference, grid.size * grid.size);
        let outline = Outline::of(&touched, images.stability, grid.size);
        let [was, is] = [&row.before, &row.after].map(|shares| settings.names.decision(shares));
        let mut figures = Vec::new();
        let mut add = |title, text, image: &[f32], palette, solid| -> Result<()> {
            figures.push(Figure { title, text, png: grid.encode_one(path, image, palette, solid)? });
            Ok(())
        };
        let outlined = format!("the original, decided as {was}, with lines around what changed");
        add("original", outlined, images.original, Palette::Image, None)?;
        if let Some(noised) = images.noised {
            let text = format!("the original with {} noise", percent(settings.noise));
            add("noised", text, noised, Palette::Image, None)?;
        }
        let text = format!("the counterfactual, decided as {is}");
        add("counterfactual", text, images.counterfactual, Palette::Image, None)?;
        let text = format!("what changed: a pixel by {} of the range on average", percent(row.mean_change));
        add("difference", text, &difference, Palette::Difference, images.stability)?;
        if let Some(stability) = images.stability {
            let text = format!("how many of the {} answers change each pixel", row.variants.len());
            add("stability", text, stability, Palette::Share, None)?;
        }
        Ok(Card { row, figures, outline, size: grid.size })
    }

    /// What filters compare, as attributes: which classes, whether it was reached, what the judge says, how much changed.
    pub fn marks(&self) -> [(&'static str, String); 4] {
        let row = &self.row;
        let verdict = match row.verdict {
            Verdict::Already => "already",
            Verdict::Reached => "reached",
            Verdict::Other => "other",
            Verdict::Unchanged => "unchanged",
        };
        let judge = match &row.judge {
            None => "none",
            Some(judge) if judge.agrees => "agrees",
            Some(_) => "disagrees",
        };
        let sign = if row.target_present { "+" } else { "-" };
        [
            ("data-pair", format!("{}>{sign}{}", row.decision_before, row.target)),
            ("data-verdict", verdict.into()),
            ("data-judge", judge.into()),
            ("data-change", format!("{:.6}", row.mean_change)),
        ]
    }

    /// The card.
    pub fn markup(&self, settings: &Settings, number: usize) -> Markup {
        let (row, names) = (&self.row, &settings.names);
        let [was, is] = [&row.before, &row.after].map(|shares| names.decision(shares));
        let mark = match row.verdict {
            Verdict::Reached => "yes",
            Verdict::Other => "part",
            Verdict::Unchanged | Verdict::Already => "no",
        };
        let unlike = row.typicality.map(Typicality::from).filter(|typicality| typicality.unlike);
        html! {
            h3 { (was) " " span aria-label="to" { "→" } " " (is) }
            p.meta {
                (row.image) " · true class: " (row.true_class.as_deref().unwrap_or("not known"))
                " · target: " (names.target(row.aim()))
            }
            p.verdict.(mark) { (row.outcome(names)) }
            @if let Some(unlike) = unlike {
                p.verdict.no { (unlike) ": what the network says of it means little" }
            }
            div.pictures {
                @for figure in &self.figures {
                    figure {
                        div.frame {
                            img alt={ (row.image) ": " (figure.text) } src={ "data:image/png;base64," (STANDARD.encode(&figure.png)) };
                            @if figure.title == "original" { (self.lines()) }
                        }
                        figcaption { (figure.title) }
                    }
                }
            }
            p.honesty { (together(&sentence(&row.honesty(names, &settings.method)))) "." }
            @if let Some(judgement) = row.judgement(names) {
                p.judge.(if row.judge.as_ref().is_some_and(|judge| judge.agrees) { "yes" } else { "no" }) {
                    "Judge: " (judgement)
                }
            }
            (self.probabilities(settings))
            p.meta {
                "image " (number) " · seed " (row.seed) " · mean change of a pixel " (together(&percent(row.mean_change)))
                " · " (format!("{:.2}\u{a0}s", row.seconds))
            }
        }
    }

    /// Lines around what changed, over the original.
    fn lines(&self) -> Markup {
        let Outline { stable, unstable } = &self.outline;
        html! {
            svg.outline viewBox={ "0 0 " (self.size) " " (self.size) } aria-hidden="true" focusable="false" {
                @for (class, path) in [("unstable", unstable), ("stable", stable)] {
                    @if !path.is_empty() {
                        path.under.(class) d=(path) {}
                        path.over.(class) d=(path) {}
                    }
                }
            }
        }
    }

    fn probabilities(&self, settings: &Settings) -> Markup {
        let row = &self.row;
        html! {
            table {
                thead {
                    tr { th scope="col" { "class" } th scope="col" { "before" } th scope="col" { "after" } }
                }
                tbody {
                    @for class in listed(row) {
                        tr.target[class == row.target] {
                            th scope="row" { (settings.names.name(class)) }
                            @for shares in [&row.before, &row.after] {
                                td {
                                    span.bar { span style={ "width:" (format!("{:.1}", 100.0 * shares[class])) "%" } {} }
                                    " " (format!("{:.1} %", 100.0 * shares[class]))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Numbers in one line with their per cent.
fn together(text: &str) -> String {
    text.replace(" %", "\u{a0}%")
}

/// With a capital first.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// The classes that matter: both decisions, the target, then the next likely ones; the most probable first.
fn listed(row: &Row) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.before.len()).collect();
    let most = |c: &usize| row.before[*c].max(row.after[*c]);
    order.sort_by(|a, b| most(b).total_cmp(&most(a)));
    let needed = |c: &usize| *c == row.target || [row.decision_before, row.decision_after].contains(c);
    let count = order.iter().filter(|c| needed(c)).count();
    let extra = LISTED.max(count) - count;
    let others: Vec<usize> = order.iter().filter(|c| !needed(c)).take(extra).copied().collect();
    order.into_iter().filter(|c| needed(c) || others.contains(c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::page::tests::row;

    #[test]
    fn the_listed_classes_are_those_that_matter() {
        assert_eq!(listed(&row(2, [0, 2])), [0, 2, 1]);
        assert_eq!(listed(&row(3, [0, 2])), [0, 2, 3]);
        assert_eq!(listed(&row(3, [0, 0])), [0, 1, 3]);
    }

    #[test]
    fn a_line_begins_with_a_capital() {
        assert_eq!([sentence("changes 1 %"), sentence("")], ["Changes 1 %", ""]);
    }
}
