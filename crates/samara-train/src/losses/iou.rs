//! Losses of the scores that come with a mask: its predicted IoU, and whether there is an object.

use samara_model::burn::tensor::activation::{log_sigmoid, log_softmax, softmax};
use samara_model::burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use super::weighted_sum;

/// How a predicted IoU is compared with the true one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IouKind {
    /// The squared difference, as SAM.
    Mse,
    /// The absolute difference, as SAM 2.
    L1,
}

/// The loss of the predicted IoU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IouLoss {
    /// The distance.
    pub kind: IouKind,
    /// The mean over all candidates (SAM 2) instead of the best one alone (SAM).
    pub supervise_all: bool,
}

impl IouLoss {
    /// SAM: squared, the best candidate alone.
    pub const fn sam() -> Self {
        Self {
            kind: IouKind::Mse,
            supervise_all: false,
        }
    }

    /// SAM 2: absolute, all candidates.
    pub const fn sam2() -> Self {
        Self {
            kind: IouKind::L1,
            supervise_all: true,
        }
    }

    /// The loss of every candidate, `[n, k]`.
    pub fn per_candidate(&self, predicted: Tensor<2>, target: Tensor<2>) -> Tensor<2> {
        match self.kind {
            IouKind::Mse => iou_mse(predicted, target),
            IouKind::L1 => iou_l1(predicted, target),
        }
    }

    /// The loss of every object, `[n]`, from IoU `[n, k]` and the best candidates `[n]`.
    pub fn per_object(
        &self,
        predicted: Tensor<2>,
        target: Tensor<2>,
        best: Tensor<1, Int>,
    ) -> Tensor<1> {
        let losses = self.per_candidate(predicted, target);
        let supervised = if self.supervise_all {
            losses.mean_dim(1)
        } else {
            losses.gather(1, best.unsqueeze_dim(1))
        };
        supervised.squeeze_dim(1)
    }

    /// The mean of [`per_object`](Self::per_object) over the objects.
    pub fn mean(&self, predicted: Tensor<2>, target: Tensor<2>, best: Tensor<1, Int>) -> Tensor<1> {
        self.per_object(predicted, target, best).mean()
    }
}

/// The squared difference of predicted and true IoU, `[n, k]`.
pub fn iou_mse(predicted: Tensor<2>, target: Tensor<2>) -> Tensor<2> {
    let difference = predicted - target;
    difference.clone() * difference
}

/// The absolute difference of predicted and true IoU, `[n, k]`.
pub fn iou_l1(predicted: Tensor<2>, target: Tensor<2>) -> Tensor<2> {
    (predicted - target).abs()
}

/// IoU differences of this size decide about [`iou_ranking`].
const RANKING_TEMPERATURE: f32 = 0.1;

/// How far the order of the candidates by predicted IoU `[n, k]` is from that by true IoU, `[n, 1]`: the
/// cross-entropy of softmax(predicted / τ) under softmax(true / τ) with τ = 0.1 (`ListNet`, Cao et al. 2007,
/// "Learning to Rank: From Pairwise Approach to Listwise Approach").
pub fn iou_ranking(predicted: Tensor<2>, target: Tensor<2>) -> Tensor<2> {
    let truth = softmax(target / RANKING_TEMPERATURE, 1);
    (truth * log_softmax(predicted / RANKING_TEMPERATURE, 1))
        .sum_dim(1)
        .neg()
}

/// The IoU of logits `[n, k, h, w]` above 0 with targets `[n, 1, h, w]` above 0.5, `[n, k]`,
/// without gradient.
///
/// Exact up to 2²⁴ pixels. Nothing against nothing is 1 (0 in the official code, which leaves such
/// objects out of the loss).
pub fn iou_targets(logits: Tensor<4>, targets: Tensor<4>) -> Tensor<2> {
    let predicted: Tensor<3> = logits.greater_elem(0.0).float().flatten(2, 3);
    let target: Tensor<3> = targets.greater_elem(0.5).float().flatten(2, 3);
    let intersection = weighted_sum(predicted.clone(), target.clone());
    let area = |mask: Tensor<3>| mask.sum_dim(2).squeeze_dim::<2>(2);
    let union = area(predicted) + area(target) - intersection.clone();
    let nothing = union.clone().equal_elem(0.0);
    (intersection / union.clamp_min(1.0)).mask_fill(nothing, 1.0)
}

/// Binary cross-entropy of object scores (logits, `[n, 1]`) against presence (`[n, 1]`, 1 where
/// there is an object): the mean, `[1]`.
///
/// Stable for logits of any size. Targets between 0 and 1 are valid.
pub fn object_score_bce(logits: Tensor<2>, present: Tensor<2>) -> Tensor<1> {
    (log_sigmoid(logits.clone().neg()) + logits * present)
        .mean()
        .neg()
}
