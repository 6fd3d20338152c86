//! Attention of a frame to its memories (SAM 2): one head, keys that are projected from narrow
//! memories and rotated by their cells, values that are the memories themselves.
//!
//! A key at the cell (x, y) is `R(x, y) (W m + b)`, so the score of a query `q` is
//! `(Wᵀ R(x, y)ᵀ q) · m + q · R(x, y) b`. The rotation rotates half of the channels with the column and
//! half with the row, so the vector in parentheses is a sum `f(x) + g(y)`: two small products for each
//! query give it for all cells, and a score costs a memory's width (64) of multiplications and not a
//! query's (256). Nothing of the size of the keys is ever made.
//!
//! Queries lie next to each other in registers, keys follow one another: a softmax then needs no sums
//! across a register.

use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use crate::gemm::{Left, Matrix, Panels, Pass, Side, multiply_block, shape};
use crate::isa::{Fma, Isa, Kernel};
use crate::math::exp_lanes;
use crate::meter;
use crate::rope::Rotations;

/// Most memories whose scores stay in registers at once.
const GROUP: usize = 8;
/// Distance between rows beyond their length: keeps them apart in the first-level cache.
const SKEW: usize = 16;
/// Registers of the queries of a block: a panel of a product is as wide.
const REGISTERS: usize = 2;

/// A frame's memories and how they become keys.
#[derive(Debug, Clone, Copy)]
pub struct MemoryAttention<'a> {
    /// Side of the grid of the frame and of each memory, in cells.
    pub side: usize,
    /// Channels of a query and of a key.
    pub dim: usize,
    /// Channels of a memory.
    pub width: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// What the keys are made of, one memory after the other: `[memories · side², width]`.
    pub key_tokens: &'a [f32],
    /// `W`, `[width, dim]`.
    pub weight: &'a [f32],
    /// `b`, `[dim]`.
    pub bias: &'a [f32],
    /// How keys are rotated.
    pub rotations: &'a Rotations,
    /// Keys without a place, as they are: `[extra, dim]`.
    pub extra_keys: &'a [f32],
    /// Values of all keys, the extra ones last: `[memories · side² + extra, width]`.
    pub values: &'a [f32],
}

/// The memories in the order in which they are read.
struct Prepared {
    /// `f` and `g` as products with a query: for each column, and for each row, `width` rows and one
    /// of the bias.
    columns: Vec<f32>,
    rows: Vec<f32>,
    groups: Vec<Group>,
    extra_keys: Vec<f32>,
    extra_values: Vec<f32>,
}

/// Memories whose scores are computed together.
struct Group {
    count: usize,
    /// `[side², width, count]`.
    keys: Vec<f32>,
    /// For each row of the grid: `width` rows of the values of its keys, in the order of the scores.
    values: Vec<f32>,
}

