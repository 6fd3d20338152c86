//! Calibrating the predicted IoU on evaluated objects.

use samara::{Calibration, CalibrationCurve, CalibrationError, PredictedIou};

use super::evaluate::Evaluation;
use super::isotonic::fit_curve;
use super::outcome::{ObjectOutcome, Scored};
use super::temperature::fit_temperature;

/// What is fitted to scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CalibrationKind {
    /// A curve of any rising form ([`fit_curve`]): where many objects are known.
    #[default]
    Isotonic,
    /// One number ([`fit_temperature`]), for scores between 0 and 1 that are nearly right.
    Temperature,
}

impl CalibrationKind {
    fn fit(self, samples: &[(f64, f64)]) -> Result<CalibrationCurve, CalibrationError> {
        match self {
            Self::Isotonic => fit_curve(samples),
            Self::Temperature => fit_temperature(samples),
        }
    }
}

/// Fits a calibration to all objects of the evaluations: one curve for the candidates of first
/// clicks, one for the single masks of further clicks and boxes.
///
/// The predicted IoU of a candidate is the IoU to expect if it depicts what was meant, so its curve
/// is fitted to the candidates that match the truth best, one of every first click, wherever that
/// landed.
///
/// # Errors
/// [`CalibrationError::NoScore`]: no score is finite.
pub fn fit_calibration(
    evaluations: &[Evaluation],
    kind: CalibrationKind,
) -> Result<Calibration, CalibrationError> {
    let objects = || evaluations.iter().flat_map(|e| &e.objects);
    let single = |o: &ObjectOutcome| {
        o.single
            .iter()
            .chain([&o.boxed])
            .map(pair)
            .collect::<Vec<_>>()
    };
    let singles: Vec<(f64, f64)> = objects().flat_map(single).collect();
    Ok(Calibration {
        multimask: fit_best_matching(objects(), kind)?,
        single: kind.fit(&singles).ok(),
    })
}

fn fit_best_matching<'a>(
    objects: impl Iterator<Item = &'a ObjectOutcome>,
    kind: CalibrationKind,
) -> Result<CalibrationCurve, CalibrationError> {
    let clicks = objects.flat_map(|o| &o.first);
    let samples: Vec<(f64, f64)> = clicks.map(|click| pair(click.best())).collect();
    kind.fit(&samples)
}

fn pair(scored: &Scored) -> (f64, f64) {
    (scored.raw, scored.iou)
}

/// Gives the candidates of first clicks calibrated scores by two-fold cross-fitting, so that no
/// score is judged on the images its curve was fitted to. A fold is one half of every data set's
/// images; neighbours, which may show the same scene, stay together. Without images in both folds
/// nothing is calibrated.
pub fn cross_fit(evaluations: &mut [Evaluation], kind: CalibrationKind) {
    let in_fold = |e: &Evaluation, o: &ObjectOutcome| o.image >= e.images.div_ceil(2);
    let curves = [false, true].map(|fold| {
        let objects = evaluations.iter().flat_map(|e| {
            let members = e.objects.iter().filter(move |o| in_fold(e, o) == fold);
            members.collect::<Vec<_>>()
        });
        fit_best_matching(objects, kind)
    });
    let [Ok(of_first), Ok(of_second)] = curves else {
        return;
    };
    for evaluation in evaluations {
        let second_begins = evaluation.images.div_ceil(2);
        for object in &mut evaluation.objects {
            let curve = if object.image >= second_begins {
                &of_first
            } else {
                &of_second
            };
            for candidate in object.first.iter_mut().flat_map(|c| &mut c.candidates) {
                let raw = PredictedIou(candidate.raw as f32);
                candidate.calibrated = Some(curve.apply(raw).0.into());
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::outcome::tests::{click, outcome};
    use super::*;
    use crate::timing::Timing;
    use samara_data::prompts::Placement;

    pub(crate) fn evaluation(images: usize, objects: Vec<ObjectOutcome>) -> Evaluation {
        Evaluation {
            name: "set".into(),
            root: "data/set".into(),
            images,
            objects,
            too_small: 0,
            too_large: 0,
            skipped: samara_data::Skipped::default(),
            timing: Timing::default(),
            gallery: super::super::gallery::Gallery::default(),
        }
    }

    /// Every score of the first half promises 0.5 too much, those of the second 0.25. What does not
    /// match best does not count.
    fn halves() -> Evaluation {
        let of = |image: usize| {
            let excess = if image < 2 { 0.5 } else { 0.25 };
            let iou = [0.3, 0.2, 0.3, 0.2][image];
            let pairs = [(iou + excess, iou), (0.99, 0.1), (0.98, 0.0)];
            let mut outcome = outcome(image, pairs);
            // A second click, that differs from the first in its best match alone.
            let pairs = [(iou - 0.1 + excess, iou - 0.1), (0.1, 0.0), (0.2, 0.0)];
            outcome.first.push(click(Placement::Human, pairs));
            outcome
        };
        evaluation(4, (0..4).map(of).collect())
    }

    #[test]
    fn a_fold_is_calibrated_by_the_other() {
        let mut evaluations = [halves()];
        cross_fit(&mut evaluations, CalibrationKind::Isotonic);
        let calibrated = |i: usize| {
            let clicks = evaluations[0].objects[i].first.iter();
            let all = clicks.map(|click| click.best().calibrated.unwrap());
            all.collect::<Vec<f64>>()
        };
        // These scores lie above all that the other curve has seen, those below under it.
        for (object, expected) in [(0, [0.3, 0.3]), (3, [0.1, 0.1])] {
            for (actual, expected) in calibrated(object).into_iter().zip(expected) {
                assert!((actual - expected).abs() < 1e-6, "{actual} {expected}");
            }
        }
    }

    #[test]
    fn one_image_cannot_be_cross_fitted() {
        let mut evaluations = [evaluation(1, vec![outcome(0, [(0.1, 0.2); 3])])];
        cross_fit(&mut evaluations, CalibrationKind::Isotonic);
        let candidates = &evaluations[0].objects[0].leading().candidates;
        assert!(candidates.iter().all(|c| c.calibrated.is_none()));
    }

    #[test]
    fn candidates_and_single_masks_have_their_own_curves() {
        let calibration = fit_calibration(&[halves()], CalibrationKind::Isotonic).unwrap();
        let single = calibration.single.unwrap();
        assert_eq!(single.knots(), [[0.7, 0.75], [0.8, 0.9]]);
        let knots = calibration.multimask.knots();
        assert_eq!(knots[0], [0.35, 0.1]);
        assert!(knots.iter().all(|knot| knot[0] < 0.9), "{knots:?}");
    }
}
