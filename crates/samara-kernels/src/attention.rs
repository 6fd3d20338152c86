//! Multi-head attention `softmax(scale · q kᵀ + bias) v`, tile by tile.
//!
//! Scores are never held as a whole: a block of queries walks over blocks of keys, keeps the
//! largest score and the sum of exponentials so far, and scales its result down when a larger
//! score turns up (Dao et al. 2022). Keys and values are packed once per head;
//! the tokens are read where the projection wrote them, also those of a window of an image.

use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use crate::gemm::{Left, Matrix, Packed, Pass, multiply_block, shape};
use crate::isa::{Fma, Isa, Kernel};
use crate::math::{exp, exp_lanes};

/// Queries per task: a multiple of all tile heights.
const QUERIES: usize = 48;
/// Keys per block: with [`QUERIES`] rows the scores take 48 KB and stay in the second-level cache.
const KEYS: usize = 256;

/// Tokens in memory: the values of head `h` of token `t` begin at
/// `t · token_stride + h · head_stride`.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// The memory.
    pub values: &'a [f32],
    /// Distance between tokens.
    pub token_stride: usize,
    /// Distance between the heads of a token.
    pub head_stride: usize,
}

impl<'a> Tokens<'a> {
    #[inline]
    fn get(self, token: usize, head: usize, length: usize) -> &'a [f32] {
        &self.values[token * self.token_stride + head * self.head_stride..][..length]
    }
}

/// Which tokens attend to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequences {
    /// `count` sequences of `length` tokens, one after the other.
    Whole {
        /// Sequences.
        count: usize,
        /// Tokens of each.
        length: usize,
    },
    /// The square windows of `count` grids of tokens. Windows that reach over the edge of the grid
    /// are filled up with padding tokens, all the same.
    Windows {
        /// Grids.
        count: usize,
        /// Rows of a grid.
        height: usize,
        /// Columns of a grid.
        width: usize,
        /// Side of a window.
        window: usize,
    },
}

impl Sequences {
    /// Number of sequences.
    pub fn count(self) -> usize {
        match self {
            Self::Whole { count, .. } => count,
            Self::Windows {
                count,
                height,
                width,
                window,
            } => count * height.div_ceil(window) * width.div_ceil(window),
        }
    }

    /// Tokens of a sequence, with its padding.
    pub fn length(self) -> usize {
        match self {
            Self::Whole { length, .. } => length,
            Self::Windows { window, .. } => window * window,
        }
    }

    /// Tokens in memory.
    pub fn tokens(self) -> usize {
        match self {
            Self::Whole { count, length } => count * length,
            Self::Windows {
                count,
                height,
                width,
                ..
            } => count * height * width,
        }
    }

    /// The rows `[sequences, length, width]` in the order of the tokens, without padding.
    ///
    /// # Panics
    /// When sizes do not match.
    pub fn to_tokens(self, rows: &[f32], width: usize, out: &mut [f32]) {
        assert_eq!(rows.len(), self.count() * self.length() * width);
        assert_eq!(out.len(), self.tokens() * width);
        if out.is_empty() {
            return;
        }
        out.par_chunks_mut(width)
            .with_min_len(64)
            .enumerate()
            .for_each(|(token, out)| {
                let (sequence, place) = self.place(token);
                out.copy_from_slice(&rows[(sequence * self.length() + place) * width..][..width]);
            });
    }

    /// The sequence and the place in it of a token.
    fn place(self, token: usize) -> (usize, usize) {
        match self {
            Self::Whole { length, .. } => (token / length, token % length),
            Self::Windows {
                height,
                width,
                window,
                ..
            } => {
                let (rows, columns) = (height.div_ceil(window), width.div_ceil(window));
                let (line, x) = (token / width, token % width);
                let (grid, y) = (line / height, line % height);
                let sequence = (grid * rows + y / window) * columns + x / window;
                (sequence, y % window * window + x % window)
            }
        }
    }

