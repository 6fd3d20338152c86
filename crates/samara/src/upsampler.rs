//! The way from low-resolution logits to masks of the original size.

use std::ops::{Range, RangeInclusive};

use samara_image::{Frame, Mask};

use crate::error::PromptError;
use crate::score::StabilityScore;

/// Rows of pixels between two rows of cells.
const FEW: usize = 4;

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
        // A pixel is a mean of logits: where all of them are beyond this, so is the pixel, and rounding cannot
        // take it over a threshold.
        let certain = offset.abs() * 1.001 + 1e-3;
        let Some((rows, columns)) = extent(logits, self.side, -certain) else {
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

        // With few pixels in a cell it is quicker to compute them all.
        let cells = (ys.len() >= FEW * (bottom - top))
            .then(|| Cells::new(logits, self.side, certain, columns));
        let mut line = vec![0.0; xs.len()];
        let (mut high, mut low) = (0_u64, 0_u64);
        let mut y = ys.start;
        for rows in self.rows[ys].chunk_by(Taps::has_same_cells) {
            let spans = match &cells {
                Some(cells) => cells.spans(rows[0].first),
                None => vec![(0..xs.len(), Side::Either)],
            };
            for taps in rows {
                for (span, side) in &spans {
                    let x = (xs.start + span.start) as u32;
                    if *side == Side::Inside {
                        mask.set_row_range(y as u32, x..x + span.len() as u32);
                        high += span.len() as u64;
                        low += span.len() as u64;
                        continue;
                    }
                    let line = &mut line[span.clone()];
                    taps.mix(&stretched, top, span.start, line);
                    mask.set_row_from_logits(y as u32, x, line, 0.0);
                    let above =
                        |limit: f32| line.iter().map(|&v| u32::from(v > limit)).sum::<u32>();
                    high += u64::from(above(offset));
                    low += u64::from(above(-offset));
                }
                y += 1;
            }
        }
        (mask, StabilityScore::from_areas(high, low))
    }
}

impl Upsampler {
    /// The logits of the original pixels, row by row.
    pub(crate) fn logits(&self, logits: &[f32]) -> Vec<f32> {
        let width = self.columns.len();
        let lines = logits.chunks_exact(self.side);
        let stretched = lines.flat_map(|line| self.columns.iter().map(|taps| taps.apply(line)));
        let stretched: Vec<f32> = stretched.collect();
        let rows: Vec<&[f32]> = stretched.chunks_exact(width).collect();
        let mut all = vec![0.0; width * self.rows.len()];
        for (line, taps) in all.chunks_exact_mut(width).zip(&self.rows) {
            taps.mix(&rows, 0, 0, line);
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
                taps.mix(rows, 0, 0, line);
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

/// On which side of all thresholds pixels lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Inside,
    Outside,
    /// Only the pixel itself tells.
    Either,
}

/// What is known of pixels without computing them.
struct Cells<'a> {
    /// Cells along a side.
    side: usize,
    /// Of each cell the sides that it lies on for sure, as bits.
    sure: Vec<u8>,
    /// Columns of pixels between the same cells, by the first of these.
    between: Vec<&'a [Taps]>,
}

impl<'a> Cells<'a> {
    const INSIDE: u8 = 1;
    const OUTSIDE: u8 = 2;

    /// Beyond plus or minus `certain` no threshold is reached.
    fn new(logits: &[f32], side: usize, certain: f32, columns: &'a [Taps]) -> Self {
        let sides = |&v: &f32| {
            u8::from(v > certain) * Self::INSIDE + u8::from(v < -certain) * Self::OUTSIDE
        };
        Self {
            side,
            sure: logits.iter().map(sides).collect(),
            between: columns.chunk_by(Taps::has_same_cells).collect(),
        }
    }

    /// For rows of pixels between the rows of cells from `first` on: where columns lie inside, and where only their
    /// pixels tell. All others lie outside.
    fn spans(&self, first: usize) -> Vec<(Range<usize>, Side)> {
        let mut rows = self.sure.chunks_exact(self.side).skip(first).take(3);
        let mut sure = rows.next().unwrap_or_default().to_vec();
        for row in rows {
            sure.iter_mut().zip(row).for_each(|(all, &one)| *all &= one);
        }
        let mut spans: Vec<(Range<usize>, Side)> = Vec::new();
        let mut x = 0;
        for columns in &self.between {
            let end = x + columns.len();
            let cells = &sure[columns[0].first..self.side.min(columns[0].first + 3)];
            let side = match cells.iter().fold(u8::MAX, |all, one| all & one) {
                Self::INSIDE => Side::Inside,
                Self::OUTSIDE => Side::Outside,
                _ => Side::Either,
            };
            match spans.last_mut() {
                _ if side == Side::Outside => {}
                Some((span, last)) if span.end == x && *last == side => span.end = end,
                _ => spans.push((x..end, side)),
            }
            x = end;
        }
        spans
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

    /// Of pixels between the same cells.
    fn has_same_cells(&self, other: &Self) -> bool {
        self.first == other.first
    }

    /// The same sum of parts of rows, which begin at `left`; the first of the rows is row `top`.
    fn mix(&self, rows: &[&[f32]], top: usize, left: usize, out: &mut [f32]) {
        let row = |i: usize| &rows[(self.first - top + i).min(rows.len() - 1)][left..];
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
    use crate::logits::Logits;

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
        let (grid, side) = (logits.side() as u32, frame.side());
        if frame.is_stretched() {
            return resize(logits.values(), (grid, grid), grid, frame.original_size());
        }
        let full = resize(logits.values(), (grid, grid), grid, (side, side));
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
            for logits in [waves(32), ring(32)] {
                check_upsampling(&Frame::longest_side(width, height, 128).unwrap(), &logits);
                check_upsampling(&Frame::stretch(width, height, 128).unwrap(), &logits);
            }
        }
    }

    /// Sure of itself but at its rim, as decoders are; a hole and the rim of the grid are in it.
    fn ring(side: usize) -> Logits {
        let value = |i: usize| {
            let (x, y) = ((i % side) as f32, (i / side) as f32);
            let radius = (x - 0.7 * side as f32).hypot(y - 0.5 * side as f32);
            (4.0 * (0.45 * side as f32 - radius).min(radius - 0.1 * side as f32)).clamp(-12.0, 12.0)
        };
        Logits::new(side, (0..side * side).map(value).collect()).unwrap()
    }

    #[test]
    fn most_pixels_of_a_sure_mask_are_not_computed() {
        let frame = Frame::longest_side(640, 480, 128).unwrap();
        let (logits, upsampler) = (ring(32), Upsampler::new(32, &frame).unwrap());
        let cells = Cells::new(logits.values(), 32, 1.0, &upsampler.columns);
        let mut pixels = [0; 2];
        for taps in &upsampler.rows {
            for (span, side) in cells.spans(taps.first) {
                pixels[usize::from(side == Side::Either)] += span.len();
            }
        }
        let [inside, computed] = pixels.map(|n| n as f64 / (640.0 * 480.0));
        assert!(inside > 0.2 && computed < 0.4, "{inside} {computed}");
    }

    fn check_upsampling(frame: &Frame, logits: &Logits) {
        let (width, height) = frame.original_size();
        let (mask, stability) = logits.upsample(frame, 1.0).unwrap();
        let full = oracle(logits, frame);
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
}
