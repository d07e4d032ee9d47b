//! What chooses among many cards: filters, order, pages, and a table of class pairs.

use super::card::Card;
use super::page::Settings;
use crate::eval::row::{Names, percent};
use duet::model::Target;
use maud::{Markup, html};
use std::collections::BTreeMap;

/// A class before and what it was to become.
type Pair = (usize, usize, bool);

/// What became of the images of a pair.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    images: usize,
    reached: usize,
    agrees: usize,
    change: f64,
}

fn tallies(cards: &[Card]) -> BTreeMap<Pair, Tally> {
    let mut tallies: BTreeMap<Pair, Tally> = BTreeMap::new();
    for row in cards.iter().map(|card| &card.row) {
        let tally = tallies.entry((row.decision_before, row.target, row.target_present)).or_default();
        tally.images += 1;
        tally.reached += usize::from(row.reached);
        tally.agrees += usize::from(row.judge.as_ref().is_some_and(|judge| judge.agrees));
        tally.change += row.mean_change;
    }
    tallies
}

fn pair_words(names: &Names, (was, class, present): Pair) -> String {
    format!("{} → {}", names.name(was), names.sign(Target { class, present }))
}

/// A table of what became of each pair of classes.
pub fn by_pair(settings: &Settings, cards: &[Card]) -> Markup {
    let tallies = tallies(cards);
    html! {
        details.pairs {
            summary { h2 { "By class pair" } }
            div.wide tabindex="0" role="region" aria-label="By class pair" {
                table {
                    thead {
                        tr {
                            th scope="col" { "decision → target" }
                            th scope="col" { "images" }
                            th scope="col" { "reached" }
                            @if settings.judge.is_some() { th scope="col" { "judge agrees" } }
                            th scope="col" { "mean change" }
                        }
                    }
                    tbody {
                        @for (pair, tally) in &tallies {
                            tr {
                                th scope="row" { (pair_words(&settings.names, *pair)) }
                                td { (tally.images) }
                                td { (tally.reached) }
                                @if settings.judge.is_some() { td { (tally.agrees) } }
                                td { (percent(tally.change / tally.images as f64)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The controls; the script shows them.
pub fn filters(settings: &Settings, cards: &[Card]) -> Markup {
    let count = |name: &str, value: &str| {
        let has = |card: &&Card| card.marks().iter().any(|mark| mark.0 == name && mark.1 == value);
        cards.iter().filter(has).count()
    };
    let choices = |name: &str, all: &[(&'static str, &'static str)]| {
        let counted = all.iter().map(|(value, words)| (*value, *words, count(name, value)));
        counted.filter(|(_, _, count)| *count > 0).collect::<Vec<_>>()
    };
    let select = |name: &str, label: &str, all: &[(&'static str, &'static str)]| {
        html! {
            label {
                span { (label) }
                select name=(name) {
                    option value="" { "any" }
                    @for (value, words, count) in choices(&format!("data-{name}"), all) {
                        option value=(value) { (words) " (" (count) ")" }
                    }
                }
            }
        }
    };
    let verdicts = [
        ("reached", "yes"),
        ("other", "no, another class"),
        ("unchanged", "no, still the same"),
        ("already", "was so before"),
    ];
    html! {
        form.filters hidden aria-label="Which images" {
            label {
                span { "Decision → target" }
                select name="pair" {
                    option value="" { "any" }
                    @for (pair, tally) in tallies(cards) {
                        option value={ (pair.0) ">" (if pair.2 { "+" } else { "-" }) (pair.1) } {
                            (pair_words(&settings.names, pair)) " (" (tally.images) ")"
                        }
                    }
                }
            }
            (select("verdict", "Target reached", &verdicts))
            @if settings.judge.is_some() {
                (select("judge", "Judge", &[("agrees", "agrees"), ("disagrees", "disagrees")]))
            }
            label {
                span { "Order" }
                select name="order" {
                    option value="" { "as given" }
                    option value="most" { "largest change first" }
                    option value="least" { "smallest change first" }
                }
            }
            label.check {
                input type="checkbox" name="plain";
                span { "originals without lines" }
            }
            button type="reset" { "Show all" }
            output aria-live="polite" {}
        }
    }
}

/// Buttons to turn pages; the script shows them.
pub fn pager() -> Markup {
    html! {
        nav.pager hidden aria-label="Pages" {
            button type="button" data-turn="-1" { "← Previous" }
            span {}
            button type="button" data-turn="1" { "Next →" }
        }
    }
}
