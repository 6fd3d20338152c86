//! What a decoder says to a prompt.

use samara_model::ModelConfig;

use crate::logits::Logits;
use crate::score::PredictedIou;

/// What the decoder said, mask token by mask token: token 0 is the single mask, the others the
/// candidates of an ambiguous prompt. Scores are raw.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MaskTokens {
    /// Logits of every token.
    pub low_res_logits: Vec<Logits>,
    /// Predicted IoU of every token.
    pub iou: Vec<PredictedIou>,
}

impl MaskTokens {
    /// The token that answers in the official code when one mask is asked for.
    pub(crate) fn single(&self, config: &ModelConfig) -> usize {
        let iou: Vec<f32> = self.iou.iter().map(|iou| iou.0).collect();
        config.single_token(self.low_res_logits[0].values(), &iou)
    }
}
