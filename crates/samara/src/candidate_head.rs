//! Heads that rank the candidates of a prompt: how good each of them is, and which of them is meant.
//!
//! A decoder's own scores were learnt from masks whose click lay anywhere and meant anything. Where a click lies
//! in each candidate, and how the candidates lie to each other, says more about what it means. The heads see
//! only that, the logits' form and the scores ([`candidate_features`]), so they work around any model of the
//! family, and are fitted to it in minutes (`samara train`).

use std::collections::BTreeMap;
use std::ops::Range;

use samara_image::Frame;
use samara_kernels::candidate_features::{LogitGrid, PromptGeometry, candidate_features, numbers};
use samara_model::checkpoint::{HeadTensor, HeadTensors};

use crate::error::HeadError;
use crate::expected_iou::supported;
use crate::intent::Intent;
use crate::logits::Logits;
use crate::mask_tokens::MaskTokens;
use crate::mlp::{DenseLayer, Mlp};
use crate::prompt::{MaskPrompt, Prompt};
use crate::score::{MatchProbability, PredictedIou};

/// Scores of a decoder are limited to this, both ways.
const SCORE_LIMIT: f32 = 4.0;
/// Model pixels per logit pixel.
const LOGIT_PIXEL: f64 = 4.0;
/// The networks and what the names of their tensors begin with.
const NETWORKS: [&str; 2] = ["predicted_iou.", "match."];

/// Numbers that tell an intent to the second head.
pub const INTENT_NUMBERS: usize = 2;

/// Two small networks beside a model.
///
/// The first predicts the IoU of a candidate, if it depicts what was meant: it was taught by the
/// candidate that matches the truth best. The second predicts which candidate that is, and knows the
/// [`Intent`].
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateHead {
    tokens: usize,
    predicted_iou: Mlp,
    matching: Mlp,
}

/// What the heads see of the mask tokens of one answer: [`CandidateHead::inputs`] numbers for each of them.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateFeatures {
    /// Mask tokens.
    pub tokens: usize,
    /// The numbers, token by token.
    pub values: Vec<f32>,
}

impl CandidateFeatures {
    /// Of what a decoder answered to `prompt` in an image that lies so in the model's input.
    pub fn new(answer: &MaskTokens, prompt: &Prompt, frame: &Frame) -> Self {
        Self::from_parts(&answer.low_res_logits, &answer.iou, prompt, frame)
    }

    /// Of logits and raw scores of all tokens.
    pub(crate) fn from_parts(
        logits: &[Logits],
        scores: &[PredictedIou],
        prompt: &Prompt,
        frame: &Frame,
    ) -> Self {
        let side = logits.first().map_or(1, Logits::side);
        let (width, height) = frame.content_size();
        let covered = |pixels: u32| {
            let pixels = (f64::from(pixels) / LOGIT_PIXEL).ceil() as usize;
            pixels.clamp(1, side)
        };
        let grid = LogitGrid {
            side,
            columns: covered(width),
            rows: covered(height),
        };
        let logits: Vec<&[f32]> = logits.iter().map(Logits::values).collect();
        let given = mask_logits(prompt, frame, side);
        let geometry = geometry(prompt, frame, given.as_ref());
        let form = candidate_features(&logits, grid, &geometry);
        let scores: Vec<f32> = scores.iter().map(|iou| finite(iou.0)).collect();
        let tokens = scores.len();
        let best = scores.iter().skip(1).copied().fold(f32::MIN, f32::max);
        let best = if tokens > 1 { best } else { 0.0 };
        let mut values = Vec::with_capacity(tokens * CandidateHead::inputs(tokens));
        for (token, form) in form.chunks_exact(numbers(tokens)).enumerate() {
            values.extend(form);
            values.extend(&scores);
            values.extend([scores[token], scores[token] - best]);
            values.extend((0..tokens).map(|other| f32::from(u8::from(other == token))));
        }
        Self { tokens, values }
    }

    /// The IoU of the masks of two tokens, at the size of logits.
    fn iou(&self, token: usize, other: usize) -> f32 {
        self.of(token)[numbers(other)]
    }