impl MemoryAttention<'_> {
    /// Result `[side², width]` of the rotated queries `[side², dim]`.
    ///
    /// # Panics
    /// When sizes do not match.
    pub fn forward(&self, queries: &[f32], out: &mut [f32]) {
        self.forward_for(Isa::best(), queries, out);
    }

    fn forward_for(&self, isa: Isa, queries: &[f32], out: &mut [f32]) {
        let cells = self.side * self.side;
        assert_eq!(queries.len(), cells * self.dim, "queries");
        assert_eq!(out.len(), cells * self.width, "the result");
        assert_eq!(self.weight.len(), self.width * self.dim, "weight");
        assert_eq!(self.bias.len(), self.dim, "bias");
        let extra = self.extra_keys.len() / self.dim.max(1);
        let keys = self.key_tokens.len() + extra * self.width;
        assert_eq!(self.values.len(), keys, "values");
        if out.is_empty() {
            return;
        }
        let prepared = self.prepare(isa);
        let lanes = shape(isa).1;
        out.par_chunks_mut(lanes * self.width)
            .zip(queries.par_chunks(lanes * self.dim))
            .for_each_init(Scratch::default, |scratch, (out, queries)| {
                let block = Block {
                    isa,
                    attention: self,
                    prepared: &prepared,
                    lanes,
                };
                block.attend(queries, scratch, out);
            });
    }

    fn prepare(&self, isa: Isa) -> Prepared {
        let cells = self.side * self.side;
        let memories = self.key_tokens.len() / (cells * self.width);
        let firsts: Vec<usize> = (0..memories).step_by(GROUP).collect();
        let groups = firsts
            .into_iter()
            .map(|first| self.group(isa, first..memories.min(first + GROUP)))
            .collect();
        let half = self.dim / 2;
        let extra = self.extra_keys.len() / self.dim;
        let placed = memories * cells;
        let mut extra_keys = self.extra_keys.to_vec();
        extra_keys.resize(whole_tiles(isa, extra) * self.dim, 0.0);
        let mut extra_values = vec![0.0; whole_tiles(isa, self.width) * extra];
        let values = self.values[placed * self.width..].chunks_exact(self.width);
        for (key, value) in values.enumerate() {
            for (channel, v) in value.iter().enumerate() {
                extra_values[channel * extra + key] = *v;
            }
        }
        Prepared {
            columns: self.table(isa, 0..half),
            rows: self.table(isa, half..self.dim),
            groups,
            extra_keys,
            extra_values,
        }
    }

    /// Weight and bias of the channels that rotate with one axis, rotated by every place along it.
    fn table(&self, isa: Isa, channels: Range<usize>) -> Vec<f32> {
        let stride = channels.len() + SKEW;
        let rows = self.side * (self.width + 1);
        let mut table = vec![0.0; whole_tiles(isa, rows) * stride];
        let places = table.par_chunks_mut((self.width + 1) * stride);
        places
            .take(self.side)
            .enumerate()
            .for_each(|(place, table)| {
                let weight = self.weight.chunks_exact(self.dim);
                let rows = weight.chain(std::iter::once(self.bias));
                for (row, rotated) in rows.zip(table.chunks_exact_mut(stride)) {
                    let rotated = &mut rotated[..channels.len()];
                    rotated.copy_from_slice(&row[channels.clone()]);
                    self.rotations.rotate_at(place, rotated);
                }
            });
        table
    }

    fn group(&self, isa: Isa, memories: Range<usize>) -> Group {
        let (side, width, count) = (self.side, self.width, memories.len());
        let cells = side * side;
        let token = |memory: usize, cell: usize| ((memories.start + memory) * cells + cell) * width;
        let mut keys = vec![0.0; cells * width * count];
        let of_cells = keys.par_chunks_mut(width * count).enumerate();
        of_cells.for_each(|(cell, keys)| {
            for memory in 0..count {
                let token = &self.key_tokens[token(memory, cell)..][..width];
                let keys = keys[memory..].iter_mut().step_by(count);
                keys.zip(token).for_each(|(key, value)| *key = *value);
            }
        });
        let stride = value_stride(side, count);
        let mut values = vec![0.0; side * whole_tiles(isa, width) * stride];
        let lines = values.par_chunks_mut(whole_tiles(isa, width) * stride);
        lines.enumerate().for_each(|(line, values)| {
            for column in 0..side {
                for memory in 0..count {
                    let value = &self.values[token(memory, line * side + column)..][..width];
                    let place = column * count + memory;
                    let values = values[place..].iter_mut().step_by(stride);
                    values.zip(value).for_each(|(to, value)| *to = *value);
                }
            }
        });
        Group {
            count,
            keys,
            values,
        }
    }
}

/// Rows for a whole number of tiles.
fn whole_tiles(isa: Isa, rows: usize) -> usize {
    rows.next_multiple_of(shape(isa).0)
}

fn value_stride(side: usize, count: usize) -> usize {
    side * count + SKEW
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    queries: Vec<f32>,
    /// `f` of all columns and `g` of all rows, `width + 1` rows each, one query in a lane.
    columns: Vec<f32>,
    rows: Vec<f32>,
    scores: Vec<f32>,
    /// Sums of weighted values, `[width, lanes]`.
    sums: Vec<f32>,
    largest: Vec<f32>,
    total: Vec<f32>,
}

