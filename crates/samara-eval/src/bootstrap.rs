//! Confidence intervals by resampling images: objects of one image resemble each other, so they
//! are drawn together.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

/// A figure with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    /// The figure, on all images.
    pub value: f64,
    /// 2.5th percentile of the resampled figures.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
}

/// A figure and what it is on every resample; not a number where it is undefined.
#[derive(Debug, Clone)]
pub struct Estimate {
    value: f64,
    draws: Vec<f64>,
}

impl Estimate {
    /// The figure with its interval (percentile bootstrap).
    pub fn figure(&self) -> Figure {
        let mut draws: Vec<f64> = self.draws.iter().copied().filter(|v| !v.is_nan()).collect();
        draws.sort_by(f64::total_cmp);
        Figure {
            value: self.value,
            low: percentile(&draws, 2.5).unwrap_or(self.value),
            high: percentile(&draws, 97.5).unwrap_or(self.value),
        }
    }

    /// The difference to another figure of the same images, resample by resample.
    pub fn minus(&self, other: &Self) -> Self {
        let pairs = self.draws.iter().zip(&other.draws);
        Self {
            value: self.value - other.value,
            draws: pairs.map(|(a, b)| a - b).collect(),
        }
    }

    /// The mean of figures that were resampled independently, such as those of several data sets;
    /// `None` of none.
    pub fn mean(estimates: &[&Self]) -> Option<Self> {
        let count = estimates.len() as f64;
        let draws = estimates.iter().map(|e| e.draws.len()).min()?;
        let mean = |of: &dyn Fn(&Self) -> f64| estimates.iter().map(|e| of(e)).sum::<f64>() / count;
        Some(Self {
            value: mean(&|e| e.value),
            draws: (0..draws).map(|i| mean(&|e| e.draws[i])).collect(),
        })
    }
}

/// Linear interpolation between order statistics, as `numpy.percentile`; `None` of nothing.
fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let at = percent / 100.0 * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(below + (above - below) * at.fract())
}

/// How often every image is drawn in every resample.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    images: usize,
    draws: Vec<Vec<f64>>,
}

impl Bootstrap {
    /// Resamples of a usual interval.
    pub const RESAMPLES: usize = 1000;

    /// Draws `images` of `images` images with replacement, `resamples` times. The same seed gives
    /// the same draws.
    pub fn new(images: usize, resamples: usize, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = || {
            let mut times = vec![0.0; images];
            (0..images).for_each(|_| times[random.random_range(0..images)] += 1.0);
            times
        };
        Self {
            images,
            draws: (0..resamples).map(|_| draw()).collect(),
        }
    }

    /// A figure of samples that belong to `image[i]`; `figure` gets a weight for every sample.
    /// `None` when it is undefined on all images.
    pub fn estimate(
        &self,
        image: &[usize],
        figure: impl Fn(&[f64]) -> Option<f64> + Sync,
    ) -> Option<Estimate> {
        let of = |times: &[f64]| {
            let weights: Vec<f64> = image.iter().map(|&i| times[i]).collect();
            figure(&weights)
        };
        let value = of(&vec![1.0; self.images])?;
        let draws = self.draws.par_iter();
        Some(Estimate {
            value,
            draws: draws.map(|times| of(times).unwrap_or(f64::NAN)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::mean;
    use super::*;

    #[test]
    fn percentiles_equal_numpy() {
        let mut values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0];
        values.sort_by(f64::total_cmp);
        assert_eq!(percentile(&values, 2.5), Some(1.0));
        assert!((percentile(&values, 97.5).unwrap() - 8.475).abs() < 1e-12);
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn the_interval_is_that_of_the_mean() {
        // 400 images with one sample each, uniform on 0..1: the mean's standard error is 0.0144.
        let values: Vec<f64> = (0..400).map(|i| (f64::from(i) + 0.5) / 400.0).collect();
        let image: Vec<usize> = (0..400).collect();
        let bootstrap = Bootstrap::new(400, 1000, 7);
        let estimate = bootstrap.estimate(&image, |w| mean(&values, w)).unwrap();
        let Figure { value, low, high } = estimate.figure();
        assert!((value - 0.5).abs() < 1e-12);
        let width = 1.96 * 0.288_675 / 20.0;
        assert!((0.5 - low - width).abs() < 0.004, "{low}");
        assert!((high - 0.5 - width).abs() < 0.004, "{high}");
        let again = Bootstrap::new(400, 1000, 7);
        let again = again.estimate(&image, |w| mean(&values, w)).unwrap();
        assert_eq!(again.figure(), estimate.figure());
    }

    #[test]
    fn images_are_drawn_whole() {
        // Ten images of 40 equal samples: as uncertain as ten samples, not as 400.
        let image: Vec<usize> = (0..400).map(|i| i / 40).collect();
        let values: Vec<f64> = image.iter().map(|&i| i as f64).collect();
        let bootstrap = Bootstrap::new(10, 1000, 1);
        let figure = bootstrap.estimate(&image, |w| mean(&values, w)).unwrap();
        let figure = figure.figure();
        assert!(figure.high - figure.low > 3.0, "{figure:?}");
    }

    #[test]
    fn the_mean_of_two_sets_is_surer_than_each() {
        let image: Vec<usize> = (0..50).collect();
        let values: Vec<f64> = (0..50).map(f64::from).collect();
        let of = |seed| {
            let bootstrap = Bootstrap::new(50, 1000, seed);
            bootstrap.estimate(&image, |w| mean(&values, w)).unwrap()
        };
        let (a, b) = (of(1), of(2));
        let both = Estimate::mean(&[&a, &b]).unwrap().figure();
        let width = |f: Figure| f.high - f.low;
        assert_eq!(both.value, 24.5);
        assert!(width(both) < 0.8 * width(a.figure()));
        assert!(Estimate::mean(&[]).is_none());
    }

    #[test]
    fn a_difference_is_taken_resample_by_resample() {
        // One is better by 0.1 on every image, however much the images differ.
        let image: Vec<usize> = (0..20).collect();
        let values: Vec<f64> = (0..20).map(|i| f64::from(i) / 20.0).collect();
        let better: Vec<f64> = values.iter().map(|v| v + 0.1).collect();
        let bootstrap = Bootstrap::new(20, 1000, 3);
        let of = |values: &[f64]| bootstrap.estimate(&image, |w| mean(values, w)).unwrap();
        let (a, b) = (of(&better), of(&values));
        assert!(a.figure().low < b.figure().high, "unpaired, it is unsure");
        let Figure { value, low, high } = a.minus(&b).figure();
        for difference in [value, low, high] {
            assert!((difference - 0.1).abs() < 1e-9, "{difference}");
        }
        let none = Figure {
            value: 0.0,
            low: 0.0,
            high: 0.0,
        };
        assert_eq!(a.minus(&a).figure(), none);
    }

    #[test]
    fn undefined_figures_are_left_out() {
        let bootstrap = Bootstrap::new(3, 100, 0);
        assert!(bootstrap.estimate(&[0, 1, 2], |_| None).is_none());
        let rare = |w: &[f64]| (w[0] > 0.0).then_some(2.0);
        let figure = bootstrap.estimate(&[0, 1, 2], rare).unwrap().figure();
        assert_eq!((figure.low, figure.high), (2.0, 2.0));
    }
}
