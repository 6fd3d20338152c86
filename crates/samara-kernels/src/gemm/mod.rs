//! Matrix products (matmuls) with what follows them: `out = activation(rows · right + bias) + residual`.
//!
//! The way of Goto and van de Geijn (2008): the right side lies in panels as wide as a
//! tile (it is packed: a weight once for all matmuls), a block of rows of the left side is gathered next to each other in the second-level
//! cache, and a tile of the result stays in registers while both are walked. What follows the
//! matmul is done on the tile before it is written, so that the result goes through memory once.

mod ahead;
mod aligned;
#[cfg(target_arch = "x86_64")]
mod amx;
mod bf16;
mod blocking;
mod dispatch;
mod epilogue;
mod float;
mod format;
mod gradients;
mod int8;
mod left;
mod matrix;
mod packed;
mod products;
mod rows;
mod strassen;
mod strassen_sums;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use rayon::prelude::*;

use blocking::{BLOCK_ROWS, DEPTH};
use dispatch::Dispatch;

pub(crate) use aligned::Aligned;
pub(crate) use blocking::{end_row, row_stride, shape};
pub use epilogue::Epilogue;
pub(crate) use float::Float;
use format::Buffers;
pub(crate) use format::{Bf16, Format, Fp32, Scratch};
pub use gradients::{backward_input, backward_weight};
use int8::RowScale;
pub(crate) use left::Left;
pub use matrix::Matrix;
use packed::RightAs;
pub use packed::{ForRows, Packed, Right};
pub(crate) use packed::{Panels, Side};
pub use rows::{Dense, Normalised, Patches, Planes, Rows};
pub(crate) use tile::{Pass, multiply_block};

/// A linear layer.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// `[in, out]`.
    pub weight: Right<'a>,
    /// `[out]`.
    pub bias: Option<&'a [f32]>,
}

/// `out = activation(rows · right + bias) + residual`, `[rows, columns]`.
///
/// A sum runs along the inner dimension in one fixed order, so a result does not depend on the
/// number of threads.
///
/// # Panics
/// When lengths do not match.
pub fn gemm(rows: &impl Rows, right: Right<'_>, epilogue: &Epilogue<'_>, out: &mut [f32]) {
    let (count, columns) = (rows.count(), right.columns());
    assert_eq!(rows.depth(), right.depth(), "inner dimensions differ");
    assert_eq!(out.len(), count * columns, "the result has another size");
    let fits = |x: Option<&[f32]>, n| x.is_none_or(|x| x.len() == n);
    assert!(fits(epilogue.bias, columns) && fits(epilogue.residual, out.len()));
    if out.is_empty() {
        return;
    }
    if !right.by_strassen() && count <= shape(right.isa()).0 && columns * right.depth() >= SHARED {
        return gemm_by_columns(rows, right, epilogue, out);
    }
    let block_rows = right.block_rows(BLOCK_ROWS);
    out.par_chunks_mut(block_rows * columns)
        .enumerate()
        .for_each_init(Scratch::default, |scratch, (block, out)| {
            let first = block * block_rows;
            let epilogue = epilogue.at(first * columns, out.len());
            multiply(rows, first, right, &epilogue, scratch, out);
        });
}

/// The rows from `first` on, as many as `out` holds, on this thread. The residual of `epilogue` has
/// the shape of `out`.
pub(crate) fn multiply(
    rows: &impl Rows,
    first: usize,
    right: Right<'_>,
    epilogue: &Epilogue<'_>,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    match right.0 {
        RightAs::Bf16(side) => return multiply_rounded(rows, first, side, epilogue, scratch, out),
        RightAs::Int8(side) => return multiply_rounded(rows, first, side, epilogue, scratch, out),
        RightAs::Fp32(_) | RightAs::Strassen(..) => {}
    }
    let (columns, depth) = (right.columns(), right.depth());
    // Rows that are multiplied where they are: whole tiles of them.
    let mut done = 0;
    if let RightAs::Fp32(right) = right.0
        && may_stay(depth)
        && let Some(values) = rows.in_place()
    {
        let tile = shape(right.isa()).0;
        done = out.len() / columns / tile * tile;
        let out = &mut out[..done * columns];
        let left = Left::new(&values[first * depth..], depth);
        let pass = Pass {
            first: true,
            epilogue: Some(&epilogue.at(0, out.len())),
        };
        multiply_block(left, right, 0..depth, pass, out);
    }
    let rest = &mut out[done * columns..];
    if !rest.is_empty() {
        let epilogue = epilogue.at(done * columns, rest.len());
        let gather = |row, range, to: &mut [f32]| rows.gather(first + done + row, range, to);
        multiply_rows(gather, right, &epilogue, scratch, rest);
    }
}

