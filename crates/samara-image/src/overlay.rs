//! Images that show masks, prompts and scores.

use image::{Rgb, RgbImage};
use tiny_skia::{PathBuilder, Rect};

use crate::canvas::{Canvas, Ink, Text, rounded};
use crate::frame::{OriginalBox, OriginalPx};
use crate::mask::Mask;
use crate::smooth::smooth_outline;

const BLACK: Rgb<u8> = Rgb([0, 0, 0]);
const WHITE: Rgb<u8> = Rgb([255, 255, 255]);
const POSITIVE: Rgb<u8> = Rgb([24, 168, 78]);
const NEGATIVE: Rgb<u8> = Rgb([222, 45, 48]);
const BOX: Rgb<u8> = Rgb([255, 205, 30]);

/// Draws masks, clicks, boxes and labels over an image. Line widths and letters grow with the
/// image, so the result looks the same at any size on a page.
///
/// ```
/// use samara_image::{Mask, OriginalPx, Overlay, RgbImage, palette};
///
/// let photo = RgbImage::new(320, 240);
/// let mask = Mask::from_fn(320, 240, |x, y| x.abs_diff(160) + y.abs_diff(120) < 80);
/// let image = Overlay::new(&photo)
///     .mask(&mask, palette(0))
///     .label("whole 0.93")
///     .point(OriginalPx::new(160.0, 120.0), true)
///     .render();
/// assert_eq!(image.dimensions(), (320, 240));
/// ```
#[derive(Debug, Clone)]
pub struct Overlay<'a> {
    image: &'a RgbImage,
    opacity: f32,
    masks: Vec<Layer<'a>>,
    points: Vec<(OriginalPx, bool)>,
    boxes: Vec<OriginalBox>,
    title: Option<String>,
}

#[derive(Debug, Clone)]
struct Layer<'a> {
    mask: &'a Mask,
    color: Rgb<u8>,
    label: Option<String>,
}

impl<'a> Overlay<'a> {
    /// Nothing drawn yet.
    pub fn new(image: &'a RgbImage) -> Self {
        Self {
            image,
            opacity: 0.4,
            masks: Vec::new(),
            points: Vec::new(),
            boxes: Vec::new(),
            title: None,
        }
    }

    /// How opaque the masks' fill is, from 0 (contour only) to 1. The default is 0.4.
    pub fn fill_opacity(mut self, opacity: f32) -> Self {
        self.opacity = opacity.clamp(0.0, 1.0);
        self
    }

    /// Adds a mask; later ones lie over earlier ones. A mask of another size is stretched to the
    /// image.
    pub fn mask(mut self, mask: &'a Mask, color: Rgb<u8>) -> Self {
        self.masks.push(Layer {
            mask,
            color,
            label: None,
        });
        self
    }

    /// Adds a label, such as "whole 0.93", near the top of the mask added last, or in the
    /// image's top-left corner when there is no mask.
    pub fn label(mut self, text: impl Into<String>) -> Self {
        match self.masks.last_mut() {
            Some(layer) => layer.label = Some(text.into()),
            None => self.title = Some(text.into()),
        }
        self
    }

    /// Adds a click: green with a plus for the object, red with a minus for the background.
    pub fn point(mut self, at: OriginalPx, positive: bool) -> Self {
        self.points.push((at, positive));
        self
    }

    /// Adds a box prompt.
    pub fn prompt_box(mut self, b: &OriginalBox) -> Self {
        self.boxes.push(*b);
        self
    }

    /// The image with everything drawn on it. An image without pixels comes back as it is.
    pub fn render(&self) -> RgbImage {
        let Some(mut canvas) = Canvas::new(self.image) else {
            return self.image.clone();
        };
        let unit = unit(self.image);
        let size = self.image.dimensions();
        let mut labels = Labels {
            unit,
            taken: Vec::new(),
        };
        for layer in &self.masks {
            if (layer.mask.width(), layer.mask.height()) == size {
                draw_mask(&mut canvas, layer.mask, layer.color, self.opacity, unit);
            } else {
                let stretched = layer.mask.resize_nearest(size.0, size.1);
                draw_mask(&mut canvas, &stretched, layer.color, self.opacity, unit);
            }
        }
        for b in &self.boxes {
            draw_box(&mut canvas, b, unit);
        }
        for &(at, positive) in &self.points {
            draw_click(&mut canvas, at, positive, unit);
        }
        for layer in &self.masks {
            if let (Some(text), Some(anchor)) = (&layer.label, anchor(layer.mask, size)) {
                labels.draw(&mut canvas, text, anchor, layer.color);
            }
        }
        if let Some(text) = &self.title {
            labels.draw(&mut canvas, text, (0.0, 0.0), Rgb([40, 40, 44]));
        }
        canvas.into_image()
    }
}

/// The width of a thin line: one pixel in an image with a diagonal of 900 pixels.
fn unit(image: &RgbImage) -> f32 {
    let (width, height) = image.dimensions();
    ((width as f32).hypot(height as f32) / 900.0).max(0.6)
}

fn draw_mask(canvas: &mut Canvas, mask: &Mask, color: Rgb<u8>, opacity: f32, unit: f32) {
    let passes = (unit * 6.0).clamp(6.0, 24.0) as usize;
    let Some(path) = smooth_outline(mask, passes) else {
        return;
    };
    canvas.fill(&path, Ink::new(color, opacity));
    canvas.stroke(&path, unit * 4.8, Ink::new(BLACK, 0.38));
    canvas.stroke(&path, unit * 2.4, Ink::new(lighter(color), 1.0));
}

