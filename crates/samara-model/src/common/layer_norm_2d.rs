//! Layer norm over the channels of an image.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::ops;

/// Normalises every pixel of `[batch, channels, height, width]` over its channels
/// (`segment_anything/modeling/common.py`).
#[derive(Module, Debug)]
pub struct LayerNorm2d {
    /// Scale per channel.
    pub weight: Param<Tensor<1>>,
    /// Shift per channel.
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    epsilon: f64,
}

impl LayerNorm2d {
    /// The epsilon of the official code.
    pub const EPSILON: f64 = 1e-6;

    /// A layer for `channels` channels, with unit scale and no shift.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            weight: Initializer::Ones.init([channels], device),
            bias: Initializer::Zeros.init([channels], device),
            epsilon: Self::EPSILON,
        }
    }

    /// `[.., channels]`, such as `[batch, height, width, channels]`, → the same shape.
    pub fn forward_channels_last<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        ops::normalise(x, self.weight.val(), self.bias.val(), self.epsilon)
    }

    /// `[batch, channels, height, width]` → the same shape.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let channels = x.dims()[1];
        let centred = x.clone() - x.mean_dim(1);
        let variance = (centred.clone() * centred.clone()).mean_dim(1);
        let normed = centred / (variance + self.epsilon).sqrt();
        let per_channel = |p: &Param<Tensor<1>>| p.val().reshape([1, channels, 1, 1]);
        normed * per_channel(&self.weight) + per_channel(&self.bias)
    }
}
