//! Focal and dice loss of masks, and the choice among candidates.

use samara_model::burn::tensor::activation::{log_sigmoid, relu, sigmoid};
use samara_model::burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use super::{LossWeights, weighted_sum};

/// The constants of the focal loss (Lin et al., 2017).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FocalConfig {
    /// Weight of object pixels; background has `1 - alpha`. 0.25 by default.
    pub alpha: f32,
    /// Exponent that turns easy pixels down: 0, or at least 1. 2 by default.
    pub gamma: f32,
}

impl Default for FocalConfig {
    fn default() -> Self {
        Self {
            alpha: 0.25,
            gamma: 2.0,
        }
    }
}

/// Focal and dice loss of every candidate, `[n, k]`, without weights.
#[derive(Debug, Clone)]
pub struct MaskLosses {
    /// As [`sigmoid_focal_loss`].
    pub focal: Tensor<2>,
    /// As [`dice_loss`].
    pub dice: Tensor<2>,
}

impl MaskLosses {
    /// `weights.focal` · focal + `weights.dice` · dice, `[n, k]`.
    pub fn combine(self, weights: &LossWeights) -> Tensor<2> {
        self.focal * weights.focal + self.dice * weights.dice
    }
}

/// Focal loss of logits `[n, k, h, w]` against targets `[n, 1, h, w]`: the mean over the pixels,
/// `[n, k]`.
///
/// Stable for logits of any size. Targets between 0 and 1 are valid; as in the official code,
/// the probability of the target is then `p·t + (1 - p)·(1 - t)`.
pub fn sigmoid_focal_loss(logits: Tensor<4>, targets: Tensor<4>, config: FocalConfig) -> Tensor<2> {
    Pixels::new(logits, targets).focal(config)
}

/// Dice loss of logits `[n, k, h, w]` against targets `[n, 1, h, w]`, `[n, k]`:
/// `1 - (2·Σpt + 1) / (Σp + Σt + 1)`.
///
/// Targets between 0 and 1 are valid.
pub fn dice_loss(logits: Tensor<4>, targets: Tensor<4>) -> Tensor<2> {
    Pixels::new(logits, targets).dice()
}

/// [`sigmoid_focal_loss`] and [`dice_loss`], which share the sigmoid.
pub fn mask_losses(logits: Tensor<4>, targets: Tensor<4>, focal: FocalConfig) -> MaskLosses {
    let pixels = Pixels::new(logits, targets);
    MaskLosses {
        focal: pixels.focal(focal),
        dice: pixels.dice(),
    }
}

/// How much the probabilities of logits `[n, k, h, w]` go up and down from cell to cell, and from cell to
/// next but one, `[n, k]`: the mean over the cells of the product of a rise and the fall that follows
/// it, along both axes. Edges and slopes cost nothing; the patterns that transposed convolutions leave
/// where a model is not sure do (Odena et al. 2016, "Deconvolution and Checkerboard Artifacts").
pub fn checkerboard_loss(logits: Tensor<4>) -> Tensor<2> {
    let [objects, candidates, ..] = logits.dims();
    let probability = sigmoid(logits);
    let mut sum = Tensor::zeros([objects, candidates], &probability.device());
    for axis in [2, 3] {
        for stride in [1, 2] {
            let cells = probability.dims()[axis];
            if cells <= 2 * stride {
                continue;
            }
            let length = cells - stride;
            let of = |x: &Tensor<4>, from, length| x.clone().narrow(axis, from, length);
            let step = of(&probability, stride, length) - of(&probability, 0, length);
            let turns = length - stride;
            let product = of(&step, 0, turns) * of(&step, stride, turns);
            let turn: Tensor<3> = relu(product.neg()).flatten(2, 3);
            sum = sum + turn.mean_dim(2).squeeze_dim(2);
        }
    }
    sum
}

/// The weighted sum of focal and dice loss of every candidate, `[n, k]`.
pub fn mask_loss(
    logits: Tensor<4>,
    targets: Tensor<4>,
    weights: &LossWeights,
    focal: FocalConfig,
) -> Tensor<2> {
    mask_losses(logits, targets, focal).combine(weights)
}

