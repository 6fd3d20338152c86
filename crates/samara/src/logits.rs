//! Low-resolution mask logits, and the way from them to a mask in original pixels and back.

use std::ops::{Range, RangeInclusive};

use samara_image::coverage::coverage;
use samara_image::{Frame, Mask};

use crate::error::PromptError;
use crate::score::StabilityScore;

/// Mask logits as the decoder gives them: one value per cell of a square grid that covers the
/// model's input (256×256 cells of 4×4 model pixels for SAM), padding included. Positive means
/// inside.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Values", into = "Values")
)]
pub struct Logits {
    side: usize,
    values: Vec<f32>,
}

/// Logits in a file.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
struct Values {
    side: usize,
    values: Vec<f32>,
}

#[cfg(feature = "serde")]
impl TryFrom<Values> for Logits {
    type Error = PromptError;

    fn try_from(Values { side, values }: Values) -> Result<Self, PromptError> {
        Self::new(side, values)
    }
}

#[cfg(feature = "serde")]
impl From<Logits> for Values {
    fn from(Logits { side, values }: Logits) -> Self {
        Self { side, values }
    }
}

impl Logits {
    /// Logits of a `side`×`side` grid, row by row.
    ///
    /// # Errors
    /// The number of values is not `side²`, or one of them is not finite.
    pub fn new(side: usize, values: Vec<f32>) -> Result<Self, PromptError> {
        if side == 0 || values.len() != side * side {
            let values = values.len();
            return Err(PromptError::LogitsLength { values, side });
        }
        if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
            return Err(PromptError::LogitsNotFinite {
                row: bad / side,
                column: bad % side,
            });
        }
        Ok(Self { side, values })
    }

    /// What a decoder gave; it may hold anything.
    pub(crate) fn from_decoder(side: usize, values: Vec<f32>) -> Self {
        Self { side, values }
    }

    /// None, where they are not kept.
    pub(crate) fn none() -> Self {
        Self::from_decoder(0, Vec::new())
    }

    /// Cells along a side.
    pub fn side(&self) -> usize {
        self.side
    }

    /// The values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The same within ±`limit`.
    pub(crate) fn limited(&self, limit: Option<f32>) -> Self {
        let mut logits = self.clone();
        if let Some(limit) = limit {
            let values = logits.values.iter_mut();
            values.for_each(|value| *value = value.clamp(-limit, limit));
        }
        logits
    }

    /// Logits that express a binary mask, for use as a prompt.
    ///
    /// A cell gets the log-odds of the share of its area that the mask covers, limited to ±6.9
    /// (odds of 1 : 999), which is the range a decoder itself produces for a confident mask;
    /// padding counts as outside. The mask is stretched to the image whatever its size. A 0/1
    /// mask used as logits directly would say "undecided" everywhere outside and "barely" inside,
    /// which is why such prompts fail with the official predictor.
    pub fn from_mask(mask: &Mask, frame: &Frame, side: usize) -> Self {
        let size = (mask.width(), mask.height());
        Self::from_coverage(size, frame, side, |x, y| {
            f64::from(u8::from(mask.get(x, y)))
        })
    }

    /// The same of a soft mask of `size` pixels, width first: `inside` is the share of the pixel `(x, y)` that
    /// belongs to it, 0 to 1.
    pub fn from_coverage(
        size: (u32, u32),
        frame: &Frame,
        side: usize,
        inside: impl Fn(u32, u32) -> f64,
    ) -> Self {
        /// Odds beyond this are not expressed.
        const LIMIT: f64 = 1e-3;
        let values = coverage(size, frame, side, inside).map(|covered| {
            let p = covered.clamp(LIMIT, 1.0 - LIMIT);
            (p / (1.0 - p)).ln() as f32
        });
        Self {
            side,
            values: values.collect(),
        }
    }

    /// The mask in original pixels, and its stability score at `offset`, both from full-resolution
    /// logits as in the official code: 256 → 1024 → crop the padding → original size, each step
    /// bilinear without aligned corners, threshold 0. A stretched frame (SAM 2) has no padding to
    /// crop, and its logits go to the original size in one step.
    ///
    /// The two steps are linear and separable, so each row of the image is made directly from
    /// the grid; no float image of the full size is ever stored.
    ///
    /// # Errors
    /// The model's input is smaller than the grid: the logits do not belong to such a frame.
    pub fn upsample(
        &self,
        frame: &Frame,
        offset: f32,
    ) -> Result<(Mask, StabilityScore), PromptError> {
        Ok(Upsampler::new(self.side, frame)?.mask(&self.values, offset))
    }

    /// The logits of every original pixel, row by row, from which [`upsample`](Self::upsample) makes the mask.
    ///
    /// # Errors
    /// As [`upsample`](Self::upsample).
    pub fn upsample_logits(&self, frame: &Frame) -> Result<Vec<f32>, PromptError> {
        Ok(Upsampler::new(self.side, frame)?.logits(&self.values))
    }
}

