//! The right side of a matmul.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Range;

use rayon::prelude::*;

use super::aligned::Aligned;
use super::blocking::{DEPTH, rounded_block_rows, shape};
use super::format::{Bf16, Format, Fp32, Int8};
use super::matrix::Matrix;
use super::strassen_sums;
use crate::isa::Isa;
use crate::precision::Precision;

/// The right side of a matmul in the order in which it is read: panels as wide as a tile, each row by
/// row, the last one filled up with zeros. A row holds as many values of every column as a lane does.
pub(crate) struct Panels<F: Format = Fp32> {
    isa: Isa,
    depth: usize,
    columns: usize,
    lanes: Aligned<F::Lane>,
    /// What one means in every column of all panels, where lanes hold integers.
    scales: Vec<f32>,
    /// The sums of the integers of every column of all panels, pass by pass.
    sums: Vec<f32>,
}

impl<F: Format> Panels<F> {
    /// Packs a matrix for one instruction set, which its matmuls then use.
    pub(crate) fn new(isa: Isa, matrix: Matrix<'_>) -> Self {
        let (depth, width) = (matrix.rows, shape(isa).1);
        let (count, length) = (
            matrix.columns.div_ceil(width),
            depth.div_ceil(F::VALUES) * width,
        );
        let panel = |index| {
            let mut panel = vec![0.0; depth * width];
            matrix.panel(index, width, &mut panel);
            panel
        };
        let scales = (0..if F::SCALED { count } else { 0 }).into_par_iter();
        let scales = scales.flat_map_iter(|index| F::scales(&panel(index), width));
        let scales: Vec<f32> = scales.collect();
        let lanes = Aligned::of_parts(count, length, |index, lanes| {
            let scales = scales.chunks_exact(width).nth(index).unwrap_or_default();
            F::pack(&panel(index), width, scales, lanes);
        });
        let mut sums = Vec::new();
        for start in (0..length).step_by(DEPTH * width) {
            for lanes in lanes.chunks_exact(length) {
                let end = length.min(start + DEPTH * width);
                sums.append(&mut F::sums(&lanes[start..end], width));
            }
        }
        Self {
            isa,
            depth,
            columns: matrix.columns,
            lanes,
            scales,
            sums,
        }
    }

    /// Columns of the matrix.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    fn unpacked(&self) -> Vec<f32> {
        let (depth, columns, width) = (self.depth, self.columns, shape(self.isa).1);
        let mut values = vec![0.0; depth * columns];
        let panels = &self.lanes;
        let panels = panels.chunks_exact((depth.div_ceil(F::VALUES) * width).max(1));
        for (index, lanes) in panels.enumerate() {
            let scales = self.scales.chunks_exact(width).nth(index);
            let mut panel = vec![0.0; depth * width];
            F::unpack(lanes, width, scales.unwrap_or_default(), &mut panel);
            let from = index * width;
            let rows = values
                .chunks_exact_mut(columns)
                .zip(panel.chunks_exact(width));
            for (out, row) in rows {
                let out = &mut out[from..columns.min(from + width)];
                out.copy_from_slice(&row[..out.len()]);
            }
        }
        values
    }

    /// The matrix with columns of zeros up to a whole panel, in which every tile is a whole one.
    pub(crate) fn whole_panels(&self) -> Side<'_, F> {
        let columns = self.columns.next_multiple_of(shape(self.isa).1);
        Side {
            columns,
            ..self.side()
        }
    }

    /// The matrix as the right side of a matmul.
    pub(crate) fn side(&self) -> Side<'_, F> {
        Side {
            scales: &self.scales,
            sums: &self.sums,
            sums_stride: self.scales.len(),
            ..Side::from_panels(self.isa, &self.lanes, self.depth, self.columns)
        }
    }
}

/// A matrix in the order in which a matmul reads its right side, in numbers of any [`Precision`].
pub struct Packed(PackedAs);

enum PackedAs {
    Fp32(Panels<Fp32>),
    Bf16(Panels<Bf16>),
    Int8(Panels<Int8>),
}

impl Packed {
    /// Packs a matrix for this processor, as it is.
    pub fn new(matrix: Matrix<'_>) -> Self {
        Self::with_precision(Precision::Fp32, matrix)
    }

    /// Packs a matrix for this processor, rounded.
    pub fn with_precision(precision: Precision, matrix: Matrix<'_>) -> Self {
        Self::for_isa(Isa::best(), precision, matrix)
    }

    /// Packs a matrix for one instruction set, which its matmuls then use.
    pub fn for_isa(isa: Isa, precision: Precision, matrix: Matrix<'_>) -> Self {
        Self(match precision {
            Precision::Fp32 => PackedAs::Fp32(Panels::new(isa, matrix)),
            Precision::Bf16 => PackedAs::Bf16(Panels::new(isa, matrix)),
            Precision::Int8 => PackedAs::Int8(Panels::new(isa, matrix)),
        })
    }

