//! Drawing on an image: anti-aliased paths and text.

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};
use image::{Rgb, RgbImage};
use tiny_skia::{
    FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, Transform,
};

/// The bold sans of the `DejaVu` family, reduced to what labels need; its licence lies beside it.
const FONT: &[u8] = include_bytes!("../assets/DejaVuSans-Bold-subset.ttf");

/// A colour with opacity, 0 to 1.
#[derive(Clone, Copy)]
pub(crate) struct Ink {
    pub(crate) color: Rgb<u8>,
    pub(crate) opacity: f32,
}

impl Ink {
    pub(crate) const fn new(color: Rgb<u8>, opacity: f32) -> Self {
        Self { color, opacity }
    }

    fn paint(self) -> Paint<'static> {
        let [r, g, b] = self.color.0;
        let mut paint = Paint::default();
        paint.set_color_rgba8(
            r,
            g,
            b,
            (self.opacity.clamp(0.0, 1.0) * 255.0).round() as u8,
        );
        paint.anti_alias = true;
        paint
    }
}

/// An opaque image to draw on.
pub(crate) struct Canvas {
    pixels: Pixmap,
}

impl Canvas {
    /// `None` for an image without pixels or with more than the drawing library can address.
    pub(crate) fn new(image: &RgbImage) -> Option<Self> {
        let mut pixels = Pixmap::new(image.width(), image.height())?;
        let (quads, _) = pixels.data_mut().as_chunks_mut::<4>();
        for (to, from) in quads.iter_mut().zip(image.pixels()) {
            let [r, g, b] = from.0;
            *to = [r, g, b, 255];
        }
        Some(Self { pixels })
    }

    pub(crate) fn into_image(self) -> RgbImage {
        let mut image = RgbImage::new(self.pixels.width(), self.pixels.height());
        let (quads, _) = self.pixels.data().as_chunks::<4>();
        for (to, &[r, g, b, _]) in image.pixels_mut().zip(quads) {
            *to = Rgb([r, g, b]);
        }
        image
    }

    pub(crate) fn size(&self) -> (f32, f32) {
        (self.pixels.width() as f32, self.pixels.height() as f32)
    }

    pub(crate) fn fill(&mut self, path: &Path, ink: Ink) {
        let identity = Transform::identity();
        self.pixels
            .fill_path(path, &ink.paint(), FillRule::EvenOdd, identity, None);
    }

    pub(crate) fn stroke(&mut self, path: &Path, width: f32, ink: Ink) {
        let stroke = Stroke {
            width,
            line_join: LineJoin::Round,
            line_cap: LineCap::Round,
            ..Stroke::default()
        };
        self.pixels
            .stroke_path(path, &ink.paint(), &stroke, Transform::identity(), None);
    }

    pub(crate) fn disc(&mut self, (x, y): (f32, f32), radius: f32, ink: Ink) {
        if let Some(path) = PathBuilder::from_circle(x, y, radius) {
            self.fill(&path, ink);
        }
    }

    pub(crate) fn line(&mut self, from: (f32, f32), to: (f32, f32), width: f32, ink: Ink) {
        let mut path = PathBuilder::new();
        path.move_to(from.0, from.1);
        path.line_to(to.0, to.1);
        if let Some(path) = path.finish() {
            self.stroke(&path, width, ink);
        }
    }