    /// The token at a place of a sequence; `None` for padding.
    #[inline]
    pub fn token(self, sequence: usize, place: usize) -> Option<usize> {
        match self {
            Self::Whole { length, .. } => Some(sequence * length + place),
            Self::Windows {
                height,
                width,
                window,
                ..
            } => {
                let (rows, columns) = (height.div_ceil(window), width.div_ceil(window));
                let (line, column) = (sequence / columns, sequence % columns);
                let (grid, line) = (line / rows, line % rows);
                let (y, x) = (
                    line * window + place / window,
                    column * window + place % window,
                );
                (y < height && x < width).then_some((grid * height + y) * width + x)
            }
        }
    }
}

/// What is added to the scores.
#[derive(Debug, Clone, Copy)]
pub enum Bias<'a> {
    /// Nothing.
    None,
    /// `[heads, queries, keys]`, shared by all sequences.
    Table(&'a [f32]),
    /// Decomposed relative position (SAM's ViT) on a grid of `rows` × `columns` tokens: the bias of
    /// query (y, x) to key (y', x') is `q · h[y − y' + rows − 1] + q · w[x − x' + columns − 1]`.
    Decomposed {
        /// Rows of the grid.
        rows: usize,
        /// Columns of the grid.
        columns: usize,
        /// `[2 · rows − 1, head_dim]`.
        h: &'a [f32],
        /// `[2 · columns − 1, head_dim]`.
        w: &'a [f32],
    },
}

/// An attention layer without its projections.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Heads.
    pub heads: usize,
    /// Width of a query and a key of one head.
    pub head_dim: usize,
    /// Width of a value of one head.
    pub value_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Added to the scaled scores.
    pub bias: Bias<'a>,
    /// Key and value of a padding token, `[heads, head_dim]` and `[heads, value_dim]` with the
    /// head strides of `k` and `v`. Needed for windows that reach over the edge.
    pub padding: Option<(&'a [f32], &'a [f32])>,
}

/// Keys and values of one head in the order in which they are read.
struct Head {
    keys: Packed,
    values: Packed,
}

