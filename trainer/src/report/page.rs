//! Explanations as one HTML file: no network, no script, images inside.

use crate::eval::explanations::Verdict;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use duet::typicality::{Typicality, UNLIKE};
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Classes a card lists at least, where there are as many.
const LISTED: usize = 3;
/// The file itself and its pictures are all it needs.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
const STYLE: &str = include_str!("page.css");

/// How all images were explained.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the model's file.
    pub model: String,
    /// Share of the chain the images were noised by.
    pub noise: f64,
    /// Steps of an explanation, and of the whole chain.
    pub steps: [usize; 2],
    /// Seed of the noise.
    pub seed: u64,
    /// Sampler and guidance, in words.
    pub chain: String,
    /// Device's name.
    pub device: String,
    /// Names of the classes.
    pub class_names: Vec<String>,
}

/// One explained image.
#[derive(Clone, Debug)]
pub struct Card {
    /// File name.
    pub name: String,
    /// Its class, where known.
    pub truth: Option<String>,
    /// How like the training data it is, where known.
    pub typicality: Option<Typicality>,
    /// Class to move to.
    pub target: usize,
    /// Decision before and after.
    pub decisions: [usize; 2],
    /// What became of it.
    pub verdict: Verdict,
    /// Probabilities before and after.
    pub probabilities: [Vec<f32>; 2],
    /// Original, noised, counterfactual, difference as PNG files.
    pub pictures: [Vec<u8>; 4],
    /// Mean absolute change of a pixel, as a share of the range.
    pub change: f64,
    /// Seconds it took, as a share of its batch's time.
    pub seconds: f64,
}

/// A share in per cent.
fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn name(settings: &Settings, class: usize) -> &str {
    settings.class_names.get(class).map_or("?", String::as_str)
}

/// What holds for all images, as terms and values.
fn facts(settings: &Settings, cards: &[Card]) -> Vec<(&'static str, String)> {
    let count = cards.len();
    let changed = cards.iter().filter(|c| c.decisions[0] != c.decisions[1]).count();
    let count_of = |verdict: Verdict| cards.iter().filter(|c| c.verdict == verdict).count();
    // An image said to be of a class that the model does not know tells nothing of its decisions.
    let class_of = |c: &Card| settings.class_names.iter().position(|name| Some(name) == c.truth.as_ref());
    let known: Vec<(usize, &Card)> = cards.iter().filter_map(|c| Some((class_of(c)?, c))).collect();
    let right = known.iter().filter(|(class, c)| *class == c.decisions[0]).count();
    let seconds: f64 = cards.iter().map(|c| c.seconds).sum();
    let mut facts = vec![
        ("Images", count.to_string()),
        ("Decision changed", format!("{changed} of {count}")),
        ("Target reached", format!("{} of {count}", count_of(Verdict::Reached))),
    ];
    if count_of(Verdict::Already) > 0 {
        facts.push(("Of the target's class already", format!("{} of {count}", count_of(Verdict::Already))));
    }
    if !known.is_empty() {
        facts.push(("First decision right", format!("{right} of {}", known.len())));
    }
    facts.extend([
        ("Noise", percent(settings.noise)),
        ("Steps", format!("{} of a chain of {}", settings.steps[0], settings.steps[1])),
        ("Seed", settings.seed.to_string()),
        ("Method", settings.chain.clone()),
        ("Time", format!("{seconds:.1} s")),
        ("Model", settings.model.clone()),
        ("Device", settings.device.clone()),
    ]);
    facts
}

