//! The feature pyramid of `compact`: every level sees the coarser ones.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::conv_block::ConvBlock;
use super::trunk::CHANNELS;
use super::{DIM_SIMILARITY, DIM4, DIM8, normalise};
use crate::ImageFeatures;
use crate::ops::{self, Activation, LAYER_NORM_EPSILON};

/// Turns the trunk's features into [`ImageFeatures`].
#[derive(Module, Debug)]
pub struct Neck {
    norm32: LayerNorm,
    norm16: LayerNorm,
    norm8: LayerNorm,
    norm4: LayerNorm,
    lateral32: Linear,
    lateral16: Linear,
    lateral8: Linear,
    lateral4: Linear,
    down16: Linear,
    down8: Linear,
    block16: ConvBlock,
    block8: ConvBlock,
    similarity: Linear,
}

impl Neck {
    pub(super) fn new(dim: usize, device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let norm = |channels| LayerNormConfig::new(channels).init(device);
        Self {
            norm32: norm(CHANNELS[3]),
            norm16: norm(CHANNELS[2]),
            norm8: norm(CHANNELS[1]),
            norm4: norm(CHANNELS[0]),
            lateral32: linear(CHANNELS[3], dim),
            lateral16: linear(CHANNELS[2], dim),
            lateral8: linear(CHANNELS[1], DIM8),
            lateral4: linear(CHANNELS[0], DIM4),
            down16: linear(dim, DIM8),
            down8: linear(DIM8, DIM4),
            block16: ConvBlock::new(dim, 7, 2 * dim, device),
            block8: ConvBlock::new(DIM8, 5, 2 * DIM8, device),
            similarity: linear(DIM8, DIM_SIMILARITY),
        }
    }

    /// Features at strides 4, 8, 16 and 32 → the image embedding (stride 16); the decoder's
    /// features at strides 8 and 4; unit features to compare at strides 16, 8 and 8 (learned).
    pub(super) fn forward(&self, [x4, x8, x16, x32]: [Tensor<4>; 4]) -> ImageFeatures {
        let linear = |x, layer| ops::linear(x, layer, Activation::Identity);
        let normed = |x: &Tensor<4>, norm| ops::layer_norm(x.clone(), norm, LAYER_NORM_EPSILON);
        let x32 = normed(&x32, &self.norm32);
        let coarse = ops::upsample_nearest(linear(x32, &self.lateral32));
        let f16 = self
            .block16
            .forward(linear(normed(&x16, &self.norm16), &self.lateral16) + coarse);
        let coarse = ops::upsample_nearest(linear(f16.clone(), &self.down16));
        let f8 = self
            .block8
            .forward(linear(normed(&x8, &self.norm8), &self.lateral8) + coarse);
        let coarse = ops::upsample_nearest(linear(f8.clone(), &self.down8));
        let f4 = linear(normed(&x4, &self.norm4), &self.lateral4) + coarse;
        let learned = normalise(linear(f8.clone(), &self.similarity));
        ImageFeatures {
            image_embed: f16,
            high_res_feats: vec![f8, f4, normalise(x16), normalise(x8), learned],
        }
    }
}
