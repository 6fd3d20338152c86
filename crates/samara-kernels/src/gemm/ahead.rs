//! Lines of the cache that are fetched before they are needed.

use std::ops::Range;

use super::packed::Panel;

/// What is fetched into the second-level cache while a tile is summed: the panel that follows, a line at
/// every step. Without, the first tile of a panel waits for the third level, and with few tiles a panel
/// it takes a tenth of the time.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    pub start: *const u8,
    /// Bytes per step.
    pub stride: usize,
}

impl Ahead {
    /// Fetches a line that is there already, again and again.
    #[inline(always)]
    pub(super) fn nothing(line: *const u8) -> Self {
        Self {
            start: line,
            stride: 0,
        }
    }

    /// The part of it that tile number `tile` fetches.
    #[inline(always)]
    pub(super) fn of<L: Copy>(panel: Panel<'_, L>, steps: usize, tile: usize) -> Self {
        /// Bytes of a line of the cache.
        const LINE: usize = 64;
        let (length, share) = (steps * panel.stride * size_of::<L>(), steps * LINE);
        let needed = tile * share < length;
        let start = panel.lanes.as_ptr().cast::<u8>();
        if !needed {
            return Self::nothing(start);
        }
        Self {
            start: start.wrapping_add(length + tile * share),
            stride: LINE,
        }
    }

    /// What is fetched from a step on.
    #[inline(always)]
    pub(super) fn at_step(self, step: usize) -> Self {
        Self {
            start: self.start.wrapping_add(step * self.stride),
            ..self
        }
    }

    #[inline(always)]
    pub(super) fn fetch(self, step: usize) {
        fetch(self.at_step(step).start);
    }
}

/// Fetches a line into the second-level cache.
#[inline(always)]
fn fetch(line: *const u8) {
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = line;
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint; it does nothing where there is no memory.
        #[expect(unsafe_code, reason = "the instruction has no other form")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(line.cast());
        }
    }
}

/// Fetches the places of tiles in the result and in what is added to it: what will be written comes from memory
/// first, and would be waited for row by row.
#[inline(always)]
pub(super) fn fetch_tile<const C: usize>(
    out: &[f32],
    residual: Option<&[f32]>,
    rows: Range<usize>,
    columns: usize,
    from: usize,
) {
    /// Values of a line of the cache.
    const LINE: usize = 16;
    for values in [Some(out), residual].into_iter().flatten() {
        for row in rows.clone() {
            let start = values.as_ptr().wrapping_add(row * columns + from);
            for at in (0..C).step_by(LINE) {
                fetch(start.wrapping_add(at).cast());
            }
            fetch(start.wrapping_add(C - 1).cast());
        }
    }
}
