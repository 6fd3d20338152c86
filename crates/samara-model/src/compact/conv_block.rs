//! The convolution block of `compact`: a wide depthwise window, then a feed-forward per pixel
//! (ConvNeXt, Liu et al. 2022, with ReLU).

use burn::module::{Module, Param};
use burn::nn::{Initializer, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use samara_kernels::depthwise::Depthwise;

use crate::ops::{self, Activation, LAYER_NORM_EPSILON};

/// `x + pwconv2(relu(pwconv1(norm(dwconv(x)))))` over channels-last images.
#[derive(Module, Debug)]
pub(super) struct ConvBlock {
    dwconv: DepthwiseConv,
    norm: LayerNorm,
    pwconv1: Linear,
    pwconv2: Linear,
}

impl ConvBlock {
    /// A block for `dim` channels with a window of `kernel`² pixels and `hidden` channels in its
    /// feed-forward.
    pub(super) fn new(dim: usize, kernel: usize, hidden: usize, device: &Device) -> Self {
        Self {
            dwconv: DepthwiseConv::new(dim, kernel, device),
            norm: LayerNormConfig::new(dim).init(device),
            pwconv1: LinearConfig::new(dim, hidden).init(device),
            pwconv2: LinearConfig::new(hidden, dim).init(device),
        }
    }

    /// `[batch, height, width, dim]` → the same shape.
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mixed = self.dwconv.forward(x.clone(), 1, Activation::Identity);
        let (norm, layers) = (
            (&self.norm, LAYER_NORM_EPSILON),
            [&self.pwconv1, &self.pwconv2],
        );
        ops::feed_forward(mixed, norm, layers, Activation::Relu, x)
    }
}

/// A depthwise convolution with `SAME` padding.
#[derive(Module, Debug)]
pub(super) struct DepthwiseConv {
    /// `[kernel², channels]`.
    pub(super) weight: Param<Tensor<2>>,
    /// `[channels]`.
    pub(super) bias: Param<Tensor<1>>,
}

impl DepthwiseConv {
    pub(super) fn new(channels: usize, kernel: usize, device: &Device) -> Self {
        let bound = 1.0 / kernel as f64;
        let uniform = Initializer::Uniform {
            min: -bound,
            max: bound,
        };
        Self {
            weight: uniform.init([kernel * kernel, channels], device),
            bias: Initializer::Zeros.init([channels], device),
        }
    }

    pub(super) fn forward(&self, x: Tensor<4>, stride: usize, activation: Activation) -> Tensor<4> {
        let weight = self.weight.val();
        let shape = Depthwise::same(x.dims(), weight.dims()[0].isqrt(), stride);
        ops::depthwise(x, weight, self.bias.val(), shape, activation)
    }
}
