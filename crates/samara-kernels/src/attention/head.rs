//! Keys and values of one head of one sequence in the order in which they are read.

use super::layer::Attention;
use super::sequences::Tokens;
use crate::gemm::{Right, shape};
use crate::isa::Isa;

/// The right sides of the two products of one head, in buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Number of keys.
    pub length: usize,
    /// The transposed keys, `[head_dim, length]` in panels. The columns behind the last key hold
    /// anything.
    keys: Vec<f32>,
    /// `[length, value_dim]` in panels.
    values: Vec<f32>,
}

impl Head {
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
        self.length = length;
        self.keys
            .resize(length.next_multiple_of(panel) * depth, 0.0);
        self.values
            .resize(width.next_multiple_of(panel) * length, 0.0);
        let panels = self.keys.chunks_exact_mut(depth * panel);
        for (out, tokens) in panels.zip(tokens.chunks(panel)) {
            for (i, token) in tokens.iter().enumerate() {
                let key = row(k, padding.0, *token, head, depth);
                let column = out[i..].iter_mut().step_by(panel);
                column.zip(key).for_each(|(out, x)| *out = *x);
            }
        }
        for (place, token) in tokens.iter().enumerate() {
            let value = row(v, padding.1, *token, head, width);
            for (part, out) in value
                .chunks(panel)
                .zip(self.values.chunks_exact_mut(length * panel))
            {
                out[place * panel..][..part.len()].copy_from_slice(part);
            }
        }
    }

    /// The transposed keys, with columns up to a whole panel.
    pub(super) fn keys(&self, isa: Isa, depth: usize) -> Right<'_> {
        let columns = self.length.next_multiple_of(shape(isa).1);
        Right::from_panels(isa, &self.keys, depth, columns)
    }

    /// The values.
    pub(super) fn values(&self, isa: Isa, columns: usize) -> Right<'_> {
        Right::from_panels(isa, &self.values, self.length, columns)
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
