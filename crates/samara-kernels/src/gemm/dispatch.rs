//! Code that works on tiles, compiled for every format and instruction set.

use pulp::Simd;
#[cfg(target_arch = "x86_64")]
use pulp::x86::{V3, V4};

#[cfg(target_arch = "x86_64")]
use super::amx::{self, Amx};
use super::format::{Bf16, Format, Fp32, Int8};
use super::products::{Pairs, Products, Quads, Singles, Widening};
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx512Bf16, Avx512Vnni, AvxVnni, Words};
use crate::isa::{Fma, Isa};

/// Code that works on tiles of the result, whose shape is that of [`shape`](super::shape), or with AMX of
/// [`PART`](super::amx::PART) rows.
pub(crate) trait WithTile<F: Format> {
    /// With tiles of `R` rows and `C` columns. Must be `#[inline(always)]`, as must be what it calls.
    fn run<S: Simd, P: Products<S, Lane = F::Lane>, const R: usize, const C: usize>(
        self,
        simd: S,
        fma: Fma,
        products: P,
    );
}

/// A format whose products are compiled for every instruction set.
pub(crate) trait Dispatch: Format {
    /// Runs code with the tiles of an instruction set.
    #[inline(always)]
    fn run(isa: Isa, kernel: impl WithTile<Self>) {
        run_plain(isa, kernel);
    }

    /// Runs code with registers of any kind.
    fn run_with<S: Simd, const R: usize, const C: usize>(
        simd: S,
        fma: Fma,
        kernel: impl WithTile<Self>,
    );
}

/// Without instructions that an instruction set has for the format alone.
#[inline(always)]
fn run_plain<F: Dispatch>(isa: Isa, kernel: impl WithTile<F>) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(isa) => isa.base.vectorize(
            #[inline(always)]
            || F::run_with::<_, 12, 32>(isa.base, Fma::SOME, kernel),
        ),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(isa) => isa.base.vectorize(
            #[inline(always)]
            || F::run_with::<_, 6, 16>(isa.base, Fma::SOME, kernel),
        ),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(isa) => isa.vectorize(
            #[inline(always)]
            || F::run_with::<_, 12, 8>(isa, Fma::SOME, kernel),
        ),
        Isa::Portable => F::run_with::<_, 4, 8>(pulp::Scalar128b, Fma::NONE, kernel),
    }
}

impl Dispatch for Fp32 {
    #[inline(always)]
    fn run_with<S: Simd, const R: usize, const C: usize>(
        simd: S,
        fma: Fma,
        kernel: impl WithTile<Self>,
    ) {
        kernel.run::<S, Singles, R, C>(simd, fma, Singles(fma));
    }
}

impl Dispatch for Bf16 {
    #[inline(always)]
    #[cfg_attr(
        target_arch = "x86_64",
        expect(unsafe_code, reason = "instructions that `pulp` does not have")
    )]
    fn run(isa: Isa, kernel: impl WithTile<Self>) {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(isa) if isa.has_amx() => {
                // SAFETY: the processor has the base, BF16 and AMX.
                unsafe { run_amx_bf16(isa.base, kernel) }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(isa) if isa.has_bf16() => {
                // SAFETY: the processor has the base and BF16.
                unsafe { run_avx512_bf16(isa.base, kernel) }
            }
            _ => run_plain(isa, kernel),
        }
    }

    #[inline(always)]
    fn run_with<S: Simd, const R: usize, const C: usize>(
        simd: S,
        fma: Fma,
        kernel: impl WithTile<Self>,
    ) {
        kernel.run::<S, Pairs<Widening>, R, C>(simd, fma, Pairs(Widening(fma)));
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
#[target_feature(enable = "fma,bmi1,bmi2,lzcnt,popcnt")]
#[expect(unsafe_code, reason = "instructions that `pulp` does not have")]
fn run_avx512_bf16(base: V4, kernel: impl WithTile<Bf16>) {
    // SAFETY: this function is compiled for them.
    let products = Pairs(unsafe { Avx512Bf16::new() });
    kernel.run::<V4, _, 12, 32>(base, Fma::SOME, products);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
#[target_feature(enable = "fma,bmi1,bmi2,lzcnt,popcnt")]
#[expect(unsafe_code, reason = "instructions that the language does not have")]
unsafe fn run_amx_bf16(base: V4, kernel: impl WithTile<Bf16>) {
    // SAFETY: this function is compiled for AVX512-BF16, and the caller has AMX.
    let products = unsafe { Amx::new(Pairs(Avx512Bf16::new())) };
    kernel.run::<V4, _, { amx::PART }, 32>(base, Fma::SOME, products);
}

impl Dispatch for Int8 {
    #[inline(always)]
    #[cfg_attr(
        target_arch = "x86_64",
        expect(unsafe_code, reason = "instructions that `pulp` does not have")
    )]
    fn run(isa: Isa, kernel: impl WithTile<Self>) {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(isa) if isa.has_amx() => {
                // SAFETY: the processor has the base, VNNI and AMX.
                unsafe { run_amx_int8(isa.base, kernel) }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(isa) if isa.has_vnni() => {
                // SAFETY: the processor has the base and VNNI.
                unsafe { run_avx512_vnni(isa.base, kernel) }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(isa) => isa.base.vectorize(
                #[inline(always)]
                || kernel.run::<_, _, 12, 32>(isa.base, Fma::SOME, Quads(Words)),
            ),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(isa) if isa.has_vnni() => {
                // SAFETY: the processor has the base and VNNI.
                unsafe { run_avx_vnni(isa.base, kernel) }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(isa) => isa.base.vectorize(
                #[inline(always)]
                || kernel.run::<_, _, 6, 16>(isa.base, Fma::SOME, Quads(Words)),
            ),
            _ => run_plain(isa, kernel),
        }
    }

    #[inline(always)]
    fn run_with<S: Simd, const R: usize, const C: usize>(
        simd: S,
        fma: Fma,
        kernel: impl WithTile<Self>,
    ) {
        kernel.run::<S, Quads<Widening>, R, C>(simd, fma, Quads(Widening(fma)));
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni")]
#[target_feature(enable = "fma,bmi1,bmi2,lzcnt,popcnt")]
#[expect(unsafe_code, reason = "instructions that `pulp` does not have")]
fn run_avx512_vnni(base: V4, kernel: impl WithTile<Int8>) {
    // SAFETY: this function is compiled for them.
    let products = Quads(unsafe { Avx512Vnni::new() });
    kernel.run::<V4, _, 12, 32>(base, Fma::SOME, products);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni")]
#[target_feature(enable = "fma,bmi1,bmi2,lzcnt,popcnt")]
#[expect(unsafe_code, reason = "instructions that the language does not have")]
unsafe fn run_amx_int8(base: V4, kernel: impl WithTile<Int8>) {
    // SAFETY: this function is compiled for AVX512-VNNI, and the caller has AMX.
    let products = unsafe { Amx::new(Quads(Avx512Vnni::new())) };
    kernel.run::<V4, _, { amx::PART }, 32>(base, Fma::SOME, products);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avxvnni,fma,bmi1,bmi2,lzcnt,popcnt")]
#[expect(unsafe_code, reason = "instructions that `pulp` does not have")]
fn run_avx_vnni(base: V3, kernel: impl WithTile<Int8>) {
    // SAFETY: this function is compiled for them.
    let products = Quads(unsafe { AvxVnni::new() });
    kernel.run::<V3, _, 6, 16>(base, Fma::SOME, products);
}
