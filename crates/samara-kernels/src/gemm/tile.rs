//! The innermost loops: a tile of the result in registers.
//!
//! The sums are written in registers by name, because a compiler that sees a nest of loops over
//! arrays may or may not find them. `benches/gemm.rs` shows how close the tile comes to the
//! machine's peak.

use std::array::from_fn;
use std::ops::Range;

use pulp::Simd;
use pulp::bytemuck::cast_slice;

use super::Epilogue;
use super::packed::Right;
use crate::isa::{Fma, Isa};
use crate::meter;

/// Rows and columns of a tile. The columns are two registers wide; the rows fill 24 of the 32
/// registers of AVX-512 and NEON, 12 of the 16 of AVX2 and 8 of the 16 of SSE2, and the others
/// hold a row of the right side and a value of the left.
pub(crate) fn shape(isa: Isa) -> (usize, usize) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => (12, 32),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => (6, 16),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(_) => (12, 8),
        Isa::Portable => (4, 8),
    }
}

/// Gathered rows, a whole number of tiles high.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub values: &'a [f32],
    pub stride: usize,
}

/// Which part of the sums a block adds.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    /// The result holds nothing yet.
    pub first: bool,
    /// What follows, when the sums are complete.
    pub epilogue: Option<&'a Epilogue<'a>>,
}

/// Multiplies gathered rows with the steps `range` of `right` and adds the products to `out`,
/// which has as many columns as `right`.
pub(crate) fn multiply_block(
    left: Left<'_>,
    right: Right<'_>,
    range: Range<usize>,
    pass: Pass<'_>,
    out: &mut [f32],
) {
    let isa = right.isa();
    meter::count(
        out.len() / right.columns().max(1),
        range.len(),
        right.columns(),
    );
    let block = Block {
        left,
        right,
        range,
        pass,
        out,
    };
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(isa) => isa.vectorize(
            #[inline(always)]
            || block.multiply::<_, 12, 32>(isa, Fma::SOME),
        ),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(isa) => isa.vectorize(
            #[inline(always)]
            || block.multiply::<_, 6, 16>(isa, Fma::SOME),
        ),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(isa) => isa.vectorize(
            #[inline(always)]
            || block.multiply::<_, 12, 8>(isa, Fma::SOME),
        ),
        Isa::Portable => block.multiply::<_, 4, 8>(pulp::Scalar128b, Fma::NONE),
    }
}

/// A product of gathered rows with panels.
struct Block<'a> {
    left: Left<'a>,
    right: Right<'a>,
    range: Range<usize>,
    pass: Pass<'a>,
    out: &'a mut [f32],
}

impl Block<'_> {
    #[inline(always)]
    fn multiply<S: Simd, const R: usize, const C: usize>(self, simd: S, fma: Fma) {
        let Self {
            left,
            right,
            range,
            pass,
            out,
        } = self;
        let (columns, depth) = (right.columns(), range.len());
        for panel in 0..columns.div_ceil(C) {
            let from = panel * C;
            let width = C.min(columns - from);
            for (tile, rows) in out.chunks_mut(R * columns).enumerate() {
                let left = Left {
                    values: &left.values[tile * R * left.stride..],
                    ..left
                };
                let right = right.panel::<C>(panel, range.clone());
                let sums = sums::<S, R, C>(simd, fma, left, depth, right);
                for (i, (row, sums)) in rows.chunks_exact_mut(columns).zip(sums).enumerate() {
                    let (at, row) = (
                        (tile * R + i) * columns + from,
                        &mut row[from..from + width],
                    );
                    match row.as_chunks_mut::<C>() {
                        ([row], []) => finish::<S, C>(simd, fma, sums, row, from, at, pass),
                        _ => finish_part(fma, cast_slice(&sums), row, from, at, pass),
                    }
                }
            }
        }
    }
}

/// One tile of products: the first `depth` values of `R` rows of `left` with the rows of a panel.
#[inline(always)]
fn sums<'a, S: Simd, const R: usize, const C: usize>(
    simd: S,
    fma: Fma,
    left: Left<'_>,
    depth: usize,
    right: impl Iterator<Item = &'a [f32; C]>,
) -> [[S::f32s; 2]; R] {
    let rows: [&[f32]; R] = from_fn(|i| &left.values[i * left.stride..][..depth]);
    let mut sums = [[simd.splat_f32s(0.0); 2]; R];
    for (k, right) in (0..depth).zip(right) {
        let right = S::as_simd_f32s(right).0;
        let right = [right[0], right[1]];
        for (sums, row) in sums.iter_mut().zip(rows) {
            let value = simd.splat_f32s(row[k]);
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = fma.multiply_add_lanes(simd, value, right, *sum);
            }
        }
    }
    sums
}

/// Writes one row of a tile.
#[inline(always)]
fn finish<S: Simd, const C: usize>(
    simd: S,
    fma: Fma,
    sums: [S::f32s; 2],
    out: &mut [f32; C],
    column: usize,
    at: usize,
    pass: Pass<'_>,
) {
    let out = S::as_mut_simd_f32s(out).0;
    for (i, (out, mut sum)) in out.iter_mut().zip(sums).enumerate() {
        if !pass.first {
            sum = simd.add_f32s(sum, *out);
        }
        if let Some(epilogue) = pass.epilogue {
            if let Some(bias) = epilogue.bias {
                sum = simd.add_f32s(sum, S::as_simd_f32s(&bias[column..column + C]).0[i]);
            }
            sum = epilogue.activation.apply_lanes(simd, fma, sum);
            if let Some(residual) = epilogue.residual {
                sum = simd.add_f32s(sum, S::as_simd_f32s(&residual[at..at + C]).0[i]);
            }
        }
        *out = sum;
    }
}

/// Writes the part of a row that the last panel has.
#[inline(always)]
fn finish_part(fma: Fma, sums: &[f32], out: &mut [f32], column: usize, at: usize, pass: Pass<'_>) {
    for (i, (out, &sum)) in out.iter_mut().zip(sums).enumerate() {
        let mut value = [if pass.first { sum } else { sum + *out }];
        if let Some(epilogue) = pass.epilogue {
            value[0] += epilogue.bias.map_or(0.0, |bias| bias[column + i]);
            epilogue.activation.apply(fma, &mut value);
            value[0] += epilogue.residual.map_or(0.0, |residual| residual[at + i]);
        }
        *out = value[0];
    }
}
