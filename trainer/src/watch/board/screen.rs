//! What stands where on the dashboard.

use super::blocks::Colours;
use super::state::State;
use crate::io::output::bytes;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph};
use std::time::Duration;

/// Columns from which on samples stand beside the curves, and rows from which on each curve has a chart.
const WIDE: u16 = 120;
/// See [`WIDE`].
const TALL: u16 = 36;
/// Width of the column of numbers.
const NUMBERS: u16 = 32;
/// The curves: figure, name and colour.
const CURVES: [(&str, &str, Color); 4] = [
    ("loss", "loss", Color::Yellow),
    ("mse", "noise", Color::Cyan),
    ("classifier_loss", "class", Color::Magenta),
    ("vb", "variational", Color::Green),
];

/// Draws all of it; `messages` are the last lines that were printed.
pub fn draw(frame: &mut Frame<'_>, state: &State, messages: &[String], colours: Colours) {
    let said = if frame.area().height >= TALL { 6 } else { 2 };
    let [head, body, said, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(3),
        Constraint::Length(said),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    header(frame, head, state, colours);
    let coloured =
        |colour: Color| if colours == Colours::None { Style::new() } else { Style::new().fg(colour) };
    let room = body.width.saturating_sub(NUMBERS);
    if body.width >= WIDE {
        let [left, middle, right] = Layout::horizontal([
            Constraint::Min(20),
            Constraint::Length(NUMBERS),
            Constraint::Length(room / 2),
        ])
        .areas(body);
        curves(frame, left, state, &coloured);
        numbers(frame, middle, state);
        samples(frame, right, state, colours);
    } else {
        let [left, right] =
            Layout::horizontal([Constraint::Min(20), Constraint::Length(NUMBERS)]).areas(body);
        let pictures = if state.samples.is_some() && left.height >= 14 { left.height * 2 / 5 } else { 0 };
        let [above, below] = Layout::vertical([Constraint::Min(3), Constraint::Length(pictures)]).areas(left);
        curves(frame, above, state, &coloured);
        if pictures > 0 {
            samples(frame, below, state, colours);
        }
        numbers(frame, right, state);
    }
    let lines: Vec<Line<'_>> = messages.iter().flat_map(|text| text.lines()).map(plain).collect();
    let skip = lines.len().saturating_sub(usize::from(said.height));
    frame.render_widget(Paragraph::new(lines.into_iter().skip(skip).collect::<Vec<_>>()), said);
    let help = " q stop and save   s save   p samples   Ctrl-Z suspend   Ctrl-C twice: at once";
    let help = if state.note.is_empty() { help.into() } else { format!("{help}   · {}", state.note) };
    frame.render_widget(Paragraph::new(help).style(Style::new().add_modifier(Modifier::REVERSED)), keys);
}

/// A line without what a terminal would obey.
fn plain(text: &str) -> Line<'static> {
    Line::from(format!(" {}", text.replace(char::is_control, " ")))
}

