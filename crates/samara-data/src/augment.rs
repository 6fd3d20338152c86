//! Random views of an image: scale and crop, flip, colour.

use rand::{Rng, RngExt};
use samara_image::{Mask, RgbImage, resize_bilinear};
use serde::{Deserialize, Serialize};

use super::error::DataError;

/// How images are varied.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Bounds of the longest side of the resized image, relative to the model's side, drawn
    /// uniformly in the logarithm. Above 1, a window of the model's side is cropped from it.
    pub scale: [f64; 2],
    /// Probability of a horizontal flip.
    pub flip: f64,
    /// Brightness is multiplied by a factor within `1 ± brightness`.
    pub brightness: f32,
    /// Distances to the mean grey are multiplied by a factor within `1 ± contrast`.
    pub contrast: f32,
    /// Distances to the pixel's own grey are multiplied by a factor within `1 ± saturation`.
    pub saturation: f32,
    /// Objects with fewer pixels in the view are dropped.
    pub min_pixels: u64,
    /// Objects of which a smaller share lies in the window are dropped.
    pub min_visible: f64,
}

impl Default for Augmentation {
    /// Zoom between 0.75 and 2, flips, and mild changes of colour.
    fn default() -> Self {
        Self {
            scale: [0.75, 2.0],
            flip: 0.5,
            brightness: 0.2,
            contrast: 0.2,
            saturation: 0.2,
            min_pixels: 32,
            min_visible: 0.2,
        }
    }
}

impl Augmentation {
    /// The whole image, its longest side resized to the model's; no object is dropped that keeps
    /// a pixel.
    pub fn none() -> Self {
        Self {
            scale: [1.0, 1.0],
            flip: 0.0,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            min_pixels: 1,
            min_visible: 0.0,
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`DataError::Setting`] naming the first key whose value is out of range.
    pub fn validate(&self) -> Result<(), DataError> {
        let [least, most] = self.scale;
        if !(0.05 <= least && least <= most && most <= 20.0) {
            let what = format!("[{least}, {most}] is not two rising numbers within 0.05 to 20");
            return Err(DataError::Setting { key: "scale", what });
        }
        check_share("flip", self.flip)?;
        check_share("brightness", self.brightness.into())?;
        check_share("contrast", self.contrast.into())?;
        check_share("saturation", self.saturation.into())?;
        check_share("min_visible", self.min_visible)
    }

    /// Draws a view of an image of `width × height` pixels for a model input of `side` pixels.
    /// The view contains the pixel `anchor`.
    pub fn view(
        &self,
        (width, height): (u32, u32),
        side: u32,
        anchor: (u32, u32),
        rng: &mut impl Rng,
    ) -> View {
        let [least, most] = self.scale;
        let relative = rng.random_range(least.ln()..=most.ln()).exp();
        let scale = relative * f64::from(side) / f64::from(width.max(height));
        let extent = (f64::from(side) / scale).round().max(1.0) as u32;
        let resized = |extent: u32| ((f64::from(extent) * scale + 0.5) as u32).clamp(1, side);
        let (x, from_width) = window(width, extent, anchor.0, rng);
        let (y, from_height) = window(height, extent, anchor.1, rng);
        let mut columns = sources(x, from_width, resized(from_width));
        let rows = sources(y, from_height, resized(from_height));
        let flip = rng.random_bool(self.flip);
        if flip {
            columns.reverse();
        }
        let mut factor = |strength: f32| 1.0 + rng.random_range(-strength..=strength);
        View {
            x,
            y,
            width: from_width,
            height: from_height,
            columns,
            rows,
            flip,
            brightness: factor(self.brightness),
            contrast: factor(self.contrast),
            saturation: factor(self.saturation),
            min_pixels: self.min_pixels.max(1),
            min_visible: self.min_visible,
        }
    }
}

pub(crate) fn check_share(key: &'static str, value: f64) -> Result<(), DataError> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    let what = format!("{value} is not within 0 to 1");
    Err(DataError::Setting { key, what })
}

/// First pixel and length of a stretch of at most `extent` pixels that contains `anchor`.
fn window(whole: u32, extent: u32, anchor: u32, rng: &mut impl Rng) -> (u32, u32) {
    let length = extent.min(whole);
    let last = anchor.min(whole - length);
    let first = (anchor + 1).saturating_sub(length).min(last);
    (rng.random_range(first..=last), length)
}

/// The source pixel under the centre of every target pixel, as in [`Mask::resize_nearest`].
fn sources(first: u32, from: u32, to: u32) -> Vec<u32> {
    let under = |i: u32| (2 * u64::from(i) + 1) * u64::from(from) / (2 * u64::from(to));
    (0..to).map(|i| first + under(i) as u32).collect()
}

/// One way of looking at an image: a window of it, resized, perhaps flipped and recoloured.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
    /// Source column of every column of the view.
    columns: Vec<u32>,
    /// Source row of every row of the view.
    rows: Vec<u32>,
    flip: bool,
    brightness: f32,
    contrast: f32,
    saturation: f32,
    min_pixels: u64,
    min_visible: f64,
}

