//! Images as characters: each cell two pixels, one above the other.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Color;

/// Least height and width of an image, in pixels.
const LEAST: usize = 7;
/// Cells without colours, the darkest first.
const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];

/// What colours the terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// All.
    True,
    /// A table of 256.
    Table,
    /// None are wanted.
    None,
}

impl Colours {
    /// As the environment says.
    pub fn of_terminal() -> Colours {
        let set = |name: &str| std::env::var(name).unwrap_or_default();
        if !set("NO_COLOR").is_empty() {
            Colours::None
        } else if ["truecolor", "24bit"].contains(&&*set("COLORTERM")) {
            Colours::True
        } else {
            Colours::Table
        }
    }

    fn of([r, g, b]: [u8; 3], kind: Colours) -> Color {
        if kind == Colours::True {
            return Color::Rgb(r, g, b);
        }
        if r == g && g == b {
            // 24 greys between black and white of the cube.
            return match r {
                0..4 => Color::Indexed(16),
                247.. => Color::Indexed(231),
                grey => Color::Indexed(232 + ((grey - 3) / 10).min(23)),
            };
        }
        let level = |value: u8| ((u16::from(value) * 5 + 127) / 255) as u8;
        Color::Indexed(16 + 36 * level(r) + 6 * level(g) + level(b))
    }
}

/// Images of each class.
pub struct Samples {
    /// Channels: 1 or 3.
    pub channels: usize,
    /// Height and width.
    pub size: usize,
    /// For each class its images \[N,C,H,W\] in −1..1.
    pub rows: Vec<Vec<f32>>,
}

impl Samples {
    fn image_len(&self) -> usize {
        self.channels * self.size * self.size
    }

    /// The images in the order they are shown: the first one of each class, then the second ones.
    fn images(&self) -> Vec<&[f32]> {
        let len = self.image_len().max(1);
        let most = self.rows.iter().map(|row| row.len() / len).max().unwrap_or(0);
        let of =
            |number: usize| self.rows.iter().filter_map(move |row| row.get(number * len..(number + 1) * len));
        (0..most).flat_map(of).collect()
    }

    /// Draws as many images as fit, as large as lets one of each class be seen.
    pub fn draw(&self, area: Rect, buffer: &mut Buffer, colours: Colours) {
        let images = self.images();
        let (width, height) = (usize::from(area.width), 2 * usize::from(area.height));
        let fit = |pixels: usize| ((width + 1) / (pixels + 1), (height + 1) / (pixels + 1));
        let mut sizes = (1..=self.size).rev().filter(|pixels| *pixels >= LEAST.min(self.size));
        let wanted = self.rows.len().max(1);
        let enough = |pixels: &usize| fit(*pixels).0 * fit(*pixels).1 >= wanted;
        let pixels = sizes.clone().find(enough).or_else(|| sizes.next_back()).unwrap_or(1);
        let (columns, lines) = fit(pixels);
        for (number, image) in images.into_iter().take(columns * lines).enumerate() {
            let left = number % columns * (pixels + 1);
            // An even number of pixels from one image to the next, for cells are two high.
            let top = number / columns * (pixels + 1).next_multiple_of(2);
            let at = |x: usize, y: usize| if y < pixels { self.pixel(image, pixels, x, y) } else { [0; 3] };
            for y in (0..pixels).step_by(2) {
                for x in 0..pixels {
                    let place = (area.x + (left + x) as u16, area.y + ((top + y) / 2) as u16);
                    let Some(cell) = buffer.cell_mut(place).filter(|_| area.contains(place.into())) else {
                        continue;
                    };
                    let [above, below] = [at(x, y), at(x, y + 1)];
                    if colours == Colours::None {
                        let sum: usize = above.iter().chain(&below).map(|value| usize::from(*value)).sum();
                        cell.set_char(SHADES[sum * (SHADES.len() - 1) / (6 * 255)]);
                    } else {
                        cell.set_char('▀').set_fg(Colours::of(above, colours));
                        cell.set_bg(Colours::of(below, colours));
                    }
                }
            }
        }
    }

