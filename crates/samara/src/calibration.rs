//! From the score that a model gives a mask to the IoU that masks with such a score have.

use serde::{Deserialize, Serialize};

use samara_model::checkpoint::{Checkpoint, CheckpointError};

use crate::Result;
use crate::error::{CalibrationError, OptionError};
use crate::score::PredictedIou;

/// A monotone, piecewise-linear map from a raw score to an IoU in 0..=1, flat beyond its ends.
/// Stored as pairs `[score, IoU]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<[f32; 2]>", into = "Vec<[f32; 2]>")]
pub struct CalibrationCurve {
    knots: Vec<[f32; 2]>,
}

impl CalibrationCurve {
    /// Most knots of a curve; more would follow the noise of the data it was fitted to.
    pub const MAX_KNOTS: usize = 32;

    /// A curve through the given pairs of raw score and IoU.
    ///
    /// # Errors
    /// [`CalibrationError`]: there are no knots or more than [`Self::MAX_KNOTS`], the scores do
    /// not increase, the IoU decreases or leaves 0..=1, or a value is not finite.
    pub fn new(knots: Vec<[f32; 2]>) -> Result<Self, CalibrationError> {
        if knots.is_empty() || knots.len() > Self::MAX_KNOTS {
            return Err(CalibrationError::Knots {
                found: knots.len(),
                most: Self::MAX_KNOTS,
            });
        }
        for (i, &[score, iou]) in knots.iter().enumerate() {
            if !score.is_finite() || !(0.0..=1.0).contains(&iou) {
                return Err(CalibrationError::NoIou {
                    knot: i,
                    score,
                    iou,
                });
            }
        }
        let falls = |w: &[[f32; 2]]| w[0][0] >= w[1][0] || w[0][1] > w[1][1];
        if let Some(i) = knots.windows(2).position(falls) {
            return Err(CalibrationError::Falls { knot: i + 1 });
        }
        Ok(Self { knots })
    }

    /// The pairs of raw score and IoU.
    pub fn knots(&self) -> &[[f32; 2]] {
        &self.knots
    }

    /// The IoU of masks with this score. What is not a number stays so.
    pub fn apply(&self, raw: PredictedIou) -> PredictedIou {
        let PredictedIou(score) = raw;
        if score.is_nan() {
            return raw;
        }
        let above = self.knots.partition_point(|knot| knot[0] <= score);
        PredictedIou(match (above.checked_sub(1), self.knots.get(above)) {
            (None, Some(first)) => first[1],
            (Some(below), Some(&[x1, y1])) => {
                let [x0, y0] = self.knots[below];
                y0 + (y1 - y0) * ((score - x0) / (x1 - x0))
            }
            (Some(below), None) => self.knots[below][1],
            (None, None) => score,
        })
    }
}

impl TryFrom<Vec<[f32; 2]>> for CalibrationCurve {
    type Error = CalibrationError;

    fn try_from(knots: Vec<[f32; 2]>) -> Result<Self, CalibrationError> {
        Self::new(knots)
    }
}

impl From<CalibrationCurve> for Vec<[f32; 2]> {
    fn from(curve: CalibrationCurve) -> Self {
        curve.knots
    }
}

/// The curves of a model: one for the candidates of an ambiguous prompt, one for the single mask,
/// whose scores mean something else. `samara eval --calibrate` fits them and keeps them in the
/// checkpoint's metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// For the three candidates.
    pub multimask: CalibrationCurve,
    /// For the single mask; its scores stay raw without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single: Option<CalibrationCurve>,
}

impl Calibration {
    /// Key of the JSON in a checkpoint's metadata.
    pub const KEY: &str = "samara.calibration";

    /// The calibration in a checkpoint's metadata, if there is one.
    ///
    /// # Errors
    /// [`CheckpointError::Invalid`] when it is damaged.
    pub fn of_checkpoint(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        let Some(json) = checkpoint.metadata().get(Self::KEY) else {
            return Ok(None);
        };
        let calibration = serde_json::from_str(json).map_err(|e| CheckpointError::Invalid {
            path: checkpoint.path().into(),
            reason: format!("bad {} in its metadata: {e}", Self::KEY),
        })?;
        Ok(Some(calibration))
    }

    /// The JSON for a checkpoint's metadata.
    ///
    /// # Errors
    /// Never, as far as we know; [`OptionError`] stands for what the serialiser says.
    pub fn to_json(&self) -> Result<String, OptionError> {
        let json = serde_json::to_string(self);
        json.map_err(|e| OptionError::new(Self::KEY, e.to_string()))
    }

    /// The IoU of a mask that the given mask token (0: the single mask) scored so.
    pub fn apply(&self, token: usize, raw: PredictedIou) -> PredictedIou {
        match (token, &self.single) {
            (0, Some(curve)) => curve.apply(raw),
            (0, None) => raw,
            _ => self.multimask.apply(raw),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve() -> CalibrationCurve {
        CalibrationCurve::new(vec![[-1.0, 0.1], [0.5, 0.4], [1.5, 0.9]]).unwrap()
    }

    #[test]
    fn between_knots_it_is_linear_and_beyond_them_flat() {
        for (raw, expected) in [
            (f32::NEG_INFINITY, 0.1),
            (-1.0, 0.1),
            (-0.25, 0.25),
            (0.5, 0.4),
            (1.0, 0.65),
            (1.5, 0.9),
            (f32::INFINITY, 0.9),
        ] {
            let actual = curve().apply(PredictedIou(raw)).0;
            assert!((actual - expected).abs() < 1e-6, "{raw}: {actual}");
        }
        assert!(curve().apply(PredictedIou(f32::NAN)).0.is_nan());
        let flat = CalibrationCurve::new(vec![[0.3, 0.7]]).unwrap();
        assert_eq!(flat.apply(PredictedIou(0.0)).0, 0.7);
        assert_eq!(flat.apply(PredictedIou(0.3)).0, 0.7);
    }

    #[test]
    fn json_comes_back_and_bad_curves_do_not() {
        let calibration = Calibration {
            multimask: curve(),
            single: None,
        };
        let json = calibration.to_json().unwrap();
        assert_eq!(json, r#"{"multimask":[[-1.0,0.1],[0.5,0.4],[1.5,0.9]]}"#);
        assert_eq!(
            serde_json::from_str::<Calibration>(&json).unwrap(),
            calibration
        );
        for bad in [
            r"[]",
            r"[[0,0.5],[0,0.6]]",
            r"[[0,0.5],[1,0.4]]",
            r"[[0,1.5]]",
            r"[[1e99,0.5]]",
        ] {
            assert!(
                serde_json::from_str::<CalibrationCurve>(bad).is_err(),
                "{bad}"
            );
        }
        let many = (0..33).map(|i| [i as f32, 0.5]).collect();
        assert!(CalibrationCurve::new(many).is_err());
    }

    #[test]
    fn the_single_mask_has_a_curve_of_its_own() {
        let mut calibration = Calibration {
            multimask: curve(),
            single: None,
        };
        let raw = PredictedIou(9.0);
        assert_eq!(calibration.apply(0, raw).0, 9.0);
        assert_eq!(calibration.apply(2, raw).0, 0.9);
        calibration.single = Some(CalibrationCurve::new(vec![[0.0, 0.2]]).unwrap());
        assert_eq!(calibration.apply(0, raw).0, 0.2);
    }
}
