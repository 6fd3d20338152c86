//! Erosion, dilation and boundaries, 64 pixels at a time.

use crate::bits;
use crate::error::Error;
use crate::mask::Mask;

/// The boundary width that Cheng et al. (2021) use, as a share of the image diagonal.
pub const BOUNDARY_RATIO: f64 = 0.02;

impl Mask {
    /// The pixels whose whole square of side `2 · radius + 1` is set (Chebyshev distance, as
    /// `radius` erosions with a 3×3 square). Beyond the mask's edge nothing is set, so pixels near
    /// the edge vanish.
    pub fn erode(&self, radius: u32) -> Self {
        spread(self, radius, |a, b| a & b)
    }

    /// The pixels with a set pixel in their square of side `2 · radius + 1`.
    pub fn dilate(&self, radius: u32) -> Self {
        spread(self, radius, |a, b| a | b)
    }

    /// The pixels with a set pixel at most `radius` away, between pixel centres (Euclidean distance,
    /// as a dilation with scikit-image's `disk`).
    pub fn dilate_disk(&self, radius: u32) -> Self {
        let (width, height) = (self.width(), self.height());
        let radius = radius.min(width.saturating_add(height));
        let n = self.words_per_row();
        let mut words = vec![0; self.words().len()];
        let (mut wide, mut moved) = (vec![0; n], vec![0; n]);
        for y in 0..height {
            wide.copy_from_slice(self.row(y));
            if wide.iter().all(|&w| w == 0) {
                continue;
            }
            let mut reach = 0;
            for away in (0..=radius).rev() {
                let chord = u64::from(radius).pow(2) - u64::from(away).pow(2);
                while reach < chord.isqrt() {
                    widen(&mut wide, &mut moved);
                    reach += 1;
                }
                let rows = [y.checked_sub(away), y.checked_add(away)];
                for to in rows.into_iter().flatten().filter(|&to| to < height) {
                    let to = &mut words[to as usize * n..][..n];
                    to.iter_mut().zip(&wide).for_each(|(to, w)| *to |= w);
                }
            }
        }
        Self::from_words(width, height, words)
    }

    /// The set pixels within `radius` of an unset pixel or of the mask's outside: the mask minus
    /// its [erosion](Self::erode).
    pub fn boundary(&self, radius: u32) -> Self {
        self.combine_same_size(&self.erode(radius), |all, inner| all & !inner)
    }
}

/// How well the outlines of two masks agree, in `0..=1` (Cheng et al., CVPR 2021, and its released
/// code): [`Mask::iou`] of their [boundaries](Mask::boundary), whose width is `ratio` times the
/// image diagonal, rounded half to even, at least one pixel. The usual ratio is
/// [`BOUNDARY_RATIO`].
///
/// # Errors
/// [`Error::Parameter`] when the sizes differ, or the ratio is negative or not finite.
pub fn boundary_iou(a: &Mask, b: &Mask, ratio: f64) -> Result<f64, Error> {
    a.check_same_size(b)?;
    if !(ratio.is_finite() && ratio >= 0.0) {
        let what = format!("{ratio} is not a share of the image diagonal (0.02 is usual)");
        return Err(Error::parameter("boundary ratio", what));
    }
    let diagonal = f64::from(a.width()).hypot(f64::from(a.height()));
    let radius = (ratio * diagonal).round_ties_even().max(1.0) as u32;
    Ok(a.boundary(radius).iou(&b.boundary(radius)))
}

/// Combines every pixel with those up to `radius` away, first along rows, then along columns.
///
/// The window grows by doubling: a window of `n` pixels combined with itself `n` further on is one
/// of `2n`, so a pass takes `log2(radius)` steps. `op` is AND or OR, for which overlap is harmless.
fn spread(mask: &Mask, radius: u32, op: impl Fn(u64, u64) -> u64 + Copy) -> Mask {
    let (width, height) = (mask.width(), mask.height());
    // Beyond the longest side more radius changes nothing.
    let radius = radius.min(width.max(height));
    let n = mask.words_per_row();
    if radius == 0 || n == 0 {
        return mask.clone();
    }
    let mut words = mask.words().to_vec();
    let (mut ahead, mut back, mut moved) = (vec![0; n], vec![0; n], vec![0; n]);
    for row in words.chunks_exact_mut(n) {
        ahead.copy_from_slice(row);
        back.copy_from_slice(row);
        for step in steps(radius) {
            bits::shift_left_edge(&ahead, step, &mut moved);
            ahead
                .iter_mut()
                .zip(&moved)
                .for_each(|(a, &b)| *a = op(*a, b));
            bits::shift_right_edge(&back, step, &mut moved);
            back.iter_mut()
                .zip(&moved)
                .for_each(|(a, &b)| *a = op(*a, b));
        }
        row.iter_mut()
            .zip(ahead.iter().zip(&back))
            .for_each(|(to, (&a, &b))| *to = op(a, b));
    }
    let mut below = words.clone();
    let mut above = words;
    for step in steps(radius) {
        let offset = step as usize * n;
        for i in 0..below.len() {
            below[i] = op(below[i], below.get(i + offset).copied().unwrap_or(0));
        }
        for i in (0..above.len()).rev() {
            let from = i.checked_sub(offset).map_or(0, |j| above[j]);
            above[i] = op(above[i], from);
        }
    }
    let words = below.iter().zip(&above).map(|(&a, &b)| op(a, b)).collect();
    Mask::from_words(width, height, words)
}

/// Sets the neighbours of a row's set bits. The padding bits are the caller's matter.
fn widen(row: &mut [u64], moved: &mut [u64]) {
    for shift in [bits::shift_left_edge, bits::shift_right_edge] {
        shift(row, 1, moved);
        row.iter_mut().zip(&*moved).for_each(|(a, &b)| *a |= b);
    }
}

/// Shifts that grow a window of one pixel to `radius + 1` pixels.
fn steps(radius: u32) -> impl Iterator<Item = u32> {
    let goal = u64::from(radius) + 1;
    let mut have = 1;
    std::iter::from_fn(move || {
        let step = have.min(goal - have);
        have += step;
        (step > 0).then_some(step as u32)
    })
}