/// A block of queries, one in a lane.
struct Block<'a> {
    isa: Isa,
    attention: &'a MemoryAttention<'a>,
    prepared: &'a Prepared,
    lanes: usize,
}

impl Block<'_> {
    fn attend(&self, queries: &[f32], scratch: &mut Scratch, out: &mut [f32]) {
        let MemoryAttention {
            side,
            dim,
            width,
            scale,
            ..
        } = *self.attention;
        let (lanes, half) = (self.lanes, dim / 2);
        let count = queries.len() / dim;
        // Lanes without a query hold zeros, and their results are left out.
        scratch.queries.clear();
        scratch.queries.extend(queries.iter().map(|q| q * scale));
        scratch.queries.resize(lanes * dim, 0.0);
        let queries = Matrix::new(&scratch.queries, lanes, dim).transposed();
        let queries: Panels = Panels::new(self.isa, queries);

        let rows = side * (width + 1);
        scratch.columns.resize(rows * lanes, 0.0);
        scratch.rows.resize(rows * lanes, 0.0);
        let place = |table, channels, out: &mut [f32]| {
            let stride = half + SKEW;
            let left = Left::new(table, stride);
            multiply_block(left, queries.side(), channels, PLAIN, out);
        };
        place(&self.prepared.columns, 0..half, &mut scratch.columns);
        place(&self.prepared.rows, half..dim, &mut scratch.rows);

        scratch.sums.clear();
        scratch.sums.resize(width * lanes, 0.0);
        scratch.total.clear();
        scratch.total.resize(lanes, 0.0);
        scratch.largest.clear();
        scratch.largest.resize(lanes, f32::NEG_INFINITY);
        for group in &self.prepared.groups {
            let keys = side * group.count;
            let stride = value_stride(side, group.count);
            let lines = group.values.chunks(whole_tiles(self.isa, width) * stride);
            for (line, values) in lines.enumerate() {
                scratch.scores.resize(keys * lanes, 0.0);
                self.isa.dispatch(Scores {
                    columns: &scratch.columns,
                    row: &scratch.rows[line * (width + 1) * lanes..][..(width + 1) * lanes],
                    keys: &group.keys[line * side * width * group.count..],
                    count: group.count,
                    side,
                    width,
                    out: &mut scratch.scores[..keys * lanes],
                });
                meter::count(lanes, width, keys);
                let values = Left::new(values, stride);
                self.add(values, keys, scratch);
            }
        }
        let extra = self.attention.extra_keys.len() / dim;
        if extra > 0 {
            scratch.scores.resize(extra * lanes, 0.0);
            let keys = Left::new(&self.prepared.extra_keys, dim);
            let scores = &mut scratch.scores[..extra * lanes];
            multiply_block(keys, queries.side(), 0..dim, PLAIN, scores);
            let values = Left::new(&self.prepared.extra_values, extra);
            self.add(values, extra, scratch);
        }
        for (lane, out) in out.chunks_exact_mut(width).take(count).enumerate() {
            let scale = 1.0 / scratch.total[lane];
            let sums = scratch.sums[lane..].iter().step_by(lanes);
            out.iter_mut()
                .zip(sums)
                .for_each(|(out, sum)| *out = sum * scale);
        }
    }

    /// Adds the values of `keys` whose scores are there.
    fn add(&self, values: Left<'_>, keys: usize, scratch: &mut Scratch) {
        let scores = &mut scratch.scores[..keys * self.lanes];
        self.isa.dispatch(Exponentials {
            scores,
            sums: &mut scratch.sums,
            largest: &mut scratch.largest,
            total: &mut scratch.total,
        });
        // The scores are a panel already.
        if let Some(right) = Side::in_place(self.isa, scores, keys, self.lanes) {
            let pass = Pass {
                first: false,
                epilogue: None,
            };
            multiply_block(values, right, 0..keys, pass, &mut scratch.sums);
        }
    }
}

