//! Bars that show a few measures beside an image.

use image::{Rgb, RgbImage};
use tiny_skia::Rect;

use crate::canvas::{Canvas, Ink, Text, rounded};

const PAPER: Rgb<u8> = Rgb([255; 3]);
const INK: Rgb<u8> = Rgb([40, 40, 44]);
const FAINT: Rgb<u8> = Rgb([228, 228, 232]);

/// Bars that belong together.
#[derive(Debug, Clone)]
pub struct BarGroup {
    /// What they are about.
    pub title: String,
    /// Their colour.
    pub color: Rgb<u8>,
    /// Name and value of each, drawn from 0 to 1; `None` is shown as a dash.
    pub bars: Vec<(String, Option<f64>)>,
}

/// A white image with a title and groups of horizontal bars from 0 to 1.
///
/// ```
/// use samara_image::{BarGroup, bar_chart, palette};
///
/// let bars = vec![("correlation".to_owned(), Some(0.62)), ("mass".to_owned(), None)];
/// let group = BarGroup { title: "whole".into(), color: palette(0), bars };
/// assert_eq!(bar_chart(240, 160, "looks at the whole", &[group]).dimensions(), (240, 160));
/// ```
pub fn bar_chart(width: u32, height: u32, title: &str, groups: &[BarGroup]) -> RgbImage {
    let paper = RgbImage::from_pixel(width, height, PAPER);
    let Some(mut canvas) = Canvas::new(&paper) else {
        return paper;
    };
    let bars: usize = groups.iter().map(|group| group.bars.len()).sum();
    let lines = 1.6 + 1.5 * groups.len() as f32 + bars as f32;
    let line = (height as f32 / lines).min(width as f32 / 9.0);
    let mut chart = Chart {
        canvas: &mut canvas,
        width: width as f32,
        line,
        y: line * 0.8,
    };
    chart.words(title, line * 0.3, line * 0.85, INK);
    chart.y += line * 0.2;
    for group in groups {
        chart.y += line * 1.2;
        chart.words(&group.title, line * 0.3, line * 0.75, group.color);
        for (name, value) in &group.bars {
            chart.y += line;
            chart.bar(name, *value, group.color);
        }
        chart.y += line * 0.3;
    }
    canvas.into_image()
}

struct Chart<'a> {
    canvas: &'a mut Canvas,
    width: f32,
    line: f32,
    /// The middle of the current line.
    y: f32,
}

impl Chart<'_> {
    /// Words that begin at `x`, smaller if they would not fit.
    fn words(&mut self, text: &str, x: f32, size: f32, color: Rgb<u8>) {
        let Some(laid) = Text::new(text, size) else {
            return;
        };
        let share = (self.width - x) / laid.width.max(1.0);
        let laid = if share < 1.0 {
            Text::new(text, size * share)
        } else {
            Some(laid)
        };
        if let Some(laid) = laid {
            self.canvas.text(&laid, (x, self.y), color);
        }
    }

    fn bar(&mut self, name: &str, value: Option<f64>, color: Rgb<u8>) {
        let size = self.line * 0.62;
        let (left, right) = (self.width * 0.40, self.width * 0.82);
        self.words(name, self.line * 0.3, size, INK);
        self.strip(left, right, FAINT);
        let share = value.unwrap_or(0.0).clamp(0.0, 1.0) as f32;
        if share > 0.0 {
            self.strip(left, left + (right - left) * share, color);
        }
        let shown = value.map_or("–".into(), |value| format!("{value:.2}"));
        self.words(&shown, right + self.line * 0.2, size, INK);
    }

    fn strip(&mut self, left: f32, right: f32, color: Rgb<u8>) {
        let half = self.line * 0.28;
        let rect = Rect::from_ltrb(left, self.y - half, right, self.y + half);
        if let Some(path) = rect.and_then(|rect| rounded(rect, half * 0.5)) {
            self.canvas.fill(&path, Ink::new(color, 1.0));
        }
    }
}
