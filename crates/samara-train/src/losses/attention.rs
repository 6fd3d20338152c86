//! Multi-scale attention, supervised with the three granularities of a prompt's answer.

use samara::Granularity;
use samara_model::burn::tensor::Tensor;
use samara_model::burn::tensor::module::adaptive_avg_pool2d;
use serde::{Deserialize, Serialize};

use super::mask::mask_losses_of_probabilities;
use super::{FocalConfig, LossWeights, MaskLosses, mask_losses};

/// Probabilities keep this distance from 0 in logarithms; see [`AttentionKind::Probabilities`].
const FLOOR: f32 = 1e-4;
/// A sum of predicted IoU below this divides as this.
const NOTHING: f32 = 1e-6;

/// What the values of an attention map mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionKind {
    /// Logits of a cell being attended to: a sigmoid makes probabilities of them. Stable for logits
    /// of any size, and to be preferred where there are any.
    #[default]
    Logits,
    /// A probability for each cell, in [0, 1]; what rounding puts outside is clamped.
    ///
    /// The cross-entropy takes `ln((1 - ε)·p + ε)` instead of `ln p`, ε = 1e-4, and the same of
    /// `1 - p`: nothing to pay for what is right, 9.2 at most for what is wrong, and a gradient
    /// everywhere.
    Probabilities,
    /// Weights from 0 that sum to 1 over the cells, as of a softmax over the image. They are divided
    /// by the map's maximum, and then are [`Probabilities`](Self::Probabilities).
    ///
    /// A softmax shares one unit among the cells, so its values sink with the number of cells and
    /// could never reach a mask of ones; relative to the peak, an even spread over an object is its
    /// mask. The maximum has no gradient: otherwise the cell that happens to be the peak would rise
    /// for everything that is wrong elsewhere.
    Distribution,
}

/// Everything that [`hierarchical_attention_loss`] can be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttentionLossConfig {
    /// What the attention maps hold.
    pub kind: AttentionKind,
    /// The weights of focal and dice loss; the others do not count. 20 and 1 by default.
    pub weights: LossWeights,
    /// The constants of the focal loss.
    pub focal: FocalConfig,
    /// The level whose mask supervises each scale. By default the scales go from coarse to fine:
    /// whole, part, subpart.
    pub levels: Vec<Granularity>,
    /// A level with a lower predicted IoU is ignored. 0 by default.
    pub min_score: f32,
    /// Divides by the sum of the predicted IoU that counts, over scales and objects, instead of by
    /// the number of objects: a weighted mean, which does not fall with the scores. Off by default.
    pub normalise: bool,
}

impl Default for AttentionLossConfig {
    fn default() -> Self {
        Self {
            kind: AttentionKind::default(),
            weights: LossWeights::sam(),
            focal: FocalConfig::default(),
            levels: Granularity::ALL.to_vec(),
            min_score: 0.0,
            normalise: false,
        }
    }
}

/// Attention, masks and configuration do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttentionLossError {
    /// Not a level for every scale.
    #[error("{scales} scales of attention, but levels for {levels}")]
    Levels {
        /// Attention maps.
        scales: usize,
        /// Levels of the configuration.
        levels: usize,
    },
    /// A tensor of another shape.
    #[error("{what} has the shape {shape:?}; {expected} was expected")]
    Shape {
        /// Which tensor.
        what: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The shape that fits the others.
        expected: String,
    },
}

/// The loss of all scales. The parts are detached, and `total` is the sum over the scales of
/// `weights.focal` · focal + `weights.dice` · dice.
#[derive(Debug, Clone)]
pub struct HierarchicalAttentionLoss {
    /// The sum of the parts, `[1]`, to be differentiated.
    pub total: Tensor<1>,
    /// The scales, in the order of the attention.
    pub scales: Vec<ScaleLoss>,
}

/// What one scale contributes.
#[derive(Debug, Clone)]
pub struct ScaleLoss {
    /// The level that supervises it.
    pub level: Granularity,
    /// Focal loss, weighted by predicted IoU, `[1]`.
    pub focal: Tensor<1>,
    /// Dice loss, weighted by predicted IoU, `[1]`.
    pub dice: Tensor<1>,
    /// The predicted IoU that it was weighted with, the mean over the objects, `[1]`.
    pub weight: Tensor<1>,
}

