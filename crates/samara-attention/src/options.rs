//! How maps are read, and what one says of a candidate.

use samara::Granularity;
use serde::Serialize;

use crate::Result;
use crate::error::AttentionError;
use crate::measures::Measures;
use crate::resample::Resampling;

/// How maps are read, and when a level is named.
///
/// The thresholds were chosen on the training split of CCP; `docs/attention.md` says how often the level is right
/// on other images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionOptions {
    /// Maps of another aspect ratio than the image's are the attention of the stretched image.
    pub stretch: bool,
    /// How maps are brought to the size of the image.
    pub resampling: Resampling,
    /// Least [confidence](CandidateAttention::confidence) of the best candidate. 0.67: of the
    /// decided maps of small things, where the model most often has no candidate that fits, 92 % were
    /// right; with 0.6, 86 % of a quarter more.
    pub min_confidence: f64,
    /// Least [margin](crate::AttentionLevel::margin). 0.2: of what the runner-up lacks to full agreement,
    /// the best candidate makes good a fifth. It brought wrong levels of garments from 4 to 2 % of the
    /// decided ones.
    pub min_margin: f64,
}

impl Default for AttentionOptions {
    fn default() -> Self {
        Self {
            stretch: false,
            resampling: Resampling::Auto,
            min_confidence: 0.67,
            min_margin: 0.2,
        }
    }
}

impl AttentionOptions {
    pub(crate) fn check(&self) -> Result<()> {
        for (name, value) in [
            ("min_confidence", self.min_confidence),
            ("min_margin", self.min_margin),
        ] {
            if !(-1.0..=1.0).contains(&value) {
                return Err(AttentionError::Threshold {
                    option: name,
                    value,
                });
            }
        }
        Ok(())
    }
}

/// What a map says of one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CandidateAttention {
    /// [`Candidate::granularity`](samara::Candidate). Two candidates can be of one level, and duplicates
    /// are.
    pub level: Granularity,
    /// The larger candidate that this one repeats (IoU above 0.95).
    pub duplicate_of: Option<usize>,
    /// Measures at the size of the image.
    #[serde(flatten)]
    pub measures: Measures,
    /// The highest correlation of the map with the mask at the map's own resolution (at most 64
    /// cells a side), where the mask is the share of each cell that it covers and may be blurred by
    /// up to 4 % of the image's longest side. Unlike the plain correlation it does not prefer
    /// large masks because a map is coarse. `None` where either side is constant.
    pub agreement: Option<f64>,
    /// Mean of the agreement, the correlation and the candidate's stability score: the map shows this
    /// mask, at its own resolution and at the image's, and the mask is one. A mask with soft edges
    /// is often none of the things in the image. `None` where one of them is.
    pub confidence: Option<f64>,
}
