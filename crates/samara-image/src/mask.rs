//! Bit masks.

use std::ops::{Not, Range};
use std::path::Path;

use image::{DynamicImage, GrayImage};

use crate::bits;
use crate::decode::{decode_page, is_lossy, read_bytes};
use crate::decoded::Decoded;
use crate::error::Error;
use crate::labels::{area_labels, labels};
use crate::limits::ImageLimits;
use crate::save::save_png;
use crate::tones::refuse_colours;

/// A binary mask: one bit a pixel, row by row.
///
/// Every row is padded to whole 64-bit words, the lowest bit is the leftmost pixel, and the
/// padding bits are always zero. Outside of its own size a mask is unset everywhere.
///
/// Making a mask takes an eighth of a byte a pixel; check a size that comes from outside with
/// [`ImageLimits::check_pixels`] first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mask {
    width: u32,
    height: u32,
    words: Vec<u64>,
}

/// The box of a mask's set pixels, in pixels of the mask.
///
/// It covers the pixels `x..x + width` by `y..y + height`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BBox {
    /// The leftmost column.
    pub x: u32,
    /// The topmost row.
    pub y: u32,
    /// Number of columns, at least 1.
    pub width: u32,
    /// Number of rows, at least 1.
    pub height: u32,
}

impl BBox {
    /// Left, top, right and bottom pixel, both ends included: `[x, y, x + width - 1, …]`.
    ///
    /// This is the box of the official mask generator (`batched_mask_to_box`).
    pub fn xyxy_inclusive(&self) -> [u32; 4] {
        [
            self.x,
            self.y,
            self.x + (self.width - 1),
            self.y + (self.height - 1),
        ]
    }

    /// The box as the official mask generator reports it under `bbox`: `[x, y, w, h]` made from
    /// inclusive corners, so `w` and `h` are one less than the number of columns and rows.
    pub fn amg_xywh(&self) -> [u32; 4] {
        [self.x, self.y, self.width - 1, self.height - 1]
    }

    /// `[x, y, w, h]` with full widths, as COCO's `toBbox` gives it.
    pub fn xywh(&self) -> [u32; 4] {
        [self.x, self.y, self.width, self.height]
    }
}

impl Mask {
    /// A mask with no pixel set.
    pub fn new(width: u32, height: u32) -> Self {
        let words = vec![0; bits::words_for(width) * height as usize];
        Self {
            width,
            height,
            words,
        }
    }

    /// A mask with every pixel set.
    pub fn full(width: u32, height: u32) -> Self {
        !&Self::new(width, height)
    }

    /// A mask set where `inside(x, y)` holds.
    pub fn from_fn(width: u32, height: u32, mut inside: impl FnMut(u32, u32) -> bool) -> Self {
        let mut mask = Self::new(width, height);
        for y in 0..height {
            let row = mask.row_mut(y);
            for x in 0..width {
                row[(x / 64) as usize] |= u64::from(inside(x, y)) << (x % 64);
            }
        }
        mask
    }

    /// A mask from one `bool` a pixel, row by row.
    ///
    /// # Errors
    /// [`Error::Parameter`] when the slice does not hold `width × height` values.
    pub fn from_bools(width: u32, height: u32, values: &[bool]) -> Result<Self, Error> {
        check_len("mask values", values.len(), width, height)?;
        Ok(Self::from_slice(width, height, values, |&v| v))
    }

    /// A mask set where a logit is greater than `threshold` (0 for SAM's masks), row by row.
    /// A logit that is not a number is unset.
    ///
    /// # Errors
    /// [`Error::Parameter`] when the slice does not hold `width × height` values.
    pub fn from_logits(
        logits: &[f32],
        width: u32,
        height: u32,
        threshold: f32,
    ) -> Result<Self, Error> {
        check_len("mask logits", logits.len(), width, height)?;
        Ok(Self::from_slice(width, height, logits, |&v| v > threshold))
    }

    /// A mask set where the grey level is greater than `threshold`.
    pub fn from_luma(image: &GrayImage, threshold: u8) -> Self {
        Self::from_slice(image.width(), image.height(), image.as_raw(), |&v| {
            v > threshold
        })
    }

