//! AMX: registers that hold 16 rows of 64 bytes, and an instruction that multiplies two of them.
//!
//! Rows of lanes are what such a register reads: 16 rows of the left side, 16 lanes of each, and 16 rows of a
//! panel, 16 of its columns. Two by two of them make 32 rows and 32 columns of the result. Behind the last step
//! both sides go on with zeros: those of the left side lie there, those of a panel are added.

use std::arch::asm;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

use pulp::bytemuck::Pod;
use pulp::f32x16;
use pulp::x86::V4;

use super::ahead::Ahead;
use super::format::Format;
use super::int8::RowScale;
use super::left::Left;
use super::packed::Panel;
use super::products::{Columns, Pairs, Products, Quads, Tiles};
use super::x86::{Avx512Bf16, Avx512Vnni};

/// Rows of a register, and the steps that an instruction multiplies.
const ROWS: usize = 16;
/// Rows and columns of the result.
const SIDE: usize = 2 * ROWS;
/// Rows of the result that are finished at a time.
pub(super) const PART: usize = 8;
/// Rows of the result that are summed at a time, chunk by chunk of their steps.
const BLOCK: usize = 256;
/// Most instructions along a chunk: that much of a panel takes 16 KB and stays in the first-level cache while all
/// rows pass by.
const CHUNK: usize = 8;

/// [`Products`] of registers of AMX. A value is the proof that the processor has the instructions and that the
/// system allows them.
#[derive(Clone, Copy)]
pub(super) struct Amx<P>(P);

impl<P> Amx<P> {
    /// # Safety
    /// The processor must have AMX with the instruction of `P`, and the system must have given this process the
    /// right to use it.
    #[inline(always)]
    #[expect(unsafe_code, reason = "a proof")]
    pub(super) unsafe fn new(products: P) -> Self {
        Self(products)
    }
}

/// Products that an instruction of AMX does.
pub(super) trait Instruction: Products<V4, Lane = u32, Sums: Pod> {
    /// Adds products of `count` times 16 steps of `left` and `right` to the sums in registers: with `BOTH` of up to 32
    /// rows, or else of up to 16. `ahead` is fetched on the way, 16 lines every 16 steps with `BOTH`, or else 8.
    ///
    /// # Safety
    /// As [`Amx::new`], with registers that [`Setup::of_rows`] has set up for as many rows, and all that is read must
    /// be there.
    #[expect(unsafe_code, reason = "instructions that the language does not have")]
    unsafe fn add<const BOTH: bool>(left: Strided, right: Strided, count: usize, ahead: Ahead);
}

/// Rows in memory.
#[derive(Clone, Copy)]
pub(super) struct Strided {
    start: *const u32,
    /// Bytes.
    stride: usize,
}

impl Strided {
    fn new(lanes: &[u32], stride: usize) -> Self {
        Self {
            start: lanes.as_ptr(),
            stride: stride * size_of::<u32>(),
        }
    }
}

/// Fetches four lines and goes on.
macro_rules! fetch_ahead {
    () => {
        concat!(
            "prefetcht1 [{ahead}]\n",
            "prefetcht1 [{ahead} + {ahead_stride}]\n",
            "prefetcht1 [{ahead} + 2 * {ahead_stride}]\n",
            "prefetcht1 [{ahead} + {ahead_three}]\n",
            "lea {ahead}, [{ahead} + 4 * {ahead_stride}]",
        )
    };
}