fn header(frame: &mut Frame<'_>, area: Rect, state: &State, colours: Colours) {
    let [title, gauge] = Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(area);
    let left = state.left().map_or("–".into(), clock);
    let right = format!("{} so far, {left} left ", clock(state.used()));
    let room = usize::from(title.width).saturating_sub(right.chars().count() + 2);
    let name: String = format!("duet train  {}", state.title).chars().take(room).collect();
    let text = Line::from(vec![
        Span::styled(format!(" {name:<room$} "), Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(right),
    ]);
    frame.render_widget(Paragraph::new(text), title);
    let label = format!("step {} of {}", state.step, state.steps);
    let style = if colours == Colours::None { Style::new() } else { Style::new().fg(Color::Blue) };
    frame.render_widget(Gauge::default().ratio(state.share()).label(label).gauge_style(style), gauge);
}

/// A figure by step.
struct Curve {
    name: &'static str,
    style: Style,
    points: Vec<(f64, f64)>,
}

/// Curves of the loss's terms: each in a chart of its own where there is room, all in one otherwise.
fn curves(frame: &mut Frame<'_>, area: Rect, state: &State, coloured: &dyn Fn(Color) -> Style) {
    let curve = |(figure, name, colour): &(&str, &'static str, Color)| Curve {
        name,
        style: coloured(*colour),
        points: state.curve(figure),
    };
    // What is not computed is 0 at every step.
    let computed = |curve: &Curve| curve.points.iter().any(|(_, value)| *value != 0.0);
    let all: Vec<Curve> = CURVES.iter().map(curve).filter(computed).collect();
    let apart = area.height >= 8 * all.len() as u16 && all.len() > 1;
    if apart {
        let areas = Layout::vertical(vec![Constraint::Fill(1); all.len()]).split(area);
        for (curve, area) in all.chunks(1).zip(areas.iter()) {
            chart(frame, *area, curve, state);
        }
    } else {
        chart(frame, area, &all, state);
    }
}

/// A chart with a logarithmic axis, where all values are above 0.
fn chart(frame: &mut Frame<'_>, area: Rect, curves: &[Curve], state: &State) {
    let values = || curves.iter().flat_map(|curve| curve.points.iter().map(|(_, value)| *value));
    let logarithmic = values().all(|value| value > 0.0);
    let at = |value: f64| if logarithmic { value.log10() } else { value };
    let value_at = |place: f64| if logarithmic { 10f64.powf(place) } else { place };
    let (low, high) =
        values().map(at).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    let title = curves.iter().flat_map(|Curve { name, style, points }| {
        let newest = points.last().map_or(String::new(), |(_, value)| format!(" {}", short(*value)));
        [Span::styled(format!(" {name}"), *style), Span::raw(format!("{newest} "))]
    });
    let block = Block::bordered().title(Line::from(title.collect::<Vec<_>>()));
    if !(low.is_finite() && high.is_finite()) {
        frame.render_widget(Paragraph::new(" no figures yet").block(block.title(" loss ")), area);
        return;
    }
    let margin = (0.05 * (high - low)).max(1e-3 * high.abs()).max(1e-6);
    let (low, high) = (low - margin, high + margin);
    let points: Vec<Vec<(f64, f64)>> = curves
        .iter()
        .map(|curve| curve.points.iter().map(|(step, value)| (*step, at(*value))).collect())
        .collect();
    let sets = curves.iter().zip(&points).map(|(Curve { style, .. }, points)| {
        let kind = if points.len() > 1 { GraphType::Line } else { GraphType::Scatter };
        Dataset::default().marker(Marker::Braille).graph_type(kind).style(*style).data(points)
    });
    let first = state.history.first().map_or(0, |figures| figures.step) as f64;
    let last = (state.step as f64).max(first + 1.0);
    let steps = Axis::default().bounds([first, last]).labels([format!("{first}"), format!("{last}")]);
    let levels = [low, 0.5 * (low + high), high].map(|place| short(value_at(place)));
    let heights = Axis::default().bounds([low, high]).labels(levels);
    frame.render_widget(Chart::new(sets.collect()).block(block).x_axis(steps).y_axis(heights), area);
}

fn numbers(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| lines.push(Line::from(format!(" {name:<14}{value}")));
    let newest = |name: &str| state.newest(name).map_or("–".into(), short);
    line("images/s", newest("images_per_second"));
    line("GPU memory", bytes(state.memory));
    line("learning rate", newest("learning_rate"));
    if state.newest("gradient_norm").is_some() {
        line("gradient norm", newest("gradient_norm"));
    }
    line("checkpoint", state.saved.map_or("none yet".into(), |step| format!("step {step}")));
    if !state.best.is_empty() {
        line("best", state.best.clone());
    }
    if let Some((part, value)) = state.accuracy() {
        line("accuracy", format!("{:.2} % ({part})", 100.0 * value));
    }
    let by_noise = state.accuracy_by_noise();
    if !by_noise.is_empty() {
        lines.push(Line::from(""));
        lines.push(Line::from(" accuracy by noise"));
        let bar = usize::from(area.width).saturating_sub(17).min(14);
        for (t, value) in by_noise {
            let full = (value * bar as f64).round() as usize;
            let (full, empty) = ("█".repeat(full.min(bar)), "░".repeat(bar - full.min(bar)));
            lines.push(Line::from(format!(" t {t:>4} {full}{empty} {:>3.0} %", 100.0 * value)));
        }
    }
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" run ")), area);
}

fn samples(frame: &mut Frame<'_>, area: Rect, state: &State, colours: Colours) {
    let title =
        state.samples.as_ref().map_or(" samples ".into(), |(step, _)| format!(" samples of step {step} "));
    let block = Block::bordered().title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    match &state.samples {
        Some((_, samples)) => samples.draw(inner, frame.buffer_mut(), colours),
        None => frame.render_widget(Paragraph::new(" none yet: p draws them"), inner),
    }
}