/// [`multiply`] for rows that have to be rounded: from where they are, if they lie in memory.
fn multiply_rounded<F: Dispatch>(
    rows: &impl Rows,
    first: usize,
    right: Side<'_, F>,
    epilogue: &Epilogue<'_>,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let (isa, depth) = (right.isa(), right.depth());
    let Some(values) = rows.in_place() else {
        let gather = |row, range, to: &mut [f32]| rows.gather(first + row, range, to);
        return multiply_rows_of(gather, right, epilogue, scratch, out);
    };
    let round = |row: usize, range, _: &mut Vec<f32>, lanes: &mut [F::Lane]| {
        F::round(isa, &values[(first + row) * depth..][range], lanes)
    };
    multiply_lanes(round, right, epilogue, scratch, out);
}

/// Values of a right side from which on threads share the columns of a matmul that has too few rows
/// to be shared: its time is that of reading the right side.
const SHARED: usize = 1 << 17;

/// [`gemm`] for a single tile of rows: every thread takes some of the columns.
fn gemm_by_columns(rows: &impl Rows, right: Right<'_>, epilogue: &Epilogue<'_>, out: &mut [f32]) {
    let (count, columns) = (rows.count(), right.columns());
    let panel = shape(right.isa()).1;
    let share = columns
        .div_ceil(rayon::current_num_threads())
        .next_multiple_of(panel);
    let starts: Vec<usize> = (0..columns).step_by(share).collect();
    let parts: Vec<Vec<f32>> = starts
        .par_iter()
        .map(|&from| {
            let part = from..columns.min(from + share);
            let epilogue = Epilogue {
                bias: epilogue.bias.map(|bias| &bias[part.clone()]),
                residual: None,
                ..*epilogue
            };
            let mut out = vec![0.0; count * part.len()];
            let gather = |row, range, to: &mut [f32]| rows.gather(row, range, to);
            let right = right.part(part, panel);
            multiply_rows(gather, right, &epilogue, &mut Scratch::default(), &mut out);
            out
        })
        .collect();
    for (from, part) in starts.into_iter().zip(parts) {
        let width = part.len() / count;
        for (row, part) in out.chunks_exact_mut(columns).zip(part.chunks_exact(width)) {
            row[from..from + width].copy_from_slice(part);
        }
    }
    if let Some(residual) = epilogue.residual {
        out.iter_mut().zip(residual).for_each(|(out, x)| *out += x);
    }
}

/// Whether rows of this length are multiplied where they are: in one pass, and not when they fall
/// on the same places of the first-level cache.
fn may_stay(depth: usize) -> bool {
    (1..=DEPTH).contains(&depth) && !depth.is_multiple_of(512)
}

/// Multiplies as many rows as `out` holds; `gather` copies a part of one of them.
pub(crate) fn multiply_rows(
    gather: impl Fn(usize, Range<usize>, &mut [f32]),
    right: Right<'_>,
    epilogue: &Epilogue<'_>,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    match right.0 {
        RightAs::Fp32(side) => multiply_rows_of(gather, side, epilogue, scratch, out),
        RightAs::Strassen(side, sums) => {
            let scratch = &mut scratch.values;
            strassen::multiply_rows(gather, (side, sums), epilogue, scratch, out);
        }
        RightAs::Bf16(side) => multiply_rows_of(gather, side, epilogue, scratch, out),
        RightAs::Int8(side) => multiply_rows_of(gather, side, epilogue, scratch, out),
    }
}

