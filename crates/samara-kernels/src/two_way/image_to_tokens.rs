//! Image tokens look at tokens.

use std::ops::Range;

use rayon::prelude::*;

use super::{ImageTokens, Projection, ROWS, heads_apart, heads_apart_as_right, in_image_space};
use crate::gemm::{
    Aligned, Bf16, Epilogue, Float, Fp32, Matrix, Panels, Pass, Scratch, multiply_block,
    multiply_rows_of,
};
use crate::isa::{Fma, Isa};
use crate::layer_norm::Norm;
use crate::math::exp;
use crate::precision::Precision;

/// The attention of image tokens to tokens with the norm after it.
#[derive(Debug, Clone, Copy)]
pub struct ImageToTokens<'a> {
    /// Makes queries of image tokens + position.
    pub query: Projection<'a>,
    /// Of the result.
    pub output: Projection<'a>,
    /// Of the image tokens with the result added.
    pub norm: Norm<'a>,
    /// Heads.
    pub heads: usize,
    /// The numbers of the matmuls with all image tokens: `f32`, or bf16 for all others.
    pub precision: Precision,
}

impl ImageToTokens<'_> {
    /// `out = norm(image tokens + attention(image tokens + position → tokens))`, `[image tokens, width]`. `keys` and
    /// `values` are the projected tokens, `[tokens, heads · head_dim]`.
    ///
    /// # Panics
    /// When sizes do not match.
    pub fn forward(&self, image: ImageTokens<'_>, tokens: [&[f32]; 2], out: &mut [f32]) {
        self.forward_for(Isa::best(), image, tokens, out);
    }

    pub(super) fn forward_for(
        &self,
        isa: Isa,
        image: ImageTokens<'_>,
        [keys, values]: [&[f32]; 2],
        out: &mut [f32],
    ) {
        let inner = [self.query.outputs(), self.heads];
        let gather = |token, part, out: &mut [f32]| image.gather(token, part, out);
        let images = [image.values, values];
        let keys = heads_apart_as_right(isa, keys, inner);
        match self.precision {
            Precision::Fp32 => {
                let (keys, bias) = in_image_space::<Fp32>(self.query, &keys);
                self.attend(images, (&keys, bias), gather, out);
            }
            Precision::Bf16 | Precision::Int8 => {
                let (keys, bias) = in_image_space::<Bf16>(self.query, &keys);
                self.attend(images, (&keys, bias), gather, out);
            }
        }
    }

    /// As [`forward`](Self::forward), for image tokens whose `queries` are projected already,
    /// `[image tokens, heads · head_dim]`: where many prompts look at the same image tokens, half of the work.
    ///
    /// # Panics
    /// When sizes do not match.
    pub fn forward_projected(
        &self,
        image: &[f32],
        queries: &[f32],
        tokens: [&[f32]; 2],
        out: &mut [f32],
    ) {
        self.forward_projected_for(Isa::best(), [image, queries], tokens, out);
    }

    pub(super) fn forward_projected_for(
        &self,
        isa: Isa,
        [image, queries]: [&[f32]; 2],
        [keys, values]: [&[f32]; 2],
        out: &mut [f32],
    ) {
        let inner = self.query.outputs();
        let gather = |token: usize, part: Range<usize>, out: &mut [f32]| {
            out.copy_from_slice(&queries[token * inner..][part]);
        };
        let (images, inner) = ([image, values], [inner, self.heads]);
        match self.precision {
            Precision::Fp32 => {
                let keys: Panels<Fp32> = heads_apart_as_right(isa, keys, inner);
                self.attend(images, (&keys, Vec::new()), gather, out);
            }
            Precision::Bf16 | Precision::Int8 => {
                let keys: Panels<Bf16> = heads_apart_as_right(isa, keys, inner);
                self.attend(images, (&keys, Vec::new()), gather, out);
            }
        }
    }

    /// The attention of rows that `gather` gives, to keys that they can be multiplied with, with a bias
    /// of every score.
    fn attend<F: Float>(
        &self,
        [image, values]: [&[f32]; 2],
        (keys, mut bias): (&Panels<F>, Vec<f32>),
        gather: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
        out: &mut [f32],
    ) {
        let (isa, heads, columns) = (keys.side().isa(), self.heads, keys.columns());
        let (width, inner) = (self.output.outputs(), self.output.inputs());
        // What the scores mix.
        let rows = heads_apart(values, [inner, heads], 1.0);
        let outputs = self.output.multiply(isa, &rows, &Epilogue::default());
        let outputs: Panels<F> = Panels::new(isa, Matrix::new(&outputs, columns, width));
        // Scores of an image token, up to a whole panel.
        let stride = keys.whole_panels().columns();
        bias.resize(stride, 0.0);
        let blocks = out.par_chunks_mut(ROWS * width).enumerate();
        blocks.for_each_init(
            || (Scratch::default(), vec![0.0; ROWS * stride], Aligned::new()),
            |(scratch, scores, weights), (block, out)| {
                let (first, count) = (block * ROWS, out.len() / width);
                let gather = |token, part, out: &mut [f32]| gather(first + token, part, out);
                let epilogue = Epilogue {
                    bias: Some(&bias),
                    ..Epilogue::default()
                };
                let rows = &mut scores[..count * stride];
                multiply_rows_of(gather, keys.whole_panels(), &epilogue, scratch, rows);
                isa.run(
                    #[inline(always)]
                    |fma| {
                        for row in rows.chunks_exact_mut(stride) {
                            softmax_of_groups(fma, &mut row[..columns], heads);
                        }
                    },
                );
                let epilogue = Epilogue {
                    bias: Some(self.output.bias),
                    residual: Some(&image[first * width..][..out.len()]),
                    ..Epilogue::default()
                };
                // Rows up to the height of a tile are multiplied along, whatever they hold.
                let left = F::left(isa, scores, stride, columns, weights);
                let pass = Pass {
                    first: true,
                    epilogue: Some(&epilogue),
                };
                let steps = columns.div_ceil(F::VALUES);
                multiply_block(left, outputs.side(), 0..steps, pass, out);
                isa.run(
                    #[inline(always)]
                    |_| self.norm.rows(out),
                );
            },
        );
    }
}