    /// A pixel of an image that is drawn `pixels` wide: the mean of those it stands for.
    fn pixel(&self, image: &[f32], pixels: usize, x: usize, y: usize) -> [u8; 3] {
        let range = |at: usize| {
            at * self.size / pixels..((at + 1) * self.size / pixels).max(at * self.size / pixels + 1)
        };
        let channel = |c: usize| {
            let plane = &image[c * self.size * self.size..];
            let (mut sum, mut count) = (0.0, 0.0);
            for row in range(y) {
                for column in range(x) {
                    sum += plane[row * self.size + column];
                    count += 1.0;
                }
            }
            ((sum / count + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8
        };
        if self.channels >= 3 { [0, 1, 2].map(channel) } else { [channel(0); 3] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two classes of 8 × 8 pixels: black over white, and the other way round.
    fn samples() -> Samples {
        let half = |first: f32| [vec![first; 32], vec![-first; 32]].concat();
        let row = |first: f32| [half(first), half(first)].concat();
        Samples { channels: 1, size: 8, rows: vec![row(-1.0), row(1.0)] }
    }

    #[test]
    fn one_of_each_class_is_drawn_first() {
        let area = Rect::new(2, 1, 17, 4);
        let mut buffer = Buffer::empty(Rect::new(0, 0, 30, 10));
        samples().draw(area, &mut buffer, Colours::True);
        let at = |x: u16, y: u16| buffer[(x, y)].clone();
        let (black, white) = (Color::Rgb(0, 0, 0), Color::Rgb(255, 255, 255));
        assert_eq!((at(2, 1).symbol(), at(2, 1).fg, at(9, 4).fg), ("▀", black, white));
        assert_eq!((at(11, 1).fg, at(18, 4).bg), (white, black));
        assert_eq!(at(10, 1).symbol(), " ", "a gap");
        for place in [(1u16, 1u16), (2, 0), (2, 5), (19, 1)] {
            assert_eq!(buffer[place].symbol(), " ", "{place:?} lies outside");
        }
    }

    #[test]
    fn images_shrink_where_there_is_little_room_and_never_leave_it() {
        for (width, height) in [(17, 4), (15, 4), (40, 20), (3, 2), (1, 1), (0, 0), (200, 1)] {
            let area = Rect::new(0, 0, width, height);
            let mut buffer = Buffer::empty(Rect::new(0, 0, width + 1, height + 1));
            for colours in [Colours::True, Colours::Table, Colours::None] {
                samples().draw(area, &mut buffer, colours);
            }
            assert!((0..=height).all(|y| buffer[(width, y)].symbol() == " "), "{width} × {height}");
            assert!((0..=width).all(|x| buffer[(x, height)].symbol() == " "));
        }
        let mut buffer = Buffer::empty(Rect::new(0, 0, 15, 4));
        samples().draw(Rect::new(0, 0, 15, 4), &mut buffer, Colours::None);
        assert_eq!(
            (buffer[(0, 0)].symbol(), buffer[(0, 2)].symbol(), buffer[(8, 0)].symbol()),
            (" ", "█", "█")
        );
    }

    #[test]
    fn colours_of_the_table_are_the_nearest() {
        let of = |rgb| Colours::of(rgb, Colours::Table);
        assert_eq!(of([0, 0, 0]), Color::Indexed(16));
        assert_eq!(of([255, 255, 255]), Color::Indexed(231));
        assert_eq!(of([8, 8, 8]), Color::Indexed(232));
        assert_eq!(of([238, 238, 238]), Color::Indexed(255));
        assert_eq!(of([255, 0, 0]), Color::Indexed(196));
        assert_eq!(of([0, 0, 255]), Color::Indexed(21));
    }
}