/// [`multiply_rows`] with numbers of one format.
pub(crate) fn multiply_rows_of<F: Dispatch>(
    gather: impl Fn(usize, Range<usize>, &mut [f32]),
    right: Side<'_, F>,
    epilogue: &Epilogue<'_>,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let isa = right.isa();
    let round = |row, range: Range<usize>, values: &mut Vec<f32>, lanes: &mut [F::Lane]| {
        let gather = |to: &mut [f32]| gather(row, range.clone(), to);
        F::row(isa, range.len(), gather, values, lanes)
    };
    multiply_lanes(round, right, epilogue, scratch, out);
}

/// The same; `round` makes lanes of a part of a row, with a buffer for its values.
fn multiply_lanes<F: Dispatch>(
    round: impl Fn(usize, Range<usize>, &mut Vec<f32>, &mut [F::Lane]) -> RowScale,
    right: Side<'_, F>,
    epilogue: &Epilogue<'_>,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let (isa, depth, count) = (right.isa(), right.depth(), out.len() / right.columns());
    let padded = count.next_multiple_of(shape(isa).0);
    let Buffers { lanes, row, scales } = F::buffers(scratch);
    scales.resize(padded, RowScale::ONE);
    // An empty sum is still followed by its epilogue.
    let passes = depth.div_ceil(DEPTH * F::VALUES).max(1);
    for pass in 0..passes {
        let values = pass * DEPTH * F::VALUES..depth.min((pass + 1) * DEPTH * F::VALUES);
        let steps = pass * DEPTH..values.end.div_ceil(F::VALUES);
        let stride = row_stride(steps.len());
        lanes.resize(padded * stride);
        let rows = lanes.chunks_exact_mut(stride).zip(&mut *scales);
        for (i, (lanes, scale)) in rows.take(count).enumerate() {
            *scale = round(i, values.clone(), row, &mut lanes[..steps.len()]);
            end_row(lanes, steps.len());
        }
        let last = pass + 1 == passes;
        let left = Left {
            lanes,
            stride,
            scales,
        };
        let pass = Pass {
            first: pass == 0,
            epilogue: last.then_some(epilogue),
        };
        multiply_block(left, right, steps, pass, out);
    }
}

/// Rows up to which a right side is used where it is: packing it costs about as much as a matmul
/// with this many rows.
const FEW_ROWS: usize = 24;

/// `out = activation(x · weight + bias) + residual`: `x` `[rows, depth]`, `weight`
/// `[depth, columns]`.
///
/// # Panics
/// When lengths do not match.
pub fn linear(
    x: &[f32],
    weight: &[f32],
    [depth, columns]: [usize; 2],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    linear_of_rows(&Dense::new(x, depth), weight, columns, epilogue, out);
}

/// [`linear`] for rows that are gathered on the way.
///
/// # Panics
/// When lengths do not match.
pub fn linear_of_rows(
    rows: &impl Rows,
    weight: &[f32],
    columns: usize,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let depth = rows.depth();
    if rows.count() <= FEW_ROWS
        && let Some(right) = Right::in_place(weight, depth, columns)
    {
        return gemm(rows, right, epilogue, out);
    }
    linear_of_packed(
        rows,
        &Packed::new(Matrix::new(weight, depth, columns)),
        epilogue,
        out,
    );
}

