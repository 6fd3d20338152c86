//! Positional encoding by random spatial frequencies (section A of the SAM paper).

use std::f64::consts::PI;

use burn::tensor::{Int, Tensor};

use crate::ops;

/// Coordinates (x, y) in 0..1, `[.., .., 2]` → `[.., .., 2n]`: sines, then cosines. `frequencies` is
/// `[2, n]`.
pub fn fourier_features(coords: Tensor<3>, frequencies: Tensor<2>) -> Tensor<3> {
    let phases = (coords * 2.0 - 1.0).matmul(frequencies.unsqueeze()) * (2.0 * PI);
    Tensor::cat(vec![phases.clone().sin(), phases.cos()], 2)
}

/// [`fourier_features`] of the centres of the cells of a square grid: `[1, grid², 2n]`.
pub fn fourier_grid(frequencies: Tensor<2>, grid: usize) -> Tensor<3> {
    ops::fourier_grid(&frequencies, grid).unwrap_or_else(|| {
        let cells = Tensor::<1, Int>::arange(0..grid as i64, &frequencies.device()).float();
        let centres = (cells + 0.5) / grid as f64;
        let x = centres.clone().reshape([1, grid, 1]).repeat_dim(0, grid);
        let y = centres.reshape([grid, 1, 1]).repeat_dim(1, grid);
        let coords = Tensor::cat(vec![x, y], 2).reshape([1, grid * grid, 2]);
        fourier_features(coords, frequencies)
    })
}