impl View {
    /// Width and height of the view in pixels, at most the model's side.
    pub fn size(&self) -> (u32, u32) {
        (self.columns.len() as u32, self.rows.len() as u32)
    }

    /// The window as `[x, y, width, height]` in pixels of the original image.
    pub fn window(&self) -> [u32; 4] {
        [self.x, self.y, self.width, self.height]
    }

    /// The original pixel that masks show at a pixel of the view; `None` outside of the view.
    pub fn source(&self, x: u32, y: u32) -> Option<(u32, u32)> {
        let column = self.columns.get(x as usize)?;
        let row = self.rows.get(y as usize)?;
        Some((*column, *row))
    }

    /// The image in this view; `image` has the size that the view was drawn for.
    pub fn image(&self, image: &RgbImage) -> RgbImage {
        let (width, height) = self.size();
        let mut out = if (self.width, self.height) == image.dimensions() {
            resize_bilinear(image, width, height)
        } else {
            resize_bilinear(&self.crop(image), width, height)
        };
        if self.flip {
            for row in out.chunks_exact_mut(width as usize * 3) {
                row.as_chunks_mut::<3>().0.reverse();
            }
        }
        self.recolour(&mut out);
        out
    }

    fn crop(&self, image: &RgbImage) -> RgbImage {
        let mut out = RgbImage::new(self.width, self.height);
        let stride = image.width() as usize * 3;
        let (left, length) = (self.x as usize * 3, self.width as usize * 3);
        let rows = image.chunks_exact(stride).skip(self.y as usize);
        for (to, from) in out.chunks_exact_mut(length).zip(rows) {
            to.copy_from_slice(&from[left..left + length]);
        }
        out
    }

    /// Saturation, brightness, contrast, in one pass and one rounding.
    fn recolour(&self, image: &mut RgbImage) {
        if [self.brightness, self.contrast, self.saturation] == [1.0; 3] {
            return;
        }
        let pixels = f64::from(image.width()) * f64::from(image.height());
        let total: f64 = image.pixels().map(|p| f64::from(grey(p.0))).sum();
        let mean = (total / pixels) as f32 * self.brightness;
        let colour = self.contrast * self.brightness * self.saturation;
        let grey_part = self.contrast * self.brightness * (1.0 - self.saturation);
        let offset = (1.0 - self.contrast) * mean + 0.5;
        for pixel in image.pixels_mut() {
            let base = grey(pixel.0) * grey_part + offset;
            // The conversion to `u8` clamps.
            pixel.0 = pixel.0.map(|c| (f32::from(c) * colour + base) as u8);
        }
    }

    /// A mask of the original image in this view, by the nearest pixel; `None` when too little
    /// of it can be seen.
    pub fn mask(&self, mask: &Mask) -> Option<Mask> {
        let bounds = mask.bbox()?;
        let inside = mask.crop(self.x, self.y, self.width, self.height).area();
        if (inside as f64) < self.min_visible * mask.area() as f64 {
            return None;
        }
        let (width, height) = self.size();
        let within = |at: u32, first: u32, length: u32| (first..first + length).contains(&at);
        let columns: Vec<(u32, u32)> = (0..)
            .zip(self.columns.iter().copied())
            .filter(|&(_, from)| within(from, bounds.x, bounds.width))
            .collect();
        let mut out = Mask::new(width, height);
        for (y, &from_y) in (0..).zip(&self.rows) {
            if within(from_y, bounds.y, bounds.height) {
                let from = mask.row(from_y);
                for &(x, from_x) in &columns {
                    if from[(from_x / 64) as usize] >> (from_x % 64) & 1 == 1 {
                        out.set(x, y, true);
                    }
                }
            }
        }
        (out.area() >= self.min_pixels).then_some(out)
    }
}

