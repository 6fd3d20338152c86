//! How a mask and a map agree, pixel by pixel.

use samara_image::Mask;
use serde::Serialize;

/// What a map says of a mask. A measure that is not defined is `None`: there is no correlation with
/// a mask without or with all pixels, or with a map that is constant at this size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measures {
    /// Pearson correlation of the binary mask with the map, −1 to 1.
    pub correlation: Option<f64>,
    /// Share of the map's sum that lies inside the mask, 0 to 1.
    pub mass: f64,
    /// Area under the ROC curve, 0 to 1, with the mask's pixels as positives and the map as score:
    /// the chance that a pixel inside has more attention than one outside, ties counted as a half
    /// (`sklearn.metrics.roc_auc_score`).
    pub auc: Option<f64>,
    /// The pointing game (Zhang et al., 2016): a maximum of the map lies in the mask.
    pub hit: bool,
}

/// A map at the size of the masks, with all that does not depend on the mask.
pub(crate) struct Scores {
    width: u32,
    values: Vec<f32>,
    /// Twice the rank of each pixel, from 1, equal values sharing their mean rank.
    ranks: Vec<u32>,
    maxima: Mask,
    total: f64,
    /// Sum of squared differences to the mean.
    spread: f64,
}

impl Scores {
    /// `values` holds fewer than 2³¹ non-negative values, row by row.
    pub(crate) fn new(width: u32, height: u32, values: Vec<f32>) -> Self {
        let total: f64 = values.iter().map(|&v| f64::from(v)).sum();
        let mean = total / values.len() as f64;
        let spread = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum();
        let max = values.iter().copied().fold(0.0, f32::max);
        let at = |x: u32, y: u32| values[y as usize * width as usize + x as usize];
        Self {
            maxima: Mask::from_fn(width, height, |x, y| at(x, y) == max),
            ranks: double_ranks(&values),
            width,
            values,
            total,
            spread,
        }
    }

    /// The measures of a mask of this size.
    pub(crate) fn measure(&self, mask: &Mask) -> Measures {
        let (n, inside) = (self.values.len() as f64, mask.area() as f64);
        let (sum, ranks) = self.sums(mask);
        let both = inside > 0.0 && inside < n;
        let spread = (self.spread * inside * (n - inside) / n).sqrt();
        let covariance = sum - self.total * inside / n;
        Measures {
            correlation: (both && spread > 0.0).then(|| (covariance / spread).clamp(-1.0, 1.0)),
            mass: if self.total > 0.0 {
                sum / self.total
            } else {
                0.0
            },
            auc: both.then(|| {
                let least = inside * (inside + 1.0) / 2.0;
                (ranks as f64 / 2.0 - least) / (inside * (n - inside))
            }),
            hit: self.maxima.intersection_area(mask) > 0,
        }
    }

    /// Sums of the values and of the doubled ranks inside the mask.
    fn sums(&self, mask: &Mask) -> (f64, u64) {
        let width = self.width as usize;
        let lines = self
            .values
            .chunks_exact(width)
            .zip(self.ranks.chunks_exact(width));
        let (mut sum, mut ranks) = (0.0, 0);
        for (y, (line, line_ranks)) in (0..mask.height()).zip(lines) {
            let words = mask.row(y).iter();
            let parts = line.chunks(64).zip(line_ranks.chunks(64));
            for (&word, (part, part_ranks)) in words.zip(parts) {
                if word == u64::MAX {
                    sum += part.iter().map(|&v| f64::from(v)).sum::<f64>();
                    ranks += part_ranks.iter().map(|&r| u64::from(r)).sum::<u64>();
                } else {
                    let mut left = word;
                    while left != 0 {
                        let bit = left.trailing_zeros() as usize;
                        sum += f64::from(part[bit]);
                        ranks += u64::from(part_ranks[bit]);
                        left &= left - 1;
                    }
                }
            }
        }
        (sum, ranks)
    }
}

/// Bits that a pass of the sort looks at: 2048 counters stay in the first cache, and three passes
/// cover the 31 bits of a non-negative float.
const DIGIT: u32 = 11;

