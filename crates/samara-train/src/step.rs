//! One example: rounds of prompts, losses, gradients.

use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use samara::OriginalPx;
use samara::tensors::read;
use samara_image::Mask;
use samara_model::burn::tensor::{Device, Int, Tensor, TensorData};
use samara_model::sam::{DecodedMasks, PromptBatch};
use samara_model::{ImageFeatures, Model};

use crate::losses::{LossConfig, Predictions, iou_targets, promptable_loss, retention_loss};
use samara_data::Example;
use samara_data::prompts::{
    ObjectSimulation, PromptBatchData, PromptError, PromptState, Simulation,
};

/// Model pixels per cell of the mask logits, of every model.
const CELL: usize = 4;

/// Why an example could not be worked on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// A prompt could not be simulated.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The model's answer could not be read.
    #[error(transparent)]
    Model(#[from] samara::Error),
}

/// How an example is worked on.
#[derive(Debug, Clone)]
pub struct StepConfig {
    /// Side of the model's input in model pixels.
    pub side: usize,
    /// Rounds of prompts.
    pub rounds: u32,
    /// The simulated user.
    pub simulation: Simulation,
    /// The losses.
    pub losses: LossConfig,
}

/// What was seen on an example: means over its objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct StepMetrics {
    /// The weighted loss, mean over the rounds.
    pub loss: f64,
    /// Focal loss, mean over the rounds.
    pub focal: f64,
    /// Dice loss, mean over the rounds.
    pub dice: f64,
    /// Loss of the predicted IoU, mean over the rounds.
    pub iou_loss: f64,
    /// IoU of the best mask of the first round.
    pub oracle: f64,
    /// IoU of the mask with the highest predicted IoU of the first round.
    pub automatic: f64,
    /// IoU of the automatic mask of the last round.
    pub last: f64,
    /// Mean absolute error of the predicted IoU in the first round.
    pub iou_error: f64,
}

impl StepMetrics {
    /// Mean of several.
    pub fn mean(all: &[Self]) -> Self {
        let share = 1.0 / all.len().max(1) as f64;
        let mean = |of: fn(&Self) -> f64| all.iter().map(|m| share * of(m)).sum();
        Self {
            loss: mean(|m| m.loss),
            focal: mean(|m| m.focal),
            dice: mean(|m| m.dice),
            iou_loss: mean(|m| m.iou_loss),
            oracle: mean(|m| m.oracle),
            automatic: mean(|m| m.automatic),
            last: mean(|m| m.last),
            iou_error: mean(|m| m.iou_error),
        }
    }
}

/// One optimizer step.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct StepReport {
    /// Steps made, this one included.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Learning rate.
    pub lr: f64,
    /// Norm of the gradient before it was clipped.
    pub gradient_norm: f64,
    /// Whether nothing was learnt, because loss or gradient was not finite.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// Seconds that the step took, waiting for examples included.
    pub seconds: f64,
    /// Means over its images.
    #[serde(flatten)]
    pub metrics: StepMetrics,
}

/// A model in training.
#[derive(Debug, Clone, Copy)]
pub struct Learner<'a> {
    /// What learns.
    pub model: &'a Model,
    /// The model that training began with and what it makes of the image, on a device without
    /// gradients, for the [`retention_loss`].
    pub initial: Option<(&'a Model, &'a ImageFeatures)>,
}

impl<'a> Learner<'a> {
    /// All of a model.
    pub fn new(model: &'a Model) -> Self {
        Self {
            model,
            initial: None,
        }
    }
}

/// The values of a tensor on another device.
pub(crate) fn copied<const D: usize>(tensor: Tensor<D>, device: &Device) -> Tensor<D> {
    Tensor::from_data(tensor.into_data(), device)
}