macro_rules! instruction {
    ($products:ty, $name:literal) => {
        impl Instruction for $products {
            #[inline(always)]
            #[expect(unsafe_code, reason = "instructions that the language does not have")]
            unsafe fn add<const BOTH: bool>(
                left: Strided,
                right: Strided,
                count: usize,
                ahead: Ahead,
            ) {
                if count == 0 {
                    return;
                }
                // SAFETY: by the caller. The compiler is not told of AMX and leaves its registers alone, and no code
                // between the blocks of a product uses AMX.
                unsafe {
                    if BOTH {
                        asm!(
                            "2:",
                            "tileloadd tmm6, [{right} + {right_stride}]",
                            "tileloadd tmm4, [{left} + {left_stride}]",
                            concat!($name, " tmm0, tmm4, tmm6"),
                            fetch_ahead!(),
                            "tileloadd tmm7, [{right} + {right_stride} + 64]",
                            concat!($name, " tmm1, tmm4, tmm7"),
                            fetch_ahead!(),
                            "tileloadd tmm5, [{lower} + {left_stride}]",
                            concat!($name, " tmm2, tmm5, tmm6"),
                            fetch_ahead!(),
                            concat!($name, " tmm3, tmm5, tmm7"),
                            fetch_ahead!(),
                            "add {left}, 64",
                            "add {lower}, 64",
                            "add {right}, {right_step}",
                            "dec {count}",
                            "jnz 2b",
                            left = inout(reg) left.start => _,
                            lower = inout(reg) left.start.wrapping_byte_add(ROWS * left.stride) => _,
                            right = inout(reg) right.start => _,
                            count = inout(reg) count => _,
                            left_stride = in(reg) left.stride,
                            right_stride = in(reg) right.stride,
                            right_step = in(reg) ROWS * right.stride,
                            ahead = inout(reg) ahead.start => _,
                            ahead_stride = in(reg) ahead.stride,
                            ahead_three = in(reg) 3 * ahead.stride,
                            options(nostack, readonly),
                        );
                    } else {
                        asm!(
                            "2:",
                            "tileloadd tmm6, [{right} + {right_stride}]",
                            "tileloadd tmm4, [{left} + {left_stride}]",
                            concat!($name, " tmm0, tmm4, tmm6"),
                            fetch_ahead!(),
                            "tileloadd tmm7, [{right} + {right_stride} + 64]",
                            concat!($name, " tmm1, tmm4, tmm7"),
                            fetch_ahead!(),
                            "add {left}, 64",
                            "add {right}, {right_step}",
                            "dec {count}",
                            "jnz 2b",
                            left = inout(reg) left.start => _,
                            right = inout(reg) right.start => _,
                            count = inout(reg) count => _,
                            left_stride = in(reg) left.stride,
                            right_stride = in(reg) right.stride,
                            right_step = in(reg) ROWS * right.stride,
                            ahead = inout(reg) ahead.start => _,
                            ahead_stride = in(reg) ahead.stride,
                            ahead_three = in(reg) 3 * ahead.stride,
                            options(nostack, readonly),
                        );
                    }
                }
            }
        }
    };
}

instruction!(Pairs<Avx512Bf16>, "tdpbf16ps");
instruction!(Quads<Avx512Vnni>, "tdpbusd");

/// What a matmul of a block of rows keeps from panel to panel.
pub(super) struct Kept<S> {
    setup: Setup,
    sums: Lines<[MaybeUninit<[S; 2]>; BLOCK]>,
    /// The last steps of a panel, filled up with zeros.
    end: Lines<[[u32; SIDE]; ROWS]>,
}

/// Values that begin with a line of the cache.
#[repr(align(64))]
struct Lines<T>(T);

impl<T> Deref for Lines<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Lines<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<S: Copy> Default for Kept<S> {
    #[inline(always)]
    fn default() -> Self {
        Self {
            setup: Setup(None),
            sums: Lines([const { MaybeUninit::uninit() }; BLOCK]),
            end: Lines([[0; SIDE]; ROWS]),
        }
    }
}

/// How the registers of this thread are set up: rows of the upper and of the lower half of up to 32.
struct Setup(Option<[u8; 2]>);

impl Setup {
    /// Sets the registers up for up to 32 rows: 0 to 3 are sums, 4 and 5 rows, 6 and 7 a panel.
    ///
    /// # Safety
    /// As [`Amx::new`].
    #[inline(always)]
    #[expect(unsafe_code, reason = "instructions that the language does not have")]
    unsafe fn of_rows(&mut self, rows: usize) {
        let full = ROWS as u8;
        let [upper, lower] = [rows.min(ROWS) as u8, rows.saturating_sub(ROWS) as u8];
        match self.0 {
            Some([a, b]) if a == upper && (b == lower || lower == 0) => return,
            _ => {}
        }
        // A register of which nothing is used has rows nevertheless: none would be a fault.
        let lower = if lower == 0 { full } else { lower };
        self.0 = Some([upper, lower]);
        let registers = [upper, upper, lower, lower, upper, lower, full, full];
        let mut setup = [0_u8; 64];
        setup[0] = 1;
        for (i, rows) in registers.into_iter().enumerate() {
            setup[16 + 2 * i] = 64;
            setup[48 + i] = rows;
        }
        // SAFETY: by the caller; the setup is one of 64 bytes in the order that the instruction reads.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const setup, options(nostack, readonly));
        }
    }
}