/// [`linear`] for rows that are gathered on the way, with a weight that is packed.
///
/// # Panics
/// When lengths do not match.
pub fn linear_of_packed(
    rows: &impl Rows,
    weight: &Packed,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let weight = ForRows::new(weight, rows.count());
    gemm(rows, weight.right(), epilogue, out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::activation::{Activation, Rectifier};
    use crate::isa::Isa;
    use crate::precision::Precision;
    use crate::testing::{close, values};

    fn oracle(a: &[f32], b: &[f32], depth: usize, columns: usize) -> Vec<f32> {
        let mut out = vec![0.0; a.len() / depth.max(1) * columns];
        for (i, out) in out.iter_mut().enumerate() {
            let (row, column) = (i / columns, i % columns);
            let terms = (0..depth)
                .map(|k| f64::from(a[row * depth + k]) * f64::from(b[k * columns + column]));
            *out = terms.sum::<f64>() as f32;
        }
        out
    }

    proptest! {
        #[test]
        fn a_matmul_follows_the_oracle(
            rows in 1_usize..220, depth in 1_usize..40, columns in 1_usize..80, seed in 0_usize..99,
        ) {
            let (a, b) = (values(rows * depth, seed), values(depth * columns, seed + 1));
            let (bias, residual) = (values(columns, seed + 2), values(rows * columns, seed + 3));
            let plain = oracle(&a, &b, depth, columns);
            let expected: Vec<f32> = plain.iter().enumerate()
                .map(|(i, x)| (x + bias[i % columns]).max(0.0) + residual[i])
                .collect();
            // The transposed of the transposed: the same matrix in another order in memory.
            let transposed: Vec<f32> = (0..b.len()).map(|i| b[i % depth * columns + i / depth]).collect();
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; rows * columns];
                let right = Packed::for_isa(isa, Precision::Fp32, Matrix::new(&b, depth, columns));
                gemm(&Dense::new(&a, depth), right.right(), &Epilogue::default(), &mut out);
                prop_assert!(close(&out, &plain, 1e-5), "{isa:?}");
                let right = Matrix::new(&transposed, columns, depth).transposed();
                let right = Packed::for_isa(isa, Precision::Fp32, right);
                let epilogue = Epilogue {
                    bias: Some(&bias),
                    activation: Activation::Rectifier(Rectifier::Relu),
                    residual: Some(&residual),
                };
                gemm(&Dense::new(&a, depth), right.right(), &epilogue, &mut out);
                prop_assert!(close(&out, &expected, 1e-5), "{isa:?}");
            }
        }

        #[test]
        fn patches_are_a_convolution(
            batch in 1_usize..3, height in 3_usize..9, width in 3_usize..9, channels in 1_usize..6,
            kernel in 1_usize..4, stride in 1_usize..3, pad in 0_usize..2, seed in 0_usize..99,
        ) {
            let x = values(batch * height * width * channels, seed);
            let outputs = 3;
            let weight = values(kernel * kernel * channels * outputs, seed + 1);
            let patches = Patches::new(&x, [batch, height, width, channels], kernel, stride, pad);
            let mut expected = vec![0.0; patches.count() * outputs];
            for (i, out) in expected.iter_mut().enumerate() {
                let (pixel, output) = (i / outputs, i % outputs);
                let (image, at) = (pixel / (patches.out_height * patches.out_width),
                    pixel % (patches.out_height * patches.out_width));
                for tap in 0..kernel * kernel {
                    let y = (at / patches.out_width * stride + tap / kernel).wrapping_sub(pad);
                    let x_at = (at % patches.out_width * stride + tap % kernel).wrapping_sub(pad);
                    if y < height && x_at < width {
                        for c in 0..channels {
                            *out += x[((image * height + y) * width + x_at) * channels + c]
                                * weight[(tap * channels + c) * outputs + output];
                        }
                    }
                }
            }
            let right = Packed::new(Matrix::new(&weight, kernel * kernel * channels, outputs));
            let mut out = vec![f32::NAN; expected.len()];
            gemm(&patches, right.right(), &Epilogue::default(), &mut out);
            prop_assert!(close(&out, &expected, 1e-5));
        }
    }

    #[test]
    fn planes_are_the_rows_of_the_transposed() {
        for (rows, depth, columns) in [(1, 1, 1), (300, 7, 32), (50, 300, 5)] {
            let (a, b) = (values(rows * depth, 1), values(depth * columns, 2));
            let transposed: Vec<f32> = (0..a.len())
                .map(|i| a[i % rows * depth + i / rows])
                .collect();
            let right = Packed::new(Matrix::new(&b, depth, columns));
            let mut out = vec![f32::NAN; rows * columns];
            gemm(
                &Planes::new(&transposed, rows),
                right.right(),
                &Epilogue::default(),
                &mut out,
            );
            assert!(close(&out, &oracle(&a, &b, depth, columns), 1e-4));
        }
    }

    #[test]
    fn few_rows_use_the_weight_where_it_is() {
        for (rows, depth, columns) in [
            (1, 3, 64),
            (7, 40, 96),
            (24, 5, 32),
            (25, 5, 32),
            (7, 9, 33),
            (3, 300, 512),
        ] {
            let (a, b) = (values(rows * depth, 1), values(depth * columns, 2));
            let mut out = vec![f32::NAN; rows * columns];
            let (bias, residual) = (values(columns, 3), values(rows * columns, 4));
            let mut expected = oracle(&a, &b, depth, columns);
            for (i, x) in expected.iter_mut().enumerate() {
                *x = (*x + bias[i % columns]).max(0.0) + residual[i];
            }
            let epilogue = Epilogue {
                bias: Some(&bias),
                activation: Activation::Rectifier(Rectifier::Relu),
                residual: Some(&residual),
            };
            linear(&a, &b, [depth, columns], &epilogue, &mut out);
            assert!(close(&out, &expected, 1e-5));
            for isa in Isa::available() {
                let Some(right) = Right::in_place_for(isa, &b, depth, columns) else {
                    assert_ne!(columns % 32, 0);
                    continue;
                };
                gemm(
                    &Dense::new(&a, depth),
                    right,
                    &Epilogue::default(),
                    &mut out,
                );
                assert!(
                    close(&out, &oracle(&a, &b, depth, columns), 1e-5),
                    "{isa:?}"
                );
            }
        }
    }

    #[test]
    fn a_packed_matrix_can_be_unpacked() {
        for (depth, columns) in [(0, 3), (3, 0), (1, 1), (7, 32), (5, 33), (40, 100)] {
            let matrix = values(depth * columns, 1);
            for isa in Isa::available() {
                let packed =
                    Packed::for_isa(isa, Precision::Fp32, Matrix::new(&matrix, depth, columns));
                assert_eq!(packed.unpacked(), matrix, "{isa:?}");
            }
        }
    }

    #[test]
    fn long_sums_in_several_passes() {
        let (rows, depth, columns) = (13, 2 * DEPTH + 5, 35);
        let (a, b) = (values(rows * depth, 1), values(depth * columns, 2));
        let expected = oracle(&a, &b, depth, columns);
        for isa in Isa::available() {
            let right = Packed::for_isa(isa, Precision::Fp32, Matrix::new(&b, depth, columns));
            let mut out = vec![f32::NAN; rows * columns];
            gemm(
                &Dense::new(&a, depth),
                right.right(),
                &Epilogue::default(),
                &mut out,
            );
            assert!(close(&out, &expected, 1e-4), "{isa:?}");
        }
    }

    /// Two rows without values.
    struct Empty;
    impl Rows for Empty {
        fn count(&self) -> usize {
            2
        }
        fn depth(&self) -> usize {
            0
        }
        fn gather(&self, _: usize, _: Range<usize>, _: &mut [f32]) {}
    }

    #[test]
    fn nothing_and_what_is_no_number() {
        let right = Packed::new(Matrix::new(&[], 0, 3));
        let bias = [1.0, 2.0, 3.0];
        let epilogue = Epilogue {
            bias: Some(&bias),
            ..Epilogue::default()
        };
        let mut out = [f32::NAN; 6];
        gemm(&Empty, right.right(), &epilogue, &mut out);
        assert_eq!(out, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0], "an empty sum");
        gemm(
            &Dense::new(&[], 2),
            Packed::new(Matrix::new(&[0.0; 6], 2, 3)).right(),
            &epilogue,
            &mut [],
        );

        // What is no number stays in its row.
        for isa in Isa::available() {
            let right = Packed::for_isa(isa, Precision::Fp32, Matrix::new(&[1.0; 20], 1, 20));
            let mut out = [0.0; 60];
            let rows = Dense::new(&[f32::NAN, 1.0, f32::INFINITY], 1);
            gemm(&rows, right.right(), &Epilogue::default(), &mut out);
            assert!(out[..20].iter().all(|x| x.is_nan()));
            assert!(out[20..40].iter().all(|&x| x == 1.0));
            assert!(out[40..].iter().all(|&x| x == f32::INFINITY));
        }
    }
}
