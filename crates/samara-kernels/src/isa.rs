//! Instruction sets: kernels are written once, over arrays and slices, and compiled for each.

use std::sync::OnceLock;

use pulp::Simd;

/// An instruction set that this processor has.
///
/// A value is the proof: it is made by detection only, so code that runs through it cannot meet
/// an unknown instruction.
#[derive(Debug, Clone, Copy)]
pub enum Isa {
    /// AVX-512 (F, BW, CD, DQ, VL).
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
    /// What every processor of the architecture has.
    Portable,
}

/// AVX-512, and whether it has the instructions that multiply bf16 and int8: those of its registers, and those of
/// AMX, which come with the former.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub struct Avx512 {
    pub(crate) base: pulp::x86::V4,
    bf16: bool,
    vnni: bool,
    amx: bool,
}

#[cfg(target_arch = "x86_64")]
impl Avx512 {
    /// What the processor has, all of it first, and then without what came later.
    fn available() -> impl Iterator<Item = Self> {
        let plain = pulp::x86::V4::try_new().map(|base| Self {
            base,
            bf16: false,
            vnni: false,
            amx: false,
        });
        let more = plain.map(|plain| Self {
            bf16: is_x86_feature_detected!("avx512bf16"),
            vnni: is_x86_feature_detected!("avx512vnni"),
            ..plain
        });
        let more = more.filter(|more| more.bf16 || more.vnni);
        let all = more.filter(|more| more.bf16 && more.vnni && amx::allowed());
        let all = all.map(|all| Self { amx: true, ..all });
        all.into_iter().chain(more).chain(plain)
    }

    /// Whether it has AVX512-BF16.
    pub(crate) fn has_bf16(self) -> bool {
        self.bf16
    }

    /// Whether it has AVX512-VNNI.
    pub(crate) fn has_vnni(self) -> bool {
        self.vnni
    }

    /// Whether it has AMX for bf16 and for int8.
    pub(crate) fn has_amx(self) -> bool {
        self.amx
    }
}

/// Whether the processor calls itself one of Intel.
#[cfg(target_arch = "x86_64")]
fn made_by_intel() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
    name.as_flattened() == b"GenuineIntel"
}

/// AMX: whether it is there, and the system's leave to use it.
#[cfg(target_arch = "x86_64")]
mod amx {
    /// Whether the processor has AMX with bf16 and int8, and the system lets this process use it: its registers
    /// are large, and a process has to ask for them.
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "a system call without another form")]
    pub(super) fn allowed() -> bool {
        use std::arch::x86_64::__cpuid_count;
        /// `ARCH_REQ_XCOMP_PERM` of `arch_prctl`.
        const ASK: libc::c_long = 0x1023;
        /// `XFEATURE_XTILEDATA`.
        const REGISTERS: libc::c_long = 18;
        /// AMX-BF16, AMX-TILE and AMX-INT8 in EDX of leaf 7.
        const FEATURES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
        let features = __cpuid_count(7, 0).edx;
        // SAFETY: the call changes what this process may use, and that the kernel then refuses signal stacks with too
        // little place for the registers; where there is one already, it refuses the call.
        features & FEATURES == FEATURES
            && unsafe { libc::syscall(libc::SYS_arch_prctl, ASK, REGISTERS) } == 0
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn allowed() -> bool {
        false
    }
}

/// AVX2, and whether it has the instructions that multiply int8.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub struct Avx2 {
    pub(crate) base: pulp::x86::V3,
    vnni: bool,
}

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// As [`Avx512::available`].
    fn available() -> impl Iterator<Item = Self> {
        let plain = pulp::x86::V3::try_new().map(|base| Self { base, vnni: false });
        let all = plain.filter(|_| is_x86_feature_detected!("avxvnni"));
        let all = all.map(|plain| Self {
            vnni: true,
            ..plain
        });
        all.into_iter().chain(plain)
    }

    /// Whether it has AVX-VNNI.
    pub(crate) fn has_vnni(self) -> bool {
        self.vnni
    }
}

impl Isa {
    /// All that this processor has, the widest first; the last is [`Isa::Portable`].
    pub fn available() -> Vec<Self> {
        let mut all = Vec::new();
        // An interpreter knows no vector instructions.
        if !cfg!(miri) {
            #[cfg(target_arch = "x86_64")]
            {
                all.extend(Avx512::available().map(Self::Avx512));
                all.extend(Avx2::available().map(Self::Avx2));
            }
            #[cfg(target_arch = "aarch64")]
            all.extend(pulp::aarch64::Neon::try_new().map(Self::Neon));
        }
        all.push(Self::Portable);
        all
    }

