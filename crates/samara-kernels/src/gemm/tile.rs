//! Tiles of the result: what follows their sums, and where they are written.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::ahead::fetch_tile;
use super::dispatch::{Dispatch, WithTile};
use super::epilogue::Epilogue;
use super::format::Format;
use super::int8::RowScale;
use super::left::Left;
use super::packed::Side;
use super::products::{Columns, Products, Tiles};
use crate::activation::{Activation, Rectifier};
use crate::isa::Fma;
use crate::meter;

/// Which part of the sums a block adds.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    /// The result holds nothing yet.
    pub first: bool,
    /// What follows, when the sums are complete.
    pub epilogue: Option<&'a Epilogue<'a>>,
}

impl Pass<'_> {
    /// The activation, when nothing but the bias is read and it needs few registers.
    fn simple(self) -> Option<Rectifier> {
        let none = Epilogue::default();
        let epilogue = self.epilogue.unwrap_or(&none);
        match epilogue.activation {
            Activation::Rectifier(rectifier) if self.first && epilogue.residual.is_none() => {
                Some(rectifier)
            }
            _ => None,
        }
    }
}

/// Multiplies rows with the steps `range` of `right`, lanes along the inner dimension, and adds the result
/// to `out`, which has as many columns as `right`.
pub(crate) fn multiply_block<F: Dispatch>(
    left: Left<'_, F>,
    right: Side<'_, F>,
    range: Range<usize>,
    pass: Pass<'_>,
    out: &mut [f32],
) {
    let isa = right.isa();
    meter::count(
        out.len() / right.columns().max(1),
        range.len() * F::VALUES,
        right.columns(),
    );
    let block = Block {
        left,
        right,
        range,
        pass,
        out,
    };
    F::run(isa, block);
}

/// A matmul of rows with panels.
struct Block<'a, F: Format> {
    left: Left<'a, F>,
    right: Side<'a, F>,
    range: Range<usize>,
    pass: Pass<'a>,
    out: &'a mut [f32],
}

impl<F: Format> WithTile<F> for Block<'_, F> {
    #[inline(always)]
    fn run<S: Simd, P: Products<S, Lane = F::Lane>, const R: usize, const C: usize>(
        self,
        simd: S,
        fma: Fma,
        products: P,
    ) {
        let Self {
            left,
            right,
            range,
            pass,
            out,
        } = self;
        let (columns, steps) = (right.columns(), range.len());
        let mut kept = P::Kept::default();
        let bias = pass.epilogue.and_then(|epilogue| epilogue.bias);
        let residual = pass.epilogue.and_then(|epilogue| epilogue.residual);
        let simple = pass.simple();
        for index in 0..columns.div_ceil(C) {
            let from = index * C;
            let width = C.min(columns - from);
            let zero = [simd.splat_f32s(0.0); 2];
            let bias = match bias {
                Some(bias) => load::<S, C, false>(simd, &bias[from..from + width]),
                None => zero,
            };
            let [scales, sums] = right.scales(index, C, range.start);
            let of_columns = Columns {
                scales: if F::SCALED {
                    load::<S, C, true>(simd, scales)
                } else {
                    zero
                },
                sums: if F::SCALED {
                    load::<S, C, true>(simd, sums)
                } else {
                    zero
                },
                bias,
            };
            let start = [products.start(simd, bias[0]), products.start(simd, bias[1])];
            let early = P::TILES.min(4);
            for (group, out) in out.chunks_mut(P::TILES * R * columns).enumerate() {
                let (first, rows) = (group * P::TILES * R, out.len() / columns);
                let panel = right.panel(index, range.clone());
                let residual = residual.map(|residual| &residual[first * columns..]);
                // The places of the first tiles, and then those of tiles that are finished later.
                fetch_tile::<C>(out, residual, 0..rows.min(early * R), columns, from);
                let tiles = Tiles {
                    start,
                    left: left.at_row(first),
                    rows,
                    steps,
                    right: panel,
                    number: group,
                };
                products.sum::<F, R, C>(
                    simd,
                    tiles,
                    &mut kept,
                    #[inline(always)]
                    |tile, sums| {
                        let out = if P::TILES == 1 {
                            &mut *out
                        } else {
                            let of = |tile| rows.min(tile * R)..rows.min((tile + 1) * R);
                            fetch_tile::<C>(out, residual, of(tile + early), columns, from);
                            let Range { start, end } = of(tile);
                            &mut out[start * columns..end * columns]
                        };
                        let first = first + tile * R;
                        // A loop and no `map`, whose closure would be a call.
                        let mut results = [zero; R];
                        for (i, result) in results.iter_mut().enumerate() {
                            let row = if F::SCALED {
                                left.scales.get(first + i).copied().unwrap_or(RowScale::ONE)
                            } else {
                                RowScale::ONE
                            };
                            *result = products.results(simd, sums[i], row, &of_columns);
                        }
                        let mut tile = Tile::<S, R> {
                            sums: results,
                            columns,
                            from,
                            width,
                            first,
                        };
                        match simple {
                            Some(rectifier) if tile.is_whole::<C>(out) => {
                                tile.activate(simd, fma, Activation::Rectifier(rectifier));
                                tile.write::<C, true>(simd, out);
                            }
                            _ => tile.finish::<C>(simd, fma, pass, out),
                        }
                    },
                );
            }
        }
    }
}

/// A tile of the result in registers, two for each of its rows, and where it belongs.
pub(super) struct Tile<S: Simd, const R: usize> {
    sums: [[S::f32s; 2]; R],
    /// Columns of the result.
    columns: usize,
    /// The tile's first column.
    from: usize,
    /// The tile's columns, fewer than it could have in the last panel.
    width: usize,
    /// The tile's first row.
    first: usize,
}