/// The whole file.
pub fn page(settings: &Settings, cards: &[Card]) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { "Duet: what would have to change?" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "What would have to change?" }
                    p.lead {
                        "Each image below was noised part of the way and then denoised towards another class, by the same \
                         network that classifies it. What comes out is a counterfactual: an image close to the original that \
                         the network takes for something else."
                    }
                    dl.facts {
                        @for (term, value) in facts(settings, cards) {
                            div { dt { (term) } dd { (value) } }
                        }
                    }
                    h2 { "How to read it" }
                    (how_to_read(cards))
                    h2 { "Images" }
                    ol.cards {
                        @for (number, card) in (1..).zip(cards) { (card_item(settings, number, card)) }
                    }
                }
                footer {
                    p {
                        "Made by " code { "duet explain --report" } ". To draw or upload images of your own and explain them \
                         in the browser, run " code { "make web" } " in the project's folder and open "
                        a href="http://localhost:8080" { "http://localhost:8080" } "."
                    }
                }
            }
        }
    };
    page.into_string()
}

fn how_to_read(cards: &[Card]) -> Markup {
    let likeness = if cards.iter().any(|card| card.typicality.is_none()) {
        "The model's file does not tell what its training data look like to it, so nothing here tells whether an image is \
         unlike them."
            .to_owned()
    } else {
        format!(
            "An image is marked as unlike the training data where the network's noise errors on it are more unusual than on \
             {UNLIKE} % of the training images."
        )
    };
    html! {
        ul.how {
            li {
                strong { "Noised" } " is where the way back begins: what the noise hides may change, what shows through it \
                 stays."
            }
            li {
                strong { "Difference" } " is counterfactual minus original: " span.up { "red" } " became lighter, "
                span.down { "blue" } " became darker, white stayed. Strong colours mark where it had to change; faint ones all \
                 over are what noise and denoising leave in any image."
            }
            li {
                (likeness) " Of pictures unlike it the network's decisions mean little."
            }
            li {
                "The bars are the network's probabilities of the original (before) and of the counterfactual (after). It \
                 explains this network's decision, not what makes such a thing in the world."
            }
        }
    }
}

fn card_item(settings: &Settings, number: usize, card: &Card) -> Markup {
    let [was, is] = card.decisions.map(|class| name(settings, class));
    let (mark, verdict) = match card.verdict {
        Verdict::Reached => ("yes", "decision changed to the target".to_owned()),
        Verdict::Other => ("part", "decision changed, but not to the target".to_owned()),
        Verdict::Unchanged => ("no", "decision not changed".to_owned()),
        Verdict::Already => ("no", card.verdict.words(name(settings, card.target), was, is)),
    };
    let (noise, change) = (percent(settings.noise), percent(card.change));
    let texts = [
        ("original", format!("the original, decided as {was}")),
        ("noised", format!("the original with {noise} noise")),
        ("counterfactual", format!("the counterfactual, decided as {is}")),
        ("difference", format!("what changed; a pixel by {change} of the range on average")),
    ];
    html! {
        li.card id={ "image-" (number) } {
            h3 { (was) " " span aria-label="to" { "→" } " " (is) }
            p.meta {
                (card.name) " · true class: " (card.truth.as_deref().unwrap_or("not known"))
                " · target: " (name(settings, card.target))
            }
            p.verdict.(mark) { (verdict) }
            @if let Some(unlike) = card.typicality.filter(|t| t.unlike) {
                p.verdict.no { (unlike) ": what the network says of it means little" }
            }
            div.pictures {
                @for ((title, text), bytes) in texts.iter().zip(&card.pictures) {
                    figure {
                        img alt={ (card.name) ": " (text) } src={ "data:image/png;base64," (STANDARD.encode(bytes)) };
                        figcaption { (title) }
                    }
                }
            }
            (probabilities(settings, card))
            p.meta {
                "noise " (noise) " · " (settings.steps[0]) " steps · seed " (settings.seed)
                " · mean change of a pixel " (change) " · " (format!("{:.2}\u{a0}s", card.seconds))
            }
        }
    }
}

