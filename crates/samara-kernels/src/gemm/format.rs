//! The numbers that a matmul multiplies, and how they are held.

use std::fmt;

use pulp::bytemuck::Pod;

use super::aligned::Aligned;
use super::bf16;
use super::int8::{self, RowScale};
use crate::isa::Isa;
#[cfg(doc)]
use crate::precision::Precision;

/// [`Precision`] as a type.
pub(crate) trait Format: Copy + fmt::Debug + Send + Sync + 'static {
    /// The values that one step along the inner dimension multiplies, in a lane of a register.
    type Lane: Pod + Send + Sync;
    /// How many they are.
    const VALUES: usize;
    /// Whether the integers of rows and columns have scales.
    const SCALED: bool;

    /// A thread's buffers for left sides.
    fn buffers(scratch: &mut Scratch) -> Buffers<'_, Self::Lane>;

    /// A row of the left side in lanes. What is missing in the last one is a number, which meets zeros.
    fn round(isa: Isa, row: &[f32], lanes: &mut [Self::Lane]) -> RowScale;

    /// The same of a row of `length` values that `gather` writes.
    #[inline(always)]
    fn row(
        isa: Isa,
        length: usize,
        gather: impl FnOnce(&mut [f32]),
        row: &mut Vec<f32>,
        lanes: &mut [Self::Lane],
    ) -> RowScale {
        row.resize(row.len().max(length), 0.0);
        let row = &mut row[..length];
        gather(row);
        Self::round(isa, row, lanes)
    }

    /// What one means in every column of a panel `[depth, width]`, where it becomes integers.
    fn scales(_panel: &[f32], _width: usize) -> Vec<f32> {
        Vec::new()
    }

    /// Packs a panel.
    fn pack(panel: &[f32], width: usize, scales: &[f32], lanes: &mut [Self::Lane]);

    /// The panel that was packed.
    fn unpack(lanes: &[Self::Lane], width: usize, scales: &[f32], panel: &mut [f32]);

    /// Sums of the integers of every column.
    fn sums(_lanes: &[Self::Lane], _width: usize) -> Vec<f32> {
        Vec::new()
    }
}

/// Buffers of one thread, for left sides.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub values: Aligned<f32>,
    row: Vec<f32>,
    lanes: Aligned<u32>,
    scales: Vec<RowScale>,
}

/// The parts of [`Scratch`] that a format uses.
pub(crate) struct Buffers<'a, L> {
    pub lanes: &'a mut Aligned<L>,
    /// A row before it becomes lanes.
    pub row: &'a mut Vec<f32>,
    pub scales: &'a mut Vec<RowScale>,
}

/// [`Precision::Fp32`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fp32;

impl Format for Fp32 {
    type Lane = f32;
    const VALUES: usize = 1;
    const SCALED: bool = false;

    fn buffers(scratch: &mut Scratch) -> Buffers<'_, f32> {
        Buffers {
            lanes: &mut scratch.values,
            row: &mut scratch.row,
            scales: &mut scratch.scales,
        }
    }

    #[inline(always)]
    fn round(_: Isa, row: &[f32], lanes: &mut [f32]) -> RowScale {
        lanes.copy_from_slice(row);
        RowScale::ONE
    }

    #[inline(always)]
    fn row(
        _: Isa,
        _: usize,
        gather: impl FnOnce(&mut [f32]),
        _: &mut Vec<f32>,
        lanes: &mut [f32],
    ) -> RowScale {
        gather(lanes);
        RowScale::ONE
    }

    fn pack(panel: &[f32], _: usize, _: &[f32], lanes: &mut [f32]) {
        lanes.copy_from_slice(panel);
    }

    fn unpack(lanes: &[f32], _: usize, _: &[f32], panel: &mut [f32]) {
        panel.copy_from_slice(lanes);
    }
}

/// [`Precision::Bf16`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bf16;

