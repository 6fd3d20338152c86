//! The feed-forward block of a transformer: norm, expansion, activation, projection, residual.
//!
//! The expanded rows, four times as wide as the others, are made and used a block of rows at a time
//! and stay in the second-level cache.

use rayon::prelude::*;

use crate::activation::Activation;
use crate::gemm::{Dense, Epilogue, Layer, Normalised, Scratch as Rows, multiply};
use crate::layer_norm::Norm;

/// Rows of a task: a multiple of all tile heights. A block of 1280 expanded values takes 370 KB.
const BLOCK_ROWS: usize = 72;

/// A feed-forward block.
#[derive(Debug, Clone, Copy)]
pub struct FeedForward<'a> {
    /// Normalises the rows that are expanded.
    pub norm: Norm<'a>,
    /// The first layer.
    pub expand: Layer<'a>,
    /// Applied to its result.
    pub activation: Activation,
    /// The second layer.
    pub project: Layer<'a>,
}

impl FeedForward<'_> {
    /// `out = residual + project(activation(expand(norm(x))))`, all `[rows, width]`.
    ///
    /// # Panics
    /// When sizes do not match.
    pub fn forward(&self, x: &[f32], residual: &[f32], out: &mut [f32]) {
        let Self {
            norm,
            expand,
            activation,
            project,
        } = *self;
        let (width, hidden) = (expand.weight.depth(), expand.weight.columns());
        assert_eq!(
            (project.weight.depth(), project.weight.columns()),
            (hidden, width)
        );
        assert!(x.len() == out.len() && residual.len() == out.len());
        let expansion = Epilogue {
            bias: expand.bias,
            activation,
            residual: None,
        };
        let rows = project.weight.block_rows(BLOCK_ROWS);
        let block = expand.weight.block_rows(rows) * width;
        out.par_chunks_mut(block)
            .zip(x.par_chunks(block).zip(residual.par_chunks(block)))
            .for_each_init(Scratch::default, |scratch, (out, (x, residual))| {
                let Scratch { rows, expanded } = scratch;
                expanded.resize(x.len() / width * hidden, 0.0);
                let x = Normalised::new(x, norm);
                multiply(&x, 0, expand.weight, &expansion, rows, expanded);
                let projection = Epilogue {
                    bias: project.bias,
                    activation: Activation::default(),
                    residual: Some(residual),
                };
                let expanded = Dense::new(expanded, hidden);
                multiply(&expanded, 0, project.weight, &projection, rows, out);
            });
    }
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    rows: Rows,
    expanded: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::{Matrix, Packed, linear};
    use crate::layer_norm::layer_norm;
    use crate::testing::{close, values};

    #[test]
    fn it_is_norm_and_two_products() {
        for (rows, width, hidden) in [(1, 3, 5), (100, 16, 40), (200, 33, 129), (7, 20, 900)] {
            let x = values(rows * width, 1);
            let residual = values(rows * width, 8);
            let (gamma, beta) = (values(width, 2), values(width, 3));
            let (first, second) = (values(width * hidden, 4), values(hidden * width, 5));
            let (first_bias, second_bias) = (values(hidden, 6), values(width, 7));
            let mut normed = vec![0.0; x.len()];
            layer_norm(&x, &gamma, &beta, 1e-6, &mut normed);
            let mut expanded = vec![0.0; rows * hidden];
            let expansion = Epilogue {
                bias: Some(&first_bias),
                activation: Activation::Gelu,
                residual: None,
            };
            linear(&normed, &first, [width, hidden], &expansion, &mut expanded);
            let mut expected = vec![0.0; x.len()];
            let projection = Epilogue {
                bias: Some(&second_bias),
                residual: Some(&residual),
                ..Epilogue::default()
            };
            linear(
                &expanded,
                &second,
                [hidden, width],
                &projection,
                &mut expected,
            );

            let first = Packed::new(Matrix::new(&first, width, hidden));
            let second = Packed::new(Matrix::new(&second, hidden, width));
            let block = FeedForward {
                norm: Norm {
                    gamma: &gamma,
                    beta: &beta,
                    epsilon: 1e-6,
                },
                expand: Layer {
                    weight: first.right(),
                    bias: Some(&first_bias),
                },
                activation: Activation::Gelu,
                project: Layer {
                    weight: second.right(),
                    bias: Some(&second_bias),
                },
            };
            let mut out = vec![f32::NAN; x.len()];
            block.forward(&x, &residual, &mut out);
            assert!(close(&out, &expected, 1e-5), "{rows} × {width} × {hidden}");
        }
    }
}