    /// The numbers of one token.
    pub fn of(&self, token: usize) -> &[f32] {
        let inputs = CandidateHead::inputs(self.tokens);
        &self.values[token * inputs..][..inputs]
    }
}

/// A score as a number that a network can bear.
fn finite(score: f32) -> f32 {
    if score.is_nan() {
        return -SCORE_LIMIT;
    }
    score.clamp(-SCORE_LIMIT, SCORE_LIMIT)
}

/// The logits of the prompt's mask.
fn mask_logits(prompt: &Prompt, frame: &Frame, side: usize) -> Option<Logits> {
    Some(match prompt.mask.as_ref()? {
        MaskPrompt::Logits(logits) => logits.clone(),
        MaskPrompt::Mask(mask) => Logits::from_mask(mask, frame, side),
    })
}

/// The prompt in logit pixels.
fn geometry<'a>(prompt: &Prompt, frame: &Frame, mask: Option<&'a Logits>) -> PromptGeometry<'a> {
    let place = |x: f64, y: f64| [(x / LOGIT_PIXEL) as f32, (y / LOGIT_PIXEL) as f32];
    let of = |positive: bool| {
        let clicks = prompt.clicks.iter().filter(|c| c.positive == positive);
        let at = clicks.map(|click| frame.to_model(click.at));
        at.map(|at| place(at.x, at.y)).collect()
    };
    let bbox = prompt.bbox.map(|bbox| {
        let bbox = frame.box_to_model(&bbox);
        let [x0, y0] = place(bbox.min.x, bbox.min.y);
        let [x1, y1] = place(bbox.max.x, bbox.max.y);
        [x0, y0, x1, y1]
    });
    PromptGeometry {
        positive: of(true),
        negative: of(false),
        bbox,
        mask: mask.map(Logits::values),
    }
}

impl CandidateHead {
    /// Numbers that the first head takes of each candidate of a model with so many mask tokens; the
    /// second one takes [`INTENT_NUMBERS`] more.
    pub const fn inputs(tokens: usize) -> usize {
        numbers(tokens) + tokens + 2 + tokens
    }

    /// Whether a number of the first head's is about the mask itself, its scores and how far the candidates agree.
    /// Where the click lies says what was meant, not how good a mask is: heads that see it as well are better on
    /// images like those that they were fitted to, and worse on others.
    pub fn shows_quality(tokens: usize, number: usize) -> bool {
        let shown_own = |i: usize| !matches!(i, 7 | 8 | 10 | 16 | 18..=21 | 25..=27);
        let shared = numbers(0)..numbers(tokens);
        if shared.contains(&number) {
            // Their IoU, and the share in the other one.
            return (number - shared.start) % numbers_beside() < 2;
        }
        number >= shared.end || shown_own(number)
    }

