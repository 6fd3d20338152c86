//! What is noted of every object; all figures are made of these.

use samara::{Candidate, Mask};
use samara_image::OriginalPx;
use serde::Serialize;

use super::metrics::number_of_clicks;
use samara_data::prompts::Placement;

/// A mask that was scored by the model and measured against the truth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The model's raw score.
    pub raw: f64,
    /// Its predicted IoU, the same as `raw` when the model has neither a calibration nor a head for it.
    pub predicted: f64,
    /// What a calibration that was fitted in this evaluation makes of the raw score.
    pub calibrated: Option<f64>,
    /// The probability that it is what the prompt means, where the model says so.
    pub match_probability: Option<f64>,
    /// The true IoU.
    pub iou: f64,
}

impl Scored {
    /// Measures a candidate against the truth.
    pub fn new(candidate: &Candidate, truth: &Mask) -> Self {
        Self {
            raw: candidate.raw_predicted_iou.0.into(),
            predicted: candidate.predicted_iou.0.into(),
            calibrated: None,
            match_probability: candidate.match_probability.map(|p| p.0.into()),
            iou: candidate.mask.iou(truth),
        }
    }
}

/// First click on an object that several annotators outlined: the highest IoU with any mask of
/// the image that contains the click.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BestAnnotator {
    /// Of the chosen mask.
    pub chosen: f64,
    /// Of any candidate.
    pub any: f64,
}

/// One first click on an object, and what it was answered with.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstClick {
    /// Where it landed on the object.
    pub placement: Placement,
    /// The click, in original pixels.
    pub at: OriginalPx,
    /// The candidates, at least one.
    pub candidates: Vec<Scored>,
    /// Which of them [`samara::Select::Best`] chooses.
    pub chosen: usize,
    /// Boundary IoU of the chosen mask.
    pub boundary: f64,
    /// Only where the data set names annotators.
    pub best_annotator: Option<BestAnnotator>,
}

impl FirstClick {
    /// The chosen candidate.
    pub fn chosen(&self) -> &Scored {
        &self.candidates[self.chosen]
    }

    /// The candidate that matches the truth best; the first of equals.
    pub fn best(&self) -> &Scored {
        let candidates = self.candidates.iter().rev();
        let best = candidates.max_by(|a, b| a.iou.total_cmp(&b.iou));
        best.unwrap_or_else(|| self.chosen())
    }

    /// 1 if no candidate is better than the chosen one, else 0.
    pub fn chose_best(&self) -> f64 {
        indicator(self.chosen().iou >= self.best().iou)
    }
}

/// 1 if it holds, else 0.
pub(super) fn indicator(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// The evaluation of one object.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectOutcome {
    /// Position of its image among the evaluated ones.
    pub image: usize,
    /// The object's identifier in the data set.
    pub id: u64,
    /// First clicks, by placement, at least one. The first of them went on to further clicks.
    pub first: Vec<FirstClick>,
    /// Single masks of the further clicks.
    pub single: Vec<Scored>,
    /// Single mask of the box prompt.
    pub boxed: Scored,
    /// IoU after 1, 2, … clicks; shorter than asked for when no error was left to click on.
    pub ious: Vec<f64>,
    /// Boundary IoU after the fifth click.
    pub boundary_fifth: Option<f64>,
}

impl ObjectOutcome {
    /// The first click that went on to further ones.
    pub fn leading(&self) -> &FirstClick {
        &self.first[0]
    }

    /// IoU after `clicks` ≥ 1 clicks.
    pub fn iou_after(&self, clicks: usize) -> f64 {
        let last = self.ious.last().copied().unwrap_or(0.0);
        self.ious.get(clicks - 1).copied().unwrap_or(last)
    }

    /// Predicted and true IoU of everything that a user was shown: the choice after the first click,
    /// the single masks after further ones, and that of the box.
    pub fn answers(&self) -> Vec<(f64, f64)> {
        let shown = [self.leading().chosen()].into_iter();
        let shown = shown.chain(&self.single).chain([&self.boxed]);
        shown.map(|scored| (scored.predicted, scored.iou)).collect()
    }

    /// Clicks until the IoU reaches `quality`; see [`number_of_clicks`].
    pub fn clicks_to(&self, quality: f64) -> f64 {
        number_of_clicks(&self.ious, quality) as f64
    }
}

/// An image of an object: truth, the chosen mask after the first click, and the click.
#[derive(Debug, Clone, Serialize)]
pub struct Case {
    /// The image's file.
    pub image: String,
    /// The object's identifier.
    pub object: u64,
    /// The click, in original pixels.
    pub click: [f64; 2],
    /// True IoU.
    pub iou: f64,
    /// Predicted IoU.
    pub predicted_iou: f64,
    /// The image, a JPEG file.
    #[serde(skip)]
    pub jpeg: Vec<u8>,
}

impl Case {
    /// The click.
    pub fn at(&self) -> OriginalPx {
        OriginalPx::new(self.click[0], self.click[1])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn scored(raw: f64, iou: f64) -> Scored {
        Scored {
            raw,
            predicted: raw,
            calibrated: None,
            match_probability: None,
            iou,
        }
    }

    /// A click with three candidates; the one with the highest score is chosen.
    pub(crate) fn click(placement: Placement, pairs: [(f64, f64); 3]) -> FirstClick {
        let chosen = (0..3).max_by(|&a, &b| pairs[a].0.total_cmp(&pairs[b].0));
        FirstClick {
            placement,
            at: OriginalPx::new(1.5, 2.5),
            candidates: pairs.map(|(raw, iou)| scored(raw, iou)).into(),
            chosen: chosen.unwrap(),
            boundary: 0.5,
            best_annotator: None,
        }
    }

    /// An object that was clicked in the center, with three candidates.
    pub(crate) fn outcome(image: usize, pairs: [(f64, f64); 3]) -> ObjectOutcome {
        let first = click(Placement::Center, pairs);
        ObjectOutcome {
            image,
            id: image as u64,
            ious: vec![first.chosen().iou, 0.9],
            first: vec![first],
            single: vec![scored(0.8, 0.9)],
            boxed: scored(0.7, 0.75),
            boundary_fifth: None,
        }
    }

    #[test]
    fn choices_are_judged_by_the_true_iou() {
        let click = |pairs| click(Placement::Human, pairs);
        let right = click([(0.9, 0.8), (0.5, 0.8), (0.1, 0.2)]);
        assert_eq!((right.chose_best(), right.best().raw), (1.0, 0.9));
        let wrong = click([(0.9, 0.3), (0.5, 0.8), (0.1, 0.2)]);
        assert_eq!((wrong.chose_best(), wrong.chosen().iou), (0.0, 0.3));
        assert_eq!((wrong.best().iou, wrong.best().raw), (0.8, 0.5));
    }

    #[test]
    fn after_the_last_click_the_iou_stays() {
        let outcome = outcome(0, [(0.9, 0.3), (0.5, 0.8), (0.1, 0.2)]);
        let ious = [1, 2, 3, 9].map(|clicks| outcome.iou_after(clicks));
        assert_eq!(ious, [0.3, 0.9, 0.9, 0.9]);
        assert_eq!(
            (outcome.clicks_to(0.85), outcome.clicks_to(0.95)),
            (2.0, 20.0)
        );
    }
}
