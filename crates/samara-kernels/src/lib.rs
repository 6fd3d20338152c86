//! Kernels: slices in, slices out.
