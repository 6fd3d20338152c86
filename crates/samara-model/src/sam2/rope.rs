//! Rotary position encoding on a grid (`compute_axial_cis` of `sam2/modeling/position_encoding.py`).

use burn::tensor::{Device, Tensor, TensorData};

/// Base of the frequencies.
const THETA: f64 = 1e4;

/// By how much each pair of channels turns at each cell of a grid.
#[derive(Debug, Clone)]
pub(super) struct Rope {
    /// `[cells, dim / 2]`.
    cos: Tensor<2>,
    sin: Tensor<2>,
}

impl Rope {
    /// For a grid of `side`² cells and `dim` channels: the first half of the pairs turns with the
    /// column, the second with the row.
    pub(super) fn new(side: usize, dim: usize, device: &Device) -> Self {
        let quarter = dim / 4;
        let mut angles = Vec::with_capacity(side * side * 2 * quarter);
        for cell in 0..side * side {
            for at in [cell % side, cell / side] {
                let frequency = |i: usize| THETA.powf(-((4 * i) as f64) / dim as f64);
                angles.extend((0..quarter).map(|i| at as f64 * frequency(i)));
            }
        }
        let tensor = |of: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|&angle| of(angle) as f32).collect();
            Tensor::from_data(TensorData::new(values, [side * side, 2 * quarter]), device)
        };
        Self {
            cos: tensor(f64::cos),
            sin: tensor(f64::sin),
        }
    }

    /// Turns `[batch, tokens, dim]`, whose tokens are one grid after the other.
    pub(super) fn turn(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, dim] = x.dims();
        let [cells, pairs] = self.cos.dims();
        let x = x.reshape([batch * tokens / cells, cells, pairs, 2]);
        let (a, b) = (x.clone().narrow(3, 0, 1), x.narrow(3, 1, 1));
        let factor = |x: &Tensor<2>| x.clone().reshape([1, cells, pairs, 1]);
        let (cos, sin) = (factor(&self.cos), factor(&self.sin));
        let turned = vec![
            a.clone() * cos.clone() - b.clone() * sin.clone(),
            a * sin + b * cos,
        ];
        Tensor::cat(turned, 3).reshape([batch, tokens, dim])
    }
}
