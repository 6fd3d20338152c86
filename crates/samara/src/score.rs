//! Numbers that are said about a mask.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How well a mask outlines what it depicts: the IoU with the (unknown) truth that is to be expected if
/// the mask depicts what was meant. Whether it does is another question; see [`MatchProbability`].
///
/// In 0..=1 from a [`CandidateHead`](crate::CandidateHead) or a [`Calibration`](crate::Calibration). A
/// decoder's own score (SAM's "predicted IoU") is not bounded: it can exceed 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct PredictedIou(pub f32);

/// The probability that a candidate is the one that the prompt means, given that one of them is: over the
/// candidates of a prompt it adds up to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct MatchProbability(pub f32);

/// How little a mask changes with its threshold: area above +offset over area above −offset,
/// from full-resolution logits (`calculate_stability_score` of the official code). 0 for a mask
/// without any pixel above −offset.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct StabilityScore(pub f32);

impl StabilityScore {
    /// Offset of the official code, in logits.
    pub const OFFSET: f32 = 1.0;

    /// From the pixels above +offset and those above −offset.
    pub fn from_areas(high: u64, low: u64) -> Self {
        Self(if low == 0 {
            0.0
        } else {
            (high as f64 / low as f64) as f32
        })
    }
}

impl fmt::Display for PredictedIou {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for MatchProbability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for StabilityScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
