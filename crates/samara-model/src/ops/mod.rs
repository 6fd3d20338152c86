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

mod activation;
mod attention;
mod backend;
mod bottleneck;
mod convolution;
mod cross_attention;
mod feed_forward;
#[cfg(feature = "flex")]
mod fused;
mod layer_values;
mod linear;
mod memory_attention;
mod norm;
mod observed;
mod pooled_attention;
mod pooling;
mod precision;
mod upscaling;
mod values;
mod weight;

use burn::tensor::{Int, Tensor};
use samara_kernels::position;

pub use activation::Activation;
pub use attention::{AttentionBias, GridAttention, QkvLayout, attention, projected_padding};
pub use backend::is_cpu;
pub use bottleneck::Bottleneck;
pub use convolution::{Conv2d, Convolution, conv2d, depthwise};
pub use cross_attention::{
    CrossAttention, ProjectedImage, image_to_tokens, token_weights, tokens_to_image,
};
pub use feed_forward::{feed_forward, linear_of_norm};
pub use linear::{Linear, linear, linear_add};
pub use memory_attention::{Rope, attention_to_memories};
pub use norm::{LAYER_NORM_EPSILON, NormLayer, layer_norm, normalise};
pub use observed::observe_norms;
pub use pooled_attention::PooledAttention;
pub use pooling::{max_pool, upsample_nearest};
pub use precision::Precision;
pub(crate) use precision::weights;
pub use upscaling::{Upscaling, upscale_masks};
use values::{Values, tensor};
pub use weight::Weight;

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
