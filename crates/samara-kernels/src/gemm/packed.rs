//! The right side of a matmul.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Range;

use rayon::prelude::*;

use super::aligned::Aligned;
use super::blocking::shape;
use super::strassen_sums;
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

/// The right side of a matmul in the order in which it is read: panels as wide as a tile, each row by
/// row, the last one filled up with zeros.
pub struct Packed {
    isa: Isa,
    depth: usize,
    columns: usize,
    panels: Aligned,
}

impl Packed {
    /// Packs a matrix for this processor.
    pub fn new(matrix: Matrix<'_>) -> Self {
        Self::for_isa(Isa::best(), matrix)
    }

    /// Packs a matrix for one instruction set, which its matmuls then use.
    pub fn for_isa(isa: Isa, matrix: Matrix<'_>) -> Self {
        let width = shape(isa).1;
        let (count, length) = (matrix.columns.div_ceil(width), matrix.rows * width);
        Self {
            isa,
            depth: matrix.rows,
            columns: matrix.columns,
            panels: Aligned::of_parts(count, length, |i, panel| pack(matrix, i, width, panel)),
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

    /// The matrix that was packed, `[depth, columns]` row by row.
    pub fn unpacked(&self) -> Vec<f32> {
        let (depth, width) = (self.depth, shape(self.isa).1);
        let mut values = vec![0.0; depth * self.columns];
        let rows = values.par_chunks_exact_mut(self.columns.max(1)).enumerate();
        rows.for_each(|(row, out)| {
            let panels = self.panels.as_slice().chunks_exact(depth * width);
            for (panel, out) in panels.zip(out.chunks_mut(width)) {
                out.copy_from_slice(&panel[row * width..][..out.len()]);
            }
        });
        values
    }

    /// The matrix with columns of zeros up to a whole panel, in which every tile is a whole one.
    pub(crate) fn whole_panels(&self) -> Right<'_> {
        let columns = self.columns.next_multiple_of(shape(self.isa).1);
        Right {
            columns,
            ..self.right()
        }
    }

    /// The matrix as the right side of a matmul.
    pub fn right(&self) -> Right<'_> {
        Right::from_panels(self.isa, self.panels.as_slice(), self.depth, self.columns)
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed([{}, {}])", self.depth, self.columns)
    }
}

/// A packed matrix for matmuls with a known number of rows: many of them make it worth to compute the
/// sums of Strassen's algorithm first (`strassen.rs`).
#[derive(Debug)]
pub struct ForRows<P> {
    packed: P,
    sums: Option<Aligned>,
}

impl<P: Borrow<Packed>> ForRows<P> {
    /// For matmuls with about as many rows.
    pub fn new(packed: P, rows: usize) -> Self {
        let matrix = packed.borrow();
        let panels = matrix.columns.div_ceil(shape(matrix.isa).1);
        if strassen_sums::pays(rows, matrix.depth, panels) {
            Self::strassen(packed)
        } else {
            Self { packed, sums: None }
        }
    }

    /// For [`strassen`], whether it pays or not.
    pub(super) fn strassen(packed: P) -> Self {
        let matrix = packed.borrow();
        let (isa, width) = (matrix.isa, shape(matrix.isa).1);
        let panels = matrix.panels.as_slice();
        let sums = Some(strassen_sums::right_sides(isa, panels, matrix.depth, width));
        Self { packed, sums }
    }

    /// The matrix as the right side of a matmul.
    pub fn right(&self) -> Right<'_> {
        Right {
            sums: self.sums.as_ref().map(Aligned::as_slice),
            ..self.packed.borrow().right()
        }
    }
}

/// The right side of a matmul.
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
    /// The right sides of [`strassen`], where a matmul goes that way.
    sums: Option<&'a [f32]>,
}

impl<'a> Right<'a> {
    /// A matrix `[depth, columns]` where it is, for a matmul with few rows, in which packing
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
        let width = shape(isa).1;
        (columns.is_multiple_of(width) && values.len() == depth * columns).then_some(Self {
            isa,
            values,
            depth,
            columns,
            panel_stride: width,
            row_stride: columns,
            sums: None,
        })
    }

    /// A matrix `[depth, columns]` in panels, in the order of [`Packed`].
    pub(crate) fn from_panels(isa: Isa, values: &'a [f32], depth: usize, columns: usize) -> Self {
        let width = shape(isa).1;
        Self {
            isa,
            values,
            depth,
            columns,
            panel_stride: depth * width,
            row_stride: width,
            sums: None,
        }
    }

    /// Packs a matrix on this thread, into memory that is used again. What the last panel has
    /// beyond the columns is left as it is.
    pub(crate) fn pack(isa: Isa, matrix: Matrix<'_>, panels: &'a mut Vec<f32>) -> Self {
        let (depth, columns, width) = (matrix.rows, matrix.columns, shape(isa).1);
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

    /// Whether the matmul is one of [`strassen`].
    pub(super) fn by_strassen(&self) -> bool {
        self.sums.is_some()
    }

    /// Rows of the left side per task: what [`strassen`] needs, or else as many as given.
    pub(crate) fn block_rows(&self, plain: usize) -> usize {
        if self.by_strassen() {
            strassen_sums::BLOCK_ROWS
        } else {
            plain
        }
    }

    /// The right side of one of the seven matmuls that [`strassen`] makes of a pair of panels, for the pass
    /// over `range`.
    #[inline(always)]
    pub(super) fn strassen_side(
        self,
        pair: usize,
        matmul: usize,
        range: Range<usize>,
    ) -> Panel<'a> {
        let (width, half) = (self.row_stride, range.len() / 2);
        let pass = strassen_sums::pair_length(range.start, width);
        let start =
            pair * strassen_sums::pair_length(self.depth, width) + pass + matmul * half * width;
        Panel {
            values: &self.sums.unwrap_or_default()[start..start + half * width],
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