    /// `values` holds at least `width × height` items; every caller has checked that.
    fn from_slice<T>(width: u32, height: u32, values: &[T], set: impl Fn(&T) -> bool) -> Self {
        let mut mask = Self::new(width, height);
        for (y, line) in (0..height).zip(values.chunks_exact((width as usize).max(1))) {
            mask.set_row(y, 0, line, &set);
        }
        mask
    }

    /// Sets the pixels of row `y` from column `x` on where a logit is greater than `threshold`, for
    /// producers that make a mask row by row; pixels that are set stay so. Logits or a row beyond the
    /// mask are ignored.
    pub fn set_row_from_logits(&mut self, y: u32, x: u32, logits: &[f32], threshold: f32) {
        let within = &logits[..logits.len().min(self.width.saturating_sub(x) as usize)];
        self.set_row(y, x, within, |&v| v > threshold);
    }

    /// Sets the pixels of row `y` in the columns `x`, as far as they lie in the mask.
    pub fn set_row_range(&mut self, y: u32, x: Range<u32>) {
        let end = x.end.min(self.width);
        if y < self.height {
            bits::set_range(self.row_mut(y), x.start, end);
        }
    }

    /// Sets the pixels of row `y` that begin at `x`; they lie inside the mask. Others of the same
    /// words that are set stay so.
    fn set_row<T>(&mut self, y: u32, x: u32, values: &[T], set: impl Fn(&T) -> bool) {
        let words = self.row_mut(y);
        let (head, rest) = values.split_at(values.len().min((64 - x % 64) as usize));
        let bits = |part: &[T]| {
            let mut flags = [0_u8; 64];
            for (flag, value) in flags.iter_mut().zip(part) {
                *flag = u8::from(set(value));
            }
            bits::pack(&flags)
        };
        let parts = std::iter::once((head, x % 64)).chain(rest.chunks(64).map(|part| (part, 0)));
        for (word, (part, shift)) in words.iter_mut().skip((x / 64) as usize).zip(parts) {
            *word |= bits(part) << shift;
        }
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Whether the pixel is set; unset outside of the mask.
    pub fn get(&self, x: u32, y: u32) -> bool {
        x < self.width && y < self.height && self.row(y)[(x / 64) as usize] >> (x % 64) & 1 == 1
    }

    /// Sets or clears a pixel; does nothing outside of the mask.
    pub fn set(&mut self, x: u32, y: u32, value: bool) {
        if x < self.width && y < self.height {
            let word = &mut self.row_mut(y)[(x / 64) as usize];
            *word = *word & !(1 << (x % 64)) | u64::from(value) << (x % 64);
        }
    }

    /// Number of 64-bit words in a row.
    pub fn words_per_row(&self) -> usize {
        bits::words_for(self.width)
    }

    /// The words of row `y`, lowest bit leftmost; empty outside of the mask.
    pub fn row(&self, y: u32) -> &[u64] {
        let n = self.words_per_row();
        self.words
            .get(y as usize * n..(y as usize + 1) * n)
            .unwrap_or(&[])
    }

    /// The caller keeps the padding bits zero.
    pub(crate) fn row_mut(&mut self, y: u32) -> &mut [u64] {
        let n = self.words_per_row();
        self.words
            .get_mut(y as usize * n..(y as usize + 1) * n)
            .unwrap_or(&mut [])
    }

    /// All rows, one after the other.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// A mask from rows of words; padding bits are cleared.
    pub(crate) fn from_words(width: u32, height: u32, words: Vec<u64>) -> Self {
        let mut mask = Self {
            width,
            height,
            words,
        };
        mask.words
            .resize(bits::words_for(width) * height as usize, 0);
        mask.clear_padding();
        mask
    }

    fn clear_padding(&mut self) {
        let keep = bits::last_word(self.width);
        let n = self.words_per_row();
        if n > 0 {
            for last in self.words.iter_mut().skip(n - 1).step_by(n) {
                *last &= keep;
            }
        }
    }

    /// Number of set pixels.
    pub fn area(&self) -> u64 {
        self.words.iter().map(|w| u64::from(w.count_ones())).sum()
    }

    /// Whether no pixel is set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&w| w == 0)
    }