/// Four digits.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size < 1e-3 => format!("{value:.2e}"),
        size if size < 10.0 => format!("{value:.4}"),
        size if size < 1e5 => format!("{value:.1}"),
        _ => format!("{value:.2e}"),
    }
}

/// Hours, minutes and seconds.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::board::Samples;
    use crate::watch::board::state::tests::{figures, state};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn busy() -> State {
        let mut state = state();
        for step in (50..250).step_by(10) {
            let loss = 100.0 / step as f64;
            let values = [("loss", loss), ("mse", loss * 0.9), ("classifier_loss", loss * 0.3), ("vb", 0.0)];
            state.add(figures(step, &values));
        }
        let values = [
            ("loss", 0.412_34),
            ("mse", 0.4),
            ("classifier_loss", 0.1),
            ("learning_rate", 2e-4),
            ("images_per_second", 312.46),
            ("test_accuracy", 0.914),
            ("test_accuracy_t125", 0.8),
            ("test_accuracy_t875", 0.1),
        ];
        state.add(figures(250, &values));
        let row = vec![0.5; 4 * 28 * 28];
        state.samples = Some((200, Samples { channels: 1, size: 28, rows: vec![row; 10] }));
        state.saved = Some(240);
        state.best = "0.9140 at 250".into();
        state
    }

    fn drawn(width: u16, height: u16, state: &State, messages: &[String]) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state, messages, Colours::True)).unwrap();
        let buffer = terminal.backend().buffer();
        let lines = buffer.content().chunks(usize::from(width.max(1)));
        lines.map(|cells| cells.iter().map(|cell| cell.symbol()).collect::<String>() + "\n").collect()
    }

    #[test]
    fn all_of_it_is_seen_on_a_small_and_a_large_terminal() {
        let said = ["step 200  test accuracy 91 %".to_owned(), "duet: \u{1b}[31mwarning".to_owned()];
        for (width, height) in [(80, 24), (200, 50)] {
            let text = drawn(width, height, &busy(), &said);
            for words in [
                "fashion-mnist → runs/fashion",
                "1:40 so far",
                "step 250 of 1000",
                " loss 0.4123",
                "noise 0.4000",
                "class 0.1000",
                "images/s      312.5",
                "GPU memory    123.00 MiB",
                "learning rate 2.00e-4",
                "checkpoint    step 240",
                "best          0.9140 at 250",
                "accuracy      91.40 % (test)",
                "t  125 ███████████░░░  80 %",
                "t  875 █░░░░░░░░░░░░░  10 %",
                "samples of step 200",
                "▀▀▀▀▀▀▀",
                "test accuracy 91 %",
                "warning",
                "q stop and save",
            ] {
                assert!(text.contains(words), "{width} × {height}: {words}\n{text}");
            }
            assert!(!text.contains("variational") && !text.contains('\u{1b}'), "{text}");
            let braille = text.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count();
            assert!(braille > 20, "{text}");
        }
    }

    #[test]
    fn nothing_is_too_small_or_too_early() {
        let long = vec!["x".repeat(500); 20];
        for (width, height) in [(1, 1), (5, 3), (20, 5), (32, 10), (33, 24), (300, 4), (40, 100), (120, 12)] {
            drawn(width, height, &busy(), &long);
            drawn(width, height, &state(), &[]);
        }
        let text = drawn(80, 24, &state(), &[]);
        assert!(text.contains("no figures yet") && text.contains("none yet"), "{text}");
        let mut odd = state();
        odd.add(figures(3, &[("loss", 0.0), ("mse", -1.0)]));
        odd.steps = 0;
        drawn(80, 24, &odd, &[]);
    }

    #[test]
    fn times_and_numbers_are_short() {
        assert_eq!(clock(Duration::from_secs(59)), "0:59");
        assert_eq!(clock(Duration::from_secs(3 * 3600 + 7)), "3:00:07");
        let want = [(0.0, "0"), (1.5e-5, "1.50e-5"), (0.25, "0.2500"), (312.46, "312.5"), (1e6, "1.00e6")];
        want.iter().for_each(|(value, text)| assert_eq!(short(*value), *text));
    }
}
