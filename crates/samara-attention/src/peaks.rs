//! Where a map is highest.

use samara_image::OriginalPx;

use crate::map::AttentionMap;

impl AttentionMap {
    /// The highest local maxima, as points in original pixels of an image of `width × height`:
    /// at most `count` of them, no two nearer to each other than `min_distance` original pixels
    /// (the higher one stays), the highest first. A maximum is a cell that none of its eight
    /// neighbours exceeds; connected cells of one value count once, by the cell next to their
    /// centre.
    ///
    /// Meant for a map in the place of a click: where the map looks.
    pub fn peaks(
        &self,
        (width, height): (u32, u32),
        count: usize,
        min_distance: f64,
    ) -> Vec<OriginalPx> {
        let across = f64::from(width) / f64::from(self.width());
        let down = f64::from(height) / f64::from(self.height());
        let mut kept: Vec<OriginalPx> = Vec::new();
        for (x, y) in maxima(self) {
            if kept.len() == count {
                break;
            }
            let at = OriginalPx::new((f64::from(x) + 0.5) * across, (f64::from(y) + 0.5) * down);
            let near = |other: &OriginalPx| (at.x - other.x).hypot(at.y - other.y) < min_distance;
            if !kept.iter().any(near) {
                kept.push(at);
            }
        }
        kept
    }
}

/// Local maxima above zero, one cell for each, the highest first; equal ones row by row.
fn maxima(map: &AttentionMap) -> Vec<(u32, u32)> {
    let (width, height) = (map.width(), map.height());
    let index = |(x, y): (u32, u32)| y as usize * width as usize + x as usize;
    let at = |cell: (u32, u32)| map.values()[index(cell)];
    let around = |(x, y): (u32, u32)| {
        let rows = y.saturating_sub(1)..=(y + 1).min(height - 1);
        let columns = x.saturating_sub(1)..=(x + 1).min(width - 1);
        rows.flat_map(move |y| columns.clone().map(move |x| (x, y)))
    };
    let mut seen = vec![false; map.values().len()];
    let mut found: Vec<(f32, (u32, u32))> = Vec::new();
    for start in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        if seen[index(start)] || at(start) == 0.0 {
            continue;
        }
        // All cells of this value that hang together, and whether a neighbour is higher.
        seen[index(start)] = true;
        let (value, mut plateau, mut is_top) = (at(start), vec![start], true);
        let mut done = 0;
        while let Some(&cell) = plateau.get(done) {
            done += 1;
            for next in around(cell) {
                is_top &= at(next) <= value;
                if at(next) == value && !std::mem::replace(&mut seen[index(next)], true) {
                    plateau.push(next);
                }
            }
        }
        if is_top {
            found.push((value, middle(&plateau)));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.into_iter().map(|(_, at)| at).collect()
}

/// The cell next to the centre of gravity.
fn middle(cells: &[(u32, u32)]) -> (u32, u32) {
    let count = cells.len() as f64;
    let mean =
        |of: fn(&(u32, u32)) -> u32| cells.iter().map(|c| f64::from(of(c))).sum::<f64>() / count;
    let (x, y) = (mean(|c| c.0), mean(|c| c.1));
    let distance = |at: &(u32, u32)| (f64::from(at.0) - x).hypot(f64::from(at.1) - y);
    let nearest = cells
        .iter()
        .min_by(|a, b| distance(a).total_cmp(&distance(b)));
    nearest.copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(width: u32, height: u32, values: &[f32]) -> AttentionMap {
        AttentionMap::new("map", width, height, values.to_vec()).unwrap()
    }

    fn points(found: &[OriginalPx]) -> Vec<(f64, f64)> {
        found.iter().map(|at| (at.x, at.y)).collect()
    }

    #[test]
    fn maxima_are_points_of_the_image_the_highest_first() {
        let map = map(4, 2, &[5.0, 1.0, 0.0, 9.0, 1.0, 1.0, 0.0, 0.0]);
        let found = map.peaks((400, 100), 5, 0.0);
        assert_eq!(points(&found), [(350.0, 25.0), (50.0, 25.0)]);
        assert_eq!(map.peaks((400, 100), 1, 0.0).len(), 1);
        assert!(map.peaks((400, 100), 0, 0.0).is_empty());
    }

    #[test]
    fn a_lower_maximum_too_near_is_dropped() {
        let map = map(5, 1, &[5.0, 1.0, 6.0, 1.0, 5.5]);
        assert_eq!(points(&map.peaks((50, 10), 5, 20.5)), [(25.0, 5.0)]);
        assert_eq!(map.peaks((50, 10), 5, 20.0).len(), 3);
    }

    #[test]
    fn a_plateau_counts_once_and_a_shelf_not_at_all() {
        let plateau = map(5, 1, &[0.0, 3.0, 3.0, 3.0, 0.0]);
        assert_eq!(points(&plateau.peaks((5, 1), 9, 0.0)), [(2.5, 0.5)]);
        let shelf = map(5, 1, &[3.0, 3.0, 4.0, 1.0, 1.0]);
        assert_eq!(points(&shelf.peaks((5, 1), 9, 0.0)), [(2.5, 0.5)]);
    }
}
