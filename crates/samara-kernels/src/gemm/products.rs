//! The innermost loops: the sums of a tile in registers, and one step of them by format and instruction set.
//!
//! Sums are written in registers by name, because a compiler that sees a nest of loops over arrays may or may not
//! find them. `benches/kernels.rs` shows how close a tile comes to the machine's peak.

use pulp::Simd;
use pulp::bytemuck::{Pod, cast_slice, cast_slice_mut};

use super::ahead::Ahead;
use super::format::Format;
use super::int8::RowScale;
use super::left::Left;
use super::packed::Panel;
use crate::isa::Fma;

/// What the lanes of a register stand for, in columns of the right side.
#[derive(Clone, Copy)]
pub(crate) struct Columns<S: Simd> {
    pub scales: [S::f32s; 2],
    /// Sums of the integers of every column.
    pub sums: [S::f32s; 2],
    pub bias: [S::f32s; 2],
}

/// Multiplies lanes of both sides and adds them to sums.
pub(crate) trait Products<S: Simd>: Copy {
    /// [`Format::Lane`](super::format::Format::Lane).
    type Lane: Pod;
    /// Lanes of one side.
    type Lanes: Copy;
    /// Sums, one a lane.
    type Sums: Copy;
    /// What a matmul of a block of rows keeps from panel to panel.
    type Kept: Default;
    /// Tiles, one below the other, that are summed at a time.
    const TILES: usize;

    /// What sums begin with.
    fn start(self, simd: S, bias: S::f32s) -> Self::Sums;

    /// A row of a panel, two registers of it.
    fn load(self, row: &[Self::Lane]) -> [Self::Lanes; 2];

    /// One lane of the left side in all lanes.
    fn splat(self, simd: S, lane: Self::Lane) -> Self::Lanes;

    /// `sums + left · right`.
    fn multiply_add(
        self,
        simd: S,
        left: Self::Lanes,
        right: Self::Lanes,
        sums: Self::Sums,
    ) -> Self::Sums;

    /// The results that the sums of a row stand for.
    fn results(
        self,
        simd: S,
        sums: [Self::Sums; 2],
        row: RowScale,
        columns: &Columns<S>,
    ) -> [S::f32s; 2];

    /// Sums the tiles of `rows` rows of `left`, up to [`TILES`](Self::TILES) of them, and hands each with its number
    /// to `finish`. Rows of the last one that are missing hold anything.
    #[inline(always)]
    fn sum<F: Format<Lane = Self::Lane>, const R: usize, const C: usize>(
        self,
        simd: S,
        Tiles {
            start,
            left,
            rows: _,
            steps,
            right,
            number,
        }: Tiles<'_, F, Self::Sums>,
        _kept: &mut Self::Kept,
        mut finish: impl FnMut(usize, &[[Self::Sums; 2]; R]),
    ) {
        let ahead = Ahead::of(right, steps, number);
        let sums = sums_of_tile::<F, S, Self, R, C>(simd, self, start, left, steps, right, ahead);
        finish(0, &sums);
    }
}

/// Tiles to be summed: `start` in every row, and `steps` lanes of rows times the rows of a panel.
pub(crate) struct Tiles<'a, F: Format, A> {
    pub start: [A; 2],
    pub left: Left<'a, F>,
    pub rows: usize,
    pub steps: usize,
    pub right: Panel<'a, F::Lane>,
    /// How often as many have been summed before with this panel.
    pub number: usize,
}

/// One tile of a matmul: `start` in every row, and the first `steps` lanes of `R` rows of `left`
/// times the rows of a panel.
///
/// By pointers: a core that does two multiply-adds at a time has no time for checks between them
/// (a tenth of the speed).
#[expect(unsafe_code, reason = "no instruction to spare in the loop")]
#[inline(always)]
pub(super) fn sums_of_tile<
    F: Format,
    S: Simd,
    P: Products<S, Lane = F::Lane>,
    const R: usize,
    const C: usize,
