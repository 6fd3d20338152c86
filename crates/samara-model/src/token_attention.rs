//! How the tokens of the mask decoder look at the image.

use std::fmt;

use burn::tensor::Tensor;

use crate::sam::PromptBatch;

/// The attention of a decoder's tokens to the cells of the image embedding, for a batch of prompts.
#[derive(Debug, Clone)]
pub struct TokenAttention {
    /// Softmax weights `[layers, batch, heads, tokens, grid, grid]`, which sum to 1 over the grid. The
    /// layers are those of the two-way transformer and, last, its final attention.
    pub weights: Tensor<6>,
    /// What the tokens are, in their order.
    pub tokens: Vec<DecoderToken>,
}

impl TokenAttention {
    /// From weights `[layers, batch, heads, tokens, cells]` of a square grid. The `own` tokens of the
    /// decoder come first, then its mask tokens, then those of the prompt.
    pub(crate) fn new(weights: Tensor<5>, own: &[DecoderToken], prompt: &[DecoderToken]) -> Self {
        let [layers, batch, heads, count, cells] = weights.dims();
        let masks = 0..count.saturating_sub(own.len() + prompt.len());
        let tokens = own.iter().copied().chain(masks.map(DecoderToken::Mask));
        let grid = cells.isqrt();
        Self {
            weights: weights.reshape([layers, batch, heads, count, grid, grid]),
            tokens: tokens.chain(prompt.iter().copied()).collect(),
        }
    }
}

/// One token of a mask decoder. Its name, as displayed, is `iou`, `mask 0`, `point 0`, `corner 0`, and
/// so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DecoderToken {
    /// Becomes the object score (SAM 2).
    ObjectScore,
    /// Becomes the predicted IoU.
    Iou,
    /// Becomes a mask: 0 the single one, the others the candidates.
    Mask(usize),
    /// A click of the prompt, in its order.
    Point(usize),
    /// A corner of the box: 0 the upper left one, 1 the lower right one.
    Corner(usize),
    /// Stands where a prompt has no box, or nothing.
    Padding,
}

impl fmt::Display for DecoderToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ObjectScore => f.pad("object score"),
            Self::Iou => f.pad("iou"),
            Self::Mask(i) => f.pad(&format!("mask {i}")),
            Self::Point(i) => f.pad(&format!("point {i}")),
            Self::Corner(i) => f.pad(&format!("corner {i}")),
            Self::Padding => f.pad("padding"),
        }
    }
}

/// The tokens of points and of a box.
fn points_and_corners(prompts: &PromptBatch) -> [Vec<DecoderToken>; 2] {
    let points = prompts.points.as_ref().map_or(0, |(xy, _)| xy.dims()[1]);
    let corners = if prompts.boxes.is_some() { 2 } else { 0 };
    [
        (0..points).map(DecoderToken::Point).collect(),
        (0..corners).map(DecoderToken::Corner).collect(),
    ]
}

/// SAM: points, then the box or, if there are points alone, a padding point.
pub(crate) fn sam_tokens(prompts: &PromptBatch) -> Vec<DecoderToken> {
    let [points, corners] = points_and_corners(prompts);
    let padded = !points.is_empty() && corners.is_empty();
    let padding = padded.then_some(DecoderToken::Padding);
    [points, corners]
        .concat()
        .into_iter()
        .chain(padding)
        .collect()
}

/// SAM 2: the box, the points, and a padding point behind either.
pub(crate) fn sam2_tokens(prompts: &PromptBatch) -> Vec<DecoderToken> {
    let [points, corners] = points_and_corners(prompts);
    let mut tokens = [corners, points].concat();
    if !tokens.is_empty() {
        tokens.push(DecoderToken::Padding);
    }
    tokens
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::DecoderToken::{Corner, Padding, Point};
    use super::*;

    #[test]
    fn tokens_stand_where_the_prompt_encoders_put_them() {
        let device = Device::flex();
        let points = Some((
            Tensor::zeros([2, 1, 2], &device),
            Tensor::ones([2, 1], &device),
        ));
        let boxes = Some(Tensor::zeros([2, 4], &device));
        let point = PromptBatch {
            points: points.clone(),
            ..PromptBatch::default()
        };
        let boxed = PromptBatch {
            boxes: boxes.clone(),
            ..PromptBatch::default()
        };
        let both = PromptBatch {
            points,
            boxes,
            masks: None,
        };
        let none = PromptBatch::default();
        let of = |tokens: fn(&PromptBatch) -> Vec<DecoderToken>| {
            [&point, &boxed, &both, &none].map(tokens)
        };
        let corners = [Corner(0), Corner(1)];
        let [point, boxed, both, none] = of(sam_tokens);
        assert_eq!((point, boxed), (vec![Point(0), Padding], corners.to_vec()));
        assert_eq!((both, none), (vec![Point(0), Corner(0), Corner(1)], vec![]));
        let [point, boxed, both, none] = of(sam2_tokens);
        assert_eq!((point, none), (vec![Point(0), Padding], vec![]));
        assert_eq!(boxed, [Corner(0), Corner(1), Padding]);
        assert_eq!(both, [Corner(0), Corner(1), Point(0), Padding]);
    }
}
