//! Functions of one number, without branches, so that a loop over them becomes vector code.

use std::f32::consts::LOG2_E;

use pulp::Simd;
use rayon::prelude::*;

use crate::isa::{Fma, Isa, Kernel};

/// Values handled by one task: enough to outweigh its start, small enough for the cache.
const TASK: usize = 1 << 14;

/// Beyond this, Φ(x) is 0 or 1 in `f32`.
const NORMAL_END: f32 = 5.6;
/// erf(x / √2) = x · P(x²) / Q(x²) on ±[`NORMAL_END`], the highest power first: a rational minimax
/// fit with an error of 2e-8. Beyond, P / Q stays what it is there, and the limit of 1 does the rest.
const ERF_P: [f32; 6] = [
    4.428_822_5e-8,
    1.271_207_5e-5,
    3.476_668_2e-4,
    9.414_309e-3,
    6.874_966e-2,
    7.978_844_6e-1,
];
const ERF_Q: [f32; 6] = [
    1.180_139_3e-6,
    7.509_43e-5,
    1.912_884_5e-3,
    2.893_928_6e-2,
    2.528_306_2e-1,
    1.0,
];

/// 1 / √2π: the density of the normal distribution at 0.
const DENSITY: f32 = 0.398_942_3;

/// x · Φ(x) in every lane of a register, with an error of at most 4e-7 · |x| against the exact
/// function.
#[inline(always)]
pub(crate) fn gelu_lanes<S: Simd>(simd: S, fma: Fma, x: S::f32s) -> S::f32s {
    let half = simd.mul_f32s(simd.splat_f32s(0.5), x);
    fma.multiply_add_lanes(simd, half, erf_lanes(simd, fma, x), half)
}

/// Beyond this, [`rough_gelu_lanes`] takes Φ(x) for 0 or 1.
const ROUGH_END: f32 = 4.2;
/// erf(x / √2) = x · P(x²) on ±[`ROUGH_END`], the highest power first: the minimax fit of what becomes of it in
/// [`rough_gelu_lanes`].
const ROUGH_ERF: [f32; 8] = [
    -1.922_624_7e-9,
    1.665_961_7e-7,
    -6.279_742_6e-6,
    1.365_322_7e-4,
    -1.921_519_9e-3,
    1.867_491_5e-2,
    -1.311_987_5e-1,
    7.970_175e-1,
];

/// x · Φ(x) in every lane of a register, with an error of at most 1e-4: half the time of [`gelu_lanes`], for
/// what is rounded to bf16.
#[inline(always)]
pub(crate) fn rough_gelu_lanes<S: Simd>(simd: S, fma: Fma, x: S::f32s) -> S::f32s {
    let half = simd.mul_f32s(simd.splat_f32s(0.5), x);
    let end = simd.splat_f32s(ROUGH_END * ROUGH_END);
    let t = simd.min_f32s(end, simd.mul_f32s(x, x));
    let erf = simd.mul_f32s(x, polynomial(simd, fma, t, &ROUGH_ERF));
    fma.multiply_add_lanes(simd, half, within(simd, erf, 1.0), half)
}

/// The derivative of [`gelu_lanes`], Φ(x) + x · φ(x), with an error of at most 1e-6.
#[inline(always)]
fn gelu_slope_lanes<S: Simd>(simd: S, fma: Fma, x: S::f32s) -> S::f32s {
    let half = simd.splat_f32s(0.5);
    let below = fma.multiply_add_lanes(simd, half, erf_lanes(simd, fma, x), half);
    let exponent = simd.mul_f32s(simd.mul_f32s(x, x), simd.splat_f32s(-0.5));
    let density = simd.mul_f32s(exp_lanes(simd, fma, exponent), simd.splat_f32s(DENSITY));
    fma.multiply_add_lanes(simd, x, density, below)
}

/// erf(x / √2) in every lane of a register.
#[inline(always)]
fn erf_lanes<S: Simd>(simd: S, fma: Fma, x: S::f32s) -> S::f32s {
    let t = simd.min_f32s(
        simd.splat_f32s(NORMAL_END * NORMAL_END),
        simd.mul_f32s(x, x),
    );
    let (p, q) = (
        polynomial(simd, fma, t, &ERF_P),
        polynomial(simd, fma, t, &ERF_Q),
    );
    within(simd, simd.div_f32s(simd.mul_f32s(x, p), q), 1.0)
}