/// Makes masks of the original size from logits; for many masks of one image.
pub(crate) struct Upsampler {
    /// Side of the grid of logits.
    side: usize,
    columns: Vec<Taps>,
    rows: Vec<Taps>,
}

impl Upsampler {
    /// For logits of `side`² values. Errors as [`Logits::upsample`].
    pub(crate) fn new(side: usize, frame: &Frame) -> Result<Self, PromptError> {
        if (frame.side() as usize) < side {
            return Err(PromptError::LogitsTooFine {
                side,
                input: frame.side(),
            });
        }
        let ((width, height), content) = (frame.original_size(), frame.content_size());
        let taps = |content: u32, out: u32| {
            if frame.is_stretched() {
                Taps::one_step(side, out)
            } else {
                Taps::two_steps(side, frame.side(), content, out)
            }
        };
        Ok(Self {
            side,
            columns: taps(content.0, width),
            rows: taps(content.1, height),
        })
    }

    /// The mask of `side`² logits, and its stability score at `offset`.
    pub(crate) fn mask(&self, logits: &[f32], offset: f32) -> (Mask, StabilityScore) {
        let mut mask = Mask::new(self.columns.len() as u32, self.rows.len() as u32);
        // A pixel is a mean of logits: where all of them are lower than this, so is the pixel, and
        // rounding cannot lift it over a threshold.
        let silent = -offset.abs() * 1.001 - 1e-3;
        let Some((rows, columns)) = extent(logits, self.side, silent) else {
            return (mask, StabilityScore::from_areas(0, 0));
        };
        let (ys, xs) = (reached(&self.rows, rows), reached(&self.columns, columns));
        if ys.is_empty() || xs.is_empty() {
            // Nothing but padding.
            return (mask, StabilityScore::from_areas(0, 0));
        }
        let columns = &self.columns[xs.clone()];
        let (top, bottom) = (self.rows[ys.start].first, self.rows[ys.end - 1].first + 3);
        let lines = logits.chunks_exact(self.side).take(bottom).skip(top);
        let mut stretched = Vec::with_capacity((bottom - top) * xs.len());
        for line in lines {
            stretched.extend(columns.iter().map(|taps| taps.apply(line)));
        }
        let stretched: Vec<&[f32]> = stretched.chunks_exact(xs.len()).collect();

        let mut line = vec![0.0; xs.len()];
        let (mut high, mut low) = (0_u64, 0_u64);
        for y in ys {
            self.rows[y].mix(&stretched, top, &mut line);
            mask.set_row_from_logits(y as u32, xs.start as u32, &line, 0.0);
            let above =
                |threshold: f32| line.iter().map(|&v| u32::from(v > threshold)).sum::<u32>();
            high += u64::from(above(offset));
            low += u64::from(above(-offset));
        }
        (mask, StabilityScore::from_areas(high, low))
    }
}

