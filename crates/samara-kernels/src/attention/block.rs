//! A block of queries of one head attends to the keys, block by block.

use std::ops::Range;

use pulp::Simd;

use super::head::Head;
use super::layer::{Attention, Bias};
use super::sequences::{Query, Tokens};
use crate::gemm::{Aligned, Float, Left, Panels, Pass, end_row, multiply_block, row_stride, shape};
use crate::isa::{Fma, Isa, Kernel};
use crate::math::exp;

/// Queries of a block: a multiple of all tile heights that holds a window of 8 × 8.
pub(super) const QUERIES: usize = 72;
/// Keys per block, a multiple of all panels: with [`QUERIES`] rows the scores take 72 KB and stay in
/// the second-level cache.
const KEYS: usize = 256;

/// Buffers of one thread.
pub(super) struct Scratch<F: Float> {
    /// Scaled queries, [`QUERIES`] rows every `stride`.
    queries: Aligned<F::Lane>,
    stride: usize,
    /// A scaled query.
    query: Vec<f32>,
    /// Products of the queries with the relative positions.
    position: Vec<f32>,
    /// Rows of a block of keys, up to a whole panel.
    scores: Vec<f32>,
    /// The exponentials of the scores, where the second matmul does not take them as they are.
    weights: Aligned<F::Lane>,
    /// Sums of weighted values, `[queries, value_dim]`.
    sums: Vec<f32>,
}

impl<F: Float> Default for Scratch<F> {
    fn default() -> Self {
        Self {
            queries: Aligned::new(),
            stride: 0,
            query: Vec::new(),
            position: Vec::new(),
            scores: Vec::new(),
            weights: Aligned::new(),
            sums: Vec::new(),
        }
    }
}

/// A block of queries of one head.
pub(super) struct Block<'a, 'out, F: Float> {
    pub isa: Isa,
    pub attention: &'a Attention<'a>,
    pub position: Option<&'a Panels<F>>,
    pub index: usize,
    pub head: &'a Head<F>,
    pub queries: &'a mut [Query<'out>],
}

impl<F: Float> Block<'_, '_, F> {
    /// Attends to all keys and writes the head's part of the result.
    pub(super) fn attend(mut self, q: Tokens<'_>, scratch: &mut Scratch<F>) {
        self.gather(q, scratch);
        let Scratch {
            queries,
            stride,
            position,
            scores,
            weights,
            sums,
            ..
        } = scratch;
        let steps = |n: usize| n.div_ceil(F::VALUES);
        let Attention {
            head_dim,
            value_dim,
            ..
        } = *self.attention;
        let (isa, count, panel) = (self.isa, self.queries.len(), shape(self.isa).1);
        let left = Left::new(queries, *stride);
        let pass = |first| Pass {
            first,
            epilogue: None,
        };
        if let Some(table) = self.position {
            position.resize(QUERIES * table.columns(), 0.0);
            let out = &mut position[..count * table.columns()];
            multiply_block(left, table.side(), 0..steps(head_dim), pass(true), out);
        }
        sums.resize(QUERIES * value_dim, 0.0);
        let sums = &mut sums[..count * value_dim];
        let mut rows = [Row::EMPTY; QUERIES];
        let [keys, values] = [
            self.head.keys(isa, head_dim),
            self.head.values(isa, value_dim),
        ];
        for start in (0..self.head.length).step_by(KEYS) {
            let range = start..self.head.length.min(start + KEYS);
            let stride = range.len().next_multiple_of(panel);
            // Rows up to the height of a tile are multiplied along, whatever they hold.
            scores.resize(scores.len().max(QUERIES * stride), 0.0);
            multiply_block(
                left,
                keys.part(start..start + stride, panel),
                0..steps(head_dim),
                pass(true),
                &mut scores[..count * stride],
            );
            isa.dispatch(Exponentials {
                block: &self,
                range: range.clone(),
                position,
                scores: &mut scores[..count * stride],
                stride,
                rows: &mut rows,
                sums,
            });
            let tiles = count.next_multiple_of(shape(isa).0);
            let scores = &scores[..tiles * stride];
            let left = F::left(isa, scores, stride, range.len(), weights);
            let range = start / F::VALUES..steps(range.end);
            multiply_block(left, values, range, pass(start == 0), sums);
        }
        self.write(sums, &rows);
    }

    /// Copies and scales the queries.
    fn gather(&self, q: Tokens<'_>, scratch: &mut Scratch<F>) {
        let Attention {
            head_dim, scale, ..
        } = *self.attention;
        let steps = head_dim.div_ceil(F::VALUES);
        scratch.stride = row_stride(steps);
        let length = QUERIES * scratch.stride;
        scratch.queries.resize(length);
        let rows = scratch.queries.chunks_exact_mut(scratch.stride);
        for (query, row) in self.queries.iter().zip(rows) {
            let query = q.get(query.token, self.index, head_dim);
            let scaled = |row: &mut [f32]| {
                let pairs = row.iter_mut().zip(query);
                self.isa.run(
                    #[inline(always)]
                    |_| pairs.for_each(|(row, query)| *row = query * scale),
                );
            };
            F::row(
                self.isa,
                head_dim,
                scaled,
                &mut scratch.query,
                &mut row[..steps],
            );
            end_row(row, steps);
        }
    }