>(
    simd: S,
    products: P,
    start: [P::Sums; 2],
    left: Left<'_, F>,
    steps: usize,
    right: Panel<'_, F::Lane>,
    ahead: Ahead,
) -> [[P::Sums; 2]; R] {
    let mut sums = [start; R];
    if steps == 0 {
        return sums;
    }
    assert!(left.lanes.len() >= (R - 1) * left.stride + steps);
    assert!(right.lanes.len() >= (steps - 1) * right.stride + C);
    let (lanes, panel) = (left.lanes.as_ptr(), right.lanes.as_ptr());
    for k in 0..steps {
        // SAFETY: row `k` of the panel has `C` lanes, which lie in `right.lanes` by the assertion.
        let right: &[F::Lane; C] = unsafe { &*panel.add(k * right.stride).cast() };
        let right = products.load(right);
        ahead.fetch(k);
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: lane `k` of row `i` lies in `left.lanes` by the assertion.
            let lane = products.splat(simd, unsafe { *lanes.add(i * left.stride + k) });
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = products.multiply_add(simd, lane, right, *sum);
            }
        }
    }
    sums
}

/// [`Fp32`](super::format::Fp32), value by value.
#[derive(Clone, Copy)]
pub(super) struct Singles(pub Fma);

impl<S: Simd> Products<S> for Singles {
    type Lane = f32;
    type Lanes = S::f32s;
    type Sums = S::f32s;
    type Kept = ();
    const TILES: usize = 1;

    #[inline(always)]
    fn start(self, _: S, bias: S::f32s) -> S::f32s {
        bias
    }

    #[inline(always)]
    fn load(self, row: &[f32]) -> [S::f32s; 2] {
        let row = S::as_simd_f32s(row).0;
        [row[0], row[1]]
    }

    #[inline(always)]
    fn splat(self, simd: S, lane: f32) -> S::f32s {
        simd.splat_f32s(lane)
    }

    #[inline(always)]
    fn multiply_add(self, simd: S, left: S::f32s, right: S::f32s, sums: S::f32s) -> S::f32s {
        self.0.multiply_add_lanes(simd, left, right, sums)
    }

    #[inline(always)]
    fn results(self, _: S, sums: [S::f32s; 2], _: RowScale, _: &Columns<S>) -> [S::f32s; 2] {
        sums
    }
}

/// [`Bf16`](super::format::Bf16), two values at a time.
#[derive(Clone, Copy)]
pub(super) struct Pairs<D>(pub D);

impl<S: Simd, D: DotBf16<S>> Products<S> for Pairs<D> {
    type Lane = u32;
    type Lanes = S::u32s;
    type Sums = S::f32s;
    type Kept = ();
    const TILES: usize = 1;

    #[inline(always)]
    fn start(self, _: S, bias: S::f32s) -> S::f32s {
        bias
    }

    #[inline(always)]
    fn load(self, row: &[u32]) -> [S::u32s; 2] {
        let row = S::as_simd_u32s(row).0;
        [row[0], row[1]]
    }

    #[inline(always)]
    fn splat(self, simd: S, lane: u32) -> S::u32s {
        simd.splat_u32s(lane)
    }

    #[inline(always)]
    fn multiply_add(self, simd: S, left: S::u32s, right: S::u32s, sums: S::f32s) -> S::f32s {
        self.0.dot(simd, left, right, sums)
    }

    #[inline(always)]
    fn results(self, _: S, sums: [S::f32s; 2], _: RowScale, _: &Columns<S>) -> [S::f32s; 2] {
        sums
    }
}

/// [`Int8`](super::format::Int8), four values at a time.
#[derive(Clone, Copy)]
pub(super) struct Quads<D>(pub D);

impl<S: Simd, D: DotInt8<S>> Products<S> for Quads<D> {
    type Lane = u32;
    type Lanes = S::u32s;
    type Sums = S::i32s;
    type Kept = ();
    const TILES: usize = 1;