impl Upsampler {
    /// The logits of the original pixels, row by row.
    fn logits(&self, logits: &[f32]) -> Vec<f32> {
        let width = self.columns.len();
        let lines = logits.chunks_exact(self.side);
        let stretched = lines.flat_map(|line| self.columns.iter().map(|taps| taps.apply(line)));
        let stretched: Vec<f32> = stretched.collect();
        let rows: Vec<&[f32]> = stretched.chunks_exact(width).collect();
        let mut all = vec![0.0; width * self.rows.len()];
        for (line, taps) in all.chunks_exact_mut(width).zip(&self.rows) {
            taps.mix(&rows, 0, line);
        }
        all
    }
}

#[cfg(feature = "video")]
impl Upsampler {
    /// Masks of several objects, of which no two share a pixel: the highest logit has it
    /// (`_apply_non_overlapping_constraints` of SAM 2).
    pub(crate) fn masks_without_overlap(&self, objects: &[&[f32]]) -> Vec<Mask> {
        let (width, height) = (self.columns.len(), self.rows.len());
        let stretched: Vec<Vec<f32>> = objects
            .iter()
            .map(|logits| {
                let lines = logits.chunks_exact(self.side);
                lines
                    .flat_map(|line| self.columns.iter().map(|taps| taps.apply(line)))
                    .collect()
            })
            .collect();
        let rows: Vec<Vec<&[f32]>> = stretched
            .iter()
            .map(|values| values.chunks_exact(width).collect())
            .collect();
        let mut masks = vec![Mask::new(width as u32, height as u32); objects.len()];
        let mut lines = vec![vec![0.0; width]; objects.len()];
        for (y, taps) in self.rows.iter().enumerate() {
            for (line, rows) in lines.iter_mut().zip(&rows) {
                taps.mix(rows, 0, line);
            }
            for x in 0..width {
                let mut best = 0;
                for (object, line) in lines.iter().enumerate() {
                    if line[x] > lines[best][x] {
                        best = object;
                    }
                }
                if lines[best][x] > 0.0 {
                    masks[best].set(x as u32, y as u32, true);
                }
            }
        }
        masks
    }
}

/// The rows and the columns between which all logits above `threshold` lie; both ends included.
fn extent(
    logits: &[f32],
    side: usize,
    threshold: f32,
) -> Option<(RangeInclusive<usize>, RangeInclusive<usize>)> {
    let mut columns = vec![f32::NEG_INFINITY; side];
    let mut rows: Option<(usize, usize)> = None;
    for (y, line) in logits.chunks_exact(side).enumerate() {
        let mut highest = f32::NEG_INFINITY;
        for (column, &value) in columns.iter_mut().zip(line) {
            *column = column.max(value);
            highest = highest.max(value);
        }
        if highest > threshold {
            rows = Some((rows.map_or(y, |(first, _)| first), y));
        }
    }
    let (top, bottom) = rows?;
    let left = columns.iter().position(|&v| v > threshold)?;
    let right = columns.iter().rposition(|&v| v > threshold)?;
    Some((top..=bottom, left..=right))
}

/// The positions whose taps reach a value of `active`.
fn reached(taps: &[Taps], active: RangeInclusive<usize>) -> Range<usize> {
    let start = taps.partition_point(|taps| taps.first + 2 < *active.start());
    let end = taps.partition_point(|taps| taps.first <= *active.end());
    start..end.max(start)
}

/// A weighted sum of up to three neighbouring values: two bilinear steps composed.
#[derive(Debug, Clone, Copy)]
struct Taps {
    first: usize,
    weights: [f32; 3],
}

