//! Flushing denormal numbers to zero.
//!
//! The focal loss of a well classified pixel, and its gradient, are so small that they become
//! denormal numbers, which x86 processors compute tens of times slower than normal ones.

use std::{io, thread};

use rayon::{ThreadBuilder, ThreadPool, ThreadPoolBuildError};

/// Runs `work` with denormal numbers flushed to zero on the calling thread, and restores the
/// thread's state afterwards. Results change by less than 1.2e-38.
pub fn flush_denormals<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64"))]
    {
        // SAFETY: only the flush-to-zero bits of the floating-point control register change, and
        // a guard restores them. The compiler assumes the default mode when it folds constants,
        // so a folded denormal may differ from a computed one; nothing here depends on that.
        #[expect(unsafe_code, reason = "sets a processor flag")]
        unsafe {
            no_denormals::no_denormals(work)
        }
    }
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    work()
}

/// Makes every thread of rayon's global pool flush denormal numbers for its whole life. Call it
/// once, before the pool is first used; later calls change nothing and give `false`.
pub fn flush_denormals_in_pool(threads: Option<usize>) -> bool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .spawn_handler(spawn_flushing)
        .build_global()
        .is_ok()
}

/// A pool of its own, whose threads flush denormal numbers.
///
/// # Errors
/// The system gives no more threads.
pub fn flushing_pool(threads: usize) -> Result<ThreadPool, ThreadPoolBuildError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .spawn_handler(spawn_flushing)
        .build()
}

fn spawn_flushing(thread: ThreadBuilder) -> io::Result<()> {
    let mut builder = thread::Builder::new();
    if let Some(name) = thread.name() {
        builder = builder.name(name.to_owned());
    }
    builder.spawn(|| flush_denormals(|| thread.run()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::{flush_denormals, flushing_pool};

    #[test]
    fn denormals_are_zero_inside_and_back_outside() {
        let tiny = || black_box(f32::MIN_POSITIVE) * black_box(0.25);
        assert!(tiny() > 0.0);
        assert_eq!(flush_denormals(tiny), 0.0);
        assert!(tiny() > 0.0);
        let pool = flushing_pool(2).unwrap();
        assert_eq!(pool.broadcast(|_| tiny()), [0.0; 2]);
    }
}
