//! Attention of tokens to each other.

use burn::tensor::{Int, Tensor, activation};
use samara_kernels::attention::{Attention, Bias, Sequences, Tokens};
use samara_kernels::memory;

use super::values::{Values, tensor};
use super::{Linear, Precision};
use crate::common::{window_partition, window_unpartition};

/// Multi-head attention `softmax(q kᵀ / √head_dim) v`: `q` `[batch, queries, heads · head_dim]`,
/// `k` `[batch, keys, heads · head_dim]`, `v` `[batch, keys, heads · value_dim]`; gives
/// `[batch, queries, heads · value_dim]`.
pub fn attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    heads: usize,
    precision: Precision,
) -> Tensor<3> {
    let [batch, queries, width] = q.dims();
    let [_, keys, values] = v.dims();
    let device = q.device();
    let sides = [&q, &k, &v].map(|x| Values::of(x.clone()));
    if let [Some(q), Some(k), Some(v)] = &sides {
        let attention = Attention {
            heads,
            head_dim: width / heads,
            value_dim: values / heads,
            scale: (width as f32 / heads as f32).powf(-0.5),
            bias: Bias::None,
            precision,
            padding: None,
        };
        let tokens = |x, width| Tokens {
            values: Values::as_slice(x),
            token_stride: width,
            head_stride: width / heads,
        };
        let (q, k, v) = (tokens(q, width), tokens(k, width), tokens(v, values));
        let whole = |length| Sequences::Whole {
            count: batch,
            length,
        };
        let mut out = memory::zeros(batch * queries * values);
        attention.forward(q, whole(queries), [k, v], whole(keys), &mut out);
        return tensor(out, [batch, queries, values], &device);
    }
    let split = |x: Tensor<3>| {
        let [batch, n, width] = x.dims();
        x.reshape([batch, n, heads, width / heads]).swap_dims(1, 2)
    };
    composed(split(q), split(k), split(v), &AttentionBias::None)
        .swap_dims(1, 2)
        .reshape([batch, queries, values])
}

/// What is added to the attention scores before the softmax.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one lives per attention call")]
pub enum AttentionBias {
    /// Nothing.
    None,
    /// One table per head, shared by the batch: `[heads, queries, keys]` (TinyViT).
    Table(Tensor<3>),
    /// Decomposed relative position (SAM's ViT): the bias of query (y, x) to key (y', x') is
    /// `q · h[y − y' + rows − 1] + q · w[x − x' + columns − 1]`, with the **unscaled** query.
    Decomposed {
        /// Row embeddings `[2 · rows − 1, head_dim]`.
        h: Tensor<2>,
        /// Column embeddings `[2 · columns − 1, head_dim]`.
        w: Tensor<2>,
    },
}

/// Where query, key and value of a head lie in the result of one projection to all three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkvLayout {
    /// `[3, heads, head_dim]`: the queries of all heads, then the keys, then the values.
    ByPart,
    /// `[heads, 3, head_dim]`: query, key and value of one head side by side.
    ByHead,
}

/// Self-attention on a grid of tokens, over the whole grid or in square windows.
#[derive(Debug, Clone)]
pub struct GridAttention {
    /// Heads.
    pub heads: usize,
    /// Side of a window in tokens; 0 is the whole grid.
    pub window: usize,
    /// Order of the projected tokens.
    pub layout: QkvLayout,
    /// Added to the scores of a window, or of the grid.
    pub bias: AttentionBias,
    /// The numbers of its matmuls.
    pub precision: Precision,
}

/// The projection of a padded token. Padding comes after the norm, so the token is a zero vector and
/// what is left is the bias, `[d_out]`.
pub fn projected_padding(layer: &Linear) -> Tensor<1> {
    match &layer.bias {
        Some(bias) => bias.val(),
        None => Tensor::zeros([layer.weight.dims()[1]], &layer.weight.device()),
    }
}

impl GridAttention {
    /// Projected tokens `[batch, height, width, 3 · dim]` → `[batch, height, width, dim]`.
    ///
    /// `padding` `[3 · dim]` is the projection of the token that fills up windows which reach over
    /// the edge. It takes part in attention, as in the official code, but is projected only once.
    pub fn forward(&self, qkv: Tensor<4>, padding: Tensor<1>) -> Tensor<4> {
        self.forward_with_kernel(&qkv, &padding)
            .unwrap_or_else(|| self.forward_composed(qkv, padding))
    }

