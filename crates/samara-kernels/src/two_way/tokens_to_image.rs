//! Tokens look at image tokens.

use std::ops::Range;

use rayon::prelude::*;

use super::{ImageTokens, Projection, ROWS, heads_apart_as_right, in_image_space};
use crate::gemm::{
    Aligned, Bf16, Epilogue, Float, Fp32, Panels, Pass, Scratch, multiply_block, multiply_rows_of,
    row_stride, shape,
};
use crate::isa::{Fma, Isa};
use crate::math::exp;
use crate::precision::Precision;

/// Image tokens of one task. Their values and the scores of 56 queries take 320 KB, so a
/// second-level cache holds the image tokens for both products.
const TOKENS_OF_A_TASK: usize = 256;

/// The attention of tokens to image tokens.
#[derive(Debug, Clone, Copy)]
pub struct TokensToImage<'a> {
    /// Makes keys of image tokens + position. Its bias does not matter, see [the module](super).
    pub key: Projection<'a>,
    /// Makes values of the image tokens alone.
    pub value: Projection<'a>,
    /// Heads.
    pub heads: usize,
    /// The numbers of the matmuls with all image tokens: `f32`, or bf16 for all others.
    pub precision: Precision,
}

impl TokensToImage<'_> {
    /// `softmax(scale · q_h · k_hᵀ) · v_h` of all heads, side by side. `queries` are projected
    /// already, `[tokens, heads · head_dim]`, and so is `out`.
    ///
    /// # Panics
    /// When sizes do not match.
    pub fn forward(&self, queries: &[f32], image: ImageTokens<'_>, out: &mut [f32]) {
        self.forward_for(Isa::best(), queries, image, out);
    }

    pub(super) fn forward_for(
        &self,
        isa: Isa,
        queries: &[f32],
        image: ImageTokens<'_>,
        out: &mut [f32],
    ) {
        let Self {
            key,
            value,
            heads,
            precision,
        } = *self;
        let (inner, head_dim) = (value.outputs(), value.outputs() / heads);
        let right = heads_apart_as_right(isa, queries, [inner, heads]);
        let attended = match precision {
            Precision::Fp32 => attend::<Fp32>(isa, &in_image_space(key, &right).0, image),
            Precision::Bf16 | Precision::Int8 => {
                attend::<Bf16>(isa, &in_image_space(key, &right).0, image)
            }
        };
        let epilogue = Epilogue {
            bias: Some(value.bias),
            ..Epilogue::default()
        };
        // Of every row, the values of its head count.
        let rows = value.multiply(isa, &attended, &epilogue);
        let rows = rows.chunks_exact(inner).enumerate();
        for (out, (i, row)) in out.chunks_exact_mut(head_dim).zip(rows) {
            out.copy_from_slice(&row[i % heads * head_dim..][..head_dim]);
        }
    }
}

/// `softmax((image tokens + position) · queries)ᵀ · image tokens`: many image tokens, few queries, which are
/// `[width, queries]`.
fn attend<F: Float>(isa: Isa, queries: &Panels<F>, image: ImageTokens<'_>) -> Vec<f32> {
    let parts = image.count().div_ceil(TOKENS_OF_A_TASK);
    let parts: Vec<Partial> = (0..parts)
        .into_par_iter()
        .map_init(Buffers::default, |buffers, part| {
            let part = part * TOKENS_OF_A_TASK..image.count().min((part + 1) * TOKENS_OF_A_TASK);
            Partial::new(isa, queries, image, part, buffers)
        })
        .collect();
    Partial::join(isa, &parts, queries.columns(), image.width)
}

/// Buffers of one thread.
struct Buffers<F: Float> {
    rows: Scratch,
    /// Weights of the image tokens, query by query, and as a left side.
    weights: Vec<f32>,
    left: Aligned<F::Lane>,
    /// The image tokens as a right side.
    panels: Aligned<F::Lane>,
}

impl<F: Float> Default for Buffers<F> {
    fn default() -> Self {
        Self {
            rows: Scratch::default(),
            weights: Vec::new(),
            left: Aligned::new(),
            panels: Aligned::new(),
        }
    }
}