    /// The tight box of the set pixels, or `None` when there is none.
    pub fn bbox(&self) -> Option<BBox> {
        let occupied = |&y: &u32| self.row(y).iter().any(|&w| w != 0);
        let top = (0..self.height).find(occupied)?;
        let bottom = (top..self.height).rev().find(occupied)?;
        let mut columns = vec![0; self.words_per_row()];
        for y in top..=bottom {
            for (all, word) in columns.iter_mut().zip(self.row(y)) {
                *all |= word;
            }
        }
        let first = columns.iter().position(|&w| w != 0)?;
        let last = columns.iter().rposition(|&w| w != 0)?;
        let left = first as u32 * 64 + columns[first].trailing_zeros();
        let right = last as u32 * 64 + 63 - columns[last].leading_zeros();
        Some(BBox {
            x: left,
            y: top,
            width: right - left + 1,
            height: bottom - top + 1,
        })
    }

    /// Number of pixels set in both masks. Masks of different sizes are compared with their
    /// top-left corners together, each unset outside of its size.
    pub fn intersection_area(&self, other: &Self) -> u64 {
        let shared = |one: &[u64], other: &[u64]| -> u64 {
            let both = one.iter().zip(other).map(|(a, b)| a & b);
            both.map(|word| u64::from(word.count_ones())).sum()
        };
        if self.words_per_row() == other.words_per_row() {
            return shared(&self.words, &other.words);
        }
        let rows = 0..self.height.min(other.height);
        rows.map(|y| shared(self.row(y), other.row(y))).sum()
    }

    /// Number of pixels set in at least one mask; sizes as in
    /// [`intersection_area`](Self::intersection_area).
    pub fn union_area(&self, other: &Self) -> u64 {
        self.area() + other.area() - self.intersection_area(other)
    }

    /// Intersection over union, in `0..=1`; 1 when both masks are empty. Sizes as in
    /// [`intersection_area`](Self::intersection_area).
    pub fn iou(&self, other: &Self) -> f64 {
        let intersection = self.intersection_area(other);
        ratio(intersection, self.area() + other.area() - intersection)
    }

    /// The share of this mask that lies in `other`, in `0..=1`; 1 when this mask is empty. Sizes
    /// as in [`intersection_area`](Self::intersection_area).
    pub fn containment(&self, other: &Self) -> f64 {
        ratio(self.intersection_area(other), self.area())
    }

    /// Pixels set in both.
    ///
    /// # Errors
    /// [`Error::Parameter`] when the sizes differ.
    pub fn and(&self, other: &Self) -> Result<Self, Error> {
        self.combine(other, |a, b| a & b)
    }

    /// Pixels set in at least one.
    ///
    /// # Errors
    /// [`Error::Parameter`] when the sizes differ.
    pub fn or(&self, other: &Self) -> Result<Self, Error> {
        self.combine(other, |a, b| a | b)
    }

    /// Pixels set here and not in `other`.
    ///
    /// # Errors
    /// [`Error::Parameter`] when the sizes differ.
    pub fn and_not(&self, other: &Self) -> Result<Self, Error> {
        self.combine(other, |a, b| a & !b)
    }

    /// Pixels set in exactly one.
    ///
    /// # Errors
    /// [`Error::Parameter`] when the sizes differ.
    pub fn xor(&self, other: &Self) -> Result<Self, Error> {
        self.combine(other, |a, b| a ^ b)
    }

    fn combine(&self, other: &Self, op: impl Fn(u64, u64) -> u64) -> Result<Self, Error> {
        self.check_same_size(other)?;
        Ok(self.combine_same_size(other, op))
    }

    /// Word by word, for masks known to have one size; `op(0, 0)` is 0.
    pub(crate) fn combine_same_size(&self, other: &Self, op: impl Fn(u64, u64) -> u64) -> Self {
        let words = self
            .words
            .iter()
            .zip(&other.words)
            .map(|(&a, &b)| op(a, b))
            .collect();
        Self {
            width: self.width,
            height: self.height,
            words,
        }
    }

    pub(crate) fn check_same_size(&self, other: &Self) -> Result<(), Error> {
        if (self.width, self.height) == (other.width, other.height) {
            return Ok(());
        }
        Err(Error::parameter(
            "mask size",
            format!(
                "{}x{} and {}x{} cannot be combined",
                self.width, self.height, other.width, other.height
            ),
        ))
    }

