//! Memory that is freed and needed again.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// Zeros for a kernel to write over, made by all threads: where memory is used again one thread would need a
/// tenth of the time of an image encoder for them.
pub fn zeros(count: usize) -> Vec<f32> {
    /// Values of a task, and those from which on there are several.
    const SHARE: usize = 1 << 16;
    if count <= SHARE {
        return vec![0.0; count];
    }
    let mut values = Vec::with_capacity(count);
    let places = &mut values.spare_capacity_mut()[..count];
    let parts = places.par_chunks_mut(SHARE);
    parts.for_each(|part| part.fill(MaybeUninit::new(0.0)));
    // SAFETY: as many values have been written.
    #[expect(unsafe_code, reason = "a vector that several threads fill")]
    unsafe {
        values.set_len(count);
    }
    values
}

/// Makes the C library keep the memory of freed blocks for the next ones, whatever their size and
/// whichever thread needs them. Call it once, when a program begins.
///
/// By default glibc gives large blocks back at once and asks for new ones, which the kernel clears
/// page by page: in a ViT, whose layers need the same 50 MB over and over, a tenth of the time. The
/// most memory that the program has does not change much; what it has between two pieces of work
/// does. Other C libraries are left as they are.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in [
        // Heaps of further threads are small, and what does not fit is mapped and unmapped.
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, libc::c_int::MAX),
        (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
    ] {
        // SAFETY: sets a number of the allocator, which takes its own lock; a C library that knows
        // a smaller limit refuses the number and goes on as before.
        #[expect(unsafe_code, reason = "the C library's own setting")]
        unsafe {
            libc::mallopt(parameter, value);
        }
    }
    #[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
    prefer_huge_pages();
}

/// Bytes at the beginning of the heap that are to lie in huge pages: more than most models take.
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
const HUGE: usize = 1 << 30;

/// Lets the heap begin in pages of two megabytes where the kernel gives them to who asks. Matrices are
/// walked through from one small page to the next many times over, and every step from a page to one
/// that the processor has no address of costs as much as a hundred multiplications: with huge pages the
/// feed-forward blocks of ViT-B take a tenth less time.
///
/// Address space is taken for it at once, memory as it is used.
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
fn prefer_huge_pages() {
    // SAFETY: the block is ours until it is freed; the advice changes no value in it, and the rounding
    // leaves out pages that it has only a part of. A freed block keeps the advice, as it is not trimmed.
    #[expect(unsafe_code, reason = "the C library's and the kernel's own interface")]
    unsafe {
        let block = libc::malloc(HUGE);
        if block.is_null() {
            return;
        }
        let page = libc::sysconf(libc::_SC_PAGESIZE).max(1) as usize;
        let offset = block.cast::<u8>().align_offset(page);
        let length = (HUGE - offset) / page * page;
        let start = block.cast::<u8>().add(offset).cast();
        libc::madvise(start, length, libc::MADV_HUGEPAGE);
        libc::free(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_zeros() {
        for count in [0, 1, (1 << 16) + 1, (1 << 18) + 5] {
            // Memory that has been used, if the allocator gives it again.
            drop(vec![f32::NAN; count]);
            assert_eq!(zeros(count), vec![0.0; count]);
        }
    }
}