/// Runs the rounds on an example whose features are known. The loss is the mean over the rounds,
/// `[1]`; nothing flows from one round into the one before it.
///
/// # Errors
/// An object of the example has no pixel, or the device failed.
pub(crate) fn rounds(
    learner: Learner<'_>,
    features: &ImageFeatures,
    example: &Example,
    config: &StepConfig,
    seed: u64,
    device: &Device,
) -> Result<(Tensor<1>, StepMetrics), StepError> {
    let mut objects = simulate(example, config, seed)?;
    let side = config.side / CELL;
    let targets = targets(example, side, device);
    let mut previous: Option<Tensor<4>> = None;
    let mut losses = Vec::new();
    let mut metrics = StepMetrics::default();
    for round in 0..config.rounds {
        let states: Vec<PromptState> = objects.iter().map(|o| o.prompt().clone()).collect();
        let previous_logits = previous.take();
        let batch = prompt_batch(&states, previous_logits.clone(), side, device);
        let decoded = learner.model.decode(features, &batch);
        // One image's objects have the same number of prompts in a round.
        let several = objects.iter().all(ObjectSimulation::multimask);
        let initial_logits = learner
            .initial
            .filter(|_| several)
            .map(|(initial, features)| {
                let plain = features.image_embed.device();
                let fed = previous_logits.map(|logits| copied(logits, &plain));
                let batch = prompt_batch(&states, fed, side, &plain);
                copied(
                    shown(initial.decode(features, &batch), several).low_res_logits,
                    device,
                )
            });
        let shown = shown(decoded, several);
        let truth = iou_targets(shown.low_res_logits.clone().detach(), targets.clone());
        let chosen = shown.iou.clone().detach().argmax(1);
        observe(&mut metrics, &shown.iou, &truth, &chosen, round);
        let loss = promptable_loss(
            Predictions {
                logits: shown.low_res_logits.clone(),
                iou: shown.iou,
                object_score: None,
            },
            targets.clone(),
            &config.losses,
        );
        metrics.focal += scalar(loss.focal);
        metrics.dice += scalar(loss.dice);
        metrics.iou_loss += scalar(loss.iou);
        losses.push(match initial_logits {
            Some(drawn) => {
                let logits = shown.low_res_logits.clone();
                let retention = retention_loss(logits, drawn, loss.best, &config.losses);
                loss.total + retention * config.losses.weights.retention
            }
            None => loss.total,
        });
        if round + 1 < config.rounds {
            let logits = pick(shown.low_res_logits.detach(), chosen);
            correct(&mut objects, &logits)?;
            previous = Some(logits);
        }
    }
    let count = f64::from(config.rounds);
    metrics.focal /= count;
    metrics.dice /= count;
    metrics.iou_loss /= count;
    let loss = Tensor::cat(losses, 0).mean();
    metrics.loss = scalar(loss.clone().detach());
    Ok((loss, metrics))
}

fn simulate(
    example: &Example,
    config: &StepConfig,
    seed: u64,
) -> Result<Vec<ObjectSimulation>, PromptError> {
    let simulation = config.simulation.with_rounds(config.rounds);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let plan = simulation.plan(&mut rng);
    let objects = example.objects.iter().enumerate();
    objects
        .map(|(i, object)| {
            let mut own = rng.clone();
            own.set_stream(1 + i as u64);
            let click = object
                .first_click
                .map(|(x, y)| OriginalPx::new(f64::from(x) + 0.5, f64::from(y) + 0.5));
            let truth = Arc::new(object.mask.clone());
            ObjectSimulation::new(&simulation, truth, plan.clone(), click, own)
        })
        .collect()
}

/// True masks on the grid of the logits, `[objects, 1, side, side]`: the share of each cell that
/// the object covers.
fn targets(example: &Example, side: usize, device: &Device) -> Tensor<4> {
    let objects = example.objects.len();
    let mut values = vec![0.0_f32; objects * side * side];
    let cell = CELL as u32;
    let share = 1.0 / (cell * cell) as f32;
    for (object, plane) in example
        .objects
        .iter()
        .zip(values.chunks_exact_mut(side * side))
    {
        for (x, y) in object.mask.iter_set() {
            plane[(y / cell) as usize * side + (x / cell) as usize] += share;
        }
    }
    Tensor::from_data(TensorData::new(values, [objects, 1, side, side]), device)
}

/// Logit of a pixel of a mask that is given as a prompt.
const GIVEN_MASK_LOGIT: f32 = 10.0;

