//! Pillow's antialiased resizes, byte for byte, and torchvision's on floats.
//!
//! What the released weights saw in training went through Pillow or torchvision, so the same values
//! must come out here. The facts are those of `Resample.c` in Pillow 13: a filter whose support
//! grows with the reduction, weights normalised in double precision and rounded to 22 fractional
//! bits, a horizontal and a vertical pass, each rounded to 8 bits. The horizontal pass comes first
//! unless the height shrinks by more than twice as many pixels as the width. Older versions always
//! began with it, which differs by one grey level in places in very tall images.
//!
//! On floats PyTorch computes the same weights in single precision and rounds nothing. In a wide
//! image that moves a filter's centre by up to 1e-4 pixels, so the weights are rounded here as
//! there.
//!
//! The crate `fast_image_resize` is faster but not the same: it runs the vertical pass first and
//! rounds its weights otherwise, so up to a quarter of the samples differ by one grey level.

use image::{GrayImage, ImageBuffer, Pixel, RgbImage};
use rayon::prelude::*;

/// Fractional bits of a weight: 32, less 8 for the sample and 2 for head room.
const PRECISION: u32 = 22;

/// The `width × height` part of an image whose top-left pixel is (`x`, `y`); what lies outside is
/// left out.
pub fn crop_image(image: &RgbImage, x: u32, y: u32, width: u32, height: u32) -> RgbImage {
    image::imageops::crop_imm(image, x, y, width, height).to_image()
}

/// Resizes an image exactly as Pillow's `Image.resize((width, height), Image.BILINEAR)` does.
///
/// Antialiased: on reduction the filter covers every source pixel. A pass is skipped when its
/// dimension does not change. An image or a target without pixels gives an all-black target.
pub fn resize_bilinear(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    resize::<image::Rgb<u8>, 3>(image, width, height, &BILINEAR)
}

/// [`resize_bilinear`] for one channel (Pillow's mode `L`).
pub fn resize_bilinear_gray(image: &GrayImage, width: u32, height: u32) -> GrayImage {
    resize::<image::Luma<u8>, 1>(image, width, height, &BILINEAR)
}

/// Resizes an image exactly as Pillow's `Image.resize((width, height), Image.BICUBIC)` does; SAM 2
/// reads the frames of a video so. Otherwise as [`resize_bilinear`].
pub fn resize_bicubic(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    resize::<image::Rgb<u8>, 3>(image, width, height, &BICUBIC)
}

/// Resizes an image as torchvision's `Resize((height, width))` (bilinear, antialiased) does with
/// the tensor that `ToTensor` makes of it; SAM 2 reads single images so. Within 1e-6, unless a side
/// shrinks by hundreds, or the target is one pixel wide: PyTorch 2.15 then repeats its first value.
///
/// Returns the red, the green and the blue plane, `[3, height, width]`, in `0..=1`. An image
/// without pixels gives zeros.
pub fn resize_bilinear_f32(image: &RgbImage, width: u32, height: u32) -> Vec<f32> {
    let (from_width, from_height) = image.dimensions();
    let area = width as usize * height as usize;
    let mut planes = vec![0.0; 3 * area];
    if from_width == 0 || from_height == 0 || area == 0 {
        return planes;
    }
    let across = Weights::single(from_width, width, &BILINEAR);
    let down = Weights::single(from_height, height, &BILINEAR);
    let (red, rest) = planes.split_at_mut(area);
    let (green, blue) = rest.split_at_mut(area);
    let [red, green, blue] =
        [red, green, blue].map(|plane| plane.par_chunks_exact_mut(width as usize));
    (red, green, blue, &down.spans)
        .into_par_iter()
        .for_each_init(
            || vec![0.0; from_width as usize * 3],
            |row, (red, green, blue, span)| {
                blend_rows(image.as_raw(), span, down.of(span), row);
                let (row, _) = row.as_chunks();
                blend_pixels(row, &across, [red, green, blue]);
            },
        );
    planes
}

type Buffer<P> = ImageBuffer<P, Vec<u8>>;