/// Rec. 601 luma.
fn grey([r, g, b]: [u8; 3]) -> f32 {
    0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use samara_image::{Frame, Rgb};

    use super::*;

    fn rng(seed: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(seed)
    }

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, (x + y) as u8]))
    }

    #[test]
    fn without_augmentation_the_view_is_the_frame_of_sam() {
        for (width, height) in [(481, 321), (338, 512), (97, 640), (1000, 3)] {
            let view = Augmentation::none().view((width, height), 512, (5, 1), &mut rng(1));
            let frame = Frame::longest_side(width, height, 512).unwrap();
            assert_eq!(view.size(), frame.content_size());
            let image = gradient(width, height);
            let (w, h) = view.size();
            assert_eq!(view.image(&image), resize_bilinear(&image, w, h));
            let mask = Mask::from_fn(width, height, |x, y| (x * y) % 7 < 3);
            assert_eq!(view.mask(&mask).unwrap(), mask.resize_nearest(w, h));
        }
    }

    #[test]
    fn every_view_holds_its_anchor_and_shows_image_and_mask_alike() {
        let (width, height) = (200, 120);
        // An image that is its mask: what is seen of one must be seen of the other.
        let mask = Mask::from_fn(width, height, |x, y| x > 90 && y > 40 && x + y < 240);
        let image = RgbImage::from_fn(width, height, |x, y| {
            Rgb([255 * u8::from(mask.get(x, y)); 3])
        });
        let augmentation = Augmentation {
            scale: [0.5, 6.0],
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            ..Augmentation::default()
        };
        let (mut flips, mut crops) = (0, 0);
        for seed in 0..100 {
            let anchor = (100, 100);
            let view = augmentation.view((width, height), 64, anchor, &mut rng(seed));
            let [x, y, w, h] = view.window();
            assert!((x..x + w).contains(&anchor.0) && (y..y + h).contains(&anchor.1));
            assert!(x + w <= width && y + h <= height);
            let (out_width, out_height) = view.size();
            assert!(out_width <= 64 && out_height <= 64);
            flips += u32::from(view.flip);
            crops += u32::from(w < width);
            let seen = view.image(&image);
            assert_eq!(seen.dimensions(), view.size());
            let Some(shown) = view.mask(&mask) else {
                continue;
            };
            let differing = (0..out_height).flat_map(|y| (0..out_width).map(move |x| (x, y)));
            let differing = differing.filter(|&(x, y)| {
                let (sx, sy) = view.source(x, y).unwrap();
                assert_eq!(shown.get(x, y), mask.get(sx, sy));
                (seen.get_pixel(x, y)[0] > 127) != shown.get(x, y)
            });
            assert!(differing.count() < 80, "seed {seed}");
        }
        assert!((30..70).contains(&flips) && crops > 30, "{flips} {crops}");
    }

    #[test]
    fn objects_of_which_little_is_seen_are_dropped() {
        let zoom = Augmentation {
            scale: [4.0, 4.0],
            flip: 0.0,
            ..Augmentation::default()
        };
        let view = zoom.view((400, 400), 100, (0, 0), &mut rng(3));
        assert_eq!(view.window(), [0, 0, 100, 100]);
        let square = |x0: u32, size: u32| {
            Mask::from_fn(400, 400, |x, y| (x0..x0 + size).contains(&x) && y < size)
        };
        assert!(view.mask(&square(0, 6)).is_some());
        assert!(view.mask(&square(0, 5)).is_none(), "25 pixels");
        assert!(view.mask(&square(75, 100)).is_some(), "25 % within");
        assert!(view.mask(&square(85, 100)).is_none(), "15 % within");
        assert!(view.mask(&Mask::new(400, 400)).is_none());
    }

    #[test]
    fn colours_follow_their_factors() {
        let neutral = Augmentation::none().view((2, 1), 2, (0, 0), &mut rng(0));
        let image = RgbImage::from_raw(2, 1, vec![100, 100, 100, 200, 100, 50]).unwrap();
        assert_eq!(neutral.image(&image), image);
        let seen = |brightness, contrast, saturation| {
            let mut view = neutral.clone();
            (view.brightness, view.contrast, view.saturation) = (brightness, contrast, saturation);
            view.image(&image).into_raw()
        };
        assert_eq!(seen(1.5, 1.0, 1.0), [150, 150, 150, 255, 150, 75]);
        // The grey of the second pixel is 124.2, the mean 112.1.
        assert_eq!(seen(1.0, 1.0, 0.0), [100, 100, 100, 124, 124, 124]);
        assert_eq!(seen(1.0, 0.0, 1.0), [112; 6]);
    }

    #[test]
    fn values_out_of_range_and_unknown_keys_are_named() {
        assert!(Augmentation::default().validate().is_ok());
        assert!(Augmentation::none().validate().is_ok());
        let with = |json: &str| serde_json::from_str::<Augmentation>(json);
        for (json, key) in [
            (r#"{"scale": [2, 1]}"#, "scale"),
            (r#"{"scale": [0, 1]}"#, "scale"),
            (r#"{"flip": 1.5}"#, "flip"),
            (r#"{"contrast": -0.1}"#, "contrast"),
        ] {
            let error = with(json).unwrap().validate().unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        }
        let error = with(r#"{"flips": 1}"#).unwrap_err().to_string();
        assert!(error.contains("flips"), "{error}");
    }
}