impl Attention<'_> {
    /// Result `[sequences, query places, heads · value_dim]`; the places of padding are left as
    /// they are.
    ///
    /// # Panics
    /// When sizes do not match.
    pub fn forward(
        &self,
        q: Tokens<'_>,
        queries: Sequences,
        [k, v]: [Tokens<'_>; 2],
        keys: Sequences,
        out: &mut [f32],
    ) {
        self.forward_for(Isa::best(), q, queries, [k, v], keys, out);
    }

    fn forward_for(
        &self,
        isa: Isa,
        q: Tokens<'_>,
        queries: Sequences,
        [k, v]: [Tokens<'_>; 2],
        keys: Sequences,
        out: &mut [f32],
    ) {
        let (length, width) = (queries.length(), self.heads * self.value_dim);
        assert_eq!(
            queries.count(),
            keys.count(),
            "sequences of queries and keys"
        );
        assert_eq!(out.len(), queries.count() * length * width);
        if out.is_empty() {
            return;
        }
        let position = self.position(isa);
        out.par_chunks_mut(length * width)
            .enumerate()
            .for_each(|(sequence, out)| {
                let pack = |head| self.pack(isa, sequence, head, [k, v], keys);
                let heads: Vec<Head> = (0..self.heads).into_par_iter().map(pack).collect();
                let blocks = out.par_chunks_mut(QUERIES * width).enumerate();
                blocks.for_each_init(Scratch::default, |scratch, (block, out)| {
                    let first = block * QUERIES;
                    let places = first..first + out.len() / width;
                    for (index, head) in heads.iter().enumerate() {
                        let q = |place| {
                            let token = queries.token(sequence, place)?;
                            Some(q.get(token, index, self.head_dim))
                        };
                        scratch.gather(places.clone(), self.head_dim, self.scale, q);
                        let block = Block {
                            isa,
                            attention: self,
                            index,
                            head,
                            position: position.as_ref(),
                            places: places.clone(),
                        };
                        block.attend(scratch, &mut out[index * self.value_dim..], width);
                    }
                });
            });
    }

    /// Packs keys and values of one head of one sequence.
    fn pack(
        &self,
        isa: Isa,
        sequence: usize,
        head: usize,
        [k, v]: [Tokens<'_>; 2],
        keys: Sequences,
    ) -> Head {
        let length = keys.length();
        let copy = |tokens: Tokens<'_>, width, padding: Option<&[f32]>| {
            let mut values = vec![0.0; length * width];
            for (place, out) in values.chunks_exact_mut(width).enumerate() {
                match (keys.token(sequence, place), padding) {
                    (Some(token), _) => out.copy_from_slice(tokens.get(token, head, width)),
                    (None, Some(padding)) => {
                        out.copy_from_slice(&padding[head * tokens.head_stride..][..width]);
                    }
                    (None, None) => {}
                }
            }
            values
        };
        let keys = copy(k, self.head_dim, self.padding.map(|p| p.0));
        let values = copy(v, self.value_dim, self.padding.map(|p| p.1));
        Head {
            keys: Packed::for_isa(isa, Matrix::new(&keys, length, self.head_dim).transposed()),
            values: Packed::for_isa(isa, Matrix::new(&values, length, self.value_dim)),
        }
    }

    /// The relative positions as the right side of a product with scaled queries: both tables,
    /// last distance first, so that the biases of one query to a row of keys lie in order.
    fn position(&self, isa: Isa) -> Option<Packed> {
        let Bias::Decomposed {
            rows,
            columns,
            h,
            w,
        } = self.bias
        else {
            return None;
        };
        assert_eq!(h.len(), (2 * rows - 1) * self.head_dim);
        assert_eq!(w.len(), (2 * columns - 1) * self.head_dim);
        let rows_of = |table: &[f32]| -> Vec<f32> {
            let rows = table.chunks_exact(self.head_dim).rev().flatten();
            rows.map(|x| x / self.scale).collect()
        };
        let table = [rows_of(h), rows_of(w)].concat();
        let table = Matrix::new(&table, table.len() / self.head_dim, self.head_dim);
        Some(Packed::for_isa(isa, table.transposed()))
    }
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    /// Scaled queries.
    queries: Vec<f32>,
    stride: usize,
    /// Products of the queries with the relative positions.
    position: Vec<f32>,
    scores: Vec<f32>,
    out: Vec<f32>,
}

impl Scratch {
    /// Copies and scales the queries; padding is zero.
    fn gather<'a>(
        &mut self,
        places: Range<usize>,
        head_dim: usize,
        scale: f32,
        query: impl Fn(usize) -> Option<&'a [f32]>,
    ) {
        // The skew keeps the rows apart in the first-level cache.
        self.stride = head_dim + 16;
        self.queries.resize(QUERIES * self.stride, 0.0);
        for (place, row) in places.zip(self.queries.chunks_exact_mut(self.stride)) {
            match query(place) {
                Some(query) => {
                    row.iter_mut()
                        .zip(query)
                        .for_each(|(row, query)| *row = query * scale);
                }
                None => row.fill(0.0),
            }
        }
    }
}

/// A block of queries of one head.
struct Block<'a> {
    isa: Isa,
    attention: &'a Attention<'a>,
    index: usize,
    head: &'a Head,
    position: Option<&'a Packed>,
    places: Range<usize>,
}