fn resize<P: Pixel<Subpixel = u8>, const C: usize>(
    image: &Buffer<P>,
    width: u32,
    height: u32,
    filter: &Filter,
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
    let across = Weights::fixed(from_width, width, filter);
    let down = Weights::fixed(from_height, height, filter);
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

struct Filter {
    /// How far the filter reaches, in source pixels of an unreduced image.
    support: f64,
    at: fn(f64) -> f64,
}

const BILINEAR: Filter = Filter {
    support: 1.0,
    at: triangle,
};

const BICUBIC: Filter = Filter {
    support: 2.0,
    at: cubic,
};

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// Keys' cubic convolution (1981) with the slope −0.5 at 1, evaluated in Pillow's order.
fn cubic(x: f64) -> f64 {
    const SLOPE: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((SLOPE + 2.0) * x - (SLOPE + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * SLOPE
    } else {
        0.0
    }
}

/// Which source samples each target sample reads, and how much of each.
struct Weights<W> {
    /// First source index and range in `values`, for each target index.
    spans: Vec<Span>,
    values: Vec<W>,
}

struct Span {
    start: usize,
    first: usize,
    len: usize,
}

impl Weights<i32> {
    /// Pillow's, in fixed point.
    fn fixed(from: u32, to: u32, filter: &Filter) -> Self {
        Self::new(from, to, filter, |exact| exact, to_fixed)
    }
}

impl Weights<f32> {
    /// PyTorch's, every intermediate in single precision.
    fn single(from: u32, to: u32, filter: &Filter) -> Self {
        let round = |exact| f64::from(exact as f32);
        Self::new(from, to, filter, round, |weight| weight as f32)
    }
}

impl<W> Weights<W> {
    /// `round` is applied to all that the reference stores in a variable.
    fn new(
        from: u32,
        to: u32,
        filter: &Filter,
        round: fn(f64) -> f64,
        store: fn(f64) -> W,
    ) -> Self {
        let scale = round(f64::from(from) / f64::from(to));
        let support = round(filter.support * scale.max(1.0));
        let shrink = round(1.0 / scale.max(1.0));
        let mut weights = Self {
            spans: Vec::with_capacity(to as usize),
            values: Vec::new(),
        };
        let mut exact = Vec::new();
        for i in 0..to {
            let center = round((f64::from(i) + 0.5) * scale);
            let start = (round(center - support) + 0.5).max(0.0) as usize;
            let end = ((round(center + support) + 0.5) as usize).min(from as usize);
            exact.clear();
            exact.extend((start..end).map(|x| {
                let away = round(x as f64 - center) + 0.5;
                round((filter.at)(round(away * shrink)))
            }));
            let total = exact.iter().fold(0.0, |total, w| round(total + w));
            let first = weights.values.len();
            weights
                .values
                .extend(exact.iter().map(|w| store(w / total)));
            weights.spans.push(Span {
                start,
                first,
                len: end - start,
            });
        }
        weights
    }

    fn of(&self, span: &Span) -> &[W] {
        &self.values[span.first..span.first + span.len]
    }
}

/// Rounds half away from zero.
fn to_fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION);
    (scaled + 0.5_f64.copysign(scaled)) as i32
}

fn round_to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn horizontal<const C: usize>(
    from: &[u8],
    from_stride: usize,
    weights: &Weights<i32>,
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

fn vertical(from: &[u8], weights: &Weights<i32>, to: &mut [u8], stride: usize) {
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

/// One row from the rows that the span covers, in grey levels.
fn blend_rows(from: &[u8], span: &Span, weights: &[f32], row: &mut [f32]) {
    row.fill(0.0);
    let rows = from[span.start * row.len()..].chunks_exact(row.len());
    for (from, &weight) in rows.zip(weights) {
        for (sum, &sample) in row.iter_mut().zip(from) {
            *sum += f32::from(sample) * weight;
        }
    }
}

/// One row of each plane, in `0..=1`, from one of grey levels.
fn blend_pixels(from: &[[f32; 3]], weights: &Weights<f32>, to: [&mut [f32]; 3]) {
    let [red, green, blue] = to;
    for (i, span) in weights.spans.iter().enumerate() {
        let mut sums = [0.0; 3];
        let pixels = &from[span.start..span.start + span.len];
        for (pixel, &weight) in pixels.iter().zip(weights.of(span)) {
            for (sum, &sample) in sums.iter_mut().zip(pixel) {
                *sum += sample * weight;
            }
        }
        [red[i], green[i], blue[i]] = sums.map(|sum| sum / 255.0);
    }
}
