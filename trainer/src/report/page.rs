//! Explanations as one HTML file: no network, no script, images inside.

use crate::report::plot::escape;
use base64::Engine as _;
use std::fmt::Write as _;

/// Classes a card lists at least, where there are as many.
const LISTED: usize = 3;
const STYLE: &str = include_str!("page.css");

/// How all images were explained.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the model's file.
    pub model: String,
    /// Share of the chain the images were noised by.
    pub noise: f64,
    /// Step size of Algorithm 1, or scale of Eq. 12.
    pub alpha: f32,
    /// Steps of an explanation, and of the whole chain.
    pub steps: [usize; 2],
    /// Seed of the noise.
    pub seed: u64,
    /// Solver and guidance, in words.
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
    /// Class to move to.
    pub target: usize,
    /// Decision before and after.
    pub decisions: [usize; 2],
    /// Probabilities before and after.
    pub probabilities: [Vec<f32>; 2],
    /// Original, noised, counterfactual, difference as PNG files.
    pub pictures: [Vec<u8>; 4],
    /// Mean absolute change of a pixel, as a share of the range.
    pub change: f64,
    /// Seconds it took, as a share of its batch's time.
    pub seconds: f64,
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn name(settings: &Settings, class: usize) -> String {
    escape(settings.class_names.get(class).map_or("?", String::as_str))
}

/// The whole file.
pub fn page(settings: &Settings, cards: &[Card]) -> String {
    let count = cards.len();
    let changed = cards.iter().filter(|c| c.decisions[0] != c.decisions[1]).count();
    let reached = cards.iter().filter(|c| c.decisions[1] == c.target).count();
    let known: Vec<&Card> = cards.iter().filter(|c| c.truth.is_some()).collect();
    let right = known.iter().filter(|c| c.truth.as_ref() == settings.class_names.get(c.decisions[0])).count();
    let seconds: f64 = cards.iter().map(|c| c.seconds).sum();
    let mut facts = vec![
        ("Images", count.to_string()),
        ("Decision changed", format!("{changed} of {count}")),
        ("Target reached", format!("{reached} of {count}")),
    ];
    if !known.is_empty() {
        facts.push(("First decision right", format!("{right} of {}", known.len())));
    }
    facts.extend([
        ("Noise", percent(settings.noise)),
        ("Guidance α", settings.alpha.to_string()),
        ("Steps", format!("{} of a chain of {}", settings.steps[0], settings.steps[1])),
        ("Seed", settings.seed.to_string()),
        ("Chain", settings.chain.clone()),
        ("Time", format!("{seconds:.1} s")),
        ("Model", settings.model.clone()),
        ("Device", settings.device.clone()),
    ]);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n\
         <title>Duet: what would have to change?</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>What would have to change?</h1>\n\
         <p class=\"lead\">Each image below was noised part of the way and then denoised towards another class, by the same \
         network that classifies it. What comes out is a counterfactual: an image close to the original that the network \
         takes for something else.</p>\n"
    );
    out.push_str("<dl class=\"facts\">\n");
    for (term, value) in facts {
        let _ = writeln!(out, "<div><dt>{term}</dt><dd>{}</dd></div>", escape(&value));
    }
    out.push_str(
        "</dl>\n<h2>How to read it</h2>\n<ul class=\"how\">\n\
         <li><strong>Noised</strong> is where the way back begins: what the noise hides may change, what shows through it \
         stays.</li>\n\
         <li><strong>Difference</strong> is counterfactual minus original: <span class=\"up\">red</span> became lighter, \
         <span class=\"down\">blue</span> became darker, white stayed. Strong colours mark where it had to change; \
         faint ones all over are what noise and denoising leave in any image.</li>\n\
         <li>The bars are the network's probabilities of the original (before) and of the counterfactual (after). It \
         explains this network's decision, not what makes such a thing in the world.</li>\n</ul>\n\
         <h2>Images</h2>\n<ol class=\"cards\">\n",
    );
    for (number, card) in cards.iter().enumerate() {
        push_card(&mut out, settings, number + 1, card);
    }
    out.push_str(
        "</ol>\n</main>\n<footer>\n<p>Made by <code>duet explain --report</code>. To draw or upload images of your own and \
         explain them in the browser, run <code>make web</code> in the project's folder and open \
         <a href=\"http://localhost:8080\">http://localhost:8080</a>.</p>\n</footer>\n</body>\n</html>\n",
    );
    out
}

