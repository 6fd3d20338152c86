//! Numbers in bf16: the upper half of an `f32`.
//!
//! A lane holds two that follow one another along the inner dimension, the first in its lower half.

use pulp::bytemuck::cast_slice_mut;

use crate::isa::{Fma, Isa};

/// Rounds a row, two values a lane. What is missing in the last one is zero.
#[inline(always)]
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "instructions that `pulp` does not have")
)]
pub(super) fn round(isa: Isa, row: &[f32], lanes: &mut [u32]) {
    if row.len() % 2 == 1
        && let Some(last) = lanes.last_mut()
    {
        *last = 0;
    }
    let lanes: &mut [u16] = cast_slice_mut(lanes);
    #[cfg(target_arch = "x86_64")]
    if let Isa::Avx512(isa) = isa
        && isa.has_bf16()
    {
        // SAFETY: the processor has the base and BF16.
        return unsafe { round_avx512_bf16(row, lanes) };
    }
    isa.run(
        #[inline(always)]
        |_: Fma| round_each(row, lanes),
    );
}

/// [`round_each`], sixteen at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
#[expect(unsafe_code, reason = "a type that `pulp` does not have")]
fn round_avx512_bf16(row: &[f32], lanes: &mut [u16]) {
    use std::arch::x86_64::{__m256bh, _mm512_cvtneps_pbh};
    let (rows, rest) = row.as_chunks::<16>();
    let (lanes, lanes_rest) = lanes.split_at_mut(rows.len() * 16);
    for (row, lanes) in rows.iter().zip(lanes.as_chunks_mut::<16>().0) {
        let rounded = _mm512_cvtneps_pbh(pulp::cast(*row));
        // SAFETY: both types are 32 bytes of plain numbers.
        *lanes = unsafe { std::mem::transmute::<__m256bh, [u16; 16]>(rounded) };
    }
    round_each(rest, lanes_rest);
}

#[inline(always)]
fn round_each(row: &[f32], lanes: &mut [u16]) {
    for (lane, x) in lanes.iter_mut().zip(row) {
        *lane = nearest(*x);
    }
}

/// The nearest number, and of two the even one; what is no number stays so.
#[inline(always)]
pub(super) fn nearest(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    (if x.is_nan() { quiet } else { rounded }) as u16
}

/// The lower and the upper number of a lane.
#[inline(always)]
fn values(lane: u32) -> [f32; 2] {
    [
        f32::from_bits(lane << 16),
        f32::from_bits(lane & 0xffff_0000),
    ]
}

/// Packs a panel `[depth, width]`.
pub(super) fn pack(panel: &[f32], width: usize, lanes: &mut [u32]) {
    for (lanes, rows) in lanes.chunks_exact_mut(width).zip(panel.chunks(2 * width)) {
        let (first, second) = rows.split_at(width);
        interleave(Isa::best(), [first, second], lanes);
    }
}

/// Two rows, side by side in every lane. The second one may be missing.
pub(super) fn interleave(isa: Isa, [first, second]: [&[f32]; 2], lanes: &mut [u32]) {
    isa.run(
        #[inline(always)]
        |_: Fma| {
            for (lane, x) in lanes.iter_mut().zip(first) {
                *lane = u32::from(nearest(*x));
            }
            for (lane, x) in lanes.iter_mut().zip(second) {
                *lane |= u32::from(nearest(*x)) << 16;
            }
        },
    );
}

/// The panel of [`pack`].
pub(super) fn unpack(lanes: &[u32], width: usize, panel: &mut [f32]) {
    for (lanes, rows) in lanes.chunks_exact(width).zip(panel.chunks_mut(2 * width)) {
        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
            row.iter_mut()
                .zip(lanes)
                .for_each(|(x, lane)| *x = values(*lane)[i]);
        }
    }
}