    /// The mask at another size: every pixel takes the value of the pixel under its centre.
    pub fn resize_nearest(&self, width: u32, height: u32) -> Self {
        if self.width == 0 || self.height == 0 {
            return Self::new(width, height);
        }
        let source = |to: u32, to_size: u32, from_size: u32| {
            let at = (2 * u64::from(to) + 1) * u64::from(from_size) / (2 * u64::from(to_size));
            at as u32
        };
        let columns: Vec<u32> = (0..width).map(|x| source(x, width, self.width)).collect();
        let mut mask = Self::new(width, height);
        for y in 0..height {
            let from = self.row(source(y, height, self.height));
            for (word, part) in mask.row_mut(y).iter_mut().zip(columns.chunks(64)) {
                *word = part.iter().rev().fold(0, |w, &x| {
                    w << 1 | (from[(x / 64) as usize] >> (x % 64) & 1)
                });
            }
        }
        mask
    }

    /// The `width × height` window whose top-left pixel is (`x`, `y`); parts outside of the mask
    /// are unset.
    pub fn crop(&self, x: u32, y: u32, width: u32, height: u32) -> Self {
        let mut mask = Self::new(width, height);
        for line in 0..height.min(self.height.saturating_sub(y)) {
            bits::shift_left_edge(self.row(y + line), x, mask.row_mut(line));
        }
        mask.clear_padding();
        mask
    }

    /// The mask as a part of a larger one of `width × height` pixels, its top-left pixel at (`x`,
    /// `y`); the opposite of [`crop`](Self::crop). Parts outside are left out.
    pub fn placed(&self, x: u32, y: u32, width: u32, height: u32) -> Self {
        let mut mask = Self::new(width, height);
        for line in 0..self.height.min(height.saturating_sub(y)) {
            bits::shift_right_edge(self.row(line), x, mask.row_mut(y + line));
        }
        mask.clear_padding();
        mask
    }

    /// Every set pixel as `(x, y)`, row by row.
    pub fn iter_set(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        (0..self.height).flat_map(move |y| bits::ones(self.row(y)).map(move |x| (x, y)))
    }

    /// The mask as a grey image: 255 where set, 0 elsewhere.
    pub fn to_luma(&self) -> GrayImage {
        let mut image = GrayImage::new(self.width, self.height);
        if self.width > 0 {
            let lines = image.as_flat_samples_mut().samples;
            for (y, line) in (0..self.height).zip(lines.chunks_exact_mut(self.width as usize)) {
                for (part, word) in line.chunks_mut(64).zip(self.row(y)) {
                    for (bit, v) in part.iter_mut().enumerate() {
                        *v = 0u8.wrapping_sub((word >> bit & 1) as u8);
                    }
                }
            }
        }
        image
    }

    /// One `bool` a pixel, row by row.
    pub fn to_bools(&self) -> Vec<bool> {
        let mut values = vec![false; self.width as usize * self.height as usize];
        self.write_bools(&mut values);
        values
    }

    /// Writes one `bool` a pixel, row by row, as far as there is room.
    pub fn write_bools(&self, values: &mut [bool]) {
        let rows = values.chunks_mut(self.width.max(1) as usize);
        for (y, row) in (0..self.height).zip(rows) {
            for (part, word) in row.chunks_mut(64).zip(self.row(y)) {
                // A whole word at once, which becomes a few vector instructions.
                let bits: [bool; 64] = std::array::from_fn(|i| word >> i & 1 == 1);
                part.copy_from_slice(&bits[..part.len()]);
            }
        }
    }

    /// Saves the mask as a grey PNG (0 and 255), atomically.
    ///
    /// # Errors
    /// As [`save_png`].
    pub fn save_png(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        save_png(path, &self.to_luma())
    }
}

impl From<&Mask> for GrayImage {
    /// 255 where set, 0 elsewhere.
    fn from(mask: &Mask) -> Self {
        mask.to_luma()
    }
}

impl Not for &Mask {
    type Output = Mask;

    /// The complement.
    fn not(self) -> Mask {
        let words = self.words.iter().map(|w| !w).collect();
        Mask::from_words(self.width, self.height, words)
    }
}

/// An image of more values than this is one of shades, not of objects.
const MOST_VALUES: usize = 16;

