//! How well outlines agree, as video object segmentation measures it.

use crate::bits;
use crate::mask::Mask;

/// How far outlines may lie apart, as a share of the image diagonal.
const TOLERANCE: f64 = 0.008;

/// The contour accuracy F of one object in one frame, in `0..=1` (Perazzi et al., CVPR 2016, as the
/// evaluation of DAVIS 2017 computes it); the region similarity J beside it is [`Mask::iou`].
///
/// The harmonic mean of two shares: of the prediction's outline that lies near the truth's, and of
/// the truth's near the prediction's. Near is within 0.008 times the image diagonal, rounded up to
/// whole pixels. Masks without an outline, which are empty or full, agree perfectly with each other
/// and not at all with any other.
///
/// Masks of different sizes are compared with their top-left corners together, in the smallest frame
/// that holds both, each unset outside of its size.
pub fn contour_f_measure(prediction: &Mask, truth: &Mask) -> f64 {
    let width = prediction.width().max(truth.width());
    let height = prediction.height().max(truth.height());
    let [prediction, truth] = [prediction, truth].map(|m| outline(&m.placed(0, 0, width, height)));
    if prediction.is_empty() || truth.is_empty() {
        return f64::from(u8::from(prediction == truth));
    }
    let (width, height) = (f64::from(width), f64::from(height));
    let radius = (TOLERANCE * (width * width + height * height).sqrt()).ceil() as u32;
    let precision = prediction.containment(&truth.dilate_disk(radius));
    let recall = truth.containment(&prediction.dilate_disk(radius));
    if precision + recall == 0.0 {
        return 0.0;
    }
    2.0 * precision * recall / (precision + recall)
}

/// The pixels that differ from their neighbour on the right, below, or on the right below; beyond
/// the mask's edge the neighbours are those at the edge.
fn outline(mask: &Mask) -> Mask {
    let (width, height) = (mask.width(), mask.height());
    let mut outline = Mask::new(width, height);
    let mut right = vec![0; mask.words_per_row()];
    let mut right_below = right.clone();
    next_column(mask, 0, &mut right_below);
    for y in 0..height {
        let below = (y + 1).min(height - 1);
        std::mem::swap(&mut right, &mut right_below);
        next_column(mask, below, &mut right_below);
        let rows = mask.row(y).iter().zip(mask.row(below));
        let neighbours = rows.zip(right.iter().zip(&right_below));
        for (to, ((&at, s), (e, se))) in outline.row_mut(y).iter_mut().zip(neighbours) {
            *to = (at ^ s) | (at ^ e) | (at ^ se);
        }
    }
    outline
}

/// Row `y` moved to the left by one pixel; the last pixel stays.
fn next_column(mask: &Mask, y: u32, to: &mut [u64]) {
    let row = mask.row(y);
    bits::shift_left_edge(row, 1, to);
    if let (Some(to), Some(last)) = (to.last_mut(), row.last()) {
        *to |= last & 1 << ((mask.width() - 1) % 64);
    }
}