impl Taps {
    /// For each of `out` positions: bilinear from `grid` values.
    fn one_step(grid: usize, out: u32) -> Vec<Self> {
        let taps = (0..out).map(|x| bilinear(x, grid as u32, out));
        taps.map(|(first, second, share)| {
            let mut weights = [1.0 - share, 0.0, 0.0];
            weights[(second - first) as usize] += share;
            Self {
                first: first as usize,
                weights,
            }
        })
        .collect()
    }

    /// For each of `out` positions: bilinear from `grid` to `side` values, crop to `content`,
    /// bilinear to `out`.
    fn two_steps(grid: usize, side: u32, content: u32, out: u32) -> Vec<Self> {
        let coarse: Vec<_> = (0..side).map(|x| bilinear(x, grid as u32, side)).collect();
        let fine = (0..out).map(|x| bilinear(x, content, out));
        fine.map(|(a, b, t)| {
            let first = coarse[a as usize].0;
            let mut weights = [0.0; 3];
            for (index, share) in [(a, 1.0 - t), (b, t)] {
                let (a, b, t) = coarse[index as usize];
                weights[(a - first) as usize] += share * (1.0 - t);
                weights[(b - first) as usize] += share * t;
            }
            Self {
                first: first as usize,
                weights,
            }
        })
        .collect()
    }

    fn apply(&self, values: &[f32]) -> f32 {
        let near = &values[self.first..values.len().min(self.first + 3)];
        near.iter().zip(self.weights).map(|(v, w)| v * w).sum()
    }

    /// The same sum of whole rows, of which the first is row `top`.
    fn mix(&self, rows: &[&[f32]], top: usize, out: &mut [f32]) {
        let row = |i: usize| rows[(self.first - top + i).min(rows.len() - 1)];
        let (a, b, c) = (row(0), row(1), row(2));
        let [wa, wb, wc] = self.weights;
        for (((out, a), b), c) in out.iter_mut().zip(a).zip(b).zip(c) {
            *out = a * wa + b * wb + c * wc;
        }
    }
}

