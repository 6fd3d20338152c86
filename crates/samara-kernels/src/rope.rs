//! Rotary positions of the cells of a square grid (`compute_axial_cis` of SAM 2): neighbouring
//! channels are rotated as pairs, the pairs of the first half of the channels with the column of the
//! cell, those of the second half with its row.

use rayon::prelude::*;

use crate::isa::Isa;

/// Base of the frequencies.
const THETA: f64 = 1e4;

/// By how much each pair of channels is rotated at each place along an axis.
#[derive(Debug, Clone)]
pub struct Rotations {
    side: usize,
    /// Pairs that rotate with one axis.
    pairs: usize,
    /// `[side, pairs]`.
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotations {
    /// For a grid of `side` × `side` cells and `dim` channels, a multiple of 4.
    pub fn new(side: usize, dim: usize) -> Self {
        let pairs = dim / 4;
        let frequency = |i: usize| THETA.powf(-((4 * i) as f64) / dim as f64);
        let angles = |at: usize| (0..pairs).map(move |i| at as f64 * frequency(i));
        let table = |of: fn(f64) -> f64| -> Vec<f32> {
            let angles = (0..side).flat_map(angles);
            angles.map(|angle| of(angle) as f32).collect()
        };
        Self {
            side,
            pairs,
            cos: table(f64::cos),
            sin: table(f64::sin),
        }
    }

    /// Channels of a token.
    fn dim(&self) -> usize {
        4 * self.pairs
    }

    /// Rotates the pairs of `values` as they are rotated at a place along an axis.
    #[inline(always)]
    pub(crate) fn rotate_at(&self, place: usize, values: &mut [f32]) {
        let (cos, sin) = (
            &self.cos[place * self.pairs..],
            &self.sin[place * self.pairs..],
        );
        let pairs = values.as_chunks_mut::<2>().0;
        for ((pair, cos), sin) in pairs.iter_mut().zip(cos).zip(sin) {
            let [a, b] = *pair;
            *pair = [a * cos - b * sin, a * sin + b * cos];
        }
    }

    /// Rotates tokens `[.., dim]`, one grid after the other.
    ///
    /// # Panics
    /// When the tokens are no whole number of grids.
    pub fn rotate(&self, tokens: &mut [f32]) {
        let (dim, side) = (self.dim(), self.side);
        assert!(
            tokens.len().is_multiple_of(side * side * dim),
            "{} values are no grids of {side} × {side} × {dim}",
            tokens.len()
        );
        if dim == 0 {
            return;
        }
        let isa = Isa::best();
        let lines = tokens.par_chunks_mut(side * dim).enumerate();
        lines.for_each(|(line, tokens)| {
            isa.run(
                #[inline(always)]
                |_| {
                    for (column, token) in tokens.chunks_exact_mut(dim).enumerate() {
                        let (with_column, with_row) = token.split_at_mut(dim / 2);
                        self.rotate_at(column, with_column);
                        self.rotate_at(line % side, with_row);
                    }
                },
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, values};

    #[test]
    fn tokens_turn_by_their_places() {
        let (side, dim) = (3, 8);
        let tokens = values(2 * side * side * dim, 3);
        let mut rotated = tokens.clone();
        Rotations::new(side, dim).rotate(&mut rotated);
        for (i, (before, after)) in tokens.chunks(dim).zip(rotated.chunks(dim)).enumerate() {
            let cell = i % (side * side);
            let mut expected = Vec::new();
            for (pair, &[a, b]) in before.as_chunks::<2>().0.iter().enumerate() {
                let at = if pair < 2 { cell % side } else { cell / side };
                let angle = at as f64 * 1e4_f64.powf(-((4 * (pair % 2)) as f64) / dim as f64);
                let (sin, cos) = angle.sin_cos();
                let (a, b) = (f64::from(a), f64::from(b));
                expected.extend([(a * cos - b * sin) as f32, (a * sin + b * cos) as f32]);
            }
            assert!(close(after, &expected, 1e-6), "{i}");
        }
    }
}