fn prompt_batch(
    states: &[PromptState],
    previous: Option<Tensor<4>>,
    side: usize,
    device: &Device,
) -> PromptBatch {
    let data = PromptBatchData::new(states);
    let n = data.prompts;
    let points = (data.points > 0).then(|| {
        let coords = TensorData::new(data.coords, [n, data.points, 2]);
        let labels = TensorData::new(data.labels, [n, data.points]);
        (
            Tensor::from_data(coords, device),
            Tensor::from_data(labels, device),
        )
    });
    let boxes = data
        .boxes
        .map(|boxes| Tensor::from_data(TensorData::new(boxes, [n, 4]), device));
    let masks = previous.or_else(|| given_masks(states, side, device));
    PromptBatch {
        points,
        boxes,
        masks,
    }
}

/// Masks given as first prompts, as logits; an object without one gets zeros.
fn given_masks(states: &[PromptState], side: usize, device: &Device) -> Option<Tensor<4>> {
    states.iter().find(|state| state.mask.is_some())?;
    let mut values = Vec::with_capacity(states.len() * side * side);
    for state in states {
        match &state.mask {
            None => values.resize(values.len() + side * side, 0.0),
            Some(mask) => {
                let cells = (0..side as u32).flat_map(|y| (0..side as u32).map(move |x| (x, y)));
                let inside = |(x, y)| {
                    let (x, y) = (CELL as u32 * x + 2, CELL as u32 * y + 2);
                    x < mask.width() && y < mask.height() && mask.get(x, y)
                };
                let logit = |cell| {
                    if inside(cell) {
                        GIVEN_MASK_LOGIT
                    } else {
                        -GIVEN_MASK_LOGIT
                    }
                };
                values.extend(cells.map(logit));
            }
        }
    }
    let data = TensorData::new(values, [states.len(), 1, side, side]);
    Some(Tensor::from_data(data, device))
}

/// The candidates of an ambiguous prompt, or the single mask.
fn shown(decoded: DecodedMasks, several: bool) -> DecodedMasks {
    let [batch, tokens, side, _] = decoded.low_res_logits.dims();
    let range = if several { 1..tokens } else { 0..1 };
    let logits = decoded.low_res_logits;
    DecodedMasks {
        low_res_logits: logits.slice([0..batch, range.clone(), 0..side, 0..side]),
        iou: decoded.iou.slice([0..batch, range]),
    }
}

/// One mask per prompt, `[batch, 1, side, side]`.
fn pick(logits: Tensor<4>, index: Tensor<2, Int>) -> Tensor<4> {
    let [batch, masks, side, _] = logits.dims();
    if masks == 1 {
        return logits;
    }
    let index = index
        .reshape([batch, 1, 1, 1])
        .repeat_dim(2, side)
        .repeat_dim(3, side);
    logits.gather(1, index)
}

fn observe(
    metrics: &mut StepMetrics,
    predicted: &Tensor<2>,
    truth: &Tensor<2>,
    chosen: &Tensor<2, Int>,
    round: u32,
) {
    let automatic = scalar(truth.clone().gather(1, chosen.clone()).mean());
    metrics.last = automatic;
    if round == 0 {
        metrics.automatic = automatic;
        metrics.oracle = scalar(truth.clone().max_dim(1).mean());
        metrics.iou_error = scalar((predicted.clone().detach() - truth.clone()).abs().mean());
    }
}

/// Shows the user what was predicted, `[objects, 1, side, side]`.
fn correct(objects: &mut [ObjectSimulation], logits: &Tensor<4>) -> Result<(), StepError> {
    let side = logits.dims()[2];
    let values = read(logits.clone())?;
    for (object, plane) in objects.iter_mut().zip(values.chunks_exact(side * side)) {
        let truth = object.truth();
        let prediction = Mask::from_fn(truth.width(), truth.height(), |x, y| {
            plane[y as usize / CELL * side + x as usize / CELL] > 0.0
        });
        object.correct(&prediction)?;
    }
    Ok(())
}

fn scalar(tensor: Tensor<1>) -> f64 {
    f64::from(tensor.into_scalar::<f32>())
}
