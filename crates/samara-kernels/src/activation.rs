//! Bias and rectifiers over the rows of a matrix, and their gradients.

use multiversion::multiversion;
use rayon::prelude::*;

use crate::isa::Fma;
use crate::math::gelu;
use crate::{add_in_order, rows_per_part};

/// What follows a linear map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rectifier {
    /// The value as it is.
    Identity,
    /// max(0, x).
    Relu,
    /// min(max(0, x), 6).
    Relu6,
}

impl Rectifier {
    /// The range that passes through unchanged.
    #[inline(always)]
    pub(crate) fn range(self) -> (f32, f32) {
        match self {
            Self::Identity => (f32::NEG_INFINITY, f32::INFINITY),
            Self::Relu => (0.0, f32::INFINITY),
            Self::Relu6 => (0.0, 6.0),
        }
    }
}

/// What may follow a product.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// A rectifier, or nothing.
    Rectifier(Rectifier),
    /// x · Φ(x) with the exact error function, see [`math::gelu`](crate::math).
    Gelu,
}

impl Default for Activation {
    fn default() -> Self {
        Self::Rectifier(Rectifier::Identity)
    }
}

impl Activation {
    #[inline(always)]
    pub(crate) fn apply<const N: usize>(self, fma: Fma, values: &mut [f32; N]) {
        match self {
            Self::Rectifier(Rectifier::Identity) => {}
            Self::Rectifier(Rectifier::Relu) => values.iter_mut().for_each(|x| *x = x.max(0.0)),
            Self::Rectifier(Rectifier::Relu6) => {
                values.iter_mut().for_each(|x| *x = x.clamp(0.0, 6.0));
            }
            Self::Gelu => values.iter_mut().for_each(|x| *x = gelu(fma, *x)),
        }
    }
}

/// Values handled by one task: enough to outweigh its start, small enough for the cache.
const TASK: usize = 1 << 15;

fn rows_of_task(columns: usize) -> usize {
    (TASK / columns.max(1)).max(1) * columns.max(1)
}

/// Adds `bias` to every row of `x` and applies `rectifier`, in place.
///
/// A NaN becomes 0 with [`Rectifier::Relu`], as `f32::max` has it, and stays a NaN otherwise.
pub fn add_bias(x: &mut [f32], bias: &[f32], rectifier: Rectifier) {
    debug_assert!(bias.is_empty() || x.len().is_multiple_of(bias.len()));
    x.par_chunks_mut(rows_of_task(bias.len()))
        .for_each(|rows| add_bias_rows(rows, bias, rectifier));
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma", "aarch64+neon"))]
fn add_bias_rows(rows: &mut [f32], bias: &[f32], rectifier: Rectifier) {
    for row in rows.chunks_exact_mut(bias.len().max(1)) {
        match rectifier {
            Rectifier::Identity => row.iter_mut().zip(bias).for_each(|(x, b)| *x += b),
            Rectifier::Relu => row
                .iter_mut()
                .zip(bias)
                .for_each(|(x, b)| *x = (*x + b).max(0.0)),
            Rectifier::Relu6 => row
                .iter_mut()
                .zip(bias)
                .for_each(|(x, b)| *x = (*x + b).clamp(0.0, 6.0)),
        }
    }
}

/// Gradient through a rectifier: keeps `gradient` where the output `y` lies strictly inside the
/// rectifier's range, zero elsewhere.
pub fn rectifier_backward(gradient: &mut [f32], y: &[f32], rectifier: Rectifier) {
    if rectifier == Rectifier::Identity {
        return;
    }
    let (low, high) = rectifier.range();
    gradient
        .par_chunks_mut(TASK)
        .zip(y.par_chunks(TASK))
        .for_each(|(gradient, y)| mask_outside(gradient, y, low, high));
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma", "aarch64+neon"))]
fn mask_outside(gradient: &mut [f32], y: &[f32], low: f32, high: f32) {
    for (g, &y) in gradient.iter_mut().zip(y) {
        *g = if y > low && y < high { *g } else { 0.0 };
    }
}

/// Sum of the rows of `x`: the gradient of a bias.
pub fn sum_rows(x: &[f32], columns: usize) -> Vec<f32> {
    if x.is_empty() || columns == 0 {
        return vec![0.0; columns];
    }
    let parts = x.par_chunks(rows_per_part(x.len() / columns) * columns);
    let parts = parts.map(|rows| {
        let mut sum = vec![0.0; columns];
        add_rows(&mut sum, rows);
        sum
    });
    add_in_order(parts.collect())
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma", "aarch64+neon"))]
fn add_rows(sum: &mut [f32], rows: &[f32]) {
    for row in rows.chunks_exact(sum.len().max(1)) {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bias_and_rectifier_and_their_gradients() {
        let x = [-1.0, 0.5, 3.0, 7.0, -0.5, 0.0];
        let bias = [0.25, -0.25];
        let forward = |rectifier| {
            let mut y = x;
            add_bias(&mut y, &bias, rectifier);
            y
        };
        assert_eq!(
            forward(Rectifier::Identity),
            [-0.75, 0.25, 3.25, 6.75, -0.25, -0.25]
        );
        assert_eq!(forward(Rectifier::Relu), [0.0, 0.25, 3.25, 6.75, 0.0, 0.0]);
        assert_eq!(forward(Rectifier::Relu6), [0.0, 0.25, 3.25, 6.0, 0.0, 0.0]);
        let backward = |rectifier| {
            let mut g = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
            rectifier_backward(&mut g, &forward(rectifier), rectifier);
            g
        };
        assert_eq!(
            backward(Rectifier::Identity),
            [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        );
        assert_eq!(backward(Rectifier::Relu), [0.0, 2.0, 3.0, 4.0, 0.0, 0.0]);
        assert_eq!(backward(Rectifier::Relu6), [0.0, 2.0, 3.0, 0.0, 0.0, 0.0]);
        assert_eq!(sum_rows(&x, 2), [1.5, 7.5]);
    }
}