const PLAIN: Pass<'static> = Pass {
    first: true,
    epilogue: None,
};

/// The scores of the keys of one row of the grid, `[side, count, lanes]`.
struct Scores<'a> {
    /// `f` of all columns, `[side, width + 1, lanes]`.
    columns: &'a [f32],
    /// `g` of this row, `[width + 1, lanes]`.
    row: &'a [f32],
    /// `[side, width, count]`.
    keys: &'a [f32],
    count: usize,
    side: usize,
    width: usize,
    out: &'a mut [f32],
}

impl Kernel for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S, fma: Fma) {
        match self.count {
            1 => self.cells::<S, 1>(simd, fma),
            2 => self.cells::<S, 2>(simd, fma),
            3 => self.cells::<S, 3>(simd, fma),
            4 => self.cells::<S, 4>(simd, fma),
            5 => self.cells::<S, 5>(simd, fma),
            6 => self.cells::<S, 6>(simd, fma),
            7 => self.cells::<S, 7>(simd, fma),
            _ => self.cells::<S, GROUP>(simd, fma),
        }
    }
}

impl Scores<'_> {
    #[inline(always)]
    fn cells<S: Simd, const M: usize>(self, simd: S, fma: Fma) {
        let vectors = |values| S::as_simd_f32s(values).0.as_chunks::<REGISTERS>().0;
        let row: &[[S::f32s; REGISTERS]] = vectors(self.row);
        let columns: &[[S::f32s; REGISTERS]] = vectors(self.columns);
        let keys = self.keys.as_chunks::<M>().0.chunks_exact(self.width);
        let scores = S::as_mut_simd_f32s(self.out).0;
        let scores = scores.as_chunks_mut::<REGISTERS>().0.chunks_exact_mut(M);
        let columns = columns.chunks_exact(self.width + 1);
        let cells = columns.zip(keys).zip(scores).take(self.side);
        for ((column, keys), scores) in cells {
            // Sixteen registers hold the sums of one register of queries, thirty-two those of two.
            if S::F32_LANES == 8 || cfg!(not(any(target_arch = "x86_64", target_arch = "aarch64")))
            {
                for part in 0..REGISTERS {
                    let of = |rows: &[[S::f32s; REGISTERS]], i: usize| [rows[i][part]];
                    let sums = cell::<S, M, 1>(simd, fma, keys, |i| (of(column, i), of(row, i)));
                    for (score, sum) in scores.iter_mut().zip(sums) {
                        score[part] = sum[0];
                    }
                }
            } else {
                let sums = cell::<S, M, REGISTERS>(simd, fma, keys, |i| (column[i], row[i]));
                scores.copy_from_slice(&sums);
            }
        }
    }
}

/// The scores of `M` keys of a cell for `V` registers of queries; `parts` gives `f` and `g`.
#[inline(always)]
fn cell<S: Simd, const M: usize, const V: usize>(
    simd: S,
    fma: Fma,
    keys: &[[f32; M]],
    parts: impl Fn(usize) -> ([S::f32s; V], [S::f32s; V]),
) -> [[S::f32s; V]; M] {
    let sum = |i: usize| {
        let (column, row) = parts(i);
        let mut sum = column;
        for v in 0..V {
            sum[v] = simd.add_f32s(column[v], row[v]);
        }
        sum
    };
    let mut scores = [sum(keys.len()); M];
    for (i, key) in keys.iter().enumerate() {
        let query = sum(i);
        for m in 0..M {
            let key = simd.splat_f32s(key[m]);
            for v in 0..V {
                scores[m][v] = fma.multiply_add_lanes(simd, query[v], key, scores[m][v]);
            }
        }
    }
    scores
}

/// Turns scores into exponentials relative to the largest so far, lane by lane, and scales down what
/// has been summed with a smaller one.
struct Exponentials<'a> {
    /// `[keys, lanes]`.
    scores: &'a mut [f32],
    /// `[width, lanes]`.
    sums: &'a mut [f32],
    largest: &'a mut [f32],
    total: &'a mut [f32],
}