    /// The widest, found once.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::available()[0])
    }

    /// Whether it has instructions that multiply bf16 faster than `f32`: AMX, or AVX512-BF16 but for that of Intel,
    /// which is half as fast as its products of `f32`.
    pub fn multiplies_bf16(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(isa) => isa.amx || isa.bf16 && !made_by_intel(),
            _ => false,
        }
    }

    /// Whether it has instructions for products of 8-bit integers.
    pub fn multiplies_int8(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(isa) => isa.vnni,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(isa) => isa.vnni,
            _ => false,
        }
    }

    /// Whether it has AMX.
    pub(crate) fn has_amx(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(isa) => isa.amx,
            _ => false,
        }
    }

    /// Its common name.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(isa) if isa.amx => "AVX-512 with BF16 and VNNI, AMX",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(isa) => match (isa.bf16, isa.vnni) {
                (true, true) => "AVX-512 with BF16 and VNNI",
                (true, false) => "AVX-512 with BF16",
                (false, true) => "AVX-512 with VNNI",
                (false, false) => "AVX-512",
            },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(isa) if isa.vnni => "AVX2 with VNNI",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "NEON",
            Self::Portable => "portable",
        }
    }

    /// Runs loops over arrays, compiled for this instruction set. Whatever they call must be
    /// `#[inline(always)]` to be compiled along; a nest of loops belongs into a [`Kernel`].
    #[inline(always)]
    pub(crate) fn run<R>(self, kernel: impl FnOnce(Fma) -> R) -> R {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(isa) => isa.base.vectorize(
                #[inline(always)]
                || kernel(Fma::SOME),
            ),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(isa) => isa.base.vectorize(
                #[inline(always)]
                || kernel(Fma::SOME),
            ),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(isa) => isa.vectorize(
                #[inline(always)]
                || kernel(Fma::SOME),
            ),
            Self::Portable => kernel(Fma::NONE),
        }
    }

    /// Runs a kernel with the registers of this instruction set.
    #[inline(always)]
    pub(crate) fn dispatch<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(isa) => isa.base.vectorize(
                #[inline(always)]
                || kernel.run(isa.base, Fma::SOME),
            ),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(isa) => isa.base.vectorize(
                #[inline(always)]
                || kernel.run(isa.base, Fma::SOME),
            ),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(isa) => isa.vectorize(
                #[inline(always)]
                || kernel.run(isa, Fma::SOME),
            ),
            Self::Portable => kernel.run(pulp::Scalar128b, Fma::NONE),
        }
    }
}

/// Code that names its registers. The compiler finds registers for one loop over arrays by itself,
/// but not reliably for a nest of them.
pub(crate) trait Kernel {
    type Output;

    /// Must be `#[inline(always)]`, as must be what it calls.
    fn run<S: Simd>(self, simd: S, fma: Fma) -> Self::Output;
}

/// Whether the instruction set multiplies and adds in one step: a constant wherever a kernel is
/// compiled. Without the instruction, the function of the same name is a slow call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fma(bool);

impl Fma {
    pub(crate) const SOME: Self = Self(true);
    pub(crate) const NONE: Self = Self(false);

    /// `a · b + c`, rounded once or twice.
    #[inline(always)]
    pub(crate) fn multiply_add(self, a: f32, b: f32, c: f32) -> f32 {
        if self.0 { a.mul_add(b, c) } else { a * b + c }
    }

    /// [`multiply_add`](Self::multiply_add) in every lane.
    #[inline(always)]
    pub(crate) fn multiply_add_lanes<S: Simd>(
        self,
        simd: S,
        a: S::f32s,
        b: S::f32s,
        c: S::f32s,
    ) -> S::f32s {
        if self.0 {
            simd.mul_add_f32s(a, b, c)
        } else {
            simd.add_f32s(simd.mul_f32s(a, b), c)
        }
    }

    /// The polynomial with these coefficients, the highest power first.
    #[inline(always)]
    pub(crate) fn polynomial(self, x: f32, coefficients: &[f32]) -> f32 {
        let terms = coefficients.iter().copied();
        terms
            .reduce(|sum, coefficient| self.multiply_add(sum, x, coefficient))
            .unwrap_or_default()
    }
}