    /// Divides the sums of weighted values by the sums of weights.
    fn write(&mut self, sums: &[f32], rows: &[Row]) {
        let value_dim = self.attention.value_dim;
        let results = sums.chunks_exact(value_dim).zip(rows);
        for ((sums, row), query) in results.zip(self.queries.iter_mut()) {
            let scale = 1.0 / row.sum;
            let out = &mut query.out[self.index * value_dim..][..value_dim];
            out.iter_mut()
                .zip(sums)
                .for_each(|(out, sum)| *out = sum * scale);
        }
    }

    /// Adds the bias of a query of the block to its scores.
    #[inline(always)]
    fn add_bias<S: Simd>(
        &self,
        simd: S,
        i: usize,
        range: Range<usize>,
        position: &[f32],
        scores: &mut [f32],
    ) {
        let place = self.queries[i].place;
        match self.attention.bias {
            Bias::None => {}
            Bias::Table(table) => {
                let keys = self.head.length;
                let queries = table.len() / (self.attention.heads * keys);
                let row = &table[(self.index * queries + place) * keys..][range];
                add(simd, scores, row, 0.0);
            }
            Bias::Decomposed { rows, columns, .. } => {
                let width = 2 * rows - 1 + 2 * columns - 1;
                let (h, w) = position[i * width..][..width].split_at(2 * rows - 1);
                let h = &h[rows - 1 - place / columns..];
                let w = &w[columns - 1 - place % columns..][..columns];
                let (mut y, mut x) = (range.start / columns, range.start % columns);
                let mut rest = scores;
                while !rest.is_empty() {
                    let (line, later) = rest.split_at_mut((columns - x).min(rest.len()));
                    add(simd, line, &w[x..x + line.len()], h[y]);
                    (y, x, rest) = (y + 1, 0, later);
                }
            }
        }
    }
}

/// The softmax of one query so far.
#[derive(Clone, Copy)]
struct Row {
    largest: f32,
    sum: f32,
}

impl Row {
    const EMPTY: Self = Self {
        largest: f32::NEG_INFINITY,
        sum: 0.0,
    };
}

/// Turns the scores of the keys `range` into exponentials relative to the largest so far, and
/// scales down what has been summed with a smaller one.
struct Exponentials<'a, 'out, F: Float> {
    block: &'a Block<'a, 'out, F>,
    range: Range<usize>,
    position: &'a [f32],
    scores: &'a mut [f32],
    /// Distance between the rows of scores.
    stride: usize,
    rows: &'a mut [Row; QUERIES],
    sums: &'a mut [f32],
}

impl<F: Float> Kernel for Exponentials<'_, '_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S, fma: Fma) {
        let Self {
            block,
            range,
            position,
            scores,
            stride,
            rows,
            sums,
        } = self;
        let (length, first) = (range.len(), range.start == 0);
        let whole = length.next_multiple_of(S::F32_LANES);
        let mut largest = [0.0; QUERIES];
        // The largest scores of all rows first: the exponentials of a row have to wait for it.
        for (i, scores) in scores.chunks_exact_mut(stride).enumerate() {
            block.add_bias(simd, i, range.clone(), position, &mut scores[..length]);
            // The last register is filled up with what has no weight.
            scores[length..whole].fill(f32::NEG_INFINITY);
            largest[i] = maximum(simd, S::as_simd_f32s(&scores[..whole]).0);
        }
        let results = sums.chunks_exact_mut(block.attention.value_dim);
        let scores = scores.chunks_exact_mut(stride).zip(results);
        for (((scores, sums), row), mut largest) in scores.zip(rows).zip(largest) {
            if !first {
                largest = largest.max(row.largest);
                let shrink = exp(fma, row.largest - largest);
                if shrink != 1.0 {
                    sums.iter_mut().for_each(|sum| *sum *= shrink);
                }
                row.sum *= shrink;
            }
            row.largest = largest;
            let scores = S::as_mut_simd_f32s(&mut scores[..whole]).0;
            row.sum += exponentials::<F, S>(simd, fma, scores, largest);
        }
    }
}

/// Adds `row` and `value` to `out`.
#[inline(always)]
fn add<S: Simd>(simd: S, out: &mut [f32], row: &[f32], value: f32) {
    let (out, out_rest) = S::as_mut_simd_f32s(out);
    let (row, row_rest) = S::as_simd_f32s(row);
    let value = simd.splat_f32s(value);
    for (out, row) in out.iter_mut().zip(row) {
        *out = simd.add_f32s(*out, simd.add_f32s(*row, value));
    }
    if !out_rest.is_empty() {
        let row = simd.add_f32s(simd.partial_load_f32s(row_rest), value);
        let sum = simd.add_f32s(simd.partial_load_f32s(out_rest), row);
        simd.partial_store_f32s(out_rest, sum);
    }
}

/// The largest value.
#[inline(always)]
fn maximum<S: Simd>(simd: S, values: &[S::f32s]) -> f32 {
    let mut lanes = simd.splat_f32s(f32::NEG_INFINITY);
    for value in values {
        lanes = simd.max_f32s(*value, lanes);
    }
    simd.reduce_max_f32s(lanes)
}

/// exp(x − largest) in place, and the sum.
#[inline(always)]
fn exponentials<F: Float, S: Simd>(simd: S, fma: Fma, values: &mut [S::f32s], largest: f32) -> f32 {
    let (mut lanes, shift) = (simd.splat_f32s(0.0), simd.splat_f32s(largest));
    for value in values {
        *value = F::exp_lanes(simd, fma, simd.sub_f32s(*value, shift));
        lanes = simd.add_f32s(lanes, *value);
    }
    simd.reduce_sum_f32s(lanes)
}
