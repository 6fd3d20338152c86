//! Activations, and the gradients of rectifiers and biases.

use pulp::Simd;
use rayon::prelude::*;

use crate::isa::{Fma, Isa, Kernel};
use crate::math::{gelu_lanes, rough_gelu_lanes};
use crate::precision::Precision;
use crate::{add_in_order, rows_per_part};

/// What follows a linear map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rectifier {
    /// The value as it is.
    Identity,
    /// max(0, x).
    Relu,
}

/// What may follow a product.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// A rectifier, or nothing.
    Rectifier(Rectifier),
    /// x · Φ(x) with the exact error function, see [`gelu_in_place`](crate::math::gelu_in_place).
    Gelu,
    /// The same with an error of at most 1e-4, for what is rounded to bf16.
    RoughGelu,
}

impl Default for Activation {
    fn default() -> Self {
        Self::Rectifier(Rectifier::Identity)
    }
}

impl Activation {
    /// A GELU that is as exact as these numbers.
    pub fn gelu(precision: Precision) -> Self {
        match precision {
            Precision::Fp32 => Self::Gelu,
            Precision::Bf16 | Precision::Int8 => Self::RoughGelu,
        }
    }

    /// The activation in every lane of a register. A rectifier keeps what is no number.
    #[inline(always)]
    pub(crate) fn apply_lanes<S: Simd>(self, simd: S, fma: Fma, x: S::f32s) -> S::f32s {
        let zero = simd.splat_f32s(0.0);
        match self {
            Self::Rectifier(Rectifier::Identity) => x,
            Self::Rectifier(Rectifier::Relu) => simd.max_f32s(zero, x),
            Self::Gelu => gelu_lanes(simd, fma, x),
            Self::RoughGelu => rough_gelu_lanes(simd, fma, x),
        }
    }
}

/// Applies an activation to every value, in place, on one thread.
pub(crate) struct Activate<'a>(pub(crate) Activation, pub(crate) &'a mut [f32]);

impl Kernel for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S, fma: Fma) {
        let Self(activation, values) = self;
        let (values, rest) = S::as_mut_simd_f32s(values);
        for x in values {
            *x = activation.apply_lanes(simd, fma, *x);
        }
        let last = activation.apply_lanes(simd, fma, simd.partial_load_f32s(rest));
        simd.partial_store_f32s(rest, last);
    }
}

/// Values handled by one task: enough to outweigh its start, small enough for the cache.
const TASK: usize = 1 << 15;

/// Gradient through a rectifier: keeps `gradient` where the output `y` lies strictly inside the
/// rectifier's range, zero elsewhere.
pub fn rectifier_backward(gradient: &mut [f32], y: &[f32], rectifier: Rectifier) {
    if rectifier == Rectifier::Identity {
        return;
    }
    gradient
        .par_chunks_mut(TASK)
        .zip(y.par_chunks(TASK))
        .for_each(|(gradient, y)| {
            Isa::best().run(
                #[inline(always)]
                |_| mask_outside(gradient, y),
            );
        });
}

#[inline(always)]
fn mask_outside(gradient: &mut [f32], y: &[f32]) {
    for (g, &y) in gradient.iter_mut().zip(y) {
        *g = if y > 0.0 { *g } else { 0.0 };
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
        Isa::best().run(
            #[inline(always)]
            |_| add_rows(&mut sum, rows),
        );
        sum
    });
    add_in_order(parts.collect())
}

#[inline(always)]
fn add_rows(sum: &mut [f32], rows: &[f32]) {
    for row in rows.chunks_exact(sum.len().max(1)) {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies a rectifier to every value.
    struct Apply([f32; 6], Rectifier);

    impl Kernel for Apply {
        type Output = [f32; 6];

        #[inline(always)]
        fn run<S: Simd>(self, simd: S, fma: Fma) -> [f32; 6] {
            let Self(mut values, rectifier) = self;
            for x in &mut values {
                let mut lanes = [0.0_f32; 16];
                let y = simd.splat_f32s(*x);
                let y = Activation::Rectifier(rectifier).apply_lanes(simd, fma, y);
                S::as_mut_simd_f32s(&mut lanes).0[0] = y;
                *x = lanes[0];
            }
            values
        }
    }

    #[test]
    fn activations_and_their_gradients() {
        let x = [-0.75, 0.25, 3.25, 6.75, -0.25, 0.0];
        let forward = |rectifier| Isa::best().dispatch(Apply(x, rectifier));
        assert_eq!(forward(Rectifier::Identity), x);
        assert_eq!(forward(Rectifier::Relu), [0.0, 0.25, 3.25, 6.75, 0.0, 0.0]);
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
        assert_eq!(sum_rows(&x, 2), [2.25, 7.0]);
    }
}