impl Kernel for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S, fma: Fma) {
        let [scores, sums, largest, total] = [self.scores, self.sums, self.largest, self.total]
            .map(|values| {
                let vectors = S::as_mut_simd_f32s(values).0;
                vectors.as_chunks_mut::<REGISTERS>().0
            });
        let (largest, total) = (&mut largest[0], &mut total[0]);
        let mut highest = *largest;
        for score in &*scores {
            for v in 0..REGISTERS {
                highest[v] = simd.max_f32s(score[v], highest[v]);
            }
        }
        let mut shrink = highest;
        for v in 0..REGISTERS {
            shrink[v] = exp_lanes(simd, fma, simd.sub_f32s(largest[v], highest[v]));
        }
        for sum in sums {
            for v in 0..REGISTERS {
                sum[v] = simd.mul_f32s(sum[v], shrink[v]);
            }
        }
        let mut added = [simd.splat_f32s(0.0); REGISTERS];
        for score in scores {
            for v in 0..REGISTERS {
                score[v] = exp_lanes(simd, fma, simd.sub_f32s(score[v], highest[v]));
                added[v] = simd.add_f32s(added[v], score[v]);
            }
        }
        for v in 0..REGISTERS {
            total[v] = fma.multiply_add_lanes(simd, total[v], shrink[v], added[v]);
        }
        *largest = highest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{close, values};

    /// One query's result by the definition, in `f64`.
    fn oracle(attention: &MemoryAttention<'_>, query: &[f32]) -> Vec<f32> {
        let MemoryAttention {
            side, dim, width, ..
        } = *attention;
        let mut keys = Vec::new();
        for token in attention.key_tokens.chunks(width) {
            let mut key: Vec<f32> = attention.bias.to_vec();
            for (value, row) in token.iter().zip(attention.weight.chunks(dim)) {
                key.iter_mut().zip(row).for_each(|(k, w)| *k += value * w);
            }
            keys.extend(key);
        }
        if !keys.is_empty() {
            Rotations::new(side, dim).rotate(&mut keys);
        }
        keys.extend(attention.extra_keys);
        let score = |key: &[f32]| -> f64 {
            let dot = query
                .iter()
                .zip(key)
                .map(|(q, k)| f64::from(*q) * f64::from(*k));
            f64::from(attention.scale) * dot.sum::<f64>()
        };
        let scores: Vec<f64> = keys.chunks(dim).map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let values = |channel: usize| attention.values[channel..].iter().step_by(width);
        (0..width)
            .map(|channel| {
                let weighted = weights
                    .iter()
                    .zip(values(channel))
                    .map(|(w, v)| w * f64::from(*v));
                (weighted.sum::<f64>() / total) as f32
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn scores_by_parts_are_the_scores(
            side in 1_usize..7, quarters in 1_usize..5, width in 1_usize..9,
            memories in 0_usize..12, extra in 0_usize..5, seed in 0_usize..99,
        ) {
            prop_assume!(memories + extra > 0);
            let (dim, cells) = (4 * quarters, side * side);
            let keys = memories * cells;
            let key_tokens = values(keys * width, seed);
            let weight = values(width * dim, seed + 1);
            let bias = values(dim, seed + 2);
            let extra_keys = values(extra * dim, seed + 3);
            let all = values((keys + extra) * width, seed + 4);
            let queries = values(cells * dim, seed + 5);
            let attention = MemoryAttention {
                side, dim, width, scale: 1.5, key_tokens: &key_tokens, weight: &weight, bias: &bias,
                rotations: &Rotations::new(side, dim), extra_keys: &extra_keys, values: &all,
            };
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; cells * width];
                attention.forward_for(isa, &queries, &mut out);
                for (query, out) in queries.chunks(dim).zip(out.chunks(width)) {
                    prop_assert!(close(out, &oracle(&attention, query), 2e-5), "{isa:?}");
                }
            }
        }
    }
}
