//! The instructions of x86-64 that multiply small numbers.

use std::arch::x86_64::{__m512bh, _mm256_dpbusd_avx_epi32, _mm512_dpbf16_ps, _mm512_dpbusd_epi32};
use std::mem::transmute;

use pulp::x86::{V3, V4};
use pulp::{cast, f32x8, f32x16, i32x8, i32x16, u32x8, u32x16};

use super::products::{DotBf16, DotInt8};

/// AVX512-BF16. A value is the proof that code is compiled for it.
#[derive(Clone, Copy)]
pub(super) struct Avx512Bf16(());

impl Avx512Bf16 {
    /// # Safety
    /// The processor must have the instructions, and the caller must be compiled for them.
    #[inline(always)]
    #[expect(unsafe_code, reason = "a proof")]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

impl DotBf16<V4> for Avx512Bf16 {
    #[inline(always)]
    #[expect(unsafe_code, reason = "an instruction that `pulp` does not have")]
    fn dot(self, _: V4, left: u32x16, right: u32x16, sums: f32x16) -> f32x16 {
        // SAFETY: a value of this type is the proof that the processor has the instruction; the types are 64
        // bytes of plain numbers.
        unsafe {
            let left = transmute::<u32x16, __m512bh>(left);
            let right = transmute::<u32x16, __m512bh>(right);
            cast(_mm512_dpbf16_ps(cast(sums), left, right))
        }
    }
}

/// AVX512-VNNI. A value is the proof that code is compiled for it.
#[derive(Clone, Copy)]
pub(super) struct Avx512Vnni(());

impl Avx512Vnni {
    /// # Safety
    /// The processor must have the instructions, and the caller must be compiled for them.
    #[inline(always)]
    #[expect(unsafe_code, reason = "a proof")]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

impl DotInt8<V4> for Avx512Vnni {
    #[inline(always)]
    #[expect(unsafe_code, reason = "an instruction that `pulp` does not have")]
    fn dot(self, _: V4, left: u32x16, right: u32x16, sums: i32x16) -> i32x16 {
        // SAFETY: a value of this type is the proof that the processor has the instruction.
        unsafe { cast(_mm512_dpbusd_epi32(cast(sums), cast(left), cast(right))) }
    }

    #[inline(always)]
    fn to_f32s(self, isa: V4, x: i32x16) -> f32x16 {
        cast(isa.avx512f._mm512_cvtepi32_ps(cast(x)))
    }
}

/// AVX-VNNI. A value is the proof that code is compiled for it.
#[derive(Clone, Copy)]
pub(super) struct AvxVnni(());

impl AvxVnni {
    /// # Safety
    /// The processor must have the instructions, and the caller must be compiled for them.
    #[inline(always)]
    #[expect(unsafe_code, reason = "a proof")]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

impl DotInt8<V3> for AvxVnni {
    #[inline(always)]
    #[expect(unsafe_code, reason = "an instruction that `pulp` does not have")]
    fn dot(self, _: V3, left: u32x8, right: u32x8, sums: i32x8) -> i32x8 {
        // SAFETY: a value of this type is the proof that the processor has the instruction.
        unsafe { cast(_mm256_dpbusd_avx_epi32(cast(sums), cast(left), cast(right))) }
    }

    #[inline(always)]
    fn to_f32s(self, isa: V3, x: i32x8) -> f32x8 {
        cast(isa.avx._mm256_cvtepi32_ps(cast(x)))
    }
}

/// Without VNNI: products of 16 bits, of the even and of the odd bytes.
#[derive(Clone, Copy)]
pub(super) struct Words;

impl DotInt8<V4> for Words {
    #[inline(always)]
    fn dot(self, isa: V4, left: u32x16, right: u32x16, sums: i32x16) -> i32x16 {
        let (bw, left, right, sums) = (isa.avx512bw, cast(left), cast(right), cast(sums));
        let first = bw._mm512_srli_epi16::<8>(bw._mm512_slli_epi16::<8>(left));
        let even = bw._mm512_srai_epi16::<8>(bw._mm512_slli_epi16::<8>(right));
        let even = bw._mm512_madd_epi16(first, even);
        let second = bw._mm512_srli_epi16::<8>(left);
        let odd = bw._mm512_madd_epi16(second, bw._mm512_srai_epi16::<8>(right));
        let sums = isa.avx512f._mm512_add_epi32(sums, even);
        cast(isa.avx512f._mm512_add_epi32(sums, odd))
    }

    #[inline(always)]
    fn to_f32s(self, isa: V4, x: i32x16) -> f32x16 {
        cast(isa.avx512f._mm512_cvtepi32_ps(cast(x)))
    }
}

impl DotInt8<V3> for Words {
    #[inline(always)]
    fn dot(self, isa: V3, left: u32x8, right: u32x8, sums: i32x8) -> i32x8 {
        let (avx2, left, right, sums) = (isa.avx2, cast(left), cast(right), cast(sums));
        let first = avx2._mm256_srli_epi16::<8>(avx2._mm256_slli_epi16::<8>(left));
        let even = avx2._mm256_srai_epi16::<8>(avx2._mm256_slli_epi16::<8>(right));
        let even = avx2._mm256_madd_epi16(first, even);
        let second = avx2._mm256_srli_epi16::<8>(left);
        let odd = avx2._mm256_madd_epi16(second, avx2._mm256_srai_epi16::<8>(right));
        cast(avx2._mm256_add_epi32(avx2._mm256_add_epi32(sums, even), odd))
    }

    #[inline(always)]
    fn to_f32s(self, isa: V3, x: i32x8) -> f32x8 {
        cast(isa.avx._mm256_cvtepi32_ps(cast(x)))
    }
}
