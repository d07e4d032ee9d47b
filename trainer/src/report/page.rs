//! Explanations as one HTML file: no network, images inside, and a small script of its own that filters and pages the cards.

use super::card::Card;
use super::controls::{by_pair, filters, pager};
use crate::eval::explanations::Verdict;
use crate::eval::row::{Names, Row, percent};
use duet::typicality::UNLIKE;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::{Deserialize, Serialize};

/// Cards that are shown at a time, and there without the script: so many, however many images there are, does a browser lay
/// out.
const PAGE: usize = 48;
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// How all images were explained.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// What made the page.
    pub command: String,
    /// Name of the model's file.
    pub model: String,
    /// Share of the chain the images were noised by.
    pub noise: f64,
    /// Steps of an explanation, and of the whole chain.
    pub steps: [usize; 2],
    /// Seed of the noise.
    pub seed: u64,
    /// Answers for each image.
    pub variants: usize,
    /// The method's name.
    pub method: String,
    /// The method in words.
    pub chain: String,
    /// Device's name.
    pub device: String,
    /// What classes are called.
    pub names: Names,
    /// Who judged, in words.
    pub judge: Option<String>,
}

/// The content security policy: the file itself, its pictures and the script of this number.
fn policy(nonce: &str) -> String {
    format!("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'")
}

type Facts = Vec<(&'static str, String)>;

/// What came of all images, as terms and values.
fn results(settings: &Settings, rows: &[&Row]) -> Facts {
    let count = rows.len();
    let of = |part: usize| format!("{part} of {count}");
    let count_of = |verdict: Verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    // An image said to be of a class that the model does not know tells nothing of its decisions.
    let class_of =
        |row: &Row| settings.names.classes.iter().position(|name| Some(name) == row.true_class.as_ref());
    let known: Vec<(usize, &&Row)> = rows.iter().filter_map(|row| Some((class_of(row)?, row))).collect();
    let right = known.iter().filter(|(class, row)| *class == row.decision_before).count();
    let mean = |of: fn(&Row) -> f64| rows.iter().map(|row| of(row)).sum::<f64>() / count.max(1) as f64;
    let mut facts = vec![("Images", count.to_string()), ("Target reached", of(count_of(Verdict::Reached)))];
    if settings.method != "paper" {
        facts.push(("At the first try", of(rows.iter().filter(|row| row.reached && row.rung == 0).count())));
    }
    if count_of(Verdict::Already) > 0 {
        facts.push(("The target already", of(count_of(Verdict::Already))));
    }
    if settings.judge.is_some() {
        let agrees = rows.iter().filter(|row| row.judge.as_ref().is_some_and(|judge| judge.agrees)).count();
        facts.push(("Judge says the target", of(agrees)));
    }
    facts.extend([
        ("Pixels changed", percent(mean(|row| row.changed_share))),
        ("Mean change of a pixel", percent(mean(|row| row.mean_change))),
    ]);
    if !known.is_empty() {
        facts.push(("First decision right", format!("{right} of {}", known.len())));
    }
    facts
}

/// How it was done.
fn circumstances(settings: &Settings, rows: &[&Row]) -> Facts {
    let seconds: f64 = rows.iter().map(|row| row.seconds).sum();
    let seed = settings.seed;
    let seeds = settings.variants;
    let judge = settings.judge.iter().map(|judge| ("Judge, which never guided", judge.clone()));
    let facts = [
        ("Method", settings.chain.clone()),
        ("Noise", percent(settings.noise)),
        ("Steps", format!("{} of a chain of {}", settings.steps[0], settings.steps[1])),
        ("Seed", if seeds == 1 { seed.to_string() } else { format!("{seeds} from {seed} on") }),
        ("Time per image", format!("{:.2}\u{a0}s", seconds / rows.len().max(1) as f64)),
        ("Model", settings.model.clone()),
        ("Device", settings.device.clone()),
    ];
    facts.into_iter().chain(judge).collect()
}

fn list(class: &str, facts: Facts) -> Markup {
    html! {
        dl class=(class) {
            @for (term, value) in facts { div { dt { (term) } dd { (value) } } }
        }
    }
}

/// The whole file.
pub fn page(settings: &Settings, cards: &[Card]) -> String {
    let markups: Vec<String> =
        (1..).zip(cards).map(|(number, card)| card.markup(settings, number).into_string()).collect();
    // Nobody whose text stands in the page can know a number that is the hash of the page.
    let mut hasher = blake3::Hasher::new();
    markups.iter().for_each(|markup| {
        hasher.update(markup.as_bytes());
    });
    let hash = hasher.finalize().to_hex();
    let nonce = hash.get(..32).unwrap_or_default();
    let rows: Vec<&Row> = cards.iter().map(|card| &card.row).collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(policy(nonce));
                title { "Duet: what would have to change?" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "What would have to change?" }
                    p.lead { (lead(&settings.method)) }
                    (list("facts", results(settings, &rows)))
                    (list("facts small", circumstances(settings, &rows)))
                    details.how open[cards.len() <= PAGE] {
                        summary { h2 { "How to read it" } }
                        (how_to_read(settings, &rows))
                    }
                    @if cards.len() > 1 { (by_pair(settings, cards)) }
                    h2 #images { "Images" }
                    @if cards.len() > 1 { (filters(settings, cards)) }
                    ol.cards {
                        @for (number, (card, markup)) in (1..).zip(cards.iter().zip(&markups)).take(PAGE) {
                            (PreEscaped(opening("li class=\"card\"", number, card)))
                            (PreEscaped(markup))
                            (PreEscaped("</li>"))
                        }
                    }
                    @if cards.len() > PAGE {
                        noscript { p { "The other " (cards.len() - PAGE) " images need the page's script." } }
                        // Text, of which the script makes the cards that are to be seen.
                        @for (number, (card, markup)) in (1..).zip(cards.iter().zip(&markups)).skip(PAGE) {
                            (PreEscaped(opening("script type=\"text/plain\"", number, card)))
                            (PreEscaped(markup))
                            (PreEscaped("</script>"))
                        }
                    }
                    @if cards.len() > 1 { (pager()) }
                }
                footer {
                    p {
                        "Made by " code { (settings.command) } ". To draw or upload images of your own and explain them \
                         in the browser, run " code { "make web" } " in the project's folder and open "
                        a href="http://localhost:8080" { "http://localhost:8080" } "."
                    }
                }
                @if cards.len() > 1 { script nonce=(nonce) { (PreEscaped(SCRIPT)) } }
            }
        }
    };
    page.into_string()
}

