//! Attention between few tokens and many image cells, without projecting the cells.
//!
//! In multi-head attention the projections can be moved to the side with few rows: the scores
//! `q_h · (x W_h)ᵀ` are `(q_h W_hᵀ) · xᵀ`, and the results `P_h (x V_h)` are `(P_h x) V_h`. With 7
//! tokens and 4 096 cells this is a quarter of the work, and it is the same number up to rounding.
//! A constant that is the same for all keys of a query does not change a softmax, so the bias of
//! the key projection drops out; the weights of a softmax add up to 1, so the bias of the value
//! projection is added once.

mod cells_to_tokens;
mod tokens_to_cells;

use std::ops::Range;

use crate::gemm::{Matrix, Packed};
use crate::isa::Isa;

pub use cells_to_tokens::CellsToTokens;
pub use tokens_to_cells::TokensToCells;

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
    fn gather(&self, cell: usize, range: Range<usize>, out: &mut [f32]) {
        let start = cell * self.width;
        let range = start + range.start..start + range.end;
        let (values, position) = (&self.values[range.clone()], &self.position[range]);
        Isa::best().run(
            #[inline(always)]
            |_| {
                for (out, (value, position)) in out.iter_mut().zip(values.iter().zip(position)) {
                    *out = value + position;
                }
            },
        );
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

    /// `[inputs, head_dim]` of every head, when the outputs are those of the heads.
    fn heads_of_outputs(&self, heads: usize) -> impl Iterator<Item = Matrix<'_>> {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let head = outputs / heads;
        (0..heads).map(move |i| Matrix::strided(&self.weight[i * head..], inputs, head, outputs))
    }

    /// `[head_dim, outputs]` of every head, when the inputs are those of the heads.
    fn heads_of_inputs(&self, heads: usize) -> impl Iterator<Item = Matrix<'_>> {
        let (head, outputs) = (self.inputs() / heads, self.outputs());
        let parts = self.weight.chunks_exact(head * outputs);
        parts.map(move |part| Matrix::new(part, head, outputs))
    }
}

/// The right sides of products of every head.
fn packed<'a>(isa: Isa, heads: impl Iterator<Item = Matrix<'a>>) -> Vec<Packed> {
    heads.map(|head| Packed::for_isa(isa, head)).collect()
}

/// The part of head `index` of every row.
fn head_of(rows: &[f32], width: usize, index: usize, heads: usize) -> Vec<f32> {
    let part = width / heads;
    let rows = rows
        .chunks_exact(width)
        .flat_map(|row| &row[index * part..(index + 1) * part]);
    rows.copied().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layer_norm::{Norm, layer_norm};
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
                let mut out = vec![f32::NAN; q.len()];
                TokensToCells::for_isa(isa, key, value, heads).forward(&q, seen, &mut out);
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
            layer_norm(&sum, &gamma, &beta, 1e-2, &mut expected);
            for isa in Isa::available() {
                let mut result = vec![f32::NAN; x.len()];
                CellsToTokens::for_isa(isa, key, out, norm, heads).forward(seen, [&q, &v], &mut result);
                prop_assert!(close(&result, &expected, 1e-4), "{isa:?}");
                let attention = CellsToTokens::for_isa(isa, key, out, norm, heads);
                let queries = project(&with_position, key);
                attention.forward_projected(&x, &queries, [&q, &v], &mut result);
                prop_assert!(close(&result, &expected, 1e-4), "{isa:?}, projected");
            }
        }
    }
}