    /// The inner dimension.
    pub fn depth(&self) -> usize {
        self.right().depth()
    }

    /// Columns of the matrix.
    pub fn columns(&self) -> usize {
        self.right().columns()
    }

    /// What its numbers are.
    pub fn precision(&self) -> Precision {
        match &self.0 {
            PackedAs::Fp32(_) => Precision::Fp32,
            PackedAs::Bf16(_) => Precision::Bf16,
            PackedAs::Int8(_) => Precision::Int8,
        }
    }

    /// The matrix that was packed, `[depth, columns]` row by row, as far as its numbers still hold it.
    pub fn unpacked(&self) -> Vec<f32> {
        match &self.0 {
            PackedAs::Fp32(panels) => panels.unpacked(),
            PackedAs::Bf16(panels) => panels.unpacked(),
            PackedAs::Int8(panels) => panels.unpacked(),
        }
    }

    /// The matrix as the right side of a matmul.
    pub fn right(&self) -> Right<'_> {
        Right(match &self.0 {
            PackedAs::Fp32(panels) => RightAs::Fp32(panels.side()),
            PackedAs::Bf16(panels) => RightAs::Bf16(panels.side()),
            PackedAs::Int8(panels) => RightAs::Int8(panels.side()),
        })
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (precision, depth, columns) = (self.precision(), self.depth(), self.columns());
        write!(f, "Packed([{depth}, {columns}], {precision:?})")
    }
}

/// A packed matrix for matmuls with a known number of rows: many of them make it worth to compute the
/// sums of Strassen's algorithm first (`strassen.rs`), where its numbers are `f32`.
#[derive(Debug)]
pub struct ForRows<P> {
    packed: P,
    sums: Option<Aligned<f32>>,
}

impl<P: Borrow<Packed>> ForRows<P> {
    /// For matmuls with about as many rows.
    pub fn new(packed: P, rows: usize) -> Self {
        let pays = |panels: &Panels<Fp32>| {
            let count = panels.columns.div_ceil(shape(panels.isa).1);
            strassen_sums::pays(rows, panels.depth, count)
        };
        match &packed.borrow().0 {
            PackedAs::Fp32(panels) if pays(panels) => Self::strassen(packed),
            _ => Self { packed, sums: None },
        }
    }

    /// For [`strassen`], whether it pays or not.
    pub(super) fn strassen(packed: P) -> Self {
        let PackedAs::Fp32(panels) = &packed.borrow().0 else {
            return Self { packed, sums: None };
        };
        let (isa, depth, width) = (panels.isa, panels.depth, shape(panels.isa).1);
        let sums = strassen_sums::right_sides(isa, &panels.lanes, depth, width);
        Self {
            packed,
            sums: Some(sums),
        }
    }

    /// The matrix as the right side of a matmul.
    pub fn right(&self) -> Right<'_> {
        match (self.packed.borrow().right().0, &self.sums) {
            (RightAs::Fp32(side), Some(sums)) => Right(RightAs::Strassen(side, sums)),
            (right, _) => Right(right),
        }
    }
}

/// The right side of a matmul.
#[derive(Debug, Clone, Copy)]
pub struct Right<'a>(pub(super) RightAs<'a>);

#[derive(Debug, Clone, Copy)]
pub(super) enum RightAs<'a> {
    Fp32(Side<'a, Fp32>),
    /// With the right sides of [`strassen`].
    Strassen(Side<'a, Fp32>, &'a [f32]),
    Bf16(Side<'a, Bf16>),
    Int8(Side<'a, Int8>),
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
        let side = Side::in_place(isa, values, depth, columns)?;
        Some(Self(RightAs::Fp32(side)))
    }

    /// The inner dimension.
    pub fn depth(&self) -> usize {
        match &self.0 {
            RightAs::Fp32(side) | RightAs::Strassen(side, _) => side.depth,
            RightAs::Bf16(side) => side.depth,
            RightAs::Int8(side) => side.depth,
        }
    }

    /// Columns of the matrix.
    pub fn columns(&self) -> usize {
        match &self.0 {
            RightAs::Fp32(side) | RightAs::Strassen(side, _) => side.columns,
            RightAs::Bf16(side) => side.columns,
            RightAs::Int8(side) => side.columns,
        }
    }

    pub(crate) fn isa(&self) -> Isa {
        match &self.0 {
            RightAs::Fp32(side) | RightAs::Strassen(side, _) => side.isa,
            RightAs::Bf16(side) => side.isa,
            RightAs::Int8(side) => side.isa,
        }
    }

    /// The part that holds `columns`, which begin with a panel of `width`.
    pub(crate) fn part(self, columns: Range<usize>, width: usize) -> Self {
        Self(match self.0 {
            RightAs::Fp32(side) | RightAs::Strassen(side, _) => {
                RightAs::Fp32(side.part(columns, width))
            }
            RightAs::Bf16(side) => RightAs::Bf16(side.part(columns, width)),
            RightAs::Int8(side) => RightAs::Int8(side.part(columns, width)),
        })
    }

    /// Whether the matmul is one of [`strassen`].
    pub(super) fn by_strassen(&self) -> bool {
        matches!(self.0, RightAs::Strassen(..))
    }

    /// Rows of the left side per task: what [`strassen`] or [`rounded_block_rows`] needs, or else as many as given.
    pub(crate) fn block_rows(&self, plain: usize) -> usize {
        match self.0 {
            RightAs::Strassen(..) => strassen_sums::BLOCK_ROWS,
            RightAs::Fp32(_) => plain,
            RightAs::Bf16(_) | RightAs::Int8(_) => rounded_block_rows(self.isa(), plain),
        }
    }
}

impl<'a> From<Side<'a>> for Right<'a> {
    fn from(side: Side<'a>) -> Self {
        Self(RightAs::Fp32(side))
    }
}

