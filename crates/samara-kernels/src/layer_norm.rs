//! Layer norm over the last axis, and its gradient.

use std::ops::Range;

use rayon::prelude::*;

use crate::isa::Isa;
use crate::{add_in_order, rows_per_part};

/// Rows handled by one task.
const ROWS: usize = 64;

/// `(x − mean) / sqrt(variance + epsilon) · gamma + beta` for every row of `gamma.len()` values.
pub fn layer_norm(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32, out: &mut [f32]) {
    let columns = gamma.len().max(1);
    let norm = Norm {
        gamma,
        beta,
        epsilon,
    };
    out.par_chunks_mut(ROWS * columns)
        .zip(x.par_chunks(ROWS * columns))
        .for_each(|(out, x)| {
            out.copy_from_slice(x);
            Isa::best().run(
                #[inline(always)]
                |_| norm.rows(out),
            );
        });
}

/// A layer norm, for kernels that normalise on their way.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// Scale.
    pub gamma: &'a [f32],
    /// Shift, as long.
    pub beta: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
}

impl Norm<'_> {
    /// The values `range` of a normalised row.
    pub(crate) fn row(&self, x: &[f32], range: Range<usize>, out: &mut [f32]) {
        Isa::best().run(
            #[inline(always)]
            |_| {
                out.copy_from_slice(&x[range.clone()]);
                self.apply(moments(x, self.epsilon), range, out);
            },
        );
    }

    /// Normalises every row in place.
    #[inline(always)]
    pub(crate) fn rows(&self, x: &mut [f32]) {
        let columns = self.gamma.len();
        for x in x.chunks_exact_mut(columns.max(1)) {
            self.apply(moments(x, self.epsilon), 0..columns, x);
        }
    }

    /// Normalises the values `range` of a row with this mean and inverse standard deviation.
    #[inline(always)]
    fn apply(&self, (mean, inverse): (f32, f32), range: Range<usize>, x: &mut [f32]) {
        let parameters = self.gamma[range.clone()].iter().zip(&self.beta[range]);
        for (x, (gamma, beta)) in x.iter_mut().zip(parameters) {
            *x = (*x - mean) * inverse * gamma + beta;
        }
    }
}

/// Partial sums of a row: enough registers of them to hide the latency of an addition, and rounding
/// errors stay small.
const LANES: usize = 32;

/// The sum of a row's terms.
#[inline(always)]
fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += term(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += term(x);
    }
    total(lanes)
}

/// The sum of the lanes, half with half.
#[inline(always)]
fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        let (first, second) = lanes.split_at_mut(half);
        first.iter_mut().zip(second).for_each(|(a, b)| *a += *b);
        half /= 2;
    }
    lanes[0]
}

/// Mean and inverse standard deviation of a row.
#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = sum(x, |x| x) / count;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / count;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// Gradients of [`layer_norm`] with respect to its input, `gamma` and `beta`.
#[derive(Debug)]
pub struct LayerNormGradients {
    /// With respect to the input, in its shape.
    pub x: Vec<f32>,
    /// With respect to the scale.
    pub gamma: Vec<f32>,
    /// With respect to the shift.
    pub beta: Vec<f32>,
}

/// The gradient of [`layer_norm`], given that of its output.
pub fn layer_norm_backward(
    x: &[f32],
    gamma: &[f32],
    epsilon: f32,
    gradient: &[f32],
) -> LayerNormGradients {
    let columns = gamma.len().max(1);
    let mut dx = vec![0.0; x.len()];
    let part = rows_per_part(x.len() / columns) * columns;
    let parts = dx
        .par_chunks_mut(part)
        .zip(x.par_chunks(part))
        .zip(gradient.par_chunks(part));
    let parts = parts.map(|((dx, x), gradient)| {
        let (mut dgamma, mut dbeta) = (vec![0.0; columns], vec![0.0; columns]);
        Isa::best().run(
            #[inline(always)]
            |_| backward_rows(x, gamma, epsilon, gradient, dx, &mut dgamma, &mut dbeta),
        );
        (dgamma, dbeta)
    });
    let (dgamma, dbeta): (Vec<_>, Vec<_>) = parts.collect();
    let (dgamma, dbeta) = (add_in_order(dgamma), add_in_order(dbeta));
    LayerNormGradients {
        x: dx,
        gamma: dgamma,
        beta: dbeta,
    }
}

