//! The operations that carry the weight of every model here: linear + activation, layer norm
//! and attention. All models go through these, so that a faster implementation has one door.

#[cfg(feature = "flex")]
mod fused;

#[cfg(feature = "flex")]
use burn::backend::Dispatch;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::module::conv2d;
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Device, Tensor, activation};
use samara_kernels::activation::Rectifier;
use samara_kernels::depthwise::Depthwise;

/// Activation applied to the result of [`linear`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The result as it is.
    Identity,
    /// max(0, x).
    Relu,
    /// min(max(0, x), 6).
    Relu6,
    /// x · Φ(x), with the exact error function (not the tanh approximation).
    Gelu,
}

impl Activation {
    /// Applies the activation element by element.
    pub fn apply<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Identity => x,
            Self::Relu => activation::relu(x),
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::Gelu => activation::gelu(x),
        }
    }
}

/// `activation(x · W + b)` over the last axis: `[.., d_in]` → `[.., d_out]`.
pub fn linear<const D: usize>(x: Tensor<D>, layer: &Linear, activation: Activation) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let (Some(rectifier), Some(bias), true) =
        (activation.rectifier(), &layer.bias, is_flex(&x.device()))
    {
        let mut dims = x.dims();
        let rows = x.reshape([-1, dims[D - 1] as i32]);
        dims[D - 1] = layer.weight.dims()[1];
        let y = <Dispatch as fused::FusedOps>::fused_linear(
            rows.into_dispatch(),
            layer.weight.val().into_dispatch(),
            bias.val().into_dispatch(),
            rectifier,
        );
        return Tensor::<2>::from_dispatch(y).reshape(dims);
    }
    activation.apply(layer.forward(x))
}

/// The epsilon of PyTorch's layer norm, and of Burn's.
pub const LAYER_NORM_EPSILON: f64 = 1e-5;

/// Layer norm over the last axis, any rank. `epsilon` must be the layer's own, which it does not
/// tell.
pub fn layer_norm<const D: usize>(x: Tensor<D>, layer: &LayerNorm, epsilon: f64) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let (Some(beta), true) = (&layer.beta, is_flex(&x.device())) {
        let y = <Dispatch as fused::FusedOps>::fused_layer_norm(
            x.into_dispatch(),
            layer.gamma.val().into_dispatch(),
            beta.val().into_dispatch(),
            epsilon,
        );
        return Tensor::from_dispatch(y);
    }
    let _ = epsilon;
    layer.forward(x)
}

/// Depthwise convolution of a channels-last image with `SAME` padding.
///
/// `x` is `[batch, height, width, channels]` with an input that is square when the stride is not
/// 1, `weight` `[kernel², channels]`, `bias` `[channels]`.
pub fn depthwise(
    x: Tensor<4>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    stride: usize,
    activation: Activation,
) -> Tensor<4> {
    let kernel = weight.dims()[0].isqrt();
    let shape = Depthwise::same(x.dims(), kernel, stride);
    #[cfg(feature = "flex")]
    if let (Some(rectifier), true) = (activation.rectifier(), is_flex(&x.device())) {
        return Tensor::from_dispatch(<Dispatch as fused::FusedOps>::fused_depthwise(
            x.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            shape,
            rectifier,
        ));
    }
    let channels = shape.channels;
    let after = |size: usize, out: usize| {
        (((out - 1) * stride + kernel).saturating_sub(size)).saturating_sub(shape.pad)
    };
    let padded = x.permute([0, 3, 1, 2]).pad(
        [
            (0, 0),
            (0, 0),
            (shape.pad, after(shape.height, shape.out_height)),
            (shape.pad, after(shape.width, shape.out_width)),
        ],
        PadMode::Constant(0.0),
    );
    let weight = weight
        .swap_dims(0, 1)
        .reshape([channels, 1, kernel, kernel]);
    let options = ConvOptions::new([stride, stride], [0, 0], [1, 1], channels);
    let y = conv2d(padded, weight, Some(bias), options);
    activation.apply(y.permute([0, 2, 3, 1]))
}

/// True for a tensor of the CPU backend, which has fused kernels.
fn is_flex(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    return matches!(
        device.as_dispatch().clone().inner(),
        burn::backend::DispatchDevice::Flex(_)
    );
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}

impl Activation {
    /// The activation as the fused kernels know it.
    fn rectifier(self) -> Option<Rectifier> {
        match self {
            Self::Identity => Some(Rectifier::Identity),
            Self::Relu => Some(Rectifier::Relu),
            Self::Relu6 => Some(Rectifier::Relu6),
            Self::Gelu => None,
        }
    }
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
    /// `q · h[y, y'] + q · w[x, x']`, with the **unscaled** query.
    Decomposed {
        /// Row embeddings `[query rows, key rows, head_dim]`.
        h: Tensor<3>,
        /// Column embeddings `[query columns, key columns, head_dim]`.
        w: Tensor<3>,
    },
}

/// Largest number of attention scores held at once: 64 MB of `f32`, which keeps a global block
/// on 64×64 tokens (16.7 M scores a head) at one head at a time.
const MAX_SCORES: usize = 1 << 24;

/// Multi-head attention `softmax(scale · q kᵀ + bias) v`.
///
/// `q` is `[batch, heads, queries, head_dim]`, `k` and `v` are `[batch, heads, keys, head_dim]`;
/// the result has the shape of `q`. Heads are processed in groups of at most 16.7 million scores,
/// so memory stays bounded whatever the batch.
pub fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    scale: f64,
    bias: &AttentionBias,
) -> Tensor<4> {
    let [batch, heads, queries, head_dim] = q.dims();
    let keys = k.dims()[2];
    let flat = batch * heads;
    let q = q.reshape([flat, queries, head_dim]);
    let k = k.reshape([flat, keys, head_dim]);
    let v = v.reshape([flat, keys, head_dim]);

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
    Tensor::cat(parts, 0).reshape([batch, heads, queries, head_dim])
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
