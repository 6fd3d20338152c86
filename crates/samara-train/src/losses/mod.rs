//! The losses of promptable segmentation, differentiable, each usable alone.
//!
//! `n` objects have `k` candidate masks each: logits are `[n, k, h, w]`, targets `[n, 1, h, w]`
//! with 1 inside of the object. The pieces give a value for every candidate, `[n, k]`;
//! [`promptable_loss`] makes a scalar of them, the mean over the objects. All tensors of a call lie
//! on one device, and targets carry no gradient. [`hierarchical_attention_loss`] turns the masks that
//! were answered into supervision of another model's attention.
//!
//! Sources: SAM, appendix A (Kirillov et al., 2023); SAM 2, `training/loss_fns.py`; focal loss:
//! Lin et al., 2017; dice loss: Milletari et al., 2016.

mod attention;
mod iou;
mod mask;
mod promptable;
mod weights;

pub use attention::{
    AttentionKind, AttentionLossConfig, AttentionLossError, HierarchicalAttentionLoss, ScaleLoss,
    hierarchical_attention_loss,
};
pub use iou::{IouKind, IouLoss, iou_l1, iou_mse, iou_ranking, iou_targets, object_score_bce};
pub use mask::{
    FocalConfig, MaskLosses, checkerboard_loss, dice_loss, mask_loss, mask_losses,
    min_over_candidates, sigmoid_focal_loss,
};
pub use promptable::{LossConfig, Predictions, PromptableLoss, promptable_loss, retention_loss};
pub use weights::LossWeights;

use samara_model::burn::tensor::Tensor;

/// Sum over pixels of `values` times `weights`, `[n, k, p]` and `[n, 1, p]` to `[n, k]`.
///
/// A product of matrices: one pass over the pixels, forward and backward.
fn weighted_sum(values: Tensor<3>, weights: Tensor<3>) -> Tensor<2> {
    values.matmul(weights.swap_dims(1, 2)).squeeze_dim(2)
}
