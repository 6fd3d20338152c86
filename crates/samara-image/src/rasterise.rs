//! Filling rings as `pycocotools` does.
//!
//! The facts are those of `rleFrPoly`: corners are rounded to a grid five times finer; each side
//! becomes a chain of grid points, one a step along its longer axis; where the chain crosses the
//! middle column of a pixel column, the pixels below change between outside and inside.

use crate::bits;
use crate::error::Error;
use crate::frame::OriginalPx;
use crate::limits::ImageLimits;
use crate::mask::Mask;

/// Grid points a pixel.
const FINE: i64 = 5;
/// The grid column whose right neighbour lies across the middle of pixel column 0.
const MIDDLE: i64 = FINE / 2;
/// Coordinates beyond this many pixels are refused, so that the grid fits exactly into a double.
const FARTHEST: f64 = 1e9;

/// A mask stored column by column, so that filling runs along the words.
pub(crate) struct Raster {
    width: u32,
    height: u32,
    columns: Vec<u64>,
}

impl Raster {
    pub(crate) fn new(width: u32, height: u32) -> Result<Self, Error> {
        ImageLimits::default().check_pixels(width, height, "mask size")?;
        let columns = vec![0; bits::words_for(height) * width as usize];
        Ok(Self {
            width,
            height,
            columns,
        })
    }

    /// The area inside the ring of these corners, and nothing else.
    pub(crate) fn fill(&mut self, ring: &[OriginalPx]) -> Result<(), Error> {
        self.columns.fill(0);
        let mut corners = Vec::with_capacity(ring.len() + 1);
        for p in ring {
            if !(p.x.abs() <= FARTHEST && p.y.abs() <= FARTHEST) {
                let what = format!("({}, {}) is not a point of an image", p.x, p.y);
                return Err(Error::parameter("polygon", what));
            }
            corners.push((fine(p.x), fine(p.y)));
        }
        corners.extend(corners.first().copied());
        for side in corners.windows(2) {
            self.cross(side[0], side[1]);
        }
        let n = bits::words_for(self.height);
        for column in self.columns.chunks_exact_mut(n.max(1)) {
            fill_below_changes(column);
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.columns
            .iter_mut()
            .zip(&other.columns)
            .for_each(|(a, b)| *a |= b);
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        self.columns
            .iter_mut()
            .zip(&other.columns)
            .for_each(|(a, b)| *a &= !b);
    }

    pub(crate) fn into_mask(self) -> Mask {
        let words = bits::transpose(&self.columns, self.height, self.width);
        Mask::from_words(self.width, self.height, words)
    }

    /// Marks where the side between two grid points crosses the middle of a pixel column.
    fn cross(&mut self, from: (i64, i64), to: (i64, i64)) {
        let (dx, dy) = ((to.0 - from.0).abs(), (to.1 - from.1).abs());
        if dx == 0 {
            return;
        }
        // The chain is the same from both ends, so start where the longer axis is smaller.
        let swap = if dx >= dy {
            from.0 > to.0
        } else {
            from.1 > to.1
        };
        let ((x0, y0), (x1, y1)) = if swap { (to, from) } else { (from, to) };
        let (left, right) = (x0.min(x1), x0.max(x1));
        let first =
            (left - MIDDLE).div_euclid(FINE) + i64::from((left - MIDDLE).rem_euclid(FINE) > 0);
        let last = (right - 1 - MIDDLE).div_euclid(FINE);
        for column in first.max(0)..=last.min(i64::from(self.width) - 1) {
            let middle = column * FINE + MIDDLE;
            let y = if dx >= dy {
                let slope = (y1 - y0) as f64 / dx as f64;
                let height = |x: i64| along(y0, slope, x - x0);
                height(middle).min(height(middle + 1))
            } else {
                let slope = (x1 - x0) as f64 / dy as f64;
                y0 + first_beyond(x0, slope, dy, middle)
            };
            self.change(column, y);
        }
    }

    /// Flips the first pixel of `column` that lies below grid row `y`.
    fn change(&mut self, column: i64, y: i64) {
        let fraction = (y as f64 + 0.5) / FINE as f64 - 0.5;
        let row = fraction.clamp(0.0, f64::from(self.height)).ceil() as u32;
        if row < self.height {
            let n = bits::words_for(self.height);
            self.columns[column as usize * n + (row / 64) as usize] ^= 1 << (row % 64);
        }
    }
}

/// The last step before a steep side crosses from one side of `middle + 0.5` to the other, for a
/// side of `steps` steps that starts at `x0` and moves `slope` a step.
fn first_beyond(x0: i64, slope: f64, steps: i64, middle: i64) -> i64 {
    let begins_right = x0 > middle;
    let (mut before, mut after) = (0, steps);
    while after - before > 1 {
        let half = before.midpoint(after);
        if (along(x0, slope, half) > middle) == begins_right {
            before = half;
        } else {
            after = half;
        }
    }
    before
}

fn fine(pixels: f64) -> i64 {
    (FINE as f64 * pixels + 0.5) as i64
}

/// Where a side is after `steps` steps along its longer axis.
fn along(start: i64, slope: f64, steps: i64) -> i64 {
    (start as f64 + slope * steps as f64 + 0.5) as i64
}

/// Turns marks into an area: a bit becomes the parity of the marks up to and including it.
fn fill_below_changes(column: &mut [u64]) {
    let mut inside = 0;
    for word in column {
        let mut parity = *word;
        for shift in [1, 2, 4, 8, 16, 32] {
            parity ^= parity << shift;
        }
        *word = parity ^ inside;
        inside = 0u64.wrapping_sub(*word >> 63);
    }
}