/// Supervises the attention of a model, scale by scale, with the masks of whole, part and subpart.
///
/// `attention` has a map for every scale, `[n, 1, h, w]`, each with a resolution of its own; `masks`
/// are `[n, 3, H, W]` with values in [0, 1], in the order of [`Granularity::ALL`], and `scores` their
/// predicted IoU, `[n, 3]`. Every map is compared with its level's mask by focal and dice loss, and
/// the two are weighted by that mask's predicted IoU, clamped to [0, 1]: what the segmenter is not
/// sure of teaches less. The sum over the scales is divided by `n`. Only the attention has a gradient.
///
/// A mask comes to the resolution of its map by area averaging, which makes soft targets: cell `i`
/// of `h` is the mean of the rows `⌊i·H/h⌋` up to and without `⌈(i+1)·H/h⌉`, and columns
/// likewise (`F.adaptive_avg_pool2d`, the same as `F.interpolate(mode="area")`). Where `h` divides
/// `H`, that is the share of the cell that the mask covers; where it does not, neighbouring cells
/// share a row.
///
/// # Errors
/// A scale has no level, or the shapes do not go together.
///
/// ```
/// use samara_model::burn::tensor::{Device, Tensor};
/// use samara_train::losses::{AttentionLossConfig, hierarchical_attention_loss};
///
/// let device = Device::flex().autodiff();
/// let attention: Vec<Tensor<4>> = [4, 8, 16]
///     .map(|side| Tensor::zeros([2, 1, side, side], &device).require_grad())
///     .into();
/// let masks = Tensor::ones([2, 3, 64, 64], &device);
/// let scores = Tensor::ones([2, 3], &device);
/// let config = AttentionLossConfig::default();
/// let loss = hierarchical_attention_loss(&attention, masks, scores, &config)?;
/// let gradients = loss.total.backward();
/// assert!(attention[0].grad(&gradients).is_some());
/// # Ok::<(), samara_train::losses::AttentionLossError>(())
/// ```
pub fn hierarchical_attention_loss(
    attention: &[Tensor<4>],
    masks: Tensor<4>,
    scores: Tensor<2>,
    config: &AttentionLossConfig,
) -> Result<HierarchicalAttentionLoss, AttentionLossError> {
    check(attention, &masks, &scores, config)?;
    let objects = masks.dims()[0];
    let (masks, scores) = (masks.detach(), scores.detach());
    let confidence = scores.clone().clamp(0.0, 1.0);
    let confidence = confidence.mask_fill(scores.lower_elem(config.min_score), 0.0);
    let levels = config.levels.iter().map(|&level| {
        let index = level as usize;
        (level, index, confidence.clone().narrow(1, index, 1))
    });
    let levels: Vec<_> = levels.collect();
    let divisor: Tensor<1> = if config.normalise {
        let counted = levels.iter().map(|(_, _, weight)| weight.clone()).collect();
        Tensor::cat(counted, 1).sum().clamp_min(NOTHING)
    } else {
        Tensor::full([1], objects as f32, &confidence.device())
    };

    let mut total = Tensor::zeros([1], &confidence.device());
    let mut scales = Vec::with_capacity(attention.len());
    for (map, (level, index, weight)) in attention.iter().zip(levels) {
        let [.., height, width] = map.dims();
        let target = adaptive_avg_pool2d(masks.clone().narrow(1, index, 1), [height, width]);
        let MaskLosses { focal, dice } = map_losses(map.clone(), target, config);
        let weighted = |losses: Tensor<2>| (losses * weight.clone()).sum() / divisor.clone();
        let (focal, dice) = (weighted(focal), weighted(dice));
        total = total + focal.clone() * config.weights.focal + dice.clone() * config.weights.dice;
        scales.push(ScaleLoss {
            level,
            focal: focal.detach(),
            dice: dice.detach(),
            weight: weight.mean(),
        });
    }
    Ok(HierarchicalAttentionLoss { total, scales })
}

/// Focal and dice loss of one map, `[n, 1]` each.
fn map_losses(map: Tensor<4>, target: Tensor<4>, config: &AttentionLossConfig) -> MaskLosses {
    let of_probabilities =
        |map| mask_losses_of_probabilities(map, target.clone(), config.focal, FLOOR);
    match config.kind {
        AttentionKind::Logits => mask_losses(map, target, config.focal),
        AttentionKind::Probabilities => of_probabilities(map),
        AttentionKind::Distribution => {
            let peak = map.clone().detach().max_dim(3).max_dim(2);
            of_probabilities(map / peak.clamp_min(f32::MIN_POSITIVE))
        }
    }
}

/// Refuses what does not go together.
fn check(
    attention: &[Tensor<4>],
    masks: &Tensor<4>,
    scores: &Tensor<2>,
    config: &AttentionLossConfig,
) -> Result<(), AttentionLossError> {
    if attention.is_empty() || attention.len() != config.levels.len() {
        return Err(AttentionLossError::Levels {
            scales: attention.len(),
            levels: config.levels.len(),
        });
    }
    let shape = |what: String, shape: &[usize], expected: String| AttentionLossError::Shape {
        what,
        shape: shape.to_vec(),
        expected,
    };
    let levels = Granularity::ALL.len();
    let dims @ [objects, channels, height, width] = masks.dims();
    if channels != levels || objects * height * width == 0 {
        let expected = format!("[n, {levels}, H, W]");
        return Err(shape("masks".into(), &dims, expected));
    }
    if scores.dims() != [objects, levels] {
        let expected = format!("[{objects}, {levels}]");
        return Err(shape("scores".into(), &scores.dims(), expected));
    }
    for (i, map) in attention.iter().enumerate() {
        let dims @ [maps, channels, height, width] = map.dims();
        if maps != objects || channels != 1 || height * width == 0 {
            let expected = format!("[{objects}, 1, h, w]");
            return Err(shape(format!("attention {i}"), &dims, expected));
        }
    }
    Ok(())
}