    /// Draws a line of text with its middle left at `at`.
    pub(crate) fn text(&mut self, text: &Text, at: (f32, f32), color: Rgb<u8>) {
        let (width, height) = (self.pixels.width() as i32, self.pixels.height() as i32);
        let (quads, _) = self.pixels.data_mut().as_chunks_mut::<4>();
        for glyph in &text.glyphs {
            let mut glyph = glyph.clone();
            glyph.position.x += at.0;
            glyph.position.y += at.1 + text.cap_height / 2.0;
            let Some(outline) = text.font.outline_glyph(glyph) else {
                continue;
            };
            let corner = outline.px_bounds().min;
            outline.draw(|x, y, coverage| {
                let (x, y) = (corner.x as i32 + x as i32, corner.y as i32 + y as i32);
                if !(0..width).contains(&x) || !(0..height).contains(&y) {
                    return;
                }
                let pixel = &mut quads[(y * width + x) as usize];
                for (below, over) in pixel.iter_mut().zip(color.0) {
                    let (b, o) = (f32::from(*below), f32::from(over));
                    *below = (o - b).mul_add(coverage.clamp(0.0, 1.0), b).round() as u8;
                }
            });
        }
    }
}

/// A line of text that has been laid out.
pub(crate) struct Text {
    font: FontRef<'static>,
    glyphs: Vec<Glyph>,
    cap_height: f32,
    /// In pixels.
    pub(crate) width: f32,
}

impl Text {
    /// Lays out `text` with letters `size` pixels high; characters that the font lacks become "?".
    pub(crate) fn new(text: &str, size: f32) -> Option<Self> {
        let font = FontRef::try_from_slice(FONT).ok()?;
        let scaled = font.as_scaled(PxScale::from(size));
        let known = |c: char| if font.glyph_id(c).0 == 0 { '?' } else { c };
        let mut glyphs = Vec::new();
        let mut x = 0.0;
        for c in text.chars().map(known) {
            let id = font.glyph_id(c);
            glyphs.push(id.with_scale_and_position(size, point(x, 0.0)));
            x += scaled.h_advance(id);
        }
        let cap = scaled.outline_glyph(font.glyph_id('H').with_scale(size));
        let cap_height = cap.map_or(size * 0.7, |outline| outline.px_bounds().height());
        Some(Self {
            font,
            glyphs,
            cap_height,
            width: x,
        })
    }
}

/// A rectangle with round corners.
pub(crate) fn rounded(rect: Rect, radius: f32) -> Option<Path> {
    let r = radius.min(rect.width() / 2.0).min(rect.height() / 2.0);
    let (left, top, right, bottom) = (rect.left(), rect.top(), rect.right(), rect.bottom());
    let mut path = PathBuilder::new();
    path.move_to(left + r, top);
    path.line_to(right - r, top);
    corner(&mut path, (right - r, top), (right, top), (right, top + r));
    path.line_to(right, bottom - r);
    corner(
        &mut path,
        (right, bottom - r),
        (right, bottom),
        (right - r, bottom),
    );
    path.line_to(left + r, bottom);
    corner(
        &mut path,
        (left + r, bottom),
        (left, bottom),
        (left, bottom - r),
    );
    path.line_to(left, top + r);
    corner(&mut path, (left, top + r), (left, top), (left + r, top));
    path.close();
    path.finish()
}

/// A quarter of a circle as one cubic curve.
fn corner(path: &mut PathBuilder, from: (f32, f32), tip: (f32, f32), to: (f32, f32)) {
    const PULL: f32 = 0.552_284_8;
    let pulled = |a: (f32, f32)| (a.0 + (tip.0 - a.0) * PULL, a.1 + (tip.1 - a.1) * PULL);
    let (a, b) = (pulled(from), pulled(to));
    path.cubic_to(a.0, a.1, b.0, b.1, to.0, to.1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_has_what_labels_need() {
        let font = FontRef::try_from_slice(FONT).unwrap();
        let wanted = (' '..='~').chain("≥±×·–".chars());
        for c in wanted {
            assert!(font.glyph_id(c).0 != 0, "{c}");
        }
        let narrow = Text::new("i", 20.0).unwrap().width;
        assert!(narrow > 0.0 && narrow < Text::new("WW", 20.0).unwrap().width);
        assert_eq!(
            Text::new("日", 20.0).unwrap().width,
            Text::new("?", 20.0).unwrap().width
        );
    }
}
