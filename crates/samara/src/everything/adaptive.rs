//! A grid whose points drop out when nothing new is expected from them.

use std::cmp::Reverse;

use samara_image::Mask;

use super::grid::PointGrid;

/// Levels of an answer: its three candidates.
const LEVELS: u32 = 3;

/// Points that are still to be asked, coarse lattice first.
///
/// A point drops out when finished masks of all levels cover it: masks from the first, the second
/// and the third candidate of earlier points, all above the thresholds.
pub(super) struct AdaptiveGrid {
    /// Indices of the points that are still to be asked, the next one last.
    waiting: Vec<usize>,
    /// Of every point, which levels cover it, a bit for each.
    covered: Vec<u8>,
}

impl AdaptiveGrid {
    pub(super) fn new(grid: &PointGrid) -> Self {
        let bits = (grid.len() as f64).sqrt().log2().ceil().max(1.0) as u32;
        let cell = |v: f64| (v * f64::from(1_u32 << bits)) as u64;
        // The lowest bits of column and row decide first: of all points that share them the next
        // ones decide, and so on. So the first points are a coarse lattice, then it gets finer.
        let turn = |i: usize| {
            let [x, y] = grid[i].map(cell);
            (0..=bits).fold(0, |turn, bit| {
                turn << 2 | (x >> bit & 1) << 1 | y >> bit & 1
            })
        };
        let mut waiting: Vec<usize> = (0..grid.len()).collect();
        waiting.sort_by_key(|&i| Reverse((turn(i), i)));
        Self {
            waiting,
            covered: vec![0; grid.len()],
        }
    }

    /// Up to `count` further points, in the order of the grid; `None` when all are asked.
    pub(super) fn next(&mut self, count: usize) -> Option<Vec<usize>> {
        let mut batch = Vec::with_capacity(count);
        while batch.len() < count
            && let Some(point) = self.waiting.pop()
        {
            if self.covered[point].count_ones() < LEVELS {
                batch.push(point);
            }
        }
        batch.sort_unstable();
        (!batch.is_empty()).then_some(batch)
    }

    /// Points that were asked or left out.
    pub(super) fn done(&self) -> usize {
        self.covered.len() - self.waiting.len()
    }

    /// Notes a finished mask of a level; `points` are those of the grid in pixels of the mask.
    pub(super) fn cover(&mut self, level: usize, mask: &Mask, points: &[[f64; 2]]) {
        for &i in &self.waiting {
            let [x, y] = points[i];
            self.covered[i] |= u8::from(mask.get(x as u32, y as u32)) << level;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::everything::grid::even;

    #[test]
    fn the_first_points_are_a_coarse_lattice() {
        let grid = even(8);
        let mut adaptive = AdaptiveGrid::new(&grid);
        let mut xs: Vec<f64> = adaptive
            .next(16)
            .unwrap()
            .iter()
            .map(|&i| grid[i][0])
            .collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        assert_eq!(xs.len(), 4);
        assert!(xs.windows(2).all(|w| w[1] - w[0] > 0.2), "{xs:?}");
    }

    #[test]
    fn every_point_comes_once() {
        let grid = even(5);
        let mut adaptive = AdaptiveGrid::new(&grid);
        let mut all: Vec<usize> = std::iter::from_fn(|| adaptive.next(4)).flatten().collect();
        all.sort_unstable();
        assert_eq!(all, (0..25).collect::<Vec<_>>());
    }

    #[test]
    fn points_under_masks_of_all_levels_drop_out() {
        let grid = even(4);
        let points: Vec<[f64; 2]> = grid.iter().map(|[x, y]| [x * 40.0, y * 40.0]).collect();
        let mut adaptive = AdaptiveGrid::new(&grid);
        let left = Mask::from_fn(40, 40, |x, _| x < 20);
        adaptive.cover(0, &left, &points);
        adaptive.cover(1, &left, &points);
        adaptive.cover(2, &Mask::from_fn(40, 40, |x, y| x < 20 && y < 20), &points);
        assert_eq!(adaptive.next(99).unwrap().len(), 12);
    }
}
