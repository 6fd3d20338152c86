//! Numbers in 8-bit integers with a scale.
//!
//! A lane holds four that follow one another along the inner dimension, the first in its lowest byte: of the
//! left side integers from 0 to 255, of the right side such from −127 to 127.

use pulp::bytemuck::{cast_slice, cast_slice_mut};

use crate::isa::{Fma, Isa};

/// What the integers of a row of the left side stand for: `scale · (integer − offset)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RowScale {
    pub scale: f32,
    pub offset: f32,
}

impl RowScale {
    /// That of numbers that stand for themselves.
    pub(super) const ONE: Self = Self {
        scale: 1.0,
        offset: 0.0,
    };
}

/// The largest integer of a right side; the smallest is its negative.
const LARGEST: f32 = 127.0;

/// Quantises a row: zero stays zero, and the smallest and the largest value become 0 and 255. What is missing in
/// the last lane meets zeros on the right side, whatever it is.
#[inline(always)]
pub(super) fn quantise_row(isa: Isa, row: &[f32], lanes: &mut [u32]) -> RowScale {
    let bytes: &mut [u8] = cast_slice_mut(lanes);
    isa.run(
        #[inline(always)]
        |fma| quantise(fma, row, bytes),
    )
}

#[inline(always)]
fn quantise(fma: Fma, row: &[f32], bytes: &mut [u8]) -> RowScale {
    let [least, most] = extremes(row);
    let range = most - least;
    // What is no number, or no finite one, is in `range`.
    let scale = range / 255.0;
    let inverse = if scale > 0.0 { 255.0 / range } else { 0.0 };
    let offset = (-least * inverse).round_ties_even();
    for (byte, x) in bytes.iter_mut().zip(row) {
        *byte = nearest(fma.multiply_add(*x, inverse, offset));
    }
    RowScale { scale, offset }
}

/// The nearest integer of a number from 0 to 255, about.
#[inline(always)]
fn nearest(x: f32) -> u8 {
    /// Added to a small number, it leaves the nearest integer in the lowest bits.
    const SHIFT: f32 = 12_582_912.0;
    ((if x < 255.0 { x } else { 255.0 }) + SHIFT).to_bits() as u8
}

/// The smallest and the largest value, and zero where it is beyond them. What is no number, or no finite one,
/// makes both so.
#[inline(always)]
fn extremes(row: &[f32]) -> [f32; 2] {
    /// Lanes, so that a register holds independent results.
    const LANES: usize = 64;
    let (mut least, mut most, mut not_finite) =
        ([0.0_f32; LANES], [0.0_f32; LANES], [0.0_f32; LANES]);
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    let mut take = |chunk: &[f32]| {
        let lanes = least.iter_mut().zip(&mut most).zip(&mut not_finite);
        for (x, ((least, most), not_finite)) in chunk.iter().zip(lanes) {
            *least = if *x < *least { *x } else { *least };
            *most = if *x > *most { *x } else { *most };
            // 0, or what is no number.
            *not_finite += x * 0.0;
        }
    };
    for chunk in chunks {
        take(chunk);
    }
    take(rest);
    let not_finite: f32 = not_finite.iter().sum();
    let least = least.iter().fold(0.0, |a: f32, b| a.min(*b));
    let most = most.iter().fold(0.0, |a: f32, b| a.max(*b));
    [least + not_finite, most + not_finite]
}

/// What one means in every column of a panel `[depth, width]`: the largest value becomes the largest integer.
pub(super) fn scales(panel: &[f32], width: usize) -> Vec<f32> {
    let mut scales = vec![0.0_f32; width];
    for row in panel.chunks_exact(width) {
        for (scale, x) in scales.iter_mut().zip(row) {
            // What is no number stays so.
            *scale = if x.abs() <= *scale { *scale } else { x.abs() };
        }
    }
    scales.iter_mut().for_each(|scale| *scale /= LARGEST);
    scales
}

/// Packs a panel `[depth, width]`.
pub(super) fn pack(panel: &[f32], scales: &[f32], lanes: &mut [u32]) {
    let width = scales.len();
    let bytes: &mut [i8] = cast_slice_mut(lanes);
    let steps = bytes.chunks_exact_mut(4 * width);
    for (bytes, rows) in steps.zip(panel.chunks(4 * width)) {
        for (i, row) in rows.chunks_exact(width).enumerate() {
            let column = bytes[i..].iter_mut().step_by(4);
            for (byte, (x, scale)) in column.zip(row.iter().zip(scales)) {
                let x = if *scale > 0.0 { x / scale } else { 0.0 };
                *byte = x.round().clamp(-LARGEST, LARGEST) as i8;
            }
        }
    }
}

/// The panel of [`pack`].
pub(super) fn unpack(lanes: &[u32], scales: &[f32], panel: &mut [f32]) {
    let width = scales.len();
    let bytes: &[i8] = cast_slice(lanes);
    let steps = bytes.chunks_exact(4 * width);
    for (bytes, rows) in steps.zip(panel.chunks_mut(4 * width)) {
        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
            let column = bytes[i..].iter().step_by(4);
            for (x, (byte, scale)) in row.iter_mut().zip(column.zip(scales)) {
                *x = f32::from(*byte) * scale;
            }
        }
    }
}

/// The sums of the integers of every column of a panel.
pub(super) fn column_sums(lanes: &[u32], width: usize) -> Vec<f32> {
    let bytes: &[i8] = cast_slice(lanes);
    let column = |i| bytes.chunks_exact(4).skip(i).step_by(width).flatten();
    let sum = |i| column(i).map(|x| i32::from(*x)).sum::<i32>() as f32;
    (0..width).map(sum).collect()
}
