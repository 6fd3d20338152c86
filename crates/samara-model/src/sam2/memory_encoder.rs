//! What SAM 2 remembers of a frame: its features and the object's mask, folded into a small map
//! (`sam2/modeling/memory_encoder.py`).

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::conv::{self, Conv2dConfig};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use samara_kernels::depthwise::Depthwise;

use crate::common::LayerNorm2d;
use crate::ops::{self, Activation, Conv2d, Linear};

/// Halvings from the mask's resolution to that of the image embedding.
const HALVINGS: usize = 4;
/// Side of the fuser's windows.
const WINDOW: usize = 7;

/// Configuration of [`MemoryEncoder`].
#[derive(Config, Debug)]
pub struct MemoryEncoderConfig {
    /// Channels of the image embedding.
    #[config(default = 256)]
    pub in_dim: usize,
    /// Channels of a memory.
    #[config(default = 64)]
    pub out_dim: usize,
    /// Blocks of the fuser.
    #[config(default = 2)]
    pub num_layers: usize,
}

impl MemoryEncoderConfig {
    /// An encoder with random weights.
    pub fn init(&self, device: &Device) -> MemoryEncoder {
        let conv = |from, to| Conv2dConfig::new([from, to], [1, 1]).init(device).into();
        let layers = (0..self.num_layers).map(|_| CxBlock::new(self.in_dim, device));
        MemoryEncoder {
            mask_downsampler: MaskDownSampler::new(self.in_dim, device),
            pix_feat_proj: conv(self.in_dim, self.in_dim),
            fuser: Fuser {
                layers: layers.collect(),
            },
            out_proj: conv(self.in_dim, self.out_dim),
        }
    }
}

/// Folds features and mask into a memory.
#[derive(Module, Debug)]
pub struct MemoryEncoder {
    mask_downsampler: MaskDownSampler,
    pix_feat_proj: Conv2d,
    fuser: Fuser,
    out_proj: Conv2d,
}

impl MemoryEncoder {
    /// Image embedding `[batch, grid, grid, in_dim]` and mask `[batch, 16 · grid, 16 · grid, 1]`, as
    /// the decoder's logits through sigmoid, scale and shift → `[batch, grid, grid, out_dim]`.
    pub fn forward(&self, image_embedding: Tensor<4>, mask: Tensor<4>) -> Tensor<4> {
        let x = conv(image_embedding, &self.pix_feat_proj, [1, 0]);
        let x = x + self.mask_downsampler.forward(mask);
        let x = self
            .fuser
            .layers
            .iter()
            .fold(x, |x, layer| layer.forward(x));
        conv(x, &self.out_proj, [1, 0])
    }
}

/// Convolutions that halve the mask and give it four times the channels, then one to the width of
/// the features.
#[derive(Module, Debug)]
struct MaskDownSampler {
    convs: Vec<Conv2d>,
    norms: Vec<LayerNorm2d>,
    proj: Conv2d,
}

impl MaskDownSampler {
    fn new(dim: usize, device: &Device) -> Self {
        let halving = |i: usize| {
            Conv2dConfig::new([4_usize.pow(i as u32), 4_usize.pow(i as u32 + 1)], [3, 3])
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device)
                .into()
        };
        let last = 4_usize.pow(HALVINGS as u32);
        Self {
            convs: (0..HALVINGS).map(halving).collect(),
            norms: (1..=HALVINGS)
                .map(|i| LayerNorm2d::new(4_usize.pow(i as u32), device))
                .collect(),
            proj: Conv2dConfig::new([last, dim], [1, 1]).init(device).into(),
        }
    }

    fn forward(&self, mask: Tensor<4>) -> Tensor<4> {
        let layers = self.convs.iter().zip(&self.norms);
        let x = layers.fold(mask, |x, (layer, norm)| {
            Activation::Gelu.apply(norm.forward_channels_last(conv(x, layer, [2, 1])))
        });
        conv(x, &self.proj, [1, 0])
    }
}

#[derive(Module, Debug)]
struct Fuser {
    layers: Vec<CxBlock>,
}

/// A `ConvNeXt` block: a depthwise window, a norm, a feed-forward per pixel, scaled.
#[derive(Module, Debug)]
struct CxBlock {
    dwconv: conv::Conv2d,
    norm: LayerNorm2d,
    pwconv1: Linear,
    pwconv2: Linear,
    gamma: Param<Tensor<1>>,
}

impl CxBlock {
    fn new(dim: usize, device: &Device) -> Self {
        let pad = WINDOW / 2;
        Self {
            dwconv: Conv2dConfig::new([dim, dim], [WINDOW, WINDOW])
                .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
                .with_groups(dim)
                .init(device),
            norm: LayerNorm2d::new(dim, device),
            pwconv1: Linear::new(dim, 4 * dim, device),
            pwconv2: Linear::new(4 * dim, dim, device),
            gamma: Initializer::Ones.init([dim], device),
        }
    }

    /// `[batch, height, width, dim]` → the same shape.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let dim = x.dims()[3];
        let weight = self.dwconv.weight.val().reshape([dim, WINDOW * WINDOW]);
        let bias = match &self.dwconv.bias {
            Some(bias) => bias.val(),
            None => Tensor::zeros([dim], &x.device()),
        };
        let shape = Depthwise::padded(x.dims(), WINDOW, 1, WINDOW / 2);
        let mixed = ops::depthwise(
            x.clone(),
            weight.transpose(),
            bias,
            shape,
            Activation::Identity,
        );
        let normed = self.norm.forward_channels_last(mixed);
        let hidden = ops::linear(normed, &self.pwconv1, Activation::Gelu);
        let out = ops::linear(hidden, &self.pwconv2, Activation::Identity);
        x + out * self.gamma.val().reshape([1, 1, 1, dim])
    }
}

fn conv(x: Tensor<4>, layer: &Conv2d, window: [usize; 2]) -> Tensor<4> {
    ops::conv2d(x, layer, window, Activation::Identity)
}
