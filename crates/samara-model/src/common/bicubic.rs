//! Bicubic interpolation along one axis.

use burn::tensor::{Device, Tensor, TensorData};

/// PyTorch's parameter of the cubic (`A` of `UpSampleKernel`).
const A: f64 = -0.75;

/// The matrix `[to, from]` that stretches `from` values to `to`, as PyTorch's
/// `interpolate(mode="bicubic", align_corners=False)` does along each axis.
pub fn bicubic_weights(from: usize, to: usize, device: &Device) -> Tensor<2> {
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let mut weights = vec![0.0_f32; to * from];
    for (i, row) in weights.chunks_exact_mut(from).enumerate() {
        let at = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let t = at - at.floor();
        let taps = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
        for (tap, weight) in taps.into_iter().enumerate() {
            // Beyond the ends, the last value is repeated.
            let index = at.floor() as i64 + tap as i64 - 1;
            row[index.clamp(0, from as i64 - 1) as usize] += weight as f32;
        }
    }
    Tensor::from_data(TensorData::new(weights, [to, from]), device)
}
