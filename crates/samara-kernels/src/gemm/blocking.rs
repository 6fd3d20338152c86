//! How matmuls are cut.

use pulp::bytemuck::Zeroable;

use crate::isa::Isa;

/// Rows of the left side per task: a multiple of all tile heights. With [`DEPTH`] they take 450 KB
/// and stay in a second-level cache of 512 KB; the more rows, the less often the right side comes
/// from further away.
pub(super) const BLOCK_ROWS: usize = 144;

/// The same for rounded rows: AMX sums 256 at a time, which take less than half of a second-level cache of 2 MB.
pub(super) fn rounded_block_rows(isa: Isa, plain: usize) -> usize {
    if isa.has_amx() {
        plain.next_power_of_two()
    } else {
        plain
    }
}

/// Steps along the inner dimension per pass. A longer one writes the tile less often; this one
/// does the width of a ViT-B token in one pass.
pub(super) const DEPTH: usize = 768;

/// Lanes of a line of the cache.
const LINE: usize = 16;

/// Writes zeros behind the `steps` lanes of a gathered row, up to a whole line.
#[inline(always)]
pub(crate) fn end_row<L: Zeroable>(row: &mut [L], steps: usize) {
    row[steps..steps.next_multiple_of(LINE)].fill_with(L::zeroed);
}

/// Distance between gathered rows of `steps` lanes. All begin with a line of the cache, and those of 4 KB and
/// its multiples do not fall on the same places of the first level.
pub(crate) fn row_stride(steps: usize) -> usize {
    steps.next_multiple_of(LINE) + LINE
}

/// Rows and columns of a tile in registers; AMX has registers of its own. The columns are two registers wide; the
/// rows fill 24 of the 32 registers of AVX-512 and NEON, 12 of the 16 of AVX2 and 8 of the 16 of SSE2, and the
/// others hold a row of the right side and a value of the left.
pub(crate) fn shape(isa: Isa) -> (usize, usize) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => (12, 32),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => (6, 16),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(_) => (12, 8),
        Isa::Portable => (4, 8),
    }
}