/// Limits every lane to ±`end`. What is no number stays none, as it is the second operand.
#[inline(always)]
fn within<S: Simd>(simd: S, x: S::f32s, end: f32) -> S::f32s {
    simd.min_f32s(
        simd.splat_f32s(end),
        simd.max_f32s(simd.splat_f32s(-end), x),
    )
}

/// [`Fma::polynomial`] in every lane.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(
    simd: S,
    fma: Fma,
    x: S::f32s,
    coefficients: &[f32; N],
) -> S::f32s {
    let mut sum = simd.splat_f32s(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        sum = fma.multiply_add_lanes(simd, sum, x, simd.splat_f32s(coefficient));
    }
    sum
}

/// ln 2 in two parts, the first of which has few bits, so that n times it is exact.
const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
/// Adding it leaves an integer in the low bits.
const ROUND: f32 = 12_582_912.0;
/// 1/6! … 1/0!, with the last places moved for the least largest error on ±ln 2 / 2.
const EXP: [f32; 7] = [
    1.388_888_9e-3,
    8.333_334e-3,
    4.166_666_7e-2,
    1.666_666_7e-1,
    0.5,
    1.0,
    1.0,
];
/// Here the exponent's bits, and with them the result, are 0.
const EXP_END: f32 = -88.0;
/// The bits of 1.0.
const ONE: u32 = 0x3f80_0000;
/// Bits of the fraction of an `f32`.
const FRACTION: u32 = 23;

/// exp(x) for x ≤ 88, with a relative error of at most 3e-7; 0 below −87.7.
///
/// 2ⁿ · eʳ with n the integer nearest to x / ln 2: the exponent is put together from bits.
#[inline(always)]
pub(crate) fn exp(fma: Fma, x: f32) -> f32 {
    // The comparison keeps what is no number.
    let clamped = if x < EXP_END { EXP_END } else { x };
    let shifted = fma.multiply_add(clamped, LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma.multiply_add(n, -LN_2.1, fma.multiply_add(n, -LN_2.0, clamped));
    let power = f32::from_bits((shifted.to_bits() << FRACTION).wrapping_add(ONE));
    fma.polynomial(r, &EXP) * power
}

/// [`exp`] in every lane of a register.
#[inline(always)]
pub(crate) fn exp_lanes<S: Simd>(simd: S, fma: Fma, x: S::f32s) -> S::f32s {
    // The comparison keeps what is no number, which the maximum of some instruction sets does not.
    let end = simd.splat_f32s(EXP_END);
    let clamped = simd.select_f32s(simd.less_than_f32s(x, end), end, x);
    let round = simd.splat_f32s(ROUND);
    let shifted = fma.multiply_add_lanes(simd, clamped, simd.splat_f32s(LOG2_E), round);
    let n = simd.sub_f32s(shifted, round);
    let r = fma.multiply_add_lanes(simd, n, simd.splat_f32s(-LN_2.0), clamped);
    let r = fma.multiply_add_lanes(simd, n, simd.splat_f32s(-LN_2.1), r);
    let bits = simd.transmute_u32s_f32s(shifted);
    let exponent = simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(FRACTION));
    let power = simd.transmute_f32s_u32s(simd.add_u32s(exponent, simd.splat_u32s(ONE)));
    simd.mul_f32s(polynomial(simd, fma, r, &EXP), power)
}

/// 2ˣ on ±½ with a relative error of 8e-5, the highest power first.
const ROUGH_EXP: [f32; 4] = [
    5.517_172_4e-2,
    2.426_112_4e-1,
    6.932_609_7e-1,
    9.999_280_6e-1,
];