impl Format for Bf16 {
    type Lane = u32;
    const VALUES: usize = 2;
    const SCALED: bool = false;

    fn buffers(scratch: &mut Scratch) -> Buffers<'_, u32> {
        Buffers {
            lanes: &mut scratch.lanes,
            row: &mut scratch.row,
            scales: &mut scratch.scales,
        }
    }

    #[inline(always)]
    fn round(isa: Isa, row: &[f32], lanes: &mut [u32]) -> RowScale {
        bf16::round(isa, row, lanes);
        RowScale::ONE
    }

    fn pack(panel: &[f32], width: usize, _: &[f32], lanes: &mut [u32]) {
        bf16::pack(panel, width, lanes);
    }

    fn unpack(lanes: &[u32], width: usize, _: &[f32], panel: &mut [f32]) {
        bf16::unpack(lanes, width, panel);
    }
}

/// [`Precision::Int8`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Int8;

impl Format for Int8 {
    type Lane = u32;
    const VALUES: usize = 4;
    const SCALED: bool = true;

    fn buffers(scratch: &mut Scratch) -> Buffers<'_, u32> {
        Bf16::buffers(scratch)
    }

    #[inline(always)]
    fn round(isa: Isa, row: &[f32], lanes: &mut [u32]) -> RowScale {
        int8::quantise_row(isa, row, lanes)
    }

    fn scales(panel: &[f32], width: usize) -> Vec<f32> {
        int8::scales(panel, width)
    }

    fn pack(panel: &[f32], _: usize, scales: &[f32], lanes: &mut [u32]) {
        int8::pack(panel, scales, lanes);
    }

    fn unpack(lanes: &[u32], _: usize, scales: &[f32], panel: &mut [f32]) {
        int8::unpack(lanes, scales, panel);
    }

    fn sums(lanes: &[u32], width: usize) -> Vec<f32> {
        int8::column_sums(lanes, width)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::activation::{Activation, Rectifier};
    use crate::gemm::{DEPTH, Dense, Epilogue, Matrix, Packed, Rows, gemm, multiply};
    use crate::precision::Precision;
    use crate::testing::{close, values};

    /// A row without values.
    struct Empty;
    impl Rows for Empty {
        fn count(&self) -> usize {
            1
        }
        fn depth(&self) -> usize {
            0
        }
        fn gather(&self, _: usize, _: std::ops::Range<usize>, _: &mut [f32]) {}
    }

    /// What the rows of a left side stand for once they are in lanes.
    fn rounded(isa: Isa, precision: Precision, a: &[f32], depth: usize) -> Vec<f32> {
        let row = |row: &[f32]| -> Vec<f32> {
            match precision {
                Precision::Fp32 => row.to_vec(),
                Precision::Bf16 => {
                    let upper = |x: &f32| f32::from_bits(u32::from(bf16::nearest(*x)) << 16);
                    row.iter().map(upper).collect()
                }
                Precision::Int8 => {
                    let mut lanes = vec![0; row.len().div_ceil(4)];
                    let RowScale { scale, offset } = int8::quantise_row(isa, row, &mut lanes);
                    let bytes = lanes.iter().flat_map(|lane| lane.to_le_bytes());
                    bytes.map(|x| scale * (f32::from(x) - offset)).collect()
                }
            }
        };
        let rows = a.chunks_exact(depth);
        rows.flat_map(|x| row(x).into_iter().take(depth).collect::<Vec<_>>())
            .collect()
    }

    /// Multiplies with an instruction set and by the definition.
    fn check(precision: Precision, [rows, depth, columns]: [usize; 3], seed: usize) {
        let (a, b) = (
            values(rows * depth, seed),
            values(depth * columns, seed + 1),
        );
        let (bias, residual) = (values(columns, seed + 2), values(rows * columns, seed + 3));
        let epilogue = Epilogue {
            bias: Some(&bias),
            activation: Activation::Rectifier(Rectifier::Relu),
            residual: Some(&residual),
        };
        for isa in Isa::available() {
            let packed = Packed::for_isa(isa, precision, Matrix::new(&b, depth, columns));
            let (a_rounded, b_rounded) = (rounded(isa, precision, &a, depth), packed.unpacked());
            let expected: Vec<f32> = (0..rows * columns)
                .map(|i| {
                    let (row, column) = (i / columns, i % columns);
                    let terms = (0..depth).map(|k| {
                        let (a, b) = (a_rounded[row * depth + k], b_rounded[k * columns + column]);
                        f64::from(a) * f64::from(b)
                    });
                    let sum = terms.sum::<f64>() + f64::from(bias[column]);
                    sum.max(0.0) as f32 + residual[i]
                })
                .collect();
            let mut out = vec![f32::NAN; rows * columns];
            gemm(&Dense::new(&a, depth), packed.right(), &epilogue, &mut out);
            assert!(
                close(&out, &expected, 2e-5),
                "{isa:?} {precision:?} {rows} × {depth} × {columns}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn a_matmul_of_rounded_numbers_follows_the_oracle(
            rows in 1_usize..220, depth in 1_usize..70, columns in 1_usize..80, seed in 0_usize..99,
        ) {
            check(Precision::Bf16, [rows, depth, columns], seed);
            check(Precision::Int8, [rows, depth, columns], seed);
        }

        #[test]
        fn a_row_is_rounded_to_the_nearest(
            row in prop::collection::vec(-1e3_f32..1e3, 1..150), zeros in any::<bool>(),
        ) {
            let row: Vec<f32> = if zeros { row.iter().map(|x| x.abs()).collect() } else { row };
            let span = row.iter().fold(0.0_f32, |a, b| a.max(*b)) - row.iter().fold(0.0_f32, |a, b| a.min(*b));
            for isa in Isa::available() {
                for (x, y) in row.iter().zip(rounded(isa, Precision::Int8, &row, row.len())) {
                    prop_assert!((x - y).abs() <= span / 255.0 * 0.501, "{isa:?}: {x} became {y}");
                }
                let mut lanes = vec![0; row.len().div_ceil(2)];
                bf16::round(isa, &row, &mut lanes);
                let halves = lanes.iter().flat_map(|lane| [lane << 16, lane & 0xffff_0000]);
                for (x, y) in row.iter().zip(halves.map(f32::from_bits)) {
                    prop_assert!((x - y).abs() <= x.abs() / 256.0, "{isa:?}: {x} became {y}");
                }
            }
        }
    }

    #[test]
    fn long_sums_in_several_passes() {
        check(Precision::Bf16, [13, 2 * DEPTH * 2 + 7, 35], 1);
        check(Precision::Int8, [13, DEPTH * 4, 35], 1);
        // Rows and steps that AMX sums in several groups and chunks.
        for rows in [45, 300] {
            check(Precision::Bf16, [rows, 1300, 70], 2);
            check(Precision::Int8, [rows, 1300, 33], 2);
        }
    }

    /// More rows than AMX sums at a time, on one thread.
    #[test]
    fn many_rows_on_one_thread() {
        let (rows, depth, columns) = (555, 300, 40);
        let (a, b) = (values(rows * depth, 1), values(depth * columns, 2));
        for precision in [Precision::Bf16, Precision::Int8] {
            for isa in Isa::available() {
                let right = Packed::for_isa(isa, precision, Matrix::new(&b, depth, columns));
                let [mut shared, mut alone] = [
                    vec![f32::NAN; rows * columns],
                    vec![f32::NAN; rows * columns],
                ];
                let (dense, plain) = (Dense::new(&a, depth), Epilogue::default());
                gemm(&dense, right.right(), &plain, &mut shared);
                multiply(
                    &dense,
                    0,
                    right.right(),
                    &plain,
                    &mut Scratch::default(),
                    &mut alone,
                );
                assert_eq!(shared, alone, "{isa:?} {precision:?}");
            }
        }
    }

    #[test]
    fn an_empty_sum_is_the_bias() {
        let right = Packed::with_precision(Precision::Int8, Matrix::new(&[], 0, 3));
        let bias = [1.0, 2.0, 3.0];
        let epilogue = Epilogue {
            bias: Some(&bias),
            ..Epilogue::default()
        };
        let mut out = [f32::NAN; 3];
        multiply(
            &Empty,
            0,
            right.right(),
            &epilogue,
            &mut Scratch::default(),
            &mut out,
        );
        assert_eq!(out, bias);
    }

    /// With several passes each has its own scales for the rows, which the oracle does not know.
    #[test]
    fn long_sums_of_integers_are_close() {
        let (rows, depth, columns) = (13, 2 * DEPTH * 4 + 9, 35);
        let (a, b) = (values(rows * depth, 1), values(depth * columns, 2));
        for isa in Isa::available() {
            let out = [Precision::Fp32, Precision::Int8].map(|precision| {
                let packed = Packed::for_isa(isa, precision, Matrix::new(&b, depth, columns));
                let mut out = vec![f32::NAN; rows * columns];
                let plain = Epilogue::default();
                gemm(&Dense::new(&a, depth), packed.right(), &plain, &mut out);
                out
            });
            let error = out[0].iter().zip(&out[1]).map(|(a, b)| (a - b).abs());
            let largest = out[0].iter().fold(0.0_f32, |a, b| a.max(b.abs()));
            let worst = error.fold(0.0, f32::max);
            assert!(worst < 0.02 * largest, "{isa:?}: {worst} of {largest}");
        }
    }

    #[test]
    fn rounded_matrices_can_be_unpacked() {
        for (depth, columns) in [(1, 1), (7, 32), (5, 33), (40, 100)] {
            let matrix = values(depth * columns, 1);
            for (precision, error) in [
                (Precision::Bf16, 1.0 / 256.0),
                (Precision::Int8, 1.0 / 200.0),
            ] {
                for isa in Isa::available() {
                    let packed =
                        Packed::for_isa(isa, precision, Matrix::new(&matrix, depth, columns));
                    let again = Packed::for_isa(
                        isa,
                        precision,
                        Matrix::new(&packed.unpacked(), depth, columns),
                    );
                    assert_eq!(packed.unpacked(), again.unpacked(), "rounded once");
                    assert!(close(&packed.unpacked(), &matrix, error), "{isa:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_in_its_row() {
        for precision in [Precision::Bf16, Precision::Int8] {
            for isa in Isa::available() {
                let right = Packed::for_isa(isa, precision, Matrix::new(&[1.0; 40], 2, 20));
                let mut out = [0.0; 60];
                let rows = [f32::NAN, 1.0, 1.0, 1.0, 1.0, f32::INFINITY];
                gemm(
                    &Dense::new(&rows, 2),
                    right.right(),
                    &Epilogue::default(),
                    &mut out,
                );
                assert!(out[..20].iter().all(|x| x.is_nan()), "{isa:?}");
                assert!(
                    out[20..40].iter().all(|x| (x - 2.0).abs() < 1e-6),
                    "{isa:?} {out:?}"
                );
                assert!(out[40..].iter().all(|x| !x.is_finite()), "{isa:?}");
            }
        }
    }

    #[test]
    fn nothing_and_few_rows() {
        for precision in [Precision::Bf16, Precision::Int8] {
            check(precision, [3, 300, 512], 1);
            let right = Packed::with_precision(precision, Matrix::new(&[0.0; 6], 2, 3));
            gemm(
                &Dense::new(&[], 2),
                right.right(),
                &Epilogue::default(),
                &mut [],
            );
            let mut out = [f32::NAN; 3];
            gemm(
                &Dense::new(&[0.0; 2], 2),
                right.right(),
                &Epilogue::default(),
                &mut out,
            );
            assert_eq!(out, [0.0; 3]);
        }
    }
}
