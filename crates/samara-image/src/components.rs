//! Connected components, and the removal of small regions.

use crate::bits;
use crate::mask::{BBox, Mask};

/// Which neighbours of a pixel belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connectivity {
    /// The four that share an edge.
    Four,
    /// Also the four that share a corner.
    Eight,
}

/// One connected component of a mask.
#[derive(Debug, Clone)]
pub struct Component {
    /// Number of pixels.
    pub area: u64,
    /// The tight box.
    pub bbox: BBox,
    size: (u32, u32),
    runs: Vec<Run>,
}

impl Component {
    /// The component as a mask of the size of the mask it was found in.
    pub fn mask(&self) -> Mask {
        let mut mask = Mask::new(self.size.0, self.size.1);
        self.draw(&mut mask);
        mask
    }

    fn draw(&self, mask: &mut Mask) {
        for run in &self.runs {
            bits::set_range(mask.row_mut(run.y), run.start, run.end);
        }
    }

    fn touches_edge(&self) -> bool {
        let BBox {
            x,
            y,
            width,
            height,
        } = self.bbox;
        x == 0 || y == 0 || x + width == self.size.0 || y + height == self.size.1
    }

    /// The first 2×2 block, row by row, that the component touches: `OpenCV` numbers 8-connected
    /// components in this order.
    fn first_block(&self) -> (u32, u32) {
        self.runs
            .iter()
            .map(|r| (r.y / 2, r.start / 2))
            .min()
            .unwrap_or_default()
    }
}

/// A horizontal stretch of set pixels, `start..end` in row `y`.
#[derive(Debug, Clone, Copy)]
struct Run {
    y: u32,
    start: u32,
    end: u32,
}

/// The connected components of the set pixels, ordered by their first pixel, row by row.
pub fn components(mask: &Mask, connectivity: Connectivity) -> Vec<Component> {
    let labels = Labels::new(mask, connectivity);
    let size = (mask.width(), mask.height());
    let mut found: Vec<Component> = Vec::with_capacity(labels.count);
    for (run, &label) in labels.runs.iter().zip(&labels.of_run) {
        let width = run.end - run.start;
        let area = u64::from(width);
        // Labels are numbered in the order of the runs, so a new one is always the next.
        if let Some(known) = found.get_mut(label as usize) {
            known.area += area;
            let right = (known.bbox.x + known.bbox.width).max(run.end);
            known.bbox.x = known.bbox.x.min(run.start);
            known.bbox.width = right - known.bbox.x;
            known.bbox.height = run.y - known.bbox.y + 1;
            known.runs.push(*run);
        } else {
            let bbox = BBox {
                x: run.start,
                y: run.y,
                width,
                height: 1,
            };
            found.push(Component {
                area,
                bbox,
                size,
                runs: vec![*run],
            });
        }
    }
    found
}

/// Which kind of small region to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Region {
    /// Fill small components of the background, those at the image's edge included.
    Holes,
    /// Clear small components of the mask.
    Islands,
}

/// Removes regions of fewer than `area_thresh` pixels, 8-connected, and says whether the mask
/// changed.
///
/// The rules are those of `remove_small_regions` in the official `utils/amg.py`: a hole may touch
/// the image's edge; if all islands are small the largest stays, and `true` is returned even
/// when it was the only one.
pub fn remove_small_regions(mask: &Mask, area_thresh: u64, region: Region) -> (Mask, bool) {
    let found = match region {
        Region::Holes => components(&!mask, Connectivity::Eight),
        Region::Islands => components(mask, Connectivity::Eight),
    };
    if found.iter().all(|c| c.area >= area_thresh) {
        return (mask.clone(), false);
    }
    if region == Region::Holes {
        let mut filled = mask.clone();
        found
            .iter()
            .filter(|c| c.area < area_thresh)
            .for_each(|c| c.draw(&mut filled));
        return (filled, true);
    }
    let mut kept = Mask::new(mask.width(), mask.height());
    if found.iter().any(|c| c.area >= area_thresh) {
        found
            .iter()
            .filter(|c| c.area >= area_thresh)
            .for_each(|c| c.draw(&mut kept));
    } else {
        let rank = |c: &&Component| (c.area, std::cmp::Reverse(c.first_block()));
        if let Some(largest) = found.iter().max_by_key(rank) {
            largest.draw(&mut kept);
        }
    }
    (kept, true)
}

impl Mask {
    /// The mask with its holes filled: background that is not 4-connected to the mask's edge.
    pub fn fill_holes(&self) -> Self {
        let mut filled = self.clone();
        for hole in components(&!self, Connectivity::Four) {
            if !hole.touches_edge() {
                hole.draw(&mut filled);
            }
        }
        filled
    }
}

/// Every run of a mask with the number of its component.
pub(crate) struct Labels {
    runs: Vec<Run>,
    of_run: Vec<u32>,
    /// Index of the first run of each row, and the number of runs at the end.
    row_starts: Vec<usize>,
    count: usize,
}

impl Labels {
    pub(crate) fn new(mask: &Mask, connectivity: Connectivity) -> Self {
        let mut runs = Vec::new();
        let mut row_starts = vec![0];
        for y in 0..mask.height() {
            let found = bits::runs(mask.row(y));
            runs.extend(found.map(|(start, end)| Run {
                y,
                start,
                end: end.min(mask.width()),
            }));
            row_starts.push(runs.len());
        }
        let mut parents: Vec<u32> = (0..runs.len() as u32).collect();
        for rows in row_starts.windows(3) {
            join_rows(
                &runs,
                rows[0]..rows[1],
                rows[1]..rows[2],
                connectivity,
                &mut parents,
            );
        }
        let mut count = 0;
        // The smaller index is always the root, so a root comes before its members.
        let mut of_run = vec![0; runs.len()];
        for i in 0..runs.len() {
            let root = find(&mut parents, i as u32) as usize;
            if root == i {
                of_run[i] = count as u32;
                count += 1;
            } else {
                of_run[i] = of_run[root];
            }
        }
        Self {
            runs,
            of_run,
            row_starts,
            count,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The component of a set pixel.
    pub(crate) fn at(&self, x: u32, y: u32) -> Option<usize> {
        let first = *self.row_starts.get(y as usize)?;
        let row = self
            .runs
            .get(first..*self.row_starts.get(y as usize + 1)?)?;
        let i = row.partition_point(|run| run.end <= x);
        let inside = row.get(i).is_some_and(|run| run.start <= x);
        inside.then(|| self.of_run[first + i] as usize)
    }
}

fn join_rows(
    runs: &[Run],
    above: std::ops::Range<usize>,
    below: std::ops::Range<usize>,
    connectivity: Connectivity,
    parents: &mut [u32],
) {
    let reach = u32::from(connectivity == Connectivity::Eight);
    let (mut a, mut b) = (above.start, below.start);
    while a < above.end && b < below.end {
        let (up, down) = (runs[a], runs[b]);
        if up.start < down.end + reach && down.start < up.end + reach {
            let (p, q) = (find(parents, a as u32), find(parents, b as u32));
            parents[p.max(q) as usize] = p.min(q);
        }
        if up.end < down.end { a += 1 } else { b += 1 }
    }
}

/// The root, halving the path on the way.
fn find(parents: &mut [u32], mut i: u32) -> u32 {
    while parents[i as usize] != i {
        let next = parents[i as usize];
        parents[i as usize] = parents[next as usize];
        i = next;
    }
    i
}