impl<S: Simd, const R: usize> Tile<S, R> {
    /// Two registers of sums for every row, to which a bias is still to be added; `[columns, from,
    /// width, first]` as the fields.
    #[inline(always)]
    pub(super) fn of<const C: usize>(
        simd: S,
        sums: &[S::f32s],
        bias: Option<&[f32]>,
        [columns, from, width, first]: [usize; 4],
    ) -> Self {
        let bias = bias.map_or([simd.splat_f32s(0.0); 2], |bias| {
            load::<S, C, false>(simd, bias)
        });
        Self {
            sums: std::array::from_fn(|i| add(simd, [sums[2 * i], sums[2 * i + 1]], bias)),
            columns,
            from,
            width,
            first,
        }
    }

    /// Whether the tile has `R` rows and `C` columns.
    #[inline(always)]
    fn is_whole<const C: usize>(&self, out: &[f32]) -> bool {
        self.width == C && out.len() == R * self.columns
    }

    /// Does what follows the matmul and writes the tile to its rows of the result. A function of
    /// its own: next to the loop over the steps it would take that loop's registers, a tenth of
    /// the speed of a short one.
    #[inline(never)]
    pub(super) fn finish<const C: usize>(
        &mut self,
        simd: S,
        fma: Fma,
        pass: Pass<'_>,
        out: &mut [f32],
    ) {
        simd.vectorize(Finish::<S, R, C> {
            tile: self,
            simd,
            fma,
            pass,
            out,
        });
    }

    #[inline(always)]
    fn activate(&mut self, simd: S, fma: Fma, activation: Activation) {
        if activation == Activation::default() {
            return;
        }
        for sum in self.sums.as_flattened_mut() {
            *sum = activation.apply_lanes(simd, fma, *sum);
        }
    }

    /// Adds what the result holds, and applies the epilogue but for its bias, with which the sums
    /// begin.
    #[inline(always)]
    fn follow<const C: usize, const WHOLE: bool>(
        &mut self,
        simd: S,
        fma: Fma,
        pass: Pass<'_>,
        out: &[f32],
    ) {
        if !pass.first {
            self.add::<C, WHOLE>(simd, out);
        }
        let Some(epilogue) = pass.epilogue else {
            return;
        };
        self.activate(simd, fma, epilogue.activation);
        if let Some(residual) = epilogue.residual {
            let start = self.first * self.columns;
            self.add::<C, WHOLE>(simd, &residual[start..start + out.len()]);
        }
    }

    /// Writes the tile to its rows of the result.
    #[inline(always)]
    fn write<const C: usize, const WHOLE: bool>(&self, simd: S, out: &mut [f32]) {
        let (columns, from, width) = (self.columns, self.from, self.width);
        let rows = if WHOLE { R } else { out.len() / columns };
        for (i, sums) in self.sums.iter().enumerate().take(rows) {
            store::<S, C, WHOLE>(simd, *sums, &mut out[i * columns + from..][..width]);
        }
    }

    /// Adds the same rows of a matrix in the shape of the result.
    #[inline(always)]
    fn add<const C: usize, const WHOLE: bool>(&mut self, simd: S, values: &[f32]) {
        let (columns, from, width) = (self.columns, self.from, self.width);
        let rows = if WHOLE { R } else { values.len() / columns };
        for (i, sums) in self.sums.iter_mut().enumerate().take(rows) {
            let values = &values[i * columns + from..][..width];
            *sums = add(simd, *sums, load::<S, C, WHOLE>(simd, values));
        }
    }
}

/// [`Tile::finish`], compiled for the instruction set.
struct Finish<'a, S: Simd, const R: usize, const C: usize> {
    tile: &'a mut Tile<S, R>,
    simd: S,
    fma: Fma,
    pass: Pass<'a>,
    out: &'a mut [f32],
}

impl<S: Simd, const R: usize, const C: usize> WithSimd for Finish<'_, S, R, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<Same: Simd>(self, _: Same) {
        let Self {
            tile,
            simd,
            fma,
            pass,
            out,
        } = self;
        // Lengths that the compiler knows keep a whole tile in registers.
        if tile.is_whole::<C>(out) {
            tile.follow::<C, true>(simd, fma, pass, out);
            tile.write::<C, true>(simd, out);
        } else {
            tile.follow::<C, false>(simd, fma, pass, out);
            tile.write::<C, false>(simd, out);
        }
    }
}

#[inline(always)]
fn add<S: Simd>(simd: S, a: [S::f32s; 2], b: [S::f32s; 2]) -> [S::f32s; 2] {
    [simd.add_f32s(a[0], b[0]), simd.add_f32s(a[1], b[1])]
}

/// Up to `C` values, two registers of them; what is missing is zero.
#[inline(always)]
fn load<S: Simd, const C: usize, const WHOLE: bool>(simd: S, values: &[f32]) -> [S::f32s; 2] {
    if WHOLE {
        let values = S::as_simd_f32s(&values[..C]).0;
        return [values[0], values[1]];
    }
    let (first, second) = values.split_at(values.len().min(C / 2));
    [
        simd.partial_load_f32s(first),
        simd.partial_load_f32s(second),
    ]
}

/// Writes as many values as `out` has, up to `C`.
#[inline(always)]
fn store<S: Simd, const C: usize, const WHOLE: bool>(simd: S, sums: [S::f32s; 2], out: &mut [f32]) {
    if WHOLE {
        let out = S::as_mut_simd_f32s(&mut out[..C]).0;
        [out[0], out[1]] = sums;
        return;
    }
    let (first, second) = out.split_at_mut(out.len().min(C / 2));
    simd.partial_store_f32s(first, sums[0]);
    simd.partial_store_f32s(second, sums[1]);
}
