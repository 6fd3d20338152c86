//! Matrices in memory.

/// A matrix in memory of any order.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
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

    /// Writes the columns of panel `index` into the front of every row of `panel`.
    pub(super) fn panel(self, index: usize, width: usize, panel: &mut [f32]) {
        let Matrix {
            values,
            row_stride,
            column_stride,
            ..
        } = self;
        let columns = index * width..self.columns.min((index + 1) * width);
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
}
