//! Line charts as SVG: panels with axes, one legend, nothing but text and lines, so that any viewer shows them.

use std::fmt::Write as _;

const PAPER: &str = "#ffffff";
const INK: &str = "#1f2530";
const SOFT: &str = "#5b6472";
const GRID: &str = "#e4e7ed";
/// Room left of, above and below a panel's area, and between it and the next one.
const LEFT: f64 = 46.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 44.0;
const RIGHT: f64 = 16.0;
/// Room for the figure's title and for a line of the legend.
const HEAD: f64 = 34.0;
const LEGEND: f64 = 22.0;
/// Average width of a letter at 12 pixels.
const LETTER: f64 = 6.6;

/// A line.
#[derive(Clone, Debug)]
pub struct Series {
    /// In the legend, which holds each name once.
    pub name: String,
    /// x and y, from left to right.
    pub points: Vec<[f64; 2]>,
    /// "#rrggbb".
    pub colour: String,
    /// Dashes instead of a full line.
    pub dashed: bool,
    /// A dot at each point.
    pub dots: bool,
}

/// An area with axes.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Above it.
    pub title: String,
    /// Its lines, the first at the back.
    pub series: Vec<Series>,
}

/// Panels in rows, all with the same axes.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Above all.
    pub title: String,
    /// Below each panel.
    pub x_label: String,
    /// Left and right end of the axes.
    pub x: [f64; 2],
    /// Lower and upper end.
    pub y: [f64; 2],
    /// Panels per row.
    pub columns: usize,
    /// Width and height of a panel's area.
    pub size: [f64; 2],
    /// The panels.
    pub panels: Vec<Panel>,
}

/// A colour for `share` in 0..1 of a rising quantity.
pub fn rising(share: f64) -> String {
    const STOPS: [[f64; 3]; 6] = [
        [138.0, 147.0, 163.0],
        [75.0, 123.0, 224.0],
        [31.0, 157.0, 139.0],
        [211.0, 150.0, 28.0],
        [194.0, 57.0, 47.0],
        [107.0, 16.0, 48.0],
    ];
    let place = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let low = (place.floor() as usize).min(STOPS.len() - 2);
    let mix = |c: usize| {
        let part = place - low as f64;
        (STOPS[low][c] + part * (STOPS[low + 1][c] - STOPS[low][c])).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2))
}

/// Text for XML: what has a meaning there is written as an entity. Ours, since HTML escapes as `maud` has them leave control
/// characters that XML does not allow.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // XML allows no other control characters.
            c if c.is_control() && !matches!(c, '\n' | '\t') => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// Round numbers from `low` to `high`, about `count` of them.
