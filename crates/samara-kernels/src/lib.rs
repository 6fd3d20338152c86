//! The arithmetic of promptable segmentation: slices in, slices out. No tensor library.
//!
//! Images are channels-last (`[batch, height, width, channels]`), so that one pixel's channels are
//! neighbours in memory and every inner loop runs over them. Each kernel is compiled for several
//! instruction sets and picks one at run time; each is tested against a plain scalar oracle.
//! This is the only crate of the project that may contain `unsafe`.

#![allow(
    clippy::inline_always,
    reason = "helpers must be compiled for the instruction set of the kernel that calls them"
)]

pub mod activation;
pub mod denormals;
pub mod depthwise;
pub mod layer_norm;
