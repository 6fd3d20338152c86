//! Attention between few tokens and many image cells, without projecting the cells.
//!
//! In multi-head attention the projections can be moved to the side with few rows: the scores
//! `q_h · (x W_h)ᵀ` are `(q_h W_hᵀ) · xᵀ`, and the results `P_h (x V_h)` are `(P_h x) V_h`. With 7
//! tokens and 4 096 cells this is a quarter of the work, and it is the same number up to rounding.
//! A constant that is the same for all keys of a query does not change a softmax, so the bias of
//! the key projection drops out; the weights of a softmax add up to 1, so the bias of the value
//! projection is added once.

use std::ops::Range;

use rayon::prelude::*;

use crate::gemm::{
    Dense, Epilogue, Left, Matrix, Packed, Pass, Right, gemm, multiply_block, multiply_rows, shape,
};
use crate::isa::{Fma, Isa};
use crate::layer_norm::{Norm, normalise_rows};
use crate::math::exp;

/// Image cells of one task. Their values and the scores of 56 queries take 320 KB, so a
/// second-level cache holds the cells for both products.
const CELLS: usize = 256;
/// Rows that are gathered at once for a product.
const ROWS: usize = 96;

/// Image cells: what prompts attend to.
#[derive(Debug, Clone, Copy)]
pub struct Cells<'a> {
    /// `[cells, width]`.
    pub values: &'a [f32],
    /// Added to the cells for the scores, in the same shape.
    pub position: &'a [f32],
    /// Width of a cell.
    pub width: usize,
}

impl Cells<'_> {
    fn count(&self) -> usize {
        self.values.len() / self.width
    }

    /// Cell and position of the values `range` of a cell.
    #[inline(always)]
    fn gather(&self, cell: usize, range: Range<usize>, out: &mut [f32]) {
        let start = cell * self.width;
        let range = start + range.start..start + range.end;
        let pairs = self.values[range.clone()].iter().zip(&self.position[range]);
        out.iter_mut()
            .zip(pairs)
            .for_each(|(out, (value, position))| *out = value + position);
    }
}

/// A projection `x · weight + bias`.
#[derive(Debug, Clone, Copy)]
pub struct Projection<'a> {
    /// `[inputs, outputs]`.
    pub weight: &'a [f32],
    /// `[outputs]`.
    pub bias: &'a [f32],
}

impl Projection<'_> {
    fn inputs(&self) -> usize {
        self.weight.len() / self.bias.len()
    }

    fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// The columns that belong to head `index`.
    fn head(&self, index: usize, heads: usize) -> Matrix<'_> {
        let width = self.outputs() / heads;
        let values = &self.weight[index * width..];
        Matrix::strided(values, self.inputs(), width, self.outputs())
    }
}

/// The part of head `index` of every row.
fn head_of(rows: &[f32], width: usize, index: usize, heads: usize) -> Vec<f32> {
    let part = width / heads;
    let rows = rows
        .chunks_exact(width)
        .flat_map(|row| &row[index * part..(index + 1) * part]);
    rows.copied().collect()
}

/// Tokens attend to image cells: `softmax(scale · q_h · k_hᵀ) · v_h` of all heads, side by side,
/// with keys from cells + position and values from the cells alone.
///
/// `queries` are projected already, `[tokens, outputs of the projections]`, and so is the result.
/// The bias of the key projection does not matter, see [the module](self).
///
/// # Panics
/// When sizes do not match.
pub fn tokens_to_cells(
    queries: &[f32],
    cells: Cells<'_>,
    key_weight: &[f32],
    value: Projection<'_>,
    heads: usize,
) -> Vec<f32> {
    tokens_to_cells_for(Isa::best(), queries, cells, key_weight, value, heads)
}

