//! The feature pyramid of SAM 2 (`FpnNeck` of `sam2/modeling/backbones/image_encoder.py`).

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::conv::Conv2dConfig;
use burn::tensor::{Device, Tensor};

use crate::ops::{self, Activation, Conv2d, Convolution};

/// Configuration of [`FpnNeck`].
#[derive(Config, Debug)]
pub struct FpnNeckConfig {
    /// Channels of the trunk's stages, the finest first.
    pub channels: [usize; 4],
    /// Channels of the features.
    #[config(default = 256)]
    pub d_model: usize,
}

impl FpnNeckConfig {
    /// A neck with random weights.
    pub fn init(&self, device: &Device) -> FpnNeck {
        let lateral = |&channels: &usize| Lateral {
            conv: Conv2dConfig::new([channels, self.d_model], [1, 1])
                .init(device)
                .into(),
        };
        FpnNeck {
            // The coarsest comes first, as in the checkpoints.
            convs: self.channels.iter().rev().map(lateral).collect(),
        }
    }
}

/// A 1×1 convolution for every stage. The stage at stride 16 also gets the coarser one, repeated; the
/// finer ones are left alone, and the coarsest only serves for that.
#[derive(Module, Debug)]
pub struct FpnNeck {
    convs: Vec<Lateral>,
}

#[derive(Module, Debug)]
struct Lateral {
    conv: Conv2d,
}

impl Lateral {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        ops::conv2d(x, &self.conv, [1, 0], Activation::Identity)
    }
}

impl FpnNeck {
    /// Features at strides 4, 8 and 16, `[batch, height, width, d_model]`, of the trunk's four stages.
    pub fn forward(&self, stages: &[Tensor<4>]) -> [Tensor<4>; 3] {
        let lateral = |stage: usize| self.of_stage(stage).forward(stages[stage].clone());
        [lateral(0), lateral(1), self.image_embed(stages)]
    }

    /// The features at stride 16 alone.
    pub fn image_embed(&self, stages: &[Tensor<4>]) -> Tensor<4> {
        let lateral = |stage: usize| self.of_stage(stage).forward(stages[stage].clone());
        lateral(2) + ops::upsample_nearest(lateral(3))
    }

    /// Weight and bias with which a stage at stride 4 (0) or 8 (1) becomes features.
    pub fn lateral(&self, stage: usize) -> Convolution {
        let conv = &self.of_stage(stage).conv;
        let [outputs, ..] = conv.weight.dims();
        let bias = conv.bias.as_ref().map(Param::val);
        let none = || Tensor::zeros([outputs], &conv.weight.device());
        (conv.weight.val(), bias.unwrap_or_else(none))
    }

    fn of_stage(&self, stage: usize) -> &Lateral {
        &self.convs[self.convs.len() - 1 - stage]
    }
}