/// The two neighbours of output position `x` and the weight of the second, for a bilinear resize
/// of `from` to `to` values without aligned corners; in `f32`, as the official code computes it.
fn bilinear(x: u32, from: u32, to: u32) -> (u32, u32, f32) {
    let scale = from as f32 / to as f32;
    let at = (scale * (x as f32 + 0.5) - 0.5).max(0.0);
    let first = (at as u32).min(from - 1);
    let second = (first + 1).min(from - 1);
    (first, second, at - first as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both steps written out with full-size float images.
    fn oracle(logits: &Logits, frame: &Frame) -> Vec<f32> {
        let resize = |src: &[f32], (w, h): (u32, u32), stride: u32, (ow, oh): (u32, u32)| {
            let mut out = Vec::new();
            for y in 0..oh {
                let (y0, y1, ty) = bilinear(y, h, oh);
                for x in 0..ow {
                    let (x0, x1, tx) = bilinear(x, w, ow);
                    let at = |x: u32, y: u32| src[(y * stride + x) as usize];
                    let top = at(x0, y0) * (1.0 - tx) + at(x1, y0) * tx;
                    let bottom = at(x0, y1) * (1.0 - tx) + at(x1, y1) * tx;
                    out.push(top * (1.0 - ty) + bottom * ty);
                }
            }
            out
        };
        let (grid, side) = (logits.side as u32, frame.side());
        if frame.is_stretched() {
            return resize(&logits.values, (grid, grid), grid, frame.original_size());
        }
        let full = resize(&logits.values, (grid, grid), grid, (side, side));
        resize(&full, frame.content_size(), side, frame.original_size())
    }

    fn waves(side: usize) -> Logits {
        let value = |i: usize| {
            let (x, y) = ((i % side) as f32, (i / side) as f32);
            3.0 * (x * 0.7).sin() + 2.0 * (y * 0.45 + x * 0.1).cos() - 0.3
        };
        Logits::new(side, (0..side * side).map(value).collect()).unwrap()
    }

    #[test]
    fn upsampling_equals_the_official_steps() {
        for (width, height) in [
            (97, 61),
            (600, 400),
            (33, 210),
            (128, 128),
            (1, 7),
            (500, 3),
        ] {
            check_upsampling(&Frame::longest_side(width, height, 128).unwrap());
            check_upsampling(&Frame::stretch(width, height, 128).unwrap());
        }
    }

    fn check_upsampling(frame: &Frame) {
        let (width, height) = frame.original_size();
        let logits = waves(32);
        let (mask, stability) = logits.upsample(frame, 1.0).unwrap();
        let full = oracle(&logits, frame);
        let flipped = full
            .iter()
            .enumerate()
            .filter(|&(i, &v)| {
                let (x, y) = (i as u32 % width, i as u32 / width);
                mask.get(x, y) != (v > 0.0) && v.abs() > 1e-5
            })
            .count();
        assert_eq!(flipped, 0, "{width}×{height}");
        let area = |t: f32| full.iter().filter(|&&v| v > t).count() as u64;
        let expected = StabilityScore::from_areas(area(1.0), area(-1.0));
        assert!((stability.0 - expected.0).abs() < 1e-3, "{width}×{height}");
    }

    #[test]
    fn a_mask_becomes_logits_and_the_same_mask_again() {
        for (width, height) in [(300, 200), (120, 333), (64, 64)] {
            let frame = Frame::longest_side(width, height, 128).unwrap();
            let (cx, cy) = (f64::from(width) * 0.4, f64::from(height) * 0.6);
            let mask = Mask::from_fn(width, height, |x, y| {
                let (dx, dy) = (f64::from(x) + 0.5 - cx, f64::from(y) + 0.5 - cy);
                (dx / cx).powi(2) + (dy / (0.3 * cy)).powi(2) < 0.6
            });
            let logits = Logits::from_mask(&mask, &frame, 32);
            let limit = logits.values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            assert!((limit - 6.906_755).abs() < 1e-4, "{limit}");
            let (again, _) = logits.upsample(&frame, 1.0).unwrap();
            assert!(again.iou(&mask) > 0.9, "{}", again.iou(&mask));
        }
    }

    #[test]
    fn a_mask_of_half_the_size_says_the_same() {
        let frame = Frame::longest_side(200, 100, 128).unwrap();
        let inside = |x: f64, y: f64| (0.25..0.75).contains(&x) && (0.5..1.0).contains(&y);
        let mask = |w: u32, h: u32| {
            Mask::from_fn(w, h, |x, y| {
                inside(
                    (f64::from(x) + 0.5) / f64::from(w),
                    (f64::from(y) + 0.5) / f64::from(h),
                )
            })
        };
        let full = Logits::from_mask(&mask(200, 100), &frame, 32);
        let half = Logits::from_mask(&mask(100, 50), &frame, 32);
        for (a, b) in full.values.iter().zip(&half.values) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }

    #[test]
    fn padding_is_outside() {
        let frame = Frame::longest_side(200, 100, 128).unwrap();
        let logits = Logits::from_mask(&Mask::full(200, 100), &frame, 32);
        assert!(logits.values[..16 * 32].iter().all(|&v| v > 6.9));
        assert!(logits.values[16 * 32..].iter().all(|&v| v < -6.9));
    }

    #[test]
    fn logits_of_another_model_are_refused() {
        let frame = Frame::longest_side(20, 10, 8).unwrap();
        assert!(waves(32).upsample(&frame, 1.0).is_err());
    }

    #[test]
    fn wrong_counts_and_values_are_refused() {
        assert!(Logits::new(4, vec![0.0; 15]).is_err());
        let mut values = vec![0.0; 16];
        values[5] = f32::NAN;
        let message = Logits::new(4, values).unwrap_err().to_string();
        assert_eq!(
            message,
            "mask logits: the value at row 1, column 1 is not a finite number"
        );
    }
}
