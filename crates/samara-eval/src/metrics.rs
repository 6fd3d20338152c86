//! Figures of merit. Samples have weights, so that a bootstrap only changes the weights: a sample
//! of weight 2 counts as two equal samples.

use serde::Serialize;

/// Clicks that RITM's protocol grants; an object that never reaches the IoU counts as many.
pub const MAX_CLICKS: usize = 20;

/// Weighted mean; `None` without weight.
pub fn mean(values: &[f64], weights: &[f64]) -> Option<f64> {
    let total: f64 = weights.iter().sum();
    let sum: f64 = values.iter().zip(weights).map(|(v, w)| v * w).sum();
    (total > 0.0).then(|| sum / total)
}

/// Mean absolute error of `predicted` against `truth`; `None` without weight.
pub fn mean_absolute_error(predicted: &[f64], truth: &[f64], weights: &[f64]) -> Option<f64> {
    let errors: Vec<f64> = predicted
        .iter()
        .zip(truth)
        .map(|(p, t)| (p - t).abs())
        .collect();
    mean(&errors, weights)
}

/// Pearson's correlation; `None` when one side does not vary.
pub fn pearson(x: &[f64], y: &[f64], weights: &[f64]) -> Option<f64> {
    let (mean_x, mean_y) = (mean(x, weights)?, mean(y, weights)?);
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for ((x, y), w) in x.iter().zip(y).zip(weights) {
        let (dx, dy) = (x - mean_x, y - mean_y);
        xx += w * dx * dx;
        xy += w * dx * dy;
        yy += w * dy * dy;
    }
    let spread = (xx * yy).sqrt();
    (spread > f64::EPSILON * weights.len() as f64).then(|| xy / spread)
}

/// Spearman's rank correlation: Pearson's of the ranks, equal values sharing the middle of theirs.
/// Sorting is done once, for any number of weights.
#[derive(Debug, Clone)]
pub struct Spearman {
    x: Ranking,
    y: Ranking,
}

impl Spearman {
    /// For the given pairs.
    pub fn new(x: &[f64], y: &[f64]) -> Self {
        let (x, y) = (Ranking::new(x), Ranking::new(y));
        Self { x, y }
    }

    /// The correlation; `None` when one side does not vary.
    pub fn correlation(&self, weights: &[f64]) -> Option<f64> {
        pearson(&self.x.ranks(weights), &self.y.ranks(weights), weights)
    }
}

/// Positions of values in ascending order, and where a new value begins among them.
#[derive(Debug, Clone)]
struct Ranking {
    order: Vec<usize>,
    groups: Vec<usize>,
}

impl Ranking {
    fn new(values: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
        let equal = order.chunk_by(|&a, &b| values[a] == values[b]);
        let groups = equal.map(<[usize]>::len).collect();
        Self { order, groups }
    }

    fn ranks(&self, weights: &[f64]) -> Vec<f64> {
        let mut ranks = vec![0.0; self.order.len()];
        let (mut below, mut rest) = (0.0, &self.order[..]);
        for &length in &self.groups {
            let (group, after) = rest.split_at(length);
            let weight: f64 = group.iter().map(|&i| weights[i]).sum();
            let rank = below + f64::midpoint(weight, 1.0);
            for &i in group {
                ranks[i] = rank;
            }
            below += weight;
            rest = after;
        }
        ranks
    }
}

/// One bin of a reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Bin {
    /// Lower end of the predicted values in it.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Weight of the samples in it.
    pub count: f64,
    /// Mean of the predictions in it.
    pub mean_predicted: f64,
    /// Mean of the true values in it.
    pub mean_iou: f64,
}

/// A reliability diagram: `bins` bins of equal width over 0..=1, by prediction. A prediction
/// beyond belongs to the outermost bin, and counts with its own value.
pub fn reliability(predicted: &[f64], truth: &[f64], weights: &[f64], bins: usize) -> Vec<Bin> {
    let edge = |i: usize| i as f64 / bins as f64;
    let empty = |i: usize| Bin {
        low: edge(i),
        high: edge(i + 1),
        ..Bin::default()
    };
    let mut diagram: Vec<Bin> = (0..bins).map(empty).collect();
    for ((&predicted, &truth), &weight) in predicted.iter().zip(truth).zip(weights) {
        let index = (predicted.clamp(0.0, 1.0) * bins as f64) as usize;
        let bin = &mut diagram[index.min(bins - 1)];
        bin.count += weight;
        bin.mean_predicted += weight * predicted;
        bin.mean_iou += weight * truth;
    }
    for bin in diagram.iter_mut().filter(|bin| bin.count > 0.0) {
        bin.mean_predicted /= bin.count;
        bin.mean_iou /= bin.count;
    }
    diagram
}