/// exp(x) for x ≤ 88 in every lane of a register, with a relative error of at most 1e-4: two thirds of the time of
/// [`exp_lanes`], for what is rounded to bf16.
#[inline(always)]
pub(crate) fn rough_exp_lanes<S: Simd>(simd: S, fma: Fma, x: S::f32s) -> S::f32s {
    let (end, log) = (simd.splat_f32s(EXP_END), simd.splat_f32s(LOG2_E));
    let clamped = simd.select_f32s(simd.less_than_f32s(x, end), end, x);
    let round = simd.splat_f32s(ROUND);
    let shifted = fma.multiply_add_lanes(simd, clamped, log, round);
    let n = simd.sub_f32s(shifted, round);
    let r = fma.multiply_add_lanes(simd, clamped, log, simd.neg_f32s(n));
    let bits = simd.transmute_u32s_f32s(shifted);
    let exponent = simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(FRACTION));
    let power = simd.transmute_f32s_u32s(simd.add_u32s(exponent, simd.splat_u32s(ONE)));
    simd.mul_f32s(polynomial(simd, fma, r, &ROUGH_EXP), power)
}

/// x · Φ(x) of every value, in place. A NaN stays a NaN, ∞ stays ∞ and −∞
/// becomes a NaN (0 · ∞), as in PyTorch.
pub fn gelu_in_place(values: &mut [f32]) {
    gelu_for(Isa::best(), values);
}

fn gelu_for(isa: Isa, values: &mut [f32]) {
    values
        .par_chunks_mut(TASK)
        .for_each(|values| isa.dispatch(Gelu(values)));
}

/// [`gelu_lanes`] of every value, in place, on one thread.
struct Gelu<'a>(&'a mut [f32]);

impl Kernel for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S, fma: Fma) {
        let (values, rest) = S::as_mut_simd_f32s(self.0);
        for x in values {
            *x = gelu_lanes(simd, fma, *x);
        }
        let last = gelu_lanes(simd, fma, simd.partial_load_f32s(rest));
        simd.partial_store_f32s(rest, last);
    }
}

/// Gradient through [`gelu_in_place`], given its input `x`: `gradient` times the derivative.
///
/// # Panics
/// When lengths differ.
pub fn gelu_backward(gradient: &mut [f32], x: &[f32]) {
    gelu_backward_for(Isa::best(), gradient, x);
}

fn gelu_backward_for(isa: Isa, gradient: &mut [f32], x: &[f32]) {
    assert_eq!(gradient.len(), x.len(), "a gradient for every value");
    gradient
        .par_chunks_mut(TASK)
        .zip(x.par_chunks(TASK))
        .for_each(|(gradient, x)| isa.dispatch(GeluBackward(gradient, x)));
}

/// Multiplies gradients by the slope of GELU at `x`, on one thread.
struct GeluBackward<'a>(&'a mut [f32], &'a [f32]);

impl Kernel for GeluBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S, fma: Fma) {
        let (gradient, gradient_rest) = S::as_mut_simd_f32s(self.0);
        let (x, x_rest) = S::as_simd_f32s(self.1);
        for (gradient, x) in gradient.iter_mut().zip(x) {
            *gradient = simd.mul_f32s(*gradient, gelu_slope_lanes(simd, fma, *x));
        }
        let slope = gelu_slope_lanes(simd, fma, simd.partial_load_f32s(x_rest));
        let last = simd.mul_f32s(simd.partial_load_f32s(gradient_rest), slope);
        simd.partial_store_f32s(gradient_rest, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Φ(x) by the series of its density, which converges fast enough here.
    fn normal(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..400 {
            term *= x * x / f64::from(2 * n + 1);
            sum += term;
        }
        0.5 + sum * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
    }

    #[test]
    fn gelu_keeps_its_error_bound() {
        for isa in Isa::available() {
            let x: Vec<f32> = (-9000..=9000).map(|i| i as f32 / 1000.0).collect();
            let mut y = x.clone();
            gelu_for(isa, &mut y);
            for (x, y) in x.into_iter().zip(y) {
                let expected = f64::from(x) * normal(f64::from(x));
                let error = (f64::from(y) - expected).abs();
                assert!(
                    error <= 4e-7 * f64::from(x.abs()),
                    "{isa:?}: gelu({x}) = {y}"
                );
            }
        }
        let mut edges = [f32::NAN, f32::INFINITY, 1e30, -1e30, 0.0];
        gelu_in_place(&mut edges);
        assert!(edges[0].is_nan());
        assert_eq!(edges[1..], [f32::INFINITY, 1e30, 0.0, 0.0]);
        gelu_in_place(&mut []);
    }

    /// The rough functions of values, in place.
    struct Rough<'a>(&'a mut [f32], bool);