    /// Heads for a model with so many mask tokens.
    ///
    /// # Errors
    /// [`HeadError`]: the layers do not follow on each other or do not fit the number of
    /// tokens, or a value is not finite.
    pub fn new(
        tokens: usize,
        predicted_iou: Vec<DenseLayer>,
        matching: Vec<DenseLayer>,
    ) -> Result<Self, HeadError> {
        let network = |layers, more: usize, name: &'static str| {
            let network = name.trim_end_matches('.');
            let mlp = Mlp::new(layers).map_err(|source| HeadError::Layers { network, source })?;
            let (found, expected) = (mlp.inputs(), Self::inputs(tokens) + more);
            if found != expected {
                return Err(HeadError::Inputs {
                    network,
                    found,
                    tokens,
                    expected,
                });
            }
            Ok(mlp)
        };
        Ok(Self {
            tokens,
            predicted_iou: network(predicted_iou, 0, NETWORKS[0])?,
            matching: network(matching, INTENT_NUMBERS, NETWORKS[1])?,
        })
    }

    /// The heads in the tensors of a checkpoint, for a model with so many mask tokens; `None` without any
    /// tensor.
    ///
    /// # Errors
    /// [`HeadError`] names the tensor that is missing or wrong.
    pub fn from_tensors(
        mut tensors: HeadTensors,
        tokens: usize,
    ) -> Result<Option<Self>, HeadError> {
        if tensors.is_empty() {
            return Ok(None);
        }
        let [predicted_iou, matching] = NETWORKS.map(|name| layers(&mut tensors, name));
        let head = Self::new(tokens, predicted_iou?, matching?)?;
        match tensors.keys().next() {
            Some(unused) => Err(HeadError::Unused(unused.clone())),
            None => Ok(Some(head)),
        }
    }

    /// The heads as tensors of a checkpoint.
    pub fn to_tensors(&self) -> HeadTensors {
        let mut tensors = BTreeMap::new();
        for (name, mlp) in NETWORKS
            .into_iter()
            .zip([&self.predicted_iou, &self.matching])
        {
            for (i, layer) in mlp.layers().iter().enumerate() {
                let (outputs, inputs) = (layer.bias.len(), layer.inputs());
                let mut add = |kind: &str, shape: Vec<usize>, values: &[f32]| {
                    let values = values.to_vec();
                    let tensor = HeadTensor { shape, values };
                    tensors.insert(format!("{name}layers.{i}.{kind}"), tensor);
                };
                add("weight", vec![outputs, inputs], &layer.weight);
                add("bias", vec![outputs], &layer.bias);
            }
        }
        tensors
    }

    /// Mask tokens of the model.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The IoU to expect of the mask of a token if it depicts what was meant, in 0..=1.
    pub fn predicted_iou(&self, features: &CandidateFeatures, token: usize) -> PredictedIou {
        PredictedIou(self.predicted_iou.probability(features.of(token)))
    }

    /// The probability of each of the candidates that it is the one that is meant.
    pub fn match_probabilities(
        &self,
        features: &CandidateFeatures,
        candidates: Range<usize>,
        intent: Intent,
    ) -> Vec<MatchProbability> {
        let evidence = candidates.map(|token| {
            let mut seen = features.of(token).to_vec();
            seen.extend(intent_numbers(intent));
            self.matching.apply(&seen)
        });
        softmax(&evidence.collect::<Vec<f32>>())
            .map(MatchProbability)
            .collect()
    }

    /// The token to answer with when one mask is asked for: that of the highest expected IoU among all, the
    /// first of equals.
    pub(crate) fn single_token(&self, features: &CandidateFeatures, intent: Intent) -> usize {
        let tokens = 0..self.tokens;
        let probabilities = self.match_probabilities(features, tokens.clone(), intent);
        let weight =
            |(token, p): (usize, MatchProbability)| p.0 * self.predicted_iou(features, token).0;
        let weights: Vec<f32> = tokens.clone().zip(probabilities).map(weight).collect();
        let expected = supported(&weights, |token, other| features.iou(token, other));
        let best = tokens
            .rev()
            .max_by(|&a, &b| expected[a].total_cmp(&expected[b]));
        best.unwrap_or(0)
    }
}

/// Numbers beside each other candidate.
const fn numbers_beside() -> usize {
    numbers(1) - numbers(0)
}

/// How an intent is told to the second head.
pub fn intent_numbers(intent: Intent) -> [f32; INTENT_NUMBERS] {
    match intent {
        Intent::Balanced => [0.0, 0.0],
        Intent::Objects => [1.0, 0.0],
        Intent::Segments => [0.0, 1.0],
    }
}

fn softmax(values: &[f32]) -> impl Iterator<Item = f32> {
    let top = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f32> = values.iter().map(|v| (v - top).exp()).collect();
    let sum: f32 = exp.iter().sum();
    exp.into_iter().map(move |v| v / sum)
}

/// The layers of one network, taken out of the tensors.
fn layers(tensors: &mut HeadTensors, network: &str) -> Result<Vec<DenseLayer>, HeadError> {
    let mut layers = Vec::new();
    while let Some(weight) = tensors.remove(&format!("{network}layers.{}.weight", layers.len())) {
        let name = format!("{network}layers.{}.bias", layers.len());
        let bias = tensors.remove(&name);
        let bias = bias.ok_or_else(|| HeadError::Missing(name.clone()))?;
        if weight.shape.len() != 2 || bias.shape != weight.shape[..1] {
            return Err(HeadError::Shape {
                tensor: name,
                shape: bias.shape,
                weight: weight.shape,
            });
        }
        layers.push(DenseLayer {
            weight: weight.values,
            bias: bias.values,
        });
    }
    Ok(layers)
}
