//! What a score needs to know of a mask that is still logits: probabilities, areas, means inside.

use pulp::Simd;

use crate::isa::{Fma, Isa, Kernel};
use crate::math::exp_lanes;

/// Distances from the threshold, in logits, at which areas are measured.
pub const OFFSETS: [f32; 2] = [1.0, 4.0];

/// Sums over the probabilities σ(logit) of a mask.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SoftAreas {
    /// Σ σ(l).
    pub area: f32,
    /// Σ σ(l − offset), for both [`OFFSETS`].
    pub high: [f32; 2],
    /// Σ σ(l + offset).
    pub low: [f32; 2],
    /// Number of logits above 0.
    pub count: f32,
    /// Σ σ(l) over those.
    pub confident: f32,
}

/// Turns logits into probabilities, in place, and sums them up; one exponential for each.
pub fn soft_areas(logits: &mut [f32]) -> SoftAreas {
    Isa::best().dispatch(Probabilities(logits))
}

struct Probabilities<'a>(&'a mut [f32]);

impl Kernel for Probabilities<'_> {
    type Output = SoftAreas;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S, fma: Fma) -> SoftAreas {
        let (values, rest) = S::as_mut_simd_f32s(self.0);
        let mut sums = Lanes::<S>::new(simd);
        for x in values {
            *x = sums.add(simd, fma, *x, simd.splat_f32s(1.0));
        }
        // Lanes beyond the end count nothing.
        let ones = [1.0_f32; 16];
        let counted = simd.partial_load_f32s(&ones[..rest.len()]);
        let last = sums.add(simd, fma, simd.partial_load_f32s(rest), counted);
        simd.partial_store_f32s(rest, last);
        sums.total(simd)
    }
}

/// The sums, lane by lane.
struct Lanes<S: Simd> {
    area: S::f32s,
    high: [S::f32s; 2],
    low: [S::f32s; 2],
    count: S::f32s,
    confident: S::f32s,
}

impl<S: Simd> Lanes<S> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        let zero = simd.splat_f32s(0.0);
        Self {
            area: zero,
            high: [zero; 2],
            low: [zero; 2],
            count: zero,
            confident: zero,
        }
    }

    /// Adds the lanes of `x` that are `counted` (1 or 0); gives σ(x).
    #[inline(always)]
    fn add(&mut self, simd: S, fma: Fma, x: S::f32s, counted: S::f32s) -> S::f32s {
        // σ(x + o) = 1 / (1 + e⁻ˣ · e⁻ᵒ). Beyond ±80 it is 0 or 1, and nothing overflows.
        let (end, one) = (simd.splat_f32s(80.0), simd.splat_f32s(1.0));
        let within = simd.min_f32s(end, simd.max_f32s(simd.neg_f32s(end), x));
        let e = exp_lanes(simd, fma, simd.neg_f32s(within));
        let sigmoid = |factor: f32| {
            let below = fma.multiply_add_lanes(simd, e, simd.splat_f32s(factor), one);
            simd.div_f32s(counted, below)
        };
        let p = sigmoid(1.0);
        self.area = simd.add_f32s(self.area, p);
        for (i, offset) in OFFSETS.into_iter().enumerate() {
            self.high[i] = simd.add_f32s(self.high[i], sigmoid(offset.exp()));
            self.low[i] = simd.add_f32s(self.low[i], sigmoid((-offset).exp()));
        }
        let zero = simd.splat_f32s(0.0);
        let inside = simd.less_than_f32s(zero, x);
        let select = |value| simd.select_f32s(inside, value, zero);
        self.count = simd.add_f32s(self.count, select(counted));
        self.confident = simd.add_f32s(self.confident, select(p));
        p
    }

    #[inline(always)]
    fn total(self, simd: S) -> SoftAreas {
        let [high0, high1] = self.high;
        let [low0, low1] = self.low;
        SoftAreas {
            area: simd.reduce_sum_f32s(self.area),
            high: [simd.reduce_sum_f32s(high0), simd.reduce_sum_f32s(high1)],
            low: [simd.reduce_sum_f32s(low0), simd.reduce_sum_f32s(low1)],
            count: simd.reduce_sum_f32s(self.count),
            confident: simd.reduce_sum_f32s(self.confident),
        }
    }
}

/// Means of squares of `factor` × `factor` values of a map with `side`² values, row by row.
pub fn means_of_squares(map: &[f32], side: usize, factor: usize) -> Vec<f32> {
    let coarse = side / factor;
    let share = 1.0 / (factor * factor) as f32;
    let mut means = vec![0.0; coarse * coarse];
    let bands = map.chunks_exact(side * factor);
    for (means, band) in means.chunks_exact_mut(coarse).zip(bands) {
        for line in band.chunks_exact(side) {
            for (mean, values) in means.iter_mut().zip(line.chunks_exact(factor)) {
                *mean += values.iter().sum::<f32>() * share;
            }
        }
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn areas_are_those_of_the_written_sums() {
        for isa in Isa::available() {
            for len in [0, 1, 7, 16, 33, 1000] {
                let logits: Vec<f32> = testing::values(len, 3).iter().map(|v| v * 12.0).collect();
                let mut probabilities = logits.clone();
                let found = isa.dispatch(Probabilities(&mut probabilities));
                let sum = |value: &dyn Fn(f64) -> f64| -> f32 {
                    logits.iter().map(|&l| value(f64::from(l))).sum::<f64>() as f32
                };
                let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
                let expected = SoftAreas {
                    area: sum(&sigmoid),
                    high: OFFSETS.map(|o| sum(&|l| sigmoid(l - f64::from(o)))),
                    low: OFFSETS.map(|o| sum(&|l| sigmoid(l + f64::from(o)))),
                    count: sum(&|l| f64::from(u8::from(l > 0.0))),
                    confident: sum(&|l| if l > 0.0 { sigmoid(l) } else { 0.0 }),
                };
                let numbers = |s: &SoftAreas| {
                    [
                        s.area,
                        s.high[0],
                        s.high[1],
                        s.low[0],
                        s.low[1],
                        s.count,
                        s.confident,
                    ]
                };
                for (a, b) in numbers(&found).into_iter().zip(numbers(&expected)) {
                    assert!((a - b).abs() <= 1e-5 * b.max(1.0), "{isa:?} {len}: {a} {b}");
                }
                for (p, &l) in probabilities.iter().zip(&logits) {
                    assert!((f64::from(*p) - sigmoid(f64::from(l))).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn extreme_logits_are_outside_or_inside() {
        let mut logits = [f32::NEG_INFINITY, -1e30, 1e30, f32::INFINITY];
        let areas = soft_areas(&mut logits);
        assert!(
            (areas.area - 2.0).abs() < 1e-6 && areas.count == 2.0,
            "{areas:?}"
        );
    }

    #[test]
    fn means_are_taken_square_by_square() {
        let map: Vec<f32> = (0..16).map(|i| i as f32).collect();
        assert_eq!(means_of_squares(&map, 4, 2), [2.5, 4.5, 10.5, 12.5]);
    }
}