fn probabilities(settings: &Settings, card: &Card) -> Markup {
    html! {
        table {
            thead {
                tr { th scope="col" { "class" } th scope="col" { "before" } th scope="col" { "after" } }
            }
            tbody {
                @for class in listed(card) {
                    tr.target[class == card.target] {
                        th scope="row" { (name(settings, class)) }
                        @for row in &card.probabilities {
                            td {
                                span.bar { span style={ "width:" (format!("{:.1}", 100.0 * row[class])) "%" } {} }
                                " " (percent(f64::from(row[class])))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The classes that matter: both decisions, the target, then the next likely ones; the most probable first.
fn listed(card: &Card) -> Vec<usize> {
    let [before, after] = &card.probabilities;
    let mut order: Vec<usize> = (0..before.len()).collect();
    let most = |c: &usize| before[*c].max(after[*c]);
    order.sort_by(|a, b| most(b).total_cmp(&most(a)));
    let needed = |c: &usize| *c == card.target || card.decisions.contains(c);
    let extra =
        LISTED.max(order.iter().filter(|c| needed(c)).count()) - order.iter().filter(|c| needed(c)).count();
    let others: Vec<usize> = order.iter().filter(|c| !needed(c)).take(extra).copied().collect();
    order.into_iter().filter(|c| needed(c) || others.contains(c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(target: usize, decisions: [usize; 2]) -> Card {
        Card {
            name: "<b>&\".png".into(),
            truth: Some("a".into()),
            typicality: Some(Typicality { percentile: 99.96, unlike: target == 3 }),
            target,
            decisions,
            verdict: match decisions {
                [was, _] if was == target => Verdict::Already,
                [_, is] if is == target => Verdict::Reached,
                [was, is] if was == is => Verdict::Unchanged,
                _ => Verdict::Other,
            },
            probabilities: [vec![0.7, 0.2, 0.06, 0.04], vec![0.1, 0.2, 0.65, 0.05]],
            pictures: [vec![1], vec![2], vec![3], vec![4]],
            change: 0.05,
            seconds: 0.5,
        }
    }

    fn settings() -> Settings {
        Settings {
            model: "m.safetensors".into(),
            noise: 0.2,
            steps: [20, 100],
            seed: 3,
            chain: "DDIM".into(),
            device: "<card>".into(),
            class_names: ["a", "b", "<c>", "d"].map(str::to_owned).to_vec(),
        }
    }

    #[test]
    fn a_page_tells_everything_and_escapes_text() {
        let page = page(&settings(), &[card(2, [0, 2]), card(3, [0, 0]), card(1, [0, 2]), card(0, [0, 0])]);
        for text in [
            "20.0 %",
            "α 60",
            "20 steps",
            "seed 3",
            "0.50\u{a0}s",
            "true class: a",
            "2 of 4",
            "1 of 4",
            "70.0 %",
        ] {
            assert!(page.contains(text), "{text}: {page}");
        }
        let verdicts = [
            "changed to the target",
            "not changed<",
            "but not to the target",
            ">already a: nothing to change<",
        ];
        assert!(verdicts.iter().all(|text| page.matches(text).count() == 1), "{page}");
        assert_eq!(page.matches("unlike the training data (beyond 99.9 % of it)").count(), 1, "{page}");
        assert!(page.contains(&format!("more unusual than on {UNLIKE} % of")), "{page}");
        let silent = Card { typicality: None, ..card(3, [0, 0]) };
        let silent = super::page(&settings(), &[silent]);
        assert!(silent.contains("nothing here tells") && !silent.contains("beyond"), "{silent}");
        assert!(page.contains("&lt;b&gt;&amp;&quot;.png") && page.contains("&lt;c&gt;"), "{page}");
        assert!(!page.contains("<b>") && !page.contains("<c>") && !page.contains("<card>"), "{page}");
        assert_eq!(page.matches("<img alt=\"&lt;b").count(), 16, "every picture has words");
        assert_eq!(page.matches("data:image/png;base64,").count(), 16);
        assert!(!page.contains("<script") && page.matches("http").count() <= 4, "nothing is fetched");
    }

    #[test]
    fn the_listed_classes_are_those_that_matter() {
        assert_eq!(listed(&card(2, [0, 2])), [0, 2, 1]);
        assert_eq!(listed(&card(3, [0, 2])), [0, 2, 3]);
        assert_eq!(listed(&card(3, [0, 0])), [0, 2, 3]);
    }
}