    #[inline(always)]
    fn start(self, simd: S, _: S::f32s) -> S::i32s {
        simd.splat_i32s(0)
    }

    #[inline(always)]
    fn load(self, row: &[u32]) -> [S::u32s; 2] {
        let row = S::as_simd_u32s(row).0;
        [row[0], row[1]]
    }

    #[inline(always)]
    fn splat(self, simd: S, lane: u32) -> S::u32s {
        simd.splat_u32s(lane)
    }

    #[inline(always)]
    fn multiply_add(self, simd: S, left: S::u32s, right: S::u32s, sums: S::i32s) -> S::i32s {
        self.0.dot(simd, left, right, sums)
    }

    #[inline(always)]
    fn results(
        self,
        simd: S,
        sums: [S::i32s; 2],
        row: RowScale,
        columns: &Columns<S>,
    ) -> [S::f32s; 2] {
        let RowScale { scale, offset } = row;
        let (scale, offset) = (simd.splat_f32s(scale), simd.splat_f32s(-offset));
        let mut results = columns.bias;
        for (i, result) in results.iter_mut().enumerate() {
            let sum = self.0.to_f32s(simd, sums[i]);
            let sum = simd.mul_add_e_f32s(offset, columns.sums[i], sum);
            let scale = simd.mul_f32s(scale, columns.scales[i]);
            *result = simd.mul_add_e_f32s(sum, scale, *result);
        }
        results
    }
}

/// Products of bf16, two a lane.
pub(super) trait DotBf16<S: Simd>: Copy {
    /// `sums + left · right`, with one or several roundings.
    fn dot(self, simd: S, left: S::u32s, right: S::u32s, sums: S::f32s) -> S::f32s;
}

/// Products of integers, four a lane.
pub(super) trait DotInt8<S: Simd>: Copy {
    /// `sums + left · right`, exact.
    fn dot(self, simd: S, left: S::u32s, right: S::u32s, sums: S::i32s) -> S::i32s;

    /// Rounded to the nearest.
    #[inline(always)]
    fn to_f32s(self, simd: S, x: S::i32s) -> S::f32s {
        let mut out = simd.splat_f32s(0.0);
        let from: &[i32] = cast_slice(std::slice::from_ref(&x));
        let to: &mut [f32] = cast_slice_mut(std::slice::from_mut(&mut out));
        to.iter_mut().zip(from).for_each(|(to, x)| *to = *x as f32);
        out
    }
}

/// Makes `f32` or `i32` of the small numbers first.
#[derive(Clone, Copy)]
pub(super) struct Widening(pub Fma);

impl<S: Simd> DotBf16<S> for Widening {
    #[inline(always)]
    fn dot(self, simd: S, left: S::u32s, right: S::u32s, sums: S::f32s) -> S::f32s {
        let (half, upper) = (simd.splat_u32s(16), simd.splat_u32s(0xffff_0000));
        let lower = |x| simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(x, half));
        let upper = |x| simd.transmute_f32s_u32s(simd.and_u32s(x, upper));
        let sums = self
            .0
            .multiply_add_lanes(simd, lower(left), lower(right), sums);
        self.0
            .multiply_add_lanes(simd, upper(left), upper(right), sums)
    }
}

impl<S: Simd> DotInt8<S> for Widening {
    #[inline(always)]
    fn dot(self, _: S, left: S::u32s, right: S::u32s, mut sums: S::i32s) -> S::i32s {
        let left: &[u8] = cast_slice(std::slice::from_ref(&left));
        let right: &[i8] = cast_slice(std::slice::from_ref(&right));
        let lanes: &mut [i32] = cast_slice_mut(std::slice::from_mut(&mut sums));
        for (i, sum) in lanes.iter_mut().enumerate() {
            let of = |j: usize| i32::from(left[4 * i + j]) * i32::from(right[4 * i + j]);
            *sum += of(0) + of(1) + of(2) + of(3);
        }
        sums
    }
}
