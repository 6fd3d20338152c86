//! Keys and values of one head of one sequence in the order in which they are read.

use super::layer::Attention;
use super::sequences::Tokens;
use crate::gemm::{Aligned, Float, Side, shape};
use crate::isa::Isa;

/// The right sides of the two products of one head, in buffers that are used again.
#[derive(Debug)]
pub(super) struct Head<F: Float> {
    /// Number of keys.
    pub length: usize,
    /// The transposed keys, `[head_dim, length]` in panels. The columns behind the last key hold
    /// anything.
    keys: Aligned<F::Lane>,
    /// `[length, value_dim]` in panels.
    values: Aligned<F::Lane>,
    /// A key.
    column: Aligned<F::Lane>,
}

impl<F: Float> Default for Head<F> {
    fn default() -> Self {
        Self {
            length: 0,
            keys: Aligned::new(),
            values: Aligned::new(),
            column: Aligned::new(),
        }
    }
}

impl<F: Float> Head<F> {
    /// Packs keys and values of `tokens`; `None` is padding.
    pub(super) fn pack(
        &mut self,
        isa: Isa,
        attention: &Attention<'_>,
        head: usize,
        tokens: &[Option<usize>],
        [k, v]: [Tokens<'_>; 2],
    ) {
        let (length, panel) = (tokens.len(), shape(isa).1);
        let [depth, width] = [attention.head_dim, attention.value_dim];
        let padding = attention.padding.unwrap_or_default();
        let [key_steps, value_steps] = [depth, length].map(|n| n.div_ceil(F::VALUES));
        self.length = length;
        self.keys.resize(length.next_multiple_of(panel) * key_steps);
        self.values
            .resize(width.next_multiple_of(panel) * value_steps);
        let panels = self.keys.chunks_exact_mut(key_steps * panel);
        for (out, tokens) in panels.zip(tokens.chunks(panel)) {
            for (i, token) in tokens.iter().enumerate() {
                let key = row(k, padding.0, *token, head, depth);
                let out = out[i..].iter_mut().step_by(panel);
                F::column(isa, key, &mut self.column, out);
            }
        }
        for (step, tokens) in tokens.chunks(F::VALUES).enumerate() {
            let value = |token: &Option<usize>| row(v, padding.1, *token, head, width);
            let rows = (value(&tokens[0]), tokens.get(1).map(value));
            F::step(isa, rows, step..value_steps, &mut self.values);
        }
    }

    /// The transposed keys, with columns up to a whole panel.
    pub(super) fn keys(&self, isa: Isa, depth: usize) -> Side<'_, F> {
        let columns = self.length.next_multiple_of(shape(isa).1);
        Side::from_panels(isa, &self.keys, depth, columns)
    }

    /// The values.
    pub(super) fn values(&self, isa: Isa, columns: usize) -> Side<'_, F> {
        Side::from_panels(isa, &self.values, self.length, columns)
    }
}

/// The values of one head of a token or of padding.
#[inline]
fn row<'a>(
    tokens: Tokens<'a>,
    padding: &'a [f32],
    token: Option<usize>,
    head: usize,
    length: usize,
) -> &'a [f32] {
    match token {
        Some(token) => tokens.get(token, head, length),
        None => &padding[head * tokens.head_stride..][..length],
    }
}
