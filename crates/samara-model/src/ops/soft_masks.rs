//! What a score needs to know of masks.

use burn::tensor::Tensor;
use samara_kernels::soft_mask::{means_of_squares, soft_areas};

use super::values::{Values, tensor};

/// Of logits `[batch, masks, side, side]`, by a kernel where there is one: probabilities
/// `[batch, masks, side²]`, their means over a `grid` `[batch, masks, grid²]`, and five measures
/// `[batch, masks, 5]`: areas above over areas below the threshold at ±1 and ±4 logits, the mean
/// probability of what is above 0, the share of the picture, and its square root.
pub fn soft_masks(logits: &Tensor<4>, grid: usize) -> Option<(Tensor<3>, Tensor<3>, Tensor<3>)> {
    let ([batch, masks, side, _], device) = (logits.dims(), logits.device());
    let mut inside = Values::of(logits.clone())?.as_slice().to_vec();
    let mut coarse = Vec::with_capacity(batch * masks * grid * grid);
    let mut measures = Vec::with_capacity(batch * masks * 5);
    for mask in inside.chunks_exact_mut(side * side) {
        let areas = soft_areas(mask);
        coarse.extend(means_of_squares(mask, side, side / grid));
        let stability = |i: usize| (areas.high[i] + 1.0) / (areas.low[i] + 1.0);
        let share = areas.area / (side * side) as f32;
        let confident = areas.confident / (areas.count + 1.0);
        measures.extend([stability(0), stability(1), confident, share, share.sqrt()]);
    }
    Some((
        tensor(inside, [batch, masks, side * side], &device),
        tensor(coarse, [batch, masks, grid * grid], &device),
        tensor(measures, [batch, masks, 5], &device),
    ))
}
