//! The operations that carry the weight of every model here. All models go through these, so that
//! a faster implementation has one door.
//!
//! An operation has up to three forms. On the CPU, outside of training, it is a kernel of
//! `samara-kernels`. In training on the CPU, what the models spend most of their time on are fused ones
//! with their gradients (`fused.rs`). Everything else takes the composed form in Burn's operations.
//!
//! Linear layers and convolutions are modules of our own, as the kernels of inference want their weights
//! packed ([`Weight`]). A layer whose weight a kernel reads as it is (`two_way`, upscaling) asks for
//! [`Weight::val`] and stays as it is.

mod attention;
mod bottleneck;
mod convolution;
mod cross_attention;
mod feed_forward;
#[cfg(feature = "flex")]
mod fused;
mod linear;
mod memory_attention;
mod pooled_attention;
mod pooling;
mod upscaling;
mod values;
mod weight;

#[cfg(feature = "flex")]
use burn::backend::Dispatch;
use burn::nn::LayerNorm;
use burn::tensor::{Device, Int, Tensor, activation};
use samara_kernels::activation::{self as kernel, Rectifier};
use samara_kernels::position;

pub use attention::{AttentionBias, GridAttention, QkvLayout, attention, projected_padding};
pub use bottleneck::{Bottleneck, Convolution};
pub use convolution::{Conv2d, conv2d, depthwise};
pub use cross_attention::{
    CrossAttention, ProjectedImage, image_to_tokens, token_weights, tokens_to_image,
};
pub use feed_forward::{NormLayer, feed_forward, linear_of_norm};
pub use linear::{Linear, linear, linear_add};
pub use memory_attention::{Rope, attention_to_memories};
pub use pooled_attention::PooledAttention;
pub use pooling::{max_pool, upsample_nearest};
pub use upscaling::{Upscaling, upscale_masks};
use values::{Values, tensor};
pub use weight::Weight;

/// Activation applied to the result of [`linear`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The result as it is.
    Identity,
    /// max(0, x).
    Relu,
    /// x · Φ(x), with the exact error function (not the tanh approximation).
    Gelu,
}

impl Activation {
    /// Applies the activation element by element.
    pub fn apply<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Identity => x,
            Self::Relu => activation::relu(x),
            Self::Gelu => gelu(x),
        }
    }
}

fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if is_cpu(&x.device()) {
        let y = <Dispatch as fused::FusedOps>::fused_gelu(x.into_dispatch());
        return Tensor::from_dispatch(y);
    }
    activation::gelu(x)
}

/// The epsilon of PyTorch's layer norm, and of Burn's.
pub const LAYER_NORM_EPSILON: f64 = 1e-5;

/// Layer norm over the last axis, any rank. `epsilon` must be the layer's own, which it does not
/// tell.
pub fn layer_norm<const D: usize>(x: Tensor<D>, layer: &LayerNorm, epsilon: f64) -> Tensor<D> {
    match &layer.beta {
        Some(beta) => normalise(x, layer.gamma.val(), beta.val(), epsilon),
        None => layer.forward(x),
    }
}

/// `(x − mean) / √(variance + epsilon) · gamma + beta` over the last axis.
pub fn normalise<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if is_cpu(&x.device()) {
        let y = <Dispatch as fused::FusedOps>::fused_layer_norm(
            x.into_dispatch(),
            gamma.into_dispatch(),
            beta.into_dispatch(),
            epsilon,
        );
        return Tensor::from_dispatch(y);
    }
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = (centred.clone() * centred.clone()).mean_dim(D - 1);
    centred / (variance + epsilon).sqrt() * gamma.unsqueeze() + beta.unsqueeze()
}

/// The rows of the first axis at these positions, which may be all of them.
pub(crate) fn select_rows<const D: usize>(x: Tensor<D>, rows: &[usize]) -> Tensor<D> {
    if rows.iter().copied().eq(0..x.dims()[0]) {
        return x;
    }
    let rows: Vec<i32> = rows.iter().map(|&i| i as i32).collect();
    let rows = Tensor::<1, Int>::from_ints(&rows[..], &x.device());
    x.select(0, rows)
}

/// The positional encoding of a grid by a kernel, where there is one; see
/// [`common`](crate::common).
pub(crate) fn fourier_grid(frequencies: &Tensor<2>, grid: usize) -> Option<Tensor<3>> {
    let ([_, n], device) = (frequencies.dims(), frequencies.device());
    let frequencies = Values::of(frequencies.clone())?;
    let cells = position::fourier_grid(frequencies.as_slice(), grid, grid);
    Some(tensor(cells, [1, grid * grid, 2 * n], &device))
}

/// True for the CPU backend, which has kernels of our own.
pub fn is_cpu(device: &Device) -> bool {
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
            Self::Gelu => None,
        }
    }

    /// The activation as the kernels of inference know it.
    fn kernel(self) -> kernel::Activation {
        self.rectifier()
            .map_or(kernel::Activation::Gelu, kernel::Activation::Rectifier)
    }
}
