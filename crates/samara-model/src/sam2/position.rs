//! Positions as sines and cosines (`sam2/modeling/position_encoding.py` and `get_1d_sine_pe`).

use std::f64::consts::TAU;

use burn::tensor::{Device, Tensor, TensorData};

/// Ratio of the lowest to the highest frequency.
const TEMPERATURE: f64 = 1e4;
/// Keeps the official code from dividing by zero.
const EPSILON: f64 = 1e-6;

/// Frequency of channel `i` of `n`: neighbours share one, and differ by sine and cosine.
fn frequency(i: usize, n: usize) -> f64 {
    TEMPERATURE.powf(-((2 * (i / 2)) as f64) / n as f64)
}

/// Positions of the cells of a square grid, `[1, side², dim]` (`PositionEmbeddingSine`): the first half
/// of the channels tells the row, the second the column.
pub(super) fn sine_grid(side: usize, dim: usize, device: &Device) -> Tensor<3> {
    let half = dim / 2;
    let of_line = |line: usize| {
        let at = (line + 1) as f64 / (side as f64 + EPSILON) * TAU;
        (0..half).map(move |i| {
            let angle = at * frequency(i, half);
            (if i % 2 == 0 { angle.sin() } else { angle.cos() }) as f32
        })
    };
    let lines: Vec<Vec<f32>> = (0..side).map(|line| of_line(line).collect()).collect();
    let mut values = Vec::with_capacity(side * side * dim);
    for row in &lines {
        for column in &lines {
            values.extend_from_slice(row);
            values.extend_from_slice(column);
        }
    }
    Tensor::from_data(TensorData::new(values, [1, side * side, dim]), device)
}

/// Encodings `[positions, dim]` of numbers: sines, then cosines.
pub(super) fn sine_line(positions: &[f32], dim: usize, device: &Device) -> Tensor<2> {
    let half = dim / 2;
    let mut values = Vec::with_capacity(positions.len() * dim);
    for &position in positions {
        let angles = (0..half).map(|i| f64::from(position) * frequency(i, half));
        values.extend(angles.clone().map(|angle| angle.sin() as f32));
        values.extend(angles.map(|angle| angle.cos() as f32));
    }
    Tensor::from_data(TensorData::new(values, [positions.len(), dim]), device)
}
