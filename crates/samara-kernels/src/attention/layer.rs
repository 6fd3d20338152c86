//! What an attention layer is, without its projections.

use crate::precision::Precision;

/// What is added to the scores.
#[derive(Debug, Clone, Copy)]
pub enum Bias<'a> {
    /// Nothing.
    None,
    /// `[heads, queries, keys]`, shared by all sequences.
    Table(&'a [f32]),
    /// Decomposed relative position (SAM's ViT) on a grid of `rows` × `columns` tokens: the bias of
    /// query (y, x) to key (y', x') is `q · h[y − y' + rows − 1] + q · w[x − x' + columns − 1]`.
    Decomposed {
        /// Rows of the grid.
        rows: usize,
        /// Columns of the grid.
        columns: usize,
        /// `[2 · rows − 1, head_dim]`.
        h: &'a [f32],
        /// `[2 · columns − 1, head_dim]`.
        w: &'a [f32],
    },
}

/// An attention layer without its projections.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Heads.
    pub heads: usize,
    /// Width of a query and a key of one head.
    pub head_dim: usize,
    /// Width of a value of one head.
    pub value_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Added to the scaled scores.
    pub bias: Bias<'a>,
    /// The numbers of its two matmuls: `f32`, or bf16 for all others. The softmax is `f32`.
    pub precision: Precision,
    /// Key and value of a padding token, `[heads, head_dim]` and `[heads, value_dim]` with the
    /// head strides of `k` and `v`. Needed for windows that reach over the edge.
    pub padding: Option<(&'a [f32], &'a [f32])>,
}