fn ticks([low, high]: [f64; 2], count: usize) -> Vec<f64> {
    let raw = (high - low) / count.max(1) as f64;
    if !raw.is_finite() || raw <= 0.0 {
        return vec![low];
    }
    let unit = 10f64.powf(raw.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|m| m * unit).into_iter().find(|s| *s >= raw * 0.999).unwrap_or(unit);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

/// At most three decimals, none that say nothing.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Figure {
    /// The picture. Text that lacks room is not cut; titles are the caller's to keep short.
    pub fn svg(&self) -> String {
        let columns = self.columns.clamp(1, self.panels.len().max(1));
        let rows = self.panels.len().div_ceil(columns).max(1);
        let cell = [LEFT + self.size[0] + RIGHT, TOP + self.size[1] + BOTTOM];
        let width = cell[0] * columns as f64;
        let (legend, lines) = self.legend(width, HEAD + cell[1] * rows as f64);
        let height = HEAD + cell[1] * rows as f64 + LEGEND * lines as f64 + 8.0;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" font-family=\"system-ui, 'DejaVu Sans', sans-serif\" \
             font-size=\"12\" fill=\"{INK}\">\n<title>{title}</title>\n\
             <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{PAPER}\"/>\n\
             <text x=\"12\" y=\"23\" font-size=\"14\" font-weight=\"600\">{title}</text>\n",
            title = escape(&self.title),
        );
        for (i, panel) in self.panels.iter().enumerate() {
            let place = [(i % columns) as f64 * cell[0] + LEFT, HEAD + (i / columns) as f64 * cell[1] + TOP];
            self.draw(&mut out, panel, place);
        }
        out.push_str(&legend);
        out.push_str("</svg>\n");
        out
    }

    fn draw(&self, out: &mut String, panel: &Panel, [left, top]: [f64; 2]) {
        let [w, h] = self.size;
        let bottom = top + h;
        let across = |x: f64| left + (x - self.x[0]) / (self.x[1] - self.x[0]).max(1e-12) * w;
        let up = |y: f64| bottom - (y - self.y[0]) / (self.y[1] - self.y[0]).max(1e-12) * h;
        let text = |out: &mut String, x: f64, y: f64, anchor: &str, colour: &str, text: &str| {
            let text = escape(text);
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{text}</text>"
            );
        };
        text(out, left, top - 9.0, "start", INK, &panel.title);
        for tick in ticks(self.y, (h / 36.0) as usize) {
            let y = up(tick);
            let _ =
                writeln!(out, "<path d=\"M{left:.1} {y:.1}h{w:.1}\" stroke=\"{GRID}\" stroke-width=\"1\"/>");
            text(out, left - 7.0, y + 4.0, "end", SOFT, &number(tick));
        }
        for tick in ticks(self.x, (w / 44.0) as usize) {
            let x = across(tick);
            let _ = writeln!(out, "<path d=\"M{x:.1} {bottom:.1}v4\" stroke=\"{SOFT}\" stroke-width=\"1\"/>");
            text(out, x, bottom + 17.0, "middle", SOFT, &number(tick));
        }
        let _ =
            writeln!(out, "<path d=\"M{left:.1} {bottom:.1}h{w:.1}\" stroke=\"{SOFT}\" stroke-width=\"1\"/>");
        text(out, left + w / 2.0, bottom + 34.0, "middle", SOFT, &self.x_label);
        for series in &panel.series {
            let points = series.points.iter().filter(|p| p.iter().all(|v| v.is_finite()));
            let places: Vec<[f64; 2]> = points.map(|[x, y]| [across(*x), up(*y)]).collect();
            let line: Vec<String> = places.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
            let dash = if series.dashed { " stroke-dasharray=\"5 4\"" } else { "" };
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" stroke-linejoin=\"round\"{dash}/>",
                line.join(" "),
                escape(&series.colour),
            );
            if series.dots {
                for [x, y] in places {
                    let colour = escape(&series.colour);
                    let _ =
                        writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
                }
            }
        }
    }

    /// The legend from `top` on, and how many lines it takes.
    fn legend(&self, width: f64, top: f64) -> (String, usize) {
        let mut seen: Vec<&Series> = Vec::new();
        for series in self.panels.iter().flat_map(|panel| &panel.series) {
            if !seen.iter().any(|other| other.name == series.name) {
                seen.push(series);
            }
        }
        seen.sort_by_key(|series| series.dashed);
        let mut out = String::new();
        let (mut x, mut lines) = (LEFT, usize::from(!seen.is_empty()));
        for series in seen {
            let wide = 30.0 + LETTER * series.name.chars().count() as f64 + 18.0;
            if x + wide > width && x > LEFT {
                (x, lines) = (LEFT, lines + 1);
            }
            let y = top + LEGEND * (lines as f64 - 0.5);
            let dash = if series.dashed { " stroke-dasharray=\"5 4\"" } else { "" };
            let _ = writeln!(
                out,
                "<path d=\"M{x:.1} {y:.1}h22\" stroke=\"{}\" stroke-width=\"2.5\"{dash}/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                escape(&series.colour),
                x + 28.0,
                y + 4.0,
                escape(&series.name),
            );
            x += wide;
        }
        (out, lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(
            ticks([0.0, 1.0], 5).iter().map(|t| number(*t)).collect::<Vec<_>>().join(" "),
            "0 0.2 0.4 0.6 0.8 1"
        );
        assert_eq!(ticks([0.0, 80.0], 6), [0.0, 20.0, 40.0, 60.0, 80.0]);
        assert_eq!(ticks([3.0, 3.0], 4), [3.0], "an axis without length");
        assert!(ticks([-7.0, 13.0], 4).iter().all(|t| (-7.0..=13.0).contains(t)));
    }

    #[test]
    fn a_figure_holds_its_lines_and_escapes_names() {
        let line = |name: &str, dashed| Series {
            name: name.into(),
            points: vec![[0.0, 0.0], [1.0, f64::NAN], [2.0, 1.0]],
            colour: rising(0.5),
            dashed,
            dots: true,
        };
        let panel =
            |title: &str| Panel { title: title.into(), series: vec![line("a<b", false), line("c", true)] };
        let figure = Figure {
            title: "A & B".into(),
            x_label: "x".into(),
            x: [0.0, 2.0],
            y: [0.0, 1.0],
            columns: 2,
            size: [100.0, 80.0],
            panels: vec![panel("one"), panel("two"), panel("three")],
        };
        let svg = figure.svg();
        assert_eq!(svg.matches("<polyline").count(), 6);
        assert_eq!(svg.matches("<circle").count(), 12, "what is not finite is left out");
        assert_eq!(svg.matches("a&lt;b").count(), 1, "each name once in the legend");
        assert!(svg.contains("A &amp; B") && !svg.contains("NaN") && !svg.contains("a<b"));
        assert!(svg.contains("points=\"46.0,144.0 146.0,64.0\""), "corner to corner: {svg}");
    }

    #[test]
    fn colours_rise_from_grey() {
        assert_eq!([rising(-1.0), rising(0.0), rising(1.0)], ["#8a93a3", "#8a93a3", "#6b1030"]);
        assert_ne!(rising(0.3), rising(0.4));
    }
}
