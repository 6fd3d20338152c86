//! What follows a matmul.

use crate::activation::Activation;

/// What follows a matmul, element by element and in this order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Added to every row.
    pub bias: Option<&'a [f32]>,
    /// Applied to the sum.
    pub activation: Activation,
    /// Added last; in the shape of the result.
    pub residual: Option<&'a [f32]>,
}

impl Epilogue<'_> {
    /// The epilogue of a part of the result.
    pub(super) fn at(&self, start: usize, length: usize) -> Self {
        let residual = self.residual.map(|r| &r[start..start + length]);
        Self { residual, ..*self }
    }
}
