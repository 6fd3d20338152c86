//! Attention maps at another size.

use serde::Serialize;

/// How a map is brought to the size of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resampling {
    /// Along each side: by area where the map shrinks, bilinear where it grows.
    #[default]
    Auto,
    /// Every pixel is the mean of what it covers; where the map grows, its cells stay blocks.
    Area,
    /// Linear between the centres of cells (`align_corners=False` of PyTorch), flat beyond the
    /// outermost centres. Where the map shrinks, values between the samples do not count.
    Bilinear,
}

impl Resampling {
    /// What is done along a side of `from` cells that becomes `to` pixels: area or bilinear.
    fn along(self, from: u32, to: u32) -> Self {
        match self {
            Self::Auto if to < from => Self::Area,
            Self::Auto => Self::Bilinear,
            chosen => chosen,
        }
    }

    /// What [`Auto`](Self::Auto) means for these sizes, `(width, height)`; `Auto` itself where the
    /// two sides differ.
    pub fn resolved(self, from: (u32, u32), to: (u32, u32)) -> Self {
        let (across, down) = (self.along(from.0, to.0), self.along(from.1, to.1));
        if across == down { across } else { self }
    }
}

/// The map `values` of `from` (width, height) cells at the size `to`.
pub(crate) fn resample(
    values: &[f32],
    from: (u32, u32),
    to: (u32, u32),
    how: Resampling,
) -> Vec<f32> {
    let (columns, width, height) = (from.0 as usize, to.0 as usize, to.1 as usize);
    let across = Taps::new(from.0, to.0, how.along(from.0, to.0));
    let down = Taps::new(from.1, to.1, how.along(from.1, to.1));
    let mut wide = Vec::with_capacity(width * from.1 as usize);
    for row in values.chunks_exact(columns) {
        wide.extend(across.iter().map(|(start, weights)| {
            let base = row[start];
            let others = row[start + 1..].iter().zip(weights);
            others.fold(base, |sum, (v, w)| (v - base).mul_add(*w, sum))
        }));
    }
    let mut out = Vec::with_capacity(width * height);
    for (start, weights) in down.iter() {
        let at = out.len();
        let base = &wide[start * width..(start + 1) * width];
        out.extend_from_slice(base);
        for (row, weight) in wide[(start + 1) * width..].chunks_exact(width).zip(weights) {
            for ((sum, v), b) in out[at..].iter_mut().zip(row).zip(base) {
                *sum = (v - b).mul_add(*weight, *sum);
            }
        }
    }
    // Rounding can leave a weighted sum just below zero.
    out.iter_mut().for_each(|v| *v = v.max(0.0));
    out
}

/// For every target sample its first source sample and the weights of those after it. A value is
/// the first one plus the weighted differences to it, so that equal values stay exactly equal.
struct Taps {
    starts: Vec<(usize, usize)>,
    weights: Vec<f32>,
}

impl Taps {
    fn new(from: u32, to: u32, how: Resampling) -> Self {
        let mut taps = Self {
            starts: Vec::with_capacity(to as usize),
            weights: Vec::new(),
        };
        let scale = f64::from(from) / f64::from(to);
        for i in 0..to {
            if how == Resampling::Area {
                taps.push_area(f64::from(i) * scale, f64::from(i + 1) * scale, from);
            } else {
                taps.push_bilinear((f64::from(i) + 0.5) * scale - 0.5, from);
            }
        }
        taps
    }

    fn push_area(&mut self, begin: f64, end: f64, from: u32) {
        let first = (begin as u32).min(from - 1);
        let last = (end.ceil() as u32).clamp(first + 1, from);
        self.starts.push((first as usize, self.weights.len()));
        let covered = |cell: u32| {
            (end.min(f64::from(cell + 1)) - begin.max(f64::from(cell))).max(0.0) / (end - begin)
        };
        self.weights
            .extend((first + 1..last).map(|cell| covered(cell) as f32));
    }

    fn push_bilinear(&mut self, at: f64, from: u32) {
        let at = at.clamp(0.0, f64::from(from - 1));
        let first = at as u32;
        self.starts.push((first as usize, self.weights.len()));
        if first + 1 < from {
            self.weights.push((at - f64::from(first)) as f32);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[f32])> {
        let ends = self.starts.iter().skip(1).map(|&(_, first)| first);
        let ends = ends.chain([self.weights.len()]);
        self.starts
            .iter()
            .zip(ends)
            .map(|(&(start, first), end)| (start, &self.weights[first..end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bilinear_is_that_of_pytorch() {
        // F.interpolate(torch.tensor([[[[1., 3., 2.]]]]), size=(1, 6), mode="bilinear")
        let grown = resample(&[1.0, 3.0, 2.0], (3, 1), (6, 1), Resampling::Auto);
        assert_eq!(grown, [1.0, 1.5, 2.5, 2.75, 2.25, 2.0]);
    }

    #[test]
    fn area_is_the_mean_of_what_is_covered() {
        let shrunk = resample(&[1.0, 2.0, 3.0, 4.0, 5.0], (5, 1), (2, 1), Resampling::Auto);
        assert!(
            (shrunk[0] - (1.0 + 2.0 + 1.5) / 2.5).abs() < 1e-6,
            "{shrunk:?}"
        );
        assert!(
            (shrunk[1] - (1.5 + 4.0 + 5.0) / 2.5).abs() < 1e-6,
            "{shrunk:?}"
        );
        let blocks = resample(&[1.0, 2.0], (1, 2), (2, 4), Resampling::Area);
        assert_eq!(blocks, [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]);
    }

    #[test]
    fn equal_values_stay_equal() {
        let flat = vec![0.1_f32; 77 * 35];
        for how in [Resampling::Auto, Resampling::Area, Resampling::Bilinear] {
            for to in [(30, 12), (200, 90), (77, 35), (10, 300)] {
                let at = resample(&flat, (77, 35), to, how);
                assert_eq!(at.len() as u32, to.0 * to.1);
                assert!(at.iter().all(|&v| v == 0.1), "{how:?} {to:?}");
            }
        }
    }

    #[test]
    fn auto_is_named_by_what_it_does() {
        let auto = Resampling::Auto;
        assert_eq!(auto.resolved((14, 14), (300, 200)), Resampling::Bilinear);
        assert_eq!(auto.resolved((400, 400), (300, 200)), Resampling::Area);
        assert_eq!(auto.resolved((250, 250), (300, 200)), Resampling::Auto);
    }
}
