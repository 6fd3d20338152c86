//! What is noted of every object; all figures are made of these.

use samara::image::OriginalPx;
use samara::{Candidate, Mask};
use serde::Serialize;

use super::metrics::number_of_clicks;

/// A mask that was scored by the model and measured against the truth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The model's raw score.
    pub raw: f64,
    /// Its calibrated score, the same as `raw` when the model has no calibration.
    pub predicted: f64,
    /// The true IoU.
    pub iou: f64,
}

impl Scored {
    /// Measures a candidate against the truth.
    pub fn new(candidate: &Candidate, truth: &Mask) -> Self {
        Self {
            raw: candidate.raw_predicted_iou.0.into(),
            predicted: candidate.predicted_iou.0.into(),
            iou: candidate.mask.iou(truth),
        }
    }
}

/// First click of an object that several annotators outlined: the highest IoU with any mask of
/// the image that contains the click.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BestAnnotator {
    /// Of the automatic choice.
    pub automatic: f64,
    /// Of any candidate.
    pub oracle: f64,
}

/// The evaluation of one object.
#[derive(Debug, Clone)]
pub struct ObjectOutcome {
    /// Position of its image among the evaluated ones.
    pub image: usize,
    /// The object's identifier in the data set.
    pub id: u64,
    /// Candidates of the first click.
    pub candidates: Vec<Scored>,
    /// Which of them has the highest predicted IoU.
    pub automatic: usize,
    /// Scores of the first click's candidates by the calibration that is reported.
    pub calibrated: Option<Vec<f64>>,
    /// Single masks of the further clicks.
    pub single: Vec<Scored>,
    /// Single mask of the box prompt.
    pub boxed: Scored,
    /// IoU after 1, 2, … clicks; shorter than asked for when no error was left to click on.
    pub ious: Vec<f64>,
    /// Boundary IoU of the automatic choice after the first click.
    pub boundary_first: f64,
    /// Boundary IoU after the fifth click.
    pub boundary_fifth: Option<f64>,
    /// Only where the data set names annotators.
    pub best_annotator: Option<BestAnnotator>,
}

impl ObjectOutcome {
    /// IoU of the automatic choice after the first click.
    pub fn automatic_iou(&self) -> f64 {
        self.candidates[self.automatic].iou
    }

    /// Highest IoU of the first click's candidates.
    pub fn oracle_iou(&self) -> f64 {
        let ious = self.candidates.iter().map(|c| c.iou);
        ious.fold(0.0, f64::max)
    }

    /// IoU after `clicks` ≥ 1 clicks.
    pub fn iou_after(&self, clicks: usize) -> f64 {
        let last = self.ious.last().copied().unwrap_or(0.0);
        self.ious.get(clicks - 1).copied().unwrap_or(last)
    }

    /// 1 if no candidate of the first click is better than the automatic choice, else 0.
    pub fn chose_best(&self) -> f64 {
        f64::from(u8::from(self.automatic_iou() >= self.oracle_iou()))
    }

    /// As [`ObjectOutcome::chose_best`], for the calibrated scores; where they tie, by raw score.
    pub fn chose_best_calibrated(&self) -> Option<f64> {
        let calibrated = self.calibrated.as_ref()?;
        let scores = calibrated.iter().zip(&self.candidates);
        let (_, chosen) = scores.rev().max_by(|(a, x), (b, y)| {
            let raw = || x.raw.total_cmp(&y.raw);
            a.total_cmp(b).then_with(raw)
        })?;
        Some(f64::from(u8::from(chosen.iou >= self.oracle_iou())))
    }

    /// Score and true IoU of the automatic choice after the first click; the score is calibrated where
    /// it can be.
    pub fn chosen(&self) -> (f64, f64) {
        let chosen = &self.candidates[self.automatic];
        let calibrated = self.calibrated.as_ref().map(|c| c[self.automatic]);
        (calibrated.unwrap_or(chosen.predicted), chosen.iou)
    }

    /// Score and true IoU of everything that a user was shown: the choice after the first click, the
    /// single masks after further ones, and that of the box.
    pub fn answers(&self) -> Vec<(f64, f64)> {
        let later = self.single.iter().chain([&self.boxed]);
        let later = later.map(|scored| (scored.predicted, scored.iou));
        [self.chosen()].into_iter().chain(later).collect()
    }

    /// Clicks until the IoU reaches `quality`; see [`number_of_clicks`].
    pub fn clicks_to(&self, quality: f64) -> f64 {
        number_of_clicks(&self.ious, quality) as f64
    }
}

/// A picture of an object: truth, automatic choice after the first click, and the click.
#[derive(Debug, Clone, Serialize)]
pub struct Case {
    /// The picture's file.
    pub image: String,
    /// The object's identifier.
    pub object: u64,
    /// The click, in original pixels.
    pub click: [f64; 2],
    /// True IoU.
    pub iou: f64,
    /// Predicted IoU.
    pub predicted_iou: f64,
    /// The picture, a JPEG file.
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

    fn scored(raw: f64, iou: f64) -> Scored {
        Scored {
            raw,
            predicted: raw,
            iou,
        }
    }

    /// An object with three candidates.
    pub(crate) fn outcome(image: usize, pairs: [(f64, f64); 3]) -> ObjectOutcome {
        let candidates: Vec<Scored> = pairs.map(|(raw, iou)| scored(raw, iou)).into();
        let automatic = (0..3).max_by(|&a, &b| pairs[a].0.total_cmp(&pairs[b].0));
        let automatic = automatic.unwrap();
        ObjectOutcome {
            image,
            id: image as u64,
            ious: vec![candidates[automatic].iou, 0.9],
            candidates,
            automatic,
            calibrated: None,
            single: vec![scored(0.8, 0.9)],
            boxed: scored(0.7, 0.75),
            boundary_first: 0.5,
            boundary_fifth: None,
            best_annotator: None,
        }
    }

    #[test]
    fn choices_are_judged_by_the_true_iou() {
        let right = outcome(0, [(0.9, 0.8), (0.5, 0.8), (0.1, 0.2)]);
        assert_eq!((right.chose_best(), right.oracle_iou()), (1.0, 0.8));
        let mut wrong = outcome(0, [(0.9, 0.3), (0.5, 0.8), (0.1, 0.2)]);
        assert_eq!((wrong.chose_best(), wrong.automatic_iou()), (0.0, 0.3));
        assert_eq!(wrong.chose_best_calibrated(), None);
        wrong.calibrated = Some(vec![0.4, 0.6, 0.1]);
        assert_eq!(wrong.chose_best_calibrated(), Some(1.0));
        wrong.calibrated = Some(vec![0.6, 0.6, 0.6]);
        assert_eq!(wrong.chose_best_calibrated(), Some(0.0));
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