impl Block<'_> {
    /// Attends to all keys and writes the result, one row every `width`.
    fn attend(&self, scratch: &mut Scratch, out: &mut [f32], width: usize) {
        let Scratch {
            queries,
            stride,
            position,
            scores,
            out: sums,
        } = scratch;
        let (isa, count, value_dim) = (self.isa, self.places.len(), self.attention.value_dim);
        let left = Left {
            values: queries,
            stride: *stride,
        };
        let only = Pass {
            first: true,
            epilogue: None,
        };
        if let Some(table) = self.position {
            position.resize(count * table.columns(), 0.0);
            multiply_block(left, table.right(), 0..table.depth(), only, position);
        }
        sums.clear();
        sums.resize(count * value_dim, 0.0);
        let mut rows = [Row::EMPTY; QUERIES];
        let keys = self.head.values.depth();
        let panel = shape(isa).1;
        for start in (0..keys).step_by(KEYS) {
            let range = start..keys.min(start + KEYS);
            let part = self.head.keys.right().part(range.clone(), panel);
            // Rows up to the height of a tile are multiplied along, whatever they hold.
            scores.resize(QUERIES * range.len(), 0.0);
            let scores = &mut scores[..QUERIES * range.len()];
            let depth = self.attention.head_dim;
            multiply_block(
                left,
                part,
                0..depth,
                only,
                &mut scores[..count * range.len()],
            );
            isa.dispatch(Exponentials {
                block: self,
                range: range.clone(),
                position,
                scores,
                rows: &mut rows,
                sums,
            });
            let left = Left {
                values: scores,
                stride: range.len(),
            };
            let pass = Pass {
                first: false,
                epilogue: None,
            };
            multiply_block(left, self.head.values.right(), range, pass, sums);
        }
        let results = sums.chunks_exact(value_dim).zip(rows);
        for ((sums, row), out) in results.zip(out.chunks_mut(width)) {
            let scale = 1.0 / row.sum;
            out[..value_dim]
                .iter_mut()
                .zip(sums)
                .for_each(|(out, sum)| *out = sum * scale);
        }
    }
}

/// Turns the scores of the keys `range` into exponentials relative to the largest so far, and
/// scales down what has been summed with a smaller one.
struct Exponentials<'a> {
    block: &'a Block<'a>,
    range: Range<usize>,
    position: &'a [f32],
    scores: &'a mut [f32],
    rows: &'a mut [Row; QUERIES],
    sums: &'a mut [f32],
}

impl Kernel for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S, fma: Fma) {
        let Self {
            block,
            range,
            position,
            scores,
            rows,
            sums,
        } = self;
        let scores = scores.chunks_exact_mut(range.len());
        let results = sums.chunks_exact_mut(block.attention.value_dim);
        for (i, ((scores, sums), row)) in scores.zip(results).zip(rows).enumerate() {
            block.add_bias(simd, i, range.clone(), position, scores);
            let largest = maximum(simd, scores).max(row.largest);
            // Before the first block the sums are zero, and so is this factor.
            let shrink = exp(fma, row.largest - largest);
            if shrink != 1.0 {
                sums.iter_mut().for_each(|sum| *sum *= shrink);
            }
            row.largest = largest;
            let sum = exponentials(simd, fma, scores, largest);
            row.sum = fma.multiply_add(row.sum, shrink, sum);
        }
    }
}