/// The softmax over some of the image tokens.
struct Partial {
    /// Per query.
    largest: Vec<f32>,
    /// Sum of exponentials per query.
    sum: Vec<f32>,
    /// Sum of the image tokens, weighted by the exponentials, `[queries, width]`.
    weighted: Vec<f32>,
}

impl Partial {
    fn new<F: Float>(
        isa: Isa,
        queries: &Panels<F>,
        image: ImageTokens<'_>,
        range: Range<usize>,
        buffers: &mut Buffers<F>,
    ) -> Self {
        let Buffers {
            rows,
            weights,
            left,
            panels,
        } = buffers;
        let (count, width) = (queries.columns(), image.width);
        // One row of scores per image token, up to a whole panel: the image tokens are the left side, which needs
        // no packing.
        let columns = queries.whole_panels().columns();
        let mut scores = vec![0.0; range.len() * columns];
        for (block, scores) in scores.chunks_mut(ROWS * columns).enumerate() {
            let first = range.start + block * ROWS;
            let gather = |token, part, out: &mut [f32]| image.gather(first + token, part, out);
            let queries = queries.whole_panels();
            multiply_rows_of(gather, queries, &Epilogue::default(), rows, scores);
        }
        let mut largest = vec![f32::NEG_INFINITY; columns];
        let mut sum = vec![0.0; columns];
        isa.run(
            #[inline(always)]
            |fma| column_exponentials(fma, &mut scores, &mut largest, &mut sum),
        );
        // One row of weights per query for the second product.
        let stride = row_stride(range.len());
        let padded = count.next_multiple_of(shape(isa).0);
        weights.clear();
        weights.resize(padded * stride, 0.0);
        for (token, scores) in scores.chunks_exact(columns).enumerate() {
            let column = weights[token..].iter_mut().step_by(stride);
            column
                .zip(&scores[..count])
                .for_each(|(weight, score)| *weight = *score);
        }
        let mut weighted = vec![0.0; count * width];
        let left = F::left(isa, weights, stride, range.len(), left);
        let pass = Pass {
            first: true,
            epilogue: None,
        };
        // Panels, because a panel is read for every tile of queries, and the rows of an image are
        // powers of two apart: they would fall on the same places of the first-level cache.
        let values = &image.values[range.start * width..range.end * width];
        let right = F::side(isa, values, width, panels);
        let steps = range.len().div_ceil(F::VALUES);
        multiply_block(left, right, 0..steps, pass, &mut weighted);
        Self {
            largest,
            sum,
            weighted,
        }
    }

    /// The softmax over all image tokens, the parts in their order.
    fn join(isa: Isa, parts: &[Self], count: usize, width: usize) -> Vec<f32> {
        let mut out = vec![0.0; count * width];
        for (query, out) in out.chunks_exact_mut(width).enumerate() {
            let largest = parts.iter().map(|part| part.largest[query]);
            let largest = largest.fold(f32::NEG_INFINITY, f32::max);
            isa.run(
                #[inline(always)]
                |fma| {
                    let mut sum = 0.0;
                    for part in parts {
                        let factor = exp(fma, part.largest[query] - largest);
                        sum = fma.multiply_add(part.sum[query], factor, sum);
                        let weighted = &part.weighted[query * width..][..width];
                        for (out, weighted) in out.iter_mut().zip(weighted) {
                            *out = fma.multiply_add(*weighted, factor, *out);
                        }
                    }
                    out.iter_mut().for_each(|out| *out /= sum);
                },
            );
        }
        out
    }
}

/// Exponentials relative to the largest of each column, and the sums of the columns.
#[inline(always)]
fn column_exponentials(fma: Fma, scores: &mut [f32], largest: &mut [f32], sum: &mut [f32]) {
    let count = largest.len();
    for row in scores.chunks_exact(count) {
        for (largest, &score) in largest.iter_mut().zip(row) {
            *largest = if score > *largest { score } else { *largest };
        }
    }
    for row in scores.chunks_exact_mut(count) {
        for ((score, largest), sum) in row.iter_mut().zip(&*largest).zip(&mut *sum) {
            *score = exp(fma, *score - largest);
            *sum += *score;
        }
    }
}
