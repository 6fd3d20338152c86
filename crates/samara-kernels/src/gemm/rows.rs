//! The left side of a matmul, gathered row by row.

use std::ops::Range;

use crate::layer_norm::Norm;

/// The rows of a left side.
pub trait Rows: Sync {
    /// Number of rows.
    fn count(&self) -> usize;

    /// Length of a row.
    fn depth(&self) -> usize;

    /// Copies the values `range` of a row.
    fn gather(&self, row: usize, range: Range<usize>, out: &mut [f32]);

    /// All values, when they lie in memory row by row.
    fn in_place(&self) -> Option<&[f32]> {
        None
    }
}

/// Rows that lie in memory one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Dense<'a> {
    values: &'a [f32],
    depth: usize,
}

impl<'a> Dense<'a> {
    /// `[rows, depth]`.
    ///
    /// # Panics
    /// When `values` is no whole number of rows.
    pub fn new(values: &'a [f32], depth: usize) -> Self {
        assert!(values.len().is_multiple_of(depth.max(1)), "rows of {depth}");
        Self { values, depth }
    }
}

impl Rows for Dense<'_> {
    fn count(&self) -> usize {
        self.values.len() / self.depth.max(1)
    }

    fn depth(&self) -> usize {
        self.depth
    }

    #[inline]
    fn gather(&self, row: usize, range: Range<usize>, out: &mut [f32]) {
        out.copy_from_slice(&self.values[row * self.depth..][range]);
    }

    #[inline]
    fn in_place(&self) -> Option<&[f32]> {
        Some(self.values)
    }
}

/// Rows as [`Dense`] has them, normalised when they are gathered.
#[derive(Debug, Clone, Copy)]
pub struct Normalised<'a> {
    rows: Dense<'a>,
    norm: Norm<'a>,
}

impl<'a> Normalised<'a> {
    /// `[rows, depth]`, to be normalised row by row.
    ///
    /// # Panics
    /// When `values` is no whole number of rows of the norm's width.
    pub fn new(values: &'a [f32], norm: Norm<'a>) -> Self {
        let rows = Dense::new(values, norm.gamma.len());
        Self { rows, norm }
    }
}

impl Rows for Normalised<'_> {
    fn count(&self) -> usize {
        self.rows.count()
    }

    fn depth(&self) -> usize {
        self.rows.depth
    }

    fn gather(&self, row: usize, range: Range<usize>, out: &mut [f32]) {
        let depth = self.rows.depth;
        self.norm
            .row(&self.rows.values[row * depth..][..depth], range, out);
    }
}

/// Rows that stand upright: a matrix in memory column by column.
#[derive(Debug, Clone, Copy)]
pub struct Planes<'a> {
    values: &'a [f32],
    count: usize,
}

impl<'a> Planes<'a> {
    /// `[depth, count]`.
    ///
    /// # Panics
    /// When `values` is no whole number of planes.
    pub fn new(values: &'a [f32], count: usize) -> Self {
        assert!(
            values.len().is_multiple_of(count.max(1)),
            "planes of {count}"
        );
        Self { values, count }
    }
}

impl Rows for Planes<'_> {
    fn count(&self) -> usize {
        self.count
    }

    fn depth(&self) -> usize {
        self.values.len() / self.count.max(1)
    }

    #[inline]
    fn gather(&self, row: usize, range: Range<usize>, out: &mut [f32]) {
        let planes = self.values.chunks_exact(self.count.max(1));
        for (out, plane) in out.iter_mut().zip(planes.skip(range.start)) {
            *out = plane[row];
        }
    }
}

/// The windows of a convolution over channels-last images, one row per output pixel: the channels
/// of all taps, zero outside of the image.
#[derive(Debug, Clone, Copy)]
pub struct Patches<'a> {
    /// `[batch, height, width, channels]`.
    pub images: &'a [f32],
    /// Images.
    pub batch: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Side of the window.
    pub kernel: usize,
    /// Step of the window.
    pub stride: usize,
    /// Zeros before the first row and column.
    pub pad: usize,
    /// Rows of the result.
    pub out_height: usize,
    /// Columns of the result.
    pub out_width: usize,
}

impl<'a> Patches<'a> {
    /// Windows with `pad` zeros on every side.
    ///
    /// # Panics
    /// When `images` has another size, or the window does not fit.
    pub fn new(
        images: &'a [f32],
        [batch, height, width, channels]: [usize; 4],
        kernel: usize,
        stride: usize,
        pad: usize,
    ) -> Self {
        assert_eq!(images.len(), batch * height * width * channels);
        assert!(height + 2 * pad >= kernel && width + 2 * pad >= kernel);
        Self {
            images,
            batch,
            height,
            width,
            channels,
            kernel,
            stride,
            pad,
            out_height: (height + 2 * pad - kernel) / stride + 1,
            out_width: (width + 2 * pad - kernel) / stride + 1,
        }
    }
}

impl Rows for Patches<'_> {
    fn count(&self) -> usize {
        self.batch * self.out_height * self.out_width
    }

    fn depth(&self) -> usize {
        self.kernel * self.kernel * self.channels
    }

    fn gather(&self, row: usize, range: Range<usize>, out: &mut [f32]) {
        let (line, x) = (row / self.out_width, row % self.out_width);
        let (image, y) = (line / self.out_height, line % self.out_height);
        // The channels of the taps of a row of the window lie side by side, in the image too.
        let (stretch, columns) = (self.kernel * self.channels, self.width * self.channels);
        let left = x * self.stride * self.channels;
        let pad = self.pad * self.channels;
        let (mut at, mut rest) = (range.start, out);
        while at < range.end {
            let (tap, from) = (at / stretch, at % stretch);
            let count = (stretch - from).min(range.end - at);
            let (now, later) = rest.split_at_mut(count);
            let row = (y * self.stride + tap).checked_sub(self.pad);
            match row.filter(|&row| row < self.height) {
                Some(row) => {
                    let row = &self.images[(image * self.height + row) * columns..][..columns];
                    // Where the stretch begins, as far right as the padding moves it.
                    let start = left + from;
                    let before = pad.saturating_sub(start).min(count);
                    let end = (columns + pad).saturating_sub(start).min(count).max(before);
                    now[..before].fill(0.0);
                    if before < end {
                        let inside = &row[start + before - pad..start + end - pad];
                        now[before..end].copy_from_slice(inside);
                    }
                    now[end..].fill(0.0);
                }
                None => now.fill(0.0),
            }
            (at, rest) = (at + count, later);
        }
    }
}
