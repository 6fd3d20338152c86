//! How heads are trained.

use serde::{Deserialize, Serialize};

use super::prompts::ClickWeights;

/// How the heads are trained; every value has a default.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CandidateHeadSpec {
    /// Images that are drawn from the data, each perhaps several times in different views.
    pub examples: u64,
    /// Most objects of an image.
    pub masks_per_image: usize,
    /// First clicks on every object.
    pub clicks: usize,
    /// Where first clicks lie.
    pub placement: ClickWeights,
    /// The share of first clicks that are followed by four more.
    pub corrections: f64,
    /// Bounds of the image's scale, as in `augmentation.scale`.
    pub scale: [f64; 2],
    /// Width of the hidden layers.
    pub width: usize,
    /// Share of the hidden values that are dropped in training.
    pub dropout: f64,
    /// Optimizer steps of each of the two heads.
    pub steps: u64,
    /// Prompts of a step.
    pub batch: usize,
    /// The learning rate, which falls along half a cosine.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Default for CandidateHeadSpec {
    fn default() -> Self {
        Self {
            examples: 400,
            masks_per_image: 10,
            clicks: 6,
            placement: ClickWeights::default(),
            corrections: 0.2,
            scale: [1.0, 1.5],
            width: 64,
            dropout: 0.2,
            steps: 2500,
            batch: 256,
            lr: 2e-3,
            weight_decay: 0.02,
        }
    }
}

impl CandidateHeadSpec {
    /// Says what is wrong with the first value that is out of range, beginning with its key.
    pub(crate) fn validate(&self) -> Result<(), String> {
        for (key, value, most) in [
            ("examples", self.examples, 1_000_000),
            ("masks_per_image", self.masks_per_image as u64, 1000),
            ("clicks", self.clicks as u64, 100),
            ("width", self.width as u64, 4096),
            ("steps", self.steps, 10_000_000),
            ("batch", self.batch as u64, 65_536),
        ] {
            if !(1..=most).contains(&value) {
                return Err(format!("{key} = {value} is not from 1 to {most}"));
            }
        }
        self.placement.validate()?;
        for (key, value, most) in [
            ("corrections", self.corrections, 1.0),
            ("dropout", self.dropout, 0.9),
            ("weight_decay", self.weight_decay, 1.0),
        ] {
            if !(0.0..=most).contains(&value) {
                return Err(format!("{key} = {value} is not from 0 to {most}"));
            }
        }
        if !(self.lr > 0.0 && self.lr <= 1.0) {
            return Err(format!("lr = {} is not above 0 and at most 1", self.lr));
        }
        let [least, most] = self.scale;
        if !(0.05 <= least && least <= most && most <= 20.0) {
            return Err(format!(
                "scale = [{least}, {most}] is not two rising numbers from 0.05 to 20"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::CandidateHeadSpec;

    #[test]
    fn numbers_out_of_range_are_named() {
        let wrong = |change: fn(&mut CandidateHeadSpec)| {
            let mut spec = CandidateHeadSpec::default();
            change(&mut spec);
            spec.validate().err().unwrap_or_default()
        };
        assert_eq!(wrong(|_| ()), "");
        assert!(wrong(|spec| spec.clicks = 1_000_000).starts_with("clicks = 1000000 is not"));
        assert!(wrong(|spec| spec.width = 0).starts_with("width = 0 is not from 1 to 4096"));
        assert!(wrong(|spec| spec.dropout = 1.0).starts_with("dropout = 1 "));
    }
}
