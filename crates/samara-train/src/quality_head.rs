//! The training of a quality head.

use burn_optim::{AdamWConfig, GradientsParams};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use samara_model::burn::tensor::{Device, Tensor, TensorData};
use samara_quality::{DamagedMask, QualityHead};

use crate::TrainError;
use crate::dense::{DenseNetwork, Standardization};
use crate::random::seeded;
use crate::recipe::{OptimizerSpec, ScheduleKind};
use crate::schedule::learning_rate;

/// How a head is trained.
#[derive(Debug, Clone)]
pub struct FitOptions {
    /// Times that every mask is seen.
    pub epochs: usize,
    /// `AdamW` and the course of its learning rate.
    pub optimizer: OptimizerSpec,
    /// Masks per step.
    pub batch: usize,
    /// Width of both hidden layers.
    pub width: usize,
    /// Share of the hidden values that are dropped, and half of it of the evidence.
    pub dropout: f64,
    /// All randomness follows from this.
    pub seed: u64,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            epochs: 30,
            optimizer: OptimizerSpec {
                lr: 2e-3,
                weight_decay: 0.05,
                betas: [0.9, 0.999],
                clip_norm: None,
                warmup: 0,
                schedule: ScheduleKind::Cosine,
                layer_decay: None,
            },
            batch: 64,
            width: 64,
            dropout: 0.3,
            seed: 0,
        }
    }
}

/// Binary cross-entropy of logits with a true IoU in 0..=1. A confident estimate that is wrong costs
/// more than with the absolute error, so wrong objects end up lower.
fn cross_entropy(logits: Tensor<2>, truth: Tensor<2>) -> Tensor<1> {
    crate::losses::object_score_bce(logits, truth)
}

/// Trains a head for the model with this `fingerprint` to estimate the IoU of masks:
/// binary cross-entropy with the true IoU, `AdamW`.
///
/// # Errors
/// There are no masks, or their evidence differs in length, as that of different models does.
pub fn fit_quality_head(
    masks: &[DamagedMask],
    fingerprint: &str,
    options: &FitOptions,
    device: &Device,
) -> Result<QualityHead, TrainError> {
    let evidence: Vec<&[f32]> = masks.iter().map(|m| &m.evidence.0[..]).collect();
    let inputs = evidence.first().map_or(0, |first| first.len());
    if inputs == 0 || evidence.iter().any(|e| e.len() != inputs) {
        let why = "there are no masks, or they were assessed by different models";
        return Err(TrainError::setting("quality head", &why));
    }
    let device = device.clone().autodiff();
    seeded(&device, options.seed, || {
        fit(masks, &evidence, fingerprint, options, &device)
    })
}

fn fit(
    masks: &[DamagedMask],
    evidence: &[&[f32]],
    fingerprint: &str,
    options: &FitOptions,
    device: &Device,
) -> Result<QualityHead, TrainError> {
    let inputs = evidence[0].len();
    let scale = Standardization::of(&evidence.iter().copied(), inputs);
    let mut network = DenseNetwork::new(inputs, options.width, options.dropout, device);
    let mut optimizer = AdamWConfig::new()
        .with_beta_1(options.optimizer.betas[0] as f32)
        .with_beta_2(options.optimizer.betas[1] as f32)
        .with_weight_decay(options.optimizer.weight_decay as f32)
        .init();
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut order: Vec<usize> = (0..masks.len()).collect();
    let steps = (options.epochs * masks.len().div_ceil(options.batch)) as u64;
    let mut step = 0;
    for _ in 0..options.epochs {
        order.shuffle(&mut rng);
        for batch in order.chunks(options.batch) {
            let values = batch.iter().flat_map(|&i| scale.apply(evidence[i]));
            let values = TensorData::new(values.collect::<Vec<f32>>(), [batch.len(), inputs]);
            let truth = batch.iter().map(|&i| masks[i].iou as f32);
            let truth = TensorData::new(truth.collect::<Vec<f32>>(), [batch.len(), 1]);
            let answer = network.forward(Tensor::from_data(values, device));
            let loss = cross_entropy(answer, Tensor::from_data(truth, device));
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            let lr = learning_rate(&options.optimizer, step, steps);
            network = optimizer.step(lr, network, gradients);
            step += 1;
        }
    }
    let head = QualityHead::new(scale.layers(&network)?, fingerprint.to_owned());
    Ok(head?)
}

#[cfg(test)]
mod tests {
    use samara_quality::Evidence;

    use super::*;
    use samara_data::Damage;
    use samara_quality::measure;

    /// Masks whose IoU is the first number of their evidence, bent; the others mean nothing. What
    /// is bad is a wrong object.
    fn masks(seed: u64) -> Vec<DamagedMask> {
        use rand::RngExt;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mask = |image| {
            let mut number = || rng.random_range(-1.0_f32..1.0);
            let evidence = [number(), 1000.0 + 50.0 * number(), number(), 7.0];
            let iou = f64::from(evidence[0] * 0.5 + 0.5).powi(2);
            DamagedMask {
                image,
                damage: (iou < 0.2).then_some(Damage::WrongObject),
                iou,
                evidence: Evidence(evidence.into()),
                predicted_iou: 0.5,
            }
        };
        (0..400).map(mask).collect()
    }

    fn head(masks: &[DamagedMask]) -> QualityHead {
        fit_quality_head(masks, "abc", &FitOptions::default(), &Device::flex()).unwrap()
    }

    #[test]
    fn a_head_learns_what_the_evidence_says() {
        let (head, unseen) = (head(&masks(1)), masks(2));
        let estimate = |m: &DamagedMask| f64::from(head.estimate(&m.evidence).unwrap().0);
        let after = measure(&unseen, &unseen.iter().map(estimate).collect::<Vec<_>>());
        assert!(
            after.spearman.unwrap() > 0.95 && after.mae < 0.1,
            "{after:?}"
        );
        assert!(after.wrong_in_worst_decile.unwrap() > 0.99, "{after:?}");
        let before = measure(&unseen, &vec![0.5; unseen.len()]);
        assert_eq!(before.spearman, None);
        let other = head
            .estimate(&Evidence(vec![0.0; 5]))
            .unwrap_err()
            .to_string();
        assert!(other.contains('5') && other.contains('4'), "{other}");
    }

    #[test]
    fn nothing_to_learn_from_is_an_error() {
        let fit = |masks: &[DamagedMask]| {
            fit_quality_head(masks, "abc", &FitOptions::default(), &Device::flex())
        };
        assert!(fit(&[]).is_err());
        let mut mixed = masks(1);
        mixed[3].evidence.0.push(0.0);
        assert!(fit(&mixed).is_err());
    }
}
