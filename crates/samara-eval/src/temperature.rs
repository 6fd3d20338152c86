//! Fitting one number to score and IoU.

use samara::{CalibrationCurve, CalibrationError};

/// Scores are kept this far from 0 and 1, where their logit has no end.
const MARGIN: f64 = 1e-3;
/// Between these the inverse of the temperature is looked for.
const INVERSE: [f64; 2] = [0.05, 20.0];
/// Halvings of that range, far more than 32-bit scores can tell.
const HALVINGS: usize = 50;

/// The curve σ(logit(score) / T) with the temperature T of the least binary cross-entropy with the IoU
/// (Guo et al. 2017, "On Calibration of Modern Neural Networks"), for scores between 0 and 1; those beyond
/// count as the nearest. It makes scores more or less confident and nothing else, so data of another kind
/// cannot bend it. What is not finite is skipped.
///
/// # Errors
/// [`CalibrationError::NoScore`]: no sample is finite.
pub fn fit_temperature(samples: &[(f64, f64)]) -> Result<CalibrationCurve, CalibrationError> {
    let logits = samples
        .iter()
        .filter(|(score, iou)| score.is_finite() && iou.is_finite())
        .map(|&(score, iou)| (logit(score.clamp(MARGIN, 1.0 - MARGIN)), iou));
    let logits: Vec<(f64, f64)> = logits.collect();
    if logits.is_empty() {
        return Err(CalibrationError::NoScore);
    }
    // The cross-entropy is convex in the inverse: where its slope is 0, it is least.
    let slope = |inverse: f64| -> f64 {
        let slopes = logits
            .iter()
            .map(|(l, iou)| (sigmoid(inverse * l) - iou) * l);
        slopes.sum()
    };
    let [mut low, mut high] = INVERSE;
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if slope(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    let last = CalibrationCurve::MAX_KNOTS - 1;
    let knots = (0..=last).map(|i| {
        let score = i as f64 / last as f64;
        [score as f32, sigmoid(low * logit(score)) as f32]
    });
    CalibrationCurve::new(knots.collect())
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn logit(p: f64) -> f64 {
    (p / (1.0 - p)).ln()
}

#[cfg(test)]
mod tests {
    use samara::PredictedIou;

    use super::*;

    #[test]
    fn the_temperature_is_found_and_the_ends_stay() {
        for temperature in [0.5, 1.0, 2.5] {
            let truth = |score: f64| sigmoid(logit(score) / temperature);
            // Noise that is 0 in the mean, and samples that say nothing.
            let samples = (1..200).map(|i| {
                let noise = if i % 2 == 0 { 0.05 } else { -0.05 };
                (f64::from(i) / 200.0, truth(f64::from(i) / 200.0) + noise)
            });
            let samples: Vec<_> = samples.chain([(f64::NAN, 0.5), (0.5, f64::NAN)]).collect();
            let curve = fit_temperature(&samples).unwrap();
            let at = |score: f64| f64::from(curve.apply(PredictedIou(score as f32)).0);
            for score in [0.1, 0.3, 0.5, 0.8, 0.95] {
                let error = (at(score) - truth(score)).abs();
                assert!(error < 0.01, "T {temperature}, {score}: {error}");
            }
            assert_eq!([at(-0.2), at(0.0), at(1.0), at(1.1)], [0.0, 0.0, 1.0, 1.0]);
        }
    }

    #[test]
    fn scores_that_say_the_contrary_end_in_the_middle() {
        let curve = fit_temperature(&[(0.1, 0.9), (0.9, 0.1)]).unwrap();
        let at = |score: f32| curve.apply(PredictedIou(score)).0;
        assert!(at(0.2) < 0.5 && at(0.8) > 0.5 && at(0.8) < 0.53);
        assert!(fit_temperature(&[(f64::NAN, 0.5)]).is_err());
    }
}
