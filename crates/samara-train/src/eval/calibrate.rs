//! Calibrating the predicted IoU on evaluated objects.

use samara::{Calibration, CalibrationCurve, Error, PredictedIou};

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
    fn fit(self, samples: &[(f64, f64)]) -> Result<CalibrationCurve, Error> {
        match self {
            Self::Isotonic => fit_curve(samples),
            Self::Temperature => fit_temperature(samples),
        }
    }
}

/// Fits a calibration to all objects of the evaluations: one curve for the candidates of first
/// clicks, one for the single masks of further clicks and boxes.
///
/// # Errors
/// No score is finite.
pub fn fit_calibration(
    evaluations: &[Evaluation],
    kind: CalibrationKind,
) -> Result<Calibration, Error> {
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
        multimask: fit_candidates(objects(), kind)?,
        single: kind.fit(&singles).ok(),
    })
}

fn fit_candidates<'a>(
    objects: impl Iterator<Item = &'a ObjectOutcome>,
    kind: CalibrationKind,
) -> Result<CalibrationCurve, Error> {
    let samples: Vec<(f64, f64)> = objects.flat_map(|o| &o.candidates).map(pair).collect();
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
        fit_candidates(objects, kind)
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
            let calibrated = |c: &Scored| curve.apply(PredictedIou(c.raw as f32)).0.into();
            object.calibrated = Some(object.candidates.iter().map(calibrated).collect());
        }
    }
}

/// Takes every predicted IoU as it came, for a model that has a calibration.
pub fn keep_predicted(evaluations: &mut [Evaluation]) {
    for object in evaluations.iter_mut().flat_map(|e| &mut e.objects) {
        object.calibrated = Some(object.candidates.iter().map(|c| c.predicted).collect());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::evaluate::Timing;
    use super::super::outcome::tests::outcome;
    use super::*;

    pub(crate) fn evaluation(images: usize, objects: Vec<ObjectOutcome>) -> Evaluation {
        Evaluation {
            name: "set".into(),
            root: "data/set".into(),
            images,
            objects,
            too_small: 0,
            skipped: crate::data::Skipped::default(),
            timing: Timing::default(),
            gallery: super::super::gallery::Gallery::default(),
        }
    }

    /// Every score of the first half promises 0.5 too much, those of the second 0.25.
    fn halves() -> Evaluation {
        let of = |image: usize| {
            let excess = if image < 2 { 0.5 } else { 0.25 };
            outcome(image, [0.3, 0.2, 0.1].map(|iou| (iou + excess, iou)))
        };
        evaluation(4, (0..4).map(of).collect())
    }

    #[test]
    fn a_fold_is_calibrated_by_the_other() {
        let mut evaluations = [halves()];
        cross_fit(&mut evaluations, CalibrationKind::Isotonic);
        let calibrated = |i: usize| evaluations[0].objects[i].calibrated.clone().unwrap();
        // These scores lie above all that the other curve has seen, those below under it.
        for (actual, expected) in calibrated(0).into_iter().zip([0.3, 0.3, 0.3]) {
            assert!((actual - expected).abs() < 1e-6, "{actual} {expected}");
        }
        for (actual, expected) in calibrated(3).into_iter().zip([0.1, 0.1, 0.1]) {
            assert!((actual - expected).abs() < 1e-6, "{actual} {expected}");
        }
    }

    #[test]
    fn one_image_cannot_be_cross_fitted() {
        let mut evaluations = [evaluation(1, vec![outcome(0, [(0.1, 0.2); 3])])];
        cross_fit(&mut evaluations, CalibrationKind::Isotonic);
        assert!(evaluations[0].objects[0].calibrated.is_none());
        keep_predicted(&mut evaluations);
        assert_eq!(evaluations[0].objects[0].calibrated, Some(vec![0.1; 3]));
    }

    #[test]
    fn candidates_and_single_masks_have_their_own_curves() {
        let calibration = fit_calibration(&[halves()], CalibrationKind::Isotonic).unwrap();
        let single = calibration.single.unwrap();
        assert_eq!(single.knots(), [[0.7, 0.75], [0.8, 0.9]]);
        assert_eq!(calibration.multimask.knots()[0][0], 0.35);
    }
}
