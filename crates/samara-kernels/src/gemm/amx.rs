//! AMX: registers that hold 16 rows of 64 bytes, and an instruction that multiplies two of them.
//!
//! Rows of lanes are what such a register reads: 16 rows of the left side, 16 lanes of each, and 16 rows of a
//! panel, 16 of its columns. Two by two of them make 32 rows and 32 columns of the result.

use std::arch::asm;
use std::ops::{Deref, DerefMut};

use pulp::bytemuck::{Pod, Zeroable};
use pulp::f32x16;
use pulp::x86::V4;

use super::format::Format;
use super::int8::RowScale;
use super::products::{Columns, Pairs, Products, Quads, Tiles};
use super::tile::Ahead;
use super::x86::{Avx512Bf16, Avx512Vnni};

/// Rows of a register, and the steps that an instruction multiplies.
const ROWS: usize = 16;
/// Rows and columns of the result.
const SIDE: usize = 2 * ROWS;
/// Rows of the result that are finished at a time.
pub(super) const PART: usize = 8;

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
    /// Adds products of `count` times 16 steps to the sums in registers: of `left`, 32 or 16 rows every
    /// `left_stride` bytes, with `right`, a row every `right_stride` bytes.
    ///
    /// # Safety
    /// As [`Amx::new`], with registers that [`Kept::configure`] has set up for as many rows, and all that is read must
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
                // SAFETY: by the caller. The compiler is not told of AMX, and so leaves its registers alone.
                unsafe {
                    if BOTH {
                        asm!(
                            "2:",
                            "tileloadd tmm6, [{right} + {right_stride}]",
                            "tileloadd tmm4, [{left} + {left_stride}]",
                            concat!($name, " tmm0, tmm4, tmm6"),
                            "prefetcht1 [{ahead}]",
                            "prefetcht1 [{ahead} + {ahead_stride}]",
                            "prefetcht1 [{ahead} + 2 * {ahead_stride}]",
                            "prefetcht1 [{ahead} + {ahead_three}]",
                            "lea {ahead}, [{ahead} + 4 * {ahead_stride}]",
                            "tileloadd tmm7, [{right} + {right_stride} + 64]",
                            concat!($name, " tmm1, tmm4, tmm7"),
                            "prefetcht1 [{ahead}]",
                            "prefetcht1 [{ahead} + {ahead_stride}]",
                            "prefetcht1 [{ahead} + 2 * {ahead_stride}]",
                            "prefetcht1 [{ahead} + {ahead_three}]",
                            "lea {ahead}, [{ahead} + 4 * {ahead_stride}]",
                            "tileloadd tmm5, [{lower} + {left_stride}]",
                            concat!($name, " tmm2, tmm5, tmm6"),
                            "prefetcht1 [{ahead}]",
                            "prefetcht1 [{ahead} + {ahead_stride}]",
                            "prefetcht1 [{ahead} + 2 * {ahead_stride}]",
                            "prefetcht1 [{ahead} + {ahead_three}]",
                            "lea {ahead}, [{ahead} + 4 * {ahead_stride}]",
                            concat!($name, " tmm3, tmm5, tmm7"),
                            "prefetcht1 [{ahead}]",
                            "prefetcht1 [{ahead} + {ahead_stride}]",
                            "prefetcht1 [{ahead} + 2 * {ahead_stride}]",
                            "prefetcht1 [{ahead} + {ahead_three}]",
                            "lea {ahead}, [{ahead} + 4 * {ahead_stride}]",
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
                            "prefetcht1 [{ahead}]",
                            "prefetcht1 [{ahead} + {ahead_stride}]",
                            "prefetcht1 [{ahead} + 2 * {ahead_stride}]",
                            "prefetcht1 [{ahead} + {ahead_three}]",
                            "lea {ahead}, [{ahead} + 4 * {ahead_stride}]",
                            "tileloadd tmm7, [{right} + {right_stride} + 64]",
                            concat!($name, " tmm1, tmm4, tmm7"),
                            "prefetcht1 [{ahead}]",
                            "prefetcht1 [{ahead} + {ahead_stride}]",
                            "prefetcht1 [{ahead} + 2 * {ahead_stride}]",
                            "prefetcht1 [{ahead} + {ahead_three}]",
                            "lea {ahead}, [{ahead} + 4 * {ahead_stride}]",
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

/// What a thread keeps from tile to tile: buffers, and how its registers are set up.
pub(super) struct Kept<S> {
    /// Rows that the registers are set up for.
    rows: usize,
    sums: Lines<[[S; 2]; SIDE]>,
    /// The last steps of rows and panel, filled up with zeros.
    left: Lines<[[u32; ROWS]; SIDE]>,
    right: Lines<[[u32; SIDE]; ROWS]>,
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

impl<S: Pod> Default for Kept<S> {
    fn default() -> Self {
        Self {
            rows: 0,
            sums: Lines(Zeroable::zeroed()),
            left: Lines([[0; ROWS]; SIDE]),
            right: Lines([[0; SIDE]; ROWS]),
        }
    }
}

impl<S> Kept<S> {
    /// Sets the registers up for up to 32 rows: 0 to 3 are sums, 4 and 5 rows, 6 and 7 a panel.
    ///
    /// # Safety
    /// As [`Amx::new`].
    #[inline(always)]
    #[expect(unsafe_code, reason = "instructions that the language does not have")]
    unsafe fn configure(&mut self, rows: usize) {
        if self.rows == rows {
            return;
        }
        self.rows = rows;
        let (upper, lower) = (rows.min(ROWS) as u8, rows.saturating_sub(ROWS) as u8);
        // A register of which nothing is used has a row nevertheless: none would be a fault.
        let lower = lower.max(1);
        let full = ROWS as u8;
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

impl<S> Drop for Kept<S> {
    #[expect(unsafe_code, reason = "an instruction that the language does not have")]
    fn drop(&mut self) {
        if self.rows > 0 {
            // SAFETY: only a processor with the instruction has set registers up.
            unsafe { asm!("tilerelease", options(nostack, nomem)) }
        }
    }
}

impl<P: Instruction> Amx<P> {
    /// Sums of up to 32 rows of the left side and a panel.
    #[inline(always)]
    #[expect(unsafe_code, reason = "instructions that the language does not have")]
    fn sum_registers<F: Format<Lane = u32>>(
        kept: &mut Kept<P::Sums>,
        tiles: &Tiles<'_, F, P::Sums>,
    ) {
        let Tiles {
            start,
            left,
            rows,
            steps,
            right,
            ahead,
        } = *tiles;
        assert!((1..=SIDE).contains(&rows));
        assert!(steps == 0 || left.lanes.len() >= (rows - 1) * left.stride + steps);
        assert!(steps == 0 || right.lanes.len() >= (steps - 1) * right.stride + SIDE);
        let (whole, rest) = (steps / ROWS, steps % ROWS);
        if rest > 0 {
            let start = whole * ROWS;
            for (i, row) in kept.left.iter_mut().take(rows).enumerate() {
                row[..rest].copy_from_slice(&left.lanes[i * left.stride + start..][..rest]);
                row[rest..].fill(0);
            }
            for (i, row) in kept.right.iter_mut().enumerate() {
                if i < rest {
                    let lanes = &right.lanes[(start + i) * right.stride..];
                    row.copy_from_slice(&lanes[..SIDE]);
                } else {
                    row.fill(0);
                }
            }
        }
        let lane = size_of::<u32>();
        let long = [
            Strided {
                start: left.lanes.as_ptr(),
                stride: left.stride * lane,
            },
            Strided {
                start: right.lanes.as_ptr(),
                stride: right.stride * lane,
            },
        ];
        let short = [
            Strided {
                start: kept.left.as_ptr().cast(),
                stride: ROWS * lane,
            },
            Strided {
                start: kept.right.as_ptr().cast(),
                stride: SIDE * lane,
            },
        ];
        let out = kept.sums.as_mut_ptr();
        // SAFETY: a value of `Self` is the proof that the instructions may be used. What is read lies in the slices by
        // the assertions, and in the buffers; the sums have 32 rows of 128 bytes, and begin with the same row of `start`.
        unsafe {
            kept.configure(rows);
            if rows > ROWS {
                asm!(
                    "tileloadd tmm0, [{start} + {stride}]",
                    "tileloadd tmm1, [{start} + {stride} + 64]",
                    "tileloadd tmm2, [{start} + {stride}]",
                    "tileloadd tmm3, [{start} + {stride} + 64]",
                    start = in(reg) &raw const start,
                    stride = in(reg) 0_usize,
                    options(nostack, readonly),
                );
                P::add::<true>(long[0], long[1], whole, ahead);
                P::add::<true>(short[0], short[1], usize::from(rest > 0), Ahead::NOTHING);
                asm!(
                    "tilestored [{out} + {stride}], tmm0",
                    "tilestored [{out} + {stride} + 64], tmm1",
                    "tilestored [{lower} + {stride}], tmm2",
                    "tilestored [{lower} + {stride} + 64], tmm3",
                    out = in(reg) out,
                    lower = in(reg) out.add(ROWS),
                    stride = in(reg) 2 * 64_usize,
                    options(nostack),
                );
            } else {
                asm!(
                    "tileloadd tmm0, [{start} + {stride}]",
                    "tileloadd tmm1, [{start} + {stride} + 64]",
                    start = in(reg) &raw const start,
                    stride = in(reg) 0_usize,
                    options(nostack, readonly),
                );
                P::add::<false>(long[0], long[1], whole, ahead);
                P::add::<false>(short[0], short[1], usize::from(rest > 0), Ahead::NOTHING);
                asm!(
                    "tilestored [{out} + {stride}], tmm0",
                    "tilestored [{out} + {stride} + 64], tmm1",
                    out = in(reg) out,
                    stride = in(reg) 2 * 64_usize,
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
    const TILES: usize = SIDE / PART;

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
    fn sum<F: Format<Lane = u32>, const R: usize, const C: usize>(
        self,
        _: V4,
        tiles: Tiles<'_, F, P::Sums>,
        kept: &mut Kept<P::Sums>,
        mut finish: impl FnMut(usize, &[[P::Sums; 2]; R]),
    ) {
        const { assert!(R == PART && C == SIDE) };
        let rows = tiles.rows;
        Self::sum_registers(kept, &tiles);
        for (tile, sums) in kept.sums[..rows.next_multiple_of(R)]
            .as_chunks()
            .0
            .iter()
            .enumerate()
        {
            finish(tile, sums);
        }
    }
}