    fn forward_with_kernel(&self, qkv: &Tensor<4>, padding: &Tensor<1>) -> Option<Tensor<4>> {
        let [batch, height, width, triple] = qkv.dims();
        let (dim, head_dim) = (triple / 3, triple / 3 / self.heads);
        let device = qkv.device();
        let (qkv, padding) = (Values::of(qkv.clone())?, Values::of(padding.clone())?);
        let (first, second) = match &self.bias {
            AttentionBias::None => (None, None),
            AttentionBias::Table(table) => (Some(Values::of(table.clone())?), None),
            AttentionBias::Decomposed { h, w } => {
                (Some(Values::of(h.clone())?), Some(Values::of(w.clone())?))
            }
        };
        let (rows, columns, sequences) = match self.window {
            0 => (
                height,
                width,
                Sequences::Whole {
                    count: batch,
                    length: height * width,
                },
            ),
            window => (
                window,
                window,
                Sequences::Windows {
                    count: batch,
                    height,
                    width,
                    window,
                },
            ),
        };
        let bias = match (&first, &second) {
            (Some(table), None) => Bias::Table(table.as_slice()),
            (Some(h), Some(w)) => Bias::Decomposed {
                rows,
                columns,
                h: h.as_slice(),
                w: w.as_slice(),
            },
            _ => Bias::None,
        };
        let (part, head_stride) = match self.layout {
            QkvLayout::ByPart => (dim, head_dim),
            QkvLayout::ByHead => (head_dim, 3 * head_dim),
        };
        let [q, k, v] = [0, 1, 2].map(|i| Tokens {
            values: &qkv.as_slice()[i * part..],
            token_stride: triple,
            head_stride,
        });
        let padding = padding.as_slice();
        let attention = Attention {
            heads: self.heads,
            head_dim,
            value_dim: head_dim,
            scale: (head_dim as f32).powf(-0.5),
            bias,
            precision: self.precision,
            padding: Some((&padding[part..], &padding[2 * part..])),
        };
        let mut out = memory::zeros(sequences.tokens() * dim);
        attention.forward(q, sequences, [k, v], sequences, &mut out);
        Some(tensor(out, [batch, height, width, dim], &device))
    }

    fn forward_composed(&self, qkv: Tensor<4>, padding: Tensor<1>) -> Tensor<4> {
        let [batch, height, width, triple] = qkv.dims();
        let (dim, head_dim) = (triple / 3, triple / 3 / self.heads);
        let windows = if self.window == 0 {
            qkv.reshape([batch, height * width, triple])
        } else {
            // Windows are filled up with zeros, so the padding is taken off and put back.
            let padding = padding.reshape([1, 1, 1, triple]);
            let windows = window_partition(qkv - padding.clone(), self.window) + padding;
            windows.reshape([0, (self.window * self.window) as i32, triple as i32])
        };
        let [count, length, _] = windows.dims();
        let qkv = match self.layout {
            QkvLayout::ByPart => windows
                .reshape([count, length, 3, self.heads, head_dim])
                .permute([2, 0, 3, 1, 4]),
            QkvLayout::ByHead => windows
                .reshape([count, length, self.heads, 3, head_dim])
                .permute([3, 0, 2, 1, 4]),
        };
        let [q, k, v] = [0, 1, 2].map(|i| qkv.clone().slice(i..i + 1).squeeze_dim::<4>(0));
        let out = composed(q, k, v, &self.bias).swap_dims(1, 2);
        if self.window == 0 {
            return out.reshape([batch, height, width, dim]);
        }
        let out = out.reshape([count, self.window, self.window, dim]);
        window_unpartition(out, height, width)
    }
}

/// Largest number of attention scores held at once: 64 MB of `f32`, which keeps a global block
/// on 64×64 tokens (16.7 M scores a head) at one head at a time.
const MAX_SCORES: usize = 1 << 24;

