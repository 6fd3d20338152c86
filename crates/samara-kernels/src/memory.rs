//! Memory that is freed and needed again.

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
}
