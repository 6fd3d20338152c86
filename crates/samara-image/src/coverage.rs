//! How a mask covers the cells of a grid over the model's input.

use crate::frame::Frame;
use crate::mask::Mask;

/// The share of every cell of a `side`×`side` grid over the model's input, row by row, that a mask of any
/// size covers, stretched over the image; 0 in the padding. `inside` is the share of a mask pixel `(x, y)`
/// that belongs to the mask: 0 or 1, or between for a soft mask.
pub fn coverage(
    (width, height): (u32, u32),
    frame: &Frame,
    side: usize,
    inside: impl Fn(u32, u32) -> f64,
) -> impl Iterator<Item = f64> {
    let cells = side as f64 / f64::from(frame.side());
    let content = frame.content_size();
    // The content's share of the grid, and the mask pixels that one cell covers.
    let (across, down) = (f64::from(content.0) * cells, f64::from(content.1) * cells);
    let columns = CoverageAxis::new(width, across, side);
    let rows = CoverageAxis::new(height, down, side);
    (0..side).flat_map(move |row| {
        let mut line = vec![0.0; side];
        for (y, y_share) in rows.pixels(row) {
            for (column, sum) in line.iter_mut().enumerate() {
                let covered = columns
                    .pixels(column)
                    .map(|(x, x_share)| x_share * inside(x, y));
                *sum += y_share * covered.sum::<f64>();
            }
        }
        line
    })
}

/// The cells of a `side`×`side` grid that a mask touches, with the share of each that it covers.
pub fn covered_cells(mask: &Mask, frame: &Frame, side: usize) -> Vec<(usize, f32)> {
    let size = (mask.width(), mask.height());
    let inside = |x, y| f64::from(u8::from(mask.get(x, y)));
    let cells = coverage(size, frame, side, inside).enumerate();
    let touched = cells.filter(|&(_, share)| share > 0.0);
    touched.map(|(cell, share)| (cell, share as f32)).collect()
}

/// Which mask pixels each cell of a grid covers along one axis, and with what share of the cell.
struct CoverageAxis {
    /// Mask pixels per cell.
    scale: f64,
    /// Cells that the content covers.
    content: f64,
    pixels: u32,
    cells: usize,
}

impl CoverageAxis {
    fn new(pixels: u32, content: f64, cells: usize) -> Self {
        let scale = f64::from(pixels) / content;
        Self {
            scale,
            content,
            pixels,
            cells,
        }
    }

    /// The pixels under `cell` with their share of it; nothing in the padding.
    fn pixels(&self, cell: usize) -> impl Iterator<Item = (u32, f64)> + use<'_> {
        debug_assert!(cell < self.cells);
        let start = (cell as f64).min(self.content) * self.scale;
        let end = (cell as f64 + 1.0).min(self.content) * self.scale;
        let last = (end.ceil() as u32).min(self.pixels);
        (start as u32..last).map(move |pixel| {
            let (from, to) = (
                f64::from(pixel).max(start),
                (f64::from(pixel) + 1.0).min(end),
            );
            (pixel, (to - from).max(0.0) / self.scale)
        })
    }
}
