//! Non-maximum suppression of boxes.

/// The boxes that stay, best first: one is dropped when its IoU with a better one that stays is
/// above `thresh`. Boxes are corners in pixels; equal scores keep their order.
///
/// This is `torchvision.ops.nms` down to its single precision: on these coordinates the same
/// boxes stay. Of equal first scores the second ones decide; NaN is lower than all others.
pub(super) fn keep(boxes: &[[u32; 4]], scores: &[[f32; 2]], thresh: f64) -> Vec<usize> {
    let rank = |score: f32| {
        if score.is_nan() {
            f32::NEG_INFINITY
        } else {
            // Negative zero equals zero.
            score + 0.0
        }
    };
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    order.sort_by(|&a, &b| {
        let ([a0, a1], [b0, b1]) = (scores[a].map(rank), scores[b].map(rank));
        b0.total_cmp(&a0).then(b1.total_cmp(&a1))
    });
    let boxes: Vec<Rect> = order.iter().map(|&i| Rect::of(boxes[i])).collect();
    // One bit for every box, in the order of the scores.
    let mut dropped = vec![0_u64; boxes.len().div_ceil(64)];
    let mut kept = Vec::new();
    for (rank, better) in boxes.iter().enumerate() {
        if dropped[rank / 64] >> (rank % 64) & 1 == 1 {
            continue;
        }
        kept.push(order[rank]);
        for (other, worse) in boxes.iter().enumerate().skip(rank + 1) {
            let drops = f64::from(better.iou(worse)) > thresh;
            dropped[other / 64] |= u64::from(drops) << (other % 64);
        }
    }
    kept
}

struct Rect {
    x0: f32,
    y0: f32,
    x1: f32,
    y1: f32,
    area: f32,
}

impl Rect {
    fn of(corners: [u32; 4]) -> Self {
        let [x0, y0, x1, y1] = corners.map(|v| v as f32);
        let area = (x1 - x0) * (y1 - y0);
        Self {
            x0,
            y0,
            x1,
            y1,
            area,
        }
    }

    /// Not a number for two boxes without area.
    fn iou(&self, other: &Self) -> f32 {
        let width = (self.x1.min(other.x1) - self.x0.max(other.x0)).max(0.0);
        let height = (self.y1.min(other.y1) - self.y0.max(other.y0)).max(0.0);
        let intersection = width * height;
        intersection / (self.area + other.area - intersection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_of_two_overlapping_boxes_stays() {
        let boxes = [[0, 0, 10, 10], [1, 0, 10, 10], [20, 20, 30, 30]];
        assert_eq!(keep(&boxes, &[[0.5; 2], [0.9; 2], [0.7; 2]], 0.7), [1, 2]);
        assert_eq!(
            keep(&boxes, &[[0.5; 2], [0.9; 2], [0.7; 2]], 0.95),
            [1, 2, 0]
        );
    }

    #[test]
    fn equal_scores_keep_their_order_and_points_are_never_dropped() {
        let boxes = [[0, 0, 10, 10], [0, 0, 10, 10], [3, 3, 3, 3], [3, 3, 3, 3]];
        assert_eq!(keep(&boxes, &[[1.0; 2]; 4], 0.7), [0, 2, 3]);
    }

    #[test]
    fn what_has_no_score_comes_last_and_drops_nothing_better() {
        let boxes = [
            [0, 0, 10, 10],
            [1, 0, 10, 10],
            [20, 20, 30, 30],
            [0, 0, 9, 10],
        ];
        let scores = [[f32::NAN; 2], [0.9; 2], [0.7, f32::NAN], [f32::NAN; 2]];
        assert_eq!(keep(&boxes, &scores, 0.7), [1, 2]);
        // Whatever the order in which they come.
        let mut reversed = (boxes, scores);
        reversed.0.reverse();
        reversed.1.reverse();
        assert_eq!(keep(&reversed.0, &reversed.1, 0.7), [2, 1]);
        assert_eq!(keep(&boxes[..1], &[[f32::NAN; 2]], 0.7), [0]);
    }

    #[test]
    fn a_dropped_box_drops_no_other() {
        let chain = [[0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10]];
        assert_eq!(keep(&chain, &[[3.0; 2], [2.0; 2], [1.0; 2]], 0.6), [0, 2]);
    }
}