/// Reads a mask from any image that [`read_image`](crate::read_image) reads: a pixel is set when
/// its luma is greater than 127. In an image without any such pixel (labels such as 0 and 1, a
/// dark palette) it is set when its luma is more than half of the brightest one.
///
/// Several values that each fill some area are several objects, and refused: a mask is one. Up to 16 values are
/// looked at; more are shades.
///
/// A picture in colours, such as a photo, is refused; one in two tones is not, and neither is grey that is stored as
/// colours.
///
/// If the image has transparency that varies, the mask is where it is opaque (alpha greater than
/// 127) instead, because cut-outs carry the object's shape there and its colours elsewhere.
///
/// # Errors
/// As [`read_image`](crate::read_image); [`Error::Unsupported`] also for several objects and for
/// pictures in colours.
pub fn read_mask(path: impl AsRef<Path>, limits: &ImageLimits) -> Result<Mask, Error> {
    let path = path.as_ref();
    let bytes = read_bytes(path, limits)?;
    decode_mask(&bytes, &path.display().to_string(), limits)
}

/// Decodes a mask from memory; `name` stands for the file in error messages. See [`read_mask`].
///
/// # Errors
/// As [`decode_image`](crate::decode_image).
pub fn decode_mask(bytes: &[u8], name: &str, limits: &ImageLimits) -> Result<Mask, Error> {
    let Decoded { image, range, .. } = decode_page(bytes, name, limits, 0)?;
    if image.color().has_alpha() {
        let rgba = image.to_rgba8();
        let first = rgba.pixels().next().map(|p| p[3]);
        if rgba.pixels().any(|p| Some(p[3]) != first) {
            let alpha: Vec<u8> = rgba.pixels().map(|p| p[3]).collect();
            return Ok(Mask::from_slice(
                rgba.width(),
                rgba.height(),
                &alpha,
                |&a| a > 127,
            ));
        }
    }
    if !is_lossy(bytes)
        && let Some((width, values)) = labels(&image)
    {
        let several = area_labels(width, &values, MOST_VALUES);
        if several.len() > 1 {
            let is_color = image.color().has_color();
            let value = |v: &u32| {
                if is_color {
                    format!("#{v:06x}")
                } else {
                    v.to_string()
                }
            };
            let few: Vec<String> = several.iter().take(4).map(value).collect();
            let dots = if several.len() > 4 { ", …" } else { "" };
            let what = format!(
                "holds several objects, by its values {}{dots}; a mask is one object: 0 and one other value",
                few.join(", ")
            );
            return Err(Error::unsupported(name, what));
        }
    }
    refuse_colours(&image, name)?;
    Ok(match image {
        DynamicImage::ImageLuma16(_)
        | DynamicImage::ImageLumaA16(_)
        | DynamicImage::ImageRgb16(_)
        | DynamicImage::ImageRgba16(_) => {
            let luma = image.into_luma16();
            let brightest = luma.as_raw().iter().copied().max().unwrap_or(0);
            let most = if brightest > 127 * 257 {
                127 * 257
            } else {
                brightest / 2
            };
            Mask::from_slice(luma.width(), luma.height(), luma.as_raw(), |&v| v > most)
        }
        DynamicImage::ImageRgb32F(_) | DynamicImage::ImageRgba32F(_) => {
            let luma = image.to_luma32f();
            let brightest = luma.as_raw().iter().copied().fold(0.0, f32::max);
            let most = if brightest > range[1] / 2.0 {
                range[1]
            } else {
                brightest
            } / 2.0;
            Mask::from_slice(luma.width(), luma.height(), luma.as_raw(), |&v| v > most)
        }
        _ => {
            let luma = image.into_luma8();
            let brightest = luma.as_raw().iter().copied().max().unwrap_or(0);
            let most = if brightest > 127 { 127 } else { brightest / 2 };
            Mask::from_luma(&luma, most)
        }
    })
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        1.0
    } else {
        part as f64 / whole as f64
    }
}

fn check_len(what: &str, len: usize, width: u32, height: u32) -> Result<(), Error> {
    if len as u64 == u64::from(width) * u64::from(height) {
        return Ok(());
    }
    Err(Error::parameter(
        what,
        format!("{len} values for {width}x{height} pixels"),
    ))
}