fn tokens_to_cells_for(
    isa: Isa,
    queries: &[f32],
    cells: Cells<'_>,
    key_weight: &[f32],
    value: Projection<'_>,
    heads: usize,
) -> Vec<f32> {
    let inner = value.outputs();
    let (tokens, head_dim) = (queries.len() / inner, inner / heads);
    let key = Projection {
        weight: key_weight,
        bias: value.bias,
    };
    let scale = (head_dim as f32).powf(-0.5);
    // Queries of all heads, in the space of the cells: `[heads · tokens, width]`.
    let mut rows = vec![0.0; heads * tokens * cells.width];
    for (head, rows) in rows
        .chunks_exact_mut((tokens * cells.width).max(1))
        .enumerate()
    {
        let mut q = head_of(queries, inner, head, heads);
        q.iter_mut().for_each(|q| *q *= scale);
        let right = Packed::for_isa(isa, key.head(head, heads).transposed());
        gemm(
            &Dense::new(&q, head_dim),
            right.right(),
            &Epilogue::default(),
            rows,
        );
    }
    let attended = attend(isa, &rows, cells);
    let mut out = vec![0.0; tokens * inner];
    let mut part = vec![0.0; tokens * head_dim];
    for (head, rows) in attended
        .chunks_exact((tokens * cells.width).max(1))
        .enumerate()
    {
        let right = Packed::for_isa(isa, value.head(head, heads));
        let columns = head * head_dim..(head + 1) * head_dim;
        let epilogue = Epilogue {
            bias: Some(&value.bias[columns.clone()]),
            ..Epilogue::default()
        };
        gemm(
            &Dense::new(rows, cells.width),
            right.right(),
            &epilogue,
            &mut part,
        );
        for (out, part) in out.chunks_exact_mut(inner).zip(part.chunks_exact(head_dim)) {
            out[columns.clone()].copy_from_slice(part);
        }
    }
    out
}

