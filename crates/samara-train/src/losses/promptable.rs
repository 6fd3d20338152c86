//! The loss of one round of prompts.

use samara_model::burn::tensor::activation::sigmoid;
use samara_model::burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use super::{
    FocalConfig, IouLoss, LossWeights, MaskLosses, checkerboard_loss, iou_ranking, iou_targets,
    mask_loss, mask_losses, min_over_candidates, object_score_bce,
};

/// Everything that [`promptable_loss`] can be told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// The weights of the parts.
    pub weights: LossWeights,
    /// The constants of the focal loss.
    #[serde(default)]
    pub focal: FocalConfig,
    /// Share of the mask loss that goes to the candidates that are not the best, in equal parts: 0 in
    /// SAM. Where a click means one thing only, it makes all candidates answer with that (Rupprecht
    /// et al. 2017, "Learning in an Uncertain World", equation 5).
    #[serde(default)]
    pub relaxation: f64,
    /// How the predicted IoU is supervised.
    pub iou: IouLoss,
}

impl LossConfig {
    /// As SAM was trained.
    pub fn sam() -> Self {
        Self {
            weights: LossWeights::sam(),
            focal: FocalConfig::default(),
            relaxation: 0.0,
            iou: IouLoss::sam(),
        }
    }

    /// As SAM 2 was trained.
    pub fn sam2() -> Self {
        Self {
            weights: LossWeights::sam2(),
            focal: FocalConfig::default(),
            relaxation: 0.0,
            iou: IouLoss::sam2(),
        }
    }
}

/// What the decoder says about `n` objects with `k` candidates each.
#[derive(Debug, Clone)]
pub struct Predictions {
    /// Mask logits, `[n, k, h, w]`.
    pub logits: Tensor<4>,
    /// Predicted IoU, `[n, k]`.
    pub iou: Tensor<2>,
    /// Logits of there being an object, `[n, 1]`, from models that have them.
    pub object_score: Option<Tensor<2>>,
}

/// The loss of one round. The parts are means over the objects, before their weights, detached.
#[derive(Debug, Clone)]
pub struct PromptableLoss {
    /// The weighted sum of the parts, `[1]`, to be differentiated.
    pub total: Tensor<1>,
    /// Focal loss of the candidates that learn, `[1]`; 0 where neither it nor dice has a weight.
    pub focal: Tensor<1>,
    /// Dice loss of the candidates that learn, `[1]`.
    pub dice: Tensor<1>,
    /// Loss of the predicted IoU, `[1]`.
    pub iou: Tensor<1>,
    /// Loss of the order of the candidates by it, `[1]`, where it is supervised.
    pub iou_ranking: Option<Tensor<1>>,
    /// Loss of the object score, `[1]`, where it is supervised.
    pub object_score: Option<Tensor<1>>,
    /// The candidate with the lowest mask loss of each object, `[n]`, or with the highest true IoU where the
    /// mask loss has no weight.
    pub best: Tensor<1, Int>,
}

/// The loss of one round of prompts against targets `[n, 1, h, w]`, divided by the number of
/// objects.
///
/// Of several candidates (multimask output) only the one with the lowest mask loss is
/// differentiated, without a `relaxation`. It is found without gradient first, so that the operations
/// that are recorded cover one candidate. Where the object score is supervised, an object whose target is empty
/// counts for nothing else, as in SAM 2.
pub fn promptable_loss(
    predictions: Predictions,
    targets: Tensor<4>,
    config: &LossConfig,
) -> PromptableLoss {
    let Predictions {
        logits,
        iou,
        object_score,
    } = predictions;
    let LossConfig {
        weights,
        focal,
        relaxation,
        iou: iou_loss,
    } = config;
    let best = best_candidate(&logits, &targets, config);
    let chosen = candidate(logits.clone(), best.clone());
    let judged = if iou_loss.supervise_all {
        &logits
    } else {
        &chosen
    };
    let true_iou = iou_targets(judged.clone().detach(), targets.clone());
    let score = object_score.filter(|_| weights.object_score > 0.0);
    let score = score.map(|score| (score, presence(targets.clone())));
    let mean = |losses: Tensor<2>| match &score {
        Some((_, present)) => (losses * present.clone()).mean(),
        None => losses.mean(),
    };
    let checkerboard =
        (weights.checkerboard > 0.0).then(|| checkerboard_loss(logits.clone()).mean());
    let mask = if weights.focal + weights.dice == 0.0 {
        let nothing = Tensor::zeros([chosen.dims()[0], 1], &chosen.device());
        MaskLosses {
            focal: nothing.clone(),
            dice: nothing,
        }
    } else if *relaxation > 0.0 && logits.dims()[1] > 1 {
        let shares = shares(&best, logits.dims()[1], *relaxation);
        let all = mask_losses(logits, targets, *focal);
        MaskLosses {
            focal: (all.focal * shares.clone()).sum_dim(1),
            dice: (all.dice * shares).sum_dim(1),
        }
    } else {
        mask_losses(chosen, targets, *focal)
    };
    let focal = mean(mask.focal);
    let dice = mean(mask.dice);
    let iou = if iou_loss.supervise_all {
        iou
    } else {
        iou.gather(1, best.clone().unsqueeze_dim(1))
    };
    let ranked = weights.iou_ranking > 0.0 && iou.dims()[1] > 1;
    let iou_ranking = ranked.then(|| mean(iou_ranking(iou.clone(), true_iou.clone())));
    let iou = mean(iou_loss.per_candidate(iou, true_iou).mean_dim(1));
    let object_score = score.map(|(score, present)| object_score_bce(score, present));

    let mut total =
        focal.clone() * weights.focal + dice.clone() * weights.dice + iou.clone() * weights.iou;
    if let Some(loss) = iou_ranking.clone() {
        total = total + loss * weights.iou_ranking;
    }
    if let Some(loss) = object_score.clone() {
        total = total + loss * weights.object_score;
    }
    if let Some(loss) = checkerboard {
        total = total + loss * weights.checkerboard;
    }
    PromptableLoss {
        total,
        focal: focal.detach(),
        dice: dice.detach(),
        iou: iou.detach(),
        iou_ranking: iou_ranking.map(Tensor::detach),
        object_score: object_score.map(Tensor::detach),
        best,
    }
}