/// Heads that are taken at once: lanes of a register. SAM's decoders have as many.
const HEADS: usize = 8;

/// Softmax over every `heads`th value of a row, for each of the `heads`.
#[inline(always)]
fn softmax_of_groups(fma: Fma, row: &mut [f32], heads: usize) {
    each_head(row, heads, shift::<HEADS>, shift::<1>);
    row.iter_mut().for_each(|score| *score = exp(fma, *score));
    each_head(row, heads, scale::<HEADS>, scale::<1>);
}

/// Calls `some` for every [`HEADS`] heads and `one` for each that is left, with the first of them.
#[inline(always)]
fn each_head(
    row: &mut [f32],
    heads: usize,
    some: impl Fn(&mut [f32], usize, usize),
    one: impl Fn(&mut [f32], usize, usize),
) {
    let whole = heads / HEADS * HEADS;
    (0..whole)
        .step_by(HEADS)
        .for_each(|first| some(row, heads, first));
    (whole..heads).for_each(|head| one(row, heads, head));
}

/// Takes the largest score of each of `N` heads from all of its scores.
#[inline(always)]
fn shift<const N: usize>(row: &mut [f32], heads: usize, first: usize) {
    let mut largest = [f32::NEG_INFINITY; N];
    for token in row.chunks_exact(heads) {
        for (largest, &score) in largest.iter_mut().zip(&token[first..first + N]) {
            *largest = if score > *largest { score } else { *largest };
        }
    }
    for token in row.chunks_exact_mut(heads) {
        let scores = token[first..first + N].iter_mut();
        scores
            .zip(&largest)
            .for_each(|(score, largest)| *score -= largest);
    }
}

/// Divides the values of each of `N` heads by their sum.
#[inline(always)]
fn scale<const N: usize>(row: &mut [f32], heads: usize, first: usize) {
    let mut sums = [0.0; N];
    for token in row.chunks_exact(heads) {
        let values = token[first..first + N].iter();
        sums.iter_mut()
            .zip(values)
            .for_each(|(sum, value)| *sum += value);
    }
    let factors = sums.map(|sum| 1.0 / sum);
    for token in row.chunks_exact_mut(heads) {
        let values = token[first..first + N].iter_mut();
        values
            .zip(&factors)
            .for_each(|(value, factor)| *value *= factor);
    }
}
