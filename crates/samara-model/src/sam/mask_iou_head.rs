//! An IoU head that looks at the masks that it judges.
//!
//! SAM's head sees a token and learns from eleven million images what a good mask is. From few images
//! more is learnt from what the masks themselves tell: how they lie to the click and to each other, and
//! how firm they are ([`candidate_form`]), beside the scores of SAM's head.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData, activation};
use rayon::prelude::*;
use samara_kernels::candidate_form::{candidate_form, numbers};

use super::mask_decoder::{Mlp, MlpConfig};
use super::prompt_encoder::PromptBatch;

/// Model pixels per cell of the mask logits.
const CELL: f32 = 4.0;
/// Numbers that describe a prompt.
const PROMPT: usize = 3;
/// Layers of the head.
const DEPTH: usize = 3;

/// Predicts the IoU of masks from their form and from the scores of SAM's head, with a sigmoid. No
/// gradient flows from here into masks or tokens.
#[derive(Module, Debug)]
pub struct MaskIouHead {
    mlp: Mlp,
}

impl MaskIouHead {
    /// A head with random weights for a decoder with this many mask tokens.
    pub(super) fn new(tokens: usize, hidden: usize, device: &Device) -> Self {
        let mlp = MlpConfig::new(inputs(tokens), hidden, 1, DEPTH);
        Self {
            mlp: mlp.init(device),
        }
    }

    /// Predicted IoU `[prompts, tokens]` from what [`look`] saw.
    pub(super) fn forward(&self, seen: Tensor<3>) -> Tensor<2> {
        activation::sigmoid(self.mlp.forward(seen)).squeeze_dim(2)
    }
}

/// What the head sees, `[prompts, tokens, inputs]`, of the masks of all tokens, logits
/// `[prompts, tokens, side, side]` with the scores `[prompts, tokens]` of SAM's head.
pub(super) fn look(logits: &Tensor<4>, scores: Tensor<2>, prompts: &PromptSummary) -> Tensor<3> {
    let [count, tokens, side, _] = logits.dims();
    let device = logits.device();
    let logits = on_host(logits.clone());
    let scores = on_host(scores);
    let cells = (tokens * side * side).max(1);
    let seen: Vec<Vec<f32>> = logits
        .par_chunks(cells)
        .zip(scores.par_chunks(tokens))
        .zip(&prompts.0)
        .map(|((logits, scores), prompt)| prompt.seen(logits, side, scores))
        .collect();
    let seen = TensorData::new(seen.concat(), [count, tokens, inputs(tokens)]);
    Tensor::from_data(seen, &device)
}

/// Numbers that the head sees of a mask: its form, the scores of all masks, its own, that against the
/// best of the candidates, which token it is of, and the prompt.
const fn inputs(tokens: usize) -> usize {
    numbers(tokens) + tokens + 2 + tokens + PROMPT
}

/// What the head needs to know of a batch of prompts.
#[derive(Debug, Clone)]
pub(crate) struct PromptSummary(Vec<PromptForm>);

/// What the head needs to know of a prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
struct PromptForm {
    /// In cells of the mask logits: the first click on the object, or else the middle of the box.
    at: [f32; 2],
    /// Clicks beyond the first as a logarithm, whether there is a box, and whether there is a mask.
    kind: [f32; PROMPT],
}

impl PromptSummary {
    pub(super) fn of(prompts: &PromptBatch) -> Self {
        let batch = prompts.len();
        let boxes = prompts.boxes.clone().map(on_host);
        let points = prompts.points.clone();
        let points = points.map(|(at, labels)| (on_host(at), on_host(labels)));
        let flag = |given: bool| f32::from(u8::from(given));
        let form = |i: usize| {
            let mut form = PromptForm {
                at: [0.0; 2],
                kind: [0.0, flag(boxes.is_some()), flag(prompts.masks.is_some())],
            };
            if let Some([x0, y0, x1, y1]) = row(boxes.as_deref(), batch, i) {
                form.at = [f32::midpoint(*x0, *x1), f32::midpoint(*y0, *y1)];
            }
            if let Some((at, labels)) = &points {
                let clicks = labels.len() / batch;
                let (at, labels) = (&at[i * clicks * 2..], &labels[i * clicks..][..clicks]);
                let first = labels.iter().position(|&label| label == 1.0);
                if let Some(first) = first {
                    form.at = [at[2 * first], at[2 * first + 1]];
                }
                form.kind[0] = (clicks.max(1) as f32).ln();
            }
            form.at = form.at.map(|v| v / CELL);
            form
        };
        Self((0..batch).map(form).collect())
    }

