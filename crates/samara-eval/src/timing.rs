//! What an evaluation took.

use serde::Serialize;

/// Seconds that the stages took, and the prompts that were answered in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Timing {
    /// Reading images and masks.
    pub load: f64,
    /// Image embeddings.
    pub embed: f64,
    /// Decoding prompts.
    pub decode: f64,
    /// Masks of the original size.
    pub masks: f64,
    /// Finding clicks and measuring masks.
    pub scoring: f64,
    /// Everything.
    pub total: f64,
    /// Prompts answered: clicks and boxes, each for one object.
    pub prompts: usize,
}

impl Timing {
    /// Milliseconds per prompt, without the embedding.
    pub fn ms_per_prompt(&self) -> f64 {
        1000.0 * (self.decode + self.masks + self.scoring) / self.prompts.max(1) as f64
    }
}