/// Towards white, so that the contour stands out from a fill of the same colour.
fn lighter(color: Rgb<u8>) -> Rgb<u8> {
    Rgb(color.0.map(|c| c + ((255 - c) / 3)))
}

fn draw_box(canvas: &mut Canvas, b: &OriginalBox, unit: f32) {
    let (left, top) = (b.min.x as f32, b.min.y as f32);
    let (right, bottom) = (b.max.x as f32, b.max.y as f32);
    let Some(rect) = Rect::from_ltrb(left, top, right, bottom) else {
        return;
    };
    let path = PathBuilder::from_rect(rect);
    canvas.stroke(&path, unit * 4.4, Ink::new(BLACK, 0.35));
    canvas.stroke(&path, unit * 2.2, Ink::new(BOX, 1.0));
    for corner in [(left, top), (right, top), (left, bottom), (right, bottom)] {
        canvas.disc(corner, unit * 4.4, Ink::new(BLACK, 0.35));
        canvas.disc(corner, unit * 3.4, Ink::new(BOX, 1.0));
    }
}

fn draw_click(canvas: &mut Canvas, at: OriginalPx, positive: bool, unit: f32) {
    let (x, y) = (at.x as f32, at.y as f32);
    if !(x.is_finite() && y.is_finite()) {
        return;
    }
    let color = if positive { POSITIVE } else { NEGATIVE };
    canvas.disc((x, y + unit), unit * 9.6, Ink::new(BLACK, 0.30));
    canvas.disc((x, y), unit * 8.6, Ink::new(WHITE, 1.0));
    canvas.disc((x, y), unit * 6.8, Ink::new(color, 1.0));
    let (arm, thick) = (unit * 3.4, unit * 2.0);
    canvas.line((x - arm, y), (x + arm, y), thick, Ink::new(WHITE, 1.0));
    if positive {
        canvas.line((x, y - arm), (x, y + arm), thick, Ink::new(WHITE, 1.0));
    }
}

/// The middle of the longest stretch of the mask's top rows, in pixels of the image.
fn anchor(mask: &Mask, (width, height): (u32, u32)) -> Option<(f32, f32)> {
    let top = mask.bbox()?;
    let row = mask.crop(0, top.y, mask.width(), 1);
    let span = row.bbox()?;
    let scale = |v: f32, to: u32, from: u32| v * to as f32 / from.max(1) as f32;
    let x = span.x as f32 + span.width as f32 / 2.0;
    Some((
        scale(x, width, mask.width()),
        scale(top.y as f32, height, mask.height()),
    ))
}

/// Places labels so that they stay in the image and off each other.
struct Labels {
    unit: f32,
    taken: Vec<Rect>,
}

impl Labels {
    /// Draws a pill whose lower edge is a little above `anchor`.
    fn draw(&mut self, canvas: &mut Canvas, text: &str, anchor: (f32, f32), color: Rgb<u8>) {
        let Some((text, rect)) = self.place(canvas.size(), text, anchor) else {
            return;
        };
        let radius = rect.height() / 2.0;
        let (Some(pill), Some(shadow)) = (
            rounded(rect, radius),
            rect.outset(self.unit, self.unit)
                .and_then(|r| rounded(r, radius + self.unit)),
        ) else {
            return;
        };
        canvas.fill(&shadow, Ink::new(BLACK, 0.30));
        canvas.fill(&pill, Ink::new(color, 1.0));
        let letters = if luma(color) > 140.0 {
            Rgb([20, 20, 24])
        } else {
            WHITE
        };
        let at = (
            rect.x() + (rect.width() - text.width) / 2.0,
            rect.y() + radius,
        );
        canvas.text(&text, at, letters);
        self.taken.push(rect);
    }

    fn place(
        &self,
        (width, height): (f32, f32),
        text: &str,
        anchor: (f32, f32),
    ) -> Option<(Text, Rect)> {
        let size = self.unit * 15.0;
        let margin = self.unit * 4.0;
        let laid = Text::new(text, size)?;
        // A label wider than the image gets smaller letters.
        let share = (width - 2.0 * margin) / (laid.width + size);
        let (laid, size) = if share < 1.0 {
            (Text::new(text, size * share)?, size * share)
        } else {
            (laid, size)
        };
        let (w, h) = (laid.width + size, size * 1.45);
        let within = |v: f32, most: f32| v.min(most - margin).max(margin);
        let x = within(anchor.0 - w / 2.0, width - w);
        let top = within(anchor.1 - h - margin, height - h);
        let at = |y: f32| Rect::from_xywh(x, y, w, h);
        let free = |rect: &Rect| {
            self.taken.iter().all(|other| {
                rect.right() < other.left()
                    || other.right() < rect.left()
                    || rect.bottom() < other.top()
                    || other.bottom() < rect.top()
            })
        };
        let shifts = (0..12).flat_map(|i| [i as f32, -(i as f32)]);
        let spot = shifts
            .filter_map(|i| at(within(top + i * (h + self.unit * 2.0), height - h)))
            .find(free);
        Some((laid, spot.or_else(|| at(top))?))
    }
}

/// Perceived brightness, 0 to 255 (ITU-R BT.601).
fn luma(color: Rgb<u8>) -> f32 {
    let [r, g, b] = color.0.map(f32::from);
    0.299 * r + 0.587 * g + 0.114 * b
}