fn push_card(out: &mut String, settings: &Settings, number: usize, card: &Card) {
    let [was, is] = card.decisions.map(|class| name(settings, class));
    let target = name(settings, card.target);
    let (mark, verdict) = if card.decisions[1] == card.target && card.decisions[0] != card.target {
        ("yes", "decision changed to the target")
    } else if card.decisions[0] != card.decisions[1] {
        ("part", "decision changed, but not to the target")
    } else {
        ("no", "decision not changed")
    };
    let truth = card.truth.as_deref().map_or("not known".to_owned(), escape);
    let file = escape(&card.name);
    let _ = write!(
        out,
        "<li class=\"card\" id=\"image-{number}\">\n<h3>{was} <span aria-label=\"to\">→</span> {is}</h3>\n\
         <p class=\"meta\">{file} · true class: {truth} · target: {target}</p>\n\
         <p class=\"verdict {mark}\">{verdict}</p>\n<div class=\"pictures\">\n"
    );
    let texts = [
        ("original", format!("the original, decided as {was}")),
        ("noised", format!("the original with {} noise", percent(settings.noise))),
        ("counterfactual", format!("the counterfactual, decided as {is}")),
        ("difference", format!("what changed; a pixel by {} of the range on average", percent(card.change))),
    ];
    for ((title, text), bytes) in texts.iter().zip(&card.pictures) {
        let data = base64::engine::general_purpose::STANDARD.encode(bytes);
        let _ = writeln!(
            out,
            "<figure><img alt=\"{file}: {text}\" src=\"data:image/png;base64,{data}\"><figcaption>{title}</figcaption></figure>"
        );
    }
    out.push_str(
        "</div>\n<table>\n<thead><tr><th scope=\"col\">class</th><th scope=\"col\">before</th><th scope=\"col\">after</th>\
         </tr></thead>\n<tbody>\n",
    );
    for class in listed(card) {
        let cells: Vec<String> = card
            .probabilities
            .iter()
            .map(|row| {
                let share = percent(f64::from(row[class]));
                let width = 100.0 * row[class];
                format!(
                    "<td><span class=\"bar\"><span style=\"width:{width:.1}%\"></span></span> {share}</td>"
                )
            })
            .collect();
        let bold = if class == card.target { " class=\"target\"" } else { "" };
        let name = name(settings, class);
        let _ = writeln!(out, "<tr{bold}><th scope=\"row\">{name}</th>{}</tr>", cells.concat());
    }
    let _ = write!(
        out,
        "</tbody>\n</table>\n<p class=\"meta\">noise {} · α {} · {} steps · seed {} · mean change of a pixel {} · {:.2}&nbsp;s</p>\n\
         </li>\n",
        percent(settings.noise),
        settings.alpha,
        settings.steps[0],
        settings.seed,
        percent(card.change),
        card.seconds
    );
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
            target,
            decisions,
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
            alpha: 60.0,
            steps: [20, 100],
            seed: 3,
            chain: "DDIM".into(),
            device: "<card>".into(),
            class_names: ["a", "b", "<c>", "d"].map(str::to_owned).to_vec(),
        }
    }

    #[test]
    fn a_page_tells_everything_and_escapes_text() {
        let page = page(&settings(), &[card(2, [0, 2]), card(3, [0, 0]), card(1, [0, 2])]);
        for text in [
            "20.0 %",
            "α 60",
            "20 steps",
            "seed 3",
            "0.50&nbsp;s",
            "true class: a",
            "2 of 3",
            "1 of 3",
            "70.0 %",
        ] {
            assert!(page.contains(text), "{text}: {page}");
        }
        let verdicts = ["changed to the target", "not changed<", "but not to the target"];
        assert!(verdicts.iter().all(|text| page.matches(text).count() == 1), "{page}");
        assert!(page.contains("&lt;b&gt;&amp;&quot;.png") && page.contains("&lt;c&gt;"), "{page}");
        assert!(!page.contains("<b>") && !page.contains("<c>") && !page.contains("<card>"), "{page}");
        assert_eq!(page.matches("<img alt=\"&lt;b").count(), 12, "every picture has words");
        assert_eq!(page.matches("data:image/png;base64,").count(), 12);
        assert!(!page.contains("<script") && page.matches("http").count() <= 4, "nothing is fetched");
    }

    #[test]
    fn the_listed_classes_are_those_that_matter() {
        assert_eq!(listed(&card(2, [0, 2])), [0, 2, 1]);
        assert_eq!(listed(&card(3, [0, 2])), [0, 2, 3]);
        assert_eq!(listed(&card(3, [0, 0])), [0, 2, 3]);
    }
}