#[inline(always)]
fn backward_rows(
    x: &[f32],
    gamma: &[f32],
    epsilon: f32,
    gradient: &[f32],
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let columns = gamma.len().max(1);
    let rows = x.chunks_exact(columns).zip(gradient.chunks_exact(columns));
    for ((x, gradient), dx) in rows.zip(dx.chunks_exact_mut(columns)) {
        let (mean, inverse) = moments(x, epsilon);
        // dx holds the gradient of the normalised value until the two means are known.
        for i in 0..columns {
            let normed = (x[i] - mean) * inverse;
            dgamma[i] += gradient[i] * normed;
            dbeta[i] += gradient[i];
            dx[i] = gradient[i] * gamma[i];
        }
        let count = columns as f32;
        let mean_gradient = sum(dx, |g| g) / count;
        let mut lanes = [0.0_f32; 8];
        for i in 0..columns {
            lanes[i % 8] += dx[i] * (x[i] - mean) * inverse;
        }
        let mean_product = lanes.iter().sum::<f32>() / count;
        for i in 0..columns {
            let normed = (x[i] - mean) * inverse;
            dx[i] = inverse * (dx[i] - mean_gradient - normed * mean_product);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn oracle(x: &[f64], gamma: &[f64], beta: &[f64], epsilon: f64) -> Vec<f64> {
        let n = gamma.len();
        let mut out = Vec::new();
        for row in x.chunks_exact(n) {
            let mean = row.iter().sum::<f64>() / n as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
            for i in 0..n {
                out.push((row[i] - mean) / (variance + epsilon).sqrt() * gamma[i] + beta[i]);
            }
        }
        out
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().copied().map(f64::from).collect()
    }

    proptest! {
        #[test]
        fn forward_and_gradient_follow_the_oracle(
            columns in 1_usize..37,
            rows in 1_usize..70,
            seed in 0_u32..1000,
        ) {
            let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) as f32
                / u32::MAX as f32 - 0.5;
            let x: Vec<f32> = (0..rows * columns).map(value).collect();
            let gamma: Vec<f32> = (0..columns).map(|i| 1.0 + value(i + 7)).collect();
            let beta: Vec<f32> = (0..columns).map(|i| value(i + 99)).collect();
            let gradient: Vec<f32> = (0..rows * columns).map(|i| value(i + 1234)).collect();
            let epsilon = 1e-2;
            let mut out = vec![0.0; x.len()];
            layer_norm(&x, &gamma, &beta, epsilon, &mut out);
            let expected = oracle(&wide(&x), &wide(&gamma), &wide(&beta), f64::from(epsilon));
            for (a, b) in out.iter().zip(&expected) {
                prop_assert!((f64::from(*a) - b).abs() < 1e-5);
            }
            // The gradient of Σ out · gradient by central differences, at a few places.
            let loss = |x: &[f64], gamma: &[f64], beta: &[f64]| -> f64 {
                oracle(x, gamma, beta, f64::from(epsilon)).iter().zip(&gradient)
                    .map(|(o, g)| o * f64::from(*g)).sum()
            };
            let actual = layer_norm_backward(&x, &gamma, epsilon, &gradient);
            let step = 1e-5;
            let slope = |which: usize, i: usize| {
                let at = |delta: f64| {
                    let mut p = [wide(&x), wide(&gamma), wide(&beta)];
                    p[which][i] += delta;
                    loss(&p[0], &p[1], &p[2])
                };
                (at(step) - at(-step)) / (2.0 * step)
            };
            let last = x.len() - 1;
            prop_assert!((slope(0, 0) - f64::from(actual.x[0])).abs() < 1e-3);
            prop_assert!((slope(0, last) - f64::from(actual.x[last])).abs() < 1e-3);
            prop_assert!((slope(1, columns - 1) - f64::from(actual.gamma[columns - 1])).abs() < 1e-3);
            prop_assert!((slope(2, 0) - f64::from(actual.beta[0])).abs() < 1e-3);
        }
    }
}