/// Expected calibration error (Naeini et al. 2015): how far prediction and truth are apart in a
/// bin, on the average of all samples. `None` without samples.
pub fn expected_calibration_error(diagram: &[Bin]) -> Option<f64> {
    let gaps: Vec<f64> = diagram
        .iter()
        .map(|b| (b.mean_predicted - b.mean_iou).abs())
        .collect();
    let counts: Vec<f64> = diagram.iter().map(|b| b.count).collect();
    mean(&gaps, &counts)
}

/// Number of clicks until the IoU reaches `quality` (NoC@q of RITM): `ious[i]` is the IoU after
/// `i + 1` clicks. [`MAX_CLICKS`] when it does not within that many.
pub fn number_of_clicks(ious: &[f64], quality: f64) -> usize {
    let reached = ious.iter().take(MAX_CLICKS).position(|&iou| iou >= quality);
    reached.map_or(MAX_CLICKS, |i| i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: [f64; 8] = [0.9, 0.2, 0.4, 0.4, 0.75, 1.1, 0.05, 0.6];
    const Y: [f64; 8] = [0.8, 0.1, 0.5, 0.35, 0.6, 0.95, 0.3, 0.6];
    const ONES: [f64; 8] = [1.0; 8];
    /// As `numpy.repeat`.
    const TIMES: [f64; 8] = [2.0, 0.0, 1.0, 3.0, 1.0, 1.0, 2.0, 1.0];

    #[track_caller]
    fn assert_close(actual: Option<f64>, expected: f64) {
        let actual = actual.unwrap();
        assert!((actual - expected).abs() < 1e-12, "{actual} {expected}");
    }

    /// Expected values from `scipy.stats` 1.17 (`pearsonr`, `spearmanr`) and `numpy`.
    #[test]
    fn correlations_and_errors_equal_scipy() {
        assert_close(pearson(&X, &Y, &ONES), 0.934_480_845_435_059_2);
        assert_close(pearson(&X, &Y, &TIMES), 0.948_477_199_053_352_7);
        let spearman = Spearman::new(&X, &Y);
        assert_close(spearman.correlation(&ONES), 0.963_855_421_686_746_9);
        assert_close(spearman.correlation(&TIMES), 0.983_442_281_763_464_8);
        assert_close(mean_absolute_error(&X, &Y, &ONES), 0.1125);
        assert_close(
            mean_absolute_error(&X, &Y, &TIMES),
            0.113_636_363_636_363_63,
        );
    }

    #[test]
    fn what_does_not_vary_has_no_correlation() {
        assert_eq!(pearson(&[0.3; 8], &Y, &ONES), None);
        assert_eq!(Spearman::new(&X, &[0.1; 8]).correlation(&ONES), None);
        assert_eq!(pearson(&X, &Y, &[0.0; 8]), None);
        assert_eq!(mean(&[], &[]), None);
    }

    #[test]
    fn calibration_error_equals_numpy() {
        let diagram = reliability(&X, &Y, &ONES, 5);
        assert_close(expected_calibration_error(&diagram), 0.1);
        let counts: Vec<f64> = diagram.iter().map(|b| b.count).collect();
        assert_eq!(counts, [1.0, 1.0, 2.0, 2.0, 2.0]);
        // 1.1 is in the last bin with its own value.
        assert_close(Some(diagram[4].mean_predicted), 1.0);
        assert_close(Some(diagram[4].mean_iou), 0.875);
        let resampled = reliability(&X, &Y, &TIMES, 5);
        assert_close(
            expected_calibration_error(&resampled),
            0.095_454_545_454_545_53,
        );
        assert_eq!(expected_calibration_error(&[]), None);
    }

    #[test]
    fn clicks_are_counted_to_the_first_success() {
        let ious = [0.5, 0.86, 0.84, 0.9];
        assert_eq!(number_of_clicks(&ious, 0.8), 2);
        assert_eq!(number_of_clicks(&ious, 0.9), 4);
        assert_eq!(number_of_clicks(&ious, 0.95), 20);
        let late = [vec![0.0; 20], vec![1.0]].concat();
        assert_eq!(number_of_clicks(&late, 0.8), 20);
    }
}
