//! Matmuls in seven eighths of the multiplications (Strassen 1969).
//!
//! Both sides are cut into quarters, and seven matmuls of their sums take the place of eight:
//!
//! ```text
//! M1 = (A11 + A22)(B11 + B22)    M5 = (A11 + A12) B22            C11 = M1 + M4 − M5 + M7
//! M2 = (A21 + A22) B11           M6 = (A21 − A11)(B11 + B12)     C12 = M3 + M5
//! M3 = A11 (B12 − B22)           M7 = (A12 − A22)(B21 + B22)     C21 = M2 + M4
//! M4 = A22 (B21 − B11)                                           C22 = M1 − M2 + M3 + M6
//! ```
//!
//! The sums of the left side are made when a block of rows is gathered, and those of the result tile by
//! tile, so that nothing more goes through memory (as Huang et al. 2016 do it). Those of the right side
//! are made of its panels before the matmul, at a hundredth of its time: kept with a weight, they would
//! take 7/4 of its memory beside it. Quarters are cut where it is cheapest: rows of a block, neighbouring
//! panels, and the steps of a pass. The error grows from a sum's own to that of the largest sum in
//! the four quarters, by a factor of about 2 for values of one size; what is no number spreads to the row
//! and the columns that share its pair.

use std::ops::Range;

use pulp::Simd;

use super::ahead::Ahead;
use super::aligned::Aligned;
use super::blocking::{DEPTH, row_stride, shape};
use super::dispatch::{Dispatch, WithTile};
use super::epilogue::Epilogue;
use super::format::Fp32;
use super::left::Left;
use super::packed::Side;
use super::products::{Products, Singles, sums_of_tile};
use super::strassen_sums::Quarter::{self, BottomLeft, BottomRight, TopLeft, TopRight};
use super::strassen_sums::{LEFT, MATMULS, sum};
use super::tile::{Pass, Tile};
use crate::isa::Fma;
use crate::meter;

/// Where the result of a matmul goes; the first that reaches a quarter finds nothing there.
#[derive(Clone, Copy)]
enum Deposit {
    Set(Quarter),
    Add(Quarter),
    Subtract(Quarter),
}
use Deposit::{Add, Set, Subtract};

const RESULT: [&[Deposit]; MATMULS] = [
    &[Set(TopLeft), Set(BottomRight)],
    &[Set(BottomLeft), Subtract(BottomRight)],
    &[Set(TopRight), Add(BottomRight)],
    &[Add(TopLeft), Add(BottomLeft)],
    &[Subtract(TopLeft), Add(TopRight)],
    &[Add(BottomRight)],
    &[Add(TopLeft)],
];

/// As many rows as `out` holds, on this thread; `gather` copies a part of one of them.
pub(super) fn multiply_rows(
    gather: impl Fn(usize, Range<usize>, &mut [f32]),
    (right, right_sums): (Side<'_>, &[f32]),
    epilogue: &Epilogue<'_>,
    scratch: &mut Aligned<f32>,
    out: &mut [f32],
) {
    let (isa, depth) = (right.isa(), right.depth());
    let (height, width) = shape(isa);
    let count = out.len() / right.columns();
    // Row i and row i + half are in one pair of quarters; what is missing below is zero.
    let half = count.div_ceil(2).next_multiple_of(height);
    let longest = depth.min(DEPTH);
    let stride = row_stride(longest / 2);
    let (sums, rows) = (4 * half * width, MATMULS * half * stride);
    scratch.resize(sums + rows + 2 * longest);
    let (sums, rest) = scratch.split_at_mut(sums);
    let (left, pair) = rest.split_at_mut(rows);
    for start in (0..depth).step_by(DEPTH) {
        let range = start..depth.min(start + DEPTH);
        let (upper, lower) = pair[..2 * range.len()].split_at_mut(range.len());
        for row in 0..half {
            for (row, part) in [(row, &mut *upper), (row + half, &mut *lower)] {
                if row < count {
                    gather(row, range.clone(), part);
                } else {
                    part.fill(0.0);
                }
            }
            let steps = range.len() / 2;
            let quarter = |quarter| match quarter {
                TopLeft => &upper[..steps],
                TopRight => &upper[steps..],
                BottomLeft => &lower[..steps],
                BottomRight => &lower[steps..],
            };
            for (i, side) in LEFT.into_iter().enumerate() {
                let out = &mut left[(i * half + row) * stride..][..steps];
                sum(isa, side, quarter, out);
            }
        }
        meter::count(count, range.len(), right.columns());
        let last = range.end == depth;
        Fp32::run(
            isa,
            Matmuls {
                left: Left::new(left, stride),
                half,
                right,
                right_sums,
                range,
                pass: Pass {
                    first: start == 0,
                    epilogue: last.then_some(epilogue),
                },
                sums,
                out: &mut *out,
            },
        );
    }
}

/// The matmuls of one pass.
struct Matmuls<'a> {
    /// The seven left sides one below the other.
    left: Left<'a>,
    /// Rows of each.
    half: usize,
    right: Side<'a>,
    /// The right sides of all matmuls.
    right_sums: &'a [f32],
    /// Steps of the pass.
    range: Range<usize>,
    pass: Pass<'a>,
    /// The quarters of the result in tiles, `[4, half / R, R, C]`.
    sums: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithTile<Fp32> for Matmuls<'_> {
    #[inline(always)]
    fn run<S: Simd, P: Products<S, Lane = f32>, const R: usize, const C: usize>(
        self,
        simd: S,
        fma: Fma,
        _: P,
    ) {
        let Self {
            left,
            half,
            right,
            right_sums,
            range,
            pass,
            sums,
            out,
        } = self;
        let (columns, steps) = (right.columns(), range.len() / 2);
        let quarter = half * C;
        for pair in 0..columns.div_ceil(2 * C) {
            for (matmul, deposits) in RESULT.iter().enumerate() {
                let panel = right.strassen_side(right_sums, pair, matmul, range.clone());
                for tile in 0..half / R {
                    let left = left.at_row(matmul * half + tile * R);
                    let zero = [simd.splat_f32s(0.0); 2];
                    let ahead = Ahead::of(panel, steps, tile);
                    let result = sums_of_tile::<Fp32, S, Singles, R, C>(
                        simd,
                        Singles(fma),
                        zero,
                        left,
                        steps,
                        panel,
                        ahead,
                    );
                    for deposit in *deposits {
                        let (Set(to) | Add(to) | Subtract(to)) = *deposit;
                        let place = &mut sums[to as usize * quarter + tile * R * C..][..R * C];
                        put(simd, *deposit, &result, S::as_mut_simd_f32s(place).0);
                    }
                }
            }
            let bias = pass.epilogue.and_then(|epilogue| epilogue.bias);
            for (index, tiles) in sums.chunks_exact(quarter).enumerate() {
                let from = (2 * pair + index % 2) * C;
                if from >= columns {
                    continue; // The panel that made them even.
                }
                let width = C.min(columns - from);
                let start = bias.map(|bias| &bias[from..from + width]);
                for (tile, values) in tiles.chunks_exact(R * C).enumerate() {
                    let first = index / 2 * half + tile * R;
                    let Some(out) = out.get_mut(first * columns..) else {
                        continue;
                    };
                    let length = out.len().min(R * columns);
                    if length > 0 {
                        let values = S::as_simd_f32s(values).0;
                        let mut tile = Tile::<S, R>::of::<C>(
                            simd,
                            values,
                            start,
                            [columns, from, width, first],
                        );
                        tile.finish::<C>(simd, fma, pass, &mut out[..length]);
                    }
                }
            }
        }
    }
}

