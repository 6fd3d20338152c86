//! Attention whose queries are pooled: the grid halves, and each window with it.

use burn::tensor::Tensor;
use samara_kernels::attention::{Attention, Bias, Sequences, Tokens};
use samara_kernels::memory;
use samara_kernels::pool::max_pool as max_pool_kernel;

use super::attention::{GridAttention, attention};
use super::max_pool;
use super::values::{Values, tensor};
use crate::common::{window_partition, window_unpartition};

/// [`GridAttention`] with queries pooled over squares of four tokens, by their largest value (Hiera).
/// The side of the windows is even; bias and layout are `None` and `ByPart`.
#[derive(Debug, Clone)]
pub struct PooledAttention(pub GridAttention);

impl PooledAttention {
    /// Projected tokens `[batch, height, width, 3 · dim]` → `[batch, height / 2, width / 2, dim]`;
    /// `padding` as in [`GridAttention::forward`].
    pub fn forward(&self, qkv: Tensor<4>, padding: Tensor<1>) -> Tensor<4> {
        self.with_kernel(&qkv, &padding).unwrap_or_else(|| {
            let q = qkv.clone().narrow(3, 0, qkv.dims()[3] / 3);
            self.composed(max_pool(q), qkv, padding)
        })
    }

    fn with_kernel(&self, qkv: &Tensor<4>, padding: &Tensor<1>) -> Option<Tensor<4>> {
        let (dims @ [batch, height, width, triple], device) = (qkv.dims(), qkv.device());
        let shape = [batch, height / 2, width / 2, triple / 3];
        let queries = sequences(shape, self.0.window / 2);
        let keys = sequences(dims, self.0.window);
        let qkv = Values::of(qkv.clone())?;
        let padding = Values::of(padding.clone())?;
        let padding = padding.as_slice();
        let mut q = memory::zeros(shape.iter().product());
        max_pool_kernel(qkv.as_slice(), width, triple, shape[3], &mut q);
        let (dim, head_dim) = (shape[3], shape[3] / self.0.heads);
        let attention = Attention {
            heads: self.0.heads,
            head_dim,
            value_dim: head_dim,
            scale: (head_dim as f32).powf(-0.5),
            bias: Bias::None,
            precision: self.0.precision,
            padding: Some((&padding[dim..], &padding[2 * dim..])),
        };
        let tokens = |values, token_stride| Tokens {
            values,
            token_stride,
            head_stride: head_dim,
        };
        let sides = [1, 2].map(|part| tokens(&qkv.as_slice()[part * dim..], 3 * dim));
        let mut out = memory::zeros(queries.tokens() * dim);
        attention.forward(tokens(&q, dim), queries, sides, keys, &mut out);
        Some(tensor(out, shape, &device))
    }

    fn composed(&self, q: Tensor<4>, qkv: Tensor<4>, padding: Tensor<1>) -> Tensor<4> {
        let shape @ [_, height, width, dim] = q.dims();
        let flat = |x: Tensor<4>| {
            let [count, height, width, channels] = x.dims();
            x.reshape([count, height * width, channels])
        };
        let part = |kv: &Tensor<3>, part: usize| kv.clone().narrow(2, part * dim, dim);
        let (heads, precision) = (self.0.heads, self.0.precision);
        let attend = |q, kv: &Tensor<3>| attention(q, part(kv, 1), part(kv, 2), heads, precision);
        let window = self.0.window;
        if window == 0 {
            let kv = flat(qkv);
            let out = attend(flat(q), &kv);
            return out.reshape(shape);
        }
        // Windows are filled up with zeros, so the padding is taken off and put back.
        let padding = padding.reshape([1, 1, 1, 3 * dim]);
        let kv = flat(window_partition(qkv - padding.clone(), window) + padding);
        let q = window_partition(q, window / 2);
        let windows = q.dims();
        let out = attend(flat(q), &kv);
        window_unpartition(out.reshape(windows), height, width)
    }
}

/// The windows of a grid, or all of it.
fn sequences([batch, height, width, _]: [usize; 4], window: usize) -> Sequences {
    if window == 0 {
        Sequences::Whole {
            count: batch,
            length: height * width,
        }
    } else {
        Sequences::Windows {
            count: batch,
            height,
            width,
            window,
        }
    }
}
