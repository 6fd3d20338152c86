//! Tokens look at image cells.

use std::ops::Range;

use rayon::prelude::*;

use super::{Cells, Projection, ROWS, head_of, packed};
use crate::gemm::{
    Dense, Epilogue, Left, Matrix, Packed, Pass, Right, multiply, multiply_block, multiply_rows,
    shape,
};
use crate::isa::{Fma, Isa};
use crate::math::exp;

/// Image cells of one task. Their values and the scores of 56 queries take 320 KB, so a
/// second-level cache holds the cells for both products.
const CELLS: usize = 256;

/// The attention of tokens to image cells, for any number of prompts.
#[derive(Debug)]
pub struct TokensToCells<'a> {
    isa: Isa,
    /// From the queries of a head to the space of the cells, `[head_dim, width]`.
    keys: Vec<Packed>,
    /// From the space of the cells to the values of a head, `[width, head_dim]`.
    values: Vec<Packed>,
    value_bias: &'a [f32],
}

impl<'a> TokensToCells<'a> {
    /// An attention with `heads` heads, whose keys are `key` of cells + position, and whose values
    /// are `value` of the cells alone. The bias of the keys does not matter, see [the
    /// module](super).
    pub fn new(key: Projection<'_>, value: Projection<'a>, heads: usize) -> Self {
        Self::for_isa(Isa::best(), key, value, heads)
    }

    pub(super) fn for_isa(
        isa: Isa,
        key: Projection<'_>,
        value: Projection<'a>,
        heads: usize,
    ) -> Self {
        Self {
            isa,
            keys: packed(isa, key.heads_of_outputs(heads).map(Matrix::transposed)),
            values: packed(isa, value.heads_of_outputs(heads)),
            value_bias: value.bias,
        }
    }

    /// `softmax(scale · q_h · k_hᵀ) · v_h` of all heads, side by side. `queries` are projected
    /// already, `[tokens, heads · head_dim]`, and so is `out`.
    ///
    /// # Panics
    /// When sizes do not match.
    pub fn forward(&self, queries: &[f32], cells: Cells<'_>, out: &mut [f32]) {
        let (inner, heads) = (self.value_bias.len(), self.keys.len());
        let (tokens, head_dim) = (queries.len() / inner, inner / heads);
        let scale = (head_dim as f32).powf(-0.5);
        let mut scratch = Vec::new();
        // Queries of all heads, in the space of the cells: `[heads · tokens, width]`.
        let mut rows = vec![0.0; heads * tokens * cells.width];
        let all = rows.chunks_exact_mut((tokens * cells.width).max(1));
        for (head, (rows, key)) in all.zip(&self.keys).enumerate() {
            let mut q = head_of(queries, inner, head, heads);
            q.iter_mut().for_each(|q| *q *= scale);
            let q = Dense::new(&q, head_dim);
            multiply(&q, 0, key.right(), &Epilogue::default(), &mut scratch, rows);
        }
        let attended = attend(self.isa, &rows, cells);
        let mut part = vec![0.0; tokens * head_dim];
        let all = attended.chunks_exact((tokens * cells.width).max(1));
        for (head, (rows, value)) in all.zip(&self.values).enumerate() {
            let columns = head * head_dim..(head + 1) * head_dim;
            let epilogue = Epilogue {
                bias: Some(&self.value_bias[columns.clone()]),
                ..Epilogue::default()
            };
            let rows = Dense::new(rows, cells.width);
            multiply(&rows, 0, value.right(), &epilogue, &mut scratch, &mut part);
            for (out, part) in out.chunks_exact_mut(inner).zip(part.chunks_exact(head_dim)) {
                out[columns.clone()].copy_from_slice(part);
            }
        }
    }
}

/// `softmax(rows · (cells + position)ᵀ) · cells`: few rows, many cells.
fn attend(isa: Isa, rows: &[f32], cells: Cells<'_>) -> Vec<f32> {
    let (width, count) = (cells.width, rows.len() / cells.width);
    let right = Packed::for_isa(isa, Matrix::new(rows, count, width).transposed());
    let parts = cells.count().div_ceil(CELLS);
    let parts: Vec<Partial> = (0..parts)
        .into_par_iter()
        .map_init(Default::default, |scratch, part| {
            let part = part * CELLS..cells.count().min((part + 1) * CELLS);
            Partial::new(isa, &right, cells, part, scratch)
        })
        .collect();
    Partial::join(isa, &parts, count, width)
}

/// The softmax over some of the cells.
struct Partial {
    /// Per query.
    largest: Vec<f32>,
    /// Sum of exponentials per query.
    sum: Vec<f32>,
    /// Sum of the cells, weighted by the exponentials, `[queries, width]`.
    weighted: Vec<f32>,
}

impl Partial {
    fn new(
        isa: Isa,
        queries: &Packed,
        cells: Cells<'_>,
        range: Range<usize>,
        [scratch, panels]: &mut [Vec<f32>; 2],
    ) -> Self {
        let (count, width) = (queries.columns(), cells.width);
        // One row of scores per cell, up to a whole panel: the cells are the left side, which needs
        // no packing.
        let columns = queries.whole_panels().columns();
        let mut scores = vec![0.0; range.len() * columns];
        for (block, scores) in scores.chunks_mut(ROWS * columns).enumerate() {
            let first = range.start + block * ROWS;
            let gather = |cell, part, out: &mut [f32]| cells.gather(first + cell, part, out);
            let queries = queries.whole_panels();
            multiply_rows(gather, queries, &Epilogue::default(), scratch, scores);
        }
        let mut largest = vec![f32::NEG_INFINITY; columns];
        let mut sum = vec![0.0; columns];
        isa.run(
            #[inline(always)]
            |fma| column_exponentials(fma, &mut scores, &mut largest, &mut sum),
        );
        // One row of weights per query for the second product.
        let stride = range.len() + 16;
        let padded = count.next_multiple_of(shape(isa).0);
        scratch.clear();
        scratch.resize(padded * stride, 0.0);
        for (cell, scores) in scores.chunks_exact(columns).enumerate() {
            let weights = scratch[cell..].iter_mut().step_by(stride);
            weights
                .zip(&scores[..count])
                .for_each(|(weight, score)| *weight = *score);
        }
        let mut weighted = vec![0.0; count * width];
        let left = Left {
            values: scratch,
            stride,
        };
        let pass = Pass {
            first: true,
            epilogue: None,
        };
        // Packed, because a panel is read for every tile of queries, and the rows of an image are
        // powers of two apart: they would fall on the same places of the first-level cache.
        let values = &cells.values[range.start * width..range.end * width];
        let values = Matrix::new(values, range.len(), width);
        let right = Right::pack(isa, values, panels);
        multiply_block(left, right, 0..range.len(), pass, &mut weighted);
        Self {
            largest,
            sum,
            weighted,
        }
    }

    /// The softmax over all cells, the parts in their order.
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
