//! Upscaling of image cells to mask logits, block by block.
//!
//! Two transposed convolutions with a window of 2 and a step of 2 make every cell 4 × 4 pixels,
//! each on its own. So a block of cells goes through both, through what lies between them and
//! through the product with the masks' hyper-networks, while it is in the cache; only the logits
//! are put in the order of an image.

use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use crate::activation::{Activate, Activation};
use crate::gemm::{Epilogue, ForRows, Matrix, Packed, Scratch, multiply_rows};
use crate::isa::{Fma, Isa, Kernel};
use crate::layer_norm::Norm;
use crate::precision::Precision;

/// Cells of a task: their 1 536 pixels of 32 channels take 200 KB.
const CELLS: usize = 96;

/// The weights of a decoder's upscaling.
#[derive(Debug, Clone, Copy)]
pub struct Upscaling<'a> {
    /// `[width, middle, 2, 2]`, as PyTorch keeps a transposed convolution.
    pub first: &'a [f32],
    /// `[middle]`.
    pub first_bias: &'a [f32],
    /// Over the `middle` channels; a GELU follows.
    pub norm: Norm<'a>,
    /// `[middle, last, 2, 2]`; a GELU follows.
    pub second: &'a [f32],
    /// `[last]`.
    pub second_bias: &'a [f32],
    /// Added to what each convolution gives, before norm and activation (SAM 2):
    /// `[2 · height, 2 · width, middle]` and `[4 · height, 4 · width, last]`.
    pub features: Option<[&'a [f32]; 2]>,
}

/// Adds the pixels of an image, `width` of `channels` in a line, to blocks of 2 × 2 pixels that lie
/// together. `place` gives line and column of a block.
#[inline(always)]
fn add_pixels(
    blocks: &mut [f32],
    image: &[f32],
    [width, channels]: [usize; 2],
    place: impl Fn(usize) -> [usize; 2],
) {
    for (i, block) in blocks.chunks_exact_mut(4 * channels).enumerate() {
        let [y, x] = place(i);
        for (tap, pixel) in block.chunks_exact_mut(channels).enumerate() {
            let at = ((2 * y + tap / 2) * width + 2 * x + tap % 2) * channels;
            let values = &image[at..at + channels];
            pixel.iter_mut().zip(values).for_each(|(p, v)| *p += v);
        }
    }
}

/// `[inputs, outputs, 2, 2]` → `[inputs, (2, 2, outputs)]`: the channels of a pixel side by side.
fn pixels_first(weight: &[f32], outputs: usize) -> Vec<f32> {
    let mut transposed = vec![0.0; weight.len()];
    let rows = transposed
        .chunks_exact_mut(4 * outputs)
        .zip(weight.chunks_exact(4 * outputs));
    for (transposed, row) in rows {
        for (i, value) in row.iter().enumerate() {
            transposed[i % 4 * outputs + i / 4] = *value;
        }
    }
    transposed
}

/// Rows of `width` values that lie one after the other.
fn rows(values: &[f32], width: usize) -> impl Fn(usize, Range<usize>, &mut [f32]) {
    move |row, part, out| out.copy_from_slice(&values[row * width..][part])
}

/// The products of every row with every mask's hyper-network output. There are four of these, too
/// few columns for a tile.
struct DotProducts<'a> {
    /// `[pixels, last]`.
    rows: &'a [f32],
    /// `[masks, last]`.
    hyper: &'a [f32],
    last: usize,
    /// `[pixels, masks]`.
    out: &'a mut [f32],
}

impl Kernel for DotProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S, fma: Fma) {
        let Self {
            rows,
            hyper,
            last,
            out,
        } = self;
        let masks = hyper.len() / last;
        let rows = rows.chunks_exact(last);
        for (out, row) in out.chunks_exact_mut(masks).zip(rows) {
            let (row, row_rest) = S::as_simd_f32s(row);
            for (out, hyper) in out.iter_mut().zip(hyper.chunks_exact(last)) {
                let (hyper, hyper_rest) = S::as_simd_f32s(hyper);
                let mut lanes = simd.splat_f32s(0.0);
                for (a, b) in row.iter().zip(hyper) {
                    lanes = fma.multiply_add_lanes(simd, *a, *b, lanes);
                }
                *out = simd.reduce_sum_f32s(lanes);
                for (a, b) in row_rest.iter().zip(hyper_rest) {
                    *out += a * b;
                }
            }
        }
    }
}