/// Twice the mean rank of each value. The bits of non-negative floats are in the order of the
/// floats, so a radix sort of the bits will do.
fn double_ranks(values: &[f32]) -> Vec<u32> {
    let mut order: Vec<(u32, u32)> = values.iter().map(|v| v.to_bits()).zip(0..).collect();
    let mut sorted = vec![(0, 0); order.len()];
    for shift in [0, DIGIT, 2 * DIGIT] {
        let digit = |bits: u32| (bits >> shift) as usize & ((1 << DIGIT) - 1);
        let mut places = [0_usize; 1 << DIGIT];
        order.iter().for_each(|&(bits, _)| places[digit(bits)] += 1);
        let mut next = 0;
        for place in &mut places {
            next += std::mem::replace(place, next);
        }
        for &item in &order {
            let place = &mut places[digit(item.0)];
            sorted[*place] = item;
            *place += 1;
        }
        std::mem::swap(&mut order, &mut sorted);
    }
    let mut ranks = vec![0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|a, b| a.0 == b.0) {
        let count = equal.len() as u32;
        for &(_, at) in equal {
            ranks[at as usize] = 2 * before + count + 1;
        }
        before += count;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random, many of them equal.
    fn noise(count: usize, levels: u64) -> Vec<f32> {
        let mut state = 7_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state >> 33
        };
        (0..count)
            .map(|_| (next() % levels) as f32 * 0.37)
            .collect()
    }

    #[test]
    fn the_measures_are_those_of_their_definitions() {
        let (width, height) = (133, 21);
        for levels in [2, 5, 1 << 20] {
            let values = noise(width * height, levels);
            let at = |x: u32, y: u32| f64::from(values[y as usize * width + x as usize]);
            let mask = Mask::from_fn(width as u32, height as u32, |x, y| {
                x.abs_diff(70) + 2 * y.abs_diff(9) < 40 || x > 128
            });
            let found = Scores::new(width as u32, height as u32, values.clone()).measure(&mask);
            let (mut inside, mut outside) = (Vec::new(), Vec::new());
            for (y, x) in (0..height as u32).flat_map(|y| (0..width as u32).map(move |x| (y, x))) {
                let side = if mask.get(x, y) {
                    &mut inside
                } else {
                    &mut outside
                };
                side.push(at(x, y));
            }
            let wins: f64 = inside
                .iter()
                .flat_map(|a| outside.iter().map(move |b| (a, b)))
                .map(|(a, b)| {
                    if a > b {
                        1.0
                    } else if a == b {
                        0.5
                    } else {
                        0.0
                    }
                })
                .sum();
            let auc = wins / (inside.len() * outside.len()) as f64;
            assert!((found.auc.unwrap() - auc).abs() < 1e-12);
            let all = [inside.clone(), outside.clone()].concat();
            let n = all.len() as f64;
            let mean = all.iter().sum::<f64>() / n;
            let share = inside.len() as f64 / n;
            let covariance: f64 = inside
                .iter()
                .map(|v| (v - mean) * (1.0 - share))
                .sum::<f64>()
                - outside.iter().map(|v| (v - mean) * share).sum::<f64>();
            let spread = all.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
            let expected = covariance / (spread * n * share * (1.0 - share)).sqrt();
            assert!((found.correlation.unwrap() - expected).abs() < 1e-12);
            let mass = inside.iter().sum::<f64>() / all.iter().sum::<f64>();
            assert!((found.mass - mass).abs() < 1e-12);
            let top = all.iter().copied().fold(0.0, f64::max);
            assert_eq!(found.hit, inside.contains(&top));
        }
    }

    #[test]
    fn what_is_not_defined_is_none() {
        let scores = Scores::new(4, 2, vec![0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let nothing = scores.measure(&Mask::new(4, 2));
        assert_eq!((nothing.correlation, nothing.auc), (None, None));
        assert_eq!((nothing.mass, nothing.hit), (0.0, false));
        let all = scores.measure(&Mask::full(4, 2));
        assert_eq!((all.correlation, all.auc), (None, None));
        assert_eq!((all.mass, all.hit), (1.0, true));
        let itself = scores.measure(&Mask::from_fn(4, 2, |x, y| (x, y) == (1, 0)));
        assert_eq!((itself.correlation, itself.auc), (Some(1.0), Some(1.0)));
        let flat = Scores::new(4, 2, vec![0.5; 8]);
        let half = flat.measure(&Mask::from_fn(4, 2, |x, _| x < 2));
        assert_eq!((half.correlation, half.auc), (None, Some(0.5)));
    }
}
