//! Prompts as the official prompt encoders take them.

use samara_image::Frame;
use samara_model::burn::tensor::{Device, Tensor, TensorData};
use samara_model::sam::PromptBatch;

use crate::error::PromptError;
use crate::logits::Logits;
use crate::prompt::{MaskPrompt, Prompt};

/// A prompt in pixels of the model's frame, as the official `predict_torch` takes it: nothing is checked but that
/// the numbers are finite and that there are any. What a [`Prompt`] becomes.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ModelPrompt {
    /// Points (x, y), each with its label: 1 on the object, 0 beside it, 2 and 3 the top left and bottom right
    /// corner of a box, −1 no point, which fills prompts of a batch up to the same length.
    pub points: Vec<([f32; 2], f32)>,
    /// Left, top, right and bottom.
    pub bbox: Option<[f32; 4]>,
    /// Logits of an earlier answer.
    pub mask: Option<Logits>,
}

impl ModelPrompt {
    /// The prompt in the frame of an image, for a model whose grid of logits has this side.
    pub(crate) fn new(prompt: &Prompt, frame: &Frame, logits_side: usize) -> Self {
        let points = prompt.clicks.iter().map(|click| {
            let at = frame.to_model(click.at);
            (
                [at.x as f32, at.y as f32],
                f32::from(u8::from(click.positive)),
            )
        });
        let bbox = prompt.bbox.map(|bbox| {
            let b = frame.box_to_model(&bbox);
            [b.min.x, b.min.y, b.max.x, b.max.y].map(|v| v as f32)
        });
        let mask = prompt.mask.as_ref().map(|mask| match mask {
            MaskPrompt::Logits(logits) => logits.clone(),
            MaskPrompt::Mask(mask) => Logits::from_mask(mask, frame, logits_side),
        });
        Self {
            points: points.collect(),
            bbox,
            mask,
        }
    }

    /// Prompts with the same shape can be decoded in one batch: the number of points, and whether there is a box and
    /// a mask.
    pub(crate) fn shape(&self) -> (usize, bool, bool) {
        (self.points.len(), self.bbox.is_some(), self.mask.is_some())
    }

    /// Checks what would spoil the answer of others in the batch.
    pub(crate) fn check(&self, logits_side: usize) -> Result<(), PromptError> {
        if self.shape() == (0, false, false) {
            return Err(PromptError::Empty);
        }
        let points = self
            .points
            .iter()
            .flat_map(|(at, label)| [at[0], at[1], *label]);
        if !points
            .chain(self.bbox.into_iter().flatten())
            .all(f32::is_finite)
        {
            return Err(PromptError::NotFinite);
        }
        match &self.mask {
            Some(logits) if logits.side() != logits_side => Err(PromptError::LogitsSide {
                found: logits.side(),
                expected: logits_side,
            }),
            _ => Ok(()),
        }
    }

    /// Prompts of one shape as tensors.
    pub(crate) fn batch(prompts: &[&Self], device: &Device) -> PromptBatch {
        let tensor = |values: Vec<f32>, shape: &[usize]| TensorData::new(values, shape.to_vec());
        let (batch, (count, has_box, has_mask)) = (prompts.len(), prompts[0].shape());
        let points = (count > 0).then(|| {
            let all = || prompts.iter().flat_map(|p| &p.points);
            let coords = all().flat_map(|(at, _)| *at).collect();
            let labels = all().map(|(_, label)| *label).collect();
            (
                Tensor::from_data(tensor(coords, &[batch, count, 2]), device),
                Tensor::from_data(tensor(labels, &[batch, count]), device),
            )
        });
        let boxes = has_box.then(|| {
            let corners = prompts.iter().filter_map(|p| p.bbox).flatten().collect();
            Tensor::from_data(tensor(corners, &[batch, 4]), device)
        });
        let masks = has_mask.then(|| {
            let logits = prompts.iter().filter_map(|p| p.mask.as_ref());
            let side = prompts[0].mask.as_ref().map_or(0, Logits::side);
            let values = logits.flat_map(Logits::values).copied().collect();
            Tensor::from_data(tensor(values, &[batch, 1, side, side]), device)
        });
        PromptBatch {
            points,
            boxes,
            masks,
        }
    }
}
