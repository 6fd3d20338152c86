//! The right side of a product.

use std::ops::Range;

use rayon::prelude::*;

use super::{strassen, tile};
use crate::isa::Isa;

/// A matrix in memory of any order.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `[rows, columns]`, row by row.
    ///
    /// # Panics
    /// When `values` has another length.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "{rows} × {columns} values");
        Self {
            values,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// A part of every row of a wider matrix: `columns` values every `row_stride`.
    ///
    /// # Panics
    /// When `values` ends before the last row.
    pub fn strided(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        let end = rows
            .checked_sub(1)
            .map_or(0, |last| last * row_stride + columns);
        assert!(
            values.len() >= end,
            "{rows} rows of {columns} every {row_stride}"
        );
        Self {
            values,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// Rows for columns.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// The right side of a product in the order in which it is read: panels as wide as a tile, each
/// row by row, the last one filled up with zeros.
#[derive(Debug)]
pub struct Packed {
    isa: Isa,
    depth: usize,
    columns: usize,
    /// Whether it holds the right sides of [`strassen`], and not the panels themselves.
    sevenths: bool,
    /// The panels, from `start` on.
    values: Vec<f32>,
    start: usize,
}

/// Bytes of a line of the cache. A register of AVX-512 is as wide, and is loaded in one go where a
/// line begins.
const CACHE_LINE: usize = 64;

impl Packed {
    /// Packs a matrix for this processor.
    pub fn new(matrix: Matrix<'_>) -> Self {
        Self::for_isa(Isa::best(), matrix)
    }

    /// Packs a matrix for products with about as many rows: many of them make it worth to pack it for
    /// fewer multiplications (`strassen.rs`).
    pub fn for_rows(matrix: Matrix<'_>, rows: usize) -> Self {
        Self::for_isa_and_rows(Isa::best(), matrix, rows)
    }

    pub(crate) fn for_isa_and_rows(isa: Isa, matrix: Matrix<'_>, rows: usize) -> Self {
        let panels = matrix.columns.div_ceil(tile::shape(isa).1);
        if strassen::pays(rows, matrix.rows, panels) {
            Self::in_sevenths(isa, matrix)
        } else {
            Self::for_isa(isa, matrix)
        }
    }

    /// Packs a matrix for one instruction set, which its products then use.
    pub fn for_isa(isa: Isa, matrix: Matrix<'_>) -> Self {
        let (depth, width) = (matrix.rows, tile::shape(isa).1);
        let panel = depth * width;
        Self::fill(isa, matrix, false, panel, width, |i, out| {
            pack(matrix, i, width, out);
        })
    }

    /// As [`for_isa`](Self::for_isa), for [`strassen`].
    pub(super) fn in_sevenths(isa: Isa, matrix: Matrix<'_>) -> Self {
        let (depth, width) = (matrix.rows, tile::shape(isa).1);
        let pair = strassen::pair_length(depth, width);
        Self::fill(isa, matrix, true, pair, 2 * width, |i, out| {
            let mut panels = vec![0.0; 2 * depth * width];
            let (left, right) = panels.split_at_mut(depth * width);
            pack(matrix, 2 * i, width, left);
            if (2 * i + 1) * width < matrix.columns {
                pack(matrix, 2 * i + 1, width, right);
            }
            strassen::pack(isa, [left, right], width, out);
        })
    }

    /// A part of `length` values for every `width` columns, made by `pack`.
    fn fill(
        isa: Isa,
        matrix: Matrix<'_>,
        sevenths: bool,
        length: usize,
        width: usize,
        pack: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Self {
        let all = matrix.columns.div_ceil(width) * length;
        let mut values = vec![0.0; all + CACHE_LINE / size_of::<f32>()];
        let start = values.as_ptr().align_offset(CACHE_LINE);
        let start = start.min(values.len() - all);
        if length > 0 {
            let parts = values[start..start + all].par_chunks_mut(length);
            parts.enumerate().for_each(|(i, part)| pack(i, part));
        }
        Self {
            isa,
            depth: matrix.rows,
            columns: matrix.columns,
            sevenths,
            values,
            start,
        }
    }

    /// The inner dimension.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Columns of the matrix.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The matrix with columns of zeros up to a whole panel, in which every tile is a whole one.
    pub(crate) fn whole_panels(&self) -> Right<'_> {
        let columns = self.columns.next_multiple_of(tile::shape(self.isa).1);
        Right {
            columns,
            ..self.right()
        }
    }

    /// The matrix as the right side of a product.
    pub fn right(&self) -> Right<'_> {
        let values = &self.values[self.start..];
        Right {
            sevenths: self.sevenths,
            ..Right::from_panels(self.isa, values, self.depth, self.columns)
        }
    }
}

/// The right side of a product.
#[derive(Debug, Clone, Copy)]
pub struct Right<'a> {
    isa: Isa,
    values: &'a [f32],
    depth: usize,
    columns: usize,
    /// Distance between panels.
    panel_stride: usize,
    /// Distance between the rows of a panel.
    row_stride: usize,
    /// As [`Packed`] has it.
    sevenths: bool,
}

impl<'a> Right<'a> {
    /// A matrix `[depth, columns]` where it is, for a product with few rows, in which packing
    /// would cost more than it saves. `None` when its last panel would not be full.
    pub fn in_place(values: &'a [f32], depth: usize, columns: usize) -> Option<Self> {
        Self::in_place_for(Isa::best(), values, depth, columns)
    }

    pub(crate) fn in_place_for(
        isa: Isa,
        values: &'a [f32],
        depth: usize,
        columns: usize,
    ) -> Option<Self> {
        let width = tile::shape(isa).1;
        (columns.is_multiple_of(width) && values.len() == depth * columns).then_some(Self {
            isa,
            values,
            depth,
            columns,
            panel_stride: width,
            row_stride: columns,
            sevenths: false,
        })
    }

    /// A matrix `[depth, columns]` in panels, in the order of [`Packed`].
    pub(crate) fn from_panels(isa: Isa, values: &'a [f32], depth: usize, columns: usize) -> Self {
        let width = tile::shape(isa).1;
        Self {
            isa,
            values,
            depth,
            columns,
            panel_stride: depth * width,
            row_stride: width,
            sevenths: false,
        }
    }

    /// Packs a matrix on this thread, into memory that is used again. What the last panel has
    /// beyond the columns is left as it is.
    pub(crate) fn pack(isa: Isa, matrix: Matrix<'_>, panels: &'a mut Vec<f32>) -> Self {
        let (depth, columns, width) = (matrix.rows, matrix.columns, tile::shape(isa).1);
        panels.resize(columns.div_ceil(width) * width * depth, 0.0);
        for (i, panel) in panels.chunks_exact_mut((depth * width).max(1)).enumerate() {
            pack(matrix, i, width, panel);
        }
        Self::from_panels(isa, panels, depth, columns)
    }

    /// The inner dimension.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Columns of the matrix.
    pub fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// The part that holds `columns`, which begin with a panel of `width`.
    pub(crate) fn part(self, columns: Range<usize>, width: usize) -> Self {
        let start = columns.start / width * self.panel_stride;
        Self {
            values: &self.values[start..],
            columns: columns.len(),
            ..self
        }
    }

    /// Whether it is packed for [`strassen`].
    pub(super) fn is_in_sevenths(&self) -> bool {
        self.sevenths
    }

    /// Rows of the left side per task: what [`strassen`] needs, or else as many as given.
    pub(crate) fn block_rows(&self, plain: usize) -> usize {
        if self.sevenths {
            strassen::BLOCK_ROWS
        } else {
            plain
        }
    }

    /// The right side of one of the seven products of a pair of panels, for the pass over `range`.
    #[inline(always)]
    pub(super) fn seventh(self, pair: usize, product: usize, range: Range<usize>) -> Panel<'a> {
        let (width, half) = (self.row_stride, range.len() / 2);
        let pass = strassen::pair_length(range.start, width);
        let start = pair * strassen::pair_length(self.depth, width) + pass + product * half * width;
        Panel {
            values: &self.values[start..start + half * width],
            stride: width,
        }
    }

    /// The steps `range` of panel `index`.
    #[inline(always)]
    pub(super) fn panel(self, index: usize, range: Range<usize>) -> Panel<'a> {
        let start = index * self.panel_stride + range.start * self.row_stride;
        Panel {
            values: &self.values[start..],
            stride: self.row_stride,
        }
    }
}

/// Rows as wide as a tile.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    pub values: &'a [f32],
    /// Distance between rows.
    pub stride: usize,
}

/// Writes the columns of panel `index` of `matrix` into the front of every row of `panel`.
fn pack(matrix: Matrix<'_>, index: usize, width: usize, panel: &mut [f32]) {
    let Matrix {
        values,
        row_stride,
        column_stride,
        ..
    } = matrix;
    let columns = index * width..matrix.columns.min((index + 1) * width);
    if column_stride == 1 {
        for (row, out) in panel.chunks_exact_mut(width).enumerate() {
            let start = row * row_stride;
            out[..columns.len()]
                .copy_from_slice(&values[start + columns.start..start + columns.end]);
        }
    } else {
        for (i, column) in columns.enumerate() {
            let column = values[column * column_stride..].iter().step_by(row_stride);
            for (out, value) in panel[i..].iter_mut().step_by(width).zip(column) {
                *out = *value;
            }
        }
    }
}