    impl Kernel for Rough<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S, fma: Fma) {
            let Self(values, is_exp) = self;
            for x in S::as_mut_simd_f32s(values).0 {
                *x = if is_exp {
                    rough_exp_lanes(simd, fma, *x)
                } else {
                    rough_gelu_lanes(simd, fma, *x)
                };
            }
        }
    }

    #[test]
    fn rough_functions_keep_their_error_bounds() {
        let x: Vec<f32> = (-9600..9600).map(|i| i as f32 / 1000.0).collect();
        for isa in Isa::available() {
            let [mut gelu, mut exp] = [x.clone(), x.clone()];
            isa.dispatch(Rough(&mut gelu, false));
            isa.dispatch(Rough(&mut exp, true));
            for (&x, (gelu, exp)) in x.iter().zip(gelu.into_iter().zip(exp)) {
                let x = f64::from(x);
                let error = (f64::from(gelu) - x * normal(x)).abs();
                assert!(error <= 1e-4, "{isa:?}: gelu({x}) = {gelu}");
                let error = (f64::from(exp) / x.exp() - 1.0).abs();
                assert!(error <= 1e-4, "{isa:?}: exp({x}) = {exp}");
            }
            let mut edges = [0.0; 16];
            edges[..5].copy_from_slice(&[f32::NAN, f32::INFINITY, 1e30, -1e30, 0.0]);
            isa.dispatch(Rough(&mut edges, false));
            assert!(edges[0].is_nan(), "{isa:?}");
            assert_eq!(edges[1..5], [f32::INFINITY, 1e30, 0.0, 0.0], "{isa:?}");
            let mut edges = [f32::NEG_INFINITY; 16];
            edges[..2].copy_from_slice(&[f32::NAN, -100.0]);
            isa.dispatch(Rough(&mut edges, true));
            assert!(edges[0].is_nan() && edges[1..] == [0.0; 15], "{isa:?}");
        }
    }

    #[test]
    fn the_slope_of_gelu_keeps_its_error_bound() {
        let x: Vec<f32> = (-9000..=9000).map(|i| i as f32 / 1000.0).collect();
        for isa in Isa::available() {
            let mut slope = vec![2.0; x.len()];
            gelu_backward_for(isa, &mut slope, &x);
            for (&x, slope) in x.iter().zip(slope) {
                let x = f64::from(x);
                let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
                let expected = 2.0 * (normal(x) + x * density);
                let error = (f64::from(slope) - expected).abs();
                assert!(error <= 2e-6, "{isa:?}: slope at {x}: {slope}, {expected}");
            }
        }
    }

    /// Compares [`exp_lanes`] with [`exp`].
    struct Lanes;

    impl Kernel for Lanes {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S, fma: Fma) {
            let edges = [f32::NEG_INFINITY, f32::NAN, -87.3, -88.0, 0.0, 87.9];
            for x in edges
                .into_iter()
                .chain((-870..870).map(|i| i as f32 / 10.0))
            {
                let mut lanes = [0.0_f32; 16];
                S::as_mut_simd_f32s(&mut lanes).0[0] = exp_lanes(simd, fma, simd.splat_f32s(x));
                let expected = exp(fma, x);
                let same = lanes[0] == expected || lanes[0].is_nan() && expected.is_nan();
                assert!(same, "exp({x}): {} and {expected}", lanes[0]);
            }
        }
    }

    #[test]
    fn exp_keeps_its_error_bound() {
        for isa in Isa::available() {
            isa.run(|fma| {
                for i in -87_000..=88_000 {
                    let x = i as f32 / 1000.0;
                    let expected = f64::from(x).exp();
                    let error = (f64::from(exp(fma, x)) - expected).abs() / expected;
                    assert!(error <= 3e-7, "{isa:?}: exp({x}): {error}");
                }
                assert_eq!(exp(fma, f32::NEG_INFINITY), 0.0);
                assert_eq!(exp(fma, -100.0), 0.0);
                assert_eq!(exp(fma, 0.0), 1.0);
                assert!(exp(fma, f32::NAN).is_nan());
            });
            isa.dispatch(Lanes);
        }
    }
}