impl Drop for Setup {
    #[expect(unsafe_code, reason = "an instruction that the language does not have")]
    fn drop(&mut self) {
        if self.0.is_some() {
            // SAFETY: only a processor with the instruction has set registers up.
            unsafe { asm!("tilerelease", options(nostack, nomem)) }
        }
    }
}

impl<P: Instruction> Amx<P> {
    /// Adds `steps` of up to 32 rows of the left side and a panel to `start`, or else to what `sums` hold, which
    /// are as many rows and hold the result. `end` are 16 rows more.
    #[inline(always)]
    #[expect(unsafe_code, reason = "instructions that the language does not have")]
    fn add<F: Format<Lane = u32>>(
        setup: &mut Setup,
        (left, right): (Left<'_, F>, Panel<'_, u32>),
        (steps, end): (usize, Option<&[[u32; SIDE]; ROWS]>),
        start: Option<&[P::Sums; 2]>,
        sums: &mut [MaybeUninit<[P::Sums; 2]>],
        ahead: Ahead,
    ) {
        let rows = sums.len();
        assert!((1..=SIDE).contains(&rows) && steps.is_multiple_of(ROWS));
        let all = steps + if end.is_some() { ROWS } else { 0 };
        assert!(all == 0 || left.lanes.len() >= (rows - 1) * left.stride + all);
        assert!(steps == 0 || right.lanes.len() >= (steps - 1) * right.stride + SIDE);
        let left = Strided::new(left.lanes, left.stride);
        let right = Strided::new(right.lanes, right.stride);
        let left_end = Strided {
            start: left.start.wrapping_add(steps),
            ..left
        };
        let (count, end) = (
            steps / ROWS,
            end.map(|end| Strided::new(end.as_flattened(), SIDE)),
        );
        let (out, line) = (sums.as_mut_ptr(), size_of::<[P::Sums; 2]>());
        // One row in all rows, or the rows.
        let (from, stride) = match start {
            Some(start) => (std::ptr::from_ref(start).cast(), 0),
            None => (out.cast_const(), line),
        };
        // SAFETY: a value of `Self` is the proof that the instructions may be used. What is read of the sides lies in
        // them by the assertions; `sums` have a line for every row that the registers are set up for.
        unsafe {
            setup.of_rows(rows);
            if rows > ROWS {
                asm!(
                    "tileloadd tmm0, [{from} + {stride}]",
                    "tileloadd tmm1, [{from} + {stride} + 64]",
                    "tileloadd tmm2, [{lower} + {stride}]",
                    "tileloadd tmm3, [{lower} + {stride} + 64]",
                    from = in(reg) from,
                    lower = in(reg) from.wrapping_byte_add(ROWS * stride),
                    stride = in(reg) stride,
                    options(nostack, readonly),
                );
                P::add::<true>(left, right, count, ahead);
                if let Some(end) = end {
                    P::add::<true>(left_end, end, 1, Ahead::nothing(left.start.cast()));
                }
                asm!(
                    "tilestored [{out} + {line}], tmm0",
                    "tilestored [{out} + {line} + 64], tmm1",
                    "tilestored [{lower} + {line}], tmm2",
                    "tilestored [{lower} + {line} + 64], tmm3",
                    out = in(reg) out,
                    lower = in(reg) out.wrapping_add(ROWS),
                    line = in(reg) line,
                    options(nostack),
                );
            } else {
                asm!(
                    "tileloadd tmm0, [{from} + {stride}]",
                    "tileloadd tmm1, [{from} + {stride} + 64]",
                    from = in(reg) from,
                    stride = in(reg) stride,
                    options(nostack, readonly),
                );
                P::add::<false>(left, right, count, ahead);
                if let Some(end) = end {
                    P::add::<false>(left_end, end, 1, Ahead::nothing(left.start.cast()));
                }
                asm!(
                    "tilestored [{out} + {line}], tmm0",
                    "tilestored [{out} + {line} + 64], tmm1",
                    out = in(reg) out,
                    line = in(reg) line,
                    options(nostack),
                );
            }
        }
    }
}

