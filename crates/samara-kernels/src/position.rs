//! Positional encoding of the cells of a grid.

use std::f64::consts::PI;

use rayon::prelude::*;

use crate::isa::Isa;

/// Random Fourier features (section A of the SAM paper) at the centres of the cells of a grid:
/// sines, then cosines of `2π · ((2x − 1) · f₀ + (2y − 1) · f₁)` with x and y in 0..1.
///
/// `frequencies` is `[2, n]`, the result `[rows, columns, 2n]`. A sine of a sum is made of the sines
/// and cosines of its terms, so only a row and a column of them are computed, and in these every
/// cell from the one before.
///
/// # Panics
/// When `frequencies` are no pairs.
pub fn fourier_grid(frequencies: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    assert!(frequencies.len().is_multiple_of(2), "pairs of frequencies");
    let n = frequencies.len() / 2;
    let (across, down) = frequencies.split_at(n);
    let (across, down) = (Waves::along(across, columns), Waves::along(down, rows));
    let mut out = vec![0.0; rows * columns * 2 * n];
    if out.is_empty() {
        return out;
    }
    let lines = out.par_chunks_mut(columns * 2 * n).enumerate();
    lines.for_each(|(y, line)| {
        Isa::best().run(
            #[inline(always)]
            |_| {
                for (x, cell) in line.chunks_exact_mut(2 * n).enumerate() {
                    let (sines, cosines) = cell.split_at_mut(n);
                    add_phases(across.at(x, n), down.at(y, n), sines, cosines);
                }
            },
        );
    });
    out
}

/// Sines and cosines of the sums of two phases, given those of each.
#[inline(always)]
fn add_phases(a: [&[f32]; 2], b: [&[f32]; 2], sines: &mut [f32], cosines: &mut [f32]) {
    let n = sines.len();
    let ([a_sin, a_cos], [b_sin, b_cos]) = (a.map(|x| &x[..n]), b.map(|x| &x[..n]));
    let cosines = &mut cosines[..n];
    for i in 0..n {
        sines[i] = a_sin[i] * b_cos[i] + a_cos[i] * b_sin[i];
        cosines[i] = a_cos[i] * b_cos[i] - a_sin[i] * b_sin[i];
    }
}

/// Sines and cosines of every frequency at the cells of an axis, `[cells, n]`.
struct Waves {
    sines: Vec<f32>,
    cosines: Vec<f32>,
}

impl Waves {
    /// Each cell's by turning those of the cell before, in `f64`.
    fn along(frequencies: &[f32], cells: usize) -> Self {
        let mut waves = Self {
            sines: Vec::with_capacity(cells * frequencies.len()),
            cosines: Vec::with_capacity(cells * frequencies.len()),
        };
        let step = 2.0 / cells as f64;
        let turn = |phase: f64| (2.0 * PI * phase).sin_cos();
        let steps: Vec<(f64, f64)> = frequencies
            .iter()
            .map(|&f| turn(step * f64::from(f)))
            .collect();
        let mut now: Vec<(f64, f64)> = frequencies
            .iter()
            .map(|&f| turn((step / 2.0 - 1.0) * f64::from(f)))
            .collect();
        for _ in 0..cells {
            for ((sin, cos), (step_sin, step_cos)) in now.iter_mut().zip(&steps) {
                waves.sines.push(*sin as f32);
                waves.cosines.push(*cos as f32);
                (*sin, *cos) = (
                    *sin * step_cos + *cos * step_sin,
                    *cos * step_cos - *sin * step_sin,
                );
            }
        }
        waves
    }

    /// Sines and cosines at one cell.
    #[inline(always)]
    fn at(&self, cell: usize, n: usize) -> [&[f32]; 2] {
        [&self.sines, &self.cosines].map(|all| &all[cell * n..(cell + 1) * n])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::values;

    #[test]
    fn the_grid_follows_the_definition() {
        let (rows, columns, n) = (5, 7, 6);
        let frequencies = values(2 * n, 3);
        let grid = fourier_grid(&frequencies, rows, columns);
        for (i, value) in grid.iter().enumerate() {
            let (cell, k) = (i / (2 * n), i % (2 * n));
            let centre = |at: usize, count: usize| (at as f64 + 0.5) / count as f64 * 2.0 - 1.0;
            let (x, y) = (
                centre(cell % columns, columns),
                centre(cell / columns, rows),
            );
            let f = |axis: usize| f64::from(frequencies[axis * n + k % n]);
            let phase = 2.0 * PI * (x * f(0) + y * f(1));
            let expected = if k < n { phase.sin() } else { phase.cos() };
            assert!((f64::from(*value) - expected).abs() < 3e-7, "{i}");
        }
        assert!(fourier_grid(&[], 3, 3).is_empty());
    }
}