/// The upscaling with its weights packed for matmuls, for any number of
/// prompts.
#[derive(Debug)]
pub struct PackedUpscaling<'a> {
    isa: Isa,
    gelu: Activation,
    first: ForRows<Packed>,
    /// Of all four pixels.
    first_bias: Vec<f32>,
    norm: Norm<'a>,
    second: ForRows<Packed>,
    /// Of all four pixels.
    second_bias: Vec<f32>,
    features: Option<[&'a [f32]; 2]>,
}

impl<'a> Upscaling<'a> {
    /// The weights for this processor.
    pub fn packed(&self, precision: Precision) -> PackedUpscaling<'a> {
        self.packed_for(Isa::best(), precision)
    }

    fn packed_for(&self, isa: Isa, precision: Precision) -> PackedUpscaling<'a> {
        let pack = |weight: &[f32], outputs| {
            let inputs = weight.len() / (4 * outputs);
            let weight = pixels_first(weight, outputs);
            let weight = Packed::for_isa(isa, precision, Matrix::new(&weight, inputs, 4 * outputs));
            // An image has thousands of cells.
            ForRows::new(weight, usize::MAX)
        };
        PackedUpscaling {
            isa,
            gelu: Activation::gelu(precision),
            first: pack(self.first, self.first_bias.len()),
            first_bias: self.first_bias.repeat(4),
            norm: self.norm,
            second: pack(self.second, self.second_bias.len()),
            second_bias: self.second_bias.repeat(4),
            features: self.features,
        }
    }
}

