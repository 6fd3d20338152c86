//! The numbers that kernels multiply.

/// The numbers that a matmul multiplies. Its sums and what follows it are `f32` whatever they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// `f32`.
    #[default]
    Fp32,
    /// Both sides in bf16, rounded to the nearest: 8 bits of precision and the range of `f32`.
    Bf16,
    /// The right side in integers from −127 to 127 with a scale for each column, the left side in integers
    /// from 0 to 255 with a scale and an offset for each row.
    Int8,
}