    /// That of the prompts at these positions.
    pub(super) fn select(&self, prompts: &[usize]) -> Self {
        Self(prompts.iter().map(|&i| self.0[i]).collect())
    }
}

impl PromptForm {
    /// What is seen of all masks of this prompt, one after the other.
    fn seen(&self, logits: &[f32], side: usize, scores: &[f32]) -> Vec<f32> {
        let tokens = scores.len();
        let best = scores[1..].iter().copied().fold(f32::MIN, f32::max);
        let form = candidate_form(logits, side, self.at);
        let mut all = Vec::with_capacity(tokens * inputs(tokens));
        for (token, form) in form.chunks_exact(numbers(tokens)).enumerate() {
            all.extend(form);
            all.extend(scores);
            all.extend([scores[token], scores[token] - best]);
            all.extend((0..tokens).map(|other| f32::from(u8::from(other == token))));
            all.extend(self.kind);
        }
        all
    }
}

/// Four values of row `i`.
fn row(values: Option<&[f32]>, batch: usize, i: usize) -> Option<&[f32; 4]> {
    let values = values?;
    debug_assert_eq!(values.len(), 4 * batch);
    values.get(4 * i..)?.first_chunk()
}

/// The values of a tensor, without gradient.
fn on_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.detach().into_data().convert::<f32>();
    data.try_into_vec().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 16;

    fn forms(summary: &PromptSummary) -> Vec<([f32; 2], [f32; 3])> {
        summary.0.iter().map(|form| (form.at, form.kind)).collect()
    }

    #[test]
    fn a_prompt_is_where_the_user_pointed() {
        let device = Device::default();
        let points = Tensor::from_floats(
            [[[4.0, 8.0], [20.0, 40.0]], [[12.0, 8.0], [16.0, 4.0]]],
            &device,
        );
        let labels = Tensor::from_floats([[0.0, 1.0], [1.0, 1.0]], &device);
        let clicks = PromptBatch {
            points: Some((points, labels)),
            ..PromptBatch::default()
        };
        let two = 2.0_f32.ln();
        let expected = [
            ([5.0, 10.0], [two, 0.0, 0.0]),
            ([3.0, 2.0], [two, 0.0, 0.0]),
        ];
        let summary = PromptSummary::of(&clicks);
        assert_eq!(forms(&summary), expected);
        assert_eq!(forms(&summary.select(&[1])), expected[1..]);

        let boxed = PromptBatch {
            boxes: Some(Tensor::from_floats([[4.0, 8.0, 12.0, 40.0]], &device)),
            masks: Some(Tensor::zeros([1, 1, SIDE, SIDE], &device)),
            ..PromptBatch::default()
        };
        let expected = [([2.0, 6.0], [0.0, 1.0, 1.0])];
        assert_eq!(forms(&PromptSummary::of(&boxed)), expected);
    }

    #[test]
    fn scores_have_gradients_in_the_head_alone() {
        let device = Device::default().autodiff();
        let random = |shape: [usize; 4]| {
            let normal = burn::tensor::Distribution::Normal(0.0, 4.0);
            Tensor::<4>::random(shape, normal, &device).require_grad()
        };
        let logits = random([2, 3, SIDE, SIDE]);
        let scores: Tensor<2> = random([2, 3, 1, 1]).squeeze_dims(&[2, 3]);
        let points = Tensor::from_floats([[[30.0, 30.0]], [[9.0, 50.0]]], &device);
        let prompts = PromptSummary::of(&PromptBatch {
            points: Some((points, Tensor::ones([2, 1], &device))),
            ..PromptBatch::default()
        });
        let head = MaskIouHead::new(3, 8, &device);
        let seen = look(&logits, scores.clone(), &prompts);
        assert_eq!(seen.dims(), [2, 3, inputs(3)]);
        let iou = head.forward(seen.clone());
        let values = iou.clone().into_data().try_into_vec::<f32>().unwrap();
        assert!(values.iter().all(|v| (0.0..=1.0).contains(v)));
        let gradients = iou.sum().backward();
        assert!(logits.grad(&gradients).is_none());
        let weight = head.mlp.first().weight.val();
        assert!(weight.grad(&gradients).is_some());

        // A prompt is seen as it is alone.
        let alone = look(
            &logits.slice(1..2),
            scores.slice(1..2),
            &prompts.select(&[1]),
        );
        let difference = alone - seen.slice(1..2);
        assert_eq!(difference.abs().max().into_scalar::<f32>(), 0.0);
    }
}
