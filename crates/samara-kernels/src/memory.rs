//! Memory that is freed and needed again.

use std::alloc::{GlobalAlloc, Layout, System};

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

/// The system's allocator, whose large blocks lie in huge pages where the kernel gives them to who asks (Linux): for
/// programs and packages that cannot set the memory of a whole process, as [`keep_freed_memory`] does.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: samara_kernels::memory::HugePages = samara_kernels::memory::HugePages;
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct HugePages;

/// Blocks of this many bytes are large: they hold a huge page wherever they begin.
const LARGE: usize = 4 << 20;

// SAFETY: every block is the system allocator's, with the layout that was asked for; the advice changes no value in it.
#[expect(unsafe_code, reason = "an allocator")]
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: what the caller promises.
        advised(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: what the caller promises.
        advised(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: what the caller promises.
        advised(unsafe { System.realloc(block, layout, size) }, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: what the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Asks for huge pages for those that lie inside of a large block.
#[cfg(target_os = "linux")]
fn advised(block: *mut u8, size: usize) -> *mut u8 {
    const PAGE: usize = 2 << 20;
    if size >= LARGE && !block.is_null() {
        let offset = block.align_offset(PAGE);
        let length = (size - offset) / PAGE * PAGE;
        // SAFETY: the range lies inside of the block, and the advice changes no value in it; where the kernel refuses
        // it, nothing changes.
        #[expect(unsafe_code, reason = "the kernel's own interface")]
        unsafe {
            libc::madvise(block.add(offset).cast(), length, libc::MADV_HUGEPAGE);
        }
    }
    block
}

/// Other systems are left as they are.
#[cfg(not(target_os = "linux"))]
fn advised(block: *mut u8, _size: usize) -> *mut u8 {
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "an allocator")]
    fn blocks_of_all_sizes_hold_what_is_written() {
        for size in [1, 4096, LARGE - 1, LARGE, 3 * LARGE + 5] {
            let layout = Layout::from_size_align(size, 64).unwrap();
            // SAFETY: the layout is of at least a byte, what is read and written lies inside of the blocks, and they are
            // freed with the layouts that they have.
            unsafe {
                let block = HugePages.alloc_zeroed(layout);
                assert_eq!(block.align_offset(64), 0);
                let values = std::slice::from_raw_parts_mut(block, size);
                assert!(values.iter().all(|&value| value == 0));
                values.fill(7);
                let larger = HugePages.realloc(block, layout, 2 * size);
                assert!(
                    std::slice::from_raw_parts(larger, size)
                        .iter()
                        .all(|&value| value == 7)
                );
                HugePages.dealloc(larger, Layout::from_size_align(2 * size, 64).unwrap());
                let plain = HugePages.alloc(layout);
                plain.write_bytes(9, size);
                assert_eq!(plain.add(size - 1).read(), 9);
                HugePages.dealloc(plain, layout);
            }
        }
    }
}
