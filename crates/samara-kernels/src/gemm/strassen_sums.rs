//! The sums of quarters that the seven matmuls of `strassen.rs` multiply.

use super::aligned::Aligned;
use super::blocking::DEPTH;
use crate::isa::Isa;

/// Matmuls in place of eight.
pub(super) const MATMULS: usize = 7;
/// Rows of the left side per task: a multiple of twice all tile heights. With half of [`DEPTH`] their
/// seven sums take 540 KB and stay in the second-level cache.
pub(super) const BLOCK_ROWS: usize = 96;
/// Steps of a half from which on the sums of the result cost less than the eighth that they spare.
const LEAST_HALF: usize = 80;
/// Rows from which on a right side is worth its sums.
const LEAST_ROWS: usize = 768;
/// Panels from which on one of zeros may be added to make them even.
const LEAST_ODD: usize = 15;

/// Whether a matmul of this size gains.
pub(super) fn pays(rows: usize, depth: usize, panels: usize) -> bool {
    let shortest = depth % DEPTH;
    let halves = depth.is_multiple_of(2) && (shortest == 0 || shortest >= 2 * LEAST_HALF);
    let pairs = panels.is_multiple_of(2) || panels >= LEAST_ODD;
    rows >= LEAST_ROWS && depth > 0 && halves && panels > 1 && pairs
}

/// One side of a matmul: a quarter, and what is added to it, with its sign.
pub(super) type Side = (Quarter, Option<(Quarter, f32)>);

/// The quarters of a matrix, row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quarter {
    TopLeft,
    TopRight,
    BottomLeft,
    BottomRight,
}
use Quarter::{BottomLeft, BottomRight, TopLeft, TopRight};

/// The right sides of the seven matmuls.
const RIGHT: [Side; MATMULS] = [
    (TopLeft, Some((BottomRight, 1.0))),
    (TopLeft, None),
    (TopRight, Some((BottomRight, -1.0))),
    (BottomLeft, Some((TopLeft, -1.0))),
    (BottomRight, None),
    (TopLeft, Some((TopRight, 1.0))),
    (BottomLeft, Some((BottomRight, 1.0))),
];

/// The left sides.
pub(super) const LEFT: [Side; MATMULS] = [
    (TopLeft, Some((BottomRight, 1.0))),
    (BottomLeft, Some((BottomRight, 1.0))),
    (TopLeft, None),
    (BottomRight, None),
    (TopLeft, Some((TopRight, 1.0))),
    (BottomLeft, Some((TopLeft, -1.0))),
    (TopRight, Some((BottomRight, -1.0))),
];

/// Values of a pair of panels of `width` columns: the right sides of the seven matmuls of every pass.
pub(super) fn pair_length(depth: usize, width: usize) -> usize {
    MATMULS * (depth / 2) * width
}

/// The right sides of all seven matmuls of every pair of panels of `width` columns, pass by pass. What is
/// missing in the last pair is zero.
pub(super) fn right_sides(isa: Isa, panels: &[f32], depth: usize, width: usize) -> Aligned<f32> {
    let panel = (depth * width).max(1);
    let pairs = panels.len().div_ceil(2 * panel);
    Aligned::of_parts(pairs, pair_length(depth, width), |pair, out| {
        let (left, rest) = panels[2 * pair * panel..].split_at(panel);
        match rest.get(..panel) {
            Some(right) => right_sides_of_pair(isa, [left, right], width, out),
            None => right_sides_of_pair(isa, [left, &vec![0.0; panel]], width, out),
        }
    })
}

/// The seven right sides of two panels `[depth, width]`.
fn right_sides_of_pair(isa: Isa, panels: [&[f32]; 2], width: usize, out: &mut [f32]) {
    let depth = panels[0].len() / width;
    let mut rest = out;
    for start in (0..depth).step_by(DEPTH) {
        let half = (depth - start).min(DEPTH) / 2 * width;
        let quarter = |quarter| {
            let (panel, lower) = match quarter {
                TopLeft => (0, 0),
                TopRight => (1, 0),
                BottomLeft => (0, half),
                BottomRight => (1, half),
            };
            &panels[panel][start * width + lower..][..half]
        };
        for side in RIGHT {
            let (out, later) = rest.split_at_mut(half);
            sum(isa, side, quarter, out);
            rest = later;
        }
    }
}

/// One quarter, or that and another one with its sign.
#[inline(always)]
pub(super) fn sum<'a>(
    isa: Isa,
    (first, second): Side,
    quarter: impl Fn(Quarter) -> &'a [f32],
    out: &mut [f32],
) {
    let a = quarter(first);
    let Some((second, sign)) = second else {
        return out.copy_from_slice(a);
    };
    let b = quarter(second);
    isa.run(
        #[inline(always)]
        |fma| {
            for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                *out = fma.multiply_add(*b, sign, *a);
            }
        },
    );
}
