//! What the arithmetic is measured against: the operations that products did, and how many the
//! processor can do.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pulp::Simd;

use crate::isa::{Fma, Isa, Kernel};

/// Threads that count each for themselves; further ones share. A common number would go from one core to
/// another at every product, which takes longer than the smallest of them.
const COUNTERS: usize = 64;

/// A number in a line of the cache of its own, or two, as some processors fetch them in pairs.
#[repr(align(128))]
struct Counter(AtomicU64);

/// Floating-point operations of all products so far, two for a multiplication with its addition.
static OPERATIONS: [Counter; COUNTERS] = [const { Counter(AtomicU64::new(0)) }; COUNTERS];

/// Counts the operations of a product.
pub(crate) fn count(rows: usize, depth: usize, columns: usize) {
    let thread = rayon::current_thread_index().unwrap_or_default();
    let Counter(operations) = &OPERATIONS[thread % COUNTERS];
    operations.fetch_add(2 * (rows * depth * columns) as u64, Ordering::Relaxed);
}

/// Floating-point operations of all products of this process so far.
pub fn operations() -> u64 {
    let all = OPERATIONS
        .iter()
        .map(|Counter(n)| n.load(Ordering::Relaxed));
    all.sum()
}

/// The operations per second that this processor's threads can do together when they do nothing
/// but multiply and add in registers; takes about as long as told. The best of several bursts
/// counts, because a burst can only be disturbed, not helped.
pub fn peak(duration: Duration) -> f64 {
    /// Steps of a burst, about a millisecond.
    const STEPS: usize = 50_000;
    let start = Instant::now();
    let mut best = 0.0_f64;
    while best == 0.0 || start.elapsed() < duration {
        let burst = rayon::broadcast(|_| {
            let start = Instant::now();
            let done = Isa::best().dispatch(Burst(STEPS));
            done as f64 / start.elapsed().as_secs_f64()
        });
        best = best.max(burst.iter().sum());
    }
    best
}

/// Independent multiply-adds, this many times; gives the number of operations.
struct Burst(usize);

impl Kernel for Burst {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S, fma: Fma) -> usize {
        /// Enough to hide the latency of the instruction, few enough for the registers.
        const CHAINS: usize = 12;
        let factor = simd.splat_f32s(black_box(0.999));
        let summand = simd.splat_f32s(black_box(1e-9));
        let mut sums = [simd.splat_f32s(1.0); CHAINS];
        for _ in 0..self.0 {
            for sum in &mut sums {
                *sum = fma.multiply_add_lanes(simd, *sum, factor, summand);
            }
        }
        let mut sum = sums[0];
        for other in &sums[1..] {
            sum = simd.add_f32s(sum, *other);
        }
        black_box(simd.reduce_sum_f32s(sum));
        2 * self.0 * CHAINS * S::F32_LANES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_counted_and_the_peak_is_plausible() {
        let before = operations();
        count(2, 3, 4);
        assert!(operations() >= before + 48);
        let peak = peak(Duration::from_millis(5));
        assert!((1e8..1e15).contains(&peak), "{peak}");
    }
}
