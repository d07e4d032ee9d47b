//! Every table and picture of experiments as one HTML file: no network, pictures inside.

use super::table::Table;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("../report/page.css");
/// What a page without a script needs.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
/// Numbers stand under each other, pictures in their own size.
const OWN: &str = "td { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } \
    .drawn img { width: auto; max-width: 100%; height: auto; aspect-ratio: auto; background: #fff; border-radius: 4px; }";

/// The page; `picture` gives a picture's file by its name.
pub fn page(tables: &[Table], picture: impl Fn(&str) -> Option<Vec<u8>>) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { "Duet: experiments" }
                style { (PreEscaped(STYLE)) (OWN) }
            }
            body {
                main {
                    h1 { "Experiments" }
                    p.lead {
                        "Joint diffusion models: one network that generates images, tells their classes, and explains its \
                         decisions. Figures are means over seeds, with their standard deviation; the paper's stand beside them \
                         only where they are of the same data."
                    }
                    ul { @for table in tables { li { a href={ "#" (id(table)) } { (table.title) } } } }
                    @for table in tables { (section(table, &picture)) }
                }
            }
        }
    };
    page.into_string()
}

fn id(table: &Table) -> String {
    let scale = table.facts.iter().find(|(name, _)| name == "scale").map_or("", |(_, scale)| scale);
    format!("{}-{scale}", table.name)
}

fn section(table: &Table, picture: &impl Fn(&str) -> Option<Vec<u8>>) -> Markup {
    let (heads, rows) = table.texts();
    html! {
        h2 id=(id(table)) { (table.title) }
        div.wide.pairs {
            table {
                thead { tr { @for head in &heads { th scope="col" { (head) } } } }
                tbody {
                    @for row in &rows {
                        tr {
                            @for (place, text) in row.iter().enumerate() {
                                @if place == 0 { th scope="row" { (text) } } @else { td { (text) } }
                            }
                        }
                    }
                }
            }
        }
        @for (shows, file) in &table.pictures {
            @if let Some(bytes) = picture(file) {
                @let kind = if file.ends_with(".svg") { "svg+xml" } else { "png" };
                div.wide.drawn { img alt=(shows) src={ "data:image/" (kind) ";base64," (STANDARD.encode(&bytes)) }; }
                p.meta { (shows) }
            }
        }
        ul.meta {
            @for (name, fact) in &table.facts { li { (name) ": " (fact) } }
            @for note in &table.notes { li { (note) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiments::table::{Cell, Column, Row};

    #[test]
    fn names_are_text_and_pictures_lie_inside() {
        let table = Table {
            name: "one".into(),
            title: "A <b> table".into(),
            head: "model".into(),
            columns: vec![Column::percent("right")],
            rows: vec![Row::new("joint", vec![Cell::of(vec![0.5])])],
            facts: vec![("scale".into(), "tiny".into())],
            notes: vec!["n = 3".into()],
            pictures: vec![("a line".into(), "a.svg".into()), ("lost".into(), "b.png".into())],
        };
        let page = page(&[table], |name| (name == "a.svg").then(|| b"<svg/>".to_vec()));
        for text in ["A &lt;b&gt; table", "id=\"one-tiny\"", "href=\"#one-tiny\"", "<td>50.0</td>", "n = 3"] {
            assert!(page.contains(text), "{text}: {page}");
        }
        assert!(page.contains("data:image/svg+xml;base64,PHN2Zy8+") && !page.contains("lost"), "{page}");
    }
}