/// The lowest of the losses `[n, k]` of each object, `[n]`, and its candidate, `[n]`.
///
/// Only that candidate has a gradient.
pub fn min_over_candidates(losses: Tensor<2>) -> (Tensor<1>, Tensor<1, Int>) {
    let best = losses.clone().argmin(1);
    let lowest = losses.gather(1, best.clone());
    (lowest.squeeze_dim(1), best.squeeze_dim(1))
}

/// Cells that are probabilities `[n, k, h, w]` instead of logits, as [`mask_losses`]. What lies outside
/// of [0, 1] is clamped, and keeps its gradient; `floor` keeps logarithms finite: `ln((1 - floor)·p + floor)`.
pub(super) fn mask_losses_of_probabilities(
    probabilities: Tensor<4>,
    targets: Tensor<4>,
    focal: FocalConfig,
    floor: f32,
) -> MaskLosses {
    // Added without gradient: backends differ in that of a clamp at its very bounds.
    let plain = probabilities.clone().detach();
    let correction = plain.clone().clamp(0.0, 1.0) - plain;
    let pixels = Pixels {
        probability: (probabilities + correction).flatten(2, 3),
        evidence: Evidence::Probabilities { floor },
        targets: targets.flatten(2, 3),
    };
    MaskLosses {
        focal: pixels.focal(focal),
        dice: pixels.dice(),
    }
}

/// Probabilities `[n, k, p]`, what is known of their logarithms, and targets `[n, 1, p]`.
struct Pixels {
    probability: Tensor<3>,
    evidence: Evidence,
    targets: Tensor<3>,
}

/// Where the logarithms of the probabilities come from.
#[expect(clippy::large_enum_variant, reason = "one lives per loss")]
enum Evidence {
    /// From logits `[n, k, p]`.
    Logits(Tensor<3>),
    /// From the probabilities, kept off 0.
    Probabilities { floor: f32 },
}

impl Pixels {
    fn new(logits: Tensor<4>, targets: Tensor<4>) -> Self {
        let logits: Tensor<3> = logits.flatten(2, 3);
        Self {
            probability: sigmoid(logits.clone()),
            evidence: Evidence::Logits(logits),
            targets: targets.flatten(2, 3),
        }
    }

    /// `t·ln p + (1 - t)·ln(1 - p)`: the cross-entropy, kept negative; the weights of the pixels
    /// carry the sign.
    fn log_likelihood(&self) -> Tensor<3> {
        let t = self.targets.clone();
        match &self.evidence {
            // The cross-entropy is softplus(x) - x·t, and softplus(x) = -log_sigmoid(-x): one stable
            // operation.
            Evidence::Logits(x) => log_sigmoid(x.clone().neg()) + x.clone() * t,
            Evidence::Probabilities { floor } => {
                let log = |p: Tensor<3>| (p * (1.0 - floor) + *floor).log();
                let p = self.probability.clone();
                log(p.clone()) * t.clone() + log(p * -1.0 + 1.0) * (t * -1.0 + 1.0)
            }
        }
    }

    fn focal(&self, config: FocalConfig) -> Tensor<2> {
        let t = self.targets.clone();
        let log_likelihood = self.log_likelihood();
        let miss = || self.probability.clone() * (t.clone() * -2.0 + 1.0) + t.clone();
        let modulated = match config.gamma {
            0.0 => log_likelihood,
            1.0 => miss() * log_likelihood,
            2.0 => {
                let miss = miss();
                miss.clone() * miss * log_likelihood
            }
            gamma => miss().powf_scalar(gamma) * log_likelihood,
        };
        let pixels = t.dims()[2] as f32;
        let background = 1.0 - config.alpha;
        let weights = (t * (config.alpha - background) + background) * (-1.0 / pixels);
        weighted_sum(modulated, weights)
    }

    fn dice(&self) -> Tensor<2> {
        let shared = weighted_sum(self.probability.clone(), self.targets.clone());
        let predicted: Tensor<2> = self.probability.clone().sum_dim(2).squeeze_dim(2);
        let target: Tensor<2> = self.targets.clone().sum_dim(2).squeeze_dim(2);
        (shared * 2.0 + 1.0) / (predicted + target + 1.0) * -1.0 + 1.0
    }
}
