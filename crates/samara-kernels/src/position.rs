//! Positional encoding of the cells of a grid.

use std::f64::consts::PI;

use rayon::prelude::*;

/// Random Fourier features (section A of the SAM paper) at the centres of the cells of a grid:
/// sines, then cosines of `2π · ((2x − 1) · f₀ + (2y − 1) · f₁)` with x and y in 0..1.
///
/// `frequencies` is `[2, n]`, the result `[rows, columns, 2n]`. A sine of a sum is made of the sines
/// and cosines of its terms, so only a row and a column of them are computed.
///
/// # Panics
/// When `frequencies` are no pairs.
pub fn fourier_grid(frequencies: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    assert!(frequencies.len().is_multiple_of(2), "pairs of frequencies");
    let n = frequencies.len() / 2;
    let along = |frequencies: &[f32], count: usize| -> Vec<(f32, f32)> {
        let phase = |cell: usize, f: f32| {
            let centre = (cell as f64 + 0.5) / count as f64;
            let (sin, cos) = (2.0 * PI * (2.0 * centre - 1.0) * f64::from(f)).sin_cos();
            (sin as f32, cos as f32)
        };
        (0..count)
            .flat_map(|cell| frequencies.iter().map(move |&f| phase(cell, f)))
            .collect()
    };
    let (across, down) = frequencies.split_at(n);
    let (across, down) = (along(across, columns), along(down, rows));
    let mut out = vec![0.0; rows * columns * 2 * n];
    if out.is_empty() {
        return out;
    }
    out.par_chunks_mut(columns * 2 * n)
        .zip(down.par_chunks(n))
        .for_each(|(line, down)| {
            for (cell, across) in line.chunks_exact_mut(2 * n).zip(across.chunks_exact(n)) {
                let (sines, cosines) = cell.split_at_mut(n);
                let terms = across.iter().zip(down);
                for ((sin, cos), (a, b)) in sines.iter_mut().zip(cosines).zip(terms) {
                    *sin = a.0 * b.1 + a.1 * b.0;
                    *cos = a.1 * b.1 - a.0 * b.0;
                }
            }
        });
    out
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