/// The opening tag of a card's element, which holds what filters compare.
fn opening(tag: &str, number: usize, card: &Card) -> String {
    let marks = card.marks().map(|(name, value)| {
        let value = html! { (value) }.into_string();
        format!(" {name}=\"{value}\"")
    });
    format!("<{tag} id=\"image-{number}\"{}>", marks.concat())
}

fn lead(method: &str) -> &'static str {
    if method == "paper" {
        "Each image below was noised part of the way and then denoised towards another class, by the same network that \
         classifies it. What comes out is a counterfactual: an image close to the original that the network takes for \
         something else."
    } else {
        "Each image below was moved towards another class by the same network that classifies it. The noise that leads back to \
         the image itself is found first; then the classifier's gradient pushes on that way, and wherever it pushes little \
         the original stays as it was, bit for bit. What comes out is a counterfactual: the image with as little changed as \
         it took for the network to see something else."
    }
}

fn how_to_read(settings: &Settings, rows: &[&Row]) -> Markup {
    let likeness = if rows.iter().any(|row| row.typicality.is_none()) {
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
        ul {
            li {
                strong { "Lines" } " on the original go around every pixel that changed by more than 8 of 255 grey levels."
            }
            @if settings.method == "paper" {
                li {
                    strong { "Noised" } " is where the way back begins: what the noise hides may change, what shows through \
                     it stays. Faint differences all over are what noise and denoising leave in any image."
                }
            }
            li {
                strong { "Difference" } " is counterfactual minus original, at one scale for all images of all reports: "
                span.scale { "darker" span.ramp role="img" aria-label="blue, white, red" {} "brighter" }
                ", full from half of the range on; white did not change."
            }
            @if settings.method != "paper" {
                li {
                    strong { "Strength" } " is how hard the gradient pushed. All images are tried at the first strength, and \
                     only those that it does not move at the next: a later try means that the network had to be pushed \
                     harder."
                }
            }
            @if settings.variants > 1 {
                li {
                    strong { "Stability" } ": each image has " (settings.variants) " answers, from other noise; the one that \
                     reaches the target with the least change is shown. Dark is what all of them change. In the difference \
                     stable changes are solid and others faint; lines are dashed around what fewer than half change."
                }
            }
            @if settings.judge.is_some() {
                li {
                    strong { "The judge" } " is another network, which never guided. Where it does not see the target, the \
                     counterfactual may have convinced the first one by what only that one sees."
                }
            }
            li { (likeness) " Of pictures unlike it the network's decisions mean little." }
            li {
                "The bars are the network's probabilities of the original (before) and of the counterfactual (after). It \
                 explains this network's decision, not what makes such a thing in the world."
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::eval::row::Judged;
    use crate::io::render::Grid;
    use crate::report::card::Images;
    use duet::model::Head;
    use duet::typicality::Typicality;
    use std::path::Path;

    pub(crate) fn row(target: usize, decisions: [usize; 2]) -> Row {
        let verdict = match decisions {
            [was, _] if was == target => Verdict::Already,
            [_, is] if is == target => Verdict::Reached,
            [was, is] if was == is => Verdict::Unchanged,
            _ => Verdict::Other,
        };
        Row {
            image: "<b>&\".png".into(),
            true_class: Some("a".into()),
            target,
            target_present: true,
            target_name: "t".into(),
            already: verdict == Verdict::Already,
            reached: verdict == Verdict::Reached,
            verdict,
            before: vec![0.7, 0.2, 0.06, 0.04],
            after: if decisions[1] == 2 { vec![0.1, 0.2, 0.65, 0.05] } else { vec![0.6, 0.3, 0.06, 0.04] },
            decision_before: decisions[0],
            decision_after: decisions[1],
            target_probability_by_step: vec![],
            seconds: 0.5,
            seed: 3,
            strength: 2.4,
            rung: 1,
            chains: 2,
            others_moved: 0,
            mean_change: 0.05,
            changed_share: 0.25,
            variants: vec![],
            stability: None,
            typicality: Some(Typicality { percentile: 99.96, unlike: target == 3 }.into()),
            judge: None,
        }
    }

    fn card(row: Row) -> Card {
        let grid = Grid { channels: 1, size: 2, scale: 1 };
        let images = Images {
            original: &[0.0; 4],
            counterfactual: &[0.5, 0.0, 0.0, 0.0],
            noised: None,
            stability: None,
        };
        Card::new(Path::new("x.html"), grid, &settings(), row, images).unwrap()
    }

    fn settings() -> Settings {
        Settings {
            command: "duet explain --report".into(),
            model: "m.safetensors".into(),
            noise: 0.2,
            steps: [10, 50],
            seed: 3,
            variants: 1,
            method: "local".into(),
            chain: "local: strength 1.7 to 4.8".into(),
            device: "<card>".into(),
            names: Names {
                classes: ["a", "b", "<c>", "d"].map(str::to_owned).to_vec(),
                head: Head::Multiclass,
            },
            judge: None,
        }
    }

    #[test]
    fn a_page_tells_everything_and_escapes_text() {
        let rows = [row(2, [0, 2]), row(3, [0, 0]), row(1, [0, 2]), row(0, [0, 0])];
        let page = page(&settings(), &rows.map(card));
        for text in [
            "20 %",
            "10 of a chain of 50",
            "seed 3",
            "0.50\u{a0}s",
            "true class: a",
            "1 of 4",
            "70.0 %",
            "strength 1.7 to 4.8",
            "Changes 25\u{a0}% of the picture; reached at strength 2.4 (second try); unlike the training data: no.",
        ] {
            assert!(page.contains(text), "{text}: {page}");
        }
        for text in [
            ">reached: &lt;c&gt;<",
            ">not reached: still a<",
            ">not reached: &lt;c&gt; instead of b<",
            ">already a: nothing to change<",
        ] {
            assert_eq!(page.matches(text).count(), 1, "{text}: {page}");
        }
        assert_eq!(page.matches("unlike the training data (beyond 99.9 % of it)").count(), 1, "{page}");
        assert!(page.contains(&format!("more unusual than on {UNLIKE} % of")), "{page}");
        let silent = Row { typicality: None, ..row(3, [0, 0]) };
        let silent = super::page(&settings(), &[card(silent)]);
        assert!(silent.contains("nothing here tells") && !silent.contains("beyond"), "{silent}");
        assert!(!silent.contains("<script"), "one image needs no filter");
        assert!(page.contains("&lt;b&gt;&amp;&quot;.png") && page.contains("&lt;c&gt;"), "{page}");
        assert!(!page.contains("<b>") && !page.contains("<c>") && !page.contains("<card>"), "{page}");
        assert_eq!(page.matches("<img alt=\"&lt;b").count(), 12, "every picture has words");
        assert_eq!(page.matches("data:image/png;base64,").count(), 12);
        assert_eq!(
            page.matches("d=\"M0 0h1M0 1h1M0 0v1M1 0v1\"").count(),
            8,
            "lines around the pixel, twice"
        );
        assert!(page.matches("http").count() <= 4, "nothing is fetched");
        let nonce = page.split("nonce-").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
        assert!(
            page.contains(&format!("<script nonce=\"{nonce}\">")) && page.matches("<script").count() == 1
        );
    }

    #[test]
    fn filters_offer_what_there_is() {
        let judged = |agrees| {
            let judge = Some(Judged { decision: 0, probability: 0.4, agrees });
            Row { judge, ..row(2, [0, 2]) }
        };
        let settings = Settings { judge: Some("judge (seed 1)".into()), ..settings() };
        let page = super::page(&settings, &[judged(true), judged(false), row(1, [0, 2])].map(card));
        for text in [
            ">a → &lt;c&gt; (2)<",
            ">a → b (1)<",
            ">yes (2)<",
            ">no, another class (1)<",
            ">agrees (1)<",
            ">disagrees (1)<",
            "data-pair=\"0&gt;+2\" data-verdict=\"reached\" data-judge=\"disagrees\" data-change=\"0.050000\"",
            "Judge: a, &lt;c&gt; 40.0 %: disagrees",
            "judge (seed 1)",
        ] {
            assert!(page.contains(text), "{text}: {page}");
        }
        assert!(!page.contains("no, still the same"), "{page}");
    }

    #[test]
    fn many_cards_are_text_that_is_laid_out_when_it_is_seen() {
        let cards: Vec<Card> = (0..PAGE + 3).map(|_| card(row(2, [0, 2]))).collect();
        let page = page(&settings(), &cards);
        assert_eq!(page.matches("<li class=\"card\"").count(), PAGE);
        assert_eq!(page.matches("<script type=\"text/plain\" id=\"image-").count(), 3);
        assert_eq!(page.matches("</script>").count(), 4, "no text ends a script before its time");
        assert!(page.contains("The other 3 images need"), "{page}");
    }

    /// What the browser test of the report opens.
    #[test]
    fn web_fixtures_hold_a_report() {
        let settings = Settings { judge: Some("judge (seed 1)".into()), ..settings() };
        let card_of = |number: usize| {
            let judge = Some(Judged { decision: 0, probability: 0.4, agrees: !number.is_multiple_of(3) });
            let decisions = if number.is_multiple_of(2) { [0, 2] } else { [0, 0] };
            // In no order.
            let change = ((number * 37) % 120) as f64 / 120.0;
            card(Row { judge, mean_change: 0.5 * change, changed_share: change, ..row(2, decisions) })
        };
        let cards: Vec<Card> = (0..120).map(card_of).collect();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/web-fixtures");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("report.html"), page(&settings, &cards)).unwrap();
    }
}