/// The mask loss of the candidates that are not the `best` `[n]`, logits `[n, k, h, w]` with `k > 1`, against
/// what another model drew, `[n, k, h, w]` logits without gradient: the mean over them and the objects,
/// `[1]`, before its weight.
///
/// Few examples teach a candidate that is never the best one nothing about itself, but change what it
/// shares with the others; this keeps it as it was (Li and Hoiem 2016, "Learning without Forgetting").
pub fn retention_loss(
    logits: Tensor<4>,
    drawn: Tensor<4>,
    best: Tensor<1, Int>,
    config: &LossConfig,
) -> Tensor<1> {
    let [objects, candidates, height, width] = logits.dims();
    let alone = |x: Tensor<4>| x.reshape([objects * candidates, 1, height, width]);
    let losses = mask_loss(
        alone(logits),
        sigmoid(alone(drawn)),
        &config.weights,
        config.focal,
    );
    let is_best: Tensor<2> = best.one_hot::<2>(candidates).float();
    let others = losses.reshape([objects, candidates]) * (is_best * -1.0 + 1.0);
    others.sum() / (objects * (candidates - 1)) as f64
}

/// See [`PromptableLoss::best`].
fn best_candidate(logits: &Tensor<4>, targets: &Tensor<4>, config: &LossConfig) -> Tensor<1, Int> {
    let [objects, candidates, ..] = logits.dims();
    if candidates == 1 {
        return Tensor::zeros([objects], &logits.device());
    }
    let logits = logits.clone().detach().set_require_grad(false);
    if config.weights.focal + config.weights.dice == 0.0 {
        return iou_targets(logits, targets.clone())
            .argmax(1)
            .squeeze_dim(1);
    }
    let losses = mask_loss(logits, targets.clone(), &config.weights, config.focal);
    min_over_candidates(losses).1
}

/// The share of each candidate in the mask loss of its object, `[n, k]`.
fn shares(best: &Tensor<1, Int>, candidates: usize, relaxation: f64) -> Tensor<2> {
    let other = relaxation / (candidates - 1) as f64;
    let is_best: Tensor<2> = best.clone().one_hot::<2>(candidates).float();
    is_best * (1.0 - relaxation - other) + other
}

/// The logits of one candidate of each object, `[n, 1, h, w]`.
fn candidate(logits: Tensor<4>, index: Tensor<1, Int>) -> Tensor<4> {
    let [objects, candidates, height, width] = logits.dims();
    if candidates == 1 {
        return logits;
    }
    let first = Tensor::arange(0..objects as i64, &index.device()) * candidates as i64;
    let rows: Tensor<2> = logits.reshape([objects * candidates, height * width]);
    rows.select(0, first + index)
        .reshape([objects, 1, height, width])
}

/// 1 for objects with a pixel, `[n, 1]`.
fn presence(targets: Tensor<4>) -> Tensor<2> {
    let pixels: Tensor<2> = targets.flatten(1, 3);
    pixels.max_dim(1).greater_elem(0.0).float()
}