/// Two registers a row of a matmul into a quarter of the result.
#[inline(always)]
fn put<S: Simd, const R: usize>(
    simd: S,
    deposit: Deposit,
    matmul: &[[S::f32s; 2]; R],
    out: &mut [S::f32s],
) {
    let pairs = out.iter_mut().zip(matmul.as_flattened());
    match deposit {
        Set(_) => pairs.for_each(|(out, x)| *out = *x),
        Add(_) => pairs.for_each(|(out, x)| *out = simd.add_f32s(*out, *x)),
        Subtract(_) => pairs.for_each(|(out, x)| *out = simd.sub_f32s(*out, *x)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::activation::{Activation, Rectifier};
    use crate::gemm::strassen_sums::pays;
    use crate::gemm::{Dense, ForRows, Matrix, Packed, gemm};
    use crate::isa::Isa;
    use crate::precision::Precision;
    use crate::testing::{close, values};

    /// Both ways of the same matmul.
    fn check(isa: Isa, [rows, depth, columns]: [usize; 3], epilogue: &Epilogue<'_>, seed: usize) {
        let (a, b) = (
            values(rows * depth, seed),
            values(depth * columns, seed + 1),
        );
        let (a, b) = (Dense::new(&a, depth), Matrix::new(&b, depth, columns));
        let [mut plain, mut fast] = [(); 2].map(|()| vec![f32::NAN; rows * columns]);
        let packed = Packed::for_isa(isa, Precision::Fp32, b);
        gemm(&a, packed.right(), epilogue, &mut plain);
        let packed = ForRows::strassen(packed);
        gemm(&a, packed.right(), epilogue, &mut fast);
        assert!(
            close(&fast, &plain, 2e-5),
            "{isa:?} {rows} × {depth} × {columns}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn seven_matmuls_are_eight(
            rows in 1_usize..230, half in 1_usize..40, columns in 1_usize..150, seed in 0_usize..99,
        ) {
            let (bias, residual) = (values(columns, seed + 2), values(rows * columns, seed + 3));
            let epilogue = Epilogue {
                bias: Some(&bias),
                activation: Activation::Rectifier(Rectifier::Relu),
                residual: Some(&residual),
            };
            for isa in Isa::available() {
                check(isa, [rows, 2 * half, columns], &epilogue, seed);
            }
        }
    }

    #[test]
    fn long_sums_in_several_passes() {
        for isa in Isa::available() {
            check(isa, [50, 2 * DEPTH + 6, 70], &Epilogue::default(), 1);
        }
    }

    #[test]
    fn small_and_uneven_matmuls_are_left_as_they_are() {
        assert!(pays(4096, 768, 24) && pays(4096, 3072, 96) && pays(4096, 640, 15));
        assert!(!pays(64, 768, 24) && !pays(4096, 64, 24) && !pays(4096, 769, 24));
        assert!(!pays(4096, 768 + 4, 24) && !pays(4096, 768, 5) && !pays(4096, 0, 2));
        let packed = Packed::new(Matrix::new(&[1.0; 12], 4, 3));
        assert!(!ForRows::new(packed, 1_000_000).right().by_strassen());
    }
}
