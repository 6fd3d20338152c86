//! The IoU head of `compact`: it looks at the mask it judges.
//!
//! SAM's head sees its token only, and learns from eleven million images what a good mask is.
//! This one sees, per candidate, the mask token, the features inside the mask and a few numbers
//! that tell a firm mask from a doubtful one. No gradient flows from a score into its mask.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};

use super::DIM4;
use crate::ops::{self, Activation, space_to_depth};

/// Numbers per mask, see [`SoftMasks`].
const MEASURES: usize = 5;

/// Predicts the IoU of every candidate mask.
#[derive(Module, Debug)]
pub(super) struct IouHead {
    layer1: Linear,
    layer2: Linear,
    layer3: Linear,
}

impl IouHead {
    pub(super) fn new(dim: usize, device: &Device) -> Self {
        let inputs = 2 * dim + dim + DIM4 + MEASURES;
        Self {
            layer1: LinearConfig::new(inputs, dim).init(device),
            layer2: LinearConfig::new(dim, dim).init(device),
            layer3: LinearConfig::new(dim, 1).init(device),
        }
    }

    /// Scores in [0, 1], `[batch, masks]`.
    ///
    /// `iou_token` `[batch, 1, dim]`, `mask_tokens` `[batch, masks, dim]`, `logits`
    /// `[batch, masks, 4g, 4g]`, `cells` `[batch, g, g, dim]`, `pixels` `[batch, 4g, 4g, DIM4]`.
    pub(super) fn forward(
        &self,
        iou_token: Tensor<3>,
        mask_tokens: Tensor<3>,
        logits: Tensor<4>,
        cells: Tensor<4>,
        pixels: Tensor<4>,
    ) -> Tensor<2> {
        let [batch, masks, side, _] = logits.dims();
        let [_, grid, _, dim] = cells.dims();
        let SoftMasks {
            inside,
            coarse,
            measures,
        } = SoftMasks::of(logits.detach(), grid);
        let pooled_pixels = pooled(inside, pixels.reshape([batch, side * side, DIM4]), 1.0);
        let pooled_cells = pooled(coarse, cells.reshape([batch, grid * grid, dim]), 1.0 / 16.0);

        let iou_token = iou_token.repeat_dim(1, masks);
        let x = Tensor::cat(
            vec![
                iou_token,
                mask_tokens,
                pooled_cells,
                pooled_pixels,
                measures,
            ],
            2,
        );
        let x = ops::linear(x, &self.layer1, Activation::Relu);
        let x = ops::linear(x, &self.layer2, Activation::Relu);
        activation::sigmoid(ops::linear(x, &self.layer3, Activation::Identity)).squeeze_dim(2)
    }
}

/// Means of `values` `[batch, n, channels]` under `weights` `[batch, masks, n]`; `least` keeps an empty
/// mask from dividing by nothing.
fn pooled(weights: Tensor<3>, values: Tensor<3>, least: f64) -> Tensor<3> {
    let area = weights.clone().sum_dim(2);
    weights.matmul(values) / (area + least)
}

/// What the head sees of the masks themselves.
struct SoftMasks {
    /// Probabilities, `[batch, masks, (4g)²]`.
    inside: Tensor<3>,
    /// Their means over every cell, `[batch, masks, g²]`.
    coarse: Tensor<3>,
    /// How firm a mask is, `[batch, masks, MEASURES]`: stability at ±1 and at ±4 logits, mean
    /// probability inside, and the share of the picture (linear, and as a length).
    measures: Tensor<3>,
}

impl SoftMasks {
    /// Of logits `[batch, masks, 4g, 4g]`.
    fn of(logits: Tensor<4>, grid: usize) -> Self {
        let [batch, masks, side, _] = logits.dims();
        if let Some((inside, coarse, measures)) = ops::soft_masks(&logits, grid) {
            return Self {
                inside,
                coarse,
                measures,
            };
        }
        let flat = logits.reshape([batch, masks, side * side]);
        let inside = activation::sigmoid(flat.clone());
        let squares = inside.clone().reshape([batch * masks, side, side, 1]);
        let coarse = space_to_depth(space_to_depth(squares)).mean_dim(3);
        let area = inside.clone().sum_dim(2);
        let soft_area = |offset: f64| activation::sigmoid(flat.clone() + offset).sum_dim(2) + 1.0;
        let stability = |offset: f64| soft_area(-offset) / soft_area(offset);
        let hard = flat.clone().greater_elem(0.0).float();
        let confident = (inside.clone() * hard.clone()).sum_dim(2) / (hard.sum_dim(2) + 1.0);
        let share = area / (side * side) as f64;
        let length = share.clone().sqrt();
        Self {
            inside,
            coarse: coarse.reshape([batch, masks, grid * grid]),
            measures: Tensor::cat(
                vec![stability(1.0), stability(4.0), confident, share, length],
                2,
            ),
        }
    }
}
