//! Image cells look at tokens.

use std::ops::Range;

use rayon::prelude::*;

use super::{Cells, Projection, ROWS, head_of, packed};
use crate::gemm::{
    Dense, Epilogue, Left, Matrix, Packed, Pass, multiply, multiply_block, multiply_rows,
};
use crate::isa::{Fma, Isa};
use crate::layer_norm::Norm;
use crate::math::exp;

/// The attention of image cells to tokens with the norm after it, for any number of prompts.
#[derive(Debug)]
pub struct CellsToTokens<'a> {
    isa: Isa,
    /// From the keys of a head to the space of the cells, `[head_dim, width]`.
    queries: Vec<Packed>,
    query_bias: &'a [f32],
    /// From the values of a head to the space of the cells, `[head_dim, width]`.
    outputs: Vec<Packed>,
    output_bias: &'a [f32],
    norm: Norm<'a>,
}

impl<'a> CellsToTokens<'a> {
    /// An attention with `heads` heads, whose queries are `query` of cells + position; `output`
    /// projects the result.
    pub fn new(
        query: Projection<'a>,
        output: Projection<'a>,
        norm: Norm<'a>,
        heads: usize,
    ) -> Self {
        Self::for_isa(Isa::best(), query, output, norm, heads)
    }

    pub(super) fn for_isa(
        isa: Isa,
        query: Projection<'a>,
        output: Projection<'a>,
        norm: Norm<'a>,
        heads: usize,
    ) -> Self {
        Self {
            isa,
            queries: packed(isa, query.heads_of_outputs(heads).map(Matrix::transposed)),
            query_bias: query.bias,
            outputs: packed(isa, output.heads_of_inputs(heads)),
            output_bias: output.bias,
            norm,
        }
    }

    /// `out = norm(cells + attention(cells + position → tokens))`, `[cells, width]`. `keys` and
    /// `values` are the projected tokens, `[tokens, heads · head_dim]`.
    ///
    /// # Panics
    /// When sizes do not match.
    pub fn forward(&self, cells: Cells<'_>, [keys, values]: [&[f32]; 2], out: &mut [f32]) {
        let (width, tokens) = (cells.width, keys.len() / self.query_bias.len());
        let (turned, bias) = self.keys_in_space_of_cells(keys, [tokens, width]);
        let turned = Matrix::new(&turned, turned.len() / width, width).transposed();
        let turned = Packed::for_isa(self.isa, turned);
        let gather = |cell, part, out: &mut [f32]| cells.gather(cell, part, out);
        self.attend([cells.values, values], (&turned, bias), gather, out);
    }

    /// As [`forward`](Self::forward), for cells whose `queries` are projected already,
    /// `[cells, heads · head_dim]`: where many prompts look at the same cells, half of the work.
    ///
    /// # Panics
    /// When sizes do not match.
    pub fn forward_projected(
        &self,
        cells: &[f32],
        queries: &[f32],
        [keys, values]: [&[f32]; 2],
        out: &mut [f32],
    ) {
        let (inner, heads) = (self.query_bias.len(), self.queries.len());
        let (tokens, head_dim) = (keys.len() / inner, inner / heads);
        let scale = (head_dim as f32).powf(-0.5);
        // A row for every head of a token, with its part of the key, and zeros for other heads.
        let mut rows = vec![0.0; tokens * heads * inner];
        for (i, row) in rows.chunks_exact_mut(inner).enumerate() {
            let (token, part) = (i / heads, i % heads * head_dim);
            let key = &keys[token * inner + part..][..head_dim];
            let row = &mut row[part..][..head_dim];
            row.iter_mut().zip(key).for_each(|(x, k)| *x = k * scale);
        }
        let rows = Matrix::new(&rows, tokens * heads, inner).transposed();
        let rows = Packed::for_isa(self.isa, rows);
        let gather = |cell: usize, part: Range<usize>, out: &mut [f32]| {
            out.copy_from_slice(&queries[cell * inner..][part]);
        };
        self.attend([cells, values], (&rows, Vec::new()), gather, out);
    }