/// `softmax(q kᵀ / √head_dim + bias) v` in tensor operations: `q` is
/// `[batch, heads, queries, head_dim]`, `k` and `v` are `[batch, heads, keys, ..]`; the result is
/// `[batch, heads, queries, value_dim]`. Heads are processed in groups of at most 16.7 million scores, so
/// memory stays bounded whatever the batch.
fn composed(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: &AttentionBias) -> Tensor<4> {
    let [batch, heads, queries, head_dim] = q.dims();
    let [_, _, keys, value_dim] = v.dims();
    let scale = (head_dim as f64).powf(-0.5);
    let flat = batch * heads;
    let q = q.reshape([flat, queries, head_dim]);
    let k = k.reshape([flat, keys, head_dim]);
    let v = v.reshape([flat, keys, value_dim]);

    // A table is shared by the batch, so a group of heads must not straddle two batch entries
    // unless it covers whole entries.
    let fitting = (MAX_SCORES / (queries * keys).max(1)).clamp(1, flat);
    let group = match bias {
        AttentionBias::Table(_) if fitting >= heads => fitting / heads * heads,
        AttentionBias::Table(_) => 1,
        _ => fitting,
    };
    let parts = (0..flat)
        .step_by(group)
        .map(|start| {
            let end = (start + group).min(flat);
            let part = |x: &Tensor<3>| x.clone().slice(start..end);
            let (q, k, v) = (part(&q), part(&k), part(&v));
            let scores = q.clone().mul_scalar(scale).matmul(k.swap_dims(1, 2));
            let scores = add_bias(scores, q, bias, start % heads);
            activation::softmax(scores, 2).matmul(v)
        })
        .collect();
    Tensor::cat(parts, 0).reshape([batch, heads, queries, value_dim])
}

/// Adds `bias` to the scores `[n, queries, keys]` of `n` heads, the first of which is `head`.
fn add_bias(scores: Tensor<3>, q: Tensor<3>, bias: &AttentionBias, head: usize) -> Tensor<3> {
    let [n, queries, keys] = scores.dims();
    match bias {
        AttentionBias::None => scores,
        AttentionBias::Table(table) => {
            let heads = table.dims()[0];
            if n < heads {
                return scores + table.clone().slice(head..head + n);
            }
            let scores = scores.reshape([n / heads, heads, queries, keys]);
            (scores + table.clone().unsqueeze::<4>()).reshape([n, queries, keys])
        }
        AttentionBias::Decomposed { h, w } => {
            let (h, w) = (distances(h), distances(w));
            let [q_h, k_h, head_dim] = h.dims();
            let [q_w, k_w, _] = w.dims();
            let q = q.reshape([n, q_h, q_w, head_dim]);
            // rel_h[n, y, x, y'] = q[n, y, x] · h[y, y']
            let rel_h = q.clone().matmul(h.clone().swap_dims(1, 2).unsqueeze::<4>());
            // rel_w[n, y, x, x'] = q[n, y, x] · w[x, x']
            let rel_w = q
                .swap_dims(1, 2)
                .matmul(w.clone().swap_dims(1, 2).unsqueeze::<4>())
                .swap_dims(1, 2);
            let scores = scores.reshape([n, q_h, q_w, k_h, k_w])
                + rel_h.unsqueeze_dim::<5>(4)
                + rel_w.unsqueeze_dim::<5>(3);
            scores.reshape([n, queries, keys])
        }
    }
}

/// The embedding of every (query, key) distance along one axis: `[2 · extent − 1, head_dim]` →
/// `[extent, extent, head_dim]`, entry (i, j) being row i − j + extent − 1.
fn distances(table: &Tensor<2>) -> Tensor<3> {
    let [rows, head_dim] = table.dims();
    let (extent, device) = (rows.div_ceil(2), table.device());
    let queries = Tensor::<1, Int>::arange(0..extent as i64, &device).reshape([extent, 1]);
    let keys = Tensor::<1, Int>::arange(0..extent as i64, &device).reshape([1, extent]);
    let index = (queries - keys + (extent as i64 - 1)).reshape([extent * extent]);
    table
        .clone()
        .select(0, index)
        .reshape([extent, extent, head_dim])
}