impl<P: Instruction> Products<V4> for Amx<P> {
    type Lane = u32;
    type Lanes = P::Lanes;
    type Sums = P::Sums;
    type Kept = Kept<P::Sums>;
    const TILES: usize = BLOCK / PART;

    #[inline(always)]
    fn start(self, simd: V4, bias: f32x16) -> P::Sums {
        self.0.start(simd, bias)
    }

    #[inline(always)]
    fn load(self, row: &[u32]) -> [P::Lanes; 2] {
        self.0.load(row)
    }

    #[inline(always)]
    fn splat(self, simd: V4, lane: u32) -> P::Lanes {
        self.0.splat(simd, lane)
    }

    #[inline(always)]
    fn multiply_add(self, simd: V4, left: P::Lanes, right: P::Lanes, sums: P::Sums) -> P::Sums {
        self.0.multiply_add(simd, left, right, sums)
    }

    #[inline(always)]
    fn results(
        self,
        simd: V4,
        sums: [P::Sums; 2],
        row: RowScale,
        columns: &Columns<V4>,
    ) -> [f32x16; 2] {
        self.0.results(simd, sums, row, columns)
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "sums that are not zero first")]
    fn sum<F: Format<Lane = u32>, const R: usize, const C: usize>(
        self,
        _: V4,
        tiles: Tiles<'_, F, P::Sums>,
        kept: &mut Kept<P::Sums>,
        mut finish: impl FnMut(usize, &[[P::Sums; 2]; R]),
    ) {
        const { assert!(R == PART && C == SIDE) };
        let Tiles {
            start,
            left,
            rows,
            steps,
            right,
            number,
        } = tiles;
        let Kept { setup, sums, end } = kept;
        let whole = steps / ROWS;
        let chunk = whole.div_ceil(whole.div_ceil(CHUNK).max(1)) * ROWS;
        let (whole, rest) = (whole * ROWS, steps % ROWS);
        if rest > 0 {
            for (i, row) in end.iter_mut().enumerate() {
                if i < rest {
                    let lanes = &right.lanes[(whole + i) * right.stride..];
                    row.copy_from_slice(&lanes[..SIDE]);
                } else {
                    row.fill(0);
                }
            }
        }
        // Without a step there is a chunk nevertheless, of none.
        for from in (0..whole.max(1)).step_by(chunk.max(1)) {
            let steps = chunk.min(whole - from);
            let last = from + steps == whole;
            for (group, sums) in sums[..rows.next_multiple_of(SIDE)]
                .chunks_exact_mut(SIDE)
                .enumerate()
            {
                let count = SIDE.min(rows - group * SIDE);
                let left = left.at_row(group * SIDE);
                let start_row = (from == 0).then_some(&start);
                let sides = (left.at_lane(from), right.at_row(from));
                let ahead = Ahead::of(right, whole, number * (BLOCK / SIDE) + group);
                let ahead = ahead.at_step(from);
                let steps = (steps, (last && rest > 0).then_some(&**end));
                Self::add(setup, sides, steps, start_row, &mut sums[..count], ahead);
                if !last {
                    continue;
                }
                let tiles = count.div_ceil(R);
                for missing in &mut sums[count..tiles * R] {
                    missing.write(start);
                }
                let first = group * (SIDE / R);
                for (tile, sums) in sums.as_chunks::<R>().0.iter().take(tiles).enumerate() {
                    // SAFETY: all its rows have been written.
                    finish(first + tile, unsafe { &*std::ptr::from_ref(sums).cast() });
                }
            }
        }
    }
}
