//! The exact Euclidean distance transform of a mask.
//!
//! Our own instead of the crate `imageproc`: it would transform whole images of `f64`, padded by
//! a copy because its image has no outside, and bring a linear algebra crate along.

use crate::bits;
use crate::mask::{BBox, Mask};

/// For every set pixel the distance to the nearest unset one, between pixel centres.
///
/// Everything beyond the mask's edge is unset, as after padding by one. The values are those of
/// `scipy.ndimage.distance_transform_edt` and of OpenCV's `distanceTransform` with `DIST_L2` and
/// the precise mask. Time is linear in the [box](Mask::bbox) of the set pixels, so a small object
/// in a large image is cheap.
///
/// ```
/// use samara_image::{DistanceTransform, Mask};
///
/// let distances = DistanceTransform::new(&Mask::full(7, 5));
/// assert_eq!((distances.get(0, 0), distances.get(3, 2)), (1.0, 3.0));
/// ```
#[derive(Debug, Clone, Default)]
pub struct DistanceTransform {
    bbox: Option<BBox>,
    /// Squared distances of the box's pixels, row by row.
    squared: Vec<u32>,
    envelope: Vec<Parabola>,
}

/// A column whose distance is the smallest from column `start` on.
#[derive(Debug, Clone, Copy)]
struct Parabola {
    at: i64,
    height: i64,
    start: i64,
}

impl DistanceTransform {
    /// The distances of `mask`.
    pub fn new(mask: &Mask) -> Self {
        let mut transform = Self::default();
        transform.compute(mask);
        transform
    }

    /// Replaces the distances by those of `mask`, keeping the memory.
    pub fn compute(&mut self, mask: &Mask) {
        self.bbox = mask.bbox();
        self.squared.clear();
        if let Some(bbox) = self.bbox {
            let area = bbox.width as usize * bbox.height as usize;
            self.squared.resize(area, 0);
            self.measure_columns(mask, bbox);
            self.combine_rows(mask, bbox);
        }
    }

    /// The squared distance in square pixels; 0 where the mask is unset.
    pub fn squared(&self, x: u32, y: u32) -> u32 {
        let index = self.bbox.and_then(|bbox| {
            let (x, y) = (x.checked_sub(bbox.x)?, y.checked_sub(bbox.y)?);
            (x < bbox.width).then(|| y as usize * bbox.width as usize + x as usize)
        });
        index.and_then(|i| self.squared.get(i)).map_or(0, |&s| s)
    }

    /// The distance in pixels; 0 where the mask is unset.
    pub fn get(&self, x: u32, y: u32) -> f64 {
        f64::from(self.squared(x, y)).sqrt()
    }

    /// The set pixel that lies deepest among those where `allowed(x, y)` holds, as (x, y, distance
    /// in pixels); the first one row by row when several do, as `numpy.argmax`. `None` when there
    /// is no such pixel.
    pub fn deepest(&self, mut allowed: impl FnMut(u32, u32) -> bool) -> Option<(u32, u32, f64)> {
        let bbox = self.bbox?;
        let mut best = (0, 0, 0);
        for (y, row) in (bbox.y..).zip(self.squared.chunks_exact(bbox.width as usize)) {
            for (x, &squared) in (bbox.x..).zip(row) {
                if squared > best.2 && allowed(x, y) {
                    best = (x, y, squared);
                }
            }
        }
        (best.2 > 0).then(|| (best.0, best.1, f64::from(best.2).sqrt()))
    }

    /// Squared distances within columns: the shorter of the ways up and down. Both end at most one
    /// pixel outside of the box.
    fn measure_columns(&mut self, mask: &Mask, bbox: BBox) {
        let width = bbox.width as usize;
        let mut above = vec![0; width];
        for (y, row) in (bbox.y..).zip(self.squared.chunks_exact_mut(width)) {
            let words = mask.row(y);
            for ((x, above), to) in (bbox.x..).zip(&mut above).zip(row) {
                *above = (*above + 1) * (words[(x / 64) as usize] >> (x % 64) & 1) as u32;
                *to = *above;
            }
        }
        let mut below = vec![0; width];
        for row in self.squared.chunks_exact_mut(width).rev() {
            for (below, to) in below.iter_mut().zip(row) {
                *below = (*below + 1).min(*to);
                // Too long to square: the row's ends are nearer.
                *to = below.saturating_mul(*below);
            }
        }
    }

    /// Squared distances from those within columns, run by run of set pixels: what lies beyond the
    /// unset pixel at a run's end is never nearer than that pixel.
    fn combine_rows(&mut self, mask: &Mask, bbox: BBox) {
        let width = bbox.width as usize;
        for (y, row) in (bbox.y..).zip(self.squared.chunks_exact_mut(width)) {
            for (start, end) in bits::runs(mask.row(y)) {
                let run = &mut row[(start - bbox.x) as usize..(end - bbox.x) as usize];
                if run.len() > 2 {
                    combine_run(run, &mut self.envelope);
                } else {
                    run.fill(1);
                }
            }
        }
    }
}

/// The lower envelope of the parabolas `(x − i)² + run[i]` (Felzenszwalb and Huttenlocher, 2012)
/// in whole numbers (Meijster et al., 2000), with a parabola of height 0 one pixel before the run
/// and one after it.
fn combine_run(run: &mut [u32], envelope: &mut Vec<Parabola>) {
    let end = run.len() as i64;
    let heights = run.iter().map(|&h| i64::from(h)).chain([0]);
    envelope.clear();
    let mut top = Parabola {
        at: -1,
        height: 0,
        start: 0,
    };
    for (at, height) in (0..).zip(heights) {
        let value = |p: &Parabola, x: i64| (x - p.at) * (x - p.at) + p.height;
        let new = Parabola {
            at,
            height,
            start: 0,
        };
        let mut lowest = false;
        while value(&top, top.start) > value(&new, top.start) {
            let below = envelope.pop();
            lowest = below.is_none();
            top = below.unwrap_or(new);
        }
        if !lowest {
            // Not negative: at `top.start` the new parabola is not the lower one.
            let rise = at * at - top.at * top.at + height - top.height;
            let start = 1 + rise / (2 * (at - top.at));
            if start < end {
                envelope.push(top);
                top = Parabola { start, ..new };
            }
        }
    }
    for x in (0..run.len()).rev() {
        let away = x as i64 - top.at;
        run[x] = (away * away + top.height) as u32;
        if top.start == x as i64 {
            match envelope.pop() {
                Some(below) => top = below,
                None => break,
            }
        }
    }
}

impl Mask {
    /// The distance of every set pixel to the nearest unset one.
    pub fn distance_transform(&self) -> DistanceTransform {
        DistanceTransform::new(self)
    }

    /// The set pixel farthest from any unset one, as (x, y, distance in pixels); the first one row
    /// by row when there are several. `None` when no pixel is set.
    pub fn most_interior(&self) -> Option<(u32, u32, f64)> {
        self.distance_transform().deepest(|_, _| true)
    }
}