/// `softmax(rows · (cells + position)ᵀ) · cells`: few rows, many cells.
fn attend(isa: Isa, rows: &[f32], cells: Cells<'_>) -> Vec<f32> {
    let (width, count) = (cells.width, rows.len() / cells.width);
    let right = Packed::for_isa(isa, Matrix::new(rows, count, width).transposed());
    let parts = cells.count().div_ceil(CELLS);
    let parts: Vec<Partial> = (0..parts)
        .into_par_iter()
        .map_init(Vec::new, |scratch, part| {
            let part = part * CELLS..cells.count().min((part + 1) * CELLS);
            Partial::new(isa, right.right(), cells, part, scratch)
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
        queries: Right<'_>,
        cells: Cells<'_>,
        range: Range<usize>,
        scratch: &mut Vec<f32>,
    ) -> Self {
        let (count, width) = (queries.columns(), cells.width);
        // One row of scores per cell: the cells are the left side, which needs no packing.
        let mut scores = vec![0.0; range.len() * count];
        for (block, scores) in scores.chunks_mut(ROWS * count).enumerate() {
            let first = range.start + block * ROWS;
            let gather = |cell, part, out: &mut [f32]| cells.gather(first + cell, part, out);
            multiply_rows(gather, queries, &Epilogue::default(), scratch, scores);
        }
        let mut largest = vec![f32::NEG_INFINITY; count];
        let mut sum = vec![0.0; count];
        isa.run(
            #[inline(always)]
            |fma| column_exponentials(fma, &mut scores, &mut largest, &mut sum),
        );
        // One row of weights per query for the second product.
        let stride = range.len() + 16;
        let padded = count.next_multiple_of(shape(isa).0);
        scratch.clear();
        scratch.resize(padded * stride, 0.0);
        for (cell, scores) in scores.chunks_exact(count).enumerate() {
            let weights = scratch[cell..].iter_mut().step_by(stride);
            weights
                .zip(scores)
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
        let values = &cells.values[range.start * width..range.end * width];
        let (packed, depth) = (
            || Packed::for_isa(isa, Matrix::new(values, range.len(), width)),
            range.len(),
        );
        match Right::in_place_for(isa, values, depth, width) {
            Some(right) => multiply_block(left, right, 0..depth, pass, &mut weighted),
            None => multiply_block(left, packed().right(), 0..depth, pass, &mut weighted),
        }
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

/// Image cells attend to tokens: `norm(cells + attention(cells + position → tokens) · out)`.
///
/// `keys` and `values` are the projected tokens, `[tokens, outputs of query]`; `query` projects
/// the cells, `out` the result. The cells `[cells, width]` are written to `result`.
///
/// # Panics
/// When sizes do not match.
#[expect(clippy::too_many_arguments, reason = "all of them are operands")]
pub fn cells_to_tokens(
    cells: Cells<'_>,
    keys: &[f32],
    values: &[f32],
    query: Projection<'_>,
    out: Projection<'_>,
    norm: Norm<'_>,
    heads: usize,
    result: &mut [f32],
) {
    cells_to_tokens_for(
        Isa::best(),
        cells,
        [keys, values],
        [query, out],
        norm,
        heads,
        result,
    );
}

fn cells_to_tokens_for(
    isa: Isa,
    cells: Cells<'_>,
    [keys, values]: [&[f32]; 2],
    [query, out]: [Projection<'_>; 2],
    norm: Norm<'_>,
    heads: usize,
    result: &mut [f32],
) {
    let (inner, width) = (query.outputs(), cells.width);
    let (tokens, head_dim) = (keys.len() / inner, inner / heads);
    let scale = (head_dim as f32).powf(-0.5);
    // Keys in the space of the cells, `[width, heads · tokens]`, and what the bias of the query
    // projection adds to the scores.
    let columns = heads * tokens;
    let mut turned = vec![0.0; columns * width];
    let mut bias = vec![0.0; columns];
    // Values in the space of the cells, `[heads · tokens, width]`.
    let mut outputs = vec![0.0; columns * width];
    for head in 0..heads {
        let mut k = head_of(keys, inner, head, heads);
        k.iter_mut().for_each(|k| *k *= scale);
        let own = head * tokens..(head + 1) * tokens;
        let part = own.start * width..own.end * width;
        let right = Packed::for_isa(isa, query.head(head, heads).transposed());
        let rows = Dense::new(&k, head_dim);
        gemm(
            &rows,
            right.right(),
            &Epilogue::default(),
            &mut turned[part.clone()],
        );
        let shift = &query.bias[head * head_dim..(head + 1) * head_dim];
        for (bias, k) in bias[own].iter_mut().zip(k.chunks_exact(head_dim)) {
            *bias = k.iter().zip(shift).map(|(k, b)| k * b).sum();
        }
        let v = head_of(values, inner, head, heads);
        let weight = &out.weight[head * head_dim * width..(head + 1) * head_dim * width];
        let right = Packed::for_isa(isa, Matrix::new(weight, head_dim, width));
        gemm(
            &Dense::new(&v, head_dim),
            right.right(),
            &Epilogue::default(),
            &mut outputs[part],
        );
    }
    let turned = Packed::for_isa(isa, Matrix::new(&turned, columns, width).transposed());
    let outputs = Packed::for_isa(isa, Matrix::new(&outputs, columns, width));
    let blocks = result.par_chunks_mut(ROWS * width).enumerate();
    blocks.for_each_init(
        || (Vec::new(), Vec::new()),
        |(scratch, scores), (block, result)| {
            let (first, count) = (block * ROWS, result.len() / width);
            scores.resize(count * columns, 0.0);
            let gather = |cell, part, out: &mut [f32]| cells.gather(first + cell, part, out);
            let epilogue = Epilogue {
                bias: Some(&bias),
                ..Epilogue::default()
            };
            multiply_rows(gather, turned.right(), &epilogue, scratch, scores);
            isa.run(
                #[inline(always)]
                |fma| grouped_softmax(fma, scores, columns, tokens),
            );
            let epilogue = Epilogue {
                bias: Some(out.bias),
                residual: Some(&cells.values[first * width..][..result.len()]),
                ..Epilogue::default()
            };
            let gather = |cell: usize, part: Range<usize>, out: &mut [f32]| {
                out.copy_from_slice(&scores[cell * columns..][part]);
            };
            multiply_rows(gather, outputs.right(), &epilogue, scratch, result);
            isa.run(
                #[inline(always)]
                |_| normalise_rows(result, norm.gamma, norm.beta, norm.epsilon),
            );
        },
    );
}

/// Softmax over every `group` neighbours of every row.
#[inline(always)]
fn grouped_softmax(fma: Fma, scores: &mut [f32], columns: usize, group: usize) {
    for row in scores.chunks_exact_mut(columns) {
        for group in row.chunks_exact_mut(group) {
            let largest = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            group.iter_mut().for_each(|score| *score -= largest);
        }
        row.iter_mut().for_each(|score| *score = exp(fma, *score));
        for group in row.chunks_exact_mut(group) {
            let scale = 1.0 / group.iter().sum::<f32>();
            group.iter_mut().for_each(|score| *score *= scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{close, values};

    fn project(x: &[f32], p: Projection<'_>) -> Vec<f32> {
        let (inputs, outputs) = (p.inputs(), p.outputs());
        let row = |x: &[f32]| -> Vec<f32> {
            let sum = |o: usize| {
                x.iter()
                    .enumerate()
                    .map(|(i, x)| x * p.weight[i * outputs + o])
                    .sum::<f32>()
            };
            (0..outputs).map(|o| p.bias[o] + sum(o)).collect()
        };
        x.chunks_exact(inputs).flat_map(row).collect()
    }

    /// Attention by the definition.
    fn attention(q: &[f32], k: &[f32], v: &[f32], inner: usize, heads: usize) -> Vec<f32> {
        let d = inner / heads;
        let mut out = vec![0.0; q.len()];
        for (q, out) in q.chunks_exact(inner).zip(out.chunks_exact_mut(inner)) {
            for head in 0..heads {
                let of = |row: &[f32]| row[head * d..(head + 1) * d].to_vec();
                let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
                let q = of(q);
                let scores = k
                    .chunks_exact(inner)
                    .map(|k| dot(&q, &of(k)) / (d as f32).sqrt());
                let weights: Vec<f32> = scores.map(f32::exp).collect();
                let sum: f32 = weights.iter().sum();
                for (w, v) in weights.iter().zip(v.chunks_exact(inner)) {
                    for (out, v) in out[head * d..(head + 1) * d].iter_mut().zip(of(v)) {
                        *out += w / sum * v;
                    }
                }
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn re_association_does_not_change_the_results(
            tokens in 1_usize..12, cells in 1_usize..900, heads in 1_usize..4, head_dim in 1_usize..6,
            wide in any::<bool>(), seed in 0_usize..99,
        ) {
            // Widths that fit the tiles and such that do not.
            let (inner, width) = (heads * head_dim, if wide { 32 } else { 13 });
            let x = values(cells * width, seed);
            let position = values(cells * width, seed + 1);
            let with_position: Vec<f32> = x.iter().zip(&position).map(|(a, b)| a + b).collect();
            let seen = Cells { values: &x, position: &position, width };
            let (wk, wv, b) = (values(width * inner, seed + 2), values(width * inner, seed + 3), values(inner, seed + 4));
            let key = Projection { weight: &wk, bias: &b };
            let value = Projection { weight: &wv, bias: &b };
            let q = values(tokens * inner, seed + 5);
            let expected = attention(&q, &project(&with_position, key), &project(&x, value), inner, heads);
            for isa in Isa::available() {
                let out = tokens_to_cells_for(isa, &q, seen, &wk, value, heads);
                prop_assert!(close(&out, &expected, 2e-5), "{isa:?}");
            }

            let (wo, bo) = (values(inner * width, seed + 6), values(width, seed + 7));
            let out = Projection { weight: &wo, bias: &bo };
            let v = values(tokens * inner, seed + 8);
            let attended = attention(&project(&with_position, key), &q, &v, inner, heads);
            let sum: Vec<f32> = project(&attended, out).iter().zip(&x).map(|(a, b)| a + b).collect();
            let (gamma, beta) = (values(width, seed + 9), values(width, seed + 10));
            let norm = Norm { gamma: &gamma, beta: &beta, epsilon: 1e-2 };
            let mut expected = vec![0.0; sum.len()];
            crate::layer_norm::layer_norm(&sum, &gamma, &beta, 1e-2, &mut expected);
            for isa in Isa::available() {
                let mut result = vec![f32::NAN; x.len()];
                cells_to_tokens_for(isa, seen, [&q, &v], [key, out], norm, heads, &mut result);
                prop_assert!(close(&result, &expected, 1e-4), "{isa:?}");
            }
        }
    }
}
