//! The left side of a matmul as a tile reads it.

use super::format::{Format, Fp32};
use super::int8::RowScale;

/// Rows for a whole number of tiles, gathered or where they are.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a, F: Format = Fp32> {
    /// Where they are lanes of several values, every row of the result goes on with zeros up to a whole line of the
    /// cache ([`end_row`](super::end_row)); rows that fill up a tile hold anything.
    pub lanes: &'a [F::Lane],
    pub stride: usize,
    /// What the integers of every row stand for, where they are integers.
    pub scales: &'a [RowScale],
}

impl<'a, F: Format> Left<'a, F> {
    /// Rows of numbers that stand for themselves.
    pub(crate) fn new(lanes: &'a [F::Lane], stride: usize) -> Self {
        Self {
            lanes,
            stride,
            scales: &[],
        }
    }

    /// The rows from a lane on.
    #[inline(always)]
    pub(super) fn at_lane(self, lane: usize) -> Self {
        Self {
            lanes: &self.lanes[lane..],
            ..self
        }
    }

    /// The rows from `row` on.
    #[inline(always)]
    pub(super) fn at_row(self, row: usize) -> Self {
        Self {
            lanes: &self.lanes[row * self.stride..],
            ..self
        }
    }
}
