//! Fitting a monotone curve from score to IoU.

use samara::{CalibrationCurve, CalibrationError};

/// Samples that share one fitted value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block {
    /// Mean score of the samples.
    pub score: f64,
    /// Their mean IoU: the fitted value.
    pub iou: f64,
    /// How many they are.
    pub weight: f64,
}

impl Block {
    fn join(self, other: Self) -> Self {
        let weight = self.weight + other.weight;
        let mean = |a: f64, b: f64| (a * self.weight + b * other.weight) / weight;
        Self {
            score: mean(self.score, other.score),
            iou: mean(self.iou, other.iou),
            weight,
        }
    }

    /// How much the sum of squares grows when both share a value (Ward's criterion).
    fn cost(self, other: Self) -> f64 {
        self.weight * other.weight / (self.weight + other.weight) * (self.iou - other.iou).powi(2)
    }
}

/// Isotonic regression of IoU on score by pooling adjacent violators (Ayer et al. 1955): the
/// non-decreasing values with the least squared error. Samples of equal score are one; blocks
/// come back by ascending score, each with a higher value than the one before. What is not finite
/// is skipped.
pub fn pool_adjacent_violators(samples: &[(f64, f64)]) -> Vec<Block> {
    let mut samples: Vec<(f64, f64)> = samples
        .iter()
        .copied()
        .filter(|(score, iou)| score.is_finite() && iou.is_finite())
        .collect();
    samples.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut blocks: Vec<Block> = Vec::new();
    for same in samples.chunk_by(|a, b| a.0 == b.0) {
        let weight = same.len() as f64;
        let mut block = Block {
            score: same[0].0,
            iou: same.iter().map(|(_, iou)| iou).sum::<f64>() / weight,
            weight,
        };
        while let Some(before) = blocks.pop_if(|before| before.iou >= block.iou) {
            block = before.join(block);
        }
        blocks.push(block);
    }
    blocks
}

/// The calibration curve through the centres of the fitted blocks (centred isotonic regression,
/// Oron and Flournoy 2017), which keeps the order of scores between its ends. While there are
/// more blocks than a curve has knots, the two neighbours that lose least are joined.
///
/// # Errors
/// [`CalibrationError::NoScore`]: no sample is finite.
pub fn fit_curve(samples: &[(f64, f64)]) -> Result<CalibrationCurve, CalibrationError> {
    let mut blocks = pool_adjacent_violators(samples);
    if blocks.is_empty() {
        return Err(CalibrationError::NoScore);
    }
    while blocks.len() > CalibrationCurve::MAX_KNOTS {
        let costs = blocks.windows(2).map(|pair| pair[0].cost(pair[1]));
        let cheapest = costs.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        let at = cheapest.map_or(0, |(at, _)| at);
        let joined = blocks[at].join(blocks.remove(at + 1));
        blocks[at] = joined;
    }
    let knot = |b: &Block| [b.score as f32, (b.iou as f32).clamp(0.0, 1.0)];
    let mut knots: Vec<[f32; 2]> = blocks.iter().map(knot).collect();
    // Rounded to 32 bits, two scores can be the same.
    knots.dedup_by_key(|knot| knot[0]);
    CalibrationCurve::new(knots)
}

#[cfg(test)]
mod tests {
    use samara::PredictedIou;

    use super::*;

    #[track_caller]
    fn assert_blocks(blocks: &[Block], expected: &[(f64, f64, f64)]) {
        assert_eq!(blocks.len(), expected.len(), "{blocks:?}");
        for (b, e) in blocks.iter().zip(expected) {
            let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
            assert!(
                close(b.score, e.0) && close(b.iou, e.1) && close(b.weight, e.2),
                "{b:?} {e:?}"
            );
        }
    }

    /// Values from `scipy.optimize.isotonic_regression` of the means of equal scores.
    #[test]
    fn pooling_equals_scipy() {
        let x = [0.9, 0.2, 0.4, 0.4, 0.75, 1.1, 0.05, 0.6];
        let y = [0.8, 0.1, 0.5, 0.35, 0.6, 0.95, 0.3, 0.6];
        let samples: Vec<(f64, f64)> = x.into_iter().zip(y).collect();
        let expected = [
            (0.125, 0.2, 2.0),
            (0.4, 0.425, 2.0),
            (0.675, 0.6, 2.0),
            (0.9, 0.8, 1.0),
            (1.1, 0.95, 1.0),
        ];
        assert_blocks(&pool_adjacent_violators(&samples), &expected);

        // [1, 3, 2, 2, 4, 3, 3, 3, 3, 5, 4.5, 6, 5.5, 5.5]: repeated scores are weights.
        let times = [1, 1, 2, 1, 1, 3, 1, 1, 1, 2];
        let y = [1.0, 3.0, 2.0, 4.0, 3.0, 3.0, 5.0, 4.5, 6.0, 5.5];
        let repeat = |i: usize| std::iter::repeat_n((i as f64, y[i]), times[i]);
        let samples: Vec<(f64, f64)> = (0..10).flat_map(repeat).collect();
        let expected = [
            (0.0, 1.0, 1.0),
            (5.0 / 3.0, 7.0 / 3.0, 3.0),
            (4.4, 3.2, 5.0),
            (6.5, 4.75, 2.0),
            (26.0 / 3.0, 17.0 / 3.0, 3.0),
        ];
        assert_blocks(&pool_adjacent_violators(&samples), &expected);
    }

    #[test]
    fn a_curve_follows_the_truth_and_has_few_knots() {
        // Scores of a head without a sigmoid: IoU is a bent function of them, with noise.
        let noise = |i: u32| f64::from(i.wrapping_mul(2_654_435_761) >> 16) / 65_536.0 - 0.5;
        let truth = |score: f64| 1.0 / (1.0 + (-2.0 * score).exp());
        let samples: Vec<(f64, f64)> = (0..3000)
            .map(|i| {
                let score = f64::from(i) / 500.0 - 3.0;
                (score, (truth(score) + 0.2 * noise(i)).clamp(0.0, 1.0))
            })
            .collect();
        let curve = fit_curve(&samples).unwrap();
        assert!((8..=32).contains(&curve.knots().len()));
        for i in -20_i16..=20 {
            let score = f32::from(i) / 8.0;
            let error = f64::from(curve.apply(PredictedIou(score)).0) - truth(score.into());
            assert!(error.abs() < 0.04, "{score}: {error}");
        }
    }

    #[test]
    fn one_score_is_one_knot_and_none_is_an_error() {
        let curve = fit_curve(&[(0.5, 0.2), (0.5, 0.4), (f64::NAN, 0.9)]).unwrap();
        assert_eq!(curve.knots(), [[0.5, 0.3]]);
        let worse_the_higher = fit_curve(&[(0.1, 0.9), (0.9, 0.1)]).unwrap();
        assert_eq!(worse_the_higher.knots(), [[0.5, 0.5]]);
        assert!(fit_curve(&[]).is_err());
    }
}