/// The right side of a matmul in numbers of one format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side<'a, F: Format = Fp32> {
    isa: Isa,
    lanes: &'a [F::Lane],
    depth: usize,
    columns: usize,
    /// Distance between panels.
    panel_stride: usize,
    /// Distance between the rows of a panel.
    row_stride: usize,
    /// Of every column, and of those that fill up the last panel.
    scales: &'a [f32],
    /// The same for every pass.
    sums: &'a [f32],
    /// Distance between passes.
    sums_stride: usize,
}

impl<'a> Side<'a> {
    /// [`Right::in_place`].
    pub(crate) fn in_place(
        isa: Isa,
        values: &'a [f32],
        depth: usize,
        columns: usize,
    ) -> Option<Self> {
        let width = shape(isa).1;
        let fits = columns.is_multiple_of(width) && values.len() == depth * columns;
        fits.then(|| Self {
            panel_stride: width,
            row_stride: columns,
            ..Self::from_panels(isa, values, depth, columns)
        })
    }

    /// The right side of one of the seven matmuls that [`strassen`] makes of a pair of panels, for the pass
    /// over `range`; `sums` are those of all.
    #[inline(always)]
    pub(super) fn strassen_side(
        self,
        sums: &'a [f32],
        pair: usize,
        matmul: usize,
        range: Range<usize>,
    ) -> Panel<'a> {
        let (width, half) = (self.row_stride, range.len() / 2);
        let pass = strassen_sums::pair_length(range.start, width);
        let start =
            pair * strassen_sums::pair_length(self.depth, width) + pass + matmul * half * width;
        Panel {
            lanes: &sums[start..start + half * width],
            stride: width,
        }
    }
}

impl<'a, F: Format> Side<'a, F> {
    /// A matrix `[depth, columns]` in panels, in the order of [`Panels`], of numbers that stand for themselves.
    pub(crate) fn from_panels(
        isa: Isa,
        lanes: &'a [F::Lane],
        depth: usize,
        columns: usize,
    ) -> Self {
        let width = shape(isa).1;
        Self {
            isa,
            lanes,
            depth,
            columns,
            panel_stride: depth.div_ceil(F::VALUES) * width,
            row_stride: width,
            scales: &[],
            sums: &[],
            sums_stride: 0,
        }
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// The part that holds `columns`, which begin with a panel of `width`.
    pub(crate) fn part(self, columns: Range<usize>, width: usize) -> Self {
        let panel = columns.start / width;
        let of_columns = |x: &'a [f32]| x.get(panel * width..).unwrap_or_default();
        Self {
            lanes: &self.lanes[panel * self.panel_stride..],
            columns: columns.len(),
            scales: of_columns(self.scales),
            sums: of_columns(self.sums),
            ..self
        }
    }

    /// The steps `range` of panel `index`.
    #[inline(always)]
    pub(super) fn panel(self, index: usize, range: Range<usize>) -> Panel<'a, F::Lane> {
        let start = index * self.panel_stride + range.start * self.row_stride;
        Panel {
            lanes: &self.lanes[start..],
            stride: self.row_stride,
        }
    }

    /// Scales and sums of the columns of panel `index` for the pass that begins with step `start`.
    #[inline(always)]
    pub(super) fn scales(self, index: usize, width: usize, start: usize) -> [&'a [f32]; 2] {
        if !F::SCALED {
            return [&[]; 2];
        }
        let pass = start / DEPTH * self.sums_stride;
        // Without a step there are no sums, and those of another column do as well.
        let sums = self.sums.get(pass..).filter(|sums| !sums.is_empty());
        let of_columns = [self.scales, sums.unwrap_or(self.scales)];
        of_columns.map(|of_columns| &of_columns[index * width..][..width])
    }
}

/// Rows as wide as a tile.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a, L = f32> {
    pub lanes: &'a [L],
    /// Distance between rows.
    pub stride: usize,
}

impl<L> Panel<'_, L> {
    /// The rows from `row` on.
    #[inline(always)]
    pub(super) fn at_row(self, row: usize) -> Self {
        Self {
            lanes: &self.lanes[row * self.stride..],
            ..self
        }
    }
}
