//! Pillow's antialiased bilinear resize, byte for byte.
//!
//! What the released weights saw in training went through Pillow, so the same bytes must come
//! out here. The facts are those of `Resample.c` in Pillow 13: a triangle filter whose support
//! grows with the reduction, weights normalised in double precision and rounded to 22 fractional
//! bits, a horizontal and a vertical pass, each rounded to 8 bits. The horizontal pass comes first
//! unless the height shrinks by more than twice as many pixels as the width. Older versions always
//! began with it, which differs by one grey level in places in very tall pictures.
//!
//! The crate `fast_image_resize` is faster but not the same: it runs the vertical pass first and
//! rounds its weights otherwise, so up to a quarter of the samples differ by one grey level.

use image::{GrayImage, ImageBuffer, Pixel, RgbImage};
use rayon::prelude::*;

/// Fractional bits of a weight: 32, less 8 for the sample and 2 for head room.
const PRECISION: u32 = 22;

/// The `width × height` part of a picture whose top-left pixel is (`x`, `y`); what lies outside is
/// left out.
pub fn crop_image(image: &RgbImage, x: u32, y: u32, width: u32, height: u32) -> RgbImage {
    image::imageops::crop_imm(image, x, y, width, height).to_image()
}

/// Resizes a picture exactly as Pillow's `Image.resize((width, height), Image.BILINEAR)` does.
///
/// Antialiased: on reduction the filter covers every source pixel. A pass is skipped when its
/// dimension does not change. A picture or a target without pixels gives an all-black target.
pub fn resize_bilinear(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    resize::<image::Rgb<u8>, 3>(image, width, height)
}

/// [`resize_bilinear`] for one channel (Pillow's mode `L`).
pub fn resize_bilinear_gray(image: &GrayImage, width: u32, height: u32) -> GrayImage {
    resize::<image::Luma<u8>, 1>(image, width, height)
}

type Buffer<P> = ImageBuffer<P, Vec<u8>>;

fn resize<P: Pixel<Subpixel = u8>, const C: usize>(
    image: &Buffer<P>,
    width: u32,
    height: u32,
) -> Buffer<P> {
    let (from_width, from_height) = image.dimensions();
    if (from_width, from_height) == (width, height) {
        return image.clone();
    }
    let mut out = Buffer::<P>::new(width, height);
    if from_width == 0 || from_height == 0 || width == 0 || height == 0 {
        return out;
    }
    let (from_stride, stride) = (from_width as usize * C, width as usize * C);
    let source: &[u8] = image.as_raw();
    let target = out.as_flat_samples_mut().samples;
    let across = Weights::new(from_width, width);
    let down = Weights::new(from_height, height);
    if from_height == height {
        horizontal::<C>(source, from_stride, &across, target, stride);
    } else if from_width == width {
        vertical(source, &down, target, stride);
    } else if vertical_first((from_width, from_height), (width, height)) {
        let mut between = vec![0; from_stride * height as usize];
        vertical(source, &down, &mut between, from_stride);
        horizontal::<C>(&between, from_stride, &across, target, stride);
    } else {
        let mut between = vec![0; stride * from_height as usize];
        horizontal::<C>(source, from_stride, &across, &mut between, stride);
        vertical(&between, &down, target, stride);
    }
    out
}

/// Pillow's choice; the order matters because each pass rounds.
fn vertical_first(from: (u32, u32), to: (u32, u32)) -> bool {
    let lost = |from: u32, to: u32| i64::from(from) - i64::from(to);
    let (columns, rows) = (lost(from.0, to.0), lost(from.1, to.1));
    rows > 0 && rows > 2 * columns
}

/// Which source samples each target sample reads, and how much of each.
struct Weights {
    /// First source index and range in `values`, for each target index.
    spans: Vec<Span>,
    values: Vec<i32>,
}

struct Span {
    start: usize,
    first: usize,
    len: usize,
}

impl Weights {
    fn new(from: u32, to: u32) -> Self {
        let scale = f64::from(from) / f64::from(to);
        let support = scale.max(1.0);
        let shrink = 1.0 / support;
        let mut weights = Self {
            spans: Vec::with_capacity(to as usize),
            values: Vec::new(),
        };
        let mut exact = Vec::new();
        for i in 0..to {
            let center = (f64::from(i) + 0.5) * scale;
            let start = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(from as usize);
            exact.clear();
            exact.extend((start..end).map(|x| triangle((x as f64 - center + 0.5) * shrink)));
            let total: f64 = exact.iter().sum();
            let first = weights.values.len();
            weights
                .values
                .extend(exact.iter().map(|w| fixed(w / total)));
            weights.spans.push(Span {
                start,
                first,
                len: end - start,
            });
        }
        weights
    }

    fn of(&self, span: &Span) -> &[i32] {
        &self.values[span.first..span.first + span.len]
    }
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// Rounds half away from zero, as C's truncation of `w * 2^22 + 0.5` does for `w >= 0`.
fn fixed(weight: f64) -> i32 {
    (weight * f64::from(1 << PRECISION) + 0.5) as i32
}

fn round_to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn horizontal<const C: usize>(
    from: &[u8],
    from_stride: usize,
    weights: &Weights,
    to: &mut [u8],
    stride: usize,
) {
    to.par_chunks_exact_mut(stride)
        .zip(from.par_chunks_exact(from_stride))
        .for_each(|(to, from)| {
            let (from, _) = from.as_chunks::<C>();
            let (to, _) = to.as_chunks_mut::<C>();
            for (to, span) in to.iter_mut().zip(&weights.spans) {
                let mut sums = [1 << (PRECISION - 1); C];
                let pixels = &from[span.start..span.start + span.len];
                for (pixel, &weight) in pixels.iter().zip(weights.of(span)) {
                    for (sum, &sample) in sums.iter_mut().zip(pixel) {
                        *sum += i32::from(sample) * weight;
                    }
                }
                *to = sums.map(round_to_byte);
            }
        });
}

fn vertical(from: &[u8], weights: &Weights, to: &mut [u8], stride: usize) {
    to.par_chunks_exact_mut(stride)
        .zip(&weights.spans)
        .for_each_init(
            || vec![0; stride],
            |sums: &mut Vec<i32>, (to, span)| {
                sums.fill(1 << (PRECISION - 1));
                let rows = from[span.start * stride..].chunks_exact(stride);
                for (row, &weight) in rows.zip(weights.of(span)) {
                    for (sum, &sample) in sums.iter_mut().zip(row) {
                        *sum += i32::from(sample) * weight;
                    }
                }
                for (to, &sum) in to.iter_mut().zip(&*sums) {
                    *to = round_to_byte(sum);
                }
            },
        );
}