impl Block<'_> {
    /// Adds the bias of the `i`th query of the block to its scores.
    #[inline(always)]
    fn add_bias<S: Simd>(
        &self,
        simd: S,
        i: usize,
        range: Range<usize>,
        position: &[f32],
        scores: &mut [f32],
    ) {
        let place = self.places.start + i;
        match self.attention.bias {
            Bias::None => {}
            Bias::Table(table) => {
                let keys = self.head.values.depth();
                let queries = table.len() / (self.attention.heads * keys);
                let row = &table[(self.index * queries + place) * keys..][range];
                add(simd, scores, row, 0.0);
            }
            Bias::Decomposed { rows, columns, .. } => {
                let width = 2 * rows - 1 + 2 * columns - 1;
                let (h, w) = position[i * width..][..width].split_at(2 * rows - 1);
                let h = &h[rows - 1 - place / columns..];
                let w = &w[columns - 1 - place % columns..][..columns];
                let (mut key, mut rest) = (range.start, scores);
                while !rest.is_empty() {
                    let (y, x) = (key / columns, key % columns);
                    let (line, later) = rest.split_at_mut((columns - x).min(rest.len()));
                    add(simd, line, &w[x..x + line.len()], h[y]);
                    key += line.len();
                    rest = later;
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
fn maximum<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let (values, rest) = S::as_simd_f32s(values);
    let mut lanes = simd.splat_f32s(f32::NEG_INFINITY);
    for value in values {
        lanes = simd.max_f32s(*value, lanes);
    }
    let mut largest = simd.reduce_max_f32s(lanes);
    for &value in rest {
        largest = largest.max(value);
    }
    largest
}

/// exp(x − largest) in place, and the sum.
#[inline(always)]
fn exponentials<S: Simd>(simd: S, fma: Fma, values: &mut [f32], largest: f32) -> f32 {
    let (values, rest) = S::as_mut_simd_f32s(values);
    let (mut lanes, shift) = (simd.splat_f32s(0.0), simd.splat_f32s(largest));
    for value in values {
        *value = exp_lanes(simd, fma, simd.sub_f32s(*value, shift));
        lanes = simd.add_f32s(lanes, *value);
    }
    let mut sum = simd.reduce_sum_f32s(lanes);
    for value in rest {
        *value = exp(fma, *value - largest);
        sum += *value;
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{close, values};

    /// One query's result by the definition, in `f64`.
    fn oracle(
        q: &[f32],
        keys: &[&[f32]],
        values: &[&[f32]],
        scale: f32,
        bias: impl Fn(usize) -> f64,
    ) -> Vec<f32> {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter()
                .zip(b)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum()
        };
        let scores = keys
            .iter()
            .enumerate()
            .map(|(i, k)| f64::from(scale) * dot(q, k) + bias(i));
        let scores: Vec<f64> = scores.collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        (0..values[0].len())
            .map(|c| {
                let weighted = weights.iter().zip(values).map(|(w, v)| w * f64::from(v[c]));
                (weighted.sum::<f64>() / sum) as f32
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whole_sequences_with_a_table_follow_the_oracle(
            count in 1_usize..3, queries in 1_usize..60, keys in 1_usize..300, heads in 1_usize..3,
            head_dim in 1_usize..20, value_dim in 1_usize..20, table in any::<bool>(),
            seed in 0_usize..99,
        ) {
            let width = heads * head_dim;
            let scale = 3.0;
            let q = values(count * queries * width, seed);
            let k = values(count * keys * width, seed + 1);
            let v = values(count * keys * heads * value_dim, seed + 2);
            let bias: Vec<f32> = values(heads * queries * keys, seed + 3);
            let attention = Attention {
                heads, head_dim, value_dim, scale,
                bias: if table { Bias::Table(&bias) } else { Bias::None },
                padding: None,
            };
            let tokens = |values, width: usize| Tokens {
                values, token_stride: heads * width, head_stride: width,
            };
            let whole = |length| Sequences::Whole { count, length };
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; count * queries * heads * value_dim];
                attention.forward_for(
                    isa, tokens(&q, head_dim), whole(queries),
                    [tokens(&k, head_dim), tokens(&v, value_dim)], whole(keys), &mut out,
                );
                for (i, out) in out.chunks_exact(value_dim).enumerate() {
                    let (token, head) = (i / heads, i % heads);
                    let sequence = token / queries;
                    let side = |x, width: usize| -> Vec<&[f32]> {
                        let t = tokens(x, width);
                        (0..keys).map(|key| t.get(sequence * keys + key, head, width)).collect()
                    };
                    let row = (head * queries + token % queries) * keys;
                    let expected = oracle(
                        tokens(&q, head_dim).get(token, head, head_dim),
                        &side(&k, head_dim), &side(&v, value_dim), scale,
                        |key| if table { f64::from(bias[row + key]) } else { 0.0 },
                    );
                    prop_assert!(close(out, &expected, 1e-5), "{isa:?}");
                }
            }
        }

        #[test]
        fn windows_with_relative_positions_follow_the_oracle(
            height in 1_usize..12, width in 1_usize..12, window in 1_usize..8, heads in 1_usize..3,
            seed in 0_usize..99,
        ) {
            let (count, head_dim) = (2, 4);
            let inner = heads * head_dim;
            let qkv = values(count * height * width * 3 * inner, seed);
            let padding = values(3 * inner, seed + 1);
            let h = values((2 * window - 1) * head_dim, seed + 2);
            let w = values((2 * window - 1) * head_dim, seed + 3);
            let attention = Attention {
                heads, head_dim, value_dim: head_dim, scale: 0.5,
                bias: Bias::Decomposed { rows: window, columns: window, h: &h, w: &w },
                padding: Some((&padding[inner..2 * inner], &padding[2 * inner..])),
            };
            let side = |i: usize| Tokens {
                values: &qkv[i * inner..], token_stride: 3 * inner, head_stride: head_dim,
            };
            let windows = Sequences::Windows { count, height, width, window };
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; windows.count() * window * window * inner];
                attention.forward_for(isa, side(0), windows, [side(1), side(2)], windows, &mut out);
                for (i, out) in out.chunks_exact(head_dim).enumerate() {
                    let (slot, head) = (i / heads, i % heads);
                    let (sequence, place) = (slot / (window * window), slot % (window * window));
                    let Some(token) = windows.token(sequence, place) else { continue };
                    let row = |part: usize, place| match windows.token(sequence, place) {
                        Some(token) => side(part).get(token, head, head_dim),
                        None => &padding[part * inner + head * head_dim..][..head_dim],
                    };
                    let all = |part| -> Vec<&[f32]> {
                        (0..window * window).map(|place| row(part, place)).collect()
                    };
                    let q = side(0).get(token, head, head_dim);
                    let along = |table: &[f32], query: usize, key: usize| -> f64 {
                        let row = (query + window - 1 - key) * head_dim;
                        q.iter().zip(&table[row..]).map(|(q, t)| f64::from(*q) * f64::from(*t)).sum()
                    };
                    let expected = oracle(q, &all(1), &all(2), 0.5, |key| {
                        along(&h, place / window, key / window)
                            + along(&w, place % window, key % window)
                    });
                    prop_assert!(close(out, &expected, 1e-5), "{isa:?}");
                }
            }
        }
    }

    #[test]
    fn tokens_find_their_windows() {
        let windows = Sequences::Windows {
            count: 2,
            height: 5,
            width: 7,
            window: 3,
        };
        let slots = windows.count() * windows.length();
        let rows: Vec<f32> = (0..slots).map(|i| i as f32).collect();
        let mut out = vec![f32::NAN; windows.tokens()];
        windows.to_tokens(&rows, 1, &mut out);
        for slot in 0..slots {
            let (sequence, place) = (slot / windows.length(), slot % windows.length());
            if let Some(token) = windows.token(sequence, place) {
                assert_eq!(out[token], slot as f32);
            }
        }
        assert!(out.iter().all(|x| !x.is_nan()));
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let q = [100.0_f32];
        let k: Vec<f32> = (0..600).map(|i| i as f32).collect();
        let v = k.clone();
        let tokens = |values| Tokens {
            values,
            token_stride: 1,
            head_stride: 1,
        };
        let attention = Attention {
            heads: 1,
            head_dim: 1,
            value_dim: 1,
            scale: 1.0,
            bias: Bias::None,
            padding: None,
        };
        let whole = |length| Sequences::Whole { count: 1, length };
        let mut out = [0.0];
        attention.forward(
            tokens(&q),
            whole(1),
            [tokens(&k), tokens(&v)],
            whole(600),
            &mut out,
        );
        assert_eq!(out, [599.0]);
    }
}