    /// The attention of rows that `gather` gives, to keys that they can be multiplied with, with a bias
    /// of every score.
    fn attend(
        &self,
        [cells, values]: [&[f32]; 2],
        (keys, mut bias): (&Packed, Vec<f32>),
        gather: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
        out: &mut [f32],
    ) {
        let (heads, columns) = (self.queries.len(), keys.columns());
        let tokens = columns / heads;
        let width = self.output_bias.len();
        let outputs = self.values_in_space_of_cells(values, [tokens, width]);
        let outputs = Packed::for_isa(self.isa, Matrix::new(&outputs, columns, width));
        // Scores of a cell, up to a whole panel.
        let stride = keys.whole_panels().columns();
        bias.resize(stride, 0.0);
        let blocks = out.par_chunks_mut(ROWS * width).enumerate();
        blocks.for_each_init(
            || (Vec::new(), vec![0.0; ROWS * stride]),
            |(scratch, scores), (block, out)| {
                let (first, count) = (block * ROWS, out.len() / width);
                let gather = |cell, part, out: &mut [f32]| gather(first + cell, part, out);
                let epilogue = Epilogue {
                    bias: Some(&bias),
                    ..Epilogue::default()
                };
                let rows = &mut scores[..count * stride];
                multiply_rows(gather, keys.whole_panels(), &epilogue, scratch, rows);
                self.isa.run(
                    #[inline(always)]
                    |fma| {
                        for row in rows.chunks_exact_mut(stride) {
                            softmax_of_groups(fma, &mut row[..columns], heads);
                        }
                    },
                );
                let epilogue = Epilogue {
                    bias: Some(self.output_bias),
                    residual: Some(&cells[first * width..][..out.len()]),
                    ..Epilogue::default()
                };
                // Rows up to the height of a tile are multiplied along, whatever they hold.
                let left = Left {
                    values: scores,
                    stride,
                };
                let pass = Pass {
                    first: true,
                    epilogue: Some(&epilogue),
                };
                multiply_block(left, outputs.right(), 0..columns, pass, out);
                self.isa.run(
                    #[inline(always)]
                    |_| self.norm.rows(out),
                );
            },
        );
    }

    /// What a cell is multiplied with for its scores, `[tokens · heads, width]`, and what the bias of
    /// the queries adds to them. The heads of a token are neighbours.
    fn keys_in_space_of_cells(&self, keys: &[f32], size: [usize; 2]) -> (Vec<f32>, Vec<f32>) {
        let (inner, heads) = (self.query_bias.len(), self.queries.len());
        let head_dim = inner / heads;
        let scale = (head_dim as f32).powf(-0.5);
        let keys: Vec<f32> = keys.iter().map(|k| k * scale).collect();
        let mut bias = vec![0.0; size[0] * heads];
        for (head, shift) in self.query_bias.chunks_exact(head_dim).enumerate() {
            let every = bias.iter_mut().skip(head).step_by(heads);
            for (bias, k) in every.zip(head_of(&keys, inner, head, heads).chunks_exact(head_dim)) {
                *bias = k.iter().zip(shift).map(|(k, b)| k * b).sum();
            }
        }
        (self.in_space_of_cells(&keys, &self.queries, size), bias)
    }

    /// What the scores mix, `[tokens · heads, width]`.
    fn values_in_space_of_cells(&self, values: &[f32], size: [usize; 2]) -> Vec<f32> {
        self.in_space_of_cells(values, &self.outputs, size)
    }

    /// Every head of projected tokens times the right side of that head.
    fn in_space_of_cells(
        &self,
        x: &[f32],
        rights: &[Packed],
        [tokens, width]: [usize; 2],
    ) -> Vec<f32> {
        let (inner, heads) = (self.query_bias.len(), rights.len());
        let mut out = vec![0.0; heads * tokens * width];
        let (mut scratch, mut rows) = (Vec::new(), vec![0.0; tokens * width]);
        for (head, right) in rights.iter().enumerate() {
            let x = head_of(x, inner, head, heads);
            let (x, none) = (Dense::new(&x, inner / heads), Epilogue::default());
            multiply(&x, 0, right.right(), &none, &mut scratch, &mut rows);
            let every = out.chunks_exact_mut(width).skip(head).step_by(heads);
            for (out, row) in every.zip(rows.chunks_exact(width)) {
                out.copy_from_slice(row);
            }
        }
        out
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
