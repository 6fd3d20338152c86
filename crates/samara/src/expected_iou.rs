//! The IoU to expect, whatever was meant.

/// For each of several masks the sum of all weights, each times the IoU of its mask with this one.
pub(crate) fn supported(weights: &[f32], iou: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let support = |i: usize| {
        let others = weights.iter().enumerate();
        others
            .map(|(j, weight)| if i == j { *weight } else { weight * iou(i, j) })
            .sum()
    };
    (0..weights.len()).map(support).collect()
}
