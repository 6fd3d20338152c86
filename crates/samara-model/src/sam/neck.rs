//! The neck that turns encoder tokens into the image embedding.

use burn::config::Config;
use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2dConfig;
use burn::tensor::{Device, Tensor};

use crate::common::LayerNorm2d;
use crate::ops::{self, Activation, Conv2d};

/// Configuration of [`Neck`].
#[derive(Config, Debug)]
pub struct NeckConfig {
    /// Channels that come from the encoder.
    pub in_chans: usize,
    /// Channels of the image embedding.
    pub out_chans: usize,
}

impl NeckConfig {
    /// A neck with random weights.
    pub fn init(&self, device: &Device) -> Neck {
        Neck {
            conv1: Conv2dConfig::new([self.in_chans, self.out_chans], [1, 1])
                .with_bias(false)
                .init(device)
                .into(),
            norm1: LayerNorm2d::new(self.out_chans, device),
            conv2: Conv2dConfig::new([self.out_chans, self.out_chans], [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_bias(false)
                .init(device)
                .into(),
            norm2: LayerNorm2d::new(self.out_chans, device),
        }
    }
}

/// 1×1 convolution, norm, 3×3 convolution, norm (`neck.0` to `neck.3` in the official code).
#[derive(Module, Debug)]
pub struct Neck {
    conv1: Conv2d,
    norm1: LayerNorm2d,
    conv2: Conv2d,
    norm2: LayerNorm2d,
}

impl Neck {
    /// `[batch, grid, grid, in_chans]` → `[batch, grid, grid, out_chans]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let conv = |x, conv, pad| ops::conv2d(x, conv, [1, pad], Activation::Identity);
        let x = self.norm1.forward_channels_last(conv(x, &self.conv1, 0));
        self.norm2.forward_channels_last(conv(x, &self.conv2, 1))
    }
}
