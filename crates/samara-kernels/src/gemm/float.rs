//! Both sides of a matmul made on the way, of numbers that need no scales.

use std::ops::Range;

use pulp::Simd;

use super::aligned::Aligned;
use super::bf16;
use super::blocking::{end_row, row_stride, shape};
use super::dispatch::Dispatch;
use super::format::{Bf16, Format, Fp32};
use super::left::Left;
use super::packed::Side;
use crate::isa::{Fma, Isa};
use crate::math::{exp_lanes, rough_exp_lanes};

/// A format whose numbers stand for themselves, so that both sides of a matmul can be made on the way.
pub(crate) trait Float: Dispatch {
    /// Rows of `length` values every `stride` as a left side.
    fn left<'a>(
        isa: Isa,
        values: &'a [f32],
        stride: usize,
        length: usize,
        lanes: &'a mut Aligned<Self::Lane>,
    ) -> Left<'a, Self>;

    /// exp(x) for x ≤ 88 in every lane of a register, as exact as the format.
    fn exp_lanes<S: Simd>(simd: S, fma: Fma, x: S::f32s) -> S::f32s;

    /// A column of a right side, one lane after the other.
    fn column<'a>(
        isa: Isa,
        column: &[f32],
        lanes: &mut Aligned<Self::Lane>,
        out: impl Iterator<Item = &'a mut Self::Lane>,
    );

    /// Packs a matrix that lies in memory row by row on this thread, into memory that is used again. What the
    /// last panel has beyond the columns is left as it is.
    fn side<'a>(
        isa: Isa,
        values: &[f32],
        columns: usize,
        lanes: &'a mut Aligned<Self::Lane>,
    ) -> Side<'a, Self> {
        let (depth, width) = (values.len() / columns, shape(isa).1);
        let steps = depth.div_ceil(Self::VALUES);
        lanes.resize(columns.div_ceil(width) * width * steps);
        for (step, rows) in values.chunks(Self::VALUES * columns).enumerate() {
            let (first, second) = rows.split_at(columns);
            let second = (!second.is_empty()).then_some(second);
            Self::step(isa, (first, second), step..steps, lanes);
        }
        Side::from_panels(isa, lanes, depth, columns)
    }

    /// Packs the rows of one step into all panels, `[steps, width]` each: a row, and a second one where a lane
    /// holds two and there is one. `steps` begins with this step and ends with their number.
    fn step(
        isa: Isa,
        (first, second): (&[f32], Option<&[f32]>),
        steps: Range<usize>,
        panels: &mut [Self::Lane],
    ) {
        let (columns, width) = (first.len(), shape(isa).1);
        let panels = panels.chunks_exact_mut(steps.end * width);
        for (from, panel) in (0..columns).step_by(width).zip(panels) {
            let part = from..columns.min(from + width);
            let out = &mut panel[steps.start * width..][..part.len()];
            let second = second.map(|row| &row[part.clone()]);
            Self::interleave(isa, (&first[part], second), out);
        }
    }

    /// A row of a panel. A second row that is missing is zero.
    fn interleave(isa: Isa, rows: (&[f32], Option<&[f32]>), out: &mut [Self::Lane]);
}

impl Float for Fp32 {
    #[inline(always)]
    fn exp_lanes<S: Simd>(simd: S, fma: Fma, x: S::f32s) -> S::f32s {
        exp_lanes(simd, fma, x)
    }

    fn left<'a>(
        _: Isa,
        values: &'a [f32],
        stride: usize,
        _: usize,
        _: &'a mut Aligned<f32>,
    ) -> Left<'a, Self> {
        Left::new(values, stride)
    }

    fn column<'a>(
        _: Isa,
        column: &[f32],
        _: &mut Aligned<f32>,
        out: impl Iterator<Item = &'a mut f32>,
    ) {
        out.zip(column).for_each(|(out, x)| *out = *x);
    }

    fn interleave(_: Isa, (row, _): (&[f32], Option<&[f32]>), out: &mut [f32]) {
        out.copy_from_slice(row);
    }
}

impl Float for Bf16 {
    #[inline(always)]
    fn exp_lanes<S: Simd>(simd: S, fma: Fma, x: S::f32s) -> S::f32s {
        rough_exp_lanes(simd, fma, x)
    }

    fn left<'a>(
        isa: Isa,
        values: &'a [f32],
        stride: usize,
        length: usize,
        lanes: &'a mut Aligned<u32>,
    ) -> Left<'a, Self> {
        let steps = length.div_ceil(Self::VALUES);
        let lanes_stride = row_stride(steps);
        let rows = values.chunks_exact(stride);
        lanes.resize(rows.len() * lanes_stride);
        for (row, lanes) in rows.zip(lanes.chunks_exact_mut(lanes_stride)) {
            bf16::round(isa, &row[..length], &mut lanes[..steps]);
            end_row(lanes, steps);
        }
        Left::new(lanes, lanes_stride)
    }

    fn column<'a>(
        isa: Isa,
        column: &[f32],
        lanes: &mut Aligned<u32>,
        out: impl Iterator<Item = &'a mut u32>,
    ) {
        lanes.resize(column.len().div_ceil(2));
        bf16::round(isa, column, lanes);
        out.zip(&**lanes).for_each(|(out, lane)| *out = *lane);
    }

    fn interleave(isa: Isa, (first, second): (&[f32], Option<&[f32]>), out: &mut [u32]) {
        bf16::interleave(isa, [first, second.unwrap_or_default()], out);
    }
}