impl PackedUpscaling<'_> {
    /// Logits `[masks, 4 · height, 4 · width]` of the cells `[height · width, channels]` for the
    /// hyper-network outputs `[masks, last]`.
    ///
    /// # Panics
    /// When sizes do not match.
    pub fn masks(&self, cells: &[f32], width: usize, hyper: &[f32], out: &mut [f32]) {
        let Self {
            isa,
            first,
            second,
            first_bias,
            second_bias,
            gelu,
            ..
        } = self;
        let [first, second] = [first, second].map(ForRows::right);
        let (channels, middle, last) = (first.depth(), second.depth(), second.columns() / 4);
        let (count, masks) = (cells.len() / channels, hyper.len() / last);
        assert_eq!(out.len(), masks * count * 16, "logits of {masks} masks");

        // `[cells, 4, 4, masks]`: every cell's pixels together.
        let mut logits = vec![0.0; out.len()];
        let blocks = logits
            .par_chunks_mut(CELLS * 16 * masks)
            .zip(cells.par_chunks(CELLS * channels));
        blocks.enumerate().for_each_init(
            Default::default,
            |buffers: &mut (Scratch, [Vec<f32>; 2]), (block, (logits, cells))| {
                let (scratch, [coarse, fine]) = buffers;
                let count = cells.len() / channels;
                coarse.resize(count * 4 * middle, 0.0);
                let epilogue = Epilogue {
                    bias: Some(first_bias),
                    ..Epilogue::default()
                };
                multiply_rows(rows(cells, channels), first, &epilogue, scratch, coarse);
                isa.run(
                    #[inline(always)]
                    |_| {
                        if let Some([features, _]) = self.features {
                            add_pixels(coarse, features, [2 * width, middle], |cell| {
                                let cell = block * CELLS + cell;
                                [cell / width, cell % width]
                            });
                        }
                        self.norm.rows(coarse);
                    },
                );
                isa.dispatch(Activate(*gelu, coarse));
                fine.resize(count * 16 * last, 0.0);
                let activation = match self.features {
                    None => *gelu,
                    // There is something to be added first.
                    Some(_) => Activation::default(),
                };
                let epilogue = Epilogue {
                    bias: Some(second_bias),
                    activation,
                    residual: None,
                };
                multiply_rows(rows(coarse, middle), second, &epilogue, scratch, fine);
                if let Some([_, features]) = self.features {
                    isa.run(
                        #[inline(always)]
                        |_| {
                            add_pixels(fine, features, [4 * width, last], |pixel| {
                                let (cell, tap) = (block * CELLS + pixel / 4, pixel % 4);
                                let (y, x) = (cell / width, cell % width);
                                [2 * y + tap / 2, 2 * x + tap % 2]
                            });
                        },
                    );
                    isa.dispatch(Activate(*gelu, fine));
                }
                isa.dispatch(DotProducts {
                    rows: fine,
                    hyper,
                    last,
                    out: logits,
                });
            },
        );
        // To the order of an image, mask by mask.
        let side = 4 * width;
        out.par_chunks_mut(side)
            .enumerate()
            .for_each(|(line, out)| {
                let (mask, y) = (line / (4 * (count / width)), line % (4 * (count / width)));
                for (x, out) in out.iter_mut().enumerate() {
                    let cell = y / 4 * width + x / 4;
                    let (coarse, fine) = (y % 4 / 2 * 2 + x % 4 / 2, y % 2 * 2 + x % 2);
                    *out = logits[(cell * 16 + coarse * 4 + fine) * masks + mask];
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer_norm::layer_norm;
    use crate::math::gelu_in_place;
    use crate::testing::{close, values};

    /// A transposed convolution by the definition, channels last.
    fn double(x: &[f32], [h, w, inputs]: [usize; 3], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let outputs = bias.len();
        let mut out = vec![0.0; 4 * h * w * outputs];
        for (i, out) in out.iter_mut().enumerate() {
            let (pixel, o) = (i / outputs, i % outputs);
            let (y, x_at) = (pixel / (2 * w), pixel % (2 * w));
            let cell = (y / 2 * w + x_at / 2) * inputs;
            let tap = y % 2 * 2 + x_at % 2;
            *out = bias[o]
                + (0..inputs)
                    .map(|c| x[cell + c] * weight[(c * outputs + o) * 4 + tap])
                    .sum::<f32>();
        }
        out
    }

    #[test]
    fn blocks_follow_the_definition() {
        blocks_follow(false);
        blocks_follow(true);
    }

    fn blocks_follow(with_features: bool) {
        let (height, width, channels, middle, last, masks) = (11, 13, 12, 6, 5, 4);
        let cells = values(height * width * channels, 1);
        let first = values(channels * middle * 4, 2);
        let second = values(middle * last * 4, 3);
        let (b1, b2) = (values(middle, 4), values(last, 5));
        let (gamma, beta) = (values(middle, 6), values(middle, 7));
        let hyper = values(masks * last, 8);
        let mut x = double(&cells, [height, width, channels], &first, &b1);
        let scale = if with_features { 1.0 } else { 0.0 };
        let features = [(4 * middle, 9), (16 * last, 10)].map(|(per_cell, seed)| {
            let features = values(height * width * per_cell, seed).into_iter();
            features.map(|v| v * scale).collect::<Vec<f32>>()
        });
        x.iter_mut().zip(&features[0]).for_each(|(x, v)| *x += v);
        let mut normed = vec![0.0; x.len()];
        layer_norm(&x, &gamma, &beta, 1e-6, &mut normed);
        gelu_in_place(&mut normed);
        x = double(&normed, [2 * height, 2 * width, middle], &second, &b2);
        x.iter_mut().zip(&features[1]).for_each(|(x, v)| *x += v);
        gelu_in_place(&mut x);
        let expected: Vec<f32> = hyper
            .chunks_exact(last)
            .flat_map(|h| {
                x.chunks_exact(last)
                    .map(move |x| x.iter().zip(h).map(|(x, h)| x * h).sum())
            })
            .collect();
        let upscaling = Upscaling {
            first: &first,
            first_bias: &b1,
            norm: Norm {
                gamma: &gamma,
                beta: &beta,
                epsilon: 1e-6,
            },
            second: &second,
            second_bias: &b2,
            features: with_features.then_some([&features[0], &features[1]]),
        };
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; expected.len()];
            upscaling
                .packed_for(isa, Precision::Fp32)
                .masks(&cells, width, &hyper, &mut out);
            assert!(close(&out, &expected, 1e-5), "{isa:?}");
        }
    }
}
