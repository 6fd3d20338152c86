//! Attention between few prompt tokens and many image tokens, without projecting the image tokens.
//!
//! In multi-head attention the projections can be moved to the side with few rows: the scores
//! `q_h · (x W_h)ᵀ` are `(q_h W_hᵀ) · xᵀ`, and the results `P_h (x V_h)` are `(P_h x) V_h`. With 7
//! tokens and 4 096 image tokens this is a quarter of the work, and it is the same number up to rounding.
//! A constant that is the same for all keys of a query does not change a softmax, so the bias of
//! the key projection drops out; the weights of a softmax add up to 1, so the bias of the value
//! projection is added once.
//!
//! The heads of few rows are multiplied at once, each in a row of its own with zeros for the others: eight
//! times the products, of which there are few, instead of a weight that has to be packed head by head.

mod image_to_tokens;
mod tokens_to_image;

use std::ops::Range;

use crate::gemm::{Dense, Epilogue, Format, Matrix, Panels, Rows, Scratch, Side, multiply};
use crate::isa::Isa;

pub use image_to_tokens::ImageToTokens;
pub use tokens_to_image::TokensToImage;

/// Rows that are gathered at once for a product.
const ROWS: usize = 96;

/// Image tokens: what prompts attend to.
#[derive(Debug, Clone, Copy)]
pub struct ImageTokens<'a> {
    /// `[image tokens, width]`.
    pub values: &'a [f32],
    /// Added to the image tokens for the scores, in the same shape.
    pub position: &'a [f32],
    /// Width of an image token.
    pub width: usize,
}

impl ImageTokens<'_> {
    fn count(&self) -> usize {
        self.values.len() / self.width
    }

    /// Token and position of the values `range` of an image token.
    fn gather(&self, token: usize, range: Range<usize>, out: &mut [f32]) {
        let start = token * self.width;
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

    /// The weight as the right side of a product with few rows: where it is, or packed.
    fn multiply(&self, isa: Isa, rows: &[f32], epilogue: &Epilogue<'_>) -> Vec<f32> {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let rows = Dense::new(rows, inputs);
        let product = |right| product(&rows, right, epilogue);
        if let Some(right) = Side::in_place(isa, self.weight, inputs, outputs) {
            return product(right);
        }
        let weight = Matrix::new(self.weight, inputs, outputs);
        product(Panels::new(isa, weight).side())
    }
}

/// A product on this thread.
fn product(rows: &Dense<'_>, right: Side<'_>, epilogue: &Epilogue<'_>) -> Vec<f32> {
    let mut out = vec![0.0; rows.count() * right.columns()];
    multiply(
        rows,
        0,
        right.into(),
        epilogue,
        &mut Scratch::default(),
        &mut out,
    );
    out
}

/// Projected tokens `[tokens, inner]` with every head in a row of its own, and zeros for the others:
/// `[tokens · heads, inner]`, times `scale`. The heads of a token are neighbours.
fn heads_apart(tokens: &[f32], [inner, heads]: [usize; 2], scale: f32) -> Vec<f32> {
    let head_dim = inner / heads;
    let mut rows = vec![0.0; tokens.len() * heads];
    let parts = tokens.chunks_exact(head_dim).enumerate();
    for ((i, part), row) in parts.zip(rows.chunks_exact_mut(inner)) {
        let row = &mut row[i % heads * head_dim..][..head_dim];
        row.iter_mut()
            .zip(part)
            .for_each(|(x, part)| *x = part * scale);
    }
    rows
}

/// [`heads_apart`] as the right side of a product, `[inner, tokens · heads]`.
fn heads_apart_as_right<F: Format>(
    isa: Isa,
    tokens: &[f32],
    [inner, heads]: [usize; 2],
) -> Panels<F> {
    let scale = ((inner / heads) as f32).powf(-0.5);
    let rows = heads_apart(tokens, [inner, heads], scale);
    let rows = Matrix::new(&rows, rows.len() / inner, inner);
    Panels::new(isa, rows.transposed())
}

/// The same in the space of the image tokens: `[inputs of layer, tokens · heads]`, and what the layer's bias adds.
fn in_image_space<F: Format>(layer: Projection<'_>, right: &Panels) -> (Panels<F>, Vec<f32>) {
    let transpose = |rows| {
        product(
            &Dense::new(rows, layer.outputs()),
            right.side(),
            &Epilogue::default(),
        )
    };
    let (transposed, bias) = (transpose(layer.weight), transpose(layer.bias));
    let transposed = Matrix::new(&transposed, layer.inputs(), right.columns());
    (Panels::new(right.side().isa(), transposed), bias)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layer_norm::{Norm, layer_norm};
    use crate::precision::Precision;
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

    /// All instruction sets and precisions, and how far their results may be off.
    fn all_ways(fp32: f32) -> impl Iterator<Item = (Isa, (Precision, f32))> {
        let precisions = [(Precision::Fp32, fp32), (Precision::Bf16, 0.1)];
        let with_precisions = move |isa| precisions.map(|precision| (isa, precision));
        Isa::available().into_iter().flat_map(with_precisions)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn re_association_does_not_change_the_results(
            tokens in 1_usize..12, image in 1_usize..900, heads in 1_usize..4, head_dim in 1_usize..6,
            wide in any::<bool>(), seed in 0_usize..99,
        ) {
            // Widths that fit the tiles and such that do not.
            let (inner, width) = (heads * head_dim, if wide { 32 } else { 13 });
            let x = values(image * width, seed);
            let position = values(image * width, seed + 1);
            let with_position: Vec<f32> = x.iter().zip(&position).map(|(a, b)| a + b).collect();
            let seen = ImageTokens { values: &x, position: &position, width };
            let (wk, wv, b) = (values(width * inner, seed + 2), values(width * inner, seed + 3), values(inner, seed + 4));
            let key = Projection { weight: &wk, bias: &b };
            let value = Projection { weight: &wv, bias: &b };
            let q = values(tokens * inner, seed + 5);
            let expected = attention(&q, &project(&with_position, key), &project(&x, value), inner, heads);
            for (isa, (precision, tolerance)) in all_ways(2e-5) {
                let mut out = vec![f32::NAN; q.len()];
                TokensToImage { key, value, heads, precision }.forward_for(isa, &q, seen, &mut out);
                prop_assert!(close(&out, &expected, tolerance), "{isa:?} {precision:?}");
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
            for (isa, (precision, tolerance)) in all_ways(1e-4) {
                let attention = ImageToTokens { query: key, output: out, norm, heads, precision };
                let mut result = vec![f32::NAN; x.len()];
                attention.forward_for(isa, seen, [&q, &v], &mut result);
                prop_assert!(close(&result, &expected, tolerance), "{isa:?} {precision:?}");
                let queries = project(&with_position, key);
                attention.forward_projected_for(isa, [&x, &queries], [&q, &v], &mut result);
                prop_assert!(close(&result, &expected, tolerance), "{isa:?} {precision:?}, projected");
            }
        }
    }
}
