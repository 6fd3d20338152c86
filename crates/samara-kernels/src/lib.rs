//! The arithmetic of promptable segmentation: slices in, slices out. No tensor library.
//!
//! Images are channels-last (`[batch, height, width, channels]`), so that one pixel's channels are
//! neighbours in memory and every inner loop runs over them. Each kernel is written once, compiled
//! for several instruction sets ([`isa`]) of which one is picked at run time, and tested against a
//! plain scalar oracle with each of them.
//!
//! The speed comes from the order in which memory is walked, and from code that the compiler turns
//! into vector instructions; `unsafe` are the innermost loop of products and their instructions for small
//! numbers ([`gemm`]), a processor flag ([`denormals`]), the C library's memory ([`memory`]) and the system's threads ([`threads`]).
#![allow(
    clippy::inline_always,
    reason = "helpers must be compiled for the instruction set of the kernel that calls them"
)]

pub mod activation;
pub mod attention;
pub mod bottleneck;
pub mod candidate_features;
pub mod denormals;
pub mod depthwise;
pub mod feed_forward;
pub mod gemm;
pub mod isa;
pub mod layer_norm;
pub mod math;
pub mod memory;
pub mod memory_attention;
pub mod meter;
pub mod pool;
pub mod position;
pub mod precision;
pub mod rope;
#[cfg(test)]
mod testing;
pub mod threads;
pub mod two_way;
pub mod upscale;

/// Parts into which a sum over rows is cut, whatever the number of threads: the parts are added in
/// their order, so that a result is the same to the last bit in every run.
const PARTS: usize = 16;

/// Rows of one part.
fn rows_per_part(rows: usize) -> usize {
    rows.div_ceil(PARTS).max(1)
}

/// The sum of the parts, in their order.
fn add_in_order(parts: Vec<Vec<f32>>) -> Vec<f32> {
    let mut parts = parts.into_iter();
    let mut sum = parts.next().unwrap_or_default();
    for part in parts {
        sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    sum
}
